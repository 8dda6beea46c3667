"""What Keras 2's `K` had to change the shape of tensors, and to go along their time axis."""

from __future__ import annotations

import math

from keras import ops

from keras_extras.bert4keras.keras_backend.arithmetic import prod
from keras_extras.bert4keras.keras_backend.symbolic_calls import traced
from keras_extras.bert4keras.keras_backend.values import dtype, floatx, ndim, shape

squeeze, stack, transpose = ops.squeeze, ops.stack, ops.transpose


@traced
def reshape(tensor, *args):
    """`reshape(x, shape)`, or bert4keras' `reshape(x, shape1, axis1, shape2, axis2, …)`.

    The second form replaces the single axis ``axis1`` by the axes ``shape1``, and so on; each
    ``shape`` may hold one -1.

    >>> tuple(reshape(ops.zeros((2, 5, 12)), (3, 4), -1).shape)
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


def permute_dimensions(x, pattern):
    return ops.transpose(x, pattern)


def repeat_elements(x, rep, axis):
    return ops.repeat(x, rep, axis=axis)


def reverse(x, axes):
    return ops.flip(x, axes)


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
