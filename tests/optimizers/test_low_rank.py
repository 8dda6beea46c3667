"""LoRA as an optimizer against the formulas, in float64."""

import keras
import numpy as np
import pytest

from keras_extras import optimizers as ours
from tests.optimizers.table import BASES, make
from tests.optimizers.trajectories import run, start

LowRankSGD = ours.extend_with_low_rank(keras.optimizers.SGD)
RATE = 0.0625
RANDOM = np.random.default_rng(0)
START, TARGET = RANDOM.normal(size=(2, 6, 4))


def train(optimizer, steps=8):
    """Weights and factors in each step of minimizing ½‖W − target‖²."""
    weight = keras.Variable(START, name="kernel", dtype="float64")
    optimizer.build([weight])
    factors = [v for v in optimizer.variables if v.name in ("low_rank_a", "low_rank_b")]
    path = [[START, *(f.numpy().copy() for f in factors)]]
    for _ in range(steps):
        optimizer.apply([keras.ops.convert_to_tensor(weight.numpy() - TARGET)], [weight])
        path.append([v.numpy().copy() for v in (weight, *factors)])
    return path


@pytest.mark.parametrize("mode", ["zero_b", "symmetric"])
def test_expansion(mode):
    """ΔW = −γ(GBᵀB + AAᵀG) + γ²GBᵀAᵀG, and W stays within W₀ + AB − A₀B₀."""
    path = train(LowRankSGD(RATE, rank=2, low_rank_mode=mode, low_rank_seed=1))
    (first, a0, b0) = path[0]
    assert (np.abs(b0).max() > 0) == (mode == "symmetric")
    for (w, a, b), (next_w, next_a, next_b) in zip(path, path[1:], strict=False):
        g = w - TARGET
        change = -RATE * (g @ b.T @ b + a @ a.T @ g) + RATE**2 * g @ b.T @ a.T @ g
        np.testing.assert_allclose(next_w - w, change, atol=1e-12)
        np.testing.assert_allclose(next_w, first + next_a @ next_b - a0 @ b0, atol=1e-12)
    rank = np.linalg.matrix_rank(path[-1][0] - first, tol=1e-9)
    assert rank == (2 if mode == "zero_b" else 4)


def test_full_rank_with_a_fixed_projection_is_sgd():
    square = np.ascontiguousarray(TARGET[:4])
    got = keras.Variable(np.zeros((4, 4)), dtype="float64")
    want = keras.Variable(np.zeros((4, 4)), dtype="float64")
    projected = LowRankSGD(RATE, rank=4, low_rank_mode="frozen_a", low_rank_seed=1)
    sgd = keras.optimizers.SGD(RATE)
    for _ in range(8):
        projected.apply([keras.ops.convert_to_tensor(got.numpy() - square)], [got])
        sgd.apply([keras.ops.convert_to_tensor(want.numpy() - square)], [want])
    np.testing.assert_allclose(got.numpy(), want.numpy(), atol=1e-6)


def test_random_projection_is_twice_sgd_in_the_mean():
    optimizer = LowRankSGD(1.0, rank=1, low_rank_mode="random", low_rank_seed=1)
    weight = keras.Variable(np.zeros((2, 3)), dtype="float64")
    gradient = np.array([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0]])
    optimizer.build([weight])
    step = keras.ops.convert_to_tensor(gradient)
    import tensorflow as tf

    run = tf.function(lambda: optimizer.apply([step], [weight]))
    for _ in range(4000):
        run()
    np.testing.assert_allclose(-weight.numpy() / 4000, 2 * gradient, atol=0.25)


