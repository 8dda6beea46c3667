"""Adam as bert4keras has it: ε beside the corrected root, and bias correction optional."""

import math

import keras
from keras import ops

from keras_extras.optimizers.sparse import to_dense
from keras_extras.optimizers.state import OptimizerState


@keras.saving.register_keras_serializable(package="keras_extras")
class Adam(OptimizerState, keras.optimizers.Adam):
    r"""Adam with optional bias correction.

    m ← β₁m + (1 − β₁)g,  v ← β₂v + (1 − β₂)g²,  θ ← θ − γ m̂/(√v̂ + ε), where m̂ = m/(1 − β₁^t) and
    v̂ = v/(1 − β₂^t), or m and v themselves without bias correction (as BERT was trained).
    `keras.optimizers.Adam` adds its ε before v is corrected.

    Args:
        learning_rate: γ, a number, schedule or callable.
        beta_1: β₁.
        beta_2: β₂.
        epsilon: ε; `None` means `keras.config.epsilon()`.
        bias_correction: whether to correct m and v.
        **kwargs: what all Keras optimizers take, such as `clipnorm` and `weight_decay`.

    Raises:
        ValueError: for `amsgrad=True`, which this class does not have.

    Source: Kingma & Ba, arXiv 1412.6980; bert4keras.

    Example:

    >>> Adam(1e-5, bias_correction=False).epsilon
    1e-06
    """

    def __init__(
        self,
        learning_rate=0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float | None = 1e-6,
        bias_correction: bool = True,
        **kwargs,
    ):
        if kwargs.get("amsgrad"):
            raise ValueError("This Adam has no AMSGrad; use keras.optimizers.Adam(amsgrad=True).")
        super().__init__(
            learning_rate=learning_rate,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=keras.config.epsilon() if epsilon is None else epsilon,
            **kwargs,
        )
        self.bias_correction = bias_correction

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        m, v = self._momentums[index], self._velocities[index]
        gradient = ops.cast(to_dense(gradient), m.dtype)
        rate = ops.cast(learning_rate, m.dtype)
        self.assign_add(m, (1 - self.beta_1) * (gradient - m))
        self.assign_add(v, (1 - self.beta_2) * (ops.square(gradient) - v))
        root = 1.0
        if self.bias_correction:
            step = ops.cast(self.iterations + 1, m.dtype)
            rate = rate / one_minus_power(self.beta_1, step)
            root = ops.sqrt(one_minus_power(self.beta_2, step))
        self.assign_sub(variable, rate * m / (ops.sqrt(v) / root + self.epsilon))

    def get_config(self):
        config = {**super().get_config(), "bias_correction": self.bias_correction}
        del config["amsgrad"]
        return config


def one_minus_power(beta: float, step):
    """1 − β^t; the plain difference has few correct digits for β close to 1 and small t."""
    return -ops.expm1(step * math.log(beta)) if beta > 0 else ops.ones_like(step)
