"""Is the completion determined by the data, locally? The rank of the tangent system.

Near X = U diag(s) Vᵀ of rank k, the matrices of rank k that agree with X on Omega are, to first order, the kernel of
(dU, dV) -> P_Omega(dU Vᵀ + U dVᵀ). It always holds the k² directions that leave X where it is; the completion is
locally unique if there is no other. Rows and columns with fewer than k entries always make another.

That is a statement about X. Of the data it says something only where X fits them: a singular system at an iterate that
does not fit leaves open whether the completion sought is determined. Two counts need no X: every entry observed, or too few.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from solvers._core.arrays import FloatArray, IntArray
from solvers.completion import _kernels_tangent as tangent
from solvers.completion._sweeps import Factors, Orientation

__all__ = ["FITTED", "UNDETERMINED", "Determination", "affordable", "at_answer", "by_counting", "tangent_gap"]

# Relative eigenvalue of the reduced tangent system below which it counts as singular: singular ones come out near the
# rounding level, 1e-14; the smallest regular one met in thousands of random masks was 2e-8.
UNDETERMINED = 1e-12
# Root mean square residual, relative to the data, up to which an answer counts as one that fits them.
FITTED = 2e-6
ROUNDS = 8
# Products with the system beyond which the question is left open.
MAX_PRODUCTS = 600
WORK_LIMIT = 5e7
MEMORY_LIMIT = 5e7


@dataclass(frozen=True)
class Determination:
    """A verdict on uniqueness.

    Attributes
    ----------
    claim : bool or None
        Of the completion: determined, not determined, or left open.
    reason : str
        What the claim rests on, or why there is none.
    gap : float
        Relative smallest eigenvalue of the reduced tangent system at the answer; NaN where it was not computed.
    unique : bool
        False where the answer is known to be one of many that agree with it at the observed entries.
    """

    claim: bool | None
    reason: str
    gap: float = math.nan
    unique: bool = True


def by_counting(shape: tuple[int, int], row_counts: IntArray, col_counts: IntArray, rank: int) -> Determination | None:
    """The verdict that the numbers of entries give by themselves; None where they give none."""
    size, freedom = int(row_counts.sum()), rank * (sum(shape) - rank)
    if size == shape[0] * shape[1]:
        return Determination(True, "every entry is observed")
    short = int((row_counts < rank).sum()) + int((col_counts < rank).sum())
    if short:
        return Determination(False, f"{short} rows or columns have fewer than rank = {rank} entries", 0.0, False)
    if size < freedom:
        return Determination(False, f"{size} entries for {freedom} degrees of freedom", 0.0, False)
    return None


def at_answer(gap: float, *, fits: bool, stationary: bool) -> Determination:
    """The verdict of the tangent system at the answer, which fits the data, or is where the method converged, or neither."""
    place = "which fits the data" if fits else "which does not fit the data"
    if not gap > UNDETERMINED:
        return Determination(
            False if fits else None, f"the tangent system is singular at the answer, {place}", gap, False
        )
    if fits or stationary:
        return Determination(True, f"the tangent system is regular at the answer, {place}", gap)
    return Determination(None, "the run ended before its answer fitted the data", gap)


def affordable(shape: tuple[int, int], size: int, rank: int) -> bool:
    """Whether the check is within its budget of operations and memory."""
    return size * rank <= WORK_LIMIT and max(shape) * rank * rank <= MEMORY_LIMIT


def tangent_gap(rows: Orientation, factors: Factors, rng: np.random.Generator) -> float:
    """Smallest eigenvalue of the reduced tangent system off the gauge directions, over its mean diagonal.

    Inverse iteration; each system is solved by conjugate gradients with block diagonal preconditioner. An inaccurate
    solve gives a value that is too large, so the start has a component along every direction and the solves are
    accurate enough to see it.
    """
    k = factors.rank
    if k == 0:
        return math.inf
    left, right = _equilibrated(factors.U), _equilibrated(factors.V)
    unit = float(np.finfo(np.float64).eps)
    inner = np.empty((len(left), k, k))
    nothing = np.empty(0)
    tangent.factor_rows(rows.indptr, rows.indices, nothing, right, unit, inner)
    blocks = np.empty((len(right), k, k))
    tangent.schur_blocks(rows.indptr, rows.indices, nothing, left, right, inner, blocks)
    mean = float(np.mean(np.trace(blocks, axis1=1, axis2=2))) / k
    if not mean > 0.0:
        return 0.0
    preconditioner = np.linalg.inv(blocks + 1e-8 * mean * np.eye(k))
    longest = np.empty(int(np.max(np.diff(rows.indptr))))

    def off_gauge(w: FloatArray) -> FloatArray:
        return w - right @ (right.T @ w)

    def product(w: FloatArray) -> FloatArray:
        out = np.empty_like(w)
        tangent.apply_schur(
            rows.indptr, rows.indices, nothing, left, right, inner, np.ascontiguousarray(w), longest, out, (0,) * k
        )
        return off_gauge(out)

    def smooth(w: FloatArray) -> FloatArray:
        return off_gauge(np.einsum("nab,nb->na", preconditioner, w))

    w = off_gauge(rng.standard_normal(right.shape))
    accuracy = 0.01 / math.sqrt(right.size)
    value, spent = math.inf, 0
    for _ in range(ROUNDS):
        w /= float(np.linalg.norm(w))
        w, steps = _solve(product, smooth, w, accuracy, MAX_PRODUCTS - spent)
        spent += steps + 1
        size = float(np.sum(w * w))
        if not (size > 0.0 and math.isfinite(size)):
            break
        previous, value = value, max(0.0, float(np.sum(w * product(w)))) / size / mean
        if value < 0.01 * UNDETERMINED or value > 0.5 * previous or spent >= MAX_PRODUCTS:
            break
    return value


def _equilibrated(factor: FloatArray) -> FloatArray:
    """Orthonormal columns that span those of the factor with rows of equal length.

    Rows and columns of X may be scaled: that changes the tangent system, and not the dimension of its kernel.
    """
    lengths = np.linalg.norm(factor.astype(np.float64), axis=1)
    scaled = factor / np.where(lengths > 0.0, lengths, 1.0)[:, None]
    return np.ascontiguousarray(np.linalg.qr(scaled)[0])


def _solve(
    product: Callable[[FloatArray], FloatArray],
    smooth: Callable[[FloatArray], FloatArray],
    right_side: FloatArray,
    accuracy: float,
    limit: int,
) -> tuple[FloatArray, int]:
    """Preconditioned conjugate gradients from zero; stops at the limit or where curvature has left the digits."""
    x = np.zeros_like(right_side)
    r = right_side.copy()
    z = smooth(r)
    p = z.copy()
    rho = float(np.sum(r * z))
    goal = accuracy * float(np.linalg.norm(r))
    for step in range(max(limit, 1)):
        q = product(p)
        curvature = float(np.sum(p * q))
        if not curvature > 1e-15 * float(np.linalg.norm(p)) * float(np.linalg.norm(q)):
            # p itself lies in the kernel as far as can be told.
            return (p if step == 0 else x + p * (float(np.linalg.norm(x)) / float(np.linalg.norm(p)) + 1.0)), step + 1
        alpha = rho / curvature
        x += alpha * p
        r -= alpha * q
        if float(np.linalg.norm(r)) <= goal:
            return x, step + 1
        z = smooth(r)
        rho, previous = float(np.sum(r * z)), rho
        if not rho > 0.0:
            return x, step + 1
        p = z + (rho / previous) * p
    return x, limit
