"""Initialisers of bert4keras and the blog, registered under ``keras_extras>``."""

from __future__ import annotations

import math

import keras
import numpy as np
from keras import ops

from keras_extras.ops import sinusoidal_embeddings

#: A standard normal cut at ±2 has standard deviation 1/1.13684723 (kexue.fm/archives/8747).
TRUNCATION_CORRECTION = 1.13684723


@keras.saving.register_keras_serializable(package="keras_extras")
class Sinusoidal(keras.initializers.Initializer):
    """A table of sinusoidal position vectors (arXiv:1706.03762), for shape ``(positions, dim)``.

    >>> keras.ops.shape(Sinusoidal()((8, 4)))
    (8, 4)
    """

    def __call__(self, shape, dtype=None):
        size, dim = shape
        table = sinusoidal_embeddings(ops.arange(size, dtype="float32"), dim)
        return ops.cast(table, dtype or keras.config.floatx())


@keras.saving.register_keras_serializable(package="keras_extras")
class RoFormerV2Initializer(keras.initializers.Initializer):
    """The initialiser of RoFormerV2 (kexue.fm/archives/8998).

    A normal cut at ±2 standard deviations with nominal deviation

        1.13684723 / √h · gain · num_hidden_layers^(−1/order),

    where ``h`` is the second axis of embedding-like shapes (first axis above 10000 or below 10)
    and the first axis otherwise.

    Args:
        num_hidden_layers: depth of the model.
        order, gain: as in the formula.
        seed: an integer; None draws anew at every call.
    """

    def __init__(self, num_hidden_layers: int, order: float = 2, gain: float = 1.0, seed=None):
        self.num_hidden_layers = num_hidden_layers
        self.order = order
        self.gain = gain
        self.seed = seed

    def __call__(self, shape, dtype=None, order=None, gain=None):
        hidden_size = shape[1] if shape[0] > 10000 or shape[0] < 10 else shape[0]
        stddev = TRUNCATION_CORRECTION / hidden_size**0.5 * (gain or self.gain)
        stddev *= self.num_hidden_layers ** (-1.0 / (order or self.order))
        return keras.initializers.TruncatedNormal(stddev=stddev, seed=self.seed)(shape, dtype)

    def get_config(self):
        return {
            "num_hidden_layers": self.num_hidden_layers,
            "order": self.order,
            "gain": self.gain,
            "seed": self.seed,
        }


def _draw(distribution, stddev, seed, shape, dtype, mean=0.0):
    """Numbers whose standard deviation is `stddev`, from a distribution of Keras' names."""
    if distribution == "truncated_normal":
        nominal = TRUNCATION_CORRECTION * stddev
        initializer = keras.initializers.TruncatedNormal(mean, nominal, seed=seed)
    elif distribution == "normal":
        initializer = keras.initializers.RandomNormal(mean, stddev, seed=seed)
    else:
        limit = math.sqrt(3) * stddev
        initializer = keras.initializers.RandomUniform(mean - limit, mean + limit, seed=seed)
    return initializer(shape, dtype)


def _fans(shape) -> tuple[int, int]:
    """How many inputs and outputs a weight of this shape has, as in `VarianceScaling`."""
    if len(shape) < 2:
        return (shape[0], shape[0]) if shape else (1, 1)
    field = math.prod(shape[:-2])
    return field * shape[-2], field * shape[-1]


