"""Batches as Keras 2 took them, brought into the form that Keras 3 wants.

Keras 2 accepted lists of arrays, lists of lists of numbers, and generators that yield lists with
None for missing targets; every batch could have its own sequence length.
"""

from __future__ import annotations

import itertools

import keras
import numpy as np


def as_array(x):
    """One array: 64-bit floats become 32-bit, rows of equal length are stacked."""
    if not isinstance(x, np.ndarray):
        x = np.asarray(keras.ops.convert_to_numpy(x) if keras.ops.is_tensor(x) else x)
    if x.dtype == object:
        x = np.array(x.tolist(), dtype="float32")
    return x.astype("float32") if x.dtype == np.float64 else x


def as_arrays(x, likes):
    """What the model takes for the tensors `likes`: an array for one, else a tuple of arrays.

    For one tensor a list of one array is that array, and a list of numbers is an array itself.
    """
    if x is None:
        return None
    if isinstance(x, dict):
        return {name: as_array(value) for name, value in x.items()}
    if len(likes) != 1:
        return tuple(as_array(value) for value in x)
    if isinstance(x, (list, tuple)) and len(x) == 1:
        if hasattr(x[0], "shape") or np.ndim(x[0]) == len(likes[0].shape):
            x = x[0]
    return as_array(x)


def in_order(model, y):
    """Targets that are given by the names of the output layers, in the order of the outputs."""
    if not isinstance(y, dict):
        return y
    values = tuple(y[name] for name in model.output_names)
    return values[0] if len(values) == 1 else values


def as_batch(model, batch, only_inputs: bool = False):
    """A batch ``(x, y, sample_weight)`` without the None at its end.

    Args:
        model: tells how many inputs and outputs there are.
        batch: a tuple or list, as Keras 2's generators yield it.
        only_inputs: a list stands for the inputs, as `predict_generator` has it.

    Raises:
        ValueError: the batch has another length.
    """
    if only_inputs and not isinstance(batch, tuple):
        batch = (batch,)
    if not isinstance(batch, (list, tuple)) or not 1 <= len(batch) <= 3:
        raise ValueError(
            "A generator must yield (x, y) or (x, y, sample_weight), "
            f"but yielded {type(batch).__name__} {str(batch)[:80]}."
        )
    x, y, weight = (*batch, None, None)[:3]
    outputs = model.outputs
    y, weight = in_order(model, y), in_order(model, weight)
    parts = [as_arrays(x, model.inputs), as_arrays(y, outputs), as_arrays(weight, outputs)]
    while parts[-1] is None:
        parts.pop()
    return tuple(parts)


def _spec(arrays, static):
    """The signature of one tensor: `static` dimensions hold, 1 in every batch stays 1."""
    import tensorflow as tf

    first = arrays[0]
    static = static if static is not None and len(static) == first.ndim else (None,) * first.ndim
    dims = [None]
    for axis in range(1, first.ndim):
        alike = all(a.ndim == first.ndim and a.shape[axis] == first.shape[axis] for a in arrays)
        known = first.shape[axis] in (1, static[axis])
        dims.append(first.shape[axis] if alike and known else None)
    return tf.TensorSpec(dims[: first.ndim], first.dtype)


def dataset(model, generator, only_inputs: bool = False):
    """A `tf.data.Dataset` of the batches of `generator`, whatever their lengths.

    A dimension is fixed only where the model's input or output fixes it, or where it is 1.
    """
    import tensorflow as tf

    batches = (as_batch(model, batch, only_inputs) for batch in generator)
    first = list(itertools.islice(batches, 2))
    if not first:
        raise ValueError("The generator yielded no batch.")
    signature = []
    likes = (model.inputs, model.outputs, ())
    for part, tensors in zip(zip(*first, strict=True), likes, strict=False):
        shapes = [x.shape for x in tensors]
        if isinstance(part[0], dict):
            by_name = {x.name: x.shape for x in tensors}
            signature.append({k: _spec([p[k] for p in part], by_name.get(k)) for k in part[0]})
        elif isinstance(part[0], tuple):
            shapes = shapes or [None] * len(part[0])
            signature.append(
                tuple(_spec(a, s) for a, s in zip(zip(*part, strict=True), shapes, strict=True))
            )
        else:
            signature.append(_spec(part, shapes[0] if shapes else None))
    return tf.data.Dataset.from_generator(
        lambda: itertools.chain(first, batches), output_signature=tuple(signature)
    ).prefetch(2)


def with_targets_in_order(model, x):
    """A `tf.data.Dataset` whose targets are no dictionaries."""
    return x.map(lambda x, *y: (x, *(in_order(model, part) for part in y)))


def is_generator(x) -> bool:
    """Whether `x` is iterated over batch by batch: a generator, or a Keras 2 `Sequence`."""
    return hasattr(x, "__next__") or is_sequence(x)


def is_sequence(x) -> bool:
    return isinstance(x, keras.utils.Sequence)


def endless(sequence, shuffle: bool = True):
    """The batches of a `Sequence` over and over, in random order as Keras 2 drew them."""
    while True:
        order = np.random.permutation(len(sequence)) if shuffle else range(len(sequence))
        for i in order:
            yield sequence[int(i)]
        if hasattr(sequence, "on_epoch_end"):
            sequence.on_epoch_end()
