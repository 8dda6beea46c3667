"""Absolute position encodings."""

from __future__ import annotations

import keras
import numpy as np
from keras import initializers, ops

from keras_extras.ops import sinusoidal_embeddings


class _AbsolutePosition(keras.layers.Layer):
    """What absolute position encodings share: position ids and the way they join the input."""

    def __init__(self, output_dim, merge_mode="add", custom_position_ids=False, **kwargs):
        super().__init__(**kwargs)
        if callable(merge_mode):  # Keras reads "add" in an .h5 file as the name of a function
            merge_mode = merge_mode.__name__
        if merge_mode not in ("add", "mul", "zero", "concat"):
            raise ValueError(
                f"merge_mode must be 'add', 'mul', 'zero' or 'concat', not {merge_mode!r}."
            )
        self.output_dim = output_dim
        self.merge_mode = merge_mode
        self.custom_position_ids = custom_position_ids
        self.supports_masking = True
        self.autocast = False  # position ids are not to be rounded to float16

    def build(self, input_shape):
        pass

    def call(self, inputs):
        if self.custom_position_ids:
            inputs, ids = inputs
        else:
            ids = ops.arange(ops.shape(inputs)[1], dtype="int32")[None]
        x = ops.cast(inputs, self.compute_dtype)
        vectors = ops.cast(self.position_vectors(ids), self.compute_dtype)
        if self.merge_mode == "add":
            return x + vectors
        if self.merge_mode == "mul":
            return x * (vectors + 1)
        if self.merge_mode == "zero":
            return vectors
        vectors = ops.broadcast_to(vectors, (*ops.shape(x)[:2], self.output_dim))
        return ops.concatenate([x, vectors], axis=-1)

    def position_vectors(self, ids):
        """Vectors of shape ``(…, output_dim)`` for position ids of shape ``(…,)``."""
        raise NotImplementedError

    def compute_mask(self, inputs, mask=None):
        return mask[0] if self.custom_position_ids and mask is not None else mask

    def compute_output_shape(self, input_shape):
        shape = input_shape[0] if self.custom_position_ids else input_shape
        if self.merge_mode == "concat":
            return (*shape[:2], shape[2] + self.output_dim)
        if self.merge_mode == "zero" and not self.custom_position_ids:
            return (1, shape[1], self.output_dim)
        return (*shape[:2], self.output_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "output_dim": self.output_dim,
            "merge_mode": self.merge_mode,
            "custom_position_ids": self.custom_position_ids,
        }


