"""Position encodings, by hand, by float64 NumPy and by T5's own code."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from keras_extras.layers import (
    PositionEmbedding,
    RelativePositionEmbedding,
    SinusoidalPositionEmbedding,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 5, 4)).astype("float32")
POSITIONS = np.array([[0, 3, 1, 2, 7], [4, 4, 0, 6, 5]])


def with_table(layer, *inputs):
    layer(inputs if len(inputs) > 1 else inputs[0])
    table = RNG.normal(size=layer.embeddings.shape).astype("float32")
    layer.embeddings.assign(table)
    return table


def merged(mode, x, vectors):
    vectors = np.broadcast_to(vectors, (2, *vectors.shape[1:])) if mode == "concat" else vectors
    return {
        "add": lambda: x + vectors,
        "mul": lambda: x * (1 + vectors),
        "zero": lambda: vectors,
        "concat": lambda: np.concatenate([x, vectors], -1),
    }[mode]()


@pytest.mark.parametrize("mode", ["add", "mul", "zero", "concat"])
def test_merge_modes(mode):
    layer = PositionEmbedding(8, 4, mode)
    table = with_table(layer, X)
    np.testing.assert_allclose(layer(X), merged(mode, X, table[None, :5]), rtol=1e-6)
    layer = PositionEmbedding(8, 4, mode, custom_position_ids=True)
    table = with_table(layer, X, POSITIONS)
    np.testing.assert_allclose(layer([X, POSITIONS]), merged(mode, X, table[POSITIONS]), rtol=1e-6)
    angles = POSITIONS[..., None] / 10000 ** (np.arange(2) / 2)
    vectors = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(2, 5, 4)
    layer = SinusoidalPositionEmbedding(4, mode, custom_position_ids=True)
    np.testing.assert_allclose(layer([X, POSITIONS]), merged(mode, X, vectors), atol=1e-6)
    with pytest.raises(ValueError, match="'sum'"):
        PositionEmbedding(8, 4, "sum")


def test_hierarchical_by_hand():
    """Three positions p, α = 0.4: u = (p − 0.4·p0)/0.6, q[3i + j] = 0.4·u[i] + 0.6·u[j]."""
    layer = PositionEmbedding(3, 1, "zero", hierarchical=True)
    x = np.zeros((1, 9, 1))
    layer(x)
    layer.embeddings.assign([[1.0], [4.0], [7.0]])  # u = 1, 6, 11
    golden = [1, 4, 7, 3, 6, 9, 5, 8, 11]
    np.testing.assert_allclose(np.ravel(layer(x)), golden, rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 0.4, 0.8])
def test_hierarchical_keeps_the_trained_positions(alpha):
    layer = PositionEmbedding(5, 4, "zero", hierarchical=alpha)
    table = with_table(layer, X)
    long = np.asarray(layer(np.zeros((1, 25, 4))))[0]
    np.testing.assert_allclose(long[:5], table, atol=1e-5)
    assert len(np.unique(long.round(4), axis=0)) == 25
    with pytest.raises(ValueError, match="0.5"):
        PositionEmbedding(5, 4, hierarchical=0.5)
    with pytest.raises(ValueError, match="hierarchical=1.5 must be"):
        PositionEmbedding(5, 4, hierarchical=1.5)
    with pytest.raises(ValueError, match="6 tokens, and only 5 trained positions"):
        PositionEmbedding(5, 4, "zero")(np.ones((1, 6, 4)))


def test_sinusoidal_in_half_precision():
    """Positions beyond 2048 are no numbers of float16, and angles must not suffer."""
    layer = SinusoidalPositionEmbedding(4, "zero", True, dtype="mixed_float16")
    ids = np.array([[2049.0, 3001.0]])
    golden = [[math.sin(i), math.cos(i), math.sin(i / 100), math.cos(i / 100)] for i in ids[0]]
    result = layer([np.zeros((1, 2, 4)), ids])
    assert result.dtype == "float16"
    np.testing.assert_allclose(result, [golden], atol=1e-3)


def test_sinusoidal_vectors():
    """‖p‖² = d/2; p(30)·p(10) = p(120)·p(100) = Σ cos 20θ, which falls with the distance."""
    layer = SinusoidalPositionEmbedding(4, "zero")
    first = [0.841471, 0.540302, 0.01, 0.99995]
    np.testing.assert_allclose(np.asarray(layer(np.zeros((1, 2, 4))))[0, 1], first, atol=1e-6)
    p = np.asarray(SinusoidalPositionEmbedding(128, "zero")(np.zeros((1, 1001, 1))))[0]
    np.testing.assert_allclose((p**2).sum(-1), 64, rtol=1e-5)
    np.testing.assert_allclose([p[30] @ p[10], p[120] @ p[100]], 38.934047, rtol=1e-5)
    near_to_far = [64, 62.094, 42.820, 30.543, 10.178]
    np.testing.assert_allclose(p[[0, 1, 10, 100, 1000]] @ p[0], near_to_far, rtol=1e-4)


def test_trainable_frequencies():
    """They start as the fixed ones, and other values turn as fast as they say."""
    layer = SinusoidalPositionEmbedding(6, "zero", base=100, trainable_frequencies=True)
    fixed = SinusoidalPositionEmbedding(6, "zero", base=100)
    x = np.zeros((1, 9, 6))
    np.testing.assert_allclose(layer(x), fixed(x), atol=1e-6)
    angles = np.arange(9)[:, None] * 100 ** (-np.arange(3) / 3)
    np.testing.assert_allclose(np.asarray(fixed(x))[0, :, ::2], np.sin(angles), atol=1e-6)
    layer.frequencies.assign([0.5, 0.25, 0.125])
    angles = np.arange(9)[:, None] * np.array([0.5, 0.25, 0.125])
    np.testing.assert_allclose(np.asarray(layer(x))[0, :, 1::2], np.cos(angles), atol=1e-6)
    with pytest.raises(ValueError, match="even"):
        SinusoidalPositionEmbedding(5, trainable_frequencies=True)(x)


def test_relative():
    layer = RelativePositionEmbedding(5, 4)
    table = with_table(layer, X, X)
    q, k = np.zeros((1, 6, 1)), np.zeros((1, 9, 1))
    distance = np.arange(9)[None] - np.arange(6)[:, None]
    golden = table[np.clip(distance, -2, 2) + 2]
    np.testing.assert_array_equal(layer([q, k]), golden)


def t5_bucket(relative_position, bidirectional, num_buckets, max_distance):
    """T5's bucket of one distance, in float32 as there (arXiv:1910.10683)."""
    bucket, n = 0, -relative_position
    if bidirectional:
        num_buckets //= 2
        bucket += (n < 0) * num_buckets
        n = abs(n)
    else:
        n = max(n, 0)
    max_exact = num_buckets // 2
    if n < max_exact:
        return bucket + n
    share = np.log(np.float32(n) / np.float32(max_exact)) / np.float32(
        math.log(max_distance / max_exact)
    )
    large = max_exact + int(np.float32(share) * np.float32(num_buckets - max_exact))
    return bucket + min(large, num_buckets - 1)


