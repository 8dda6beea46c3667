"""Layer-wise adaptation of the step (LAMB, LARS) for any optimizer."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_extras.optimizers.extending import Extension, dense, extend
from keras_extras.optimizers.selecting import check_patterns, select


@keras.saving.register_keras_serializable(package="keras_extras")
class LayerAdaptation(Extension):
    """a step as long as the rate times the parameter, u ← u·‖θ‖/‖u/γ‖.

    Args:
        exclude_from_layer_adaptation: regular expressions; variables whose path one of them is
            found in keep their step.
    """

    def __init__(self, *args, exclude_from_layer_adaptation: Sequence[str] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self._not_adapted_patterns = check_patterns(
            exclude_from_layer_adaptation, "exclude_from_layer_adaptation"
        )

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._not_adapted = select(
            variables, self._not_adapted_patterns, "exclude_from_layer_adaptation"
        )

    def transform_update(self, update, gradient, variable, learning_rate):
        update = super().transform_update(update, gradient, variable, learning_rate)
        if self._not_adapted[self.index_of(variable)]:
            return update
        update = dense(update)
        rate = ops.maximum(ops.cast(learning_rate, update.dtype), keras.config.epsilon())
        length = norm(ops.cast(variable, update.dtype))
        step = norm(update / rate)
        usable = ops.logical_and(length > 0, step > 0)
        ratio = ops.where(usable, length / ops.where(usable, step, 1.0), 1.0)
        return ratio * update

    def get_config(self):
        return {
            **super().get_config(),
            "exclude_from_layer_adaptation": list(self._not_adapted_patterns),
        }


def norm(x):
    """The Euclidean norm of all of `x`."""
    return ops.sqrt(ops.sum(ops.square(x)))


def extend_with_layer_adaptation(BaseOptimizer: type, name: str | None = None) -> type:
    r"""Scale each variable's step to the variable: θ ← θ − γ h·‖θ‖₂/‖h‖₂, where h = u/γ.

    The ratio is 1 where either norm is 0. LAMB is layer adaptation of Adam with weight decay
    inside, `extend_with_layer_adaptation(extend_with_weight_decay(Adam))`. A schedule of the rate
    belongs outside: the ratio undoes a scaling of what stands inside. A γ below
    `keras.config.epsilon()`, 1e-7, counts as that. The new class takes
    `exclude_from_layer_adaptation` (regular expressions searched in the variables' paths, default
    none; LAMB's authors exclude biases and normalization).

    Args:
        BaseOptimizer: a Keras optimizer class.
        name: name of the new class.

    Source: You et al., arXiv 1904.00962; kexue.fm/archives/7094.

    Example:

    >>> import keras
    >>> Lamb = extend_with_layer_adaptation(keras.optimizers.Adam, name="LambWithoutDecay")
    >>> optimizer = Lamb(1e-3, exclude_from_layer_adaptation=["bias", "gamma", "beta"])
    """
    return extend(LayerAdaptation, BaseOptimizer, name)
