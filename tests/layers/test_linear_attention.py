"""Linear attention: the same as its quadratic form, and as softmax attention where it promises."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from keras_extras.layers import LinearAttention, ReRoPE, RotaryPosition
from keras_extras.layers.random_features import orthogonal_features

HEADS, SIZE, KEY, DIM = 2, 3, 4, 6
RNG = np.random.default_rng(0)
LENGTH = 150  # three blocks of causal attention, the last one not full
X = RNG.normal(size=(2, LENGTH, DIM))
VISIBLE = np.arange(LENGTH)[None] < np.array([[LENGTH], [97]])
MAPS = ["elu", "exp", "softmax", "cosine", "performer"]


def softmax(a, axis=-1):
    e = np.exp(a - a.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def features(name, x, directions):
    if name == "elu":
        return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))
    if name == "exp":
        return np.exp(x)
    if name == "cosine":
        unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
        return np.concatenate([np.ones_like(x[..., :1]), unit], -1)
    x = x / KEY**0.25
    return np.exp(x @ directions - (x**2).sum(-1, keepdims=True) / 2)


def turned(x):
    pairs = x[..., ::2] + 1j * x[..., 1::2]
    theta = 10000 ** (-np.arange(pairs.shape[-1]) / pairs.shape[-1])
    pairs = pairs * np.exp(1j * np.arange(x.shape[1])[:, None, None] * theta)
    return np.stack([pairs.real, pairs.imag], -1).reshape(x.shape)


def quadratic(layer, name, x, seen, rotary=False):
    """All weights, then the mean: what linear attention computes without them."""
    wq, bq, wk, bk, wv, bv, wo, bo = (w.numpy().astype("float64") for w in layer.trainable_weights)
    directions = layer.directions.numpy().astype("float64") if name == "performer" else None
    split = lambda x: x.reshape(*x.shape[:2], HEADS, -1)  # noqa: E731
    q, k, v = split(x @ wq + bq), split(x @ wk + bk), split(x @ wv + bv)
    if name == "softmax":
        powers = np.where(seen[:, None, ..., None], k.transpose(0, 2, 1, 3)[:, :, None], -np.inf)
        fq, fk = softmax(q).transpose(0, 2, 1, 3)[:, :, :, None], softmax(powers, 3)
        weights = (fq * fk).sum(-1)
    else:
        fq, fk = (features(name, y, directions) for y in (q, k))
        sums = np.where(seen[:, None], np.einsum("bqhm,bkhm->bhqk", fq, fk), 0)
        divisor = sums.sum(-1, keepdims=True)
        if rotary:
            still = int(name == "cosine")
            fq, fk = (
                np.concatenate([f[..., :still], turned(f[..., still:])], -1) for f in (fq, fk)
            )
            sums = np.einsum("bqhm,bkhm->bhqk", fq, fk)
            sums = np.where(seen[:, None], sums, 0)
        weights = sums / divisor
    if not rotary:
        np.testing.assert_allclose(weights.sum(-1), 1)
    return np.einsum("bhqk,bkhd->bqhd", weights, v).reshape(*x.shape[:2], -1) @ wo + bo


def randomized(layer):
    layer([X, X, X])
    for weight in layer.trainable_weights:
        weight.assign(RNG.normal(0, 0.5, weight.shape))
    return layer


def seen_from(causal, visible):
    past = np.tri(LENGTH, dtype=bool) if causal else np.ones((LENGTH, LENGTH), bool)
    return past & visible[:, None]


@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
@pytest.mark.parametrize("name", MAPS)
def test_equals_the_quadratic_form(name, causal):
    layer = randomized(LinearAttention(HEADS, SIZE, name, causal, 10, key_size=KEY))
    everything = np.ones_like(VISIBLE)
    for mask in (None, VISIBLE):
        seen = seen_from(causal, everything if mask is None else mask)
        masks = None if mask is None else [ops.convert_to_tensor(mask)] * 3
        golden = quadratic(layer, name, X, seen)
        np.testing.assert_allclose(layer([X, X, X], mask=masks), golden, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
@pytest.mark.parametrize("name", ["elu", "cosine", "performer"])
def test_rotary_positions_turn_the_numerator(name, causal):
    options = {"feature_map": name, "causal": causal, "key_size": KEY}
    layer = randomized(LinearAttention(HEADS, SIZE, position=RotaryPosition(), seed=1, **options))
    golden = quadratic(layer, name, X, seen_from(causal, np.ones_like(VISIBLE)), rotary=True)
    np.testing.assert_allclose(layer([X, X, X]), golden, rtol=1e-4, atol=1e-5)
    angles = np.arange(LENGTH)[:, None] * 10000 ** (-np.arange(KEY // 2) / (KEY // 2))
    angles = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(1, LENGTH, KEY)
    plain = LinearAttention(HEADS, SIZE, seed=1, **options)
    plain([X, X, X])
    plain.set_weights(layer.get_weights())
    result = plain([X, X, X, angles], p_bias="rotary")
    np.testing.assert_allclose(result, golden, rtol=1e-4, atol=1e-5)


def test_refused():
    with pytest.raises(ValueError, match="pairs of features: 5 is odd"):
        LinearAttention(HEADS, 4, "performer", features=5, position=RotaryPosition())
    angles = np.zeros((1, LENGTH, 4))
    with pytest.raises(ValueError, match="have 4 numbers for 6 features"):
        LinearAttention(HEADS, 4, "performer", features=6)([X, X, X, angles], p_bias="rotary")


@pytest.mark.parametrize("name", ["exp", "softmax", "performer"])
def test_large_numbers(name):
    """Exponentials of hundreds neither overflow nor divide nothing by nothing."""
    layer = randomized(LinearAttention(HEADS, SIZE, name))
    assert np.isfinite(layer([100 * X, 100 * X, X])).all()
    nothing = ops.convert_to_tensor(np.zeros_like(VISIBLE))
    assert np.isfinite(layer([X, X, X], mask=[nothing] * 3)).all()


def test_expectation_of_performer():
    """E[e^(ω·q − |q|²/2)·e^(ω·k − |k|²/2)] = e^(q·k): 0.818731 for the q·k = −0.2 by hand."""
    q, k = np.array([0.3, -0.2, 0.5]), np.array([0.1, 0.4, -0.3])
    w = orthogonal_features(3, 300_000, seed=1)
    estimates = np.exp((q + k) @ w - (q @ q + k @ k) / 2)
    error = estimates.std() / len(estimates) ** 0.5
    assert np.exp(q @ k) == pytest.approx(0.818731, abs=1e-6)
    assert abs(estimates.mean() - np.exp(q @ k)) < 4 * error < 0.01


def test_orthogonal_features():
    """Orthogonal in groups; lengths are those of normal vectors; all directions are as likely."""
    w = orthogonal_features(5, 12, seed=0)
    assert w.shape == (5, 12)
    for group in (w[:, :5], w[:, 5:10], w[:, 10:]):
        products = group.T @ group
        np.testing.assert_allclose(products, np.diag(np.diag(products)), atol=1e-12)
    many = orthogonal_features(5, 50_000, seed=2)
    np.testing.assert_allclose((many**2).sum(0).mean(), 5, rtol=0.02)
    np.testing.assert_allclose(many.mean(1), 0, atol=0.02)
    np.testing.assert_allclose(many @ many.T / 50_000, np.eye(5), atol=0.03)


def test_performer_approaches_softmax_attention():
    """The published form (performer-pytorch): with ratio m^−½ and without its 1e−4."""
    q, k, v = RNG.normal(size=(3, 1, 30, 1, KEY))
    golden = softmax(q[0, :, 0] @ k[0, :, 0].T / KEY**0.5) @ v[0, :, 0]
    errors = []
    for count in (16, 4096):
        layer = LinearAttention(1, KEY, "performer", features=count, seed=3)
        layer([X, X, X])
        ours = np.asarray(layer.attend(q, k, v, None, None, None))[0, :, 0]
        w = layer.directions.numpy().astype("float64")
        published = [
            np.exp(x @ w - (x**2).sum(-1, keepdims=True) / 2) * count**-0.5
            for x in (q[0, :, 0] / KEY**0.25, k[0, :, 0] / KEY**0.25)
        ]
        sums = published[0] @ published[1].T
        weights = sums / sums.sum(-1, keepdims=True)
        np.testing.assert_allclose(ours, weights @ v[0, :, 0], rtol=1e-4, atol=1e-5)
        errors.append(np.abs(ours - golden).mean())
    assert errors[1] < 0.05 < errors[0]


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="'relu'"):
        LinearAttention(HEADS, SIZE, "relu")
    with pytest.raises(ValueError, match="not ReRoPE"):
        LinearAttention(HEADS, SIZE, position=ReRoPE(4))
    with pytest.raises(ValueError, match="return_attention_scores"):
        LinearAttention(HEADS, SIZE, return_attention_scores=True)
    with pytest.raises(ValueError, match="attention_dropout"):
        LinearAttention(HEADS, SIZE, attention_dropout=0.1)
    past = np.tri(LENGTH, dtype=bool)
    with pytest.raises(ValueError, match="causal=True"):
        LinearAttention(HEADS, SIZE)([X, X, X, past], a_bias=True)
    for keys in (X[:, :9], X[:, :1]):
        with pytest.raises(ValueError, match=f"150 queries and {keys.shape[1]} keys"):
            LinearAttention(HEADS, SIZE, causal=True)([X, keys, keys])
        with pytest.raises(ValueError, match=f"{keys.shape[1]} queries and 150 keys"):
            LinearAttention(HEADS, SIZE, causal=True)([keys, X, X])
