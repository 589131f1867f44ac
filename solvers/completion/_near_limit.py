r"""Stages for masks with hardly more entries than degrees of freedom, where alternating minimisation stalls.

First Gauss-Newton steps on both factors at once (Zilber and Nadler 2022, their "setting" variant): with balanced U,
V solve

    min_{X,Y}  sum_Omega w (x_i^T v_j + u_i^T y_j - u_i^T v_j - a_ij)^2,     then  U = X, V = Y,

by few conjugate gradient steps from zero. The truncation regularises: solved accurately, the steps fail. Then variable
projection: U is eliminated row by row, and Levenberg-Marquardt steps on V alone (Golub and Pereyra 1973) converge
quadratically once close. Where they do not, the first stage goes on from where it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from solvers._core.arrays import FloatArray
from solvers.completion import _kernels_tangent as tangent
from solvers.completion._growth import grow
from solvers.completion._run import Run
from solvers.completion._sweeps import Factors, SweepRule, balanced, half_sweep

__all__ = ["near_limit", "within_reach"]

# Alternating minimisation is left for these stages up to this many entries per degree of freedom, and this much work.
NEAR_LIMIT, WORK_LIMIT = 2.5, 5e6

# Relative residual at which a stage is done, and from which variable projection is tried.
FITTED = 1e-11
# Levenberg-Marquardt steps always, and where the residual has fallen below this share.
PROJECTION_STEPS, LONG_PROJECTION, WORTHWHILE = 25, 45, 2e-3
PROJECTION_PRODUCTS = 400
FIRST_DAMPING = 1e-2
SAME = 1e-4
# A truncated iteration that has settled in a cycle leaves it at another truncation.
VARIATION = (1.0, 1.0, 1.5, 0.7)


@dataclass(frozen=True)
class Schedule:
    """Conjugate gradient steps per Gauss-Newton step, and Gauss-Newton steps per round."""

    inner: int
    outer: int
    rounds: int


def oversampling(run: Run) -> float:
    """Entries per degree of freedom."""
    m, n = run.problem.shape
    return run.problem.observed.size / (run.problem.rank * (m + n - run.problem.rank))


def within_reach(run: Run) -> bool:
    """Whether "auto" may turn to these stages: plain least squares, few entries, work within limits, enough entries."""
    problem = run.problem
    plain = problem.reg == 0.0 and problem.loss == "l2" and run.work.dtype == np.float64
    return plain and 1.0 <= oversampling(run) <= NEAR_LIMIT and problem.observed.size * problem.rank <= WORK_LIMIT


def near_limit(run: Run) -> Factors:
    """Spectral start, then rounds of truncated Gauss-Newton and variable projection; returns the best factors."""
    monitor = run.monitor
    ratio = oversampling(run)
    if ratio >= 1.4:
        schedule = Schedule(60, 40, 4)
    elif ratio >= 1.25:
        schedule = Schedule(30, 60, 6)
    else:
        schedule = Schedule(35, 125, 6)
    factors = grow(run.work, run.nothing(), run.problem.rank, run.rng)
    best, last = factors, math.inf
    size = math.sqrt(float(np.sum(run.work.base_weights * run.work.rows.values**2)))
    for turn in range(schedule.rounds):
        inner = round(schedule.inner * VARIATION[turn % len(VARIATION)])
        for _ in range(schedule.outer):
            if not monitor.running():
                return best
            factors, residual = gauss_newton_step(run, factors, inner)
            _offer(run, factors)
            monitor.checkpoint(residual / size)
            if residual <= FITTED * size:
                return factors
        candidate, residual = variable_projection(run, factors, size)
        _offer(run, candidate)
        best = candidate
        # The same residual twice is that of a minimiser: there is noise, and nothing more to fit.
        if residual <= 1e-7 * size or abs(residual - last) <= SAME * residual or monitor.status is not None:
            break
        last = residual
    return best


def _offer(run: Run, factors: Factors) -> None:
    run.offer(factors, 0.5 * _weighted_norm(run, run.work.residuals(factors)) ** 2)


def _weighted_norm(run: Run, residual: FloatArray) -> float:
    return math.sqrt(float(np.sum(run.work.base_weights * residual * residual)))


def gauss_newton_step(run: Run, factors: Factors, steps: int) -> tuple[Factors, float]:
    """One truncated step from balanced factors; returns the new factors and the residual norm before it."""
    side = run.work.rows
    root = np.sqrt(factors.s)
    left, right = np.ascontiguousarray(factors.U * root), np.ascontiguousarray(factors.V * root)
    residual = run.work.residuals(factors)
    weights = side.weights
    target = side.values + (side.values - residual)
    gx, gy = np.empty_like(left), np.empty_like(right)
    data = target * weights if len(weights) else target
    tangent.pull_back(side.indptr, side.indices, data, left, right, gx, gy)
    x, y = np.zeros_like(left), np.zeros_like(right)
    px, py = gx.copy(), gy.copy()
    qx, qy = np.empty_like(left), np.empty_like(right)
    rho = _dot(gx, gx) + _dot(gy, gy)
    first = rho
    for _ in range(steps):
        tangent.apply_normal(side.indptr, side.indices, weights, left, right, px, py, qx, qy)
        curvature = _dot(px, qx) + _dot(py, qy)
        if not curvature > 0.0:
            break
        alpha = rho / curvature
        x += alpha * px
        y += alpha * py
        gx -= alpha * qx
        gy -= alpha * qy
        rho, previous = _dot(gx, gx) + _dot(gy, gy), rho
        if rho <= 1e-30 * first:
            break
        px *= rho / previous
        px += gx
        py *= rho / previous
        py += gy
    q, r = np.linalg.qr(y)
    return balanced(np.ascontiguousarray(x @ r.T), np.ascontiguousarray(q)), _weighted_norm(run, residual)


def variable_projection(run: Run, factors: Factors, size: float) -> tuple[Factors, float]:
    """Levenberg-Marquardt on V with U eliminated; returns the best factors and their residual norm."""
    work, side = run.work, run.work.rows
    exact = SweepRule("exact")
    factors, fun = half_sweep(work, factors, exact)
    damping, growth = math.nan, 2.0
    for count in range(LONG_PROJECTION):
        norm = math.sqrt(2.0 * max(fun, 0.0))
        if norm <= FITTED * size or run.monitor.out_of_time():
            break
        if count >= PROJECTION_STEPS and norm > WORTHWHILE * size:
            break
        left, right, k = factors.U, np.ascontiguousarray(factors.V * factors.s), factors.rank
        inner = np.empty((len(left), k, k))
        unit = float(np.finfo(np.float64).eps)
        tangent.factor_rows(side.indptr, side.indices, side.weights, factors.V, unit, inner)
        blocks = np.empty((len(right), k, k))
        tangent.schur_blocks(side.indptr, side.indices, side.weights, left, factors.V, inner, blocks)
        mean = float(np.mean(np.trace(blocks, axis1=1, axis2=2))) / k
        if math.isnan(damping):
            damping = FIRST_DAMPING
        residual = work.residuals(factors)
        data = residual * side.weights if len(side.weights) else residual
        gx, gradient = np.empty_like(left), np.empty_like(right)
        tangent.pull_back(side.indptr, side.indices, data, left, right, gx, gradient)
        accuracy = min(0.1, 0.3 * math.sqrt(norm / size))
        step, fall = _damped_solve(run, left, factors.V, inner, blocks, gradient, damping * mean, accuracy)
        q, r = np.linalg.qr(right + step)
        trial = balanced(np.ascontiguousarray(left @ r.T), np.ascontiguousarray(q))
        trial, value = half_sweep(work, trial, exact)
        gain = (fun - value) / fall if fall > 0.0 else -1.0
        if gain > 0.0:
            factors, fun = trial, value
            damping *= max(1.0 / 3.0, 1.0 - (2.0 * min(gain, 1.0) - 1.0) ** 3)
            growth = 2.0
        else:
            damping *= growth
            growth *= 2.0
            if damping > 1e8:
                break
    return factors, math.sqrt(2.0 * max(fun, 0.0))


def _damped_solve(
    run: Run,
    left: FloatArray,
    basis: FloatArray,
    inner: FloatArray,
    blocks: FloatArray,
    gradient: FloatArray,
    damping: float,
    accuracy: float,
) -> tuple[FloatArray, float]:
    """(S + damping I) step = gradient by preconditioned conjugate gradients; the step and its predicted fall."""
    side = run.work.rows
    preconditioner = np.linalg.inv(blocks + damping * np.eye(blocks.shape[1]))
    longest = np.empty(int(np.max(side.counts)))
    x, r, q = np.zeros_like(gradient), gradient.copy(), np.empty_like(gradient)
    z = np.einsum("nab,nb->na", preconditioner, r)
    p = z.copy()
    rho = _dot(r, z)
    goal = accuracy * math.sqrt(_dot(r, r))
    for _ in range(PROJECTION_PRODUCTS):
        tangent.apply_schur(side.indptr, side.indices, side.weights, left, basis, inner, p, longest, q)
        q += damping * p
        curvature = _dot(p, q)
        if not curvature > 0.0:
            break
        alpha = rho / curvature
        x += alpha * p
        r -= alpha * q
        if math.sqrt(_dot(r, r)) <= goal:
            break
        z = np.einsum("nab,nb->na", preconditioner, r)
        rho, previous = _dot(r, z), rho
        p *= rho / previous
        p += z
    return x, 0.5 * (_dot(x, gradient) + damping * _dot(x, x))


def _dot(a: FloatArray, b: FloatArray) -> float:
    return float(np.vdot(a, b))
