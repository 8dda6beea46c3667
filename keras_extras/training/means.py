"""Means over a batch that several replicas share."""

import keras

__all__ = ["global_mean"]


def global_mean(values, weights=None):
    """This replica's part of the weighted mean of `values` over the rows of all replicas.

        part_r = Σ_i w_i v_i (on replica r) / Σ w (on all replicas)

    The parts of all replicas add up to the mean, however unevenly the batch is divided. This is
    what a `compute_loss` of one's own has to return under tf.distribute.

    Args:
        values: loss of each row, token …, any shape.
        weights: weights of that shape, or None for 1.

    Returns:
        A scalar; with one replica the mean itself, and 0 where all weights are 0.

    Example:

    >>> float(global_mean(keras.ops.convert_to_tensor([1.0, 3.0])))
    2.0
    """
    values = keras.ops.convert_to_tensor(values)
    weights = keras.ops.ones_like(values) if weights is None else weights
    weights = keras.ops.cast(weights, values.dtype)
    total = keras.ops.sum(weights)
    if keras.backend.backend() == "tensorflow":
        from keras_extras.training.replicas import sum_over_replicas

        (total,) = sum_over_replicas([total])
    return keras.ops.divide_no_nan(keras.ops.sum(values * weights), total)
