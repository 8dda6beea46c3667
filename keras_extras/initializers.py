"""Initialisers of bert4keras and the blog, registered under ``keras_extras>``."""

from __future__ import annotations

import keras
from keras import ops

from keras_extras.ops import sinusoidal_embeddings

#: A standard normal cut at ±2 has standard deviation 1/1.13684723 (kexue.fm/archives/8747).
TRUNCATION_CORRECTION = 1.13684723


@keras.saving.register_keras_serializable(package="keras_extras")
class Sinusoidal(keras.initializers.Initializer):
    """A table of sinusoidal position vectors (arXiv:1706.03762), for shape ``(positions, dim)``.

    >>> keras.ops.shape(Sinusoidal()((8, 4)))
    (8, 4)
    """

    def __call__(self, shape, dtype=None):
        size, dim = shape
        table = sinusoidal_embeddings(ops.arange(size, dtype="float32"), dim)
        return ops.cast(table, dtype or keras.config.floatx())


@keras.saving.register_keras_serializable(package="keras_extras")
class RoFormerV2Initializer(keras.initializers.Initializer):
    """The initialiser of RoFormerV2 (kexue.fm/archives/8998).

    A normal cut at ±2 standard deviations with nominal deviation

        1.13684723 / √h · gain · num_hidden_layers^(−1/order),

    where ``h`` is the second axis of embedding-like shapes (first axis above 10000 or below 10)
    and the first axis otherwise.

    Args:
        num_hidden_layers: depth of the model.
        order, gain: as in the formula.
        seed: an integer; None draws anew at every call.
    """

    def __init__(self, num_hidden_layers: int, order: float = 2, gain: float = 1.0, seed=None):
        self.num_hidden_layers = num_hidden_layers
        self.order = order
        self.gain = gain
        self.seed = seed

    def __call__(self, shape, dtype=None, order=None, gain=None):
        hidden_size = shape[1] if shape[0] > 10000 or shape[0] < 10 else shape[0]
        stddev = TRUNCATION_CORRECTION / hidden_size**0.5 * (gain or self.gain)
        stddev *= self.num_hidden_layers ** (-1.0 / (order or self.order))
        return keras.initializers.TruncatedNormal(stddev=stddev, seed=self.seed)(shape, dtype)

    def get_config(self):
        return {
            "num_hidden_layers": self.num_hidden_layers,
            "order": self.order,
            "gain": self.gain,
            "seed": self.seed,
        }


def fresh(initializer):
    """A copy of `initializer` that draws numbers of its own.

    An initialiser of Keras 3 without a seed draws one when it is made and gives the same numbers
    at every call: a layer with several kernels needs one initialiser for each.
    """
    if isinstance(initializer, keras.initializers.Initializer):
        return initializer.__class__.from_config(initializer.get_config())
    return initializer
