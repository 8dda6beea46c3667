"""Local and chunked attention: the same as full attention with a mask, and cheaper."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_extras.bert4keras import build_transformer_model
from keras_extras.layers import (
    KERPLE,
    ALiBi,
    ChunkedAttention,
    LocalAttention,
    LogNScaling,
    MultiHeadAttention,
    ReRoPE,
    RotaryPosition,
    Sandwich,
    XPos,
)

HEADS, SIZE, DIM = 2, 4, 6
RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 23, DIM)).astype("float32")
POSITIONS = {
    "none": lambda: None,
    "rotary": RotaryPosition,
    "rerope": lambda: ReRoPE(3, 0.2),
    "alibi": ALiBi,
    "kerple": KERPLE,
    "xpos": XPos,
    "sandwich": lambda: Sandwich(6),
    "log-n": lambda: LogNScaling(RotaryPosition(), 4),
}


def twins(cls, position=None, full=None, **options):
    """Full attention and `cls` with the same random weights."""
    full = MultiHeadAttention(HEADS, SIZE, position=position, **(full or {}))
    layer = cls(HEADS, SIZE, position=position, **options)
    for each in (full, layer):
        each([X, X, X])
    full.set_weights([RNG.normal(0, 0.5, w.shape) for w in full.weights])
    layer.set_weights(full.get_weights())
    return full, layer


def masks(length):
    visible = np.arange(length)[None] < np.array([[length], [max(length - 6, 1)]])
    return visible, [ops.convert_to_tensor(visible)] * 3


def window_mask(length, window, causal):
    """The definition of the window, pair by pair."""
    i, j = np.arange(length)[:, None], np.arange(length)[None]
    if causal:
        return (j <= i) & (j > i - window)
    return (j >= i - window // 2) & (j < i - window // 2 + window)


def check(actual, golden, rows=None):
    actual, golden = np.asarray(actual), np.asarray(golden)
    if rows is not None:
        actual, golden = actual[rows], golden[rows]
    np.testing.assert_allclose(actual, golden, rtol=1e-4, atol=1e-5)


def test_window_by_hand():
    """The article's row sums for 7 positions and a causal window of 3."""
    assert window_mask(7, 3, True).sum(1).tolist() == [1, 2, 3, 3, 3, 3, 3]
    assert window_mask(7, 3, False).sum(1).tolist() == [2, 3, 3, 3, 3, 3, 2]
    value = np.eye(7, dtype="float32")[None]  # equal scores: the output counts what is seen
    for causal in (True, False):
        layer = LocalAttention(1, 7, 3, causal)
        o = layer.attend(*[x[:, :, None] for x in (0 * value, value, value)], None, None, None)
        seen = window_mask(7, 3, causal)
        check(o[0, :, 0], seen / seen.sum(1, keepdims=True))


@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
@pytest.mark.parametrize("window", [1, 2, 5, 8, 23, 40])
def test_local_is_full_with_a_window(window, causal):
    full, local = twins(LocalAttention, window=window, causal=causal)
    seen = window_mask(23, window, causal)
    golden = full([X, X, X, seen], a_bias=True)
    check(local([X, X, X]), golden)
    visible, mask = masks(23)
    golden = full([X, X, X, seen], mask=[*mask, None], a_bias=True)
    # a position that sees only padding has no right answer, but a finite one
    some = (seen & visible[:, None]).any(-1)
    check(local([X, X, X], mask=mask), golden, some)
    assert np.isfinite(local([X, X, X], mask=mask)).all()


def test_causal_local_within_the_window_is_full():
    full, local = twins(LocalAttention, RotaryPosition(), window=23, causal=True)
    golden = full([X, X, X, np.tri(23, dtype=bool)], a_bias=True)
    check(local([X, X, X]), golden)


@pytest.mark.parametrize("name", POSITIONS)
def test_local_takes_every_position(name):
    full, local = twins(LocalAttention, POSITIONS[name](), window=6, causal=True)
    check(local([X, X, X]), full([X, X, X, window_mask(23, 6, True)], a_bias=True))
    full, local = twins(LocalAttention, POSITIONS[name](), window=6)
    check(local([X, X, X]), full([X, X, X, window_mask(23, 6, False)], a_bias=True))


@pytest.mark.parametrize("method", ["softmax_plus", "squared_relu"])
def test_local_normalizations(method):
    normalization = {"normalization": method}
    full, local = twins(LocalAttention, None, normalization, window=6, **normalization)
    check(local([X, X, X]), full([X, X, X, window_mask(23, 6, False)], a_bias=True))
    _, mask = masks(23)
    assert np.isfinite(local([X, X, X], mask=mask)).all()


def test_rotary_vectors_of_bert4keras():
    angles = np.arange(23)[:, None] * 10000 ** (-np.arange(2) / 2)
    angles = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(1, 23, SIZE)
    full, local = twins(LocalAttention, window=6, causal=True)
    golden = full([X, X, X, window_mask(23, 6, True), angles], a_bias=True, p_bias="rotary")
    check(local([X, X, X, angles], p_bias="rotary"), golden)
    full, chunked = twins(ChunkedAttention, chunk_size=7)
    golden = full([X, X, X, angles], p_bias="rotary")
    check(chunked([X, X, X, angles], p_bias="rotary"), golden)


