"""The gated attention unit."""

from __future__ import annotations

import keras
from keras import activations, initializers, ops

from keras_extras.activations import swish
from keras_extras.layers.attention_position import position_config, position_from
from keras_extras.layers.dense import built_dense
from keras_extras.layers.normalization import ScaleOffset
from keras_extras.ops import apply_rotary_position_embeddings, attention_normalize


@keras.saving.register_keras_serializable(package="keras_extras")
class GatedAttentionUnit(keras.layers.Layer):
    """Attention and gated feed-forward network in one (arXiv:2202.10447; kexue.fm/archives/8934).

    ``O = W_o·(U ⊙ A·V)``, ``A = normalize(Q·Kᵀ/√key_size)``, with one head.
    In self-attention U, V and a shared Z come from one Dense layer, and Q and K are two affine
    maps of Z.

    Args:
        units: size of U and V.
        key_size: size of Q and K.
        activation: of the input Dense layers; swish by default.
        use_bias: whether Dense layers and affine maps have biases.
        normalization: see `keras_extras.ops.attention_normalize`.
        self_attention: the input is ``x`` (True) or ``[q, k, v]`` (False).
        attention_scale: divide the scores by √key_size.
        attention_dropout: rate of dropout on A.
        kernel_initializer: of all kernels.
        seed: of the dropout.
        position: as in `MultiHeadAttention`, with one head.

    Call arguments as in `MultiHeadAttention`; `p_bias` is ``"rotary"`` or None, and a boolean
    or float attention bias is ``(…, length_q, length_k)``.

    >>> tuple(GatedAttentionUnit(16, 4)(keras.ops.ones((2, 5, 8))).shape)
    (2, 5, 8)
    """

    def __init__(
        self,
        units: int,
        key_size: int,
        activation=swish,
        use_bias: bool = True,
        normalization: str = "squared_relu",
        self_attention: bool = True,
        attention_scale: bool = True,
        attention_dropout: float | None = None,
        kernel_initializer="glorot_uniform",
        seed: int | None = None,
        position=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = units
        self.key_size = key_size
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.normalization = normalization
        self.self_attention = self_attention
        self.attention_scale = attention_scale
        self.attention_dropout = attention_dropout
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.seed = seed
        self.position = position_from(position)
        self.supports_masking = True
        if attention_dropout:
            self.dropout = keras.layers.Dropout(
                attention_dropout, seed=seed, dtype=self.dtype_policy, name="attention_dropout"
            )

    def build(self, input_shape):
        shapes = input_shape if isinstance(input_shape[0], (list, tuple)) else [input_shape]
        shape, units, act = shapes[0], self.units, self.activation
        if self.self_attention:
            size = 2 * units + self.key_size
            self.i_dense = built_dense(self, size, shape, "i_dense", activation=act)
            for name in ("q_scaleoffset", "k_scaleoffset"):
                layer = ScaleOffset(offset=self.use_bias, dtype=self.dtype_policy, name=name)
                layer.build((*shape[:-1], self.key_size))
                setattr(self, name, layer)
        else:
            size = units + self.key_size
            self.uq_dense = built_dense(self, size, shape, "uq_dense", activation=act)
            self.k_dense = built_dense(self, self.key_size, shapes[1], "k_dense", activation=act)
            self.v_dense = built_dense(self, units, shapes[2], "v_dense", activation=act)
        self.o_dense = built_dense(self, shape[-1], (*shape[:-1], units), "o_dense")
        if self.position is not None and not self.position.built:
            self.position.build([(*shape[:-1], 1, self.key_size)] * 2)

    def call(self, inputs, mask=None, a_bias=None, p_bias=None, training=None):
        inputs = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        if isinstance(mask, (list, tuple)):
            mask = mask[0 if self.self_attention else 2]  # which keys are seen
        if self.self_attention:
            x, rest = inputs[0], inputs[1:]
            u, v, z = ops.split(self.i_dense(x), [self.units, 2 * self.units], axis=-1)
            q, k = self.q_scaleoffset(z), self.k_scaleoffset(z)
        else:
            (q, k, v), rest = inputs[:3], inputs[3:]
            u, q = ops.split(self.uq_dense(q), [self.units], axis=-1)
            k, v = self.k_dense(k), self.v_dense(v)
        bias = rest.pop(0) if a_bias else None
        if p_bias == "rotary":
            q, k = apply_rotary_position_embeddings(rest[0], q, k)
        if self.attention_scale:
            q = q / self.key_size**0.5
        if self.position is None:
            a = ops.einsum("bmd,bnd->bmn", q, k)
        else:
            a = ops.cast(self.position([q[:, :, None], k[:, :, None]])[:, 0], q.dtype)
        weights = attention_normalize(a, mask, -1, self.normalization, bias)
        if self.attention_dropout:
            weights = self.dropout(weights, training=training)
        return self.o_dense(u * ops.einsum("bmn,bnd->bmd", weights, v))

    def compute_mask(self, inputs, mask=None):
        return mask[0] if isinstance(mask, (list, tuple)) else mask

    def compute_output_shape(self, input_shape):
        return input_shape[0] if isinstance(input_shape[0], (list, tuple)) else input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "key_size": self.key_size,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "normalization": self.normalization,
            "self_attention": self.self_attention,
            "attention_scale": self.attention_scale,
            "attention_dropout": self.attention_dropout,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "seed": self.seed,
            "position": position_config(self.position),
        }
