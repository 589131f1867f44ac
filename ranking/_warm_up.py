"""Compile the family's kernels on small problems."""

from __future__ import annotations

import numpy as np

from ranking._precedence import rank_linear as run_rank_linear
from ranking._problem import LARGE_ITEMS
from ranking._rank_tsp import rank_tsp as run_rank_tsp
from ranking._rank_tsp_batch import rank_tsp_batch as run_rank_tsp_batch
from ranking._verify import verify_rank_tsp

__all__ = ["rank_linear", "rank_tsp", "rank_tsp_batch"]


def rank_tsp() -> None:
    """The one compiled call, recursion, both trees and their proofs, local search, and candidate arcs."""
    rng = np.random.default_rng(3)
    points = rng.random((16, 2))
    near_symmetric = -np.hypot(*(points[:, None] - points).T) + 0.01 * rng.random((16, 16))
    scores = rng.random((30, 30))
    run_rank_tsp(scores, rng=0)
    for problem in (scores, near_symmetric):
        tree = run_rank_tsp(problem, method="exact", tol=0.0, rng=0, max_iter=3)
        verify_rank_tsp(tree, problem)
    run_rank_tsp(near_symmetric, method="heuristic", rng=0, max_iter=3)
    run_rank_tsp(scores, method="heuristic", rng=0, max_iter=3)
    run_rank_tsp(near_symmetric[:3, :3], method="dynamic-programming", rng=0)
    factors = rng.random((LARGE_ITEMS + 1, 2)), rng.random((LARGE_ITEMS + 1, 2))
    run_rank_tsp(factors, method="greedy", rng=0)
    run_rank_tsp(factors, time_limit=1e-9, rng=0)
    run_rank_tsp(rng.random((LARGE_ITEMS + 1, LARGE_ITEMS + 1)), method="greedy", rng=0)


def rank_tsp_batch() -> None:
    """The recursion that small groups share, and the loop over larger ones."""
    run_rank_tsp_batch(np.random.default_rng(0).random((3, 12, 12)), [4, 12, 12], rng=0)


def rank_linear() -> None:
    """Insertion search, the packing of cycles and descent on their weights."""
    run_rank_linear(np.random.default_rng(0).random((4, 4)), rng=0)
    run_rank_linear(np.random.default_rng(0).random((4, 4)), rng=0, options={"lp_items": 0})
