"""The tensor helpers, by float64 NumPy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

import keras_extras.ops as K


def test_masking_value_is_finite_in_its_dtype():
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        value = ops.cast(K.masking_value(dtype), dtype)
        assert np.isfinite(float(value)) and float(value) < -5e4
        assert float(ops.softmax(ops.stack([value, value * 0]))[0]) == 0


def test_align():
    x = np.arange(10.0).reshape(2, 5)
    np.testing.assert_array_equal(K.align(x, [0, 2]), x[:, None])
    np.testing.assert_array_equal(K.align(x, [0, -1], 4), x[:, None, None])
    np.testing.assert_array_equal(K.align(x, [0, 1]), x)
    with pytest.raises(ValueError, match="axes to place"):
        K.align(x, [0])
    with pytest.raises(ValueError, match="ndim must be given"):
        K.align(x, [0, -1])


def test_sequence_masking():
    x = np.arange(1, 13, dtype="float32").reshape(2, 3, 2)
    mask = np.array([[1, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(K.sequence_masking(x), x)
    np.testing.assert_array_equal(K.sequence_masking(x, mask), x * mask[..., None])
    low = K.sequence_masking(x, mask > 0, "-inf")
    np.testing.assert_array_equal(low, np.where(mask[..., None], x, -1e12).astype("float32"))
    np.testing.assert_array_equal(
        K.sequence_masking(x.swapaxes(1, 2), mask, 7.0, axis=-1),
        np.where(mask[:, None], x.swapaxes(1, 2), 7.0),
    )
    square = np.ones((2, 3, 3), "float32")
    both, shown = K.sequence_masking(square, mask, 0, [1, 2], return_mask=True)
    np.testing.assert_array_equal(both, mask[:, :, None] * mask[:, None])
    np.testing.assert_array_equal(shown, (mask[:, :, None] * mask[:, None]) > 0)
    past = np.tri(3, dtype=bool)
    np.testing.assert_array_equal(
        K.sequence_masking(square, mask, 0, 2, bias=ops.convert_to_tensor(past)),
        mask[:, None] * past,
    )
    np.testing.assert_array_equal(
        K.sequence_masking(square, mask, 0, 2, bias=ops.convert_to_tensor(2 * square)),
        mask[:, None] * 3 * square,
    )
    unmasked, none = K.sequence_masking(square, bias=square, return_mask=True)
    np.testing.assert_array_equal(unmasked, 2 * square)
    assert none is None


def softmax(a):
    e = np.exp(a - a.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_normalize(masked):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(2, 3, 4, 40)) * 3
    mask = np.arange(40)[None] < np.array([[31], [7]]) if masked else np.ones((2, 40), bool)
    length = mask.sum(1)[:, None, None, None]
    shown = mask[:, None, None]
    low = np.where(shown, a, -1e12)
    expected = {
        "softmax": softmax(low),
        "squared_relu": np.maximum(low, 0) ** 2 / length,
        "softmax_plus": softmax(low * np.log(np.maximum(length, 16)) / np.log(512)),
    }
    for method, golden in expected.items():
        result = K.attention_normalize(ops.cast(a, "float32"), mask if masked else None, -1, method)
        np.testing.assert_allclose(result, golden, rtol=1e-5, atol=1e-7)
        assert (np.asarray(result)[~np.broadcast_to(shown, a.shape)] == 0).all()
    with pytest.raises(ValueError, match="'cosine'"):
        K.attention_normalize(ops.cast(a, "float32"), method="cosine")


def test_sinusoidal_embeddings():
    rows = np.asarray(K.sinusoidal_embeddings(ops.arange(200, dtype="float64"), 128))
    position, i = np.arange(200)[:, None], np.arange(64)
    np.testing.assert_allclose(rows[:, ::2], np.sin(position / 10000 ** (i / 64)), atol=1e-12)
    np.testing.assert_allclose(rows[:, 1::2], np.cos(position / 10000 ** (i / 64)), atol=1e-12)
    # |p|² = d/2, and p_m·p_n depends on m − n alone: Σ cos((m − n)θ)
    np.testing.assert_allclose((rows**2).sum(1), 64)
    products = rows @ rows.T
    np.testing.assert_allclose(products[30, 10], products[120, 100])
    for distance, total in [(0, 64), (1, 62.094), (10, 42.820), (20, 38.934047), (100, 30.543)]:
        assert abs(products[distance, 0] - total) < 1e-3
    small = K.sinusoidal_embeddings(ops.ones((1,)), 4)
    np.testing.assert_allclose(small, [[0.841471, 0.540302, 0.01, 0.99995]], atol=1e-6)
    with pytest.raises(ValueError, match="dim=3"):
        K.sinusoidal_embeddings(ops.ones((1,)), 3)


def test_rotary_is_a_rotation_by_the_position():
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(2, 6)), rng.normal(size=(2, 6))
    pairs = q[:, ::2] + 1j * q[:, 1::2]
    turned = pairs * np.exp(1j * 9 * 10000 ** (-np.arange(3) / 3))
    golden = np.stack([turned.real, turned.imag], -1).reshape(2, 6)

    def rotate(x, position):
        angles = K.sinusoidal_embeddings(ops.full((1, 1), position, dtype="float64"), 6)
        return np.asarray(K.apply_rotary_position_embeddings(angles, x[:, None]))[:, 0]

    np.testing.assert_allclose(rotate(q, 9), golden, atol=1e-12)
    # <R_m q, R_n k> depends on m − n alone
    np.testing.assert_allclose(
        (rotate(q, 9) * rotate(k, 4)).sum(1), (rotate(q, 25) * rotate(k, 20)).sum(1), atol=1e-12
    )
    angles = K.sinusoidal_embeddings(ops.arange(3, dtype="float64")[None], 6)
    heads = rng.normal(size=(2, 3, 4, 6))
    one, other = K.apply_rotary_position_embeddings(angles, heads, heads[:, :, :1])
    np.testing.assert_array_equal(one[:, :, :1], other)
    np.testing.assert_array_equal(one[:, 0], heads[:, 0])


def test_root_mean_square():
    x = np.random.default_rng(0).normal(size=(3, 4, 5))
    for axis, keepdims in [(None, False), (-1, True), ((0, 2), False)]:
        np.testing.assert_allclose(
            K.root_mean_square(x, axis, keepdims),
            np.sqrt((x**2).mean(axis, keepdims=keepdims)),
            rtol=1e-6,
        )
