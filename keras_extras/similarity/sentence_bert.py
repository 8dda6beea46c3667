"""Sentence-BERT's classifier of pairs of sentence vectors."""

from __future__ import annotations

import keras
from keras import ops

from keras_extras.losses.layouts import split_groups


@keras.saving.register_keras_serializable(package="keras_extras")
class SentenceBERTHead(keras.layers.Layer):
    """Logits of classes from ``[u, v, |u - v|]``: ``(2n, dim) → (2n, classes)``.

    Rows ``2i`` and ``2i + 1`` of the input are the vectors u and v of a pair
    (`keras_extras.losses.interleave` makes such batches), and both get the pair's logits: so the
    targets repeat the pair's label, as for `keras_extras.losses.CoSENT`, and any loss on rows fits.

    This head serves training only; afterwards pairs are compared by the cosine of u and v.

    Args:
        classes: 2 for similar or not, 3 for natural language inference.
        kernel_initializer: of the dense layer; "glorot_uniform" by default.

    Raises:
        ValueError: odd number of rows.

    Source: Reimers and Gurevych, arXiv:1908.10084; kexue.fm/archives/8847.

    >>> tuple(SentenceBERTHead(3)(keras.ops.ones((4, 8))).shape)
    (4, 3)
    """

    def __init__(self, classes: int, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.classes = classes
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        self.kernel = self.add_weight(
            name="kernel",
            shape=(3 * input_shape[-1], self.classes),
            initializer=self.kernel_initializer,
        )

    def call(self, inputs):
        pairs = split_groups(inputs, 2, self.name)
        u, v = pairs[:, 0], pairs[:, 1]
        features = ops.concatenate([u, v, ops.abs(u - v)], axis=-1)
        return ops.repeat(ops.matmul(features, self.kernel), 2, axis=0)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.classes)

    def get_config(self):
        return {
            **super().get_config(),
            "classes": self.classes,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
