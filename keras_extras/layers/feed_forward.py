"""The position-wise network of a Transformer block."""

from __future__ import annotations

import keras
from keras import activations, initializers, ops

from keras_extras.layers.dense import built_dense


@keras.saving.register_keras_serializable(package="keras_extras")
class FeedForward(keras.layers.Layer):
    """Two Dense layers, ``W_o·a(W_0·x)``, or their gated form (arXiv:2002.05202).

    A list of activations ``[a_0, a_1, …]`` gives ``W_o·(a_0(W_0·x) ⊙ a_1(W_1·x) ⊙ …)``.

    Args:
        units: size of the hidden layer.
        activation: an activation or a list of them.
        use_bias: whether the Dense layers have biases.
        kernel_initializer: for all kernels.

    The output is as wide as the input.

    >>> tuple(FeedForward(16, activation=["gelu", "linear"])(keras.ops.ones((2, 5, 8))).shape)
    (2, 5, 8)
    """

    def __init__(
        self,
        units: int,
        activation="relu",
        use_bias: bool = True,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = units
        activation = activation if isinstance(activation, list) else [activation]
        self.activation = [activations.get(a) for a in activation]
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.supports_masking = True

    def build(self, input_shape):
        for i, activation in enumerate(self.activation):
            name = f"i{i}_dense"
            dense = built_dense(self, self.units, input_shape, name, activation=activation)
            setattr(self, name, dense)
        hidden_shape = (*input_shape[:-1], self.units)
        self.o_dense = built_dense(self, input_shape[-1], hidden_shape, "o_dense")

    def call(self, inputs):
        # TensorFlow fuses product, bias and activation when the input is a matrix
        flat = ops.reshape(inputs, (-1, inputs.shape[-1]))
        x = self.i0_dense(flat)
        for i in range(1, len(self.activation)):
            x = x * getattr(self, f"i{i}_dense")(flat)
        return ops.reshape(self.o_dense(x), (-1, *ops.shape(inputs)[1:]))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "activation": [activations.serialize(a) for a in self.activation],
            "use_bias": self.use_bias,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
        }
