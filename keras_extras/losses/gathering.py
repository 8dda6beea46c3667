"""Rows of all replicas, for losses that compare the rows of a whole batch."""

from __future__ import annotations

import keras


def gather_rows(x):
    """The rows of all replicas of a `tf.distribute` strategy; gradients flow back to their replica.

    With one device, on JAX (where `keras.distribution` keeps batches whole) and on torch, the rows
    are those given.

    Args:
        x: ``(rows, …)``; replicas may have different numbers of rows.
    """
    context = replica_context()
    return x if context is None else context.all_gather(x, axis=0)


def number_of_first_row(x):
    """Where the rows of this replica begin among those of `gather_rows`."""
    context = replica_context()
    if context is None:
        return 0
    import tensorflow as tf

    sizes = context.all_gather(tf.shape(x)[:1], axis=0)
    return tf.reduce_sum(sizes[: context.replica_id_in_sync_group])


def replica_context():
    """TensorFlow's context of one of several replicas, or None."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    many = tf.distribute.get_strategy().num_replicas_in_sync > 1
    return tf.distribute.get_replica_context() if many else None
