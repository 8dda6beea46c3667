"""Similarity of sentences: pooling, whitening, transport distances, evaluation."""

from keras_extras.similarity.encoder import POOLINGS, sentence_encoder
from keras_extras.similarity.evaluation import cosine_similarity, similarity_spearman, spearman
from keras_extras.similarity.nearest import NearestSentences
from keras_extras.similarity.sentence_bert import SentenceBERTHead
from keras_extras.similarity.transport import (
    earth_mover_distance,
    word_centroid_distance,
    word_mover_distance,
    word_rotator_bound,
    word_rotator_distance,
)
from keras_extras.similarity.whitening import (
    RunningMoments,
    compute_kernel_bias,
    load_whitening,
    save_whitening,
    transform_and_normalize,
)
from keras_extras.similarity.whitening_layer import Whitening

__all__ = [
    "POOLINGS",
    "NearestSentences",
    "RunningMoments",
    "SentenceBERTHead",
    "Whitening",
    "compute_kernel_bias",
    "cosine_similarity",
    "earth_mover_distance",
    "load_whitening",
    "save_whitening",
    "sentence_encoder",
    "similarity_spearman",
    "spearman",
    "transform_and_normalize",
    "word_centroid_distance",
    "word_mover_distance",
    "word_rotator_bound",
    "word_rotator_distance",
]
