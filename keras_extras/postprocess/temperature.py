"""Temperature scaling: probabilities that are as sure as they are right."""

from __future__ import annotations

import numpy as np

from keras_extras.postprocess.labelled import labelled


def soften(logits, temperature: float) -> np.ndarray:
    """``softmax(f / T)`` over the last axis, in float64.

    Args:
        logits: ``(…, classes)``.
        temperature: T; above 1 softens, below 1 sharpens. The argmax stays.

    Raises:
        ValueError: T is not above 0.

    >>> soften([[2.0, 0.0]], 2.0).round(4).tolist()
    [[0.7311, 0.2689]]
    """
    if not temperature > 0:
        raise ValueError(f"A temperature is above 0; got {temperature}.")
    f = np.asarray(logits, "float64") / temperature
    f = np.exp(f - f.max(axis=-1, keepdims=True))
    return f / f.sum(axis=-1, keepdims=True)


def find_temperature(y_true, logits, lowest: float = 1e-3, highest: float = 1e3) -> float:
    """The temperature T for which ``softmax(f / T)`` has the smallest cross entropy.

    The cross entropy is convex in 1/T, and its derivative ``mean(Σ p f - f_y)`` rises with 1/T:
    its zero is found by bisection. Where there is none (all predictions right, or worse than
    guessing), T is `lowest` or `highest`.

    Args:
        y_true: ``(n,)``, numbers of the right classes.
        logits: ``(n, classes)``, of validation data.
        lowest, highest: bounds of T; 0.001 and 1000 by default.

    Raises:
        ValueError: the shapes do not fit, logits are not finite, or labels are no classes.

    Source: Guo et al., arXiv:1706.04599.

    >>> logits = np.log([[0.9, 0.1]] * 4)
    >>> print(f"{find_temperature([0, 0, 0, 1], logits):.4f}")  # right 3 times out of 4
    2.0000
    """
    y_true, f = labelled("find_temperature", y_true, logits, "logits")
    right = f[np.arange(len(f)), y_true].mean()

    def slope(log_t):
        return np.mean(np.sum(soften(f, np.exp(log_t)) * f, axis=1)) - right

    low, high = np.log(lowest), np.log(highest)
    if slope(low) <= 0:
        return float(lowest)
    if slope(high) >= 0:
        return float(highest)
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return float(np.exp((low + high) / 2))