@keras.saving.register_keras_serializable(package="keras_extras")
class CorrectedTruncatedNormal(keras.initializers.Initializer):
    """A normal cut at ±2 of its nominal deviations, whose true standard deviation is `stddev`.

    `keras.initializers.TruncatedNormal(stddev=σ)`, with which BERT starts (σ = 0.02), has the
    standard deviation ``σ/1.1368472`` (0.0175925); here the nominal one is ``1.1368472·stddev``.

    Args:
        mean: mean; 0 by default.
        stddev: true standard deviation; 0.02 by default.
        seed: an integer; None (default) draws anew at every call, unlike Keras 3's initialisers,
            which without a seed repeat what they drew first (see `fresh`).

    Source: kexue.fm/archives/8747.

    >>> CorrectedTruncatedNormal(stddev=0.02, seed=1)((3, 4)).shape == (3, 4)
    True
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.02, seed: int | None = None):
        self.mean, self.stddev, self.seed = mean, stddev, seed

    def __call__(self, shape, dtype=None):
        return _draw("truncated_normal", self.stddev, self.seed, shape, dtype, self.mean)

    def get_config(self):
        return {"mean": self.mean, "stddev": self.stddev, "seed": self.seed}


@keras.saving.register_keras_serializable(package="keras_extras")
class DimensionAveraging(keras.initializers.Initializer):
    """Variance ``scale/D``, D a mean of the number of inputs m and of outputs n.

    ========== ======================= ==========================================================
    mode       D                       what it does best
    ========== ======================= ==========================================================
    arithmetic ``(m + n)/2``           Glorot's initialiser, in between
    geometric  ``√(m·n)``              W₁ (m→n) followed by W₂ (n→m) keeps the variance exactly
    quadratic  ``(m² + n²)/(m + n)``   least ``(m/D − 1)² + (n/D − 1)²``: forwards and backwards
    ========== ======================= ==========================================================

    Args:
        mode: one of the names above; "geometric" by default.
        scale: factor of the variance; 1 by default (2 where a relu follows).
        distribution: "truncated_normal" (default; its variance is corrected for the cut),
            "normal" or "uniform".
        seed: as in `CorrectedTruncatedNormal`.

    Raises:
        ValueError: unknown `mode` or `distribution`, or `scale` is not positive.

    Source: kexue.fm/archives/8725.

    >>> DimensionAveraging("quadratic").dimension(768, 3072)
    2611.2
    """

    def __init__(
        self,
        mode: str = "geometric",
        scale: float = 1.0,
        distribution: str = "truncated_normal",
        seed: int | None = None,
    ):
        if mode not in ("arithmetic", "geometric", "quadratic"):
            raise ValueError(
                f"`mode` must be 'arithmetic', 'geometric' or 'quadratic', but got {mode!r}."
            )
        if distribution not in ("truncated_normal", "normal", "uniform"):
            raise ValueError(
                "`distribution` must be 'truncated_normal', 'normal' or 'uniform', "
                f"but got {distribution!r}."
            )
        if scale <= 0:
            raise ValueError(f"`scale` must be positive, but got {scale}.")
        self.mode, self.scale, self.distribution, self.seed = mode, scale, distribution, seed

    def dimension(self, inputs: int, outputs: int) -> float:
        """D for these numbers of inputs and outputs."""
        if self.mode == "arithmetic":
            return (inputs + outputs) / 2
        if self.mode == "geometric":
            return math.sqrt(inputs * outputs)
        return (inputs**2 + outputs**2) / (inputs + outputs)

    def __call__(self, shape, dtype=None):
        stddev = math.sqrt(self.scale / self.dimension(*_fans(shape)))
        return _draw(self.distribution, stddev, self.seed, shape, dtype)

    def get_config(self):
        return {
            "mode": self.mode,
            "scale": self.scale,
            "distribution": self.distribution,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable(package="keras_extras")
class NearlyOrthogonal(keras.initializers.Initializer):
    """Independent normal numbers of variance ``gain²/max(m, n)``: nearly orthogonal, and cheap.

    Of an m×n matrix W with m ≥ n, ``WᵀW`` is the identity up to a mean square of about 1/m in each
    entry; of a wide one, ``WWᵀ``. See `orthogonality_error`; `keras.initializers.Orthogonal` is
    exact and needs a QR decomposition.

    Args:
        gain: 1 by default; √2 where a relu follows (He's initialiser, of a square matrix).
        seed: as in `CorrectedTruncatedNormal`.

    Source: kexue.fm/archives/7180.

    >>> bool(orthogonality_error(NearlyOrthogonal(seed=1)((400, 200))) < 0.01)
    True
    """

    def __init__(self, gain: float = 1.0, seed: int | None = None):
        self.gain, self.seed = gain, seed

    def __call__(self, shape, dtype=None):
        return _draw("normal", self.gain / math.sqrt(max(_fans(shape))), self.seed, shape, dtype)

    def get_config(self):
        return {"gain": self.gain, "seed": self.seed}


def orthogonality_error(matrix) -> float:
    """Mean square of ``WᵀW − I`` (of ``WWᵀ − I`` if W is wide): 0 for orthogonal columns.

    >>> orthogonality_error([[0.0, 1.0], [1.0, 0.0]])
    0.0
    """
    matrix = np.asarray(ops.convert_to_numpy(matrix), "float64")
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T
    return float(np.mean((matrix.T @ matrix - np.eye(matrix.shape[1])) ** 2))


def post_norm_residual_weights(depth: int, variance: float = 1.0) -> np.ndarray:
    """How much of the input and of each branch is left after the residuals of a Post-Norm model.

    At the start, Post-Norm divides ``x + F(x)`` by the standard deviation of the sum, √(1 + σ²)
    for independent branches of variance σ², so that after L residuals

        ``x_L = x₀/(1 + σ²)^(L/2) + Σ_l F_l/(1 + σ²)^((L − l + 1)/2)``,  l = 1 … L

    With σ² = 1 and the 24 residuals of BERT-base, 2⁻¹² of the input is left. A smaller variance
    keeps the way open, as BERT's small initialiser does.

    Args:
        depth: L.
        variance: σ², 1 by default.

    Returns:
        ``L + 1`` weights: of x₀, F₁, …, F_L.

    Raises:
        ValueError: `depth` or `variance` is negative.

    Source: kexue.fm/archives/8747.

    >>> post_norm_residual_weights(2).round(4).tolist()
    [0.5, 0.5, 0.7071]
    """
    if depth < 0 or variance < 0:
        raise ValueError(
            f"`depth` and `variance` must not be negative, but got {depth} and {variance}."
        )
    powers = np.concatenate([[depth], np.arange(depth, 0, -1)])
    return (1.0 + variance) ** (-powers / 2)


def fresh(initializer):
    """A copy of `initializer` that draws numbers of its own.

    An initialiser of Keras 3 without a seed draws one when it is made and gives the same numbers
    at every call: a layer with several kernels needs one initialiser for each.
    """
    if isinstance(initializer, keras.initializers.Initializer):
        return initializer.__class__.from_config(initializer.get_config())
    return initializer
