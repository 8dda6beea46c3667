"""What Keras 2's `K` computed element by element, along axes and at random: products, losses."""

from __future__ import annotations

import builtins
import functools

import keras
from keras import ops

from keras_extras.bert4keras.keras_backend.symbolic_calls import traced
from keras_extras.bert4keras.keras_backend.values import dtype, floatx, ndim, shape

# --- Elementwise ---------------------------------------------------------------------------------

abs, square, exp, log = ops.absolute, ops.square, ops.exp, ops.log
sign, round, sin, cos, tanh = ops.sign, ops.round, ops.sin, ops.cos, ops.tanh
maximum, minimum, equal, not_equal = ops.maximum, ops.minimum, ops.equal, ops.not_equal
greater, greater_equal, less, less_equal = ops.greater, ops.greater_equal, ops.less, ops.less_equal
elu, sigmoid, softplus, softsign = ops.elu, ops.sigmoid, ops.softplus, ops.softsign


def pow(x, a):
    return ops.power(x, a)


def sqrt(x):
    """√max(x, 0), as Keras 2 has it."""
    return ops.sqrt(ops.maximum(x, ops.cast(0, dtype(x))))


def clip(x, min_value, max_value):
    return ops.clip(x, min_value, max_value)


def relu(x, alpha=0.0, max_value=None, threshold=0.0):
    return keras.activations.relu(x, alpha, max_value, threshold)


def softmax(x, axis=-1):
    return ops.softmax(x, axis=axis)


def hard_sigmoid(x):
    """Keras 2's piecewise linear sigmoid: clip(0.2·x + 0.5, 0, 1)."""
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def stop_gradient(x):
    if isinstance(x, (list, tuple)):
        return type(x)(ops.stop_gradient(item) for item in x)
    return ops.stop_gradient(x)


def where(cond, x, y):
    """`x` where `cond`, else `y`; all three broadcast, numbers take the other side's dtype."""
    return ops.where(ops.cast(cond, "bool"), x, y)


def switch(condition, then_expression, else_expression):
    """`where` for tensors, `ops.cond` for a scalar condition and functions."""
    if not callable(then_expression):
        condition = ops.cast(condition, "bool")
        extra = ndim(then_expression) - ndim(condition)
        if extra > 0 and ndim(condition) > 0:
            condition = ops.expand_dims(condition, list(range(-extra, 0)))
        return ops.where(condition, then_expression, else_expression)
    return ops.cond(ops.cast(condition, "bool"), then_expression, else_expression)


# --- Reductions ----------------------------------------------------------------------------------

sum, mean, max, min = ops.sum, ops.mean, ops.max, ops.min
var, std, logsumexp = ops.var, ops.std, ops.logsumexp


def prod(x, axis=None, keepdims=False):
    """Product of a tensor's elements, or of a shape (a list of integers and scalar tensors).

    >>> prod((2, 3, 4))
    24
    """
    if isinstance(x, (list, tuple)):
        return functools.reduce(lambda a, b: a * b, x, 1)
    return ops.prod(x, axis=axis, keepdims=keepdims)


def any(x, axis=None, keepdims=False):
    return ops.any(ops.cast(x, "bool"), axis=axis, keepdims=keepdims)


def all(x, axis=None, keepdims=False):
    return ops.all(ops.cast(x, "bool"), axis=axis, keepdims=keepdims)


def _as_index(x):
    """Indices as TensorFlow gives them, in 64 bits; Keras 3 has 32."""
    return ops.cast(x, "int64") if keras.config.backend() == "tensorflow" else x


def argmax(x, axis=-1):
    return _as_index(ops.argmax(x, axis=axis))


def argmin(x, axis=-1):
    return _as_index(ops.argmin(x, axis=axis))


def cumsum(x, axis=0):
    return ops.cumsum(x, axis=axis)


def cumprod(x, axis=0):
    return ops.cumprod(x, axis=axis)


