"""BERT-whitening as a Keras layer."""

from __future__ import annotations

import keras
from keras import ops

from keras_extras.losses.cosent import unit_vectors
from keras_extras.similarity.whitening import compute_kernel_bias


@keras.saving.register_keras_serializable(package="keras_extras")
class Whitening(keras.layers.Layer):
    """``(x - βμ) U Λ^{-γ/2}``, normalized: BERT-whitening, saved with the model.

    ``adapt`` learns it from vectors; until then it changes nothing but the length (and keeps the
    first `units` numbers). Its weights are not trained.

    Args:
        units: how many dimensions to keep; None (default): all.
        beta, gamma: as in `keras_extras.similarity.compute_kernel_bias`; 1 by default.
        normalize: divide each vector by its length; True by default.

    Input ``(…, dim)``, output ``(…, units)``.

    Source: Su et al., arXiv:2103.15316; kexue.fm/archives/8069, 9079.

    >>> import numpy as np
    >>> layer = Whitening(units=1)
    >>> layer.adapt(np.array([[1.0, 0], [-1, 0], [0, 2], [0, -2]]))
    >>> layer(np.array([[7.0, 3.0]])).shape[-1]
    1
    """

    def __init__(
        self,
        units: int | None = None,
        beta: float = 1.0,
        gamma: float = 1.0,
        normalize: bool = True,
        **kwargs,
    ):
        super().__init__(trainable=kwargs.pop("trainable", False), **kwargs)
        self.units, self.beta, self.gamma, self.normalize = units, beta, gamma, normalize
        self.supports_masking = True

    def build(self, input_shape):
        dim = input_shape[-1]
        units = self.units or dim
        if units > dim:
            raise ValueError(
                f"Whitening cannot make {units} dimensions of {dim}: give fewer units."
            )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(dim, units),
            initializer=lambda shape, dtype: ops.eye(*shape, dtype=dtype),
            trainable=False,
        )
        self.bias = self.add_weight(name="bias", shape=(dim,), initializer="zeros", trainable=False)

    def adapt(self, vectors) -> None:
        """Learns the transform.

        Args:
            vectors: array ``(rows, dim)``, or an iterable of such batches.

        Raises:
            ValueError: the vectors span fewer dimensions than `units`.
        """
        kernel, bias = compute_kernel_bias(vectors, self.units, self.beta, self.gamma)
        if not self.built:
            self.build((None, len(bias)))
            self.built = True
        self.kernel.assign(kernel)
        self.bias.assign(bias)

    def call(self, inputs):
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        x = ops.matmul(x + ops.cast(self.bias, x.dtype), ops.cast(self.kernel, x.dtype))
        if self.normalize:
            x = unit_vectors(x)
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units or input_shape[-1])

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "beta": self.beta,
            "gamma": self.gamma,
            "normalize": self.normalize,
        }
