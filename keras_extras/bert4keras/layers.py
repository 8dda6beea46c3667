"""What ``from bert4keras.layers import *`` gave: Keras' layers, with ours in place of some.

`bert4keras.models` and its users' scripts take layers and several helpers from here.
"""

import sys

import keras
import numpy as np
from keras import activations, initializers
from keras.layers import *  # noqa: F403

from keras_extras import layers as _extras
from keras_extras.bert4keras import backend as _backend
from keras_extras.bert4keras.backend import (
    K,
    align,
    apply_rotary_position_embeddings,
    attention_normalize,
    is_tf_keras,
    recompute_grad,
    sequence_masking,
    sinusoidal_embeddings,
    tf,
)

_KERAS_NAMES = [name for name in dir(keras.layers) if not name.startswith("_")]


class Layer(keras.layers.Layer):
    """A Keras layer that passes masks on, as all custom layers of bert4keras do."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True


def integerize_shape(func):
    """Kept for scripts that decorate `build`: the shapes of Keras 3 are integers already."""
    return func


for _name in _extras.__all__:
    setattr(sys.modules[__name__], _name, getattr(_extras, _name))

__all__ = sorted(
    {
        *_KERAS_NAMES,
        *_extras.__all__,
        "K",
        "Layer",
        "activations",
        "align",
        "apply_rotary_position_embeddings",
        "attention_normalize",
        "initializers",
        "integerize_shape",
        "is_tf_keras",
        "keras",
        "np",
        "recompute_grad",
        "sequence_masking",
        "sinusoidal_embeddings",
        "tf",
    }
)
