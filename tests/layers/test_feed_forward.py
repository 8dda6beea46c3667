"""FeedForward and the tied embedding, by float64 NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops
from scipy.special import erf

from keras_extras.layers import Embedding, FeedForward

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 5, 6))


def gelu(x):
    return x * 0.5 * (1 + erf(x / 2**0.5))


def randomized(layer):
    layer(X)
    for weight in layer.weights:
        weight.assign(RNG.normal(size=weight.shape))
    return [w.numpy().astype("float64") for w in layer.weights]


def test_feed_forward():
    layer = FeedForward(7, "gelu")
    w0, b0, w1, b1 = randomized(layer)
    np.testing.assert_allclose(layer(X), gelu(X @ w0 + b0) @ w1 + b1, rtol=1e-4, atol=1e-5)


def test_gated():
    layer = FeedForward(7, ["gelu", "linear"], use_bias=False)
    w0, w1, w2 = randomized(layer)
    np.testing.assert_allclose(layer(X), (gelu(X @ w0) * (X @ w1)) @ w2, rtol=1e-4, atol=1e-5)


def test_embedding_both_ways():
    layer = Embedding(11, 6)
    ids = np.array([[3, 0, 10], [1, 1, 0]])
    vectors = layer(ids)
    table = layer.embeddings.numpy()
    np.testing.assert_array_equal(vectors, table[ids])
    np.testing.assert_allclose(layer(X, mode="dense"), X @ table.T, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="'sparse'"):
        layer(ids, mode="sparse")


def test_embedding_mask_keeps_the_first_token():
    layer = Embedding(11, 6, mask_zero=True)
    ids = np.array([[0, 3, 0], [0, 0, 0], [5, 0, 2]])
    mask = layer.compute_mask(ops.convert_to_tensor(ids))
    np.testing.assert_array_equal(mask, [[1, 1, 0], [1, 0, 0], [1, 0, 1]])
    assert Embedding(11, 6).compute_mask(ops.convert_to_tensor(ids)) is None
    kept = np.array([[True, False, True, True, False]] * 2)
    np.testing.assert_array_equal(layer.compute_mask(ops.convert_to_tensor(X), kept), kept)
