"""`keras.backend` as scripts of Keras 2 know it (their ``K``), written in `keras.ops`.

Every function works on tensors, on `keras.Variable` and on symbolic `KerasTensor`; functions that
need a dynamic shape are traced when they are given a symbolic tensor. Signatures and results are
those of Keras 2.3, with four differences: `shape` gives a tuple (integers where a dimension is
known), `zeros` and `ones` give tensors and not variables, `random_*` draw from Keras 3's
generators, and what only a TensorFlow 1 session can do raises an error that says so.
"""

from __future__ import annotations

import builtins
import functools
import math

import keras
import numpy as np
from keras import ops

from keras_extras.bert4keras.keras_graph import (  # noqa: F401
    function,
    gradients,
    in_test_phase,
    in_train_phase,
    learning_phase,
    set_learning_phase,
)
from keras_extras.bert4keras.symbolic_calls import (
    BackendCall,  # noqa: F401
    Dimension,
    is_keras_tensor,
    traced,
)

_KERAS_BACKEND = keras.backend  # the runner of legacy scripts puts this module in its place


def symbolic(call):
    """Return `call` as it is (a decorator of Keras 2.3)."""
    return call


# --- Settings --------------------------------------------------------------------------------


backend, floatx, set_floatx = keras.config.backend, keras.config.floatx, keras.config.set_floatx
epsilon, set_epsilon = keras.config.epsilon, keras.config.set_epsilon
image_data_format = keras.config.image_data_format
name_scope, clear_session = keras.name_scope, keras.utils.clear_session

# --- Shape, dtype, value ---------------------------------------------------------------------


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


# --- Elementwise -----------------------------------------------------------------------------

abs, square, pow, exp, log = ops.absolute, ops.square, ops.power, ops.exp, ops.log
sign, round, sin, cos, tanh = ops.sign, ops.round, ops.sin, ops.cos, ops.tanh
maximum, minimum, equal, not_equal = ops.maximum, ops.minimum, ops.equal, ops.not_equal
greater, greater_equal, less, less_equal = ops.greater, ops.greater_equal, ops.less, ops.less_equal
elu, sigmoid, softplus, softsign = ops.elu, ops.sigmoid, ops.softplus, ops.softsign


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


# --- Reductions ------------------------------------------------------------------------------

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


def argmax(x, axis=-1):
    return ops.argmax(x, axis=axis)


def argmin(x, axis=-1):
    return ops.argmin(x, axis=axis)


def cumsum(x, axis=0):
    return ops.cumsum(x, axis=axis)


def cumprod(x, axis=0):
    return ops.cumprod(x, axis=axis)


def l2_normalize(x, axis=None):
    return x / ops.sqrt(ops.maximum(ops.sum(ops.square(x), axis=axis, keepdims=True), 1e-12))


# --- Shapes ----------------------------------------------------------------------------------

squeeze, stack, transpose = ops.squeeze, ops.stack, ops.transpose
permute_dimensions, repeat_elements, reverse = ops.transpose, ops.repeat, ops.flip


@traced
def reshape(tensor, *args):
    """`reshape(x, shape)`, or bert4keras' `reshape(x, shape1, axis1, shape2, axis2, …)`.

    The second form replaces the single axis ``axis1`` by the axes ``shape1``, and so on; each
    ``shape`` may hold one -1.

    >>> int_shape(reshape(np.zeros((2, 5, 12)), (3, 4), -1))
    (2, 5, 3, 4)
    """
    if len(args) == 1:
        size = args[0]
        return ops.reshape(tensor, tuple(size) if isinstance(size, (list, tuple)) else size)
    if not args or len(args) % 2:
        raise ValueError("K.reshape takes a shape, or pairs of a shape and the axis it replaces.")
    result = [[d] for d in shape(tensor)]
    for new, axis in zip(args[::2], args[1::2], strict=True):
        new = list(new)
        if -1 in new:
            i = new.index(-1)
            new[i] = result[axis][0] // math.prod(new[:i] + new[i + 1 :])
        result[axis] = new
    return ops.reshape(tensor, tuple(d for dims in result for d in dims))


@traced
def flatten(tensor, start=None, end=None):
    """Merge the axes from `start` up to and without `end` into one; all of them by default."""
    start, end = start or 0, end or ndim(tensor)
    size = shape(tensor)
    return ops.reshape(tensor, size[:start] + (prod(size[start:end]),) + size[end:])


def batch_flatten(x):
    return flatten(x, 1)


def expand_dims(x, axis=-1):
    return ops.expand_dims(x, axis)


def concatenate(tensors, axis=-1):
    return ops.concatenate(tensors, axis=axis)


@traced
def tile(x, n):
    return ops.tile(x, n)


def repeat(x, n):
    """``(batch, dim)`` to ``(batch, n, dim)``."""
    return ops.repeat(ops.expand_dims(x, 1), n, axis=1)


