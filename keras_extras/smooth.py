"""Smooth stand-ins for what has no gradient: maximum, its place, the k largest.

Each takes its sharp counterpart's place in a model that is trained by gradients, and goes to it as
the scores grow: multiply them by ``beta`` (an inverse temperature). Accuracy and F1 made smooth
are losses: `keras_extras.losses.SmoothAccuracy`, `SmoothF1`.
"""

from __future__ import annotations

from keras import ops

from keras_extras.ops import widen


def smooth_max(x, beta: float = 1.0, axis: int | None = -1, keepdims: bool = False):
    """``log Σ e^(β·x) / β``: at least the maximum, and at most ``log n / β`` more.

    Its gradient is ``softmax(β·x)``. With ``beta = -b`` it is a smooth minimum.

    Args:
        x: scores; float16 and bfloat16 are computed in float32.
        beta: β, not 0.
        axis: the axis it is taken along; None for all entries.
        keepdims: whether the axis stays, with length 1.

    Source: kexue.fm/archives/3290.

    >>> print(f"{float(smooth_max([2.0, 1.0, 4.0, 5.0, 3.0])):.6f}")
    5.451914
    """
    x, dtype = widen(x)
    return ops.cast(ops.logsumexp(beta * x, axis=axis, keepdims=keepdims) / beta, dtype)


def smooth_abs(x, beta: float = 1.0):
    """``log(e^(β·x) + e^(−β·x)) / β``: at least |x|, and at most ``log 2 / β`` more.

    Source: kexue.fm/archives/6620.

    >>> print(f"{float(smooth_abs(0.0)):.6f}")
    0.693147
    """
    x, dtype = widen(x)
    # |x| is not smooth in itself, so as x + …
    return ops.cast(x + ops.softplus(-2 * beta * x) / beta, dtype)


def soft_argmax(x, beta: float = 1.0, axis: int = -1):
    """``Σ i·softmax(β·x)_i``: the place of the maximum, counted from 0, as a smooth number.

    Args:
        x: scores.
        beta: β; the place is exact for ``β → ∞`` if one score is the largest.
        axis: the axis along which places are counted.

    Source: kexue.fm/archives/6620 (which counts from 1).

    >>> print(f"{float(soft_argmax([2.0, 1.0, 4.0, 5.0, 3.0])):.6f}")
    2.733640
    """
    x, dtype = widen(x)
    weights = ops.moveaxis(ops.softmax(beta * x, axis=axis), axis, -1)
    places = ops.arange(weights.shape[-1], dtype=weights.dtype)
    return ops.cast(ops.sum(weights * places, axis=-1), dtype)


def soft_k_max(x, k: int, axis: int = -1):
    """k rounds of softmax, each over what the former ones left: a smooth mark of the k largest.

    ``x ← x − min x``, ``p = 0``, then k times ``p ← p + softmax((1 − p)·x)``. The marks are
    positive and sum to k, but may exceed 1 when the scores are close: see `soft_top_k`.

    Args:
        x: scores; sharper with larger scores.
        k: how many; at least 1 and less than the number of scores.
        axis: the axis of the scores.

    Raises:
        ValueError: `k` is out of range, or the number of scores is not known.

    Source: kexue.fm/archives/6620.

    >>> [round(float(p), 4) for p in soft_k_max([50.0, 100.0, 200.0, 250.0, 150.0], 2)]
    [0.0, 0.0, 1.0, 1.0, 0.0]
    """
    x, dtype = _scores(x, k, axis)
    x = x - ops.min(x, axis=axis, keepdims=True)
    marks = ops.zeros_like(x)
    for _ in range(k):
        marks = marks + ops.softmax((1 - marks) * x, axis=axis)
    return ops.cast(marks, dtype)


def soft_top_k(x, k: int, axis: int = -1):
    """``p_i = F(x_i − λ)`` with the λ for which ``Σ p_i = k``: a smooth mark of the k largest.

    F is the distribution function of Laplace: ``1 − e^(−z)/2`` for z ≥ 0, ``e^z/2`` for z < 0. The
    marks are between 0 and 1, sum to k, keep the order of the scores and do not change when a
    constant is added to all; as the scores grow they go to the k-hot vector of the k largest. λ is
    found by bisection, and its gradient is that of the implicit function,
    ``∂p_i/∂x_j = F′_i·(δ_ij − F′_j/ΣF′)``; second derivatives are not.

    Args:
        x: scores; divide them by a temperature for sharper marks.
        k: how many; at least 1 and less than the number of scores.
        axis: the axis of the scores, whose length is known.

    Raises:
        ValueError: `k` is out of range, or the number of scores is not known.

    Source: kexue.fm/archives/10373.

    >>> [round(float(p), 3) for p in soft_top_k([0.0, 0.0], 1)]
    [0.5, 0.5]
    """
    x, dtype = _scores(x, k, axis)
    fixed = ops.stop_gradient(x)
    largest = ops.moveaxis(ops.top_k(ops.moveaxis(fixed, axis, -1), k + 1)[0], -1, axis)
    last, next_one = ops.split(ops.take(largest, ops.array([k - 1, k]), axis=axis), 2, axis=axis)
    x, fixed = x - last, fixed - last  # so that λ is small, where numbers are dense
    # k + 1 scores are at least `next_one`; of all but k - 1 none is more than `last`
    margin = ops.log(ops.cast(2.0 * x.shape[axis], x.dtype))

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        z = fixed - middle
        # Σ F − k as a sum of the small numbers F − [z ≥ 0], and a whole number
        tails = 0.5 * ops.exp(-ops.abs(z))
        tails = ops.sum(ops.where(z < 0, tails, -tails), axis=axis, keepdims=True)
        above = ops.sum(ops.cast(z >= 0, z.dtype), axis=axis, keepdims=True)
        enough = tails + (above - k) > 0
        return ops.where(enough, middle, low), ops.where(enough, high, middle)

    bounds = (next_one - last - margin, ops.zeros_like(last) + margin)
    shift = ops.stop_gradient(sum(ops.fori_loop(0, 50, halve, bounds)) / 2)
    # no change of λ, but the gradient of the implicit function
    density = ops.stop_gradient(0.5 * ops.exp(-ops.abs(fixed - shift)))
    total = ops.sum(density, axis=axis, keepdims=True)
    moved = ops.sum(density * (x - fixed), axis=axis, keepdims=True)
    shift = shift + moved / ops.maximum(total, ops.cast(1e-30, x.dtype))
    return ops.cast(_laplace_cdf(x - shift), dtype)


def _laplace_cdf(z):
    left, zero = z < 0, ops.zeros_like(z)
    below = 0.5 * ops.exp(ops.where(left, z, zero))
    return ops.where(left, below, 1 - 0.5 * ops.exp(-ops.where(left, zero, z)))


def _scores(x, k, axis):
    x, dtype = widen(x)
    if x.shape[axis] is None:
        raise ValueError("The number of scores is not known; the k largest need a fixed one.")
    if not 1 <= k < x.shape[axis]:
        raise ValueError(f"`k` must be from 1 to {x.shape[axis] - 1}, but got {k}.")
    return x, dtype
