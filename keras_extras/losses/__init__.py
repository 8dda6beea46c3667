"""Losses that core Keras lacks."""

from keras_extras.losses.multilabel import (
    MultilabelCategoricalCrossentropy,
    SparseMultilabelCategoricalCrossentropy,
    multilabel_categorical_crossentropy,
    sparse_multilabel_categorical_crossentropy,
)

__all__ = [
    "MultilabelCategoricalCrossentropy",
    "SparseMultilabelCategoricalCrossentropy",
    "multilabel_categorical_crossentropy",
    "sparse_multilabel_categorical_crossentropy",
]
