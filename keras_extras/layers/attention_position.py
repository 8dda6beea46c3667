"""The one interface of positions inside attention, and the plain product that needs none."""

from __future__ import annotations

import keras
from keras import ops


def dot_product(queries, keys):
    """``(…, length_q, heads, d), (…, length_k, heads, d) → (…, heads, length_q, length_k)``."""
    if len(queries.shape) == 4:
        return ops.einsum("bqhd,bkhd->bhqk", queries, keys)
    # Keras turns the product of four axes into a batched product on TensorFlow, not that of more
    leading = ops.shape(queries)[:-3]
    flat = (ops.reshape(x, (-1, *ops.shape(x)[-3:])) for x in (queries, keys))
    scores = dot_product(*flat)
    return ops.reshape(scores, (*leading, *ops.shape(scores)[1:]))


class AttentionPosition(keras.layers.Layer):
    """A position encoding that lives inside attention: queries and keys in, scores out.

    ``position([q, k], query_ids, key_ids) → scores``

    Rotations, biases on the scores and rules that choose between several scores all fit into this
    one call, so every attention layer of this package takes every position as ``position=``:
    `MultiHeadAttention` and `GatedAttentionUnit` call it once, `LocalAttention` and
    `ChunkedAttention` once for each block. (`LinearAttention` has no scores and takes only
    positions that rotate.)

    A subclass writes `scores`. Positions are integers; what counts is their differences, so any
    piece of a sequence can be scored on its own.

    Call arguments:
        inputs: ``[q, k]``, ``(…, length_q, heads, d)`` and ``(…, length_k, heads, d)``. The
            queries are already divided by √d where the attention scales its scores.
        query_ids, key_ids: integers ``(…, length)`` that broadcast against the axes before the
            heads; 0, 1, 2, … by default.

    Returns:
        Scores ``(…, heads, length_q, length_k)``.

    >>> from keras_extras.layers.attention_position import distances, dot_product
    >>> class Nearer(AttentionPosition):
    ...     def scores(self, q, k, query_ids, key_ids):
    ...         away = ops.abs(ops.expand_dims(distances(query_ids, key_ids), -3))
    ...         return dot_product(q, k) - ops.cast(away, q.dtype)
    >>> x = ops.ones((1, 3, 1, 4)) / 2  # batch, length, heads, size of a head: all q·k are 1
    >>> ops.convert_to_numpy(Nearer()([x, x]))[0, 0].tolist()
    [[1.0, 0.0, -1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 1.0]]
    """

    def call(self, inputs, query_ids=None, key_ids=None):
        q, k = inputs
        ids = (
            ops.arange(ops.shape(x)[-3], dtype="int32")
            if given is None
            else ops.cast(given, "int32")
            for x, given in zip((q, k), (query_ids, key_ids), strict=True)
        )
        return ops.cast(self.scores(q, k, *ids), self.compute_dtype)

    def scores(self, q, k, query_ids, key_ids):
        """What `call` returns, with all ids given."""
        raise NotImplementedError

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        q, k = input_shape
        return (*q[:-3], q[-2], q[-3], k[-3])


def distances(query_ids, key_ids):
    """i − j for every query position i and key position j, ``(…, length_q, length_k)``."""
    return ops.expand_dims(query_ids, -1) - ops.expand_dims(key_ids, -2)


def position_from(position) -> AttentionPosition | None:
    """A position from itself or its serialised form."""
    if isinstance(position, dict):
        position = keras.saving.deserialize_keras_object(position)
    if position is not None and not isinstance(position, AttentionPosition):
        raise ValueError(
            f"position must be a layer such as RotaryPosition(), not {position!r}: "
            "see keras_extras.layers.AttentionPosition."
        )
    return position


def position_config(position: AttentionPosition | None) -> dict | None:
    """The serialised form, of which `position_from` makes a position that is not built yet."""
    config = keras.saving.serialize_keras_object(position)
    if config is not None:
        config.pop("build_config", None)  # the attention layer builds it, with its own heads
    return config
