"""What attention for long texts shares: it never holds all scores at once."""

from __future__ import annotations

from keras import ops

from keras_extras.layers.attention import MultiHeadAttention


class LongAttention(MultiHeadAttention):
    """Multi-head attention without a matrix of all scores.

    It has the weights, the order of weights, the masks of padding and the arguments of
    `MultiHeadAttention`, so that a trained model changes over with its weights; what needs all
    scores is refused. A subclass writes `attend`.

    Args:
        causal: position i sees the positions up to i only. A mask of shape
            ``(length, length)`` would need the memory that is to be saved: the bias that a
            causal language model hands over (`a_bias`) is then taken for that mask, and not read.
    """

    can_drop = False

    def __init__(self, heads: int, head_size: int, causal: bool = False, **kwargs):
        super().__init__(heads, head_size, **kwargs)
        self.causal = causal
        name = type(self).__name__
        if self.return_attention_scores:
            raise ValueError(f"{name} never holds all scores: return_attention_scores must be off.")
        if self.attention_dropout and not self.can_drop:
            raise ValueError(f"{name} never holds all weights: attention_dropout must be off.")

    def pay_attention_to(self, inputs, mask=None, a_bias=None, p_bias=None, training=None):
        if (a_bias and not self.causal) or p_bias not in (None, "rotary"):
            raise ValueError(
                f"{type(self).__name__} takes no matrix of biases (a_bias={a_bias}, "
                f"p_bias={p_bias!r}): use causal=True for a language model and position=… for "
                "relative positions; p_bias='rotary' is fine."
            )
        q, k, v = inputs[:3]
        shown = None if mask is None or mask[1] is None else ops.cast(mask[1], "bool")
        sinusoidal = inputs[-1] if p_bias else None
        return self.attend(q, k, v, shown, sinusoidal, training), None

    def attend(self, q, k, v, shown, sinusoidal, training):
        """Attention on split heads.

        Args:
            q, k, v: ``(batch, length, heads, size)``, not scaled.
            shown: booleans ``(batch, length_k)``, False at the padding, or None.
            sinusoidal: vectors of rotary positions, or None.
        """
        raise NotImplementedError

    def check_one_length(self, q, k):
        """Refuse keys of another length than the queries, where lengths are known.

        Raises:
            ValueError: the lengths differ.
        """
        if None not in (q.shape[1], k.shape[1]) and q.shape[1] != k.shape[1]:
            kind = "causal " if self.causal else ""
            raise ValueError(
                f"{type(self).__name__} is {kind}self-attention, but there are {q.shape[1]} "
                f"queries and {k.shape[1]} keys: use MultiHeadAttention or ChunkedAttention."
            )

    def scaled(self, q):
        """Queries over √key_size, if the layer scales its scores."""
        return q / self.key_size**0.5 if self.attention_scale else q

    def get_config(self):
        return {**super().get_config(), "causal": self.causal}


def blocks(x, size, count):
    """``(batch, length, …) → (batch, count, size, …)``, filled up with zeros."""
    missing = count * size - ops.shape(x)[1]
    x = ops.pad(x, [(0, 0), (0, missing)] + [(0, 0)] * (len(x.shape) - 2))
    return ops.reshape(x, (-1, count, size, *ops.shape(x)[2:]))


def smaller(a, b):
    """The smaller of two lengths, numbers or scalar tensors."""
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else ops.minimum(a, b)
