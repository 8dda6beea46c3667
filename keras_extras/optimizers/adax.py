"""AdaX: second moments with an exponentially long memory."""

import math

import keras
from keras import ops

from keras_extras.optimizers.checking import require
from keras_extras.optimizers.sparse import to_dense
from keras_extras.optimizers.state import OptimizerState


@keras.saving.register_keras_serializable(package="keras_extras")
class AdaX(OptimizerState, keras.optimizers.Optimizer):
    r"""Adam whose second moment forgets less and less, and in the end nothing.

        m ← β₁m + (1 − β₁)g
        v ← (1 + β₂)v + β₂g²,   v̂ = v/((1 + β₂)^t − 1)
        θ ← θ − γ m/(√v̂ + ε)       or, with `epsilon_inside_root`,  θ ← θ − γ m/√(v̂ + ε)

    As v grows without bound, v̂ itself is kept: v̂ ← β̂v̂ + (1 − β̂)g² with
    1 − β̂ = β₂/((1 + β₂)^t − 1), which is 1 at t = 1, close to 1/t at first, and goes to 0.

    The paper has ε inside of the root, the author of kexue.fm outside. They differ where gradients
    are small: a constant gradient g moves a weight by γg/(|g| + ε) or by γg/√(g² + ε), so with
    ε = 1e-6 the step begins to shrink below |g| ≈ 1e-6 or already below |g| ≈ 1e-3.

    Args:
        learning_rate: γ, a number, schedule or callable.
        beta_1: β₁; m is not corrected for its start at zero.
        beta_2: β₂, positive.
        epsilon: ε.
        epsilon_inside_root: where ε stands.
        **kwargs: what all Keras optimizers take, such as `clipnorm` and `weight_decay`.

    Raises:
        ValueError: if `beta_1` is not in [0, 1) or `beta_2` not positive.

    Source: Li et al., arXiv 2004.09740; kexue.fm/archives/7387.

    Example:

    >>> AdaX(1e-3).beta_2
    0.0001
    """

    def __init__(
        self,
        learning_rate=1e-3,
        beta_1: float = 0.9,
        beta_2: float = 1e-4,
        epsilon: float = 1e-6,
        epsilon_inside_root: bool = False,
        **kwargs,
    ):
        super().__init__(learning_rate=learning_rate, **kwargs)
        require(0 <= beta_1 < 1, "`beta_1`", "in [0, 1)", beta_1)
        if not beta_2 > 0:
            raise ValueError(f"`beta_2` of AdaX must be positive (1e-4 is usual), got {beta_2}.")
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.epsilon_inside_root = epsilon_inside_root

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._momentums, self._velocities = self.add_optimizer_variables(
            variables, ["momentum", "corrected_velocity"]
        )

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        m, v = self._momentums[index], self._velocities[index]
        gradient = ops.cast(to_dense(gradient), m.dtype)
        step = ops.cast(self.iterations + 1, m.dtype)
        weight = self.beta_2 / ops.expm1(step * math.log1p(self.beta_2))
        self.assign_add(m, (1 - self.beta_1) * (gradient - m))
        self.assign_add(v, weight * (ops.square(gradient) - v))
        if self.epsilon_inside_root:
            root = ops.sqrt(v + self.epsilon)
        else:
            root = ops.sqrt(v) + self.epsilon
        self.assign_sub(variable, ops.cast(learning_rate, m.dtype) * m / root)

    def get_config(self):
        return {
            **super().get_config(),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "epsilon_inside_root": self.epsilon_inside_root,
        }
