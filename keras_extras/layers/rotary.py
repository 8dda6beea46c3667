"""Rotary positions and their extensions to texts longer than those of training."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from keras_extras.layers.attention_position import AttentionPosition, distances, dot_product


@keras.saving.register_keras_serializable(package="keras_extras")
class RotaryPosition(AttentionPosition):
    """RoPE: turn queries and keys by their positions (arXiv:2104.09864; kexue.fm/archives/8265).

    Components ``(x[2i], x[2i+1])`` at position m are turned by ``m·θ_i``, ``θ_i = base^(−2i/d)``,
    so that scores depend on the distance alone: ``(R_m·q)·(R_n·k) = q·R_(n−m)·k``.

    With ``extension = κ > 1`` the slow components are slowed down further, so that positions up
    to κ times the training length look familiar, while the fast ones, which tell neighbours
    apart, stay as they were: NTK-RoPE-mixed (kexue.fm/archives/9706),
    ``θ_i ← θ_i · exp(−a·(i+1)^b)`` with ``a = ln κ / (d/2)^b``. The slowest is slowed κ times.

    Args:
        base: 10000 by default.
        extension: κ; 1 by default, which is plain RoPE.
        mixing: b; 0.75 by default, as in the author's code. 1 is NTK-RoPE-fixed.

    Raises:
        ValueError: `extension` is less than 1; at a call, heads of an odd size.

    See `AttentionPosition` for the call.

    >>> x = keras.ops.ones((2, 5, 3, 4))  # batch, length, heads, size of a head
    >>> tuple(RotaryPosition()([x, x]).shape)
    (2, 3, 5, 5)
    """

    def __init__(self, base: float = 10000, extension: float = 1, mixing: float = 0.75, **kwargs):
        super().__init__(**kwargs)
        if extension < 1:
            raise ValueError(f"extension={extension} would shorten: it is a number of at least 1.")
        self.base = base
        self.extension = extension
        self.mixing = mixing

    def frequencies(self, size: int) -> np.ndarray:
        """θ_i for vectors of `size`, in float64.

        Raises:
            ValueError: `size` is odd.
        """
        if size % 2:
            raise ValueError(f"Rotary positions turn pairs: the size of a head, {size}, is odd.")
        i = np.arange(size // 2)
        slower = ((i + 1) / (size // 2)) ** self.mixing
        return self.base ** (-2 * i / size) * self.extension**-slower

    def rotate(self, x, ids):
        """`x` ``(…, length, heads, d)`` turned by its positions `ids`, integers or not."""
        angles = ops.expand_dims(ops.cast(ids, "float32"), -1)
        angles = angles * ops.cast(self.frequencies(x.shape[-1]), "float32")
        angles = ops.expand_dims(angles, -2)
        cos, sin = ops.cast(ops.cos(angles), x.dtype), ops.cast(ops.sin(angles), x.dtype)
        even, odd = x[..., ::2], x[..., 1::2]
        turned = ops.stack([even * cos - odd * sin, odd * cos + even * sin], axis=-1)
        return ops.reshape(turned, ops.shape(x))

    def scores(self, q, k, query_ids, key_ids):
        return dot_product(self.rotate(q, query_ids), self.rotate(k, key_ids))

    def get_config(self):
        return {
            **super().get_config(),
            "base": self.base,
            "extension": self.extension,
            "mixing": self.mixing,
        }


@keras.saving.register_keras_serializable(package="keras_extras")
class ReRoPE(RotaryPosition):
    """RoPE with bounded distances, for texts of any length (kexue.fm/archives/9708).

    Distances below `window` are as trained; beyond, each further token counts only `step`:
    ``f(i − j) = w + (i − j − w)·step`` for ``i − j ≥ w``, and the same to the other side. Two
    scores (three if not causal) are computed and one is chosen. Needs no training: take a model
    trained with RoPE, and a window of a quarter to a half of its training length.

    Args:
        window: w.
        step: 0 by default, all far tokens at distance w: ReRoPE. A number in (0, 1) is Leaky
            ReRoPE, 1 is RoPE.
        causal: skip the scores of the future, which a causal mask hides anyway.
        base, extension, mixing: as in `RotaryPosition`.

    Raises:
        ValueError: `window` is less than 1, or `step` is not from 0 to 1; and as `RotaryPosition`.

    >>> x = keras.ops.ones((2, 5, 3, 4))
    >>> tuple(ReRoPE(window=2)([x, x]).shape)
    (2, 3, 5, 5)
    """

    def __init__(self, window: int, step: float = 0.0, causal: bool = False, **kwargs):
        super().__init__(**kwargs)
        if window < 1 or not 0 <= step <= 1:
            raise ValueError(f"window={window} must be at least 1, and step={step} from 0 to 1.")
        self.window = window
        self.step = step
        self.causal = causal

    def scores(self, q, k, query_ids, key_ids):
        near = super().scores(q, k, query_ids, key_ids)
        distance = ops.expand_dims(distances(query_ids, key_ids), -3)
        slow_q = ops.cast(query_ids, "float32") * self.step
        slow_k = self.rotate(k, ops.cast(key_ids, "float32") * self.step)
        jump = self.window * (1 - self.step)
        past = dot_product(self.rotate(q, slow_q + jump), slow_k)
        scores = ops.where(distance >= self.window, past, near)
        if self.causal:
            return scores
        future = dot_product(self.rotate(q, slow_q - jump), slow_k)
        return ops.where(distance <= -self.window, future, scores)

    def get_config(self):
        return {
            **super().get_config(),
            "window": self.window,
            "step": self.step,
            "causal": self.causal,
        }


@keras.saving.register_keras_serializable(package="keras_extras")
class XPos(RotaryPosition):
    """RoPE whose scores fade with the distance (arXiv:2212.10554), for causal attention.

    ``(R_m·q·ξ^m) · (R_n·k·ξ^(−n)) = q·R_(n−m)·k·ξ^(m−n)``, where every pair of components fades
    at its own rate, ``ξ_i = ((2i/d + γ)/(1 + γ))^(1/scale_base)``. Scores of the future grow
    instead of fading: hide them. kexue.fm/archives/9431 writes one ξ for all pairs: `decay`.

    Exponents count from the middle of the keys, which changes no score and keeps the factors
    representable: with the default rates in float32 to some 60,000 tokens, in float16 to some
    8,000; with one `decay` of 0.9 in float32 to some 1,600.

    Args:
        gamma: γ, 0.4 by default.
        scale_base: 512 by default, as in the authors' code.
        decay: one ξ in (0, 1] for all pairs instead.
        base, extension, mixing: as in `RotaryPosition`.

    Raises:
        ValueError: `decay` is not in (0, 1]; and as `RotaryPosition`.

    >>> x = keras.ops.ones((2, 5, 3, 4))
    >>> tuple(XPos()([x, x]).shape)
    (2, 3, 5, 5)
    """

    def __init__(
        self, gamma: float = 0.4, scale_base: float = 512, decay: float | None = None, **kwargs
    ):
        super().__init__(**kwargs)
        if decay is not None and not 0 < decay <= 1:
            raise ValueError(f"decay={decay} must be more than 0 and at most 1.")
        self.gamma = gamma
        self.scale_base = scale_base
        self.decay = decay

    def log_decays(self, size: int) -> np.ndarray:
        """ln ξ for each component of vectors of `size`, in float64."""
        if self.decay is not None:
            return np.full(size, np.log(self.decay))
        rates = (2 * np.arange(size // 2) / size + self.gamma) / (1 + self.gamma)
        return np.log(rates).repeat(2) / self.scale_base

    def scores(self, q, k, query_ids, key_ids):
        middle = (key_ids[..., :1] + key_ids[..., -1:]) // 2
        logs = ops.cast(self.log_decays(q.shape[-1]), "float32")

        def fading(x, powers):
            powers = ops.cast(powers, "float32")[..., None, None]
            return x * ops.cast(ops.exp(powers * logs), x.dtype)

        q = fading(self.rotate(q, query_ids), query_ids - middle)
        return dot_product(q, fading(self.rotate(k, key_ids), middle - key_ids))

    def get_config(self):
        return {
            **super().get_config(),
            "gamma": self.gamma,
            "scale_base": self.scale_base,
            "decay": self.decay,
        }
