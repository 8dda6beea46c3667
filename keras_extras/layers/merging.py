"""Layers that join sequences without losing their masks."""

from __future__ import annotations

import functools

import keras
from keras import KerasTensor, ops


@keras.saving.register_keras_serializable(package="keras_extras")
class Add(keras.layers.Add):
    """`keras.layers.Add` that keeps the mask of the inputs that have one.

    Keras 3 drops the mask as soon as one input has none; here, as in Keras 2, the masks that are
    there are combined by "and". BERT adds a masked token and an unmasked segment embedding.
    """

    def compute_mask(self, inputs, mask=None):
        masks = [m for m in mask or [] if m is not None]
        return functools.reduce(ops.logical_and, masks) if masks else None


@keras.saving.register_keras_serializable(package="keras_extras")
class Concatenate1D(keras.layers.Layer):
    """Join sequences ``(batch, length_i, dim)`` end to end; an input without mask is visible.

    >>> tuple(Concatenate1D()([keras.ops.ones((2, 3, 4)), keras.ops.ones((2, 5, 4))]).shape)
    (2, 8, 4)
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape):
        pass

    def call(self, inputs):
        return ops.concatenate(inputs, axis=1)

    def compute_mask(self, inputs, mask=None):
        if all(m is None for m in mask or [None]):
            return None
        masks = [
            ops.ones_like(x[..., 0], dtype="bool") if m is None else m
            for x, m in zip(inputs, mask, strict=True)
        ]
        return ops.concatenate(masks, axis=1)

    def compute_output_shape(self, input_shape):
        lengths = [shape[1] for shape in input_shape]
        length = None if None in lengths else sum(lengths)
        return (input_shape[0][0], length, input_shape[0][2])


@keras.saving.register_keras_serializable(package="keras_extras")
class BatchSplit(keras.layers.Layer):
    """Cut the batch into parts.

    Args:
        parts: a number of equal parts, or a list of their relative sizes.

    Given a list of tensors it returns all parts of the first, then all parts of the second, ….

    >>> [part.shape[0] for part in BatchSplit([1, 3])(keras.ops.ones((8, 2)))]
    [2, 6]
    """

    def __init__(self, parts: int | list, **kwargs):
        super().__init__(**kwargs)
        self.parts = parts
        self.supports_masking = True

    @property
    def _sizes(self) -> list:
        return [1] * self.parts if isinstance(self.parts, int) else list(self.parts)

    def build(self, input_shape):
        pass

    def call(self, inputs):
        if isinstance(inputs, (list, tuple)):
            return [part for x in inputs for part in self.call(x)]
        batch = ops.shape(inputs)[0]
        total, edges, done = sum(self._sizes), [0], 0
        for size in self._sizes:
            done += size
            edges.append(-(-batch * done // total))  # rounded up
        return [inputs[start:end] for start, end in zip(edges[:-1], edges[1:], strict=True)]

    def compute_mask(self, inputs, mask=None):
        if isinstance(inputs, (list, tuple)):
            masks = mask or [None] * len(inputs)
            return [m for x, y in zip(inputs, masks, strict=True) for m in self.compute_mask(x, y)]
        if mask is None:
            return [None] * len(self._sizes)
        if isinstance(mask, KerasTensor):  # its batch is not known yet
            return [KerasTensor((None, *mask.shape[1:]), mask.dtype) for _ in self._sizes]
        return self.call(mask)

    def compute_output_shape(self, input_shape):
        shapes = input_shape if isinstance(input_shape, list) else [input_shape]
        return [(None, *shape[1:]) for shape in shapes for _ in self._sizes]

    def get_config(self):
        return {**super().get_config(), "parts": self.parts}


@keras.saving.register_keras_serializable(package="keras_extras")
class BatchConcat(keras.layers.Layer):
    """Join tensors along the batch: the inverse of `BatchSplit`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape):
        pass

    def call(self, inputs):
        return ops.concatenate(inputs, axis=0)

    def compute_mask(self, inputs, mask=None):
        if mask is not None and all(m is not None for m in mask):
            return ops.concatenate(mask, axis=0)
        return None

    def compute_output_shape(self, input_shape):
        return (None, *input_shape[0][1:])
