"""Lookahead: k steps forward, one step back, for any optimizer."""

import keras
from keras import ops

from keras_extras.optimizers.checking import require, whole_number
from keras_extras.optimizers.extending import Extension, extend


@keras.saving.register_keras_serializable(package="keras_extras")
class Lookahead(Extension):
    """slow weights that follow the fast ones every k updates.

    Args:
        steps_per_slow_update: k.
        slow_step_size: α.
    """

    def __init__(
        self, *args, steps_per_slow_update: int = 5, slow_step_size: float = 0.5, **kwargs
    ):
        super().__init__(*args, **kwargs)
        self.steps_per_slow_update = whole_number(steps_per_slow_update, "`steps_per_slow_update`")
        require(0 <= slow_step_size <= 1, "`slow_step_size`", "in [0, 1]", slow_step_size)
        self.slow_step_size = slow_step_size

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._slow_weights = self.add_optimizer_variables(variables, "slow")

    def before_update(self, variable):
        super().before_update(variable)
        # Fast and slow weights are equal at the start of a cycle, so weights that were loaded after
        # the optimizer was built are the right ones too.
        slow = self._slow_weights[self.index_of(variable)]
        self.assign_if(
            self.iterations % self.steps_per_slow_update == 0,
            slow,
            lambda: ops.cast(variable, slow.dtype),
        )

    def after_update(self, variable):
        super().after_update(variable)
        slow = self._slow_weights[self.index_of(variable)]
        self.assign_if(
            (self.iterations + 1) % self.steps_per_slow_update == 0,
            variable,
            lambda: self._step_back(slow, variable),
        )

    def _step_back(self, slow, fast):
        fast = ops.cast(fast, slow.dtype)
        return slow + self.slow_step_size * (fast - slow)

    def get_config(self):
        return {
            **super().get_config(),
            "steps_per_slow_update": self.steps_per_slow_update,
            "slow_step_size": self.slow_step_size,
        }


def extend_with_lookahead(BaseOptimizer: type, name: str | None = None) -> type:
    r"""Every k updates, take back a part of the way: Θ ← Θ + α(θ − Θ), θ ← Θ.

    The slow weights Θ start at the weights before the first update; the moments of the base go on.
    α = 1 is the base optimizer. The new class takes `steps_per_slow_update` (k, default 5) and
    `slow_step_size` (α, default 0.5).

    Args:
        BaseOptimizer: a Keras optimizer class.
        name: name of the new class.

    Source: Zhang, Lucas, Hinton & Ba, arXiv 1907.08610; kexue.fm/archives/6869.

    Example:

    >>> import keras
    >>> AdamLookahead = extend_with_lookahead(keras.optimizers.Adam)
    >>> optimizer = AdamLookahead(1e-3, steps_per_slow_update=5, slow_step_size=0.5)
    """
    return extend(Lookahead, BaseOptimizer, name)
