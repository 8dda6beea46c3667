"""Thresholds and weights of classes that are best on validation data, found exactly."""

from __future__ import annotations

import numpy as np

from keras_extras.postprocess.labelled import labelled

METRICS = ("accuracy", "f1")


def find_threshold(y_true, scores, metric: str = "accuracy") -> tuple[float, float]:
    """The threshold t for which predicting 1 where ``score > t`` is best, and how good it is.

    All thresholds that make a difference are tried: those halfway between neighbouring scores, and
    one outside on either side. Of equally good ones the middle one is taken.

    Args:
        y_true: ``(n,)``, 0 or 1.
        scores: ``(n,)``, any numbers: cosines, logits, probabilities.
        metric: "accuracy" (default), or "f1" of class 1.

    Returns:
        Threshold and metric.

    Raises:
        ValueError: labels other than 0 and 1, scores that are not finite, unknown metric.

    Source: kexue.fm/archives/8860 (which searches with Powell's method).

    >>> find_threshold([0, 0, 1, 1], [0.1, 0.4, 0.6, 0.9])
    (0.5, 1.0)
    """
    y_true, scores = np.asarray(y_true), np.asarray(scores, "float64")
    if y_true.ndim != 1 or y_true.shape != scores.shape or not y_true.size:
        raise ValueError(
            "find_threshold needs one label and one score per example; got shapes "
            f"{y_true.shape} and {scores.shape}."
        )
    if not np.isin(y_true, (0, 1)).all() or not np.isfinite(scores).all():
        raise ValueError("find_threshold needs labels 0 and 1 and finite scores.")
    if metric not in METRICS:
        raise ValueError(f"find_threshold knows {' and '.join(METRICS)}, not {metric!r}.")
    values, index = np.unique(scores, return_inverse=True)
    right = np.bincount(index, weights=y_true, minlength=len(values))
    every = np.bincount(index, minlength=len(values))
    # threshold number i lies below values[i]; the last one is above all of them
    hits = np.append(np.cumsum(right[::-1])[::-1], 0)
    predicted = np.append(np.cumsum(every[::-1])[::-1], 0)
    if metric == "accuracy":
        quality = (len(scores) - predicted - right.sum() + 2 * hits) / len(scores)
    else:
        quality = 2 * hits / np.maximum(predicted + right.sum(), 1)
    best = np.flatnonzero(quality >= quality.max() - 1e-12)
    chosen = int(best[len(best) // 2])
    outside = np.concatenate([[values[0] - 1], values, [values[-1] + 1]])
    low, high = outside[chosen : chosen + 2]
    middle = (low + high) / 2
    return float(middle if middle < high else low), float(quality[chosen])


def find_class_weights(y_true, y_pred, rounds: int = 20) -> tuple[np.ndarray, float]:
    """Weights w of the classes for which ``argmax(w · p)`` is most often right, and how often.

    One class after the other gets the best of all weights that make a difference for it, until a
    whole round changes nothing. It begins with equal weights, so the accuracy is never below that
    of ``argmax p``; on other data it may be. (The article searches with Powell's method, which
    sees no slope on a function of steps.)

    Args:
        y_true: ``(n,)``, numbers of the right classes.
        y_pred: ``(n, classes)``, probabilities, or any numbers that are not negative.
        rounds: how many at most; 20 by default.

    Returns:
        Weights ``(classes,)`` whose geometric mean is 1, and accuracy.

    Raises:
        ValueError: the shapes do not fit, labels are no classes, or numbers are negative or not
            finite.

    Source: kexue.fm/archives/8860.

    >>> weights, accuracy = find_class_weights([0, 1, 1], [[0.9, 0.1], [0.6, 0.4], [0.7, 0.3]])
    >>> accuracy
    1.0
    """
    y_true, p = labelled("find_class_weights", y_true, y_pred, "probabilities")
    if not np.isfinite(p).all() or (p < 0).any():
        raise ValueError("find_class_weights needs finite numbers, none negative; give no logits.")
    with np.errstate(divide="ignore"):
        scores = np.log(p)  # where a weight is added
    shifts = np.zeros(p.shape[1])
    accuracy = np.mean(np.argmax(p, axis=1) == y_true)
    for _ in range(rounds):
        before = accuracy
        for c in range(p.shape[1]):
            shift, better = best_shift(y_true, scores + shifts, c)
            if better > accuracy:
                shifts[c], accuracy = shifts[c] + shift, better
        if accuracy == before:
            break
    weights = np.exp(shifts - shifts.mean())
    return weights, float(np.mean(np.argmax(weights * p, axis=1) == y_true))


def best_shift(y_true, scores, c: int) -> tuple[float, float]:
    """What to add to the scores of class c, and the accuracy then."""
    others = scores.copy()
    others[:, c] = -np.inf
    rival = np.argmax(others, axis=1)
    with np.errstate(invalid="ignore"):
        needed = others[np.arange(len(rival)), rival] - scores[:, c]  # class c wins above this
    gain = (y_true == c).astype(int) - (y_true == rival)  # of class c winning
    needed[np.isnan(needed)] = np.inf  # nothing but class 0 and zeros: argmax decides
    finite = np.isfinite(needed)
    values, index = np.unique(needed[finite], return_inverse=True)
    if not len(values):
        return 0.0, 0.0
    gains = np.bincount(index, weights=gain[finite], minlength=len(values))
    always = gain[needed == -np.inf].sum()
    right = np.sum(y_true == rival) + always + np.append(0, np.cumsum(gains))
    best = np.flatnonzero(right >= right.max() - 1e-9)
    outside = np.concatenate([[values[0] - 1], values, [values[-1] + 1]])
    middles = (outside[:-1] + outside[1:]) / 2
    chosen = best[np.argmin(np.abs(middles[best]))]
    return float(middles[chosen]), float(right[chosen] / len(y_true))
