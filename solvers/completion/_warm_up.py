"""Compile the family's kernels on a tiny problem."""

from __future__ import annotations

import numpy as np

from solvers.completion._complete_matrix import complete_matrix as run_complete_matrix

__all__ = ["complete_matrix"]


def complete_matrix() -> None:
    """Sweeps in double precision, with and without weights, and the tangent check."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((12, 2)) @ rng.standard_normal((2, 10))
    matrix[rng.random(matrix.shape) < 0.1] = np.nan
    run_complete_matrix(matrix, 2, rng=0, max_iter=8)
    run_complete_matrix(matrix, 2, rng=0, max_iter=4, reg=0.1, weights=np.ones(matrix.shape))
