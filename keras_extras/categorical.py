"""Discrete distributions by reparametrisation: the place of the largest of some noisy scores.

``p_i = P(argmax_j (μ_j + ε_j) = i)`` for independent noise ε with the distribution function Φ.
Gumbel noise gives softmax; other noise gives other maps from scores to probabilities, which keep
the order of the scores and do not change when a constant is added to all. Whatever the noise, a
sample is an argmax, and softmax in its place is a sample with a gradient.

============= ========================================
noise         Φ
============= ========================================
"gumbel"      ``exp(−e^(−x))``
"normal"      ``(1 + erf(x/√2))/2``
"logistic"    ``1/(1 + e^(−x))``
"laplace"     ``e^x/2`` for x < 0, ``1 − e^(−x)/2``
"cauchy"      ``1/2 + arctan(x)/π``
"uniform"     ``x`` between 0 and 1
"exponential" ``1 − e^(−x)`` for x > 0
============= ========================================

Source: kexue.fm/archives/9085 and 6705.
"""

from __future__ import annotations

import math

import keras
import numpy as np
from keras import ops

from keras_extras.ops import widen

_TINY = 1e-30


def noisy_argmax_probabilities(logits, noise: str = "normal", points: int = 64):
    """``p_i = ∫₀¹ Π_{j≠i} Φ(μ_i − μ_j + Φ⁻¹(t)) dt``: how often the score i is the largest.

    Gumbel noise is softmax and computed as such. The integral of the others is a tanh-sinh sum,
    divided by its sum over i. With 64 points its error is below 1e-5 for normal and logistic noise,
    and up to 1e-3 for noise with edges or heavy tails. (The article's own rule, ``t = k/(K + 1)``
    with equal weights, has 1e-4 with 2000 points.)

    Args:
        logits: scores μ, ``(…, n)``; float16 and bfloat16 are computed in float32. Memory grows
            with ``n²·points``, so n is a number of classes, not of words.
        noise: one of the names above; "normal" (a probit with several classes) by default.
        points: number of points, 64 by default.

    Returns:
        Probabilities, ``(…, n)``, positive and with the sum 1.

    Raises:
        ValueError: unknown `noise`, or `points` is less than 2.

    Source: kexue.fm/archives/9085.

    >>> p = noisy_argmax_probabilities([1.0, 0.0], noise="normal")
    >>> print(f"{float(p[0]):.3f}")  # Φ(1/√2)
    0.760
    """
    cdf, quantile = _noise(noise)
    if points < 2:
        raise ValueError(f"`points` must be at least 2, but got {points}.")
    x, dtype = widen(logits)
    if noise == "gumbel":
        return ops.cast(ops.softmax(x, axis=-1), dtype)
    nodes, weights = _tanh_sinh(points)
    at = quantile(ops.convert_to_tensor(nodes, dtype=x.dtype))
    weights = ops.convert_to_tensor(weights, dtype=x.dtype)
    gaps = ops.expand_dims(x, -1) - ops.expand_dims(x, -2)  # μ_i − μ_j at (…, i, j)
    below = ops.log(ops.maximum(cdf(ops.expand_dims(gaps, -1) + at), _TINY))
    other = ops.expand_dims(1 - ops.eye(x.shape[-1], dtype=x.dtype), -1)
    p = ops.sum(ops.exp(ops.sum(below * other, axis=-2)) * weights, axis=-1) + _TINY
    return ops.cast(p / ops.sum(p, axis=-1, keepdims=True), dtype)


def relaxed_one_hot(
    logits,
    temperature: float = 1.0,
    noise: str = "gumbel",
    straight_through: bool = False,
    seed: int | keras.random.SeedGenerator | None = None,
):
    """A sample with a gradient: ``softmax((μ + ε)/τ)``; with Gumbel noise, Gumbel-softmax.

    As τ → 0 it goes to the one-hot vector of ``argmax(μ + ε)``, which is i with the probability
    `noisy_argmax_probabilities`; its gradient grows meanwhile. Usual is a τ that falls from 1
    towards 0.01 during training.

    Args:
        logits: scores μ, ``(…, n)``; float16 and bfloat16 are computed in float32.
        temperature: τ, positive.
        noise: one of the names above; "gumbel" by default.
        straight_through: give the one-hot vector itself, with the gradient of the smooth sample.
        seed: an integer gives the same noise in every call; a `keras.random.SeedGenerator` new
            noise in each; None (default) Keras' global generator, for use outside of layers.

    Raises:
        ValueError: unknown `noise`, or `temperature` is not positive.

    Source: arXiv:1611.01144, arXiv:1611.00712; kexue.fm/archives/6705.

    >>> sample = relaxed_one_hot([[0.0, 9.0, 0.0]], straight_through=True, seed=1)
    >>> [round(float(x), 6) for x in sample[0]]
    [0.0, 1.0, 0.0]
    """
    _, quantile = _noise(noise)
    if temperature <= 0:
        raise ValueError(f"`temperature` must be positive, but got {temperature}.")
    x, dtype = widen(logits)
    # halves of float32's steps: never 0 or 1, where the noise would be infinite
    uniform = keras.random.uniform(ops.shape(x), 2**-25, 1 - 2**-24, dtype="float32", seed=seed)
    noisy = x + ops.cast(quantile(uniform), x.dtype)
    soft = ops.softmax(noisy / temperature, axis=-1)
    if straight_through:
        hard = ops.one_hot(ops.argmax(noisy, axis=-1), x.shape[-1], dtype=x.dtype)
        soft = ops.stop_gradient(hard - soft) + soft
    return ops.cast(soft, dtype)


def _tanh_sinh(points):
    """Nodes in (0, 1), as near to the ends as float32 knows, and weights of an integral over it."""
    u = np.linspace(-2.33, 2.33, points)
    inner = np.pi / 2 * np.sinh(u)
    weights = np.cosh(u) / np.cosh(inner) ** 2
    return (1 + np.tanh(inner)) / 2, weights / weights.sum()


def _noise(name):
    if name not in _NOISES:
        raise ValueError(f"`noise` must be one of {', '.join(_NOISES)}, but got {name!r}.")
    return _NOISES[name]


def _laplace_cdf(x):
    tail = 0.5 * ops.exp(-ops.abs(x))
    return ops.where(x < 0, tail, 1 - tail)


def _laplace_quantile(t):
    return ops.sign(t - 0.5) * -ops.log(1 - 2 * ops.abs(t - 0.5))


#: distribution function and its inverse
_NOISES = {
    "gumbel": (lambda x: ops.exp(-ops.exp(-x)), lambda t: -ops.log(-ops.log(t))),
    "normal": (
        lambda x: 0.5 * (1 + ops.erf(x * math.sqrt(0.5))),
        lambda t: math.sqrt(2) * ops.erfinv(2 * t - 1),
    ),
    "logistic": (ops.sigmoid, lambda t: ops.log(t) - ops.log(1 - t)),
    "laplace": (_laplace_cdf, _laplace_quantile),
    "cauchy": (
        lambda x: 0.5 + ops.arctan(x) / math.pi,
        lambda t: ops.tan(math.pi * (t - 0.5)),
    ),
    "uniform": (lambda x: ops.clip(x, 0.0, 1.0), lambda t: t),
    "exponential": (lambda x: 1 - ops.exp(-ops.relu(x)), lambda t: -ops.log(1 - t)),
}
