"""Training: a model that is right on many devices, the choice of these, and batches."""

from keras_extras.training.adversarial import FGM, VAT, AdversarialModel, GradientPenalty
from keras_extras.training.batching import BUCKETS, LengthBatches, padding_ratio
from keras_extras.training.means import global_mean
from keras_extras.training.model import Model
from keras_extras.training.resume import Resume, ResumeError
from keras_extras.training.strategies import get_strategy, is_chief, strategy_scope

__all__ = [
    "BUCKETS",
    "FGM",
    "VAT",
    "AdversarialModel",
    "GradientPenalty",
    "LengthBatches",
    "Resume",
    "ResumeError",
    "Model",
    "get_strategy",
    "global_mean",
    "is_chief",
    "padding_ratio",
    "strategy_scope",
]
