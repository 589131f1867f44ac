"""Compile the family's kernels on a tiny problem."""

from __future__ import annotations

import numpy as np

from clustering._certify_kmeans import certify_kmeans as run_certify_kmeans
from clustering._ila_sdp import ila_sdp as run_ila_sdp
from clustering._kmeans_sdp import kmeans_sdp as run_kmeans_sdp

__all__ = ["certify_kmeans", "ila_sdp", "kmeans_sdp"]


def _points() -> tuple[np.ndarray, np.ndarray]:
    grid = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [5.0, 5.0], [5.0, 6.0], [6.0, 5.0], [3.0, 3.0]])
    return np.vstack([grid, grid + 0.1]), np.repeat([0, 1, 0, 1], [3, 4, 3, 4])


def kmeans_sdp() -> None:
    """Every method."""
    points = _points()[0]
    run_kmeans_sdp(points[:, :1], 3, rng=0, backend="numba")
    for method in ("admm", "low-rank", "blocks", "exact"):
        options = {"block_size": 7} if method == "blocks" else None
        run_kmeans_sdp(points, 3, method=method, tol=0.0, max_iter=1, rng=0, backend="numba", options=options)


def certify_kmeans() -> None:
    """The structured certificate."""
    run_certify_kmeans(*_points(), backend="numba")
    run_certify_kmeans(_points()[0][:, :1], _points()[1], backend="numba")


def ila_sdp() -> None:
    """One relaxation of the likelihood."""
    run_ila_sdp(_points()[0], 2, rng=0, max_iter=1, backend="numba", options={"starts": ("kmeans",)})
