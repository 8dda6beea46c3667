"""Multi-head attention with every mask and position encoding of bert4keras."""

from __future__ import annotations

import keras
from keras import initializers, ops

from keras_extras.layers.attention_position import dot_product, position_config, position_from
from keras_extras.layers.dense import built_dense
from keras_extras.ops import align, apply_rotary_position_embeddings, attention_normalize


@keras.saving.register_keras_serializable(package="keras_extras")
class MultiHeadAttention(keras.layers.Layer):
    """Multi-head attention (arXiv:1706.03762).

    ``A = normalize((Q·Kᵀ + position terms)/√key_size + bias)``, ``O = A·V``, for each head.

    Args:
        heads: number of heads.
        head_size: size of a head's values.
        out_dim: size of the output; ``heads·head_size`` by default.
        key_size: size of a head's queries and keys; `head_size` by default.
        use_bias: whether the four Dense layers have biases.
        normalization: see `keras_extras.ops.attention_normalize`.
        attention_scale: divide the scores by √key_size.
        attention_dropout: rate of dropout on A.
        return_attention_scores: return ``[O, scores]``, the scores before masking.
        kernel_initializer: of the four kernels.
        seed: of the dropout.
        position: a position that scores queries against keys, such as `RotaryPosition`, `ReRoPE`
            or `ALiBi`; see `AttentionPosition`. None by default. Layers may share one.

    Call arguments:
        inputs: ``[q, k, v]``, each ``(batch, length, dim)``, followed by the attention bias if
            ``a_bias`` is true, then by what ``p_bias`` needs.
        mask: ``[q_mask, k_mask, v_mask, …]``; positions hidden by ``v_mask`` get no weight.
        a_bias: whether ``inputs[3]`` is a bias on the scores: boolean (False hides) or float,
            ``(…, length_q, length_k)`` with any leading axes.
        p_bias: ``"rotary"`` with sinusoidal vectors ``(batch or 1, length, key_size)``;
            ``"typical_relative"`` with ``(length_q, length_k, key_size)``;
            ``"t5_relative"`` with ``(length_q, length_k, heads)``.

    Weights in order: kernel and bias of q, k, v and o; then those of `position`.

    >>> x = keras.ops.ones((2, 5, 8))
    >>> tuple(MultiHeadAttention(2, 4)([x, x, x]).shape)
    (2, 5, 8)
    """

    def __init__(
        self,
        heads: int,
        head_size: int,
        out_dim: int | None = None,
        key_size: int | None = None,
        use_bias: bool = True,
        normalization: str = "softmax",
        attention_scale: bool = True,
        attention_dropout: float | None = None,
        return_attention_scores: bool = False,
        kernel_initializer="glorot_uniform",
        seed: int | None = None,
        position=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.heads = heads
        self.head_size = head_size
        self.out_dim = out_dim or heads * head_size
        self.key_size = key_size or head_size
        self.use_bias = use_bias
        self.normalization = normalization
        self.attention_scale = attention_scale
        self.attention_dropout = attention_dropout
        self.return_attention_scores = return_attention_scores
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.seed = seed
        self.position = position_from(position)
        self.supports_masking = True
        if attention_dropout:
            self.dropout = keras.layers.Dropout(
                attention_dropout, seed=seed, dtype=self.dtype_policy, name="attention_dropout"
            )

    def build(self, input_shape):
        q_shape, k_shape, v_shape = input_shape[:3]
        self.q_dense = built_dense(self, self.heads * self.key_size, q_shape, "q_dense")
        self.k_dense = built_dense(self, self.heads * self.key_size, k_shape, "k_dense")
        self.v_dense = built_dense(self, self.heads * self.head_size, v_shape, "v_dense")
        o_shape = (*q_shape[:-1], self.heads * self.head_size)
        self.o_dense = built_dense(self, self.out_dim, o_shape, "o_dense")
        if self.position is not None and not self.position.built:  # layers may share one
            shapes = [(*shape[:-1], self.heads, self.key_size) for shape in (q_shape, k_shape)]
            self.position.build(shapes)

    def _split_heads(self, x, size):
        return ops.reshape(x, (-1, ops.shape(x)[1], self.heads, size))

    def call(self, inputs, mask=None, a_bias=None, p_bias=None, training=None):
        q, k, v = inputs[:3]
        q_mask, v_mask = (None, None) if mask is None else (mask[0], mask[2])
        qw = self._split_heads(self.q_dense(q), self.key_size)
        kw = self._split_heads(self.k_dense(k), self.key_size)
        vw = self._split_heads(self.v_dense(v), self.head_size)
        o, a = self.pay_attention_to(
            [qw, kw, vw, *inputs[3:]],
            [q_mask, v_mask],
            a_bias=a_bias,
            p_bias=p_bias,
            training=training,
        )
        o = ops.reshape(o, (-1, ops.shape(o)[1], self.heads * self.head_size))
        o = self.o_dense(o)
        return [o, a] if self.return_attention_scores else o

    def pay_attention_to(self, inputs, mask=None, a_bias=None, p_bias=None, training=None):
        """Attention on split heads; override it for another kind of attention.

        Args:
            inputs: ``[q, k, v]``, each ``(batch, length, heads, size)``, then as in `call`.
            mask: ``[q_mask, v_mask]``.

        Returns:
            The output ``(batch, length_q, heads, head_size)`` and the scores
            ``(batch, heads, length_q, length_k)``.
        """
        (qw, kw, vw), rest = inputs[:3], list(inputs[3:])
        v_mask = None if mask is None else mask[1]
        bias = rest.pop(0) if a_bias else None
        if p_bias == "rotary":
            qw, kw = apply_rotary_position_embeddings(rest[0], qw, kw)
        scale = self.key_size**-0.5 if self.attention_scale else 1.0
        qw = qw * scale  # rather than the scores, which are many more
        a = self.scores(qw, kw)
        if p_bias == "typical_relative":
            a = a + ops.einsum("bjhd,jkd->bhjk", qw, rest[0])
        elif p_bias == "t5_relative":
            a = a + ops.transpose(rest[0] * scale, (2, 0, 1))[None]
        if bias is not None and len(bias.shape) == 3:
            bias = align(bias, [0, -2, -1], 4)
        weights = attention_normalize(a, v_mask, -1, self.normalization, bias)
        if self.attention_dropout:
            weights = self.dropout(weights, training=training)
        o = ops.einsum("bhjk,bkhd->bjhd", weights, vw)
        if p_bias == "typical_relative":
            o = o + ops.einsum("bhjk,jkd->bjhd", weights, rest[0])
        return o, a

    def scores(self, q, k, query_ids=None, key_ids=None):
        """Scores ``(…, heads, length_q, length_k)`` of the scaled queries, with `position`."""
        if self.position is None:
            return dot_product(q, k)
        scores = self.position([q, k], query_ids=query_ids, key_ids=key_ids)
        return ops.cast(scores, q.dtype)

    def compute_mask(self, inputs, mask=None):
        q_mask = None if mask is None else mask[0]
        return [q_mask, None] if self.return_attention_scores else q_mask

    def compute_output_shape(self, input_shape):
        q_shape, k_shape = input_shape[:2]
        o_shape = (*q_shape[:2], self.out_dim)
        if self.return_attention_scores:
            return [o_shape, (q_shape[0], self.heads, q_shape[1], k_shape[1])]
        return o_shape

    def get_config(self):
        return {
            **super().get_config(),
            "heads": self.heads,
            "head_size": self.head_size,
            "out_dim": self.out_dim,
            "key_size": self.key_size,
            "use_bias": self.use_bias,
            "normalization": self.normalization,
            "attention_scale": self.attention_scale,
            "attention_dropout": self.attention_dropout,
            "return_attention_scores": self.return_attention_scores,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "seed": self.seed,
            "position": position_config(self.position),
        }
