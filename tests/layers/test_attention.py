"""Multi-head attention and the gated attention unit, by float64 NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from keras_extras.layers import GatedAttentionUnit, MultiHeadAttention

HEADS, SIZE, KEY, DIM, OUT = 2, 3, 4, 6, 5
RNG = np.random.default_rng(0)
Q, K = RNG.normal(size=(2, 5, DIM)), RNG.normal(size=(2, 7, DIM))
MASK = np.arange(7)[None] < np.array([[7], [4]])
SQUARE = RNG.normal(size=(2, 5, DIM))
SQUARE_MASK = MASK[:, :5]


def randomized(layer, inputs, **call):
    layer(inputs, **call)
    for weight in layer.weights:
        weight.assign(RNG.normal(0, 0.5, weight.shape))
    return [w.numpy().astype("float64") for w in layer.weights]


def softmax(a):
    e = np.exp(a - a.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def rotate(x, axis=1):
    """RoPE as multiplication of complex numbers along the positions of `axis`."""
    positions = np.arange(x.shape[axis]).reshape([-1] + [1] * (x.ndim - axis - 1))
    pairs = x[..., ::2] + 1j * x[..., 1::2]
    half = pairs.shape[-1]
    pairs = pairs * np.exp(1j * positions * 10000 ** (-np.arange(half) / half))
    return np.stack([pairs.real, pairs.imag], -1).reshape(x.shape)


def angles(length, size=KEY):
    positions = np.arange(length)[:, None] * 10000 ** (-np.arange(size // 2) / (size // 2))
    return np.stack([np.sin(positions), np.cos(positions)], -1).reshape(1, length, size)


def attention(
    weights, q, k, shown=True, bias=0, rope=False, typical=None, t5=None, scale=KEY**-0.5
):
    """Returns the output and the scores before masking."""
    if len(weights) == 4:
        weights = [x for w in weights for x in (w, 0)]
    wq, bq, wk, bk, wv, bv, wo, bo = weights
    split = lambda x: x.reshape(2, x.shape[1], HEADS, -1)  # noqa: E731
    qs, ks, vs = split(q @ wq + bq), split(k @ wk + bk), split(k @ wv + bv)
    if rope:
        qs, ks = rotate(qs), rotate(ks)
    a = np.einsum("bqhd,bkhd->bhqk", qs, ks)
    if typical is not None:
        a = a + np.einsum("bqhd,qkd->bhqk", qs, typical)
    if t5 is not None:
        a = a + t5.transpose(2, 0, 1)
    a = a * scale
    p = softmax(np.where(shown, a + bias, -1e12))
    o = np.einsum("bhqk,bkhd->bqhd", p, vs)
    if typical is not None:
        o = o + np.einsum("bhqk,qkd->bqhd", p, typical)
    return o.reshape(2, q.shape[1], -1) @ wo + bo, a


def check(actual, golden):
    np.testing.assert_allclose(actual, golden, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mask", [None, MASK])
def test_cross_attention(mask):
    layer = MultiHeadAttention(HEADS, SIZE, OUT, KEY)
    weights = randomized(layer, [Q, K, K])
    masks = (
        None if mask is None else [None, ops.convert_to_tensor(mask), ops.convert_to_tensor(mask)]
    )
    shown = True if mask is None else mask[:, None, None]
    check(layer([Q, K, K], mask=masks), attention(weights, Q, K, shown)[0])


PAST = np.tri(5, dtype=bool)
SEGMENTS = np.array([[0, 0, 1, 1, 1], [0, 0, 0, 1, 0]]).cumsum(1)
UNILM = SEGMENTS[:, None] <= SEGMENTS[:, :, None]


@pytest.mark.parametrize("visible", [PAST, UNILM, UNILM[:, None]], ids=["lm", "unilm", "4d"])
def test_visibility(visible):
    layer = MultiHeadAttention(HEADS, SIZE, KEY, KEY)
    inputs = [SQUARE, SQUARE, SQUARE, visible]
    weights = randomized(layer, inputs, a_bias=True)
    mask = ops.convert_to_tensor(SQUARE_MASK)
    shown = visible[:, None] if visible.ndim == 3 else visible
    golden, _ = attention(weights, SQUARE, SQUARE, shown & SQUARE_MASK[:, None, None])
    check(layer(inputs, mask=[mask, mask, mask, None], a_bias=True), golden)


def test_float_bias_and_scores():
    """Residual attention: the next layer's bias is this layer's scores, unmasked."""
    bias = RNG.normal(size=(2, HEADS, 5, 5))
    layer = MultiHeadAttention(HEADS, SIZE, key_size=KEY, return_attention_scores=True)
    inputs = [SQUARE, SQUARE, SQUARE, bias]
    weights = randomized(layer, inputs, a_bias=True)
    mask = ops.convert_to_tensor(SQUARE_MASK)
    output, scores = layer(inputs, mask=[mask, mask, mask, None], a_bias=True)
    golden = attention(weights, SQUARE, SQUARE, SQUARE_MASK[:, None, None], bias)
    check(output, golden[0])
    check(scores, golden[1])


def test_rotary():
    layer = MultiHeadAttention(HEADS, SIZE, OUT, KEY)
    inputs = [SQUARE, SQUARE, SQUARE, angles(5)]
    weights = randomized(layer, inputs, p_bias="rotary")
    check(layer(inputs, p_bias="rotary"), attention(weights, SQUARE, SQUARE, rope=True)[0])


def test_typical_relative():
    relative = RNG.normal(size=(5, 7, SIZE))
    layer = MultiHeadAttention(HEADS, SIZE, OUT)
    inputs = [Q, K, K, relative]
    weights = randomized(layer, inputs, p_bias="typical_relative")
    golden, _ = attention(weights, Q, K, typical=relative, scale=SIZE**-0.5)
    check(layer(inputs, p_bias="typical_relative"), golden)


def test_t5_relative():
    relative = RNG.normal(size=(5, 5, HEADS))
    layer = MultiHeadAttention(HEADS, SIZE, OUT, KEY, use_bias=False, attention_scale=False)
    inputs = [SQUARE, SQUARE, SQUARE, PAST, relative]
    weights = randomized(layer, inputs, a_bias=True, p_bias="t5_relative")
    golden, _ = attention(weights, SQUARE, SQUARE, PAST, t5=relative, scale=1)
    check(layer(inputs, a_bias=True, p_bias="t5_relative"), golden)


def test_dropout_is_on_the_weights():
    layer = MultiHeadAttention(HEADS, SIZE, attention_dropout=0.5, seed=1)
    randomized(layer, [Q, K, K])
    np.testing.assert_array_equal(layer([Q, K, K]), layer([Q, K, K]))
    dropped = [np.asarray(layer([Q, K, K], training=True)) for _ in range(200)]
    assert np.abs(dropped[0] - dropped[1]).max() > 0.1
    spread = np.std(dropped, 0) / 200**0.5
    assert (np.abs(np.mean(dropped, 0) - layer([Q, K, K])) < 6 * spread).all()


def swish(x):
    return x / (1 + np.exp(-x))


@pytest.mark.parametrize("masked", [False, True])
def test_gated_self_attention(masked):
    layer = GatedAttentionUnit(SIZE, KEY)
    inputs = [SQUARE, PAST, angles(5)]
    wi, bi, wo, bo, beta_q, gamma_q, beta_k, gamma_k = by_name(
        layer,
        randomized(layer, inputs, a_bias=True, p_bias="rotary"),
        ["i_dense/kernel", "i_dense/bias", "o_dense/kernel", "o_dense/bias"]
        + [f"{x}_scaleoffset/{y}" for x in "qk" for y in ("beta", "gamma")],
    )
    mask = ops.convert_to_tensor(SQUARE_MASK) if masked else None
    u, v, z = np.split(swish(SQUARE @ wi + bi), [SIZE, 2 * SIZE], -1)
    q, k = rotate(z * gamma_q + beta_q), rotate(z * gamma_k + beta_k)
    shown = PAST & (SQUARE_MASK[:, None] if masked else np.ones((2, 1, 5), bool))
    a = np.where(shown, q @ k.swapaxes(1, 2) / KEY**0.5, 0)
    p = np.maximum(a, 0) ** 2 / shown.sum(-1, keepdims=True)
    golden = (u * (p @ v)) @ wo + bo
    result = layer(inputs, mask=[mask, None, None], a_bias=True, p_bias="rotary")
    check(result, golden)


def test_gated_cross_attention():
    layer = GatedAttentionUnit(SIZE, KEY, self_attention=False, normalization="softmax")
    names = [f"{x}_dense/{y}" for x in ("uq", "k", "v", "o") for y in ("kernel", "bias")]
    inputs = [SQUARE, K, K]
    wu, bu, wk, bk, wv, bv, wo, bo = by_name(layer, randomized(layer, inputs), names)
    u, q = np.split(swish(SQUARE @ wu + bu), [SIZE], -1)
    k, v = swish(K @ wk + bk), swish(K @ wv + bv)
    golden = (u * (softmax(q @ k.swapaxes(1, 2) / KEY**0.5) @ v)) @ wo + bo
    check(layer(inputs), golden)


def by_name(layer, values, names):
    """The values in the order of `names`, which end the weights' paths."""
    paths = [w.path for w in layer.weights]
    return [values[next(i for i, p in enumerate(paths) if p.endswith(name))] for name in names]


