"""The Dense layers inside other layers."""

from __future__ import annotations

import keras

from keras_extras.initializers import fresh


def built_dense(
    owner: keras.layers.Layer,
    units: int,
    input_shape,
    name: str,
    use_bias: bool | None = None,
    kernel_initializer=None,
    activation=None,
) -> keras.layers.Dense:
    """A built Dense layer with its owner's precision, biases and initialiser.

    Args:
        owner: the layer that holds it; its `use_bias` and `kernel_initializer` are the defaults.
        units: size of the output.
        input_shape: shape of the input.
        name: name of the layer.
        use_bias, kernel_initializer, activation: as in `keras.layers.Dense`. The initialiser is
            copied, so that no two kernels start with the same numbers.
    """
    dense = keras.layers.Dense(
        units,
        activation=activation,
        use_bias=owner.use_bias if use_bias is None else use_bias,
        kernel_initializer=fresh(kernel_initializer or owner.kernel_initializer),
        dtype=owner.dtype_policy,
        name=name,
    )
    dense.build(input_shape)
    return dense
