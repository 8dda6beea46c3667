"""Lion with the constants of bert4keras."""

import keras
from keras import ops

from keras_extras.optimizers.sparse import to_dense
from keras_extras.optimizers.state import OptimizerState


@keras.saving.register_keras_serializable(package="keras_extras")
class Lion(OptimizerState, keras.optimizers.Lion):
    r"""Lion: θ ← θ − γ sign(β₁m + (1 − β₁)g), then m ← β₂m + (1 − β₂)g.

    `keras.optimizers.Lion` with the defaults that the paper uses for language models, computed in
    float32 for half-precision variables.

    Args:
        learning_rate: γ, a number, schedule or callable.
        beta_1: β₁.
        beta_2: β₂.
        **kwargs: what all Keras optimizers take, such as `clipnorm` and `weight_decay`.

    Source: Chen et al., arXiv 2302.06675; bert4keras.

    Example:

    >>> Lion(1e-4).beta_1
    0.95
    """

    def __init__(self, learning_rate=3e-4, beta_1: float = 0.95, beta_2: float = 0.98, **kwargs):
        super().__init__(learning_rate=learning_rate, beta_1=beta_1, beta_2=beta_2, **kwargs)

    def update_step(self, gradient, variable, learning_rate):
        m = self._momentums[self._get_variable_index(variable)]
        gradient = ops.cast(to_dense(gradient), m.dtype)
        direction = ops.sign(self.beta_1 * m + (1 - self.beta_1) * gradient)
        self.assign_add(m, (1 - self.beta_2) * (gradient - m))
        self.assign_sub(variable, ops.cast(learning_rate, m.dtype) * direction)
