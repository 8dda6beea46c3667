"""Activations of bert4keras and smooth ones of the blog, registered under ``keras_extras>``.

The smooth ones are convolutions ``f ⊛ φ`` with a narrow density φ (kexue.fm/archives/8718). A relu
smoothed so has the derivative Φ, the distribution function of φ; a relu written as ``x·θ(x)``, of
which only the step θ is smoothed, is ``x·Φ(x)``.

============== =============== ==========================
of             logistic        normal
============== =============== ==========================
relu           `softplus`      `gaussian_relu`
x·θ(x)         `swish`         `gelu_erf`
leaky relu     –               `sau`
floor          `smooth_floor`  `smooth_floor`
============== =============== ==========================

All go to what they smooth as the density narrows: ``beta → ∞``, ``sigma → 0``.

>>> layer = keras.layers.Dense(4, activation=sau)
>>> keras.activations.get(keras.activations.serialize(layer.activation)) is sau
True
"""

from __future__ import annotations

import math

import keras
from keras import ops

from keras_extras.ops import widen


@keras.saving.register_keras_serializable(package="keras_extras")
def gelu_erf(x, sigma: float = 1.0):
    """Exact GELU: x·Φ(x/σ) = x/2·(1 + erf(x/(√2·σ))) (arXiv:1606.08415).

    >>> print(f"{float(gelu_erf(keras.ops.array(1.0))):.5f}")
    0.84134
    """
    if sigma == 1:
        return keras.activations.gelu(x, approximate=False)
    return _in_float32(lambda x: x * _normal_cdf(x / sigma), x, sigma=sigma)


@keras.saving.register_keras_serializable(package="keras_extras")
def gelu_tanh(x):
    """GELU by its tanh approximation: x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))."""
    return keras.activations.gelu(x, approximate=True)


@keras.saving.register_keras_serializable(package="keras_extras")
def swish(x, beta: float = 1.0):
    """x·sigmoid(β·x) (arXiv:1710.05941)."""
    return ops.silu(x) if beta == 1 else x * ops.sigmoid(beta * x)


@keras.saving.register_keras_serializable(package="keras_extras")
def leaky_relu(x, alpha: float = 0.2):
    """max(x, alpha·x); bert4keras' slope of 0.2 by default."""
    return ops.leaky_relu(x, negative_slope=alpha)


@keras.saving.register_keras_serializable(package="keras_extras")
def softplus(x, beta: float = 1.0):
    """relu ⊛ logistic density: log(1 + e^(β·x))/β; its derivative is sigmoid(β·x).

    >>> print(f"{float(softplus(keras.ops.array(0.0), beta=2.0)):.6f}")  # log 2 / 2
    0.346574
    """
    return _in_float32(lambda x: ops.softplus(beta * x) / beta, x, beta=beta)


@keras.saving.register_keras_serializable(package="keras_extras")
def gaussian_relu(x, sigma: float = 1.0):
    """relu ⊛ normal density: x·Φ(x/σ) + σ·φ(x/σ); its derivative is Φ(x/σ).

    >>> print(f"{float(gaussian_relu(keras.ops.array(0.0))):.6f}")  # 1/√(2π)
    0.398942
    """
    return sau(x, 0.0, sigma)


@keras.saving.register_keras_serializable(package="keras_extras")
def sau(x, alpha: float = 0.2, sigma: float = 1.0):
    """Smooth activation unit: leaky relu ⊛ normal density (arXiv:2109.13210).

    ``(1 − α)·σ·φ(x/σ) + x·(α + (1 − α)·Φ(x/σ))``, where φ and Φ are those of the standard normal.

    Args:
        x: any float tensor; float16 and bfloat16 are computed in float32.
        alpha: slope on the left, 0.2 by default as in `leaky_relu`.
        sigma: width of the density, 1 by default. `keras_extras.layers.SAU` is a layer that keeps
            both.

    Raises:
        ValueError: `sigma` is a number that is not positive.

    >>> print(f"{float(sau(keras.ops.array(1.0), alpha=0.0)):.6f}")
    1.083315
    """

    def smooth(x):
        z = x / sigma
        density = ops.exp(-0.5 * ops.square(z)) / math.sqrt(2 * math.pi)
        return (1 - alpha) * sigma * density + x * (alpha + (1 - alpha) * _normal_cdf(z))

    return _in_float32(smooth, x, sigma=sigma)


@keras.saving.register_keras_serializable(package="keras_extras")
def smooth_floor(x, beta: float = 10.0, kernel: str = "logistic"):
    """floor ⊛ density: ``Σ_n (Φ(β·(x − n)) − θ(−n))`` over all integers n, θ(0) = 1.

    Of the sum, the terms near x are computed and the others are 0 or 1, for any x. At an integer n
    it is ``n − 1/2``.

    Args:
        x: any float tensor; float16 and bfloat16 are computed in float32.
        beta: how narrow the density is, 10 by default, at least 1 (where hardly more than
            ``x − 1/2`` is left).
        kernel: "logistic" (default), or "normal" with σ = 1/β.

    Raises:
        ValueError: `beta` is less than 1, or `kernel` is unknown.

    Source: kexue.fm/archives/8718.

    >>> print(f"{float(smooth_floor(keras.ops.array(2.5))):.4f}")
    2.0000
    """
    if beta < 1:
        raise ValueError(f"smooth_floor needs a `beta` of at least 1, but got {beta}.")
    if kernel not in ("logistic", "normal"):
        raise ValueError(f"`kernel` must be 'logistic' or 'normal', but got {kernel!r}.")
    cdf, reach = (ops.sigmoid, 18) if kernel == "logistic" else (_normal_cdf, 6)
    terms = math.ceil(reach / beta)  # beyond, Φ is 0 or 1 to float32's last digit

    def smooth(x):
        whole = ops.floor(x)
        rest = x - whole
        steps = [cdf(beta * (rest - n)) - float(n <= 0) for n in range(-terms, terms + 2)]
        return whole + sum(steps)

    return _in_float32(smooth, x, beta=beta)


def _normal_cdf(x):
    return 0.5 * (1 + ops.erf(x * math.sqrt(0.5)))


def _in_float32(function, x, **positive):
    """`function(x)`, computed in float32 at least, after a look at its settings."""
    for name, value in positive.items():
        if value <= 0:
            raise ValueError(f"`{name}` must be positive, but got {value}.")
    x, dtype = widen(x)
    return ops.cast(function(x), dtype)
