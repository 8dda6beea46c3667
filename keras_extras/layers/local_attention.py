"""Attention in a window around each position."""

from __future__ import annotations

import keras
from keras import ops

from keras_extras.layers.attention_position import distances
from keras_extras.layers.long_attention import LongAttention, blocks, smaller
from keras_extras.ops import apply_rotary_position_embeddings, attention_normalize


@keras.saving.register_keras_serializable(package="keras_extras")
class LocalAttention(LongAttention):
    """Multi-head attention that sees `window` positions, in blocks (kexue.fm/archives/9431).

    The article's strong baseline of length extrapolation: train with relative positions (RoPE,
    …) and full attention at some length, then attend within a window of that length, without any
    training. Position i sees

        ``i − window < j ≤ i``                              if causal,
        ``i − window//2 ≤ j < i − window//2 + window``      otherwise.

    Causal attention to at most `window` positions is full attention. Time and memory grow
    as length × window: the sequence is cut into blocks of the window (half of it, if not causal),
    and each is scored against itself and its neighbours alone.

    Args:
        heads, head_size, and all others: as in `MultiHeadAttention`.
        window: number of positions that are seen.
        causal: see above.

    Raises:
        ValueError: at a call with `a_bias` or a matrix of relative positions.

    A trained model changes over by a copy whose attention is local and has the same weights::

        def local(layer):
            if type(layer) is MultiHeadAttention:
                return LocalAttention.from_config({**layer.get_config(), "window": 512})
            return layer.__class__.from_config(layer.get_config())

        long_model = keras.models.clone_model(model, clone_function=local)
        long_model.set_weights(model.get_weights())

    >>> x = keras.ops.ones((2, 5, 8))
    >>> tuple(LocalAttention(2, 4, window=3)([x, x, x]).shape)
    (2, 5, 8)
    """

    can_drop = True

    def __init__(self, heads: int, head_size: int, window: int, causal: bool = False, **kwargs):
        super().__init__(heads, head_size, causal, **kwargs)
        if window < 1:
            raise ValueError(f"A window of {window} positions sees nothing: use 1 or more.")
        self.window = window

    def attend(self, q, k, v, shown, sinusoidal, training):
        if sinusoidal is not None:
            q, k = apply_rotary_position_embeddings(sinusoidal, q, k)
        length = ops.shape(q)[1]
        size = smaller(self.window if self.causal else max(self.window // 2, 1), length)
        count = (length + size - 1) // size
        around = lambda x: self._with_neighbours(blocks(x, size, count))  # noqa: E731

        q_ids = ops.reshape(ops.arange(count * size, dtype="int32"), (count, size))
        k_ids = q_ids[:, :1] - size + ops.arange((2 if self.causal else 3) * size, dtype="int32")
        before, after = (self.window - 1, 0) if self.causal else self._sides()
        distance = distances(q_ids, k_ids)
        visible = ops.logical_and(distance <= before, distance >= -after)
        if shown is None:
            visible = visible & ((k_ids >= 0) & (k_ids < length))[:, None]
            visible = visible[None]
        else:
            visible = visible & around(shown)[:, :, None]
        # what sees nothing is padding; there, seeing everything is as good, and has a mean
        visible = visible | ops.logical_not(ops.any(visible, axis=-1, keepdims=True))

        a = self.scores(blocks(self.scaled(q), size, count), around(k), q_ids, k_ids)
        weights = attention_normalize(a, None, -1, self.normalization, visible[:, :, None])
        if self.attention_dropout:
            weights = self.dropout(weights, training=training)
        v = around(v)
        weights = ops.reshape(weights, (-1, *ops.shape(weights)[2:]))
        o = ops.einsum("bhqk,bkhd->bqhd", weights, ops.reshape(v, (-1, *ops.shape(v)[2:])))
        return ops.reshape(o, (-1, count * size, self.heads, self.head_size))[:, :length]

    def _sides(self):
        """How many positions are seen before and after one's own, if not causal."""
        return self.window // 2, self.window - 1 - self.window // 2

    def _with_neighbours(self, x):
        """Each block ``(batch, count, size, …)`` between the ones that it sees."""
        nothing = ops.zeros_like(x[:, :1])
        parts = [ops.concatenate([nothing, x[:, :-1]], axis=1), x]
        if not self.causal:
            parts.append(ops.concatenate([x[:, 1:], nothing], axis=1))
        return ops.concatenate(parts, axis=2)

    def get_config(self):
        return {**super().get_config(), "window": self.window}
