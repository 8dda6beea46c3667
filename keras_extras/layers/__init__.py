"""Layers of bert4keras, natively on Keras 3."""

from keras_extras.layers.attention import MultiHeadAttention
from keras_extras.layers.crf import ConditionalRandomField
from keras_extras.layers.embedding import Embedding
from keras_extras.layers.feed_forward import FeedForward
from keras_extras.layers.gated_attention import GatedAttentionUnit
from keras_extras.layers.loss import Loss
from keras_extras.layers.masks import LanguageModelMask, UnifiedLanguageModelMask
from keras_extras.layers.memm import MaximumEntropyMarkovModel
from keras_extras.layers.merging import Add, BatchConcat, BatchSplit, Concatenate1D
from keras_extras.layers.normalization import LayerNormalization, ScaleOffset
from keras_extras.layers.pointer import EfficientGlobalPointer, GlobalPointer
from keras_extras.layers.pooling import FirstToken, GlobalAveragePooling1D, GlobalMaxPooling1D
from keras_extras.layers.position import (
    PositionEmbedding,
    RelativePositionEmbedding,
    RelativePositionEmbeddingT5,
    SinusoidalPositionEmbedding,
)

__all__ = [
    "Add",
    "BatchConcat",
    "BatchSplit",
    "Concatenate1D",
    "ConditionalRandomField",
    "EfficientGlobalPointer",
    "Embedding",
    "FeedForward",
    "FirstToken",
    "GatedAttentionUnit",
    "GlobalAveragePooling1D",
    "GlobalMaxPooling1D",
    "GlobalPointer",
    "LanguageModelMask",
    "LayerNormalization",
    "Loss",
    "MaximumEntropyMarkovModel",
    "MultiHeadAttention",
    "PositionEmbedding",
    "RelativePositionEmbedding",
    "RelativePositionEmbeddingT5",
    "ScaleOffset",
    "SinusoidalPositionEmbedding",
    "UnifiedLanguageModelMask",
]