@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
@pytest.mark.parametrize(
    ("size", "key_size"), [(4, None), (23, None), (100, None), (4, 5), (9, 23), (100, 100)]
)
def test_chunked_is_full(size, key_size, causal):
    sizes = {"chunk_size": size, "key_chunk_size": key_size}
    full, chunked = twins(ChunkedAttention, causal=causal, **sizes)
    past = np.tri(23, dtype=bool) if causal else np.ones((23, 23), bool)
    check(chunked([X, X, X]), full([X, X, X, past], a_bias=True))
    _, mask = masks(23)
    golden = full([X, X, X, past], mask=[*mask, None], a_bias=True)
    check(chunked([X, X, X], mask=mask), golden)


@pytest.mark.parametrize("name", POSITIONS)
def test_chunked_takes_every_position(name):
    for key_size in (None, 6):
        sizes = {"chunk_size": 7, "key_chunk_size": key_size}
        full, chunked = twins(ChunkedAttention, POSITIONS[name](), **sizes)
        check(chunked([X, X, X]), full([X, X, X]))


@pytest.mark.parametrize("key_size", [None, 6])
def test_chunked_cross_attention_and_large_scores(key_size):
    full, chunked = twins(ChunkedAttention, chunk_size=5, key_chunk_size=key_size)
    q = X[:, :9]
    check(chunked([q, X, X]), full([q, X, X]))
    check(chunked([90 * q, X, X]), full([90 * q, X, X]))


def test_online_in_half_precision():
    """Equal weights of values of 2,000: the plain sum of a chunk's 64 is too large for float16."""
    x = np.full((1, 128, 4), 2000, "float16")
    layer = ChunkedAttention(1, 4, chunk_size=128, key_chunk_size=64, dtype="float16")
    layer([x[:, :2]] * 3)
    eye, nothing, bias = np.eye(4), np.zeros((4, 4)), np.zeros(4)
    layer.set_weights([nothing, bias, nothing, bias, eye, bias, eye, bias])
    np.testing.assert_allclose(layer([x, x, x]), 2000, rtol=1e-2)


def test_a_causal_language_model_changes_over():
    """Of the bridge, whose attention is handed its causal mask as a bias."""
    sizes = {
        "hidden_size": 8,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "hidden_act": "gelu",
    }
    model = build_transformer_model(
        model="roformer", application="lm", vocab_size=20, num_hidden_layers=1, **sizes
    )

    def local(layer):
        if type(layer) is MultiHeadAttention:
            config = {**layer.get_config(), "window": window, "causal": True}
            return LocalAttention.from_config({**config, "attention_dropout": 0.0})
        return layer.__class__.from_config(layer.get_config())

    model.set_weights([RNG.normal(0, 0.5, w.shape) for w in model.get_weights()])
    ids = RNG.integers(0, 20, (2, 11))
    golden = model([ids, 0 * ids])
    for window in (11, 3):
        copy = keras.models.clone_model(model, clone_function=local)
        copy.set_weights(model.get_weights())
        same = np.abs(np.array(copy([ids, 0 * ids]) - golden)).max(axis=(0, 2)) < 1e-5
        assert same[:3].all() and same.all() == (window == 11)


def test_a_trained_model_changes_over():
    """The docstring's recipe: a copy of a model whose attention is local, with its weights."""
    x = keras.Input((None, DIM))
    y = MultiHeadAttention(HEADS, SIZE, position=RotaryPosition())([x, x, x])
    model = keras.Model(x, keras.layers.Dense(3)(y))

    def local(layer):
        if type(layer) is MultiHeadAttention:
            return LocalAttention.from_config({**layer.get_config(), "window": 46})
        return layer.__class__.from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=local)
    copy.set_weights(model.get_weights())
    check(copy(X), model(X))


@pytest.mark.parametrize(
    "backend", ["tensorflow", pytest.param("jax", marks=pytest.mark.slow), "torch"]
)
def test_gradients(backend, request, run_python):
    """Those of full attention: of a graph of any length, and compiled by XLA or JAX."""
    fixture = {"tensorflow": "legacy_python"}.get(backend, f"{backend}_python")
    script = Path(__file__).with_name("long_gradients.py")
    printed = run_python(request.getfixturevalue(fixture), script, KERAS_BACKEND=backend)
    for name, difference in json.loads(printed.strip().splitlines()[-1]).items():
        assert difference < 1e-4, name


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="window of 0"):
        LocalAttention(HEADS, SIZE, window=0)
    with pytest.raises(ValueError, match="causal=True"):
        LocalAttention(HEADS, SIZE, 3)([X, X, X, np.tri(23, dtype=bool)], a_bias=True)
    with pytest.raises(ValueError, match="LocalAttention is self-.* 9 queries and 23 keys"):
        LocalAttention(HEADS, SIZE, 3)([X[:, :9], X, X])
    with pytest.raises(ValueError, match="attention_dropout"):
        ChunkedAttention(HEADS, SIZE, attention_dropout=0.1)
    with pytest.raises(ValueError, match="softmax_plus"):
        ChunkedAttention(HEADS, SIZE, normalization="softmax_plus")
    with pytest.raises(ValueError, match="chunk_size=0"):
        ChunkedAttention(HEADS, SIZE, chunk_size=0)
    with pytest.raises(ValueError, match="key_chunk_size=0"):
        ChunkedAttention(HEADS, SIZE, key_chunk_size=0)
