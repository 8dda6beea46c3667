"""Exponential moving averages of the weights, for any optimizer."""

import keras
import numpy as np
from keras import ops

from keras_extras.optimizers.checking import require
from keras_extras.optimizers.extending import Extension, extend


@keras.saving.register_keras_serializable(package="keras_extras")
class ExponentialMovingAverage(Extension):
    """a moving average of the weights, to be put in their place for evaluation.

    Args:
        ema_momentum: m.
    """

    def __init__(self, *args, ema_momentum: float = 0.999, **kwargs):
        super().__init__(*args, **kwargs)
        if self.use_ema:
            raise ValueError(
                "Keras' `use_ema` and this extension both average the weights; use only one."
            )
        require(0 <= ema_momentum < 1, "`ema_momentum`", "in [0, 1)", ema_momentum)
        self.ema_momentum = ema_momentum
        self._swap = WeightSwap()

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._averages = self.add_optimizer_variables(variables, "average")

    def after_update(self, variable):
        super().after_update(variable)
        average = self._averages[self.index_of(variable)]
        difference = average - ops.cast(variable, average.dtype)
        self.assign_sub(average, (1.0 - self.ema_momentum) * difference)

    @property
    def has_averages(self) -> bool:
        """Whether there was an update, so that there is something to apply."""
        return self.built and int(ops.convert_to_numpy(self.iterations)) > 0

    @property
    def averages_in_place(self) -> bool:
        """Whether the averages stand in the model, and its weights aside."""
        return self._swap.old is not None

    def apply_ema_weights(self, bias_correction: bool = True) -> None:
        """Keep the model's weights aside and put the averages in their place.

        Keras applies a variable's constraint after the update that is averaged; so it is applied to
        the average, too.

        Args:
            bias_correction: divide by 1 − m^t, t being the number of updates.

        Raises:
            RuntimeError: if there is no average yet, or the averages are already in place.
        """
        if not self.has_averages:
            raise RuntimeError("There are no averaged weights before the first update.")
        updates = int(ops.convert_to_numpy(self.iterations))
        scale = 1.0 - self.ema_momentum**updates if bias_correction else 1.0
        values = []
        for weight, average in zip(self._trainable_variables, self._averages, strict=True):
            if average is not None:
                value = ops.convert_to_numpy(average) / scale
                values.append((weight, constrained(weight, value)))
        self._swap.put(values)

    def reset_old_weights(self) -> None:
        """Put back the weights that `apply_ema_weights` kept aside.

        Raises:
            RuntimeError: if the averages are not in place.
        """
        self._swap.back()

    def get_config(self):
        return {**super().get_config(), "ema_momentum": self.ema_momentum}


def constrained(variable, value):
    """`value` under the constraint of `variable`, if it has one."""
    return value if variable.constraint is None else variable.constraint(value)


class WeightSwap:
    """Variables that hold other values for a while, and the values to return to."""

    def __init__(self):
        self.old = None

    def put(self, values):
        if self.old is not None:
            raise RuntimeError(
                "The averaged weights are already in place; call reset_old_weights() first."
            )
        self.old = [(v, np.array(ops.convert_to_numpy(v), copy=True)) for v, _ in values]
        for variable, value in values:
            variable.assign(value)

    def back(self):
        if self.old is None:
            raise RuntimeError(
                "There are no old weights to return to; apply_ema_weights() was not called."
            )
        for variable, value in self.old:
            variable.assign(value)
        self.old = None


class EvaluateWithAveragedWeights(keras.callbacks.Callback):
    """Evaluate on the averaged weights, in `fit`'s validation and in `evaluate`.

    Before the first update there is nothing to average, and the weights are evaluated as they are.
    After an evaluation the weights are those of training again; those that an interrupted one left
    behind are put back when the next training or evaluation begins.

    So callbacks that save a model after an epoch, such as `ModelCheckpoint`, save the weights of
    training, wherever they stand in the list. To save averaged ones, call

        optimizer.apply_ema_weights()
        model.save_weights("averaged.weights.h5")
        optimizer.reset_old_weights()

    after `fit` or in the `on_epoch_end` of a callback of your own.

    Args:
        bias_correction: as in `apply_ema_weights`.

    Raises:
        ValueError: if the model's optimizer keeps no averages.
    """

    def __init__(self, bias_correction: bool = True):
        super().__init__()
        self.bias_correction = bias_correction

    def on_train_begin(self, logs=None):
        self._put_back()

    def on_test_begin(self, logs=None):
        self._put_back()
        if self._optimizer().has_averages:
            self._optimizer().apply_ema_weights(self.bias_correction)

    def on_test_end(self, logs=None):
        self._put_back()

    def _put_back(self):
        if self._optimizer().averages_in_place:
            self._optimizer().reset_old_weights()

    def _optimizer(self):
        optimizer = self.model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        if not isinstance(optimizer, ExponentialMovingAverage):
            raise ValueError(
                f"{type(optimizer).__name__} keeps no averaged weights; make its class with "
                "extend_with_exponential_moving_average(...)."
            )
        return optimizer


def extend_with_exponential_moving_average(BaseOptimizer: type, name: str | None = None) -> type:
    r"""Average the weights: θ̄ ← m θ̄ + (1 − m) θ after every update, starting at zero.

    The new class takes `ema_momentum` (m, default 0.999). Its optimizers have
    `apply_ema_weights()`, which puts θ̄/(1 − m^t) into the model, and `reset_old_weights()`, which
    undoes it; the callback `EvaluateWithAveragedWeights` calls both around each evaluation.

    Args:
        BaseOptimizer: a Keras optimizer class.
        name: name of the new class.

    Source: bert4keras; Polyak & Juditsky 1992 for averaged iterates.

    Example:

    >>> import keras
    >>> AdamEMA = extend_with_exponential_moving_average(keras.optimizers.Adam)
    >>> optimizer = AdamEMA(1e-3, ema_momentum=0.9999)
    """
    return extend(ExponentialMovingAverage, BaseOptimizer, name)
