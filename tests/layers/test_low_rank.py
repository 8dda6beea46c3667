"""Layers with thin factors against float64, their gradients, their life, and Keras' seams."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_extras import optimizers
from keras_extras.layers import LowRankDense, LowRankEmbedding
from keras_extras.layers.keras_seams import flatten, remove_part, unlocked

RANDOM = np.random.default_rng(0)


def randomised(layer, *shape):
    """The built layer, none of its weights zero, and its W and ΔW in float64."""
    layer.build(shape)
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        if weight.name != "strength":
            weight.assign(rng.normal(size=weight.shape))
    a, b = (w.numpy().astype("float64") for w in (layer.low_rank.a, layer.low_rank.b))
    settings = layer.settings
    rank = settings["rank"]
    scale = (settings["alpha"] or rank) / rank
    if settings["mode"] == "additive":
        right = np.tile(np.eye(rank), (1, b.shape[1] // rank))
        left = np.tile(np.eye(rank), (a.shape[0] // rank, 1))
        product = a @ right + left @ b
    else:
        product = a @ b
    matrix = layer.embeddings if hasattr(layer, "embeddings") else layer.kernel
    return layer, matrix.numpy().astype("float64"), scale * product


@pytest.mark.parametrize("mode", ["zero_b", "additive"])
@pytest.mark.parametrize("alpha", [None, 5.0])
def test_dense(mode, alpha):
    layer, w, delta = randomised(
        LowRankDense(6, rank=2, alpha=alpha, mode=mode, activation="tanh"), None, 4
    )
    assert np.linalg.matrix_rank(delta) == (4 if mode == "additive" else 2)
    x = RANDOM.normal(size=(2, 3, 4)).astype("float32")
    expected = np.tanh(x @ (w + delta) + layer.bias.numpy())
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(layer.low_rank.product(), delta, rtol=1e-12)


@pytest.mark.parametrize("mode", ["zero_b", "additive"])
def test_embedding(mode):
    layer, w, delta = randomised(LowRankEmbedding(10, 4, rank=2, alpha=3, mode=mode))
    ids = RANDOM.integers(0, 10, (3, 5))
    np.testing.assert_allclose(layer(ids), (w + delta)[ids], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(layer(ids.astype("float32")), layer(ids))
    x = RANDOM.normal(size=(2, 3, 4)).astype("float32")
    np.testing.assert_allclose(layer(x, mode="dense"), x @ (w + delta).T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", ["zero_b", "additive"])
def test_new_factors_change_nothing(mode):
    x = RANDOM.normal(size=(3, 4)).astype("float32")
    layer = LowRankDense(6, rank=2, mode=mode, seed=1)
    y = layer(x)
    np.testing.assert_array_equal(y, x @ layer.kernel.numpy() + layer.bias.numpy())
    a = layer.low_rank.a.numpy()
    assert (np.abs(a).max() == 0) if mode == "additive" else (0.1 < np.abs(a).max() <= 0.5)
    assert not layer.low_rank.b.numpy().any()
    table = LowRankEmbedding(10, 4, rank=2, mode=mode, seed=1)
    np.testing.assert_array_equal(table(np.arange(10)), table.embeddings)
    assert not table.low_rank.a.numpy().any()


def test_gradients():
    """∂A = s·Xᵀ(G·Bᵀ), ∂B = s·(X·A)ᵀG, and nothing for W."""
    layer, _, _ = randomised(LowRankDense(6, rank=2, alpha=3.0), None, 4)
    x, g = RANDOM.normal(size=(5, 4)), RANDOM.normal(size=(5, 6))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(x.astype("float32")) * g.astype("float32"))
    names = [weight.path.split("/", 1)[1] for weight in layer.trainable_weights]
    assert names == ["bias", "low_rank/a", "low_rank/b"]
    found = tape.gradient(total, [weight.value for weight in layer.trainable_weights])
    a, b = (w.numpy().astype("float64") for w in (layer.low_rank.a, layer.low_rank.b))
    expected = [g.sum(0), 1.5 * x.T @ (g @ b.T), 1.5 * (x @ a).T @ g]
    for gradient, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=1e-4)


def shapes_in_a_training_step(layer, inputs):
    """Shapes of everything that is computed for the output and its gradients."""

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(layer(x) ** 2)
        return tape.gradient(total, [w.value for w in layer.trainable_weights])

    graph = step.get_concrete_function(inputs).graph
    given = ("ReadVariableOp", "StopGradient")  # W itself, which is not computed
    computed = [op for op in graph.get_operations() if op.type not in given]
    return [tuple(t.shape) for op in computed for t in op.outputs if t.shape.rank is not None]


def test_no_matrix_of_the_size_of_w_is_built():
    """Unlike Keras' own LoRA, which adds A·B to W in each call."""
    dense, table = LowRankDense(60, rank=2), LowRankEmbedding(50, 40, rank=2)
    x, ids = tf.ones((3, 40)), tf.ones((3, 7), tf.int32)
    dense(x), table(ids)
    assert (40, 60) not in shapes_in_a_training_step(dense, x)
    assert (50, 40) not in shapes_in_a_training_step(table, ids)
    theirs = keras.layers.Dense(60)
    theirs.build((None, 40))
    theirs.enable_lora(2)
    assert (40, 60) in shapes_in_a_training_step(theirs, x)