@pytest.mark.parametrize("rank", [1, 2])
def test_additive(rank):
    """W = W₀ + A[I…I] + [I;…;I]B; for rank 1 the gradients are sums of rows and of columns."""
    optimizer = LowRankSGD(RATE, rank=rank, low_rank_mode="additive")
    path = train(optimizer, steps=1)
    right = np.tile(np.eye(rank), (1, 4 // rank))
    left = np.tile(np.eye(rank), (6 // rank, 1))
    g = START - TARGET
    change = -RATE * (g @ right.T @ right + left @ left.T @ g)
    np.testing.assert_allclose(path[1][0] - START, change, atol=1e-12)
    assert np.linalg.matrix_rank(change) == min(2 * rank, 4)
    with pytest.raises(ValueError, match="divides both sides"):
        LowRankSGD(low_rank_mode="additive", rank=3).build([keras.Variable(START, name="kernel")])


def test_state_is_that_of_the_factors():
    """Adam on a 300×200 matrix of rank 8: factors and two moments of each, and the bias as ever."""
    LoRA = ours.extend_with_low_rank(keras.optimizers.Adam)
    optimizer = LoRA(rank=8, low_rank_seed=1)
    optimizer.build([keras.Variable(np.zeros((300, 200))), keras.Variable(np.zeros(200))])
    numbers = sum(int(np.prod(v.shape)) for v in optimizer.variables if len(v.shape))
    assert numbers == 3 * 8 * (300 + 200) + 2 * 200 + 2  # and the state of the draws


@pytest.mark.parametrize("base", [base for base in BASES if base != "KerasAdafactor"])
def test_every_base_moves_the_kernel(base):
    kernel = run(make(base, "low_rank"))[2]
    assert np.abs(kernel - start()["kernel"]).max() > 1e-2


@pytest.mark.parametrize("name", ["kernel", "embeddings"])
@pytest.mark.parametrize("base", [ours.Tiger, ours.AdaFactor])
def test_relative_rates_are_those_of_the_matrix(base, name):
    """RMS(W) = 2; the first step of both has entries of 1."""
    weight = keras.Variable(np.full((4, 6), 2.0), name=name, dtype="float64")
    optimizer = ours.extend_with_low_rank(base)(RATE, rank=2, low_rank_seed=1)
    optimizer.apply([keras.ops.convert_to_tensor(RANDOM.normal(size=(4, 6)))], [weight])
    (b,) = (v.numpy() for v in optimizer.variables if v.name == "low_rank_b")
    np.testing.assert_allclose(np.abs(b), 2 * RATE, rtol=1e-6)


def test_rules_by_name_decide_on_factors_as_on_their_matrix():
    """An absolute rate of AdaFactor, no decay of AdamW, half a rate of Tiger for a bias."""
    gradient = keras.ops.convert_to_tensor(RANDOM.normal(size=(4, 6)))

    def factor(base, name, **settings):
        weight = keras.Variable(np.full((4, 6), 2.0), name=name, dtype="float64")
        optimizer = ours.extend_with_low_rank(base)(RATE, rank=2, low_rank_seed=1, **settings)
        if base is keras.optimizers.AdamW:
            optimizer.exclude_from_weight_decay(var_names=["head"])
        optimizer.build([weight])
        (a, b) = (v for v in optimizer.variables if v.name in ("low_rank_a", "low_rank_b"))
        before = a.numpy()
        optimizer.apply([gradient], [weight])
        return np.abs(b.numpy()), np.abs(a.numpy() - before).max()

    absolute, _ = factor(ours.AdaFactor, "head", exclude_from_parameter_scale=["^head$"])
    np.testing.assert_allclose(absolute, RATE, rtol=1e-6)
    half, _ = factor(ours.Tiger, "bias")
    np.testing.assert_allclose(half, RATE / 2, rtol=1e-6)
    assert factor(keras.optimizers.AdamW, "head", weight_decay=0.5)[1] == 0
    assert factor(keras.optimizers.AdamW, "kernel", weight_decay=0.5)[1] > 0


def test_settings():
    for settings in ({"rank": 0}, {"low_rank_mode": "other"}):
        with pytest.raises(ValueError, match="rank"):
            LowRankSGD(**settings)
    with pytest.raises(ValueError, match="use extend_with_exponential_moving_average"):
        LowRankSGD(use_ema=True)
    with pytest.raises(ValueError, match="use keras_extras.optimizers.AdaFactor"):
        ours.extend_with_low_rank(keras.optimizers.Adafactor)(RATE)
