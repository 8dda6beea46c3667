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
    pass computes the scores of a chunk again instead of keeping them (arXiv:2112.05682). Memory,
    of training as well, grows as ``batch × heads × chunk_size × length``; time as the square, as
    always.

    A chunk's rows are whole, so their softmax is the ordinary one. With `key_chunk_size` the keys
    go in chunks as well, and the softmax is normalised online (arXiv:1805.02867): of each chunk c
    remain, row by row,

        m_c = max_j s_j,   z_c = Σ_j exp(s_j − m_c),   o_c = Σ_j exp(s_j − m_c) v_j

    and ``o = Σ_c exp(m_c − m) o_c / Σ_c exp(m_c − m) z_c`` with ``m = max_c m_c``; o_c / z_c, which
    is no larger than the values, is what is kept in half precision. Then no more
    than a tile of the scores is held forwards, for large `chunk_size`; on a CPU it is slower.

    Args:
        heads, head_size, and all others: as in `MultiHeadAttention`; `normalization` must be
            ``"softmax"``.
        causal: position i sees the positions up to i only.
        chunk_size: queries at a time; 128 by default. More take more memory and are hardly
            faster with whole rows.
        key_chunk_size: keys at a time; None, the default, takes all.

    Raises:
        ValueError: a chunk is smaller than 1; another `normalization`; `attention_dropout` or
            `return_attention_scores` is on; at a call with `a_bias` or a matrix of relative
            positions.

    >>> x = keras.ops.ones((2, 5, 8))
    >>> tuple(ChunkedAttention(2, 4, chunk_size=2)([x, x, x]).shape)
    (2, 5, 8)
    """

    def __init__(
        self,
        heads: int,
        head_size: int,
        causal: bool = False,
        chunk_size: int = 128,
        key_chunk_size: int | None = None,
        **kwargs,
    ):
        super().__init__(heads, head_size, causal, **kwargs)
        if chunk_size < 1:
            raise ValueError(f"chunk_size={chunk_size}: at least one query goes at a time.")
        if key_chunk_size is not None and key_chunk_size < 1:
            raise ValueError(f"key_chunk_size={key_chunk_size}: at least one key goes at a time.")
        if self.normalization != "softmax":
            raise ValueError(
                f"ChunkedAttention is softmax attention: normalization={self.normalization!r} "
                "needs MultiHeadAttention or LocalAttention."
            )
        self.chunk_size = chunk_size
        self.key_chunk_size = key_chunk_size

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
        if self.key_chunk_size is not None:
            return self._online(q, q_ids, k, k_ids, v, shown)
        weights = ops.softmax(self._masked_scores(q, q_ids, k, k_ids, shown), axis=-1)
        return ops.einsum("bhqk,bkhd->bqhd", weights, v)

    def _masked_scores(self, q, q_ids, k, k_ids, shown):
        past = distances(q_ids, k_ids) >= 0 if self.causal else None
        return sequence_masking(self.scores(q, k, q_ids, k_ids), shown, "-inf", 3, past)

    def _online(self, q, q_ids, k, k_ids, v, shown):
        """The same, a chunk of keys at a time."""
        size = smaller(self.key_chunk_size, ops.shape(k)[1])
        count = (ops.shape(k)[1] + size - 1) // size
        there = ops.ones_like(k[:, :, 0, 0], dtype="float32")  # but 0 where a chunk is filled up
        shown = there * shown

        def sums(chunk):
            k, k_ids, v, shown, there = chunk
            a = ops.cast(self._masked_scores(q, q_ids, k, k_ids[0], shown), "float32")
            greatest = ops.stop_gradient(ops.max(a, axis=-1))
            weights = ops.exp(a - ops.expand_dims(greatest, -1))
            total = ops.einsum("bhqk,bk->bhq", weights, there)
            weights = ops.cast(weights / ops.expand_dims(total, -1), v.dtype)
            return greatest, total, ops.einsum("bhqk,bkhd->bhqd", weights, v)

        keys = (k, ops.expand_dims(k_ids, 0), v, shown, there)
        chunks = tuple(ops.moveaxis(blocks(x, size, count), 1, 0) for x in keys)
        greatest, total, o = ops.map(sums, chunks)
        total = total * ops.exp(greatest - ops.max(greatest, axis=0))
        weights = ops.cast(total / ops.sum(total, axis=0), o.dtype)
        return ops.einsum("cbhqd,cbhq->bqhd", o, weights)

    def get_config(self):
        return {
            **super().get_config(),
            "chunk_size": self.chunk_size,
            "key_chunk_size": self.key_chunk_size,
        }