def test_dropout_is_on_the_way_to_the_factors_only():
    layer, w, delta = randomised(LowRankDense(6, rank=2, dropout=0.5, use_bias=False), None, 400)
    x = RANDOM.normal(size=(3, 400)).astype("float32")
    np.testing.assert_allclose(layer(x), x @ (w + delta), rtol=1e-3, atol=1e-3)
    dropped = np.mean([layer(x, training=True).numpy() - x @ w for _ in range(400)], axis=0)
    np.testing.assert_allclose(dropped, x @ delta, atol=0.15 * np.abs(x @ delta).max())
    assert np.abs(layer(x, training=True) - x @ (w + delta)).max() > 1


@pytest.mark.parametrize("kind", [LowRankDense, LowRankEmbedding])
def test_merge_and_unmerge(kind):
    """The same results before and after, also of functions that were compiled before."""
    if kind is LowRankDense:
        layer, w, delta = randomised(LowRankDense(6, rank=2, activation="tanh"), None, 4)
        x = tf.constant(RANDOM.normal(size=(3, 4)), "float32")
    else:
        layer, w, delta = randomised(LowRankEmbedding(10, 4, rank=2))
        x = tf.constant([[1, 5, 9]])
    compiled = tf.function(layer)
    before = compiled(x).numpy()
    matrix = layer.low_rank.matrix()
    factors = layer.low_rank
    for _ in range(2):  # the second time nothing happens
        factors.merge()
        assert factors.merged
        np.testing.assert_allclose(matrix.numpy(), w + delta, rtol=1e-6, atol=1e-6)
    assert not factors.a.trainable and not factors.b.trainable
    np.testing.assert_allclose(compiled(x), before, atol=1e-6)
    np.testing.assert_allclose(layer(x), before, atol=1e-6)
    for _ in range(2):
        factors.unmerge()
        assert not factors.merged
        np.testing.assert_allclose(matrix.numpy(), w, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(compiled(x), before, atol=1e-6)
    assert factors.a.trainable and factors.b.trainable


def test_same_path_as_the_optimizer():
    """SGD on the factors of a layer moves W + ΔW as `extend_with_low_rank` moves W."""
    start, x, y = (RANDOM.normal(size=s).astype("float32") for s in ((4, 6), (8, 4), (8, 6)))
    dense = keras.layers.Dense(6, use_bias=False)
    layer = LowRankDense(6, rank=2, use_bias=False)
    models = [keras.Sequential([keras.Input((4,)), part]) for part in (dense, layer)]
    models[0].compile(optimizers.extend_with_low_rank(keras.optimizers.SGD)(0.05, rank=2), "mse")
    models[1].compile(keras.optimizers.SGD(0.05), "mse")
    for part in (dense, layer):
        part.kernel.assign(start)
    models[0].optimizer.build(dense.trainable_variables)
    a = next(v for v in models[0].optimizer.variables if v.name == "low_rank_a")
    layer.low_rank.a.assign(a)
    for _ in range(5):
        for model in models:
            model.train_on_batch(x, y)
    assert np.abs(dense.kernel.numpy() - start).max() > 0.01
    merged = layer.kernel.numpy() + layer.low_rank.product()
    np.testing.assert_allclose(merged, dense.kernel.numpy(), rtol=1e-5, atol=1e-6)


def test_factors_are_float32_in_every_precision():
    for policy in ("float16", "bfloat16", "mixed_bfloat16"):
        layer = LowRankDense(6, rank=2, dtype=policy)
        assert layer(np.ones((2, 4), "float32")).dtype == policy.removeprefix("mixed_")
        assert {layer.low_rank.a.dtype, layer.low_rank.b.dtype} == {"float32"}
        layer.low_rank.b.assign(np.ones((2, 6)))
        before = tf.cast(layer(np.ones((2, 4), "float32")), "float32").numpy()
        layer.low_rank.merge()
        after = tf.cast(layer(np.ones((2, 4), "float32")), "float32").numpy()
        np.testing.assert_allclose(after, before, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    "arguments", [{"rank": 0}, {"mode": "other"}, {"dropout": 1.0}, {"rank": 5, "mode": "additive"}]
)
def test_bad_arguments(arguments):
    with pytest.raises(ValueError, match="rank|mode|dropout"):
        LowRankDense(6, **arguments).build((None, 4))


def test_seams():
    """What `keras_seams` reaches into: a built layer takes new parts only inside `unlocked`."""
    dense = keras.layers.Dense(3, name="dense")
    model = keras.Sequential([keras.Input((2,)), dense])
    assert dense in flatten(model) and model in flatten(model)
    with pytest.raises(ValueError, match="cannot add new elements"):
        dense.part = keras.layers.Dense(1)
    with unlocked(dense):
        dense.part = keras.layers.Dense(1, name="part")
        dense.part.build((None, 2))
    assert dense.part in flatten(model)
    assert len(model.weights) == 4 and model.weights[2].path.endswith("dense/part/kernel")
    with pytest.raises(ValueError, match="cannot add new elements"):
        dense.other = keras.layers.Dense(1)
    remove_part(dense, "part")
    assert len(model.weights) == 2 and not hasattr(dense, "part")
