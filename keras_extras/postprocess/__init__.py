"""What can be made of a classifier's probabilities after training, in NumPy."""

from keras_extras.postprocess.alternating_normalization import can, uncertainty
from keras_extras.postprocess.temperature import find_temperature, soften
from keras_extras.postprocess.thresholds import find_class_weights, find_threshold

__all__ = [
    "can",
    "find_class_weights",
    "find_temperature",
    "find_threshold",
    "soften",
    "uncertainty",
]
