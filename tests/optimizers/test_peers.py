"""The same gradients through optax, torch.optim and transformers, in float64.

Where a peer means something else by the same name, the test says what.
"""

import os
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_extras import optimizers as ours
from tests.conftest import _peer
from tests.optimizers.trajectories import gradients, run, start, variables

RATE = 0.0625  # exact in float32, as Keras keeps rates
STEPS = 12
HERE = Path(__file__).parent

AdamW = ours.extend_with_weight_decay(ours.Adam)
Lamb = ours.extend_with_layer_adaptation(AdamW)
AdamEMA = ours.extend_with_exponential_moving_average(ours.Adam)
SGDGC = ours.extend_with_gradient_centralization(keras.optimizers.SGD)


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    path = tmp_path_factory.mktemp("peers") / "steps.npz"
    arrays = {f"start/{name}": value for name, value in start().items()}
    for i, one in enumerate(gradients(STEPS)):
        arrays |= {f"{i}/{name}": value for name, value in one.items()}
    np.savez(path, **arrays)
    return path


def answer(run_python, python, script, steps):
    path = steps.with_name(f"{script}.npz")
    run_python(python, HERE / script, steps, path)
    found = {}
    for key, value in np.load(path).items():
        case, name = key.split("/")
        found.setdefault(case, {})[name] = value
    return found


@pytest.fixture(scope="module")
def optax(run_python, steps, request):
    named = os.environ.get("KERAS_EXTRAS_OPTAX_PYTHON")
    default = named or request.getfixturevalue("torch_python")
    probe = "import importlib.util as u; assert u.find_spec('optax')"
    python = _peer("KERAS_EXTRAS_OPTAX_PYTHON", Path(default), "optax", probe)
    return answer(run_python, python, "optax_peer.py", steps)


@pytest.fixture(scope="module")
def torch(run_python, torch_python, steps):
    return answer(run_python, torch_python, "torch_peer.py", steps)


def check(optimizer, wanted):
    for got, name in zip(run(optimizer, STEPS, "float64"), start(), strict=True):
        np.testing.assert_allclose(got, wanted[name], rtol=1e-6, atol=1e-8, err_msg=name)


FACTORED = {"min_dim_size_to_factor": 2}
ABSOLUTE = {**FACTORED, "multiply_by_parameter_scale": False}
OPTAX = {
    "adam": lambda: ours.Adam(RATE),
    "adamw": lambda: AdamW(RATE, weight_decay_rate=0.25),
    "lion": lambda: ours.Lion(RATE),
    "adafactor": lambda: ours.AdaFactor(RATE, **FACTORED),
    "adafactor not factored": lambda: ours.AdaFactor(RATE, clipping_threshold=0.5),
    "adafactor momentum, absolute": lambda: ours.AdaFactor(RATE, beta1=0.9, **ABSOLUTE),
    "lamb": lambda: Lamb(RATE, weight_decay_rate=0.25),
    "lookahead": lambda: ours.extend_with_lookahead(ours.Adam)(RATE),
    "multi steps": lambda: ours.extend_with_gradient_accumulation(ours.Adam)(
        RATE, grad_accum_steps=3
    ),
    "centralize": lambda: SGDGC(RATE),  # optax' first axis is our last
}
TORCH = {
    "adam": lambda: ours.Adam(RATE),
    "adamw": lambda: AdamW(RATE, weight_decay_rate=0.25),
    # torch bounds the rate by 1/√t, which is more than ours in all of these steps
    "torch adafactor": lambda: ours.AdaFactor(RATE, **FACTORED),
    "adafactor": lambda: ours.AdaFactor(RATE, **FACTORED),
    "adafactor absolute": lambda: ours.AdaFactor(RATE, clipping_threshold=0.5, **ABSOLUTE),
    "adafactor without rate": lambda: ours.AdaFactor(None, **FACTORED),
    "adafactor momentum, absolute": lambda: ours.AdaFactor(RATE, beta1=0.9, **ABSOLUTE),
}


@pytest.mark.parametrize("case", OPTAX)
def test_optax(optax, case):
    check(OPTAX[case](), optax[case])


def test_optax_average(optax):
    """`optax.ema` of the weights, with its bias correction, is `apply_ema_weights`."""
    optimizer = AdamEMA(RATE, ema_momentum=0.9)
    weights = variables("float64")
    for one in gradients(STEPS):
        optimizer.apply([tf.constant(g) for g in one.values()], weights)
    optimizer.apply_ema_weights()
    for weight in weights:
        np.testing.assert_allclose(weight.numpy(), optax["ema"][weight.name], rtol=1e-6)


def test_momentum_of_adafactor_is_before_the_scale_of_the_parameter(optax):
    """optax averages updates that are already scaled; bert4keras and we scale the average.

    Where the weights' scale does not change, both are the same (the absolute case above).
    """
    scaled = run(ours.AdaFactor(RATE, beta1=0.9, **FACTORED), STEPS, "float64")
    other = optax["adafactor momentum"]
    for got, name in zip(scaled, start(), strict=True):
        difference = np.abs(got - other[name]).max()
        assert 1e-6 < difference < 0.2 * np.abs(other[name] - start()[name]).max()


@pytest.mark.parametrize("case", TORCH)
def test_torch(torch, case):
    check(TORCH[case](), torch[case])


def test_without_rate_and_scale_transformers_takes_longer_steps(torch):
    """bert4keras and we take 0.05·min(0.01, 1/√t) there, transformers has no 0.05."""
    optimizer = ours.AdaFactor(None, **ABSOLUTE)
    theirs = torch["adafactor without rate, absolute"]
    for got, (name, w) in zip(run(optimizer, STEPS, "float64"), start().items(), strict=True):
        np.testing.assert_allclose(got - w, 0.05 * (theirs[name] - w), rtol=1e-6, err_msg=name)


def test_torch_sparse_adam(torch):
    """torch's SparseAdam is Keras' Adam with lazy moments (both add ε before the correction).

    Keras has its β in float32 only, so 1 − β₂ is off by 1e-5.
    """
    LazyAdam = ours.extend_with_lazy_optimization(keras.optimizers.Adam)
    optimizer = LazyAdam(RATE, include_in_lazy_optimization=["embeddings"], lazy_moments=True)
    table = keras.Variable(start()["embeddings"], name="embeddings", dtype="float64")
    for one in gradients(STEPS):
        rows = np.flatnonzero(one["embeddings"].any(-1))
        values = tf.constant(one["embeddings"][rows])
        shape = tf.constant(table.shape)
        optimizer.apply([tf.IndexedSlices(values, tf.constant(rows), shape)], [table])
    wanted = torch["sparse adam"]["embeddings"]
    np.testing.assert_allclose(table.numpy(), wanted, rtol=1e-5, atol=1e-5)
