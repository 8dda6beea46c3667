"""Activations of bert4keras, registered under ``keras_extras>``."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_extras")
def gelu_erf(x):
    """Exact GELU: x·Φ(x) = x/2·(1 + erf(x/√2)) (arXiv:1606.08415)."""
    return keras.activations.gelu(x, approximate=False)


@keras.saving.register_keras_serializable(package="keras_extras")
def gelu_tanh(x):
    """GELU by its tanh approximation: x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))."""
    return keras.activations.gelu(x, approximate=True)


@keras.saving.register_keras_serializable(package="keras_extras")
def swish(x):
    """x·sigmoid(x) (arXiv:1710.05941)."""
    return ops.silu(x)


@keras.saving.register_keras_serializable(package="keras_extras")
def leaky_relu(x, alpha: float = 0.2):
    """max(x, alpha·x); bert4keras' slope of 0.2 by default."""
    return ops.leaky_relu(x, negative_slope=alpha)
