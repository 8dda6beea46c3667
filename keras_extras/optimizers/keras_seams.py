"""The places of Keras' optimizers that extensions reach into and that have no public name.

Keras applies clipping and its own decoupled weight decay before `update_step`, each replica by
itself; extensions need gradients that are reduced over the replicas first, clipped once, and a
decay that goes through the same transformations as the rest of the update. All that is private is
here. Tried with Keras 3.15; `tests/optimizers/test_keras_seams.py` fails when a name moves.
"""

import contextlib
import threading

import keras
import numpy as np
from keras import ops

from keras_extras.optimizers.checking import whole_number
from keras_extras.optimizers.selecting import matrix_of
from keras_extras.optimizers.sparse import combine_repeated_rows, to_dense
from keras_extras.optimizers.state import working_dtype

PRIVATE_NAMES = (
    "_all_reduce_sum_gradients",  # TensorFlow only
    "_distributed_tf_update_step",  # TensorFlow only
    "_apply_weight_decay",
    "_backend_update_step",
    "_clip_gradients",
    "_get_current_learning_rate",
    "_get_variable_index",
    "_iterations",
    "_overwrite_variable_with_gradient",
    "_trainable_variables",
    "_use_weight_decay",
)


def on_tensorflow() -> bool:
    return keras.backend.backend() == "tensorflow"


class Gate(threading.local):
    """The condition under which the assignments of optimizers hold. Replicas are threads."""

    condition = None


GATE = Gate()


@contextlib.contextmanager
def assignments_where(condition):
    """Within it, what an optimizer assigns holds only where `condition` (a boolean tensor)."""
    GATE.condition, outer = condition, GATE.condition
    try:
        yield
    finally:
        GATE.condition = outer


