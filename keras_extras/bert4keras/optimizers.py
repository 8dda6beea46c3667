"""`bert4keras.optimizers`: its names for the optimizers of `keras_extras.optimizers`.

bert4keras wrote everything twice, for Keras and (with ``_v2`` or ``V2`` in the name) for tf.keras;
here both names mean the same class. `Adam` is the one that bert4keras gave with TF_KERAS=1 (its
epsilon is 1e-6 and stands beside the corrected root, `bias_correction` is optional).
"""

from __future__ import annotations

import functools

from keras_extras.bert4keras.backend import K, is_tf_keras, keras, piecewise_linear
from keras_extras.bert4keras.backend import root_mean_square as rms
from keras_extras.optimizers.adafactor import AdaFactor
from keras_extras.optimizers.adam import Adam
from keras_extras.optimizers.exponential_moving_average import (
    extend_with_exponential_moving_average,
)
from keras_extras.optimizers.gradient_accumulation import extend_with_gradient_accumulation
from keras_extras.optimizers.layer_adaptation import extend_with_layer_adaptation
from keras_extras.optimizers.lazy_optimization import extend_with_lazy_optimization
from keras_extras.optimizers.lion import Lion
from keras_extras.optimizers.lookahead import extend_with_lookahead
from keras_extras.optimizers.parameter_wise_lr import extend_with_parameter_wise_lr
from keras_extras.optimizers.piecewise_linear_lr import extend_with_piecewise_linear_lr
from keras_extras.optimizers.weight_decay import extend_with_weight_decay

AdaFactorBase = AdaFactorV1 = AdaFactorV2 = AdaFactor
LionV2 = Lion

extend_with_weight_decay_v2 = extend_with_weight_decay
extend_with_layer_adaptation_v2 = extend_with_layer_adaptation
extend_with_piecewise_linear_lr_v2 = extend_with_piecewise_linear_lr
extend_with_gradient_accumulation_v2 = extend_with_gradient_accumulation
extend_with_lookahead_v2 = extend_with_lookahead
extend_with_lazy_optimization_v2 = extend_with_lazy_optimization
extend_with_exponential_moving_average_v2 = extend_with_exponential_moving_average
extend_with_parameter_wise_lr_v2 = extend_with_parameter_wise_lr

#: Optimizers by their bare names; the runner of legacy scripts puts Keras' registry here.
custom_objects = {"Adam": Adam, "AdaFactor": AdaFactor}

__all__ = [
    "AdaFactor",
    "AdaFactorBase",
    "AdaFactorV1",
    "AdaFactorV2",
    "Adam",
    "K",
    "Lion",
    "LionV2",
    "custom_objects",
    "export_to_custom_objects",
    "extend_with_exponential_moving_average",
    "extend_with_exponential_moving_average_v2",
    "extend_with_gradient_accumulation",
    "extend_with_gradient_accumulation_v2",
    "extend_with_layer_adaptation",
    "extend_with_layer_adaptation_v2",
    "extend_with_lazy_optimization",
    "extend_with_lazy_optimization_v2",
    "extend_with_lookahead",
    "extend_with_lookahead_v2",
    "extend_with_parameter_wise_lr",
    "extend_with_parameter_wise_lr_v2",
    "extend_with_piecewise_linear_lr",
    "extend_with_piecewise_linear_lr_v2",
    "extend_with_weight_decay",
    "extend_with_weight_decay_v2",
    "is_tf_keras",
    "keras",
    "piecewise_linear",
    "rms",
]


def export_to_custom_objects(base_extend_with):
    """A decorator for functions of one's own that return an optimizer class.

    The function gets a second argument `name`, and the class stands in `custom_objects`.
    """

    @functools.wraps(base_extend_with)
    def new_extend_with(BaseOptimizer, name=None):
        NewOptimizer = base_extend_with(BaseOptimizer)
        if name is not None:
            NewOptimizer.__name__ = name
        custom_objects[NewOptimizer.__name__] = NewOptimizer
        return NewOptimizer

    return new_extend_with
