"""Random features of the exponential kernel."""

from __future__ import annotations

import numpy as np


def orthogonal_features(size: int, count: int, seed: int) -> np.ndarray:
    """Directions ω of Performer's features (arXiv:2009.14794; kexue.fm/archives/7921).

    With ω ~ N(0, I), ``e^(q·k) = E[e^(ω·q − |q|²/2) · e^(ω·k − |k|²/2)]``. Directions that are
    orthogonal to each other in groups of `size`, each as long as a normal vector would be, keep the
    expectation and have a smaller variance.

    Args:
        size: of the vectors.
        count: number of directions.
        seed: of the random numbers.

    Returns:
        ``(size, count)`` in float64; each column is one direction.

    >>> w = orthogonal_features(4, 8, seed=0)
    >>> bool(abs(w[:, 0] @ w[:, 1]) < 1e-12)
    True
    """
    rng = np.random.default_rng(seed)
    q, r = np.linalg.qr(rng.normal(size=(-(-count // size), size, size)))
    groups = q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None]  # makes all rotations as likely
    directions = groups.transpose(1, 0, 2).reshape(size, -1)[:, :count]
    return directions * np.linalg.norm(rng.normal(size=(size, count)), axis=0)
