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

    Causal attention to at most `window` positions is full attention; otherwise n tokens take a
    window of 2n − 1 to see all. Time and memory grow
    as length × window: the sequence is cut into blocks of a quarter of the window, and each is
    scored against itself and the neighbours that it sees, five blocks at most.

    Args:
        heads, head_size, and all others: as in `MultiHeadAttention`.
        window: number of positions that are seen.
        causal: see above.

    Raises:
        ValueError: `window` is less than 1, or `return_attention_scores` is on; at a call with
            `a_bias` or a matrix of relative positions, or with fewer or more keys than queries.

    A trained model changes over by a copy whose attention is local and has the same weights (a
    language model with ``"causal": True``, which takes the place of its mask)::

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
        self.check_one_length(q, k)
        length = ops.shape(q)[1]
        before = self.window - 1 if self.causal else self.window // 2
        after = self.window - 1 - before
        quarter = (self.window + 3) // 4
        # blocks that are seen; at least one, for Keras warns of a softmax over a single key
        earlier, later = max(-(-before // quarter), 1), -(-after // quarter)
        size = smaller(quarter, length)
        count = (length + size - 1) // size

        def around(x, axis=2):
            """Each block ``(batch, count, …)`` joined along `axis` to those that it sees."""
            x = ops.pad(x, [(0, 0), (earlier, later)] + [(0, 0)] * (len(x.shape) - 2))
            parts = [x[:, i : i + count] for i in range(earlier + 1 + later)]
            return ops.concatenate(parts, axis=axis)

        q_ids = ops.reshape(ops.arange(count * size, dtype="int32"), (count, size))
        k_ids = ops.arange((earlier + 1 + later) * size, dtype="int32") - earlier * size
        k_ids = q_ids[:, :1] + k_ids
        distance = distances(q_ids, k_ids)
        visible = ops.logical_and(distance <= before, distance >= -after)
        if shown is None:
            visible = visible & ((k_ids >= 0) & (k_ids < length))[:, None]
            visible = visible[None]
        else:
            visible = visible & around(blocks(shown, size, count))[:, :, None]
        # what sees nothing is padding; there, seeing everything is as good, and has a mean
        visible = visible | ops.logical_not(ops.any(visible, axis=-1, keepdims=True))

        q, k, v = (blocks(x, size, count) for x in (self.scaled(q), k, v))
        a = self.scores(q, around(k), q_ids, k_ids)
        weights = attention_normalize(a, None, -1, self.normalization, visible[:, :, None])
        if self.attention_dropout:
            weights = self.dropout(weights, training=training)
        # a block is transposed once for all five that see it
        v = around(ops.transpose(v, (0, 1, 3, 2, 4)), axis=3)
        o = ops.transpose(ops.matmul(weights, v), (0, 1, 3, 2, 4))
        return ops.reshape(o, (-1, count * size, self.heads, self.head_size))[:, :length]

    def get_config(self):
        return {**super().get_config(), "window": self.window}
