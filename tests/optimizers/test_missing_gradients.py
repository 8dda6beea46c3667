"""Variables without a gradient in some or all steps: they stay; averages and slow weights go on."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_extras import optimizers as ours
from tests.optimizers.table import make
from tests.optimizers.trajectories import GAPS, run_with_gaps

pytestmark = pytest.mark.filterwarnings("ignore:Gradients do not exist")
SGD = keras.optimizers.SGD
EMA = ours.extend_with_exponential_moving_average
Lookahead = ours.extend_with_lookahead
Accumulation = ours.extend_with_gradient_accumulation


def path(optimizer, *patterns):
    """The values of variables that begin at 5; x is a gradient of 1, a dot is none."""
    weights = [keras.Variable(5.0) for _ in patterns]
    optimizer.build(weights)
    values = []
    for signs in zip(*patterns, strict=True):
        gradients = [keras.ops.ones(()) if sign == "x" else None for sign in signs]
        optimizer.apply(gradients, weights)
        values.append([float(weight.numpy()) for weight in weights])
    return np.array(values).T, weights


@pytest.mark.parametrize("pattern", ["........", ".x.x.x.x", "x.......", ".......x", "..xx..xx"])
@pytest.mark.parametrize("slow", [2, 5])
def test_at_a_rate_of_zero_nothing_moves(pattern, slow):
    Tower = EMA(Lookahead(SGD))
    for Optimizer, settings in ((Tower, {}), (Accumulation(Tower), {"grad_accum_steps": 2})):
        settings |= {"ema_momentum": 0.9, "steps_per_slow_update": slow}
        optimizer = Optimizer(0.0, **settings)
        values, weights = path(optimizer, "xxxxxxxx", pattern)
        np.testing.assert_array_equal(values, 5.0)
        optimizer.apply_ema_weights()
        np.testing.assert_allclose([float(w.numpy()) for w in weights], 5.0, rtol=1e-6)


def test_unfrozen_within_a_cycle():
    """A layer that was built into the optimizer, and trains from the eighth update on."""
    optimizer = Lookahead(SGD)(1.0, steps_per_slow_update=5)
    values, _ = path(optimizer, "x" * 12, "." * 7 + "x" * 5)
    np.testing.assert_array_equal(values[1], [5, 5, 5, 5, 5, 5, 5, 4, 3, 3.5, 2.5, 1.5])


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("x.x.x.", [5, 4.5, 4.5, 4, 4, 3.5]),
        (".x.x.x", [5, 4.5, 4.5, 4, 4, 3.5]),
        ("x...xx", [5, 4.5, 4.5, 4.5, 4.5, 3.5]),
        ("......", [5, 5, 5, 5, 5, 5]),
    ],
)
def test_accumulation(pattern, wanted):
    """The mean over the window, zero where there is no gradient."""
    values, _ = path(Accumulation(SGD)(1.0, grad_accum_steps=2), "xxxxxx", pattern)
    np.testing.assert_array_equal(values, [[5, 4, 4, 3, 3, 2], wanted])


def test_without_a_gradient_in_a_window_there_is_no_momentum_and_no_decay():
    Tower = Accumulation(ours.extend_with_weight_decay(SGD))
    optimizer = Tower(1.0, momentum=0.5, weight_decay_rate=0.5, grad_accum_steps=2)
    values, _ = path(optimizer, "xxxxxx", "xx..x.")
    np.testing.assert_array_equal(values[1], [5, 1.5, 1.5, 1.5, 1.5, -0.25])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_graph_and_jit_equal_eager(jit_compile):
    """The other backends: test_common.py; several replicas: test_distribution.py."""
    optimizer, want = make(*GAPS), run_with_gaps(make(*GAPS))
    step = tf.function(lambda grads: optimizer.apply(grads), jit_compile=jit_compile)
    got = run_with_gaps(optimizer, lambda grads, weights: step(grads))
    for weight, value in zip(got, want, strict=True):
        np.testing.assert_allclose(weight, value, rtol=1e-4, atol=2e-6)


def test_a_head_without_a_loss():
    inputs = keras.Input((3,))
    heads = {name: keras.layers.Dense(1, name=name)(inputs) for name in ("a", "b")}
    model = keras.Model(inputs, heads)
    model.compile(EMA(keras.optimizers.Adam)(0.1, ema_momentum=0.9), {"a": "mse"})
    before = model.get_layer("b").get_weights()
    model.fit(np.ones((8, 3)), {"a": np.ones((8, 1))}, batch_size=2, verbose=0)
    model.optimizer.apply_ema_weights()
    for got, want in zip(model.get_layer("b").get_weights(), before, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)
