"""Biases on attention scores that depend on the distance alone."""

from __future__ import annotations

import math

import keras
import numpy as np
from keras import ops

from keras_extras.layers.attention_position import AttentionPosition, distances, dot_product


class DistanceBias(AttentionPosition):
    """``q·k + b_h(|i − j|)``; a subclass writes `bias`."""

    def build(self, input_shape):
        self.heads = input_shape[0][-2]

    def scores(self, q, k, query_ids, key_ids):
        distance = ops.cast(ops.abs(distances(query_ids, key_ids)), "float32")
        bias = self.bias(ops.expand_dims(distance, -3))
        scores = dot_product(q, k)
        return scores + ops.cast(bias, scores.dtype)

    def bias(self, distance):
        """``(…, 1, length_q, length_k)`` distances to ``(…, heads or 1, length_q, length_k)``."""
        raise NotImplementedError


@keras.saving.register_keras_serializable(package="keras_extras")
class ALiBi(DistanceBias):
    """Attention with linear biases (arXiv:2108.12409): ``q·k − λ_h·|i − j|``.

    For a power of two H of heads, ``λ_h = 2^(−8h/H)``, h = 1 … H. Other numbers of heads take
    those of the next smaller power of two and fill up with every second one of the next larger,
    as in the authors' code.

    >>> ALiBi.slopes(8).tolist()[:3]
    [0.5, 0.25, 0.125]
    """

    @staticmethod
    def slopes(heads: int) -> np.ndarray:
        """λ_h, ``(heads,)``, in float64."""
        power = 2 ** int(math.log2(heads))
        slopes = 2.0 ** (-8 / power * np.arange(1, power + 1))
        between = 2.0 ** (-4 / power * np.arange(1, 2 * power, 2))
        return np.concatenate([slopes, between])[:heads]

    def bias(self, distance):
        return -ops.cast(self.slopes(self.heads)[:, None, None], "float32") * distance


@keras.saving.register_keras_serializable(package="keras_extras")
class KERPLE(DistanceBias):
    """Trained biases that fall with the distance (arXiv:2205.09921).

    ``"log"``: ``q·k − r₁·ln(1 + r₂·|i − j|)``; ``"power"``: ``q·k − r₁·|i − j|^r₂``, which with
    ``r₂ = 1`` is ALiBi. Every head has its r₁ and r₂, read as at least 0.01, and r₂ of the power as
    at most 2; their gradients pass these bounds, so that training finds back.

    Args:
        kind: ``"log"`` (the better one in the paper) or ``"power"``.

    Raises:
        ValueError: any other `kind`.

    >>> x = keras.ops.ones((2, 5, 3, 4))
    >>> tuple(KERPLE()([x, x]).shape)
    (2, 3, 5, 5)
    """

    def __init__(self, kind: str = "log", **kwargs):
        super().__init__(**kwargs)
        if kind not in ("log", "power"):
            raise ValueError(f"KERPLE is of kind 'log' or 'power', not {kind!r}.")
        self.kind = kind

    def build(self, input_shape):
        super().build(input_shape)
        ranges = {"log": (2.0, 1.0), "power": (1.0, 2.0)}[self.kind]  # as in the authors' code
        for name, top in zip(("r1", "r2"), ranges, strict=True):
            uniform = keras.initializers.RandomUniform(0.01, top)
            weight = self.add_weight(name=name, shape=(self.heads,), initializer=uniform)
            setattr(self, name, weight)

    def bias(self, distance):
        r1 = within_bounds(self.r1)[:, None, None]
        r2 = within_bounds(self.r2, 2.0 if self.kind == "power" else float("inf"))[:, None, None]
        if self.kind == "log":
            return -r1 * ops.log1p(r2 * distance)
        # 0^r has no gradient for r, and is 0
        apart = ops.maximum(distance, 1.0)
        return ops.where(distance > 0, -r1 * ops.power(apart, r2), 0.0)

    def get_config(self):
        return {**super().get_config(), "kind": self.kind}


def within_bounds(r, largest=float("inf")):
    """r clipped to [0.01, `largest`], with the gradient of r."""
    r = ops.cast(r, "float32")
    return r + ops.stop_gradient(ops.clip(r, 0.01, largest) - r)


@keras.saving.register_keras_serializable(package="keras_extras")
class Sandwich(DistanceBias):
    """A bias of inner products of sinusoidal vectors (arXiv:2212.10356).

    ``q·k + λ_h·p_i·p_j``, ``p_i·p_j = Σ cos((i − j)·10000^(−2t/size))``: the same as appending
    ``√λ·p`` to queries and keys. ``p·p`` at distance 0, a constant that softmax does not see, is
    subtracted, so that the bias is 0 there and negative elsewhere.

    Args:
        size: of the sinusoidal vectors; 128 by default.
        scale: one λ for all heads; by default ``λ_h = H/(8h)`` for heads h = 1 … H, as in the
            paper.

    Raises:
        ValueError: `size` is odd or less than 2.

    >>> x = keras.ops.ones((2, 5, 3, 4))
    >>> tuple(Sandwich()([x, x]).shape)
    (2, 3, 5, 5)
    """

    def __init__(self, size: int = 128, scale: float | None = None, **kwargs):
        super().__init__(**kwargs)
        if size < 2 or size % 2:
            raise ValueError(f"size={size} must be even: sines and cosines come in pairs.")
        self.size = size
        self.scale = scale

    def bias(self, distance):
        scales = self.heads / (8 * np.arange(1, self.heads + 1))
        if self.scale is not None:
            scales = np.array([self.scale])
        frequencies = 10000 ** (-2 * np.arange(self.size // 2) / self.size)
        # one frequency after the other: all at once would be size/2 times the memory
        total = -self.size / 2
        for frequency in frequencies:
            total = total + ops.cos(distance * float(frequency))
        return ops.cast(scales[:, None, None], "float32") * total

    def get_config(self):
        return {**super().get_config(), "size": self.size, "scale": self.scale}
