"""`bert4keras.backend`, natively on Keras 3: `install` puts this module under that name.

`K` is `keras_extras.bert4keras.keras_backend`; the tensor helpers are those of `keras_extras.ops`
and the losses those of `keras_extras.losses`. Importing it changes nothing in Keras: the names
that bert4keras put into Keras' global registry stand in `ACTIVATIONS` and `INITIALIZERS` here,
where the bridge looks them up.
"""

from __future__ import annotations

import functools
import os

import keras
from keras import ops

from keras_extras.activations import gelu_erf, gelu_tanh, leaky_relu, swish
from keras_extras.bert4keras import keras_backend as K
from keras_extras.initializers import Sinusoidal
from keras_extras.losses.multilabel import (
    multilabel_categorical_crossentropy,
    sparse_multilabel_categorical_crossentropy,
)
from keras_extras.ops import (
    align,
    apply_rotary_position_embeddings,
    attention_normalize,
    root_mean_square,
    sequence_masking,
    sinusoidal_embeddings,
)

flatten, reshape, symbolic, where = K.flatten, K.reshape, K.symbolic, K.where

#: Scripts ask it to choose between two implementations; Keras 3 is neither of the two.
is_tf_keras = os.environ.get("TF_KERAS", "0").lower() in ("1", "true", "t", "yes", "y", "on")

#: RECOMPUTE=1 trades time for memory: `recompute_grad` then uses `keras.remat`.
do_recompute = os.environ.get("RECOMPUTE", "0").lower() in ("1", "true", "t", "yes", "y", "on")

#: The activations that bert4keras knows by a bare name; `set_gelu` switches "gelu".
ACTIVATIONS = {
    "gelu": gelu_erf,
    "gelu_erf": gelu_erf,
    "gelu_tanh": gelu_tanh,
    "swish": swish,
    "leaky_relu": leaky_relu,
    "root_mean_square": root_mean_square,
}

#: The initialisers that bert4keras knows by a bare name; "initializer" is a bound method's.
INITIALIZERS = {"Sinusoidal": Sinusoidal, "initializer": keras.initializers.GlorotUniform}

#: All that bert4keras put into Keras' registry: for `custom_objects=` of `load_model`.
custom_objects = {
    **ACTIVATIONS,
    **INITIALIZERS,
    "multilabel_categorical_crossentropy": multilabel_categorical_crossentropy,
}

__all__ = [
    "ACTIVATIONS",
    "INITIALIZERS",
    "K",
    "Sinusoidal",
    "align",
    "apply_rotary_position_embeddings",
    "attention_normalize",
    "batch_gather",
    "custom_objects",
    "divisible_temporal_padding",
    "dtype",
    "flatten",
    "gelu_erf",
    "gelu_tanh",
    "get_available_gpus",
    "graph_mode_decorator",
    "keras",
    "leaky_relu",
    "multilabel_categorical_crossentropy",
    "piecewise_linear",
    "pool1d",
    "recompute_grad",
    "reshape",
    "root_mean_square",
    "search_layer",
    "sequence_masking",
    "set_gelu",
    "sinusoidal_embeddings",
    "sparse_multilabel_categorical_crossentropy",
    "swish",
    "symbolic",
    "where",
]


class TensorFlow:
    """TensorFlow, imported when something of it is used; not every backend needs it."""

    def __getattr__(self, name):
        try:
            import tensorflow
        except ImportError as error:
            raise ImportError(
                f"tf.{name} needs TensorFlow, which is not installed. Install it "
                "(pip install tensorflow), or write this part in keras.ops."
            ) from error
        return getattr(tensorflow, name)


tf = TensorFlow()


def get_available_gpus() -> list[str]:
    """Names of the GPUs that this backend can use."""
    return keras.distribution.list_devices("gpu")


def set_gelu(version: str):
    """Choose what the name "gelu" means in bert4keras models: "erf" or "tanh".

    In a config.json of Hugging Face "gelu" is always the one with erf, as it is there.

    Raises:
        ValueError: another version.
    """
    functions = {"erf": gelu_erf, "tanh": gelu_tanh}
    if version.lower() not in functions:
        raise ValueError(f"set_gelu knows 'erf' and 'tanh', but got {version!r}.")
    ACTIVATIONS["gelu"] = functions[version.lower()]


