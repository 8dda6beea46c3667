"""Attention masks of language models, as layers.

bert4keras writes them as Lambda layers around closures, which no saved model survives.
"""

from __future__ import annotations

import keras
from keras import KerasTensor, ops


@keras.saving.register_keras_serializable(package="keras_extras")
class LanguageModelMask(keras.layers.Layer):
    """Position i sees the positions j ≤ i: ``(batch, length) → (length, length)``, boolean.

    >>> [[int(x) for x in row] for row in LanguageModelMask()(keras.ops.ones((1, 3)))]
    [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """

    def build(self, input_shape):
        pass

    def call(self, inputs):
        positions = ops.arange(ops.shape(inputs)[1])
        return positions[None, :] <= positions[:, None]

    def compute_output_spec(self, inputs):
        return KerasTensor((inputs.shape[1], inputs.shape[1]), dtype="bool")


@keras.saving.register_keras_serializable(package="keras_extras")
class UnifiedLanguageModelMask(keras.layers.Layer):
    """The mask of UniLM (arXiv:1905.03197; kexue.fm/archives/6933), from segment ids.

    Segment 0 sees all of itself; segment 1 sees segment 0 and its own past: i sees j where
    ``cumsum(s)[j] ≤ cumsum(s)[i]``. Shape ``(batch, length) → (batch, length, length)``, boolean.

    >>> mask = UnifiedLanguageModelMask()(keras.ops.array([[0.0, 0.0, 1.0, 1.0]]))
    >>> [[int(x) for x in row] for row in mask[0]]
    [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.autocast = False  # ids, not numbers to compute with: float16 would round them

    def build(self, input_shape):
        pass

    def call(self, inputs):
        order = ops.cumsum(ops.cast(inputs, "int32"), axis=1)
        return order[:, None, :] <= order[:, :, None]

    def compute_output_spec(self, inputs):
        batch, length = inputs.shape
        return KerasTensor((batch, length, length), dtype="bool")
