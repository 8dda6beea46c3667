"""A learning rate that follows straight lines between given steps, for any optimizer."""

from collections.abc import Mapping
from types import MappingProxyType

import keras
from keras import ops

from keras_extras.optimizers.checking import whole_number
from keras_extras.optimizers.extending import Extension, extend


def piecewise_linear(step, schedule: Mapping[int, float]):
    """The multiplier ρ at `step`: linear between the knots, constant after the last.

    Args:
        step: number of updates done so far, a scalar tensor or number.
        schedule: `{step: multiplier}`; the line starts in (0, 0) unless there is a knot at 0.

    >>> [round(float(piecewise_linear(t, {1000: 1, 2000: 0.1})), 6) for t in (500, 1500, 3000)]
    [0.5, 0.55, 0.1]
    """
    knots = sorted(schedule.items())
    if knots[0][0] != 0:
        knots = [(0, 0.0), *knots]
    step = ops.cast(step, "float32")
    value = ops.full_like(step, knots[0][1])
    for (start, low), (end, high) in zip(knots, knots[1:], strict=False):
        fraction = ops.clip((step - start) / (end - start), 0.0, 1.0)
        line = low * (1 - fraction) + high * fraction
        value = ops.where(step > start, line, value)
    return value


def check_schedule(schedule: Mapping[int, float]) -> Mapping[int, float]:
    """The schedule with integer steps (JSON turns them into strings), read-only."""
    if not schedule:
        raise ValueError(
            "`lr_schedule` needs at least one knot {step: multiplier}, for example {1000: 1} for a "
            f"warm-up of 1000 steps; got {schedule!r}."
        )
    knots = {}
    for step, multiplier in dict(schedule).items():
        step = int(step) if isinstance(step, str) else step
        knots[whole_number(step, "A step of `lr_schedule`", least=0)] = float(multiplier)
    return MappingProxyType(knots)


@keras.saving.register_keras_serializable(package="keras_extras")
class PiecewiseLinearLR(Extension):
    """a piecewise linear multiplier of the whole update, u ← ρ_t·u.

    Args:
        lr_schedule: `{step: multiplier}`; `{1000: 1, 2000: 0.1}` warms up from 0 to the full rate
            in 1000 updates, goes down to a tenth in the next 1000 and stays there.
    """

    def __init__(self, *args, lr_schedule: Mapping[int, float] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.lr_schedule = check_schedule({0: 1} if lr_schedule is None else lr_schedule)

    def transform_update(self, update, gradient, variable, learning_rate):
        update = super().transform_update(update, gradient, variable, learning_rate)
        multiplier = piecewise_linear(self.iterations, self.lr_schedule)
        return ops.multiply(update, ops.cast(multiplier, update.dtype))

    def get_config(self):
        return {**super().get_config(), "lr_schedule": dict(self.lr_schedule)}


def extend_with_piecewise_linear_lr(BaseOptimizer: type, name: str | None = None) -> type:
    r"""Multiply the update by ρ_t, linear between knots: θ ← θ − γρ_t h.

    ρ starts in (0, 0) unless the schedule has a knot at 0 and keeps its last value; t counts
    updates (not micro-batches under gradient accumulation) and starts at 0. Everything inside is
    scaled: with weight decay inside, the decay too. The new class takes `lr_schedule` (default `{0:
    1}`).

    Args:
        BaseOptimizer: a Keras optimizer class.
        name: name of the new class.

    Source: kexue.fm/archives/7094.

    Example:

    >>> import keras
    >>> AdamLR = extend_with_piecewise_linear_lr(keras.optimizers.Adam)
    >>> optimizer = AdamLR(1e-3, lr_schedule={1000: 1, 10000: 0})
    """
    return extend(PiecewiseLinearLR, BaseOptimizer, name)