LEGACY_UNIT = """
import sys
import numpy as np
from bert4keras.backend import keras
from bert4keras.layers import GatedAttentionUnit

case = dict(np.load(sys.argv[1]))
x, seen, angles = (keras.Input(batch_shape=[None, *case[n].shape[1:]]) for n in ("x", "seen", "p"))
layer = GatedAttentionUnit(3, 4, activation="swish", normalization=str(case["normalization"]))
y = layer([keras.layers.Masking()(x), seen, angles], a_bias=True, p_bias="rotary")
model = keras.Model([x, seen, angles], y)
for name in ("i_dense", "o_dense", "q_scaleoffset", "k_scaleoffset"):
    getattr(layer, name).set_weights([case[f"{name}/{i}"] for i in range(2)])
np.save(sys.argv[2], model.predict([case["x"], case["seen"], case["p"]], verbose=0))
"""


def test_nothing_seen_is_finite():
    nothing = ops.convert_to_tensor(np.zeros((2, 5), bool))
    assert np.isfinite(GatedAttentionUnit(SIZE, KEY)(SQUARE, mask=nothing)).all()


@pytest.mark.parametrize("normalization", ["squared_relu", "softmax_plus"])
def test_gated_unit_of_bert4keras(normalization, legacy_python, run_python, tmp_path):
    """The same weights in the original, with a mask, a bias and rotary positions."""
    x = (SQUARE * SQUARE_MASK[..., None]).astype("float32")
    layer = GatedAttentionUnit(SIZE, KEY, normalization=normalization)
    bias = np.where(PAST, RNG.normal(size=(2, 5, 5)), -1e12).astype("float32")
    inputs = [x, bias, np.repeat(angles(5), 2, 0).astype("float32")]
    randomized(layer, inputs, a_bias=True, p_bias="rotary")
    case = dict(zip(("x", "seen", "p"), inputs, strict=True), normalization=normalization)
    for name in ("i_dense", "o_dense", "q_scaleoffset", "k_scaleoffset"):
        for i, weight in enumerate(getattr(layer, name).get_weights()):
            case[f"{name}/{i}"] = weight
    np.savez(tmp_path / "case.npz", **case)
    out = tmp_path / "out.npy"
    legacy = {"TF_KERAS": 1, "TF_USE_LEGACY_KERAS": 1}
    run_python(legacy_python, LEGACY_UNIT, tmp_path / "case.npz", out, **legacy)
    mask = ops.convert_to_tensor(SQUARE_MASK)
    result = layer(inputs, mask=[mask, None, None], a_bias=True, p_bias="rotary")
    check(np.asarray(result)[SQUARE_MASK], np.load(out)[SQUARE_MASK])
