"""BERT-whitening: sentence vectors of mean 0 and covariance 1, in NumPy."""

from __future__ import annotations

import os

import numpy as np


class RunningMoments:
    """Mean and covariance of vectors that come in batches, in float64 and memory O(dim²).

    With n vectors seen and b new ones, whose means differ by δ:
    ``μ ← μ + δ b / (n + b)``, ``S ← S + S_new + δᵀδ n b / (n + b)``, ``Σ = S / (n + b)``.

    Args:
        batches: arrays ``(rows, dim)`` to begin with.

    >>> moments = RunningMoments([np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([[0.0, 3.0]])])
    >>> moments.mean.tolist(), moments.count
    ([0.0, 1.0], 3)
    """

    def __init__(self, batches=()):
        self.count = 0
        self.mean = self.scatter = None
        for batch in batches:
            self.update(batch)

    def update(self, vectors) -> RunningMoments:
        """Takes a batch ``(rows, dim)`` in; returns itself.

        Raises:
            ValueError: not a matrix, of another width than before, or not finite.
        """
        x = np.asarray(vectors, "float64")
        if x.ndim != 2 or (self.count and x.shape[1] != len(self.mean)):
            seen = f" of width {len(self.mean)}" if self.count else ""
            raise ValueError(f"Whitening needs matrices (rows, dim){seen}; got shape {x.shape}.")
        if not np.isfinite(x).all():
            raise ValueError("Whitening got vectors with NaN or infinite numbers.")
        if not len(x):
            return self
        mean = x.mean(axis=0)
        x = x - mean
        scatter, new = x.T @ x, len(x)
        if not self.count:
            self.count, self.mean, self.scatter = new, mean, scatter
            return self
        total, apart = self.count + new, mean - self.mean
        self.scatter += scatter + np.outer(apart, apart) * (self.count * new / total)
        self.mean = self.mean + apart * (new / total)
        self.count = total
        return self

    def covariance(self) -> np.ndarray:
        """Σ, divided by the count (the author's code divides by one less; cosines do not see it).

        Raises:
            ValueError: nothing was taken in.
        """
        if not self.count:
            raise ValueError("Whitening has seen no vectors: give it some before it is computed.")
        return self.scatter / self.count

    def kernel_bias(
        self, dim: int | None = None, beta: float = 1.0, gamma: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `compute_kernel_bias`, of the vectors seen."""
        covariance = self.covariance()
        covariance = covariance + (1 - beta) ** 2 * np.outer(self.mean, self.mean)
        values, vectors = np.linalg.eigh(covariance)
        values, vectors = values[::-1], vectors[:, ::-1]
        # each column's largest entry is positive, so that the result does not depend on LAPACK
        largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(len(values))]
        vectors = vectors * np.where(largest < 0, -1, 1)
        dim = len(values) if dim is None else dim
        if not 1 <= dim <= len(values):
            raise ValueError(f"The vectors have {len(values)} dimensions, so dim={dim} is wrong.")
        kept = values[:dim]
        rank = int(np.sum(values > values[0] * len(values) * np.finfo("float64").eps))
        if gamma and dim > rank:
            raise ValueError(
                f"The {self.count} vectors span {rank} dimensions only, so {dim} cannot be "
                f"whitened: keep dim={rank} or less, or give more vectors."
            )
        scale = kept ** (-gamma / 2) if gamma else np.ones(dim)
        return vectors[:, :dim] * scale, -beta * self.mean


def compute_kernel_bias(
    vecs, dim: int | None = None, beta: float = 1.0, gamma: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel W and bias b for which ``(x + b) W`` is whitened.

    ``b = -β μ``, ``W = U Λ^{-γ/2}`` with ``Σ = U Λ Uᵀ`` the covariance about βμ, largest first.
    β = γ = 1 is whitening: mean 0, covariance 1. β = γ = 0 is a rotation, which leaves all cosines
    as they are, and then `dim` drops the directions that matter least.

    Args:
        vecs: ``(rows, dim)``, or an iterable of such batches (a list, a generator), which are never
            held at once.
        dim: how many dimensions to keep; None (default): all. Commonly 256 of 768.
        beta, gamma: β and γ; 1 by default.

    Returns:
        Kernel ``(dim of vecs, dim)`` and bias ``(dim of vecs,)`` in float64.

    Raises:
        ValueError: `dim` is larger than the number of dimensions the vectors span.

    Source: Su et al., arXiv:2103.15316, kexue.fm/archives/8069; β and γ: kexue.fm/archives/9079.

    >>> kernel, bias = compute_kernel_bias(np.array([[1.0, 0], [-1, 0], [0, 2], [0, -2]]))
    >>> np.abs(kernel).round(6).tolist()
    [[0.0, 1.414214], [0.707107, 0.0]]
    """
    batches = [vecs] if isinstance(vecs, np.ndarray) else vecs
    return RunningMoments(batches).kernel_bias(dim, beta, gamma)


def transform_and_normalize(vecs, kernel=None, bias=None) -> np.ndarray:
    """``(x + b) W``, each row divided by its length (a row of zeros stays).

    Args:
        vecs: ``(rows, dim)``.
        kernel, bias: from `compute_kernel_bias`; None (default): vectors are only normalized.

    >>> transform_and_normalize([[3.0, 4.0]]).tolist()
    [[0.6, 0.8]]
    """
    vecs = np.asarray(vecs)
    if bias is not None:
        vecs = vecs + bias
    if kernel is not None:
        vecs = vecs @ kernel
    length = np.linalg.norm(vecs, axis=-1, keepdims=True)
    return vecs / np.where(length > 0, length, 1)


def save_whitening(path, kernel, bias) -> None:
    """Writes kernel and bias to a file of NumPy's ``.npz`` format, of just that name."""
    partial = f"{os.fspath(path)}.partial"
    with open(partial, "wb") as file:
        np.savez(file, kernel=kernel, bias=bias)
    os.replace(partial, path)


def load_whitening(path) -> tuple[np.ndarray, np.ndarray]:
    """Reads what `save_whitening` wrote.

    Raises:
        ValueError: the file holds something else.
    """
    with np.load(path) as file:
        if not {"kernel", "bias"} <= set(file.files):
            raise ValueError(
                f"{path} holds {sorted(file.files)}, not the kernel and bias of whitening."
            )
        return file["kernel"], file["bias"]
