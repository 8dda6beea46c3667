"""Exact softmax attention in memory that grows linearly with the length."""

from __future__ import annotations

import keras
from keras import ops

from keras_extras.layers.attention_position import distances
from keras_extras.layers.long_attention import LongAttention, blocks, smaller
from keras_extras.ops import apply_rotary_position_embeddings, sequence_masking


@keras.saving.register_keras_serializable(package="keras_extras")
class ChunkedAttention(LongAttention):
    """Multi-head attention that is exact and holds the scores of `chunk_size` queries at a time.

    TensorFlow has no fused attention, and scores of all pairs grow with the square of the length.
    Here the queries go in chunks, one after the other, each against all keys, and the backward
    pass computes the scores of a chunk again instead of keeping them (arXiv:2112.05682). A
    chunk's rows are whole, so their softmax is the ordinary one. Memory, of training as well,
    grows as ``batch × heads × chunk_size × length``; time as the square, as always.

    Args:
        heads, head_size, and all others: as in `MultiHeadAttention`; `normalization` must be
            ``"softmax"``.
        causal: position i sees the positions up to i only.
        chunk_size: queries at a time; 128 by default. More take more memory and are hardly
            faster.

    Raises:
        ValueError: `chunk_size` is less than 1; another `normalization`; `attention_dropout` or
            `return_attention_scores` is on; at a call with `a_bias` or a matrix of relative
            positions.

    >>> x = keras.ops.ones((2, 5, 8))
    >>> tuple(ChunkedAttention(2, 4, chunk_size=2)([x, x, x]).shape)
    (2, 5, 8)
    """

    def __init__(
        self, heads: int, head_size: int, causal: bool = False, chunk_size: int = 128, **kwargs
    ):
        super().__init__(heads, head_size, causal, **kwargs)
        if chunk_size < 1:
            raise ValueError(f"chunk_size={chunk_size}: at least one query goes at a time.")
        if self.normalization != "softmax":
            raise ValueError(
                f"ChunkedAttention is softmax attention: normalization={self.normalization!r} "
                "needs MultiHeadAttention or LocalAttention."
            )
        self.chunk_size = chunk_size

    def attend(self, q, k, v, shown, sinusoidal, training):
        if sinusoidal is not None:
            q, k = apply_rotary_position_embeddings(sinusoidal, q, k)
        length = ops.shape(q)[1]
        size = smaller(self.chunk_size, length)
        count = (length + size - 1) // size
        chunks = ops.moveaxis(blocks(self.scaled(q), size, count), 1, 0)
        # what is recomputed on TensorFlow must be of floats alone
        ids = ops.cast(ops.arange(count * size, dtype="int32"), "float32")
        ids = ops.reshape(ids, (count, size))
        if shown is None:
            shown = ops.ones((1, ops.shape(k)[1]), dtype="bool")
        shown = ops.cast(shown, "float32")
        # and a weight that is read inside would be unknown to the gradient of TensorFlow's loop
        state = [] if self.position is None else self.position.variables
        values = [ops.convert_to_tensor(weight) for weight in state]

        def rows(q, q_ids, k, v, shown, *values):
            with keras.StatelessScope(list(zip(state, values, strict=True))):
                return self._rows(q, q_ids, k, v, shown)

        rows = keras.remat(rows)
        o = ops.map(lambda chunk: rows(*chunk, k, v, shown, *values), (chunks, ids))
        o = ops.reshape(ops.moveaxis(o, 0, 1), (-1, count * size, self.heads, self.head_size))
        return o[:, :length]

    def _rows(self, q, q_ids, k, v, shown):
        """Attention of one chunk of queries to all keys."""
        q_ids = ops.cast(q_ids, "int32")
        k_ids = ops.arange(ops.shape(k)[1], dtype="int32")
        past = distances(q_ids, k_ids) >= 0 if self.causal else None
        a = self.scores(q, k, q_ids, k_ids)
        weights = ops.softmax(sequence_masking(a, shown, "-inf", 3, past), axis=-1)
        return ops.einsum("bhqk,bkhd->bqhd", weights, v)

    def get_config(self):
        return {**super().get_config(), "chunk_size": self.chunk_size}
