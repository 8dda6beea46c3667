"""What Keras 2's `K` had for settings, shapes, dtypes and values of tensors and variables."""

from __future__ import annotations

import math

import keras
import numpy as np
from keras import ops

from keras_extras.bert4keras.keras_backend.symbolic_calls import Dimension, is_keras_tensor

backend, floatx, set_floatx = keras.config.backend, keras.config.floatx, keras.config.set_floatx
epsilon, set_epsilon = keras.config.epsilon, keras.config.set_epsilon
image_data_format = keras.config.image_data_format
name_scope, clear_session = keras.name_scope, keras.utils.clear_session


def shape(x):
    """The shape of `x` as a tuple: an integer where the dimension is known, else a scalar tensor.

    >>> shape(np.zeros((2, 3)))
    (2, 3)
    """
    if is_keras_tensor(x):
        return tuple(Dimension(i)(x) if d is None else d for i, d in enumerate(x.shape))
    return tuple(ops.shape(x))


def int_shape(x):
    """The static shape of `x`, None where a dimension is unknown; None if it has no shape."""
    try:
        return None if x.shape is None else tuple(x.shape)
    except (AttributeError, ValueError):
        return None


def ndim(x) -> int:
    return len(x.shape)


def dtype(x) -> str:
    return keras.backend.standardize_dtype(x.dtype)


cast = ops.cast


def cast_to_floatx(x):
    return ops.cast(x, floatx())


def constant(value, dtype=None, shape=None, name=None):
    value = ops.convert_to_tensor(value, dtype=dtype or floatx())
    return value if shape is None else ops.broadcast_to(value, tuple(shape))


def variable(value, dtype=None, name=None, constraint=None):
    """A trainable `keras.Variable` that starts at `value`."""
    value = np.asarray(ops.convert_to_numpy(value), dtype=dtype or floatx())
    return keras.Variable(value, dtype=dtype or floatx(), name=name)


def placeholder(shape=None, ndim=None, dtype=None, sparse=False, name=None):
    """A symbolic tensor: `shape` holds the batch axis, or `ndim` axes are left open."""
    return keras.Input(
        batch_shape=tuple(shape) if shape is not None else (None,) * ndim,
        dtype=dtype or floatx(),
        name=name,
    )


def zeros(shape, dtype=None, name=None):
    return ops.zeros(tuple(shape), dtype=dtype or floatx())


def ones(shape, dtype=None, name=None):
    return ops.ones(tuple(shape), dtype=dtype or floatx())


def zeros_like(x, dtype=None, name=None):
    return ops.zeros_like(x, dtype=dtype)


def ones_like(x, dtype=None, name=None):
    return ops.ones_like(x, dtype=dtype)


def eye(size, dtype=None, name=None):
    return ops.eye(size, dtype=dtype or floatx())


def identity(x, name=None):
    return ops.add(x, ops.zeros((), dtype=dtype(x)))


def _value_error(x, name):
    return ValueError(
        f"K.{name} needs a tensor that has a value, but {x!r} is symbolic: it is a place in a "
        "model's graph. Use K.function or model.predict to compute it from inputs."
    )


def eval(x):
    """The value of a variable or tensor as a NumPy array."""
    if is_keras_tensor(x):
        raise _value_error(x, "eval")
    return np.array(ops.convert_to_numpy(x))


get_value = eval


def batch_get_value(tensors):
    return [eval(x) for x in tensors]


def set_value(x, value):
    """Give the variable `x` a new value.

    Raises:
        ValueError: `x` is no variable.
    """
    if not hasattr(x, "assign"):
        raise ValueError(
            f"K.set_value needs a variable, but got {x!r}. A learning rate that comes from a "
            "schedule cannot be set: give the optimizer a number instead."
        )
    x.assign(np.asarray(value))


def batch_set_value(tuples):
    for x, value in tuples:
        set_value(x, value)


def count_params(x) -> int:
    return math.prod(int_shape(x))


def update(x, new_x):
    """Assign `new_x` to the variable `x`; the optimizers of keras_extras do not go through it."""
    return x.assign(new_x)


def update_add(x, increment):
    return x.assign(x + increment)


def update_sub(x, decrement):
    return x.assign(x - decrement)
