"""A residual connection that starts as the identity."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_extras")
class ReZero(keras.layers.Layer):
    """``x + α·F(x)`` with one trained number α, at first 0: ReZero (arXiv:2003.04887).

    A model of any depth starts as the identity, without normalisation and warm-up. SkipInit
    (arXiv:2002.10444) is the same. The inputs are ``[x, F(x)]`` of equal shape; the mask is that
    of x.

    Args:
        alpha: what α starts with; 0 by default.

    Source: kexue.fm/archives/8747.

    >>> x = keras.ops.ones((2, 3))
    >>> float(ReZero()([x, 5 * x])[0, 0])
    1.0
    """

    def __init__(self, alpha: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.initial_alpha = alpha
        self.supports_masking = True

    def build(self, input_shape):
        start = keras.initializers.Constant(self.initial_alpha)
        self.alpha = self.add_weight(name="alpha", shape=(), initializer=start)

    def call(self, inputs):
        x, branch = inputs
        return x + ops.cast(self.alpha, branch.dtype) * branch

    def compute_mask(self, inputs, mask=None):
        return None if mask is None else mask[0]

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        return {**super().get_config(), "alpha": self.initial_alpha}
