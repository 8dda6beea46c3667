"""A layer that computes a loss."""

from __future__ import annotations

import keras
from keras import KerasTensor


@keras.saving.register_keras_serializable(package="keras_extras")
class Loss(keras.layers.Layer):
    """Base class for losses that need several tensors of the model.

    A subclass defines ``compute_loss(inputs, mask)``; its value is added to the model's loss.

    Args:
        output_axis: which inputs to hand on: None for all, an index, or a list of indices.

    >>> class MeanSquare(Loss):
    ...     def compute_loss(self, inputs, mask=None):
    ...         return keras.ops.mean(keras.ops.square(inputs[0] - inputs[1]))
    >>> layer = MeanSquare(output_axis=1)
    >>> tuple(layer([keras.ops.zeros((2, 1)), keras.ops.ones((2, 1))]).shape)
    (2, 1)
    >>> float(layer.losses[0])
    1.0
    """

    def __init__(self, output_axis: int | list | None = None, **kwargs):
        super().__init__(**kwargs)
        self.output_axis = output_axis
        self.supports_masking = True

    def build(self, input_shape):
        pass

    def call(self, inputs, mask=None):
        self.add_loss(self.compute_loss(inputs, mask))
        return self._select(inputs)

    def compute_loss(self, inputs, mask=None):
        raise NotImplementedError(f"{type(self).__name__} must define compute_loss(inputs, mask).")

    def _select(self, items):
        if self.output_axis is None:
            return items
        if isinstance(self.output_axis, list):
            return [items[i] for i in self.output_axis]
        return items[self.output_axis]

    def compute_output_spec(self, inputs, mask=None):
        return keras.tree.map_structure(
            lambda x: KerasTensor(x.shape, dtype=x.dtype), self._select(inputs)
        )

    def compute_mask(self, inputs, mask=None):
        return None if mask is None else self._select(mask)

    def get_config(self):
        return {**super().get_config(), "output_axis": self.output_axis}
