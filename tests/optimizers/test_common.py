"""What every optimizer and every extension must do; the table is in table.py."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_extras.optimizers import draws
from tests.optimizers.table import BASES, EXTENSIONS, MUON_RUNS, PAIRS, TOWERS, make
from tests.optimizers.test_child_tuning import model_and_data, softmax_fisher
from tests.optimizers.trajectories import (
    GAPS,
    gradients,
    run,
    run_with_gaps,
    start,
    values,
    variables,
)

OURS = ("Adam", "Lion", "AdaFactor", "AdaX", "Tiger")
# Random masks and factors are not the same on other backends.
RANDOM = {"child_tuning", "update_dropout", "low_rank", "everything"}
# One base per extension, each base with one extension at least, and the towers.
COMPILED = [
    *[("KerasAdam", extension) for extension in EXTENSIONS],
    ("Nadam", "gradient_accumulation"),
    *[(base, ()) for base in OURS],
    *[("AdaFactor", tower) for tower in TOWERS.values()],
]


@functools.cache
def eager(base, extensions=()):
    return run(make(base, extensions))


def identify(value):
    return value if isinstance(value, str) else "+".join(value) or "alone"


@pytest.mark.filterwarnings("ignore:The pattern")  # a pattern that matches nothing
@pytest.mark.parametrize(("base", "extension"), PAIRS)
def test_neutral_extension_is_the_base(base, extension):
    expected = eager(base)
    for got, want in zip(run(make(base, extension, neutral=True)), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(("base", "extension"), [("KerasAdam", e) for e in EXTENSIONS])
def test_effective_extension_is_not_the_base(base, extension):
    if extension == "ema":
        pytest.skip("averages do not change the weights")
    got, base_weights = eager(base, extension), eager(base)
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(got, base_weights, strict=True))


@pytest.mark.parametrize("extensions", [*EXTENSIONS, *TOWERS.values()], ids=identify)
def test_config_round_trip(extensions):
    optimizer = make("Adam", extensions, clipnorm=3.0, name="mine")
    saved = keras.optimizers.serialize(optimizer)
    loaded = keras.optimizers.deserialize(saved)
    assert type(loaded) is type(optimizer)
    assert loaded.get_config() == optimizer.get_config()
    assert loaded.clipnorm == 3.0


@pytest.mark.parametrize("base", BASES)
def test_config_of_base_round_trip(base):
    optimizer = make(base)
    loaded = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert type(loaded) is type(optimizer)
    assert loaded.get_config() == optimizer.get_config()


@pytest.mark.parametrize(("base", "extensions"), COMPILED, ids=identify)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_graph_and_jit_equal_eager(base, extensions, jit_compile):
    optimizer = make(base, extensions)
    weights = variables()
    optimizer.build(weights)
    step = tf.function(lambda grads: optimizer.apply(grads, weights), jit_compile=jit_compile)
    for one in gradients():
        step([tf.constant(g, "float32") for g in one.values()])
    for got, want in zip(values(weights), eager(base, extensions), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-6)


def test_draws_are_the_same_everywhere():
    """And they have the mean and variance of their distributions."""

    def draw(function, seeds, shape):
        return function(shape, seeds)

    for function, mean, variance in ((draws.uniform, 0.5, 1 / 12), (draws.normal, 0.0, 1.0)):
        for shape in ((), (3,), (200, 100)):
            found = []
            for jit_compile in (None, False, True):
                seeds = keras.random.SeedGenerator(3)
                one = functools.partial(draw, function, seeds, shape)
                one = one if jit_compile is None else tf.function(one, jit_compile=jit_compile)
                found.append(np.array([one(), one()]))
            np.testing.assert_allclose(found[1:], found[:1] * 2, rtol=1e-5, atol=1e-6)
        assert found[0].mean() == pytest.approx(mean, abs=0.02)
        assert found[0].var() == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize(
    ("base", "extensions"),
    [*[(base, ()) for base in OURS], *[("Adam", e) for e in [*EXTENSIONS, *TOWERS.values()]]],
    ids=identify,
)
def test_bfloat16_variables(base, extensions):
    """As in float32 but for the rounding of the weights in each step: 2⁻⁹ of them."""
    optimizer = make(base, extensions)
    got = run(optimizer, dtype="bfloat16")
    wanted = eager(base, extensions)
    for value, want in zip(got, wanted, strict=True):
        assert np.abs(value - want).max() < 6 * 2**-8 * max(1.0, np.abs(want).max())
    floats = {v.dtype for v in optimizer.variables if v.shape and "float" in v.dtype}
    assert floats <= {"float32"}


@pytest.mark.parametrize(
    ("base", "extensions"),
    [*[(base, ()) for base in OURS], *[("Adam", e) for e in [*EXTENSIONS, *TOWERS.values()]]],
    ids=identify,
)
def test_float16_variables_under_loss_scaling(base, extensions):
    """As in float32 but for the rounding of weights and gradients: 2⁻¹² of them in each step."""
    inner = make(base, extensions)
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=1024.0)
    weights = variables("float16")
    optimizer.build(weights)
    for one in gradients():
        scaled = [tf.constant(1024 * g, "float16") for g in one.values()]
        optimizer.apply(scaled, weights)
    assert float(optimizer.dynamic_scale) == 1024.0
    wanted = eager(base, extensions)
    for value, want in zip(values(weights), wanted, strict=True):
        assert np.abs(value - want).max() < 6 * 2**-11 * max(1.0, np.abs(want).max())
    floats = {v.dtype for v in inner.variables if v.shape and "float" in v.dtype}
    assert floats <= {"float32"}


@pytest.mark.parametrize(
    ("base", "extensions"),
    [
        *[(base, ()) for base in OURS],
        *[("KerasAdam", e) for e in [*EXTENSIONS, *TOWERS.values()]],
        *[(base, "weight_decay") for base in BASES],
    ],
    ids=identify,
)
def test_sparse_gradients_equal_dense_ones(base, extensions):
    optimizer = make(base, extensions)
    weights = variables()
    for one in gradients():
        touched = np.flatnonzero(one["embeddings"].any(-1))
        rows = one["embeddings"][touched]
        sparse = tf.IndexedSlices(  # each row in two parts
            tf.constant(np.concatenate([0.25 * rows, 0.75 * rows]), "float32"),
            tf.constant(np.concatenate([touched, touched])),
            tf.constant(one["embeddings"].shape, "int64"),
        )
        dense = [tf.constant(g, "float32") for name, g in one.items() if name != "embeddings"]
        optimizer.apply([*dense, sparse], weights)
    for got, want in zip(values(weights), eager(base, extensions), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)


def check_backend(run_python, python, backend, path):
    module = "import runpy, sys; sys.argv = ['x', sys.argv[1]];"
    module += "runpy.run_module('tests.optimizers.trajectories', run_name='__main__')"
    run_python(python, module, path, KERAS_BACKEND=backend)
    results = dict(np.load(path))
    fisher = np.concatenate([f.ravel() for f in softmax_fisher(*model_and_data())])
    fisher = np.append(fisher, np.zeros(3 + 1))  # of a head that has no loss
    np.testing.assert_allclose(results.pop("fisher"), fisher, rtol=1e-4)
    gaps = np.concatenate([weight.ravel() for weight in run_with_gaps(make(*GAPS))])
    np.testing.assert_allclose(results.pop("gaps"), gaps, rtol=1e-4, atol=2e-6)
    assert len(results) > 20
    for name, got in results.items():
        if name.split("+")[-1] in RANDOM:
            assert np.isfinite(got).all()
            continue
        base, _, extension = name.partition("+")
        if base == "Muon" and not MUON_RUNS:  # the other environment may have a later Keras
            continue
        extensions = TOWERS.get(name, extension)
        base = "Adam" if name in TOWERS else base
        weights = eager(base, extensions or ())
        want = np.concatenate([weight.ravel() for weight in weights])
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-6, err_msg=name)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_jax_equals_tensorflow(run_python, jax_python, tmp_path):
    check_backend(run_python, jax_python, "jax", tmp_path / "jax.npz")


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_torch_equals_tensorflow(run_python, torch_python, tmp_path):
    check_backend(run_python, torch_python, "torch", tmp_path / "torch.npz")


@pytest.mark.parametrize("extensions", [*EXTENSIONS, *TOWERS.values()], ids=identify)
def test_under_loss_scaling(extensions):
    """Scaled gradients train; a step with an infinite one leaves everything as it was."""
    inner = make("Adam", extensions)
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0)
    weights = variables()
    optimizer.build(weights)
    for one in gradients():
        optimizer.apply([tf.constant(8 * g, "float32") for g in one.values()], weights)
    for got, want in zip(values(weights), eager("Adam", extensions), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)
    before = values([*weights, *inner.variables])
    bad = [tf.fill(np.shape(w), np.float32("inf")) for w in start().values()]
    optimizer.apply(bad, weights)
    for got, want in zip(values([*weights, *inner.variables]), before, strict=True):
        np.testing.assert_array_equal(got, want)


def small_model():
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            keras.layers.Embedding(8, 4, name="embed"),
            keras.layers.Flatten(),
            keras.layers.Dense(4, name="dense"),
        ]
    )


def small_data():
    random = np.random.default_rng(5)
    return random.integers(0, 8, (48, 3)), random.normal(size=(48, 4))


def test_fit_in_mixed_float16():
    """Keras wraps the optimizer by itself; half-precision gradients hardly change the weights."""
    weights = {}
    for policy in ("float32", "mixed_float16"):
        keras.config.set_dtype_policy(policy)
        model = small_model()
        optimizer = make("Adam", TOWERS["everything"], learning_rate=0.01, epsilon=1e-3)
        model.compile(optimizer, "mse", jit_compile=False)
        model.fit(*small_data(), batch_size=8, shuffle=False, verbose=0)
        wrapped = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        assert wrapped == (policy == "mixed_float16")
        weights[policy] = model.get_weights()
    assert int(optimizer.iterations) == 3
    for got, want in zip(weights["mixed_float16"], weights["float32"], strict=True):
        np.testing.assert_allclose(got, want, atol=2e-3)


def test_callbacks_and_schedules_set_the_rate_of_a_tower():
    """In `fit`, with two micro-batches per update: six per epoch, so three updates."""
    model = small_model()
    optimizer = make("AdaFactor", ("weight_decay", "gradient_accumulation", "ema"))
    model.compile(optimizer, "mse", jit_compile=False)
    after = []
    rates = keras.callbacks.LearningRateScheduler(lambda epoch: [0.1, 0.0, 0.1][epoch])
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: after.append(model.get_weights()[0])
    )
    initial = model.get_weights()[0]
    model.fit(*small_data(), batch_size=8, epochs=3, callbacks=[rates, keep], verbose=0)
    moved = [np.abs(a - b).max() for a, b in zip(after, [initial, *after], strict=False)]
    assert moved[1] == 0 and min(moved[0], moved[2]) > 1e-3
    assert int(optimizer.iterations) == 9

    model = small_model()
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.1, 0.0])  # updates 0 to 2
    optimizer = make("AdaFactor", ("weight_decay", "gradient_accumulation"), learning_rate=schedule)
    model.compile(optimizer, "mse", jit_compile=False)
    path = []
    keep = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: path.append(model.get_weights()[0])
    )
    model.fit(*small_data(), batch_size=4, callbacks=[keep], verbose=0)
    steps = [np.abs(a - b).max() > 0 for a, b in zip(path, [initial, *path], strict=False)]
    assert steps == [False, True] * 3 + [False] * 6