class KerasSeams:
    """Mixin that stands directly before a Keras optimizer class in the order of resolution.

    It reorders a step: reduce over replicas, `prepare_gradients`, clip, then `update_step` for
    every variable if `is_update_step()` (the built-in decay is left to `builtin_weight_decay`).
    Variables without a gradient, which Keras leaves out, come last, with the gradient `None`.
    """

    def is_update_step(self):
        """A boolean tensor: do the weights move in this call? `None` means always."""
        return None

    def prepare_gradients(self, gradients: list, variables: list) -> list:
        """Gradients of all variables, reduced but not yet clipped, before the update.

        `None` stands for a variable that has no gradient in this call.
        """
        return gradients

    def builtin_weight_decay(self, variable, learning_rate):
        """The update of Keras' own `weight_decay` argument, γλθ, or `None` where it has none."""
        decay = self.weight_decay
        if hasattr(self, "adam_weight_decay"):  # Muon's, for what it leaves to Adam
            if self.adam_velocities[self._get_variable_index(variable)] is not None:
                decay = self.adam_weight_decay
        if decay is None or not self._use_weight_decay(matrix_of(variable)):
            return None
        dtype = working_dtype(variable)
        rate = ops.cast(learning_rate, dtype) * decay
        return rate * ops.cast(variable, dtype)

    def index_of(self, variable) -> int:
        """The position of a model variable in the list that the optimizer was built with."""
        return self._get_variable_index(variable)

    def _clip_gradients(self, grads):
        return grads  # later, on the reduced gradients

    def _apply_weight_decay(self, variables):
        pass  # later, as a part of the update

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return grads_and_vars  # done before

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        variables = list(trainable_variables)
        if on_tensorflow():
            reduced = super()._all_reduce_sum_gradients(list(zip(grads, variables, strict=True)))
            grads = [gradient for gradient, _ in reduced]
        grads = [combine_repeated_rows(gradient) for gradient in grads]
        absent = self._absent(variables)
        variables += absent
        grads = self.prepare_gradients([*grads, *[None] * len(absent)], variables)
        if self.clipnorm or self.global_clipnorm:  # the squares of float16 numbers overflow
            grads = [None if g is None else ops.cast(g, working_dtype(g)) for g in grads]
        grads = super()._clip_gradients(grads)

        def update():
            super(KerasSeams, self)._backend_update_step(grads, variables, learning_rate)

        condition = self.is_update_step()
        if condition is None:
            update()
        elif on_tensorflow():
            # Nadam assigns to its state before the condition in `_distributed_tf_update_step`.
            with assignments_where(condition):
                update()
        elif keras.backend.backend() == "jax":
            assign_where(condition, update, [*variables, *self.variables])
        elif bool(condition):
            update()

    def _absent(self, variables: list) -> list:
        """The variables that the optimizer was built with and that are not in the list."""
        present = {self.index_of(variable) for variable in variables}
        return [
            variable
            for index, variable in enumerate(self._trainable_variables)
            if index not in present and not self._overwrite_variable_with_gradient(variable)
        ]

    def _distributed_tf_update_step(self, distribution, grads_and_vars, learning_rate):
        GATE.condition = None

        def update():
            super(KerasSeams, self)._distributed_tf_update_step(
                distribution, grads_and_vars, learning_rate
            )

        # A condition around a merge_call cannot stand in a replica's graph: here it is inside one.
        condition = self.is_update_step()
        if condition is None:
            update()
        else:
            ops.cond(condition, update, lambda: None)

    def assign(self, variable, value):
        if GATE.condition is not None:
            value = ops.where(GATE.condition, value, ops.convert_to_tensor(variable))
        super().assign(variable, value)

    def assign_add(self, variable, value):
        if GATE.condition is None:
            super().assign_add(variable, value)
        else:
            self.assign(variable, variable + value)

    def assign_sub(self, variable, value):
        if GATE.condition is None:
            super().assign_sub(variable, value)
        else:
            self.assign(variable, variable - value)

    def accumulate(self, sums: list, gradients: list, restart) -> None:
        """`sum ← gradient` where `restart` (a boolean tensor), else `sum ← sum + gradient`.

        A gradient `None` is zero.
        """
        if not on_tensorflow():
            for total, gradient in zip(sums, gradients, strict=True):
                kept = ops.where(restart, 0.0, ops.convert_to_tensor(total))
                total.assign(kept if gradient is None else kept + ops.cast(gradient, total.dtype))
            return
        import tensorflow as tf

        def add(total, gradient):
            if gradient is None:
                zeros = tf.zeros(total.shape, total.dtype)
                ops.cond(restart, lambda: self.assign(total, zeros), lambda: None)
                return
            gradient = tf.cast(gradient, total.dtype)
            ops.cond(
                restart,
                lambda: self.assign(total, to_dense(gradient)),
                lambda: self.assign_add(total, gradient),
            )

        # Under tf.distribute each replica adds the same sums to its own copy: no merge call, which
        # could not stand in a condition around the step (loss scaling, steps left out).
        for total, gradient in zip(sums, gradients, strict=True):
            add(total, gradient)


class CountsUpdates:
    """Mixin for optimizers that see several micro-batches per update and count the updates."""

    def set_micro_batches(self, number: int) -> None:
        """Set the number of micro-batches per update, after checking it."""
        self.micro_batches = whole_number(number, "`grad_accum_steps`")

    @property
    def iterations(self):
        """Number of updates so far."""
        return ops.floor_divide(self._iterations, self.micro_batches)

    def _get_current_learning_rate(self):
        if isinstance(self._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            return self._learning_rate(self.iterations)
        return super()._get_current_learning_rate()


def stored_value(variable) -> np.ndarray | None:
    """The value of a variable now, also while a graph is traced; `None` in a step of JAX."""
    if on_tensorflow():
        import tensorflow as tf

        with tf.init_scope():
            return tf.convert_to_tensor(variable).numpy()
    try:
        return ops.convert_to_numpy(variable)
    except TypeError:  # of jax.errors
        return None


def assign_where(condition, action, variables: list) -> None:
    """Run `action`, whose assignments to `variables` only hold where `condition` (JAX).

    In JAX the branches of a condition are pure functions, so the assignments are collected in a
    scope and handed out as values.
    """

    def run():
        with keras.StatelessScope([(v, v.value) for v in variables]) as scope:
            action()
        return [scope.get_current_value(v) for v in variables]

    values = ops.cond(condition, run, lambda: [v.value for v in variables])
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
