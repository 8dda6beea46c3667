"""Positions inside attention, by float64 NumPy, by their identities and by other libraries."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from keras.backend import standardize_dtype

from keras_extras.layers import (
    KERPLE,
    ALiBi,
    GatedAttentionUnit,
    LogNScaling,
    MultiHeadAttention,
    ReRoPE,
    RotaryPosition,
    Sandwich,
    XPos,
)

HEADS, SIZE = 3, 8
RNG = np.random.default_rng(0)
Q, K = RNG.normal(size=(2, 11, HEADS, SIZE)), RNG.normal(size=(2, 13, HEADS, SIZE))
THETA = 10000.0 ** (-np.arange(SIZE // 2) / (SIZE // 2))
DISTANCE = np.arange(11)[:, None] - np.arange(13)
PLAIN = np.einsum("bqhd,bkhd->bhqk", Q, K)


def pairs(x):
    return x[..., ::2] + 1j * x[..., 1::2]


def turned_products(distance, theta=THETA, factors=1.0):
    """Σ Re(q·conj(k)·factor·e^(i·distance·θ)): rotation as multiplication of complex numbers."""
    products = np.einsum("bqhd,bkhd->bhqkd", pairs(Q), pairs(K).conj())
    return (products * factors * np.exp(1j * distance[..., None] * theta)).real.sum(-1)


def check(actual, golden, tolerance=1e-5):
    np.testing.assert_allclose(actual, golden, rtol=tolerance, atol=tolerance)


def test_rotary():
    check(RotaryPosition()([Q, K]), turned_products(DISTANCE))
    ids = np.array([[5], [9]]) + 2 * np.arange(11)
    distance = ids[..., None] - np.arange(13)
    check(RotaryPosition()([Q, K], query_ids=ids), turned_products(distance[:, None]))
    slower = 500.0 ** (-np.arange(SIZE // 2) / (SIZE // 2))
    check(RotaryPosition(base=500)([Q, K]), turned_products(DISTANCE, slower))
    with pytest.raises(ValueError, match="odd"):
        RotaryPosition()([Q[..., :5], K[..., :5]])


def test_ntk_mixed():
    """The author's lines: a = ln k/(d/2)^b, θ_i·exp(−a·i^b) with i = 1 … d/2."""
    i = np.arange(1, SIZE // 2 + 1)
    for k, b in ((12, 0.75), (8, 0.625), (4, 1)):
        theta = THETA * np.exp(-np.log(k) / (SIZE / 2) ** b * i**b)
        position = RotaryPosition(extension=k, mixing=b)
        np.testing.assert_allclose(position.frequencies(SIZE), theta, rtol=1e-12)
        assert theta[-1] == pytest.approx(THETA[-1] / k, rel=1e-12)
        check(position([Q, K]), turned_products(DISTANCE, theta))
    # b = 1 is NTK-RoPE-fixed: the base times κ^(2/d) for each further component
    fixed = RotaryPosition(extension=4, mixing=1).frequencies(SIZE)
    np.testing.assert_allclose(fixed, THETA / (4 ** (2 / SIZE)) ** i, rtol=1e-12)
    np.testing.assert_array_equal(RotaryPosition().frequencies(SIZE), THETA)
    with pytest.raises(ValueError, match="0.5"):
        RotaryPosition(extension=0.5)


@pytest.mark.parametrize("step", [0.0, 0.25, 1.0])
def test_rerope(step):
    window = 4
    beyond = np.sign(DISTANCE) * (window + (np.abs(DISTANCE) - window) * step)
    bounded = np.where(np.abs(DISTANCE) < window, DISTANCE, beyond)
    golden = turned_products(bounded)
    check(ReRoPE(window, step)([Q, K]), golden)
    past = np.broadcast_to(DISTANCE >= 0, golden.shape)
    check(np.asarray(ReRoPE(window, step, causal=True)([Q, K]))[past], golden[past])
    if step == 1:
        check(golden, turned_products(DISTANCE))
    check(ReRoPE(100)([Q, K]), turned_products(DISTANCE))


def test_xpos():
    """q·R·k·ξ^(m−n), with a rate for every pair (the paper) or one for all (the article)."""
    rates = (2 * np.arange(SIZE // 2) / SIZE + 0.4) / 1.4
    check(XPos()([Q, K]), turned_products(DISTANCE, THETA, rates ** (DISTANCE[..., None] / 512)))
    check(XPos(decay=0.9)([Q, K]), turned_products(DISTANCE) * 0.9**DISTANCE, 1e-4)
    first = [x[:1, :1] for x in (Q, K)]
    far = XPos()(first, query_ids=np.array([90000]), key_ids=np.array([89990]))
    check(far, XPos()(first, query_ids=np.array([10]), key_ids=np.array([0])), 1e-2)
    q, k = np.ones((1, 20000, 1, 8)), np.ones((1, 3, 1, 8))
    assert np.isfinite(XPos()([q, k], key_ids=np.array([0, 10000, 20000]))).all()


def test_alibi():
    np.testing.assert_array_equal(ALiBi.slopes(8), 0.5 ** np.arange(1, 9))
    slopes = np.array([2**-4, 2**-8, 2**-2])  # those of 2 heads, then every second of 4
    np.testing.assert_array_equal(ALiBi.slopes(3), slopes)
    check(ALiBi()([Q, K]), PLAIN - slopes[:, None, None] * np.abs(DISTANCE))


def softmax(a):
    e = np.exp(a - a.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_steep_slopes_attend_to_oneself():
    position = KERPLE("power")
    position.build([Q.shape, Q.shape])
    position.r1.assign([1e4] * HEADS)
    position.r2.assign([1.0] * HEADS)
    weights = softmax(np.asarray(position([Q, Q])))
    check(weights, np.broadcast_to(np.eye(11), weights.shape))


def test_kerple():
    r1, r2 = np.array([0.3, 1.0, 2.0]), np.array([0.5, 1.0, 1.7])
    r = r1[:, None, None], r2[:, None, None]
    biases = {"log": -r[0] * np.log(1 + r[1] * np.abs(DISTANCE))}
    biases["power"] = -r[0] * np.abs(DISTANCE) ** r[1]
    for kind, bias in biases.items():
        position = KERPLE(kind)
        position.build([Q.shape, K.shape])
        position.r1.assign(r1)
        position.r2.assign(r2)
        check(position([Q, K]), PLAIN + bias)
    slopes = ALiBi.slopes(8)[:HEADS]  # with r2 = 1 the power is ALiBi
    position.r1.assign(slopes)
    position.r2.assign(np.ones(HEADS))
    check(position([Q, K]), PLAIN - slopes[:, None, None] * np.abs(DISTANCE))
    position.r1.assign(-np.ones(HEADS))  # an optimizer went too far
    position.r2.assign(9 * np.ones(HEADS))
    check(position([Q, K]), PLAIN - 0.01 * DISTANCE**2)
    with tf.GradientTape() as tape:
        loss = ops.sum(position([Q, K]) ** 2)
    assert all(np.all(g != 0) for g in tape.gradient(loss, position.trainable_weights))
    with pytest.raises(ValueError, match="'exp'"):
        KERPLE("exp")


def test_sandwich():
    """The same as sinusoidal vectors appended to queries and keys, but for a constant."""
    angles = np.arange(13)[:, None] * 10000 ** (-np.arange(8) / 8)
    p = np.concatenate([np.sin(angles), np.cos(angles)], -1)
    longer = [
        np.concatenate([x, np.broadcast_to(0.7**0.5 * p[:n, None], (2, n, HEADS, 16))], -1)
        for x, n in ((Q, 11), (K, 13))
    ]
    appended = np.einsum("bqhd,bkhd->bhqk", *longer)
    check(Sandwich(16, scale=0.7)([Q, K]), appended - 0.7 * 8)
    # the paper: each head has its own factor H/(8h)
    scales = np.array([3 / 8, 3 / 16, 3 / 24])[:, None, None]
    check(Sandwich(16)([Q, K]), PLAIN + scales * (p[:11] @ p.T - 8))


def test_log_n():
    factor = np.maximum(1, np.log(np.arange(11) + 1) / np.log(4))[:, None]
    assert factor[3] == 1 and factor[7] == 1.5
    check(LogNScaling(train_length=4)([Q, K]), PLAIN * factor)
    turned = LogNScaling(RotaryPosition(), train_length=4)
    check(turned([Q, K]), turned_products(DISTANCE) * factor)
    with pytest.raises(ValueError, match="RotaryPosition"):
        LogNScaling("rotary")


POSITIONS = {
    "rotary": RotaryPosition,
    "rerope": lambda: ReRoPE(4, 0.3),
    "xpos": XPos,
    "alibi": ALiBi,
    "kerple": KERPLE,
    "sandwich": lambda: Sandwich(8),
    "log-n": lambda: LogNScaling(ReRoPE(4), 4),
}


@pytest.mark.parametrize("name", POSITIONS)
def test_any_piece_can_be_scored_alone(name):
    """Blocks on an axis before the heads, with the ids of their positions, as in `scores`."""
    position = POSITIONS[name]()
    whole = np.asarray(position([Q, K]))
    q, k = Q[:, :10].reshape(2, 2, 5, HEADS, SIZE), K[:, 2:12].reshape(2, 2, 5, HEADS, SIZE)
    ids = np.arange(10).reshape(2, 5)
    blocks = np.asarray(position([q, k], query_ids=ids, key_ids=ids + 2))
    assert blocks.shape == (2, 2, HEADS, 5, 5)
    check(blocks[:, 0], whole[..., :5, 2:7], 1e-4)
    check(blocks[:, 1], whole[..., 5:10, 7:12], 1e-4)


def test_attention_takes_positions():
    """position=RotaryPosition() is bert4keras' p_bias='rotary'; others change the scores."""
    x = RNG.normal(size=(2, 7, 6)).astype("float32")
    angles = np.arange(7)[:, None] * THETA
    angles = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(1, 7, SIZE)
    plain = MultiHeadAttention(HEADS, 4, key_size=SIZE)
    golden = plain([x, x, x, angles], p_bias="rotary")
    layer = MultiHeadAttention(HEADS, 4, key_size=SIZE, position=RotaryPosition())
    layer([x, x, x])
    layer.set_weights(plain.get_weights())
    check(layer([x, x, x]), golden)
    unit = GatedAttentionUnit(5, SIZE)
    golden = unit([x, angles], p_bias="rotary")
    layer = GatedAttentionUnit(5, SIZE, position=RotaryPosition())
    layer(x)
    layer.set_weights(unit.get_weights())
    check(layer(x), golden)
    with pytest.raises(ValueError, match="AttentionPosition"):
        MultiHeadAttention(HEADS, 4, position="rotary")


PEERS = """
import json, sys
import torch
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.roformer.modeling_roformer import (
    RoFormerSelfAttention, RoFormerSinusoidalPositionalEmbedding)

q, k = (torch.tensor(x).transpose(1, 2) for x in json.loads(sys.argv[1]))
table = RoFormerSinusoidalPositionalEmbedding(16, q.shape[-1])
table.weight = torch.nn.Parameter(table.create_weight()) if hasattr(table, "create_weight") \
    else table._init_weight(table.weight)
angles = table(torch.Size([2, q.shape[2]]))[None, None]
turn = RoFormerSelfAttention.apply_rotary_position_embeddings
q, k = turn(angles.double(), q.double(), k.double())
slopes = {}
for heads in (8, 12, 3):
    alibi = build_alibi_tensor(torch.ones(1, 2), heads, torch.float32)
    slopes[heads] = alibi[:, 0, 1].tolist()
print(json.dumps([(q @ k.transpose(-1, -2)).tolist(), slopes]))
"""


def test_transformers(torch_python, run_python):
    """Rotary scores of RoFormer and slopes of BLOOM, in transformers itself."""
    keys = K[:, :11]
    arrays = json.dumps([Q.tolist(), keys.tolist()])
    printed = run_python(torch_python, PEERS, arrays, TRANSFORMERS_VERBOSITY="error")
    scores, slopes = json.loads(printed.strip().splitlines()[-1])
    check(RotaryPosition()([Q, keys]), scores)
    for heads, values in slopes.items():
        check(ALiBi.slopes(int(heads)), values, 1e-6)


KERAS_HUB = """
import json, sys
import numpy as np
from keras_hub.layers import RotaryEmbedding

turned = [RotaryEmbedding()(np.array(x, "float32")) for x in json.loads(sys.argv[1])]
print(json.dumps([x.tolist() for x in turned]))
"""


def test_keras_hub(torch_python, run_python):
    """keras-hub turns component i with i + d/2 instead of its neighbour: the same in its order."""
    theirs = [np.concatenate([x[..., ::2], x[..., 1::2]], -1).tolist() for x in (Q, K)]
    printed = run_python(torch_python, KERAS_HUB, json.dumps(theirs), KERAS_BACKEND="torch")
    q, k = map(np.array, json.loads(printed.strip().splitlines()[-1]))
    check(RotaryPosition()([Q, K]), np.einsum("bqhd,bkhd->bhqk", q, k))


def test_ops_are_not_rounded():
    """Positions and biases are computed in float32 when numbers are half as precise."""
    half = ops.cast(Q, "float16")
    scores = ALiBi(dtype="mixed_float16")([half, half])
    assert standardize_dtype(scores.dtype) == "float16"
    ids = np.arange(11) + 5000
    turned = RotaryPosition(dtype="mixed_float16")([half, half], query_ids=ids, key_ids=ids)
    check(turned, RotaryPosition()([Q, Q]), 0.03)
