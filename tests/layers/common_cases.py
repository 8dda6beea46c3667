"""The table of layers that pass the common test, and what is fed to them.

Run as a script, ``common_cases.py folder backend``, it loads every saved model of the folder with
nothing but ``import keras_extras`` and writes its outputs to ``folder/<backend>.npz``.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

import keras_extras
from keras_extras import layers as L

DIM, KEY, HEADS = 8, 4, 2

#: name of an input: its shape, with B for the batch and T for the length, and its kind
INPUTS = {
    "x": (("B", "T", DIM), "masked"),
    "y": (("B", "T", DIM), "masked"),
    "plain": (("B", "T", DIM), "normal"),
    "ids": (("B", "T"), "ids"),
    "segments": (("B", "T"), "segments"),
    "positions": (("B", "T"), "positions"),
    "condition": (("B", 5), "normal"),
    "visible": (("B", "T", "T"), "visible"),
    "past": (("T", "T"), "past"),
    "bias": (("B", HEADS, "T", "T"), "normal"),
    "angles": ((1, "T", KEY), "normal"),
    "relative": (("T", "T", KEY), "normal"),
    "relative_heads": (("T", "T", HEADS), "normal"),
    "channels_first": (("B", DIM, "T"), "normal"),
    "queries": (("B", "T", HEADS, KEY), "normal"),
}


@dataclass
class Case:
    """A layer, the names of its inputs and the arguments of its call.

    `mask` says what happens to the mask of the first input: "kept", "dropped", or "kept first" of
    two outputs. `private` layers hand padding on to visible positions of nothing.
    """

    layer: keras.layers.Layer
    inputs: str
    call: dict = field(default_factory=dict)
    mask: str = "kept"

    def arrays(self, batch, length, seed=0) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        sizes = {"B": batch, "T": length}
        return [
            self._array(rng, [sizes.get(n, n) for n in INPUTS[name][0]], INPUTS[name][1])
            for name in self.inputs.split()
        ]

    @staticmethod
    def _array(rng, shape, kind):
        if kind == "normal":
            return rng.normal(size=shape).astype("float32")
        if kind == "positions":
            return rng.integers(0, 20, shape).astype("int32")
        if kind == "past":
            return np.tri(shape[0], dtype="bool")
        visible = np.arange(shape[1])[None] < shape[1] - np.arange(shape[0])[:, None]
        if kind == "masked":
            return (rng.normal(size=shape) * visible[..., None]).astype("float32")
        if kind == "ids":
            return np.where(visible, rng.integers(1, 11, shape), 0).astype("int32")
        segments = np.arange(shape[1])[None] >= np.arange(1, shape[0] + 1)[:, None]
        if kind == "segments":
            return segments.astype("float32")
        order = segments.cumsum(1)
        return order[:, None] <= order[:, :, None]

    def symbolic(self) -> list:
        dtypes = {"ids": "int32", "positions": "int32", "visible": "bool", "past": "bool"}
        inputs = []
        for name in self.inputs.split():
            shape, kind = INPUTS[name]
            shape = [None if isinstance(n, str) else n for n in shape]
            inputs.append(keras.Input(batch_shape=shape, dtype=dtypes.get(kind, "float32")))
        return inputs

    def apply(self, layer, inputs):
        """The layer's outputs; inputs of kind "masked" carry a mask where they are zero."""
        kinds = [INPUTS[name][1] for name in self.inputs.split()]
        inputs = [
            keras.layers.Masking(dtype=layer.dtype_policy)(x) if kind == "masked" else x
            for x, kind in zip(inputs, kinds, strict=True)
        ]
        return layer(inputs if len(inputs) > 1 else inputs[0], **self.call)


