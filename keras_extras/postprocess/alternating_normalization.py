"""Classification with Alternating Normalization: unsure predictions learn from sure ones."""

from __future__ import annotations

import numpy as np

#: rows that are corrected at once are so many that this many numbers are held
CHUNK = 2**24


def uncertainty(y_pred, k: int = 3, variant: str = "author") -> np.ndarray:
    """How undecided each row of probabilities is, by the entropy of its k largest.

    - "author": ``-Σ q log q / log k`` with q the k largest divided by their sum: from 0 to 1.
    - "paper": ``-Σ p log p / log m`` with p the k largest as they are, of m classes.

    Args:
        y_pred: ``(rows, classes)``, probabilities.
        k: how many; 3 by default, all classes if there are fewer.
        variant: one of the names above.

    Raises:
        ValueError: unknown `variant`, or k below 2.

    Source: kexue.fm/archives/8728; Jia et al., arXiv:2109.13449.

    >>> print(uncertainty([[0.5, 0.25, 0.25], [0.5, 0.5, 0.0]], k=2).round(6))
    [0.918296 1.      ]
    """
    p = probabilities(y_pred)
    if k < 2:
        raise ValueError(f"uncertainty needs the largest two probabilities at least; got {k=}.")
    classes = p.shape[1]
    k, classes = min(k, classes), max(classes, 2)
    top = -np.partition(-p, k - 1, axis=1)[:, :k]
    if variant == "author":
        top, scale = top / top.sum(axis=1, keepdims=True), np.log(max(k, 2))
    elif variant == "paper":
        scale = np.log(classes)
    else:
        raise ValueError(f"uncertainty has the variants 'author' and 'paper', not {variant!r}.")
    return -np.sum(top * np.log(np.where(top > 0, top, 1)), axis=1) / scale


def can(
    y_pred,
    prior,
    k: int = 3,
    threshold: float = 0.9,
    alpha: float = 1.0,
    iters: int = 1,
    variant: str = "author",
) -> np.ndarray:
    """Probabilities whose unsure rows are corrected by the shares of the classes.

    Each row with ``uncertainty ≥ threshold`` is, by itself, put below all sure rows, and of this
    matrix Y, `iters` times: ``Y ← Y^α``; columns divided by their mean and multiplied by the
    class's prior; rows divided by their sum. Its last row is the corrected one. Sure rows stay
    as they are, and so does everything where no row is sure.

    Args:
        y_pred: ``(rows, classes)``, probabilities.
        prior: shares or counts of the classes in the training data.
        k: how many of the largest probabilities tell the uncertainty; 3 by default.
        threshold: rows below it are sure; 0.9 by default.
        alpha: α; 1 by default.
        iters: 1 by default.
        variant: of `uncertainty`: "author" (default) or "paper".

    Returns:
        Array of the shape of `y_pred`, in float64.

    Raises:
        ValueError: `y_pred` is no matrix of probabilities, or `prior` does not fit it.

    Source: Jia et al., arXiv:2109.13449; kexue.fm/archives/8728.

    >>> can([[0.05, 0.95], [0.5, 0.5]], prior=[0.5, 0.5]).round(3).tolist()
    [[0.05, 0.95], [0.725, 0.275]]
    """
    p = probabilities(y_pred)
    prior = np.asarray(prior, "float64")
    if prior.shape != p.shape[1:] or not (prior >= 0).all() or not prior.sum() > 0:
        raise ValueError(
            f"can needs one share or count per class, none negative and not all 0: {p.shape[1]} "
            f"of them; got {prior.tolist()}."
        )
    sure = uncertainty(p, k, variant) < threshold
    rows = np.flatnonzero(~sure)
    corrected = p.copy()
    if not sure.any() or not iters:
        return corrected
    above, prior = p[sure], prior / prior.sum()
    for part in np.array_split(rows, max(1, -(-rows.size * len(above) // CHUNK))):
        corrected[part] = alternate(above, p[part], prior, alpha, iters)
    return corrected


def alternate(above, rows, prior, alpha: float, iters: int) -> np.ndarray:
    """The corrected `rows`, each of them alone below the matrix `above`.

    Every step multiplies rows and columns of its matrix by numbers, so the matrix of row b is
    ``u_b[i] · above[i, j] · v_b[j]``: two vectors per row are carried along instead of a matrix.
    """
    original, count = rows, len(above) + 1
    u, v = None, np.ones((1, above.shape[1]))  # u is 1 at first, for all rows alike
    for step in range(iters):
        above, rows, v = above**alpha, rows**alpha, v**alpha
        sums = above.sum(axis=0) if u is None else u**alpha @ above
        columns = (sums * v + rows) / count
        scale = prior * np.divide(1, columns, out=np.zeros_like(columns), where=columns > 0)
        v, rows = v * scale, rows * scale
        total = rows.sum(axis=1, keepdims=True)
        rows = np.divide(rows, total, out=original.copy(), where=total > 0)
        if step < iters - 1:
            u = v @ above.T  # the sums of the matrix's rows, by which they are divided
            u = np.divide(1, u, out=np.zeros_like(u), where=u > 0)
    return rows


def probabilities(y_pred) -> np.ndarray:
    """A matrix of probabilities in float64, or an error."""
    p = np.asarray(y_pred, "float64")
    if p.ndim != 2 or not np.isfinite(p).all() or (p < 0).any():
        raise ValueError(
            "Probabilities are a matrix (rows, classes) of finite numbers, none negative; got "
            f"shape {p.shape}. Put logits through a softmax first."
        )
    if not np.allclose(p.sum(axis=1), 1, atol=1e-2):
        row = int(np.argmax(np.abs(p.sum(axis=1) - 1)))
        raise ValueError(
            f"The probabilities of row {row} add up to {p[row].sum():.4g}, not to 1. Put logits "
            "through a softmax first."
        )
    return p
