"""Affine maps of the last axis and (conditional) layer normalisation."""

from __future__ import annotations

import keras
from keras import activations, initializers, ops

from keras_extras.layers.dense import built_dense
from keras_extras.ops import align


@keras.saving.register_keras_serializable(package="keras_extras")
class ScaleOffset(keras.layers.Layer):
    """``γ·x + β`` along the last axis, γ and β trained, constant, absent or conditional.

    Args:
        scale: True trains γ (from 1), a number is used as it is, False or None leaves it out.
        offset: True trains β (from 0), a number is used as it is, False or None leaves it out.
        conditional: the inputs are ``[x, condition]``, and linear maps of the condition
            ``(batch, dim_c)``, starting at zero, are added to γ and β (kexue.fm/archives/7124).
        hidden_units: size of a Dense layer through which the condition passes first.
        hidden_activation: its activation.
        hidden_initializer: its initialiser.

    Weights in order: beta, gamma, then the kernels of hidden, beta and gamma maps.

    >>> float(ScaleOffset(scale=2.0, offset=1.0)(keras.ops.ones((1, 2)))[0, 0])
    3.0
    """

    def __init__(
        self,
        scale: bool | float | None = True,
        offset: bool | float | None = True,
        conditional: bool = False,
        hidden_units: int | None = None,
        hidden_activation="linear",
        hidden_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.scale = scale
        self.offset = offset
        self.conditional = conditional
        self.hidden_units = hidden_units
        self.hidden_activation = activations.get(hidden_activation)
        self.hidden_initializer = initializers.get(hidden_initializer)
        self.supports_masking = True

    @property
    def _scales(self) -> bool:
        return self.scale is not False and self.scale is not None

    @property
    def _offsets(self) -> bool:
        return self.offset is not False and self.offset is not None

    def build(self, input_shape):
        condition_shape = None
        if self.conditional:
            input_shape, condition_shape = input_shape
        size = input_shape[-1]
        if self.offset is True:
            self.beta = self.add_weight(name="beta", shape=(size,), initializer="zeros")
        if self.scale is True:
            self.gamma = self.add_weight(name="gamma", shape=(size,), initializer="ones")
        if not self.conditional:
            return
        if self.hidden_units is not None:
            self.hidden_dense = self._condition_dense(
                self.hidden_units,
                condition_shape,
                "hidden_dense",
                self.hidden_initializer,
                self.hidden_activation,
            )
            condition_shape = (*condition_shape[:-1], self.hidden_units)
        if self._offsets:
            self.beta_dense = self._condition_dense(size, condition_shape, "beta_dense")
        if self._scales:
            self.gamma_dense = self._condition_dense(size, condition_shape, "gamma_dense")

    def _condition_dense(self, units, shape, name, initializer="zeros", activation=None):
        return built_dense(self, units, shape, name, False, initializer, activation)

    def call(self, inputs):
        condition = None
        if self.conditional:
            inputs, condition = inputs
            if self.hidden_units is not None:
                condition = self.hidden_dense(condition)
        return self._scale_and_offset(inputs, condition)

    def _scale_and_offset(self, x, condition):
        ndim = len(x.shape)
        if self._scales:
            gamma = self.gamma if self.scale is True else self.scale
            if condition is not None:
                gamma = gamma + align(self.gamma_dense(condition), [0, -1], ndim)
            x = x * ops.cast(gamma, x.dtype)
        if self._offsets:
            beta = self.beta if self.offset is True else self.offset
            if condition is not None:
                beta = beta + align(self.beta_dense(condition), [0, -1], ndim)
            x = x + ops.cast(beta, x.dtype)
        return x

    def compute_mask(self, inputs, mask=None):
        return mask[0] if self.conditional and mask is not None else mask

    def compute_output_shape(self, input_shape):
        return input_shape[0] if self.conditional else input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "scale": self.scale,
            "offset": self.offset,
            "conditional": self.conditional,
            "hidden_units": self.hidden_units,
            "hidden_activation": activations.serialize(self.hidden_activation),
            "hidden_initializer": initializers.serialize(self.hidden_initializer),
        }


@keras.saving.register_keras_serializable(package="keras_extras")
class LayerNormalization(ScaleOffset):
    """Layer normalisation (arXiv:1607.06450), optionally conditional (kexue.fm/archives/7124).

    ``γ·(x − mean)/√(variance + ε) + β`` over the last axis, computed in float32.

    Args:
        zero_mean: subtract the mean; without it this is RMSNorm (arXiv:1910.07467).
        unit_variance: divide by the standard deviation.
        epsilon: ε; `keras.config.epsilon()` (1e-7) by default.
        **kwargs: those of `ScaleOffset`.

    >>> tuple(LayerNormalization()(keras.ops.ones((2, 5, 8))).shape)
    (2, 5, 8)
    """

    def __init__(
        self,
        zero_mean: bool = True,
        unit_variance: bool = True,
        epsilon: float | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.zero_mean = zero_mean
        self.unit_variance = unit_variance
        self.epsilon = epsilon or keras.config.epsilon()

    def call(self, inputs):
        condition = None
        if self.conditional:
            inputs, condition = inputs
            if self.hidden_units is not None:
                condition = self.hidden_dense(condition)
        low = keras.backend.standardize_dtype(inputs.dtype) in ("float16", "bfloat16")
        x = ops.cast(inputs, "float32") if low else inputs
        if self.zero_mean:
            x = x - ops.mean(x, axis=-1, keepdims=True)
        if self.unit_variance:
            variance = ops.mean(ops.square(x), axis=-1, keepdims=True)
            x = x * ops.rsqrt(variance + self.epsilon)
        return ops.cast(self._scale_and_offset(x, condition), inputs.dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "zero_mean": self.zero_mean,
            "unit_variance": self.unit_variance,
            "epsilon": self.epsilon,
        }
