"""Relative position encodings: a vector or a number for each distance."""

from __future__ import annotations

import math

import keras
from keras import KerasTensor, initializers, ops


@keras.saving.register_keras_serializable(package="keras_extras")
class RelativePositionEmbedding(keras.layers.Layer):
    """A vector for each clipped distance (arXiv:1803.02155; used by NEZHA, arXiv:1909.00204).

    ``[q, v] → (length_q, length_v, output_dim)``: entry (i, j) is the vector of distance
    j − i, clipped to ±(input_dim − 1)/2.

    Args:
        input_dim: number of distances.
        output_dim: size of a vector.
        embeddings_initializer: of the table.

    >>> x = keras.ops.ones((2, 5, 4))
    >>> tuple(RelativePositionEmbedding(9, 4)([x, x]).shape)
    (5, 5, 4)
    """

    def __init__(self, input_dim: int, output_dim: int, embeddings_initializer="zeros", **kwargs):
        super().__init__(**kwargs)
        self.input_dim = input_dim
        self.output_dim = output_dim
        self.embeddings_initializer = initializers.get(embeddings_initializer)
        self.supports_masking = True

    def build(self, input_shape):
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.input_dim, self.output_dim),
            initializer=self.embeddings_initializer,
        )

    def call(self, inputs):
        return ops.take(self.embeddings, self.compute_position_ids(inputs), axis=0)

    @staticmethod
    def distances(inputs):
        """j − i for query positions i and value positions j, as int32."""
        q, v = inputs
        q_ids = ops.arange(ops.shape(q)[1], dtype="int32")
        v_ids = ops.arange(ops.shape(v)[1], dtype="int32")
        return v_ids[None, :] - q_ids[:, None]

    def compute_position_ids(self, inputs):
        limit = (self.input_dim - 1) // 2
        return ops.clip(self.distances(inputs), -limit, limit) + limit

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_spec(self, inputs):
        q, v = inputs
        return KerasTensor((q.shape[1], v.shape[1], self.output_dim), dtype=self.compute_dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "embeddings_initializer": initializers.serialize(self.embeddings_initializer),
        }


@keras.saving.register_keras_serializable(package="keras_extras")
class RelativePositionEmbeddingT5(RelativePositionEmbedding):
    """T5's logarithmic buckets of distance (arXiv:1910.10683).

    Half of the buckets hold one distance each, the rest grow logarithmically to `max_distance`;
    bidirectional tables keep past and future apart, others put all of the future into bucket 0.

    Args:
        input_dim: number of buckets.
        output_dim: number of heads.
        max_distance: distance from which all share the last bucket.
        bidirectional: see above.
        embeddings_initializer: of the table.

    >>> x = keras.ops.ones((2, 5, 4))
    >>> [int(i) for i in RelativePositionEmbeddingT5(32, 2).compute_position_ids([x, x])[0]]
    [0, 17, 18, 19, 20]
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        max_distance: int = 128,
        bidirectional: bool = True,
        embeddings_initializer="zeros",
        **kwargs,
    ):
        super().__init__(input_dim, output_dim, embeddings_initializer, **kwargs)
        self.max_distance = max_distance
        self.bidirectional = bidirectional

    def compute_position_ids(self, inputs):
        past = -self.distances(inputs)
        buckets, offset = self.input_dim, 0
        if self.bidirectional:
            buckets //= 2
            offset = ops.cast(past < 0, "int32") * buckets
            past = ops.abs(past)
        else:
            past = ops.maximum(past, 0)
        exact = buckets // 2
        # the distances below `exact` are replaced by it before the logarithm: log 0 is no number
        ratio = ops.cast(ops.maximum(past, exact), "float32") / exact
        # in T5's own order of operations: float32 rounding decides the bucket at its edges
        share = ops.log(ratio) / math.log(self.max_distance / exact)
        coarse = exact + ops.cast(share * (buckets - exact), "int32")
        coarse = ops.minimum(coarse, buckets - 1)
        return ops.where(past < exact, past, coarse) + offset

    def get_config(self):
        return {
            **super().get_config(),
            "max_distance": self.max_distance,
            "bidirectional": self.bidirectional,
        }