def dtype(x) -> str | None:
    """The dtype of a tensor, None of anything else."""
    return K.dtype(x) if hasattr(x, "dtype") else None


def piecewise_linear(t, schedule: dict, from_zero: bool = True):
    """The piecewise linear function through the points of `schedule`.

    Args:
        t: time, a number or a scalar tensor.
        schedule: ``{time: value}``; after the last time the value stays.
        from_zero: start at (0, 0) if `schedule` has no time 0; else at the first value.

    >>> [float(piecewise_linear(t, {1000: 1, 2000: 0.1})) for t in (0, 500, 1000)]
    [0.0, 0.5, 1.0]
    """
    points = sorted(schedule.items())
    if from_zero and points[0][0] != 0:
        points = [(0, 0.0), *points]
    t = ops.cast(t, keras.config.floatx())
    x = ops.full_like(t, points[0][1])
    for (t0, x0), (t1, x1) in zip(points, points[1:], strict=False):
        x = ops.where(t >= t0, x0 + (x1 - x0) * (t - t0) / (t1 - t0), x)
    return ops.where(t >= points[-1][0], ops.full_like(t, points[-1][1]), x)


def search_layer(inputs, name: str, exclude_from: set | None = None):
    """The layer called `name` among those that `inputs` comes from, None if there is none.

    Args:
        inputs: a layer, or a symbolic tensor.
        name: the layer's name; layers inside nested models are found too.
        exclude_from: operations not to visit (again).

    The walk uses ``_keras_history`` and ``_inbound_nodes``, the same in Keras 3.12 to 3.15.
    """
    visited = set() if exclude_from is None else exclude_from
    pending = [inputs if isinstance(inputs, keras.Operation) else inputs._keras_history[0]]
    while pending:
        operation = pending.pop()
        if operation in visited:
            continue
        visited.add(operation)
        if operation.name == name:
            return operation
        if isinstance(operation, keras.Model):
            for layer in operation.layers:
                if layer.name == name:
                    return layer
        for node in operation._inbound_nodes[:1]:
            pending.extend(x._keras_history[0] for x in node.input_tensors)
    return None


@K.traced
def batch_gather(params, indices):
    """``params[b, …, indices[b, …, k]]``: gather along the last axis of `indices`.

    >>> K.eval(batch_gather(ops.array([[1, 2, 3], [4, 5, 6]]), ops.array([[2], [0]]))).tolist()
    [[3], [4]]
    """
    indices = ops.cast(indices, "int32")
    axis = len(indices.shape) - 1
    extra = len(params.shape) - len(indices.shape)
    if extra:
        indices = ops.expand_dims(indices, list(range(-extra, 0)))
        size = ops.shape(params)
        indices = ops.broadcast_to(
            indices, tuple(ops.shape(indices)[: axis + 1]) + size[axis + 1 :]
        )
    return ops.take_along_axis(params, indices, axis=axis)


def pool1d(x, pool_size, strides=1, padding="valid", data_format=None, pool_mode="max"):
    """Pooling along the second axis of ``(batch, length, dim)``."""
    pool = {"max": ops.max_pool, "avg": ops.average_pool}[pool_mode]
    return pool(x, pool_size, strides=strides, padding=padding, data_format=data_format)


@K.traced
def divisible_temporal_padding(x, n: int):
    """Pad the second axis with zeros at its end until `n` divides its length."""
    return K.temporal_padding(x, (0, -ops.shape(x)[1] % n))


def graph_mode_decorator(f, *args, **kwargs):
    """A function with its own gradient, as ``tf.custom_gradient`` takes it, applied to `args`."""
    return tf.custom_gradient(f)(*args, **kwargs)


def recompute_grad(call):
    """A decorator for a layer's `call`: with RECOMPUTE=1 its activations are computed twice.

    They are forgotten after the forward pass and computed again for the gradient
    (arXiv:1604.06174), by `keras.remat`.
    """
    if not do_recompute:
        return call

    @functools.wraps(call)
    def inner(self, inputs, **kwargs):
        structure = inputs
        return keras.remat(
            lambda *flat: call(self, keras.tree.pack_sequence_as(structure, list(flat)), **kwargs)
        )(*keras.tree.flatten(inputs))

    return inner
