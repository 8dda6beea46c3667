"""From a sequence of vectors to one vector."""

from __future__ import annotations

import keras
from keras import ops

from keras_extras.ops import sequence_masking


@keras.saving.register_keras_serializable(package="keras_extras")
class FirstToken(keras.layers.Layer):
    """The vector of the first token ([CLS]): ``(batch, length, dim) → (batch, dim)``.

    >>> tuple(FirstToken()(keras.ops.ones((2, 5, 3))).shape)
    (2, 3)
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape):
        pass

    def call(self, inputs):
        return inputs[:, 0]

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *input_shape[2:])


def _length_axis(data_format: str) -> int:
    return 1 if data_format == "channels_last" else 2


@keras.saving.register_keras_serializable(package="keras_extras")
class GlobalAveragePooling1D(keras.layers.GlobalAveragePooling1D):
    """Mean over the visible positions of a sequence; 0 where there is none."""

    def call(self, inputs, mask=None):
        axis = _length_axis(self.data_format)
        if mask is None:
            return ops.mean(inputs, axis=axis)
        mask = ops.expand_dims(ops.cast(mask, inputs.dtype), 3 - axis)
        return ops.sum(inputs * mask, axis=axis) / ops.maximum(ops.sum(mask, axis=axis), 1)


@keras.saving.register_keras_serializable(package="keras_extras")
class GlobalMaxPooling1D(keras.layers.GlobalMaxPooling1D):
    """Maximum over the visible positions of a sequence."""

    def __init__(self, data_format: str = "channels_last", **kwargs):
        super().__init__(data_format=data_format, **kwargs)
        self.supports_masking = True

    def call(self, inputs, mask=None):
        axis = _length_axis(self.data_format)
        return ops.max(sequence_masking(inputs, mask, "-inf", axis), axis=axis)

    def compute_mask(self, inputs, mask=None):
        return None
