"""The independent check of rankings: objective, feasibility and bound, from the scores."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ranking._bounds import LARGEST_SCORE, VERIFY, cycle_bound, sound
from ranking._factors import Factors
from ranking._large_bounds import streamed_bound
from ranking._moment_bounds import moment_bound, moments_are_sound
from ranking._problem import LARGE_ITEMS, PathProblem, path_problem
from ranking._rank_tsp_batch import RankingBatch, padded
from ranking._result import BranchCertificate, MomentCertificate, RankingResult
from solvers._core.arrays import FloatArray, to_host
from solvers._core.linalg import UNIT
from solvers._core.proofs import damage, judge, problem_arguments
from solvers._core.result import Status, Verification

__all__ = ["plain_costs", "proved", "verify_rank_tsp", "verify_rank_tsp_batch"]


def verify_rank_tsp(
    result: RankingResult,
    scores: Any,
    *,
    start: Any = None,
    end: Any = None,
    closed: bool = False,
    maximize: bool = True,
) -> Verification:
    """Check a result of ``rank_tsp``."""
    with problem_arguments():
        problem = path_problem(scores, start, end, closed, maximize)
        if not isinstance(problem.scores, Factors):
            costs = problem.sign * problem.scores
            np.fill_diagonal(costs, 0.0)
            problem.refuse(int(np.isnan(costs).sum()), int(np.isneginf(costs).sum()), 0.0)
    bound = problem.sign * proved(problem, result.certificate)
    worst = -math.inf if problem.maximize else math.inf
    if result.x is None:
        claimed = (result.fun, result.bound, result.success) == (worst, bound, False)
        if result.status is Status.INFEASIBLE and not (math.isinf(bound) and bound == worst):
            return Verification(False, worst, bound, math.inf, "infeasibility could not be re-established")
        if result.status is not Status.INFEASIBLE:
            claimed = result.fun == worst and not result.success and _no_stronger(result.bound, bound, problem)
        claimed = claimed and (result.order, result.rank, result.gap) == (None, None, math.inf)
        return Verification(
            claimed, worst, bound, math.inf, "no path; bound re-established" if claimed else "claims differ"
        )
    order = np.asarray(result.x)
    wrong = _wrong_order(order, result, problem)
    if wrong:
        return Verification(False, math.nan, bound, math.inf, f"infeasible: {wrong}")
    fun, scale = problem.value(order)
    return judge(
        result, fun=fun, bound=bound, fun_slack=4 * UNIT * scale, scale=scale, sense="max" if maximize else "min"
    )


def verify_rank_tsp_batch(
    result: RankingBatch,
    scores: Any,
    lengths: Any = None,
    *,
    start: Any = None,
    end: Any = None,
    closed: bool = False,
    maximize: bool = True,
) -> Verification:
    """Check every group of a result of ``rank_tsp_batch``; ``fun`` and ``bound`` are sums over the groups."""
    with problem_arguments():
        table, sizes = padded(scores if isinstance(scores, (list, tuple)) else to_host(scores), lengths)
    if not (np.array_equal(sizes, result.lengths) and np.array_equal(to_host(result.x), result.order)):
        return Verification(False, math.nan, math.nan, math.inf, "the group sizes differ, or x and order")
    wrong = _batch_damage(result)
    if wrong:
        return Verification(False, math.nan, math.nan, math.inf, wrong)
    fun = bound = gap = 0.0
    for g, n in enumerate(sizes):
        group = result[g]
        if (
            group.x is None
            and group.status is Status.TIME_LIMIT
            and group.bound == (math.inf if maximize else -math.inf)
        ):
            if group.fun != -group.bound or group.gap != math.inf:
                return Verification(False, group.fun, group.bound, math.inf, f"group {g}: claims differ")
            fun, bound, gap = group.fun, group.bound, math.inf
            continue
        wrong = damage(group)
        if wrong:
            return Verification(False, math.nan, math.nan, math.inf, f"group {g}: {wrong}")
        checked = verify_rank_tsp(group, table[g, :n, :n], start=start, end=end, closed=closed, maximize=maximize)
        if not checked:
            return Verification(False, checked.fun, checked.bound, checked.gap, f"group {g}: {checked.message}")
        fun, bound, gap = fun + checked.fun, bound + checked.bound, max(gap, checked.gap)
    if result.success is not all(Status(int(status)).success for status in result["status"]):
        return Verification(False, fun, bound, gap, "success does not follow from the groups' statuses")
    return Verification(
        True, fun, bound, gap, f"objective, feasibility and bound of {len(sizes)} groups re-established"
    )


def _batch_damage(result: RankingBatch) -> str:
    """What contradicts itself in the statuses of the groups: OPTIMAL means a gap of at most ``tol``."""
    tol, status, gap = result["tol"], np.asarray(result["status"]), np.asarray(result["gap"])
    if not (isinstance(tol, float) and tol >= 0.0):
        return f"tol must be a number >= 0; got {tol!r}"
    if status.shape != result.lengths.shape or gap.shape != result.lengths.shape:
        return "status and gap must have one entry per group"
    wrong = np.flatnonzero((status == int(Status.OPTIMAL)) & ~(gap <= tol))
    return f"group {wrong[0]}: status is OPTIMAL with gap {gap[wrong[0]]!r} above tol {tol!r}" if len(wrong) else ""


def proved(problem: PathProblem, certificate: object) -> float:
    """Lower bound on the cost of every cycle that the certificate proves, -inf where it is malformed."""
    if isinstance(certificate, MomentCertificate) and isinstance(problem.scores, Factors):
        sane = moments_are_sound(certificate, problem.scores.left.shape[1])
        return moment_bound(problem, certificate, VERIFY) if sane else -math.inf
    if not sound(certificate, problem.m):
        return -math.inf
    if problem.n > LARGE_ITEMS and isinstance(certificate, BranchCertificate) and _is_root(certificate):
        return streamed_bound(problem, certificate.prices[certificate.leaf[0]], VERIFY)
    if isinstance(problem.scores, Factors):
        return -math.inf
    return cycle_bound(plain_costs(problem), certificate, VERIFY)  # type: ignore[arg-type]


def _is_root(certificate: BranchCertificate) -> bool:
    """Whether the tree is one leaf with finite prices."""
    return len(certificate.parent) == 1 and not certificate.ray[0]


def plain_costs(problem: PathProblem) -> FloatArray:
    """Costs in the caller's numbering, the depot last."""
    assert not isinstance(problem.scores, Factors)
    n = problem.n
    c = np.full((problem.m, problem.m), np.inf)
    c[:n, :n] = problem.sign * problem.scores
    if np.isnan(c[:n, :n][~np.eye(n, dtype=bool)]).any():
        return np.full_like(c, -np.inf)
    if problem.depot:
        c[n, :n] = np.where(np.isin(np.arange(n), [problem.start]) | (problem.start < 0), 0.0, np.inf)
        c[:n, n] = np.where(np.isin(np.arange(n), [problem.end]) | (problem.end < 0), 0.0, np.inf)
    np.fill_diagonal(c, np.inf)
    if np.max(np.abs(c), where=np.isfinite(c), initial=0.0) > LARGEST_SCORE:
        return np.full_like(c, -np.inf)
    return c


def _no_stronger(claimed: float, bound: float, problem: PathProblem) -> bool:
    return claimed >= bound if problem.maximize else claimed <= bound


def _wrong_order(order: Any, result: RankingResult, problem: PathProblem) -> str:
    n = problem.n
    if order.shape != (n,) or order.dtype.kind not in "iu" or not np.array_equal(np.sort(order), np.arange(n)):
        return f"order must be a permutation of 0..{n - 1}"
    if not np.array_equal(order, np.asarray(result.order)):
        return "x and order differ"
    if (
        result.rank is None
        or np.shape(result.rank) != (n,)
        or not np.array_equal(np.asarray(result.rank)[order], np.arange(n))
    ):
        return "rank is not the inverse of order"
    return problem.forbids(order)
