"""Compile the family's kernels on small problems."""

from __future__ import annotations

import numpy as np

from ranking._rank_tsp import rank_tsp as run_rank_tsp

__all__ = ["rank_tsp"]


def rank_tsp() -> None:
    """Recursion, assignment, branch and bound, local search and the arborescence bound."""
    rng = np.random.default_rng(0)
    points = rng.random((12, 2))
    near_symmetric = -np.hypot(*(points[:, None] - points).T) + 0.01 * rng.random((12, 12))
    run_rank_tsp(near_symmetric, method="exact", rng=0, max_iter=3)
    run_rank_tsp(near_symmetric, method="heuristic", rng=0, max_iter=3)
    run_rank_tsp(near_symmetric[:3, :3], method="dynamic-programming", rng=0)
