"""What a completion says about its data besides objective and bound, recomputed from the data.

``determined`` is the claim that matters most. True says that the tangent system (dU, dV) -> P_Omega(dU Vᵀ + U dVᵀ) has no
more than the k² directions in its kernel that leave the answer where it is; False that there are more and the answer fits the
data, or that the entries are too few by their numbers. The system is examined by :mod:`solvers.completion._claims_tangent`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from solvers._core.arrays import FloatArray
from solvers.completion._blocked_certificate import sum_of_squares
from solvers.completion._blocked_problem import BlockedProblem
from solvers.completion._certificate import entry_residuals
from solvers.completion._claims_tangent import smallest_tangent_value
from solvers.completion._observations import Observations
from solvers.completion._problem import OUTLYING, CompletionProblem
from solvers.completion._result import CompletionResult, fails_held_out
from solvers.completion._uniqueness import FITTED, UNDETERMINED, affordable

__all__ = ["blocked_claim", "unsupported_claim"]

# Relative distance of recomputed root mean squares, and of a rounding residual in units of the data.
SAME, ROUNDING = 1e-6, 1e-12
# Two computations of the smallest eigenvalue may differ by this factor near the threshold.
BAND = 100.0


def unsupported_claim(result: CompletionResult, problem: CompletionProblem, threshold: float) -> str:
    """The first claim that the data do not support; empty if none."""
    observed, held = problem.observed, problem.held
    left, right = result.U * result.s, result.V
    residual = entry_residuals(problem, left, right)
    largest = float(np.max(np.abs(observed.values))) + float(np.max(np.abs(problem.targets)))
    kept = _kept(result, observed, np.abs(residual), threshold, problem)
    if kept is None:
        return f"outliers must be the observed entries whose residuals are above {OUTLYING:g} delta"
    weights = observed.weights * kept
    rmse = math.sqrt(float(np.sum(weights * residual**2)) / float(np.sum(weights)))
    if not abs(float(result.rmse) - rmse) <= SAME * rmse + ROUNDING * largest:
        return f"rmse is {result.rmse!r} and was recomputed as {rmse!r}"
    wrong = _held_out(result, held, ROUNDING * largest)
    if wrong:
        return wrong
    for name, counts in (("short_rows", observed.row_counts), ("short_cols", observed.col_counts)):
        if not np.array_equal(result[name], np.flatnonzero(counts < problem.rank)):
            return f"{name} are not those with fewer than rank = {problem.rank} entries"
    return _determination(result, problem, observed.keep(kept) if not kept.all() else observed)


def blocked_claim(result: CompletionResult, problem: BlockedProblem) -> str:
    """As ``unsupported_claim``, for a matrix in blocks."""
    if len(result.outliers):
        return "entries of a matrix in blocks are not rejected"
    rmse = math.sqrt(sum_of_squares(problem, result.U * result.s, result.V) / problem.total_weight)
    if not abs(float(result.rmse) - rmse) <= SAME * rmse + ROUNDING * (problem.largest + problem.largest_target):
        return f"rmse is {result.rmse!r} and was recomputed as {rmse!r}"
    wrong = _held_out(result, problem.held, ROUNDING * (problem.largest + problem.largest_target))
    if wrong:
        return wrong
    for name, counts in (("short_rows", problem.row_counts), ("short_cols", problem.col_counts)):
        if not np.array_equal(result[name], np.flatnonzero(counts < problem.rank)):
            return f"{name} are not those with fewer than rank = {problem.rank} entries"
    return _determination(result, problem, problem.positions)


def _held_out(result: CompletionResult, held: Any, rounding: float) -> str:
    if not held.size:
        claimed = not math.isnan(float(result.holdout_rmse))
        return f"holdout_rmse is {result.holdout_rmse!r} and nothing was held out" if claimed else ""
    misses = held.values - result.row_bias[held.rows] - result.col_bias[held.cols]
    misses = misses - np.einsum("tk,tk->t", (result.U * result.s)[held.rows], result.V[held.cols])
    size = math.sqrt(float(np.mean(misses**2)))
    if not abs(float(result.holdout_rmse) - size) <= SAME * size + rounding:
        return f"holdout_rmse is {result.holdout_rmse!r} and was recomputed as {size!r}"
    return ""


def _kept(
    result: CompletionResult, observed: Observations, size: FloatArray, threshold: float, problem: CompletionProblem
) -> np.ndarray[tuple[int], np.dtype[np.bool_]] | None:
    """Which entries were not called outliers; None where the list is not that of the large residuals."""
    pairs: Any = np.asarray(result.outliers)
    kept = np.ones(observed.size, dtype=bool)
    limit = OUTLYING * threshold if problem.capped else math.inf
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        return None
    if len(pairs):
        if pairs.min() < 0 or (pairs.max(axis=0) >= problem.shape).any():
            return None
        n = problem.shape[1]
        keys = observed.rows.astype(np.int64) * n + observed.cols
        wanted = pairs[:, 0].astype(np.int64) * n + pairs[:, 1]
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        if not np.array_equal(keys[at], wanted) or len(np.unique(at)) != len(at):
            return None
        kept[at] = False
    beyond = size > limit * (1.0 + SAME * np.where(kept, 1.0, -1.0))
    agrees = np.array_equal(beyond, ~kept) or (kept.all() and beyond.all())
    return kept if agrees and kept.any() else None


def _determination(result: CompletionResult, problem: Any, observed: Any) -> str:
    claim: object = result.determined
    if claim is not None and (type(claim) is not bool or problem.reg > 0.0):
        return f"determined is {claim!r}; it must be None with reg > 0, and True, False or None without"
    if problem.reg > 0.0:
        return ""
    if result.success and (claim is not None and not claim):
        return "success is claimed for a completion that the data do not determine"
    if result.success and fails_held_out(problem, result):
        return "success is claimed for a fit that does not carry over to the held-out entries"
    if claim is None and not result.success:
        return ""
    counted = _counted(problem.shape, problem.rank, observed)
    if counted is not None:
        if counted is not (claim or result.success):
            return f"by the numbers of entries the completion is{'' if counted else ' not'} determined"
        return ""
    value = _smallest(result, problem, observed)
    if (claim or result.success) and value <= UNDETERMINED / BAND:
        return "the tangent system is singular, and determined is True or success is claimed"
    if claim is not None and not claim:
        if not value <= UNDETERMINED * BAND:
            return "determined is False and the tangent system is regular"
        if not float(result.rmse) <= (1.0 + SAME) * FITTED * problem.typical:
            return "determined is False and the answer does not fit the data: it proves nothing of them"
    elif claim and math.isnan(value):
        return "determined is True and the tangent system is too large to be examined"
    return ""


def _counted(shape: tuple[int, int], rank: int, observed: Any) -> bool | None:
    """What the numbers of entries say by themselves."""
    if observed.size == shape[0] * shape[1]:
        return True
    few = observed.size < rank * (shape[0] + shape[1] - rank)
    short = min(int(observed.row_counts.min()), int(observed.col_counts.min())) < rank
    return False if few or short else None


def _smallest(result: CompletionResult, problem: Any, observed: Any) -> float:
    """A number at the rounding level exactly where the tangent system has more than k² null directions; NaN if too large."""
    if not result.s[-1] > 1e-12 * result.s[0]:
        return 0.0
    if not affordable(problem.shape, observed.size, problem.rank):
        return math.nan
    return smallest_tangent_value(problem.shape, observed.rows, observed.cols, result.U, result.V)