def l2_normalize(x, axis=None):
    return x / ops.sqrt(ops.maximum(ops.sum(ops.square(x), axis=axis, keepdims=True), 1e-12))


# --- Products ------------------------------------------------------------------------------------


@traced
def dot(x, y):
    """``x[…, k] y[…, k, j]``: the last axis of `x` with the last but one of `y`."""
    return ops.tensordot(x, y, axes=[[ndim(x) - 1], [builtins.max(ndim(y) - 2, 0)]])


@traced
def batch_dot(x, y, axes=None):
    """Contract one axis of `x` with one of `y`, batch by batch; a result ``(batch,)`` gets a 1."""
    if axes is None:
        axes = (ndim(x) - 1, 1 if ndim(y) == 2 else ndim(y) - 2)
    elif isinstance(axes, int):
        axes = (axes, axes)
    a, b = axes[0] % ndim(x), axes[1] % ndim(y)
    x_names = "b" + "cdefg"[: ndim(x) - 1]
    y_names = "b" + "hijkl"[: ndim(y) - 1]
    y_names = y_names[:b] + x_names[a] + y_names[b + 1 :]
    kept = "b" + x_names[1:].replace(x_names[a], "") + y_names[1:].replace(x_names[a], "")
    result = ops.einsum(f"{x_names},{y_names}->{kept}", x, y)
    return ops.expand_dims(result, -1) if len(kept) == 1 else result


# --- Losses --------------------------------------------------------------------------------------


@traced
def sparse_categorical_crossentropy(target, output, from_logits=False, axis=-1):
    """−log p(target): `target` has as many elements as `output` has without its last axis."""
    if axis not in (-1, ndim(output) - 1):
        output = ops.moveaxis(output, axis, -1)
    target = ops.reshape(ops.cast(target, "int32"), shape(output)[:-1])
    return ops.sparse_categorical_crossentropy(target, output, from_logits=from_logits)


@traced
def categorical_crossentropy(target, output, from_logits=False, axis=-1):
    target = ops.cast(target, dtype(output))
    return ops.categorical_crossentropy(target, output, from_logits=from_logits, axis=axis)


@traced
def binary_crossentropy(target, output, from_logits=False):
    target = ops.cast(target, dtype(output))
    return ops.binary_crossentropy(target, output, from_logits=from_logits)


# --- Randomness ----------------------------------------------------------------------------------


@functools.cache
def _generator(seed):
    return keras.random.SeedGenerator(seed)


def _stream(seed):
    """The source of random numbers of a seed: further numbers at each call, as in Keras 2.

    Keras 3 gives the same numbers for the same integer; so it stays on JAX, whose compiled steps
    cannot change a hidden state.
    """
    if seed is None or keras.config.backend() == "jax":
        return seed
    return _generator(int(seed))


def random_uniform(shape, minval=0.0, maxval=1.0, dtype=None, seed=None):
    """Numbers in [minval, maxval), integers if `dtype` is one of integers."""
    dtype = keras.backend.standardize_dtype(dtype or floatx())
    draw = keras.random.randint if "int" in dtype else keras.random.uniform
    return draw(tuple(shape), minval, maxval, dtype=dtype, seed=_stream(seed))


def random_normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    return keras.random.normal(
        tuple(shape), mean, stddev, dtype=dtype or floatx(), seed=_stream(seed)
    )


def truncated_normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    return keras.random.truncated_normal(
        tuple(shape), mean, stddev, dtype=dtype or floatx(), seed=_stream(seed)
    )


def random_binomial(shape, p=0.0, dtype=None, seed=None):
    """1 with probability `p`, else 0."""
    draws = keras.random.uniform(tuple(shape), seed=_stream(seed))
    return ops.cast(draws < p, dtype or floatx())


random_bernoulli = random_binomial


@traced
def dropout(x, level, noise_shape=None, seed=None):
    return keras.random.dropout(x, level, noise_shape=noise_shape, seed=_stream(seed))
