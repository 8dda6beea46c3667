"""How well similarities agree with labels: Spearman's rank correlation."""

from __future__ import annotations

import numpy as np

from keras_extras.similarity.whitening import compute_kernel_bias, transform_and_normalize


def spearman(x, y) -> float:
    """Spearman's ρ: the correlation of ranks, ties sharing their mean rank.

    Args:
        x, y: ``(n,)``, any numbers.

    Raises:
        ValueError: unequal lengths, numbers that are not finite, or all numbers of one side equal,
            where ρ is not defined.

    >>> print(f"{spearman([1, 2, 3, 4], [1, 4, 9, 2]):.2f}")
    0.40
    """
    x, y = np.asarray(x, "float64"), np.asarray(y, "float64")
    if x.ndim != 1 or x.shape != y.shape or not np.isfinite([x, y]).all():
        raise ValueError(
            f"spearman needs two rows of n finite numbers; got shapes {x.shape} and {y.shape}."
        )
    x, y = ranks(x), ranks(y)
    x, y = x - x.mean(), y - y.mean()
    if not x.any() or not y.any():
        raise ValueError("spearman is not defined where all numbers of one side are equal.")
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def ranks(x) -> np.ndarray:
    """Ranks from 1; equal numbers have the mean of theirs."""
    _, index, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[index]


def cosine_similarity(first, second) -> np.ndarray:
    """Cosines of the rows of two matrices ``(n, dim)``, one by one: ``(n,)``.

    >>> cosine_similarity([[1.0, 0.0]], [[3.0, 4.0]]).tolist()
    [0.6]
    """
    return np.sum(transform_and_normalize(first) * transform_and_normalize(second), axis=-1)


def similarity_spearman(
    first, second, labels, whiten: bool = False, dim=None, beta: float = 1.0, gamma: float = 1.0
) -> float:
    """Spearman's ρ of the cosines of sentence vectors with the labels of the pairs.

    Args:
        first, second: ``(n, dim)``, vectors of the two sentences of each pair.
        labels: ``(n,)``, 0 and 1 or graded.
        whiten: whiten both first, by their own mean and covariance (no label is used).
        dim, beta, gamma: of the whitening, as in `compute_kernel_bias`.

    Source: kexue.fm/archives/8069, 8321.

    >>> similarity_spearman([[1.0, 0], [1, 0]], [[0.0, 1], [1, 0]], [0, 1])
    1.0
    """
    first, second = np.asarray(first), np.asarray(second)
    if whiten:
        kernel, bias = compute_kernel_bias([first, second], dim, beta, gamma)
        first, second = ((x + bias) @ kernel for x in (first, second))
    return spearman(cosine_similarity(first, second), labels)
