"""ScaleOffset and (conditional) layer normalisation, by float64 NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from keras_extras.layers import LayerNormalization, ScaleOffset

RNG = np.random.default_rng(0)
X, CONDITION = RNG.normal(1, 2, (2, 5, 8)), RNG.normal(size=(2, 3))


def randomized(layer, *inputs):
    layer(inputs if len(inputs) > 1 else inputs[0])
    for weight in layer.weights:
        weight.assign(RNG.normal(size=weight.shape))
    return [w.numpy().astype("float64") for w in layer.weights]


def normalized(x, zero_mean=True, epsilon=1e-7):
    if zero_mean:
        x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon)


def check(actual, golden):
    np.testing.assert_allclose(actual, golden, rtol=2e-5, atol=2e-5)


def test_starts_as_the_identity():
    check(ScaleOffset()(X), X)
    check(ScaleOffset(conditional=True)([X, CONDITION]), X)
    check(LayerNormalization()(X), normalized(X))


def test_scale_offset():
    layer = ScaleOffset()
    beta, gamma = randomized(layer, X)
    check(layer(X), X * gamma + beta)
    layer = ScaleOffset(offset=False)
    (gamma,) = randomized(layer, X)
    check(layer(X), X * gamma)
    layer = ScaleOffset(scale=None, offset=2.0)
    assert randomized(layer, X) == []
    check(layer(X), X + 2)


def test_conditional():
    layer = ScaleOffset(scale=0.5, conditional=True)
    beta, beta_kernel, gamma_kernel = randomized(layer, X, CONDITION)
    golden = X * (0.5 + CONDITION @ gamma_kernel)[:, None] + beta
    check(layer([X, CONDITION]), golden + (CONDITION @ beta_kernel)[:, None])


@pytest.mark.parametrize("zero_mean", [True, False])
def test_layer_normalization(zero_mean):
    layer = LayerNormalization(zero_mean=zero_mean, epsilon=1e-3)
    beta, gamma = randomized(layer, X)
    check(layer(X), normalized(X, zero_mean, 1e-3) * gamma + beta)


def test_centred_only():
    layer = LayerNormalization(unit_variance=False, scale=False, offset=False)
    check(layer(X), X - X.mean(-1, keepdims=True))


def test_conditional_layer_normalization_with_a_hidden_layer():
    layer = LayerNormalization(conditional=True, hidden_units=4, hidden_activation="tanh")
    beta, gamma, hidden, beta_kernel, gamma_kernel = randomized(layer, X, CONDITION)
    h = np.tanh(CONDITION @ hidden)
    golden = normalized(X) * (gamma + (h @ gamma_kernel)[:, None])
    check(layer([X, CONDITION]), golden + (beta + (h @ beta_kernel)[:, None]))


def test_constant_vectors_are_no_nan():
    """bert4keras uses epsilon=1e-12, which is 0 beside any variance but 0."""
    x = np.full((1, 2, 4), 3.0)
    np.testing.assert_array_equal(LayerNormalization(epsilon=1e-12)(x), 0 * x)


def test_float16_statistics_are_float32():
    """The square of 1000 is not a number of float16."""
    x = np.array([[-1000.0, 1000.0, 2000.0, 0.0]])
    layer = LayerNormalization(dtype="mixed_float16")
    np.testing.assert_allclose(layer(x), normalized(x), rtol=2e-3)