BUCKETS = [(32, 128, True), (32, 128, False), (64, 160, True), (16, 40, False)]

PRINT_BUCKETS = """
import json
import numpy as np
from keras import ops
from keras_extras.layers import RelativePositionEmbeddingT5

x = np.zeros((1, 201, 1))
for buckets, distance, bidirectional in json.loads('''%s'''):
    layer = RelativePositionEmbeddingT5(buckets, 2, distance, bidirectional)
    ids = ops.convert_to_numpy(layer.compute_position_ids([x, x]))
    print(json.dumps([*ids[::-1, 0].tolist(), *ids[0, 1:].tolist()]))
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_t5_buckets(backend, request, run_python):
    """All distances from −200 to 200 fall into T5's own buckets, on every backend."""
    fixture = {"tensorflow": "legacy_python"}.get(backend, f"{backend}_python")
    script = PRINT_BUCKETS % json.dumps(BUCKETS)
    printed = run_python(request.getfixturevalue(fixture), script, KERAS_BACKEND=backend)
    for line, (buckets, distance, bidirectional) in zip(
        printed.strip().splitlines(), BUCKETS, strict=True
    ):
        golden = [t5_bucket(d, bidirectional, buckets, distance) for d in range(-200, 201)]
        assert json.loads(line) == golden, (buckets, distance, bidirectional)
        assert max(golden) == buckets - 1


def test_t5_buckets_by_hand():
    """32 buckets, both directions: 0–7 one each, 8–11 share, from 91 on the last one."""
    buckets = [t5_bucket(-d, True, 32, 128) for d in (0, 1, 7, 8, 11, 12, 90, 91, 128, 1000)]
    assert buckets == [0, 1, 7, 8, 8, 9, 14, 15, 15, 15]
