"""GlobalPointer: a score for every span of a sequence."""

from __future__ import annotations

import keras
from keras import ops

from keras_extras.layers.dense import built_dense
from keras_extras.ops import (
    apply_rotary_position_embeddings,
    sequence_masking,
    sinusoidal_embeddings,
)


@keras.saving.register_keras_serializable(package="keras_extras")
class GlobalPointer(keras.layers.Layer):
    """Scores of all spans ``(start m, end n)``, one matrix per head (span type).

    ``s_h(m, n) = q_(h,m) · k_(h,n) / √head_size`` with ``q, k`` linear in the inputs and turned
    by their positions (RoPE), so that scores know the distance ``n - m`` but not the place.
    Spans that touch the padding or end before they start get the dtype's masking value.

    Inputs ``(batch, length, dim)``, outputs ``(batch, heads, length, length)``; train with
    `keras_extras.losses.multilabel_categorical_crossentropy` and take the scores above 0.

    Args:
        heads: number of span types.
        head_size: size of each query and key; even if `RoPE`.
        RoPE: rotary positions; True by default.
        use_bias: bias in the linear maps; True by default.
        tril_mask: mask the spans with ``n < m``; True by default.
        kernel_initializer: of the linear maps; ``"lecun_normal"`` by default.

    Raises:
        ValueError: `head_size` is odd and `RoPE` is on.

    Source: kexue.fm/archives/8373.

    >>> layer = GlobalPointer(heads=2, head_size=4)
    >>> scores = layer(keras.ops.ones((1, 3, 8)))
    >>> tuple(scores.shape), bool(scores[0, 0, 2, 0] < -1e9)
    ((1, 2, 3, 3), True)
    """

    def __init__(
        self,
        heads: int,
        head_size: int,
        RoPE: bool = True,
        use_bias: bool = True,
        tril_mask: bool = True,
        kernel_initializer="lecun_normal",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if RoPE and head_size % 2:
            raise ValueError(f"RoPE needs an even head_size, got {head_size}; or pass RoPE=False.")
        self.heads = heads
        self.head_size = head_size
        self.RoPE = RoPE
        self.use_bias = use_bias
        self.tril_mask = tril_mask
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.supports_masking = True

    def build(self, input_shape):
        self.dense = built_dense(self, self.head_size * self.heads * 2, input_shape, "dense")

    def call(self, inputs, mask=None):
        batch, length = ops.shape(inputs)[:2]
        x = ops.reshape(self.dense(inputs), (batch, length, self.heads, 2 * self.head_size))
        queries, keys = self._rotate(x[..., : self.head_size], x[..., self.head_size :])
        logits = ops.einsum("bmhd,bnhd->bhmn", queries / self.head_size**0.5, keys)
        return self._mask_spans(logits, mask)

    def _rotate(self, queries, keys):
        """Turn queries and keys by their positions."""
        if not self.RoPE:
            return queries, keys
        positions = ops.arange(ops.shape(queries)[1], dtype="float32")
        angles = sinusoidal_embeddings(positions[None], self.head_size)
        return apply_rotary_position_embeddings(angles, queries, keys)

    def _mask_spans(self, logits, mask):
        """Mask the padding on both axes, and the spans that end before they start."""
        ordered = None
        if self.tril_mask:
            positions = ops.arange(ops.shape(logits)[-1], dtype="int32")
            ordered = positions[:, None] <= positions[None]
        return sequence_masking(logits, mask, "-inf", [2, 3], ordered)

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.heads, input_shape[1], input_shape[1])

    def get_config(self):
        return {
            **super().get_config(),
            "heads": self.heads,
            "head_size": self.head_size,
            "RoPE": self.RoPE,
            "use_bias": self.use_bias,
            "tril_mask": self.tril_mask,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


@keras.saving.register_keras_serializable(package="keras_extras")
class EfficientGlobalPointer(GlobalPointer):
    """GlobalPointer with few weights per head: all heads share the span scores.

    ``s_h(m, n) = q_m · k_n / √head_size + (b_(h,n) + c_(h,m)) / 2`` with ``q, k`` the even and odd
    components of one linear map of the inputs, and ``b, c`` linear in that map's output.
    Arguments, shapes and masks are those of `GlobalPointer`.

    Source: kexue.fm/archives/8877.

    >>> layer = EfficientGlobalPointer(heads=2, head_size=4)
    >>> tuple(layer(keras.ops.ones((1, 3, 8))).shape)
    (1, 2, 3, 3)
    """

    def build(self, input_shape):
        self.p_dense = built_dense(self, self.head_size * 2, input_shape, "p_dense")
        pairs_shape = (*input_shape[:-1], self.head_size * 2)
        self.q_dense = built_dense(self, self.heads * 2, pairs_shape, "q_dense")

    def call(self, inputs, mask=None):
        x = self.p_dense(inputs)
        queries, keys = self._rotate(x[..., ::2], x[..., 1::2])
        logits = ops.einsum("bmd,bnd->bmn", queries / self.head_size**0.5, keys)
        bias = ops.transpose(self.q_dense(x), (0, 2, 1)) / 2
        logits = logits[:, None] + bias[:, ::2, None] + bias[:, 1::2, :, None]
        return self._mask_spans(logits, mask)
