"""Layers of bert4keras, natively on Keras 3, and of the blog kexue.fm."""

from keras_extras.layers.activation import SAU
from keras_extras.layers.attention import MultiHeadAttention
from keras_extras.layers.attention_position import AttentionPosition
from keras_extras.layers.chunked_attention import ChunkedAttention
from keras_extras.layers.crf import ConditionalRandomField
from keras_extras.layers.distance_bias import KERPLE, ALiBi, Sandwich
from keras_extras.layers.embedding import Embedding
from keras_extras.layers.feed_forward import FeedForward
from keras_extras.layers.gated_attention import GatedAttentionUnit
from keras_extras.layers.linear_attention import LinearAttention
from keras_extras.layers.local_attention import LocalAttention
from keras_extras.layers.log_n_scaling import LogNScaling
from keras_extras.layers.loss import Loss
from keras_extras.layers.low_rank import LowRankDense, LowRankEmbedding
from keras_extras.layers.masks import LanguageModelMask, UnifiedLanguageModelMask
from keras_extras.layers.memm import MaximumEntropyMarkovModel
from keras_extras.layers.merging import Add, BatchConcat, BatchSplit, Concatenate1D
from keras_extras.layers.normalization import LayerNormalization, ScaleOffset
from keras_extras.layers.pointer import EfficientGlobalPointer, GlobalPointer
from keras_extras.layers.pooling import FirstToken, GlobalAveragePooling1D, GlobalMaxPooling1D
from keras_extras.layers.position import PositionEmbedding, SinusoidalPositionEmbedding
from keras_extras.layers.re_zero import ReZero
from keras_extras.layers.relative_position import (
    RelativePositionEmbedding,
    RelativePositionEmbeddingT5,
)
from keras_extras.layers.rotary import ReRoPE, RotaryPosition, XPos

__all__ = [
    "ALiBi",
    "Add",
    "AttentionPosition",
    "BatchConcat",
    "BatchSplit",
    "ChunkedAttention",
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
    "KERPLE",
    "LanguageModelMask",
    "LayerNormalization",
    "LinearAttention",
    "LocalAttention",
    "LogNScaling",
    "Loss",
    "LowRankDense",
    "LowRankEmbedding",
    "MaximumEntropyMarkovModel",
    "MultiHeadAttention",
    "PositionEmbedding",
    "ReRoPE",
    "ReZero",
    "RelativePositionEmbedding",
    "RelativePositionEmbeddingT5",
    "RotaryPosition",
    "Sandwich",
    "SAU",
    "ScaleOffset",
    "SinusoidalPositionEmbedding",
    "UnifiedLanguageModelMask",
    "XPos",
]
