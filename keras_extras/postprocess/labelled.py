"""Validation data as the searches of this room take it."""

from __future__ import annotations

import numpy as np


def labelled(caller: str, y_true, scores, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels ``(n,)`` and scores ``(n, classes)`` in float64, if they fit each other.

    Args:
        caller, what: name of the function and of its scores, for the message.

    Raises:
        ValueError: the shapes do not fit, scores are not finite, or labels are no classes.
    """
    y_true, scores = np.asarray(y_true), np.asarray(scores, "float64")
    if scores.ndim != 2 or y_true.shape != scores.shape[:1] or not scores.size:
        raise ValueError(
            f"{caller} needs labels (n,) and {what} (n, classes); got shapes {y_true.shape} and "
            f"{scores.shape}."
        )
    wrong = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(wrong):
        raise ValueError(
            f"{caller} needs finite {what}; row {wrong[0]} has NaN or infinite numbers. Leave out "
            "such rows, or the classes that are masked."
        )
    if not np.isin(y_true, np.arange(scores.shape[1])).all():
        raise ValueError(f"{caller} needs labels from 0 to {scores.shape[1] - 1}.")
    return y_true, scores
