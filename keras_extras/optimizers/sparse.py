"""Sparse gradients (`tf.IndexedSlices`): the rows of an embedding that a batch touched.

Keras hands them to optimizers as they come from the tape, with an index repeated when a token
stands twice in the batch; a square of such values is not the square of their sum. What extensions
see is free of repetitions. JAX and torch give dense gradients, for which all of this is the
identity.
"""

import keras
from keras import ops


def is_sparse(gradient) -> bool:
    """Whether `gradient` is a `tf.IndexedSlices`."""
    return keras.backend.backend() == "tensorflow" and hasattr(gradient, "dense_shape")


def to_dense(gradient):
    """The gradient as a dense tensor, rows of repeated indices added up."""
    if is_sparse(gradient):
        import tensorflow as tf

        return tf.convert_to_tensor(gradient)
    return ops.convert_to_tensor(gradient)


def combine_repeated_rows(gradient):
    """The same sparse gradient with every index once, its rows added up (dense: unchanged)."""
    if not is_sparse(gradient):
        return gradient
    import tensorflow as tf

    indices, positions = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, positions, tf.shape(indices)[0])
    values.set_shape([None, *gradient.values.shape[1:]])
    return tf.IndexedSlices(values, indices, gradient.dense_shape)


def rows_of(variable, gradient):
    """The rows of `variable` that the sparse `gradient` speaks of, without reading the others."""
    import tensorflow as tf

    resource = variable.value if isinstance(variable, keras.Variable) else variable
    return tf.gather(resource, gradient.indices)


def sparse_like(gradient, values):
    """`values` as the rows of a sparse tensor with the indices of `gradient`."""
    import tensorflow as tf

    return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
