"""Word Mover's and Word Rotator's Distance: how far words have to travel from text to text."""

from __future__ import annotations

import importlib.util

import numpy as np


def earth_mover_distance(p, q, cost) -> float:
    """``min Σ γ_ij d_ij`` over plans γ ≥ 0 whose rows add up to p and columns to q.

    Exact: by POT's network simplex where POT is installed (``pip install POT``), which is faster,
    else by SciPy's HiGHS.

    Args:
        p, q: ``(n,)`` and ``(m,)``, weights, none negative, each adding up to 1.
        cost: ``(n, m)``, d.

    Raises:
        ValueError: weights that are negative or do not add up to 1, or another shape of `cost`.
        ImportError: neither POT nor SciPy is installed.

    Source: kexue.fm/archives/7388.

    >>> print(f"{earth_mover_distance([0.5, 0.5], [1.0], [[1.0], [3.0]]):.4f}")
    2.0000
    """
    p, q = np.asarray(p, "float64"), np.asarray(q, "float64")
    cost = np.ascontiguousarray(cost, "float64")
    for weights in (p, q):
        if weights.ndim != 1 or (weights < 0).any() or abs(weights.sum() - 1) > 1e-6:
            raise ValueError(
                "earth_mover_distance needs weights that are not negative and add up to 1; got "
                f"{weights.tolist()}."
            )
    if cost.shape != (len(p), len(q)):
        raise ValueError(
            f"{len(p)} and {len(q)} weights need a cost matrix of that shape, not {cost.shape}."
        )
    if 1 in cost.shape:  # one plan only
        return float(p @ cost @ q)
    return solver()(p / p.sum(), q / q.sum(), cost)


def solver():
    """The fastest exact solver there is."""
    if importlib.util.find_spec("ot"):
        return by_pot
    if importlib.util.find_spec("scipy"):
        return by_scipy
    raise ImportError("Transport distances need POT or SciPy: pip install POT (or scipy).")


def by_pot(p, q, cost) -> float:
    import ot

    return float(ot.emd2(p, q, cost))


def by_scipy(p, q, cost) -> float:
    from scipy.optimize import linprog
    from scipy.sparse import eye_array, kron, vstack

    n, m = cost.shape
    rows = kron(eye_array(n), np.ones((1, m)))
    columns = kron(np.ones((1, n)), eye_array(m))
    equations = vstack([rows, columns]).tocsr()[:-1]  # the last one follows from the others
    result = linprog(cost.ravel(), A_eq=equations, b_eq=np.concatenate([p, q[:-1]]), method="highs")
    if result.status:
        raise ArithmeticError(f"SciPy could not solve a transport problem: {result.message}")
    return float(result.fun)


def word_mover_distance(x, y) -> float:
    """WMD: every word has the same weight, and d is the Euclidean distance of their vectors.

    Args:
        x, y: ``(n, dim)`` and ``(m, dim)``, vectors of the words of two texts.

    Raises:
        ValueError: a text without words, or vectors of different sizes.

    Source: Kusner et al., 2015; kexue.fm/archives/7388 (whose code takes the mean instead of
    the sum over the dimensions, and so gives WMD / √dim).

    >>> distance = word_mover_distance([[0, 0], [2, 0]], [[1, 0], [1, 2]])
    >>> print(f"{distance:.6f}")
    1.618034
    """
    return distance_of(MOVER, x, y)


def word_rotator_distance(x, y) -> float:
    """WRD: a word weighs as much as its vector is long, and d is ``1 - cos``: from 0 to 2.

    Words whose vector is 0 weigh nothing. ``1 - WRD`` is a similarity.

    Args:
        x, y: ``(n, dim)`` and ``(m, dim)``, vectors of the words of two texts.

    Raises:
        ValueError: a text without words (or of zeros), or vectors of different sizes.

    Source: Yokoi et al., arXiv:2004.15003; kexue.fm/archives/7388.

    >>> print(f"{word_rotator_distance([[2.0, 0.0]], [[0.0, 1.0], [3.0, 0.0]]):.4f}")
    0.2500
    """
    return distance_of(ROTATOR, x, y)


def word_centroid_distance(x, y) -> float:
    """``‖mean x - mean y‖ ≤ WMD``: what `word_mover_distance` is at least, at little cost.

    >>> word_centroid_distance([[0, 0], [2, 0]], [[1, 0], [1, 2]])
    1.0
    """
    return float(MOVER.bound(MOVER.read(x).centroid, MOVER.read(y).centroid))


def word_rotator_bound(x, y) -> float:
    """``½ ‖Σw/Z - Σw'/Z'‖² ≤ WRD``, with Z the sum of the lengths of a text's vectors.

    >>> word_rotator_bound([[1.0, 0.0]], [[0.0, 1.0]])
    1.0
    """
    return float(ROTATOR.bound(ROTATOR.read(x).centroid, ROTATOR.read(y).centroid))


def distance_of(kind, x, y) -> float:
    x, y = kind.read(x), kind.read(y)
    if x.points.shape[1] != y.points.shape[1]:
        raise ValueError(
            f"The vectors of two texts have {x.points.shape[1]} and {y.points.shape[1]} dimensions."
        )
    return earth_mover_distance(x.weights, y.weights, kind.cost(x.points, y.points))


class Text:
    """Points, their weights, and the weighted mean of the points."""

    def __init__(self, points, weights):
        self.points, self.weights = points, weights / weights.sum()
        self.centroid = self.weights @ points


class Mover:
    """WMD: points are the words' vectors."""

    def read(self, vectors) -> Text:
        points = matrix_of(vectors)
        return Text(points, np.ones(len(points)))

    def cost(self, x, y) -> np.ndarray:
        center = y.mean(axis=0)  # far from 0 the squares would drown the differences
        x, y = x - center, y - center
        lengths = (x**2).sum(1)[:, None] + (y**2).sum(1)
        squares = lengths - 2 * x @ y.T
        i, j = np.nonzero(squares < 1e-8 * lengths)  # little is left but rounding
        squares[i, j] = ((x[i] - y[j]) ** 2).sum(axis=1)
        return np.sqrt(squares)

    def bound(self, x, y) -> np.ndarray:
        return np.linalg.norm(x - y, axis=-1)


class Rotator:
    """WRD: points are the directions of the words' vectors; ``1 - cos = ½ ‖x - y‖²``."""

    def read(self, vectors) -> Text:
        vectors = matrix_of(vectors)
        lengths = np.linalg.norm(vectors, axis=1)
        vectors, lengths = vectors[lengths > 0], lengths[lengths > 0]
        if not len(lengths):
            raise ValueError("All word vectors of a text are 0, which have no direction.")
        return Text(vectors / lengths[:, None], lengths)

    def cost(self, x, y) -> np.ndarray:
        return np.maximum(1 - x @ y.T, 0)

    def bound(self, x, y) -> np.ndarray:
        return np.sum((x - y) ** 2, axis=-1) / 2


MOVER, ROTATOR = Mover(), Rotator()


def matrix_of(vectors) -> np.ndarray:
    x = np.asarray(vectors, "float64")
    if x.ndim != 2 or not len(x) or not np.isfinite(x).all():
        raise ValueError(
            "A text is a matrix (words, dim) of finite numbers with one word at least; got shape "
            f"{x.shape}."
        )
    return x
