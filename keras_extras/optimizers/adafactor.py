"""AdaFactor: the second moments of a matrix from the means of its rows and columns."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_extras.optimizers.checking import require
from keras_extras.optimizers.selecting import check_patterns, matrix_of, select
from keras_extras.optimizers.sparse import to_dense
from keras_extras.optimizers.state import OptimizerState, working_dtype


@keras.saving.register_keras_serializable(package="keras_extras")
class AdaFactorSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """The rate of the paper, scale·min(0.01, 1/√t), t counting from 1."""

    def __init__(self, scale: float = 1.0):
        self.scale = scale

    def __call__(self, step):
        return self.scale * ops.minimum(0.01, ops.rsqrt(ops.cast(step + 1, "float32")))

    def get_config(self):
        return {"scale": self.scale}


@keras.saving.register_keras_serializable(package="keras_extras")
class AdaFactor(OptimizerState, keras.optimizers.Optimizer):
    r"""Adam's adaptive step with the memory of a row and a column per matrix.

    With β̂₂ = 1 − t^(−0.8), or the given β₂, and means over one of the two largest axes,

        r ← β̂₂ r + (1 − β̂₂) mean_j(g² + ε₁)
        c ← β̂₂ c + (1 − β̂₂) mean_i(g² + ε₁)
        v̂ = r c / mean(r)                     (v̂ itself is kept where nothing is factored)
        u = g/√(v̂ + ε₁),   u ← u / max(1, RMS(u)/d)
        m ← β₁ m + (1 − β₁) u,   u ← m        (only for β₁ > 0)
        θ ← θ − γ max(RMS(θ), ε₂) u           (γ u without the scale of the parameter)

    ε₁ in the root is bert4keras' addition to the paper: where a whole row and a whole column of g
    are zero, the product r c is too small for a float.

    A factored m×n matrix costs m + n numbers, which `keras.optimizers.Adafactor` does not save, as
    it keeps v̂ besides; it also always bounds the rate by 1/√t. Note that
    `keras.optimizers.get("AdaFactor")` gives that one, and
    `keras.optimizers.get("keras_extras>AdaFactor")` this one.

    Args:
        learning_rate: γ, a number, schedule or callable; `None` means min(0.01, 1/√t), times 0.05
            without the scale of the parameter. Rates of the order of 1e-3 are usual also for
            fine-tuning, as they are relative.
        beta1: β₁, momentum of the updates; 0 keeps none.
        beta2: β₂; `None` means 1 − t^(−0.8).
        epsilon1: ε₁.
        epsilon2: ε₂, the smallest scale of a parameter.
        multiply_by_parameter_scale: whether rates are relative to the parameters' RMS.
        clipping_threshold: d; `None` does not clip.
        min_dim_size_to_factor: a variable is factored if its second largest axis has at least this
            size.
        exclude_from_parameter_scale: regular expressions; variables whose path one of them is found
            in have an absolute rate.
        **kwargs: what all Keras optimizers take, such as `clipnorm` and `weight_decay`.

    Source: Shazeer & Stern, arXiv 1804.04235; kexue.fm/archives/7302; bert4keras.

    Example:

    >>> optimizer = AdaFactor(learning_rate=1e-3, min_dim_size_to_factor=128)
    >>> matrix = keras.Variable(np.ones((1000, 2000)))
    >>> optimizer.build([matrix])
    >>> [tuple(v.shape) for v in optimizer.variables[2:]]
    [(1000, 1), (1, 2000)]
    """

    def __init__(
        self,
        learning_rate=1e-3,
        beta1: float = 0.0,
        beta2: float | None = None,
        epsilon1: float = 1e-30,
        epsilon2: float = 1e-3,
        multiply_by_parameter_scale: bool = True,
        clipping_threshold: float | None = 1.0,
        min_dim_size_to_factor: int = 128,
        exclude_from_parameter_scale: Sequence[str] | None = None,
        **kwargs,
    ):
        if learning_rate is None:
            learning_rate = AdaFactorSchedule(1.0 if multiply_by_parameter_scale else 0.05)
        super().__init__(learning_rate=learning_rate, **kwargs)
        require(0 <= beta1 < 1, "`beta1`", "in [0, 1)", beta1)
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon1 = epsilon1
        self.epsilon2 = epsilon2
        self.multiply_by_parameter_scale = multiply_by_parameter_scale
        self.clipping_threshold = clipping_threshold
        self.min_dim_size_to_factor = min_dim_size_to_factor
        self._not_scaled_patterns = check_patterns(
            exclude_from_parameter_scale, "exclude_from_parameter_scale"
        )

    def factored_axes(self, shape: Sequence[int]) -> tuple[int, int] | None:
        """The second largest and the largest axis, or `None` where nothing is factored."""
        if len(shape) < 2:
            return None
        second, largest = (int(axis) for axis in np.argsort(shape, kind="stable")[-2:])
        return None if shape[second] < self.min_dim_size_to_factor else (second, largest)

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._moments, self._row_moments, self._column_moments = [], [], []
        for variable in variables:
            axes = self.factored_axes(variable.shape)
            if axes is None:
                moment = self.add_variable_from_reference(variable, "moment")
                rows = columns = None
            else:
                moment = None
                rows, columns = (self._add_mean(variable, axis) for axis in reversed(axes))
            self._moments.append(moment)
            self._row_moments.append(rows)
            self._column_moments.append(columns)
        if self.beta1 > 0:
            self._momentums = self.add_optimizer_variables(variables, "momentum")
        self._not_scaled = select(
            variables, self._not_scaled_patterns, "exclude_from_parameter_scale"
        )

    def _add_mean(self, variable, axis):
        shape = list(variable.shape)
        shape[axis] = 1
        return self.add_variable_for(variable, shape, "mean_moment")

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        dtype = working_dtype(variable)
        gradient = ops.cast(to_dense(gradient), dtype)
        update = gradient * ops.rsqrt(
            self._second_moment(index, gradient, variable) + self.epsilon1
        )
        if self.clipping_threshold is not None:
            update = update / ops.maximum(1.0, rms(update) / self.clipping_threshold)
        if self.beta1 > 0:
            momentum = self._momentums[index]
            self.assign_add(momentum, (1 - self.beta1) * (update - momentum))
            update = ops.convert_to_tensor(momentum)
        rate = ops.cast(learning_rate, dtype)
        if self.multiply_by_parameter_scale and not self._not_scaled[index]:
            size = rms(ops.cast(matrix_of(variable), dtype))
            rate = rate * ops.maximum(size, self.epsilon2)
        self.assign_sub(variable, rate * update)

    def _second_moment(self, index, gradient, variable):
        square = ops.square(gradient) + self.epsilon1
        decay = self._decay(square.dtype)
        if self._moments[index] is not None:
            return self._average(self._moments[index], square, decay)
        rows, columns = self._row_moments[index], self._column_moments[index]
        second, largest = self.factored_axes(variable.shape)
        rows = self._average(rows, ops.mean(square, axis=largest, keepdims=True), decay)
        columns = self._average(columns, ops.mean(square, axis=second, keepdims=True), decay)
        return (rows / ops.mean(rows, axis=second, keepdims=True)) * columns

    def _decay(self, dtype):
        if self.beta2 is not None:
            return self.beta2
        return 1 - ops.power(ops.cast(self.iterations + 1, dtype), -0.8)

    def _average(self, moment, value, decay):
        value = decay * moment + (1 - decay) * value
        self.assign(moment, value)
        return value

    def get_config(self):
        config = super().get_config()
        if isinstance(self._learning_rate, AdaFactorSchedule):
            config["learning_rate"] = None
        return {
            **config,
            "beta1": self.beta1,
            "beta2": self.beta2,
            "epsilon1": self.epsilon1,
            "epsilon2": self.epsilon2,
            "multiply_by_parameter_scale": self.multiply_by_parameter_scale,
            "clipping_threshold": self.clipping_threshold,
            "min_dim_size_to_factor": self.min_dim_size_to_factor,
            "exclude_from_parameter_scale": list(self._not_scaled_patterns),
        }


def rms(x):
    """The root of the mean of the squares of all of `x`."""
    return ops.sqrt(ops.mean(ops.square(x)))
