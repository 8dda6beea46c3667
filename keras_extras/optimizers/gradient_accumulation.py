"""Gradient accumulation: a large batch in several small ones, for any optimizer."""

import keras
from keras import ops

from keras_extras.optimizers.extending import Extension, extend
from keras_extras.optimizers.keras_seams import CountsUpdates, assignments_where


@keras.saving.register_keras_serializable(package="keras_extras")
class GradientAccumulation(Extension, CountsUpdates):
    """one update for the mean gradient of several micro-batches.

    Args:
        grad_accum_steps: number k of micro-batches per update.
    """

    def __init__(self, *args, grad_accum_steps: int = 2, **kwargs):
        super().__init__(*args, **kwargs)
        if self.use_ema:
            raise ValueError(
                "Keras' `use_ema` would average at every micro-batch; "
                "use extend_with_exponential_moving_average instead."
            )
        self.set_micro_batches(grad_accum_steps)

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._gradient_sums = self.add_optimizer_variables(variables, "gradient_sum")

    def is_update_step(self):
        return ops.equal((self._iterations + 1) % self.micro_batches, 0)

    def prepare_gradients(self, gradients, variables):
        gradients = super().prepare_gradients(gradients, variables)
        indices = [self.index_of(variable) for variable in variables]
        pairs = zip(indices, gradients, strict=True)
        self._absent_now = {index for index, gradient in pairs if gradient is None}
        sums = [self._gradient_sums[index] for index in indices]
        self.accumulate(sums, gradients, restart=self._iterations % self.micro_batches == 0)
        return [ops.divide(total, self.micro_batches) for total in sums]

    def whole_update(self, gradient, variable, learning_rate):
        if self.index_of(variable) not in self._absent_now:
            return super().whole_update(gradient, variable, learning_rate)
        # In the last micro-batch it had no gradient. Had it one in another, the mean is not zero.
        had_one = ops.any(ops.not_equal(gradient, 0))
        with assignments_where(had_one):
            update = super().whole_update(gradient, variable, learning_rate)
        return ops.where(had_one, update, ops.zeros_like(update))

    def get_config(self):
        return {**super().get_config(), "grad_accum_steps": self.micro_batches}


def extend_with_gradient_accumulation(BaseOptimizer: type, name: str | None = None) -> type:
    r"""Update once for k micro-batches, with the mean of their gradients.

    The update follows the k-th micro-batch, and equals that of one batch with all their samples if
    the loss is a mean over samples and the micro-batches are equally large (and without batch
    normalization). A variable that has a gradient in some of the micro-batches takes part; one that
    has none in all of them stays what it is. Clipping, schedules, bias corrections, slow and
    averaged weights and `optimizer.iterations` see updates only, wherever the accumulation stands
    in a tower. The new class takes `grad_accum_steps` (k, default 2).

    `Tiger` accumulates by itself and needs no memory for it, `Tiger(grad_accum_steps=k)`, but then
    nothing else can extend it; extended, it sees the mean as any other base does.

    Args:
        BaseOptimizer: a Keras optimizer class.
        name: name of the new class.

    Source: kexue.fm/archives/6794.

    Example:

    >>> import keras
    >>> AdamAccumulated = extend_with_gradient_accumulation(keras.optimizers.Adam)
    >>> optimizer = AdamAccumulated(1e-3, grad_accum_steps=4)
    """
    return extend(GradientAccumulation, BaseOptimizer, name)
