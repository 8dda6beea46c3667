"""Losses that core Keras lacks, and the batches that some of them need."""

from keras_extras.losses.cosent import NLI_ORDER, CoSENT, InteractiveCoSENT, cosent
from keras_extras.losses.cosine import CosineContrast
from keras_extras.losses.layouts import (
    TwiceInARow,
    group_numbers,
    interleave,
    twice_in_a_row,
)
from keras_extras.losses.logit_adjustment import (
    LogitAdjustedCategoricalCrossentropy,
    SparseLogitAdjustedCategoricalCrossentropy,
    adjust_logits,
    class_prior,
    logit_adjusted_categorical_crossentropy,
    sparse_logit_adjusted_categorical_crossentropy,
)
from keras_extras.losses.multilabel import (
    MultilabelCategoricalCrossentropy,
    SparseMultilabelCategoricalCrossentropy,
    multilabel_categorical_crossentropy,
    sparse_multilabel_categorical_crossentropy,
)
from keras_extras.losses.r_drop import RDrop, symmetric_divergence
from keras_extras.losses.simcse import SimCSE, SupervisedSimCSE
from keras_extras.losses.smooth_metrics import SmoothAccuracy, SmoothF1
from keras_extras.losses.tailr import GammaSchedule, TaiLr, tailr

__all__ = [
    "NLI_ORDER",
    "CoSENT",
    "CosineContrast",
    "GammaSchedule",
    "InteractiveCoSENT",
    "LogitAdjustedCategoricalCrossentropy",
    "MultilabelCategoricalCrossentropy",
    "RDrop",
    "SimCSE",
    "SmoothAccuracy",
    "SmoothF1",
    "SparseLogitAdjustedCategoricalCrossentropy",
    "SparseMultilabelCategoricalCrossentropy",
    "SupervisedSimCSE",
    "TaiLr",
    "TwiceInARow",
    "adjust_logits",
    "class_prior",
    "cosent",
    "group_numbers",
    "interleave",
    "logit_adjusted_categorical_crossentropy",
    "multilabel_categorical_crossentropy",
    "sparse_logit_adjusted_categorical_crossentropy",
    "sparse_multilabel_categorical_crossentropy",
    "symmetric_divergence",
    "tailr",
    "twice_in_a_row",
]
