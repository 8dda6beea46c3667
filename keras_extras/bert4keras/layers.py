"""What ``from bert4keras.layers import *`` gave: Keras' layers, with ours in place of some.

`bert4keras.models` and its users' scripts take layers and several helpers from here.
"""
# ruff: noqa: F401, F403

import keras
import numpy as np
from keras import activations, initializers
from keras.layers import *

from keras_extras import layers as _layers
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
from keras_extras.layers import *

#: For `custom_objects=` of `load_model`.
custom_objects = {name: getattr(_layers, name) for name in _layers.__all__}


class Layer(keras.layers.Layer):
    """A Keras layer that passes masks on, as all custom layers of bert4keras do."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True


def integerize_shape(func):
    """Kept for scripts that decorate `build`: the shapes of Keras 3 are integers already."""
    return func
