"""What the tricks of a run make of its loss, its batches and its model under training."""

import keras
import numpy as np

from clue_baselines.settings import Settings
from keras_extras.losses import (
    RDrop,
    SparseLogitAdjustedCategoricalCrossentropy,
    TaiLr,
    class_prior,
    twice_in_a_row,
)
from keras_extras.training import LengthBatches, Model


def cross_entropy(settings: Settings, counts: np.ndarray | None = None) -> keras.losses.Loss:
    """The cross-entropy of logits, or what the flags make of it.

    Args:
        counts: rows per class in the training data, for logit adjustment. Where one is 0 (of a few
            rows, say), 1 is added to all.
    """
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if settings.tailr:
        loss = TaiLr(settings.tailr)
    if settings.logit_adjustment:
        prior = class_prior(counts, smoothing=0 if all(counts) else 1)
        loss = SparseLogitAdjustedCategoricalCrossentropy(prior, settings.logit_adjustment)
    return RDrop(loss, settings.r_drop) if settings.r_drop else loss


def regularized(settings: Settings) -> tuple[type[Model], dict]:
    """Class of the model under training, and what its `compile` takes more than usual."""
    if not (settings.fgm or settings.gradient_penalty):
        return Model, {}
    from keras_extras.training.adversarial import FGM, AdversarialModel, GradientPenalty

    added = FGM(settings.fgm) if settings.fgm else GradientPenalty(settings.gradient_penalty)
    return AdversarialModel, {"regularization": added}


class TwiceInARow(LengthBatches):
    """`LengthBatches` whose rows come twice in a row, as R-Drop wants them."""

    def __getitem__(self, index):
        return twice_in_a_row(super().__getitem__(index))