@traced
def arange(start, stop=None, step=1, dtype="int32"):
    return ops.arange(start, stop, step, dtype=dtype)


@traced
def one_hot(indices, num_classes):
    return ops.one_hot(ops.cast(indices, "int32"), num_classes, dtype=floatx())


@traced
def gather(reference, indices):
    """Rows of `reference`: ``reference[indices]``."""
    return ops.take(reference, ops.cast(indices, "int32"), axis=0)


@traced
def temporal_padding(x, padding=(1, 1)):
    """Zeros before and after the second axis; the numbers may be tensors."""
    size = shape(x)
    parts = [ops.zeros((size[0], n) + size[2:], dtype=dtype(x)) for n in padding]
    return ops.concatenate([parts[0], x, parts[1]], axis=1)


@traced
def pool2d(
    x, pool_size, strides=(1, 1), padding="valid", data_format=None, pool_mode="max"
):  # the signature of Keras 2
    pool = {"max": ops.max_pool, "avg": ops.average_pool}[pool_mode]
    return pool(x, pool_size, strides=strides, padding=padding, data_format=data_format)


# --- Products --------------------------------------------------------------------------------


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


# --- Losses ----------------------------------------------------------------------------------


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


# --- Randomness ------------------------------------------------------------------------------


def random_uniform(shape, minval=0.0, maxval=1.0, dtype=None, seed=None):
    return keras.random.uniform(tuple(shape), minval, maxval, dtype=dtype or floatx(), seed=seed)


def random_normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    return keras.random.normal(tuple(shape), mean, stddev, dtype=dtype or floatx(), seed=seed)


def truncated_normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    return keras.random.truncated_normal(
        tuple(shape), mean, stddev, dtype=dtype or floatx(), seed=seed
    )


def random_binomial(shape, p=0.0, dtype=None, seed=None):
    """1 with probability `p`, else 0."""
    draws = keras.random.uniform(tuple(shape), seed=seed)
    return ops.cast(draws < p, dtype or floatx())


random_bernoulli = random_binomial


@traced
def dropout(x, level, noise_shape=None, seed=None):
    return keras.random.dropout(x, level, noise_shape=noise_shape, seed=seed)


# --- Recurrence --------------------------------------------------------


@traced
def rnn(
    step_function,
    inputs,
    initial_states,
    go_backwards=False,
    mask=None,
    constants=None,
    unroll=False,
    input_length=None,
):
    """Apply ``step_function(input, states) -> (output, new_states)`` along the second axis.

    Where `mask` ``(batch, time)`` is False, the output and the states of the step before stay.

    Returns:
        ``(last_output, outputs, new_states)``; outputs are ``(batch, time, …)``.
    """
    constants = list(constants or [])
    steps = ops.moveaxis(inputs, 1, 0)
    if mask is None:
        masks = ops.ones(shape(inputs)[:2], dtype="bool")
    else:
        masks = ops.cast(mask, "bool")
        masks = ops.squeeze(masks, -1) if ndim(masks) == 3 else masks
    masks = ops.transpose(masks)
    first_output, _ = step_function(steps[0], list(initial_states) + constants)

    def keep(flag, new, old):
        return ops.where(ops.expand_dims(flag, list(range(1, ndim(new)))), new, old)

    def body(carry, element):  # ops.scan wants a step's result to look like the carry
        last, states = carry[0], carry[1:]
        x, flag = element
        output, new_states = step_function(x, list(states) + constants)
        output = keep(flag, output, last)
        new_states = [keep(flag, n, s) for n, s in zip(new_states, states, strict=True)]
        return [output, *new_states], [output, *new_states]

    carry, history = ops.scan(
        body,
        [ops.zeros_like(first_output), *initial_states],
        (steps, masks),
        reverse=go_backwards,
    )
    outputs = ops.flip(history[0], 0) if go_backwards else history[0]
    return carry[0], ops.moveaxis(outputs, 0, 1), carry[1:]


def map_fn(fn, elems, name=None, dtype=None):
    return ops.map(fn, elems)


def _no_session(name):
    def refuse(*args, **kwargs):
        raise NotImplementedError(
            f"K.{name} needs a session of TensorFlow 1, which Keras 3 does not have. Tensors "
            "have values as they are: use K.eval, model.predict or K.function instead."
        )

    refuse.__name__ = name
    return refuse


get_session = _no_session("get_session")
set_session = _no_session("set_session")


def __getattr__(name):
    """What stands in today's `keras.backend` or in `keras.ops` is there too."""
    for module in (_KERAS_BACKEND, ops):
        if hasattr(module, name):
            return getattr(module, name)
    raise AttributeError(
        f"K.{name} is not among the functions of Keras 2 that keras_extras provides, nor in "
        "keras.backend or keras.ops. Write it in keras.ops, or report the script that needs it."
    )
