"""Attention scores that grow with the number of keys."""

from __future__ import annotations

import math

import keras
from keras import ops

from keras_extras.layers.attention_position import (
    AttentionPosition,
    dot_product,
    position_config,
    position_from,
)


@keras.saving.register_keras_serializable(package="keras_extras")
class LogNScaling(AttentionPosition):
    """Sharpen the attention of late queries, around any position (kexue.fm/archives/8823, 9706).

    Query i, which sees n = i + 1 keys in causal attention, is multiplied by
    ``max(1, ln n / ln train_length)``: the entropy of its attention stays what it was in training
    however many keys there are. Nothing changes within the training length, so that no
    training is needed. (To train with the factor, or for bidirectional attention, use
    ``normalization="softmax_plus"`` of the attention layers.)

    Args:
        position: the position whose scores are scaled; None for plain scores.
        train_length: 512 by default.

    >>> from keras_extras.layers import RotaryPosition
    >>> x = keras.ops.ones((2, 5, 3, 4))
    >>> tuple(LogNScaling(RotaryPosition(), train_length=4)([x, x]).shape)
    (2, 3, 5, 5)
    """

    def __init__(self, position=None, train_length: int = 512, **kwargs):
        super().__init__(**kwargs)
        if train_length < 2:
            raise ValueError(f"train_length={train_length} must be at least 2.")
        self.position = position_from(position)
        self.train_length = train_length

    def build(self, input_shape):
        if self.position is not None and not self.position.built:
            self.position.build(input_shape)

    def scores(self, q, k, query_ids, key_ids):
        n = ops.cast(ops.maximum(query_ids + 1, 1), "float32")
        factor = ops.maximum(ops.log(n) / math.log(self.train_length), 1.0)
        q = q * ops.cast(factor, q.dtype)[..., None, None]
        if self.position is None:
            return dot_product(q, k)
        return self.position([q, k], query_ids=query_ids, key_ids=key_ids)

    def get_config(self):
        return {
            **super().get_config(),
            "position": position_config(self.position),
            "train_length": self.train_length,
        }
