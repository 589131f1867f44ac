"""What a completion says about its data besides objective and bound, recomputed from the data.

``determined`` is the claim that matters most: the tangent system (dU, dV) -> P_Omega(dU Vᵀ + U dVᵀ) has no more than the
k² directions in its kernel that leave U diag(s) Vᵀ where it is. Small systems are decomposed in full here; larger ones
repeat the inverse iteration from another start.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from solvers._core.arrays import FloatArray, IntArray
from solvers.completion._blocked_certificate import sum_of_squares
from solvers.completion._blocked_problem import BlockedProblem
from solvers.completion._certificate import entry_residuals
from solvers.completion._problem import CompletionProblem, Observations
from solvers.completion._result import CompletionResult, fails_held_out
from solvers.completion._sweeps import Factors, Orientation
from solvers.completion._uniqueness import UNDETERMINED, affordable, tangent_gap

__all__ = ["blocked_claim", "unsupported_claim"]

# Entries of a tangent system that is decomposed in full.
DENSE_TANGENT = 4e6
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
        return "outliers must be distinct observed entries whose residuals are above delta"
    weights = observed.weights * kept
    rmse = math.sqrt(float(np.sum(weights * residual**2)) / float(np.sum(weights)))
    if not abs(float(result.rmse) - rmse) <= SAME * rmse + ROUNDING * largest:
        return f"rmse is {result.rmse!r} and was recomputed as {rmse!r}"
    if held.size:
        misses = held.values - result.row_bias[held.rows] - result.col_bias[held.cols]
        misses = misses - np.einsum("tk,tk->t", left[held.rows], right[held.cols])
        size = math.sqrt(float(np.mean(misses**2)))
        if not abs(float(result.holdout_rmse) - size) <= SAME * size + ROUNDING * largest:
            return f"holdout_rmse is {result.holdout_rmse!r} and was recomputed as {size!r}"
    elif not math.isnan(float(result.holdout_rmse)):
        return f"holdout_rmse is {result.holdout_rmse!r} and nothing was held out"
    for name, counts in (("short_rows", observed.row_counts), ("short_cols", observed.col_counts)):
        if not np.array_equal(result[name], np.flatnonzero(counts < problem.rank)):
            return f"{name} are not those with fewer than rank = {problem.rank} entries"
    return _determination(result, problem, observed.keep(kept) if not kept.all() else observed)


def blocked_claim(result: CompletionResult, problem: BlockedProblem) -> str:
    """As ``unsupported_claim``, for a matrix in blocks."""
    if len(result.holdout_index) or len(result.outliers) or not math.isnan(float(result.holdout_rmse)):
        return "entries of a matrix in blocks are neither held out nor rejected"
    rmse = math.sqrt(sum_of_squares(problem, result.U * result.s, result.V) / problem.size)
    if not abs(float(result.rmse) - rmse) <= SAME * rmse + ROUNDING * (problem.largest + problem.largest_target):
        return f"rmse is {result.rmse!r} and was recomputed as {rmse!r}"
    for name, counts in (("short_rows", problem.row_counts), ("short_cols", problem.col_counts)):
        if not np.array_equal(result[name], np.flatnonzero(counts < problem.rank)):
            return f"{name} are not those with fewer than rank = {problem.rank} entries"
    return _determination(result, problem, problem.positions)


def _kept(
    result: CompletionResult, observed: Observations, size: FloatArray, threshold: float, problem: CompletionProblem
) -> np.ndarray[tuple[int], np.dtype[np.bool_]] | None:
    """Which entries were not called outliers; None where the list is not one of large residuals."""
    pairs: Any = np.asarray(result.outliers)
    kept = np.ones(observed.size, dtype=bool)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        return None
    if len(pairs):
        if problem.loss != "huber" or pairs.min() < 0 or (pairs.max(axis=0) >= problem.shape).any():
            return None
        n = problem.shape[1]
        keys = observed.rows.astype(np.int64) * n + observed.cols
        wanted = pairs[:, 0].astype(np.int64) * n + pairs[:, 1]
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        if not np.array_equal(keys[at], wanted) or len(np.unique(at)) != len(at):
            return None
        kept[at] = False
        if not (kept.any() and bool((size[at] > (1.0 - SAME) * threshold).all())):
            return None
    return kept


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
    if claim is None:
        return ""
    value = _smallest(result, problem, observed)
    if claim and not value > UNDETERMINED / BAND:
        return "determined is True and the tangent system is singular"
    if not claim and value > UNDETERMINED * BAND:
        return "determined is False and the tangent system is regular"
    return ""


def _smallest(result: CompletionResult, problem: Any, observed: Any) -> float:
    """A number that is at the rounding level exactly where the tangent system has more than k² null directions."""
    (m, n), k = problem.shape, problem.rank
    short = min(int(observed.row_counts.min()), int(observed.col_counts.min())) < k
    if observed.size < k * (m + n - k) or short or not result.s[-1] > 1e-12 * result.s[0]:
        return 0.0
    unknowns = k * (m + n)
    if observed.size * unknowns <= DENSE_TANGENT:
        system = np.zeros((observed.size, m + n, k))
        at: IntArray = np.arange(observed.size)
        # Of equal length in both blocks: a change of the basis U and one of V weigh the same.
        system[at, observed.rows] = result.V[observed.cols]
        system[at, m + observed.cols] = result.U[observed.rows]
        values = np.linalg.svd(system.reshape(observed.size, unknowns), compute_uv=False)
        return float(values[unknowns - k * k - 1] ** 2 * unknowns / np.sum(values**2))
    if not affordable(problem.shape, observed.size, k):
        return math.nan
    side = Orientation(observed.indptr, observed.cols, np.empty(0), np.empty(0))
    return tangent_gap(side, Factors(result.U, result.s, result.V), np.random.default_rng())