LM = {"a_bias": True}
CASES = {
    "embedding": Case(L.Embedding(11, DIM, mask_zero=True), "ids"),
    "scale_offset": Case(L.ScaleOffset(), "x"),
    "scale_offset-constant": Case(L.ScaleOffset(scale=0.5, offset=False), "x"),
    "scale_offset-condition": Case(L.ScaleOffset(conditional=True), "x condition"),
    "layer_norm": Case(L.LayerNormalization(), "x"),
    "layer_norm-rms": Case(L.LayerNormalization(zero_mean=False, offset=False, epsilon=1e-6), "x"),
    "layer_norm-condition": Case(
        L.LayerNormalization(conditional=True, hidden_units=3, hidden_activation="tanh"),
        "x condition",
    ),
    "feed_forward": Case(L.FeedForward(6, "relu"), "x"),
    "feed_forward-gated": Case(L.FeedForward(6, ["gelu", "linear"], use_bias=False), "x"),
    "attention": Case(L.MultiHeadAttention(HEADS, KEY), "x x x"),
    "attention-cross": Case(L.MultiHeadAttention(HEADS, KEY, out_dim=6, key_size=5), "plain x x"),
    "attention-lm": Case(L.MultiHeadAttention(HEADS, KEY), "x x x past", LM),
    "attention-unilm": Case(L.MultiHeadAttention(HEADS, KEY), "x x x visible", LM),
    "attention-bias": Case(L.MultiHeadAttention(HEADS, KEY), "x x x bias", LM),
    "attention-rotary": Case(
        L.MultiHeadAttention(HEADS, KEY), "x x x angles", {"p_bias": "rotary"}
    ),
    "attention-typical": Case(
        L.MultiHeadAttention(HEADS, KEY), "x x x relative", {"p_bias": "typical_relative"}
    ),
    "attention-t5": Case(
        L.MultiHeadAttention(HEADS, KEY, use_bias=False, attention_scale=False),
        "x x x past relative_heads",
        {"a_bias": True, "p_bias": "t5_relative"},
    ),
    "attention-scores": Case(
        L.MultiHeadAttention(HEADS, KEY, return_attention_scores=True), "x x x", mask="kept first"
    ),
    "attention-squared_relu": Case(
        L.MultiHeadAttention(HEADS, KEY, normalization="squared_relu"), "x x x"
    ),
    "attention-softmax_plus": Case(
        L.MultiHeadAttention(
            HEADS, KEY, normalization="softmax_plus", attention_dropout=0.1, seed=1
        ),
        "x x x",
    ),
    "attention-rerope": Case(
        L.MultiHeadAttention(HEADS, KEY, position=L.LogNScaling(L.ReRoPE(2, 0.1), 3)), "x x x"
    ),
    "attention-kerple": Case(
        L.MultiHeadAttention(HEADS, KEY, position=L.KERPLE()), "x x x past", LM
    ),
    "local": Case(L.LocalAttention(HEADS, KEY, 4, position=L.RotaryPosition()), "x x x"),
    "local-causal": Case(L.LocalAttention(HEADS, KEY, 3, causal=True), "x x x"),
    "chunked": Case(L.ChunkedAttention(HEADS, KEY, position=L.KERPLE(), chunk_size=3), "x x x"),
    "chunked-online": Case(
        L.ChunkedAttention(HEADS, KEY, causal=True, chunk_size=3, key_chunk_size=2), "x x x"
    ),
    "linear-elu": Case(L.LinearAttention(HEADS, KEY, position=L.RotaryPosition()), "x x x"),
    "linear-softmax": Case(L.LinearAttention(HEADS, KEY, "softmax", causal=True), "x x x"),
    "linear-performer": Case(L.LinearAttention(HEADS, KEY, "performer", features=8), "x x x"),
    "linear-exp": Case(L.LinearAttention(HEADS, KEY, "exp", causal=True), "x x x"),
    "linear-cosine": Case(L.LinearAttention(HEADS, KEY, "cosine"), "x x x"),
    "rotary": Case(L.RotaryPosition(extension=4), "queries queries", mask="dropped"),
    "rerope": Case(L.ReRoPE(3, causal=True), "queries queries", mask="dropped"),
    "xpos": Case(L.XPos(), "queries queries", mask="dropped"),
    "alibi": Case(L.ALiBi(), "queries queries", mask="dropped"),
    "kerple-power": Case(L.KERPLE("power"), "queries queries", mask="dropped"),
    "sandwich": Case(L.Sandwich(6), "queries queries", mask="dropped"),
    "log_n": Case(L.LogNScaling(L.ALiBi(), 3), "queries queries", mask="dropped"),
    "gau-alibi": Case(L.GatedAttentionUnit(6, KEY, position=L.ALiBi()), "x"),
    "gau": Case(L.GatedAttentionUnit(6, KEY), "x"),
    "gau-lm-rotary": Case(
        L.GatedAttentionUnit(6, KEY, normalization="softmax_plus", use_bias=False),
        "x past angles",
        {"a_bias": True, "p_bias": "rotary"},
    ),
    "gau-cross": Case(L.GatedAttentionUnit(6, KEY, self_attention=False), "x x x"),
    "gau-cross-plain": Case(
        L.GatedAttentionUnit(6, KEY, self_attention=False), "plain x x", mask="dropped"
    ),
    "position-add": Case(L.PositionEmbedding(16, DIM), "x"),
    "position-mul": Case(L.PositionEmbedding(16, DIM, "mul"), "x"),
    "position-zero": Case(L.PositionEmbedding(16, DIM, "zero"), "x"),
    "position-concat": Case(L.PositionEmbedding(16, 3, "concat"), "x"),
    "position-ids": Case(L.PositionEmbedding(20, DIM, custom_position_ids=True), "x positions"),
    "position-hierarchical": Case(L.PositionEmbedding(4, DIM, hierarchical=True), "x"),
    "sinusoidal-add": Case(L.SinusoidalPositionEmbedding(DIM), "x"),
    "sinusoidal-concat": Case(L.SinusoidalPositionEmbedding(6, "concat"), "x"),
    "sinusoidal-ids": Case(
        L.SinusoidalPositionEmbedding(DIM, "zero", custom_position_ids=True), "x positions"
    ),
    "sinusoidal-trained": Case(
        L.SinusoidalPositionEmbedding(DIM, base=100, trainable_frequencies=True), "x"
    ),
    "relative": Case(L.RelativePositionEmbedding(5, KEY), "x x", mask="dropped"),
    "relative-t5": Case(L.RelativePositionEmbeddingT5(8, KEY, 16), "x x", mask="dropped"),
    "relative-t5-causal": Case(
        L.RelativePositionEmbeddingT5(8, KEY, bidirectional=False), "x x", mask="dropped"
    ),
    "low_rank": Case(L.LowRankDense(6, rank=2, alpha=4, dropout=0.1, activation="tanh"), "x"),
    "low_rank-additive": Case(L.LowRankDense(6, rank=2, mode="additive", use_bias=False), "x"),
    "low_rank_embedding": Case(L.LowRankEmbedding(11, DIM, rank=2, mask_zero=True), "ids"),
    "re_zero": Case(L.ReZero(), "x plain"),
    "sau": Case(L.SAU(0.1, 0.5), "x"),
    "add": Case(L.Add(), "x plain"),
    "concatenate": Case(L.Concatenate1D(), "x plain", mask="joined"),
    "batch_split": Case(L.BatchSplit(2), "x", mask="split"),
    "batch_concat": Case(L.BatchConcat(), "x y", mask="joined batch"),
    "average": Case(L.GlobalAveragePooling1D(), "x", mask="dropped"),
    "average-first": Case(L.GlobalAveragePooling1D("channels_first"), "channels_first"),
    "max": Case(L.GlobalMaxPooling1D(), "x", mask="dropped"),
    "first_token": Case(L.FirstToken(), "x", mask="dropped"),
    "lm_mask": Case(L.LanguageModelMask(), "ids", mask="dropped"),
    "unilm_mask": Case(L.UnifiedLanguageModelMask(), "segments", mask="dropped"),
    "crf": Case(L.ConditionalRandomField(lr_multiplier=10), "x", mask="dropped"),
    "memm": Case(L.MaximumEntropyMarkovModel(hidden_dim=3), "x", mask="dropped"),
    "pointer": Case(L.GlobalPointer(HEADS, KEY), "x", mask="dropped"),
    "pointer-efficient": Case(L.EfficientGlobalPointer(HEADS, KEY), "x", mask="dropped"),
}


def as_arrays(outputs) -> list[np.ndarray]:
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    return [keras.ops.convert_to_numpy(keras.ops.cast(x, "float32")) for x in outputs]


def main(folder, backend):
    assert keras.backend.backend() == backend and keras_extras
    results = {}
    for name, case in CASES.items():
        model = keras.models.load_model(Path(folder) / f"{name}.keras")
        for size in [(2, 5), (4, 7)]:
            arrays = case.arrays(*size)
            outputs = model.predict_on_batch(arrays)
            for i, output in enumerate(as_arrays(outputs)):
                results[f"{name}|{size[0]}|{i}"] = output
    np.savez(Path(folder) / f"{backend}.npz", **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
