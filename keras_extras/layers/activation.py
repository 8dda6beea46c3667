"""Activations with parameters, as layers: a saved model keeps them."""

from __future__ import annotations

import keras

from keras_extras.activations import sau


@keras.saving.register_keras_serializable(package="keras_extras")
class SAU(keras.layers.Layer):
    """Smooth activation unit, a leaky relu convolved with a normal density (arXiv:2109.13210).

    ``(1 − α)·σ·φ(x/σ) + x·(α + (1 − α)·Φ(x/σ))``; with α = 0 a smooth relu. See
    `keras_extras.activations.sau`.

    Args:
        alpha: α, slope on the left; 0.2 by default.
        sigma: σ, width of the density; 1 by default.

    Raises:
        ValueError: `sigma` is not positive.

    Source: kexue.fm/archives/8718.

    >>> print(f"{float(SAU(alpha=0.0)(keras.ops.zeros(()))):.6f}")  # 1/√(2π)
    0.398942
    """

    def __init__(self, alpha: float = 0.2, sigma: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        if sigma <= 0:
            raise ValueError(f"`sigma` must be positive, but got {sigma}.")
        self.alpha, self.sigma = alpha, sigma
        self.supports_masking = True

    def call(self, inputs):
        return sau(inputs, self.alpha, self.sigma)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "alpha": self.alpha, "sigma": self.sigma}
