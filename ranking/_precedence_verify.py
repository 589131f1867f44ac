"""The independent check of linear orderings: score and bound, from the scores."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ranking._precedence import PrecedenceRanking, precedence_scores
from ranking._precedence_bounds import VERIFY, cycles_are_sound, linear_bound
from solvers._core.linalg import UNIT
from solvers._core.proofs import judge, problem_arguments
from solvers._core.result import Verification

__all__ = ["verify_rank_linear"]


def verify_rank_linear(result: PrecedenceRanking, scores: Any) -> Verification:
    """Objective by positions, bound from the cycles of the certificate."""
    with problem_arguments():
        matrix, _ = precedence_scores(scores)
    n = len(matrix)
    bound = math.inf
    if cycles_are_sound(result.certificate, n):
        bound = linear_bound(matrix, result.certificate, VERIFY)
        bound = math.inf if math.isnan(bound) else bound
    order, rank = np.asarray(result.x), np.asarray(result.rank)
    wrong = ""
    if order.shape != (n,) or order.dtype.kind not in "iu" or not np.array_equal(np.sort(order), np.arange(n)):
        wrong = f"order must be a permutation of 0..{n - 1}"
    elif not np.array_equal(order, np.asarray(result.order)):
        wrong = "x and order differ"
    elif rank.shape != (n,) or not np.array_equal(rank[order], np.arange(n)):
        wrong = "rank is not the inverse of order"
    if wrong:
        return Verification(False, math.nan, bound, math.inf, f"infeasible: {wrong}")
    fun = math.fsum(np.where(rank[:, None] < rank, matrix, 0.0).ravel().tolist())
    size = float(np.sum(np.abs(matrix)))
    return judge(result, fun=fun, bound=bound, fun_slack=4 * UNIT * (n + 8) * size, scale=size)
