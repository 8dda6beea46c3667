"""Tiger: the sign of a momentum, rates relative to the weights, and nothing else to remember."""

import re
from collections.abc import Mapping

import keras
from keras import ops

from keras_extras.optimizers.checking import require
from keras_extras.optimizers.keras_seams import CountsUpdates
from keras_extras.optimizers.piecewise_linear_lr import check_schedule, piecewise_linear
from keras_extras.optimizers.selecting import matrix_of, path_of
from keras_extras.optimizers.sparse import to_dense
from keras_extras.optimizers.state import OptimizerState


@keras.saving.register_keras_serializable(package="keras_extras")
class Tiger(OptimizerState, CountsUpdates, keras.optimizers.Optimizer):
    r"""The tight-fisted optimizer: one number of state per weight, also with accumulation.

        m ← βm + (1 − β)g
        θ ← θ − η[sign(m) + λθ]

    The rate η is relative: γρ_t·RMS(θ) for kernels, γρ_t times the RMS of each row for embeddings,
    and γρ_t/2 without decay for biases, β and γ of normalizations (by `embeddings`, `bias`, `beta`
    and `gamma` in the variables' own names). Weights that are all zero therefore stay zero.

    Accumulation over k micro-batches needs no memory of its own: m is multiplied by β in the first
    of them only, takes (1 − β)g/k from each, and θ moves in the last one. `iterations`, schedules
    and `lr_schedule` count updates.

    Where a variable's gradient is not finite, it is left out; in an update θ then shrinks towards
    its center c (1 for γ of normalizations, else 0): θ ← c + s(θ − c).

    Args:
        learning_rate: γ, a number, schedule or callable; of the order of 1e-3, as it is relative.
        beta: β; 0.965 for language, 0.945 for images.
        weight_decay: λ; `None` is 0.
        grad_accum_steps: k.
        lr_schedule: ρ, as in `extend_with_piecewise_linear_lr`; `None` is constant.
        shrink_ratio: s.
        **kwargs: what all Keras optimizers take, such as `clipnorm`.

    Raises:
        ValueError: if `grad_accum_steps` is not a positive integer, or stands beside `use_ema`; for
            Keras' own `gradient_accumulation_steps`; if `beta` is not in [0, 1).

    Source: kexue.fm/archives/9512; github.com/bojone/tiger.

    Example:

    >>> optimizer = Tiger(1e-3, grad_accum_steps=4, lr_schedule={1000: 1, 10000: 0})
    """

    def __init__(
        self,
        learning_rate=1e-3,
        beta: float = 0.965,
        weight_decay: float | None = 0.01,
        grad_accum_steps: int = 1,
        lr_schedule: Mapping[int, float] | None = None,
        shrink_ratio: float = 0.99,
        **kwargs,
    ):
        super().__init__(learning_rate=learning_rate, **kwargs)
        require(0 <= beta < 1, "`beta`", "in [0, 1)", beta)
        self.beta = beta
        self.relative_weight_decay = weight_decay or 0.0
        self.set_micro_batches(grad_accum_steps)
        if self.gradient_accumulation_steps:
            raise ValueError(
                "Tiger accumulates without the memory that Keras' `gradient_accumulation_steps` "
                "takes; use its own `grad_accum_steps`."
            )
        if self.use_ema and self.micro_batches > 1:
            raise ValueError(
                "Keras' `use_ema` would average at every micro-batch; leave `grad_accum_steps` at "
                "1, or extend Tiger with extend_with_exponential_moving_average and "
                "extend_with_gradient_accumulation."
            )
        self._window = self.micro_batches  # stays 1 where an extension accumulates
        self._schedule = check_schedule({0: 1} if lr_schedule is None else lr_schedule)
        self.shrink_ratio = shrink_ratio

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._momentums = self.add_optimizer_variables(variables, "momentum")
        self._names = [path_of(variable).split("/")[-1] for variable in variables]

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        m, k = self._momentums[index], self._window
        gradient = ops.cast(to_dense(gradient), m.dtype)
        weights = ops.cast(variable, m.dtype)
        finite = ops.all(ops.isfinite(gradient))
        gradient = ops.where(finite, gradient, 0.0)

        decays = ops.logical_and(ops.equal(self._iterations % k, 0), finite)
        kept = 1 - (1 - self.beta) * ops.cast(decays, m.dtype)
        momentum = kept * m + (1 - self.beta) / k * gradient
        self.assign(m, momentum)

        rate = ops.cast(learning_rate, m.dtype)
        rate = rate * ops.cast(piecewise_linear(self.iterations, self._schedule), m.dtype)
        name, center, decay = self._names[index], 0.0, self.relative_weight_decay
        if re.search("bias|beta|gamma", name):
            rate, decay = 0.5 * rate, 0.0
            center = 1.0 if "gamma" in name else 0.0
        else:
            matrix = matrix_of(variable)
            axes = -1 if "embeddings" in name and matrix is variable else None
            square = ops.square(ops.cast(matrix, m.dtype))
            rate = rate * ops.sqrt(ops.mean(square, axis=axes, keepdims=True))
        step = rate * (ops.sign(momentum) + decay * weights)
        shrinking = (1 - self.shrink_ratio) * (weights - center)
        moves = ops.cast(ops.equal((self._iterations + 1) % k, 0), m.dtype)
        self.assign_sub(variable, moves * ops.where(finite, step, shrinking))

    def get_config(self):
        return {
            **super().get_config(),
            "beta": self.beta,
            "weight_decay": self.relative_weight_decay,
            "grad_accum_steps": self._window,
            "lr_schedule": dict(self._schedule),
            "shrink_ratio": self.shrink_ratio,
        }
