"""Compile the family's kernels on a tiny problem."""

from __future__ import annotations

import numpy as np

from clustering._certify_kmeans import certify_kmeans as run_certify_kmeans
from clustering._kmeans_sdp import kmeans_sdp as run_kmeans_sdp

__all__ = ["certify_kmeans", "kmeans_sdp"]


def _points() -> tuple[np.ndarray, np.ndarray]:
    grid = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [5.0, 5.0], [5.0, 6.0], [6.0, 5.0], [3.0, 3.0]])
    return np.vstack([grid, grid + 0.1]), np.repeat([0, 1, 0, 1], [3, 4, 3, 4])


def kmeans_sdp() -> None:
    """Both methods."""
    run_kmeans_sdp(_points()[0], 3, method="admm", tol=0.0, max_iter=1, rng=0, backend="numba")


def certify_kmeans() -> None:
    """The structured certificate."""
    run_certify_kmeans(*_points(), backend="numba")
