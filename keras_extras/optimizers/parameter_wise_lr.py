"""A learning rate of their own for some variables, for any optimizer."""

import math
import warnings
from collections.abc import Mapping
from types import MappingProxyType

import keras
from keras import ops

from keras_extras.optimizers.extending import Extension, extend
from keras_extras.optimizers.selecting import path_of


@keras.saving.register_keras_serializable(package="keras_extras")
class ParameterWiseLR(Extension):
    """multipliers of the update by parts of the variables' paths.

    Args:
        paramwise_lr_schedule: `{part of the path: multiplier}`; where several parts are found in
            one path, their multipliers are multiplied.
    """

    def __init__(self, *args, paramwise_lr_schedule: Mapping[str, float] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.paramwise_lr_schedule = MappingProxyType(dict(paramwise_lr_schedule or {}))

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._multipliers = multipliers_of(variables, self.paramwise_lr_schedule)

    def transform_update(self, update, gradient, variable, learning_rate):
        update = super().transform_update(update, gradient, variable, learning_rate)
        multiplier = self._multipliers[self.index_of(variable)]
        if multiplier == 1:
            return update
        return ops.multiply(update, ops.cast(multiplier, update.dtype))

    def get_config(self):
        return {**super().get_config(), "paramwise_lr_schedule": dict(self.paramwise_lr_schedule)}


def multipliers_of(variables, schedule: Mapping[str, float]) -> list[float]:
    """The product of the multipliers whose parts stand in each variable's path."""
    paths = [path_of(variable) for variable in variables]
    for part in schedule:
        if not any(part in path for path in paths):
            warnings.warn(
                f"{part!r} of `paramwise_lr_schedule` is part of no variable's path and has no "
                f"effect. The paths are: {', '.join(paths[:10])}{' ...' if paths[10:] else ''}.",
                stacklevel=2,
            )
    return [math.prod(rate for part, rate in schedule.items() if part in path) for path in paths]


def extend_with_parameter_wise_lr(BaseOptimizer: type, name: str | None = None) -> type:
    r"""Multiply the updates of chosen variables: θ_i ← θ_i − c_i·u_i.

    The new class takes `paramwise_lr_schedule` (`{part of the path: multiplier}`, default none). A
    CRF on a pretrained encoder, for example, learns with 100 to 1000 times the encoder's rate.

    Args:
        BaseOptimizer: a Keras optimizer class.
        name: name of the new class.

    Source: bert4keras.

    Example:

    >>> import keras
    >>> Adam = extend_with_parameter_wise_lr(keras.optimizers.Adam)
    >>> optimizer = Adam(1e-5, paramwise_lr_schedule={"crf": 1000.0, "embedding": 0.1})
    """
    return extend(ParameterWiseLR, BaseOptimizer, name)
