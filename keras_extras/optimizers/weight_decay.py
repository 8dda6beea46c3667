"""Decoupled weight decay (AdamW) for any optimizer."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_extras.optimizers.checking import require
from keras_extras.optimizers.extending import Extension, dense, extend
from keras_extras.optimizers.selecting import check_patterns, select


@keras.saving.register_keras_serializable(package="keras_extras")
class WeightDecay(Extension):
    """decoupled weight decay, u ← u + γλθ.

    Args:
        weight_decay_rate: λ.
        exclude_from_weight_decay: regular expressions; variables whose path one of them is found in
            do not decay, for example `["bias", "Norm"]`.
    """

    def __init__(
        self,
        *args,
        weight_decay_rate: float = 0.01,
        exclude_from_weight_decay: Sequence[str] | None = None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        require(weight_decay_rate >= 0, "`weight_decay_rate`", "at least 0", weight_decay_rate)
        self.weight_decay_rate = weight_decay_rate
        self._not_decayed_patterns = check_patterns(
            exclude_from_weight_decay, "exclude_from_weight_decay"
        )

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._not_decayed = select(
            variables, self._not_decayed_patterns, "exclude_from_weight_decay"
        )

    def transform_update(self, update, gradient, variable, learning_rate):
        update = super().transform_update(update, gradient, variable, learning_rate)
        excluded = self._not_decayed[self.index_of(variable)]
        if excluded or not self.weight_decay_rate or not self._use_weight_decay(variable):
            return update
        rate = ops.cast(learning_rate, update.dtype) * self.weight_decay_rate
        return dense(update) + rate * ops.cast(variable, update.dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "weight_decay_rate": self.weight_decay_rate,
            "exclude_from_weight_decay": list(self._not_decayed_patterns),
        }


def extend_with_weight_decay(BaseOptimizer: type, name: str | None = None) -> type:
    r"""Add decoupled weight decay: θ ← θ − γh − γλθ.

    The new class takes `weight_decay_rate` (λ, default 0.01) and `exclude_from_weight_decay`
    (regular expressions searched in the variables' paths, default none); what is given to Keras'
    method of that name does not decay, either. In SGD this decay is the same as a term ½λ‖θ‖² in
    the loss; in Adam it is not.

    Args:
        BaseOptimizer: a Keras optimizer class.
        name: name of the new class.

    Source: Loshchilov & Hutter, arXiv 1711.05101; kexue.fm/archives/7094.

    Example:

    >>> import keras
    >>> AdamW = extend_with_weight_decay(keras.optimizers.Adam, name="AdamW")
    >>> AdamW(0.1, weight_decay_rate=0.01, exclude_from_weight_decay=["bias"]).weight_decay_rate
    0.01
    """
    return extend(WeightDecay, BaseOptimizer, name)
