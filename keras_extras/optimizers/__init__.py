"""Optimizers of kexue.fm and bert4keras, and extensions of any Keras optimizer.

An extension takes an optimizer class and returns a class; see `extending` for what happens in which
order.
"""

from keras_extras.optimizers.adafactor import AdaFactor
from keras_extras.optimizers.adam import Adam
from keras_extras.optimizers.adax import AdaX
from keras_extras.optimizers.child_tuning import extend_with_child_tuning
from keras_extras.optimizers.exponential_moving_average import (
    EvaluateWithAveragedWeights,
    extend_with_exponential_moving_average,
)
from keras_extras.optimizers.gradient_accumulation import extend_with_gradient_accumulation
from keras_extras.optimizers.gradient_centralization import extend_with_gradient_centralization
from keras_extras.optimizers.layer_adaptation import extend_with_layer_adaptation
from keras_extras.optimizers.lazy_optimization import extend_with_lazy_optimization
from keras_extras.optimizers.lion import Lion
from keras_extras.optimizers.lookahead import extend_with_lookahead
from keras_extras.optimizers.low_rank import extend_with_low_rank
from keras_extras.optimizers.parameter_wise_lr import extend_with_parameter_wise_lr
from keras_extras.optimizers.piecewise_linear_lr import extend_with_piecewise_linear_lr
from keras_extras.optimizers.tiger import Tiger
from keras_extras.optimizers.weight_decay import extend_with_weight_decay

__all__ = [
    "AdaFactor",
    "AdaX",
    "Adam",
    "EvaluateWithAveragedWeights",
    "Lion",
    "Tiger",
    "extend_with_child_tuning",
    "extend_with_exponential_moving_average",
    "extend_with_gradient_accumulation",
    "extend_with_gradient_centralization",
    "extend_with_layer_adaptation",
    "extend_with_lazy_optimization",
    "extend_with_lookahead",
    "extend_with_low_rank",
    "extend_with_parameter_wise_lr",
    "extend_with_piecewise_linear_lr",
    "extend_with_weight_decay",
]
