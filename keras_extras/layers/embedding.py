"""Token embedding that doubles as the output projection."""

from __future__ import annotations

import keras
from keras import KerasTensor, ops


@keras.saving.register_keras_serializable(package="keras_extras")
class Embedding(keras.layers.Embedding):
    """`keras.layers.Embedding` whose table can also be used as a bias-free Dense layer.

    ``layer(ids)`` looks vectors up, ``(batch, length) → (batch, length, output_dim)``;
    ``layer(x, mode="dense")`` scores them, ``x·Eᵀ``: ``(…, output_dim) → (…, input_dim)``.

    With ``mask_zero=True`` the first token is never masked, so that T5, whose decoder starts with
    id 0, and rows of padding only keep one visible position.

    >>> layer = Embedding(10, 4)
    >>> tuple(layer(layer(keras.ops.ones((2, 3))), mode="dense").shape)
    (2, 3, 10)
    """

    def call(self, inputs, mode: str = "embedding"):
        if mode == "embedding":
            return super().call(inputs)
        if mode == "dense":
            embeddings = ops.cast(self.embeddings, self.compute_dtype)
            return ops.matmul(ops.cast(inputs, self.compute_dtype), ops.transpose(embeddings))
        raise ValueError(f"Embedding mode must be 'embedding' or 'dense', not {mode!r}.")

    def compute_mask(self, inputs, mask=None):
        if len(inputs.shape) != 2:
            return mask
        if not self.mask_zero:
            return None
        mask = ops.not_equal(inputs, 0)
        return ops.concatenate([ops.ones_like(mask[:, :1]), mask[:, 1:]], axis=1)

    def compute_output_spec(self, inputs, mode: str = "embedding"):
        if mode == "embedding":
            return super().compute_output_spec(inputs)
        return KerasTensor(tuple(inputs.shape[:-1]) + (self.input_dim,), dtype=self.compute_dtype)
