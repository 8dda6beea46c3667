"""Keras optimizers inside of a replica: reduce the gradients first, then step as on one device.

Under tf.distribute, Keras' optimizers clip, unscale and test the gradients of each replica by
themselves, sum what is left over the replicas, and cross from replica to replica ("merge calls")
in the middle of conditions, where TensorFlow allows none. Here the gradients are summed before
anything else. From then on all replicas hold the same numbers, so each of them does what a single
device would do, with its own copy of the variables, and no replica waits for another.

A view is a second object on the state of an optimizer: it shares all its attributes, and its class
puts `OwnCopy` below the optimizer's own class. So clipping, accumulation, averages, weight decay,
loss scaling and the extensions of this package run unchanged.
"""

import copy
import functools

import tensorflow as tf

from keras_extras.training.keras_seams import lowest_optimizer_class
from keras_extras.training.replicas import sum_over_replicas

TFOptimizer = lowest_optimizer_class()


def stepping_alone(optimizer):
    """A view of the optimizer that takes gradients that are summed over the replicas already."""
    if isinstance(optimizer, Alone) and not isinstance(optimizer, ReducingFirst):
        return optimizer
    return _view(optimizer, Alone)


def reducing_first(optimizer, dense: bool = False):
    """A view of the optimizer that takes each replica's own gradients, for a step of one's own.

    With `dense`, sparse gradients become dense first (see `sum_over_replicas`).
    """
    return _view(optimizer, ReducingDense if dense else ReducingFirst)


def _view(optimizer, kind: type):
    made = type(optimizer)
    made = _class_of_view(getattr(made, "_viewed", made), kind)
    view = object.__new__(made)
    object.__setattr__(view, "__dict__", optimizer.__dict__)
    return view


@functools.cache
def _class_of_view(viewed: type, kind: type) -> type:
    return type(viewed.__name__, (kind, viewed, OwnCopy), {"_viewed": viewed})


class Alone:
    """Above the optimizer's own class: what it hands to other optimizers, and its counter."""

    @property
    def _iterations(self):
        return own_copy(self.__dict__["_iterations"])

    @property
    def inner_optimizer(self):
        return stepping_alone(self.__dict__["inner_optimizer"])

    @property
    def _inner_optimizers(self):
        return [stepping_alone(optimizer) for optimizer in self.__dict__["_inner_optimizers"]]

    def _tf_apply(self, grads, trainable_variables=None):
        # of LossScaleOptimizer, whose cross-replica version looks at the first replica only
        self._common_apply(grads, trainable_variables)


class ReducingFirst(Alone):
    """As `Alone`, for the gradients of one replica."""

    dense = False

    def apply(self, grads, trainable_variables=None):
        grads = sum_over_replicas(grads, self.dense)
        super().apply(grads, trainable_variables)


class ReducingDense(ReducingFirst):
    """As `ReducingFirst`, in a loop of steps."""

    dense = True


class OwnCopy(TFOptimizer):
    """Below the optimizer's own class, above TensorFlow's: nothing to reduce and to merge."""

    def _all_reduce_sum_gradients(self, grads_and_vars):
        return list(grads_and_vars)

    def _apply_weight_decay(self, variables):
        super(TFOptimizer, self)._apply_weight_decay(variables)

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        variables = [getattr(variable, "value", variable) for variable in trainable_variables]
        pairs = list(zip(grads, variables, strict=True))
        self._distributed_tf_update_step(ThisReplica(), pairs, learning_rate)

    def _backend_increment_gradient_accumulators(self, grads, acc_grads):
        super(TFOptimizer, self)._backend_increment_gradient_accumulators(grads, acc_grads)

    def _overwrite_model_variables_with_average_value(self, trainable_variables):
        super(TFOptimizer, self)._overwrite_model_variables_with_average_value(trainable_variables)


class ThisReplica:
    """Stands for the strategy where Keras wants to update a variable on every replica."""

    @property
    def extended(self):
        return self

    def update(self, variable, function, args=(), group=True):
        return function(variable, *args)


def own_copy(variable):
    """The Keras variable, with this replica's copy as its value.

    The counter of steps is a variable that only the first replica may write, by a merge call; but
    all replicas count the same steps.
    """
    context = tf.distribute.get_replica_context()
    copies = tf.distribute.get_strategy().experimental_local_results(variable.value)
    replica = tf.get_static_value(context.replica_id_in_sync_group) if context else None
    if replica is None:  # a TPU replicates the program, not its parts
        return variable
    own = copy.copy(variable)
    object.__setattr__(own, "_value", copies[replica % len(copies)])
    return own
