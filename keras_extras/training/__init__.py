"""Training: batches of like lengths and the choice of devices."""

from keras_extras.training.batching import BUCKETS, LengthBatches, padding_ratio
from keras_extras.training.strategies import get_strategy, is_chief, strategy_scope

__all__ = [
    "BUCKETS",
    "LengthBatches",
    "get_strategy",
    "is_chief",
    "padding_ratio",
    "strategy_scope",
]