@keras.saving.register_keras_serializable(package="keras_extras")
class PositionEmbedding(_AbsolutePosition):
    """A trained vector for each position.

    Args:
        input_dim: number of positions n.
        output_dim: size of a vector.
        merge_mode: how vectors p join the input x: ``"add"`` x + p, ``"mul"`` x·(1 + p),
            ``"concat"`` [x, p], ``"zero"`` p alone.
        hierarchical: True or a number α in (0, 1), α ≠ ½: serve n² positions from the n trained
            ones, q[i·n + j] = α·u[i] + (1 − α)·u[j] with u = (p − α·p[0])/(1 − α), so that the
            first n stay as they were (kexue.fm/archives/7947). True means α = 0.4.
        embeddings_initializer: of the table.
        custom_position_ids: the inputs are ``[x, ids]`` instead of ``x``.

    Raises:
        ValueError: unknown `merge_mode`; an α outside of (0, 1), or of exactly ½, which makes
            position (i, j) equal to (j, i); at a call with more tokens than positions.

    >>> tuple(PositionEmbedding(8, 4)(keras.ops.ones((2, 5, 4))).shape)
    (2, 5, 4)
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        merge_mode: str = "add",
        hierarchical: bool | float | None = None,
        embeddings_initializer="zeros",
        custom_position_ids: bool = False,
        **kwargs,
    ):
        super().__init__(output_dim, merge_mode, custom_position_ids, **kwargs)
        if hierarchical == 0.5:
            raise ValueError(
                "hierarchical=0.5 cannot tell position (i, j) from (j, i): use another number."
            )
        if hierarchical not in (None, False) and hierarchical is not True:
            if not 0 < hierarchical < 1:
                raise ValueError(
                    f"hierarchical={hierarchical} must be True or a number between 0 and 1."
                )
        self.input_dim = input_dim
        self.hierarchical = hierarchical
        self.embeddings_initializer = initializers.get(embeddings_initializer)

    def build(self, input_shape):
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.input_dim, self.output_dim),
            initializer=self.embeddings_initializer,
        )

    def position_vectors(self, ids):
        if self.hierarchical:
            alpha = 0.4 if self.hierarchical is True else self.hierarchical
            table = (self.embeddings - alpha * self.embeddings[:1]) / (1 - alpha)
            ids = ops.cast(ids, "int32")
            coarse = ops.take(table, ids // self.input_dim, axis=0)
            fine = ops.take(table, ids % self.input_dim, axis=0)
            return alpha * coarse + (1 - alpha) * fine
        if self.custom_position_ids:
            return ops.take(self.embeddings, ops.cast(ids, "int32"), axis=0)
        if ids.shape[1] is not None and ids.shape[1] > self.input_dim:
            raise ValueError(
                f"{ids.shape[1]} tokens, and only {self.input_dim} trained positions: cut the "
                "texts, or decompose the positions with hierarchical=True."
            )
        return self.embeddings[None, : ops.shape(ids)[1]]

    def get_config(self):
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "hierarchical": self.hierarchical,
            "embeddings_initializer": initializers.serialize(self.embeddings_initializer),
        }


@keras.saving.register_keras_serializable(package="keras_extras")
class SinusoidalPositionEmbedding(_AbsolutePosition):
    """Sinusoidal position vectors (arXiv:1706.03762; kexue.fm/archives/8231).

    ``p[k, 2i] = sin(k·θ_i)``, ``p[k, 2i+1] = cos(k·θ_i)``, ``θ_i = base^(−2i/output_dim)``.

    Args:
        output_dim: even size of a vector.
        merge_mode, custom_position_ids: as in `PositionEmbedding`.
        base: 10000 by default; the article would take 1000.
        trainable_frequencies: make θ a weight that starts at the values above.

    Raises:
        ValueError: unknown `merge_mode`; at a call, an odd `output_dim`.

    The vectors are computed in float32 and cast at the end.

    >>> tuple(SinusoidalPositionEmbedding(4, "zero")(keras.ops.ones((2, 5, 4))).shape)
    (1, 5, 4)
    """

    def __init__(
        self,
        output_dim: int,
        merge_mode: str = "add",
        custom_position_ids: bool = False,
        base: float = 10000,
        trainable_frequencies: bool = False,
        **kwargs,
    ):
        super().__init__(output_dim, merge_mode, custom_position_ids, **kwargs)
        self.base = base
        self.trainable_frequencies = trainable_frequencies

    def build(self, input_shape):
        if not self.trainable_frequencies:
            return
        if self.output_dim % 2:
            raise ValueError(f"Sinusoidal vectors have an even size, got {self.output_dim}.")
        start = self.base ** (-2 * np.arange(self.output_dim // 2) / self.output_dim)
        self.frequencies = self.add_weight(
            name="frequencies",
            shape=start.shape,
            initializer=lambda shape, dtype: ops.cast(start, dtype),
        )

    def position_vectors(self, ids):
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        ids = ops.cast(ids, dtype)
        if not self.trainable_frequencies:
            return sinusoidal_embeddings(ids, self.output_dim, self.base)
        angles = ops.expand_dims(ids, -1) * ops.cast(self.frequencies, dtype)
        pairs = ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1)
        return ops.reshape(pairs, (*ops.shape(ids), self.output_dim))

    def get_config(self):
        return {
            **super().get_config(),
            "base": self.base,
            "trainable_frequencies": self.trainable_frequencies,
        }
