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
# Products with the system of variable projection in one damped solve, in one attempt, and in a run.
PROJECTION_PRODUCTS, ATTEMPT_PRODUCTS, ALL_PRODUCTS = 400, 2500, 7000
FIRST_DAMPING = 1e-2
SAME = 0.02
SETTLED_STEPS, SETTLED, SETTLED_BELOW = 10, 0.01, 0.025
# Variable projection ends where so many steps together gained less than this.
PROJECTION_WINDOW, PROJECTION_GAIN = 6, 0.03
# Share of the entries that is left out, those with the greatest residuals, where a fit is near and not reached.
DROPPED = (0.01, 0.01, 0.02, 0.04)
# A truncated iteration that has settled in a cycle leaves it at another truncation.
VARIATION = (1.0, 1.0, 1.5, 0.7)


@dataclass(frozen=True)
class Schedule:
    """Conjugate gradient steps per Gauss-Newton step, and Gauss-Newton steps per round."""

    inner: int
    outer: int
    rounds: int


@dataclass
class Budget:
    """Products with the system of variable projection that a run has left."""

    products: int = ALL_PRODUCTS


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
    best, last, budget = factors, math.inf, Budget()
    size = math.sqrt(float(np.sum(run.work.base_weights * run.work.rows.values**2)))
    for turn in range(schedule.rounds):
        inner = round(schedule.inner * VARIATION[turn % len(VARIATION)])
        recent: list[float] = []
        for _ in range(schedule.outer):
            if not monitor.running():
                return best
            factors, residual = gauss_newton_step(run, factors, inner)
            _offer(run, factors)
            monitor.checkpoint(residual / size)
            if residual <= FITTED * size:
                return factors
            recent.append(residual)
            if residual <= SETTLED_BELOW * size and settled(recent):
                break
        candidate, residual = variable_projection(run, factors, size, budget)
        _offer(run, candidate)
        if 1e-7 * size < residual <= WORTHWHILE * size and monitor.status is None:
            candidate, residual = without_the_worst(run, candidate, size, DROPPED[turn % len(DROPPED)], budget)
            _offer(run, candidate)
        best = candidate
        # The same residual twice is that of a minimiser: there is noise, and nothing more to fit.
        settled_twice = abs(residual - last) <= SAME * residual
        if residual <= 1e-7 * size or settled_twice or budget.products <= 0 or monitor.status is not None:
            break
        last = residual
    return best


def settled(recent: list[float]) -> bool:
    """Whether a truncated iteration has come to rest at the residual that its truncation leaves."""
    window = recent[-SETTLED_STEPS:]
    return len(window) == SETTLED_STEPS and max(window) - min(window) <= SETTLED * min(window)


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
    x, y = np.empty_like(left), np.empty_like(right)
    width = (0,) * factors.rank
    tangent.truncated_steps(side.indptr, side.indices, weights, left, right, gx, gy, steps, x, y, width)
    q, r = np.linalg.qr(y)
    return balanced(np.ascontiguousarray(x @ r.T), np.ascontiguousarray(q)), _weighted_norm(run, residual)


def without_the_worst(run: Run, factors: Factors, size: float, share: float, budget: Budget) -> tuple[Factors, float]:
    """Variable projection on the entries but for those with the greatest residuals, then on all of them."""
    problem, work = run.problem, run.work
    residual = np.abs(work.residuals(factors))
    rows, cols = problem.observed.rows, problem.observed.cols
    row_counts, col_counts = problem.row_counts.copy(), problem.col_counts.copy()
    kept = np.ones(len(residual), dtype=bool)
    for t in np.argsort(-residual, kind="stable")[: int(share * len(residual))]:
        if min(row_counts[rows[t]], col_counts[cols[t]]) > problem.rank:
            kept[t] = False
            row_counts[rows[t]] -= 1
            col_counts[cols[t]] -= 1
    work.reweight(work.base_weights * kept)
    factors, _ = variable_projection(run, factors, size, budget)
    work.reweight(None)
    return variable_projection(run, factors, size, budget)


def variable_projection(run: Run, factors: Factors, size: float, budget: Budget) -> tuple[Factors, float]:
    """Levenberg-Marquardt on V with U eliminated; returns the best factors and their residual norm."""
    work, side = run.work, run.work.rows
    exact = SweepRule("exact")
    factors, fun = half_sweep(work, factors, exact)
    damping, growth = math.nan, 2.0
    norms: list[float] = []
    least = budget.products - ATTEMPT_PRODUCTS
    for count in range(LONG_PROJECTION):
        norm = math.sqrt(2.0 * max(fun, 0.0))
        norms.append(norm)
        if count >= PROJECTION_WINDOW and norm > (1.0 - PROJECTION_GAIN) * norms[-1 - PROJECTION_WINDOW]:
            break
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
        if budget.products <= max(0, least):
            break
        step, fall, products = _damped_solve(run, left, factors.V, inner, blocks, gradient, damping * mean, accuracy)
        budget.products -= products
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
) -> tuple[FloatArray, float, int]:
    """(S + damping I) step = gradient by preconditioned conjugate gradients: step, its predicted fall, products."""
    side = run.work.rows
    preconditioner = np.linalg.inv(blocks + damping * np.eye(blocks.shape[1]))
    longest = np.empty(int(np.max(side.counts)))
    x, r, q = np.zeros_like(gradient), gradient.copy(), np.empty_like(gradient)
    z = np.einsum("nab,nb->na", preconditioner, r)
    p = z.copy()
    rho = _dot(r, z)
    goal = accuracy * math.sqrt(_dot(r, r))
    products = 0
    while products < PROJECTION_PRODUCTS:
        products += 1
        tangent.apply_schur(
            side.indptr, side.indices, side.weights, left, basis, inner, p, longest, q, (0,) * left.shape[1]
        )
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
    return x, 0.5 * (_dot(x, gradient) + damping * _dot(x, x)), products


def _dot(a: FloatArray, b: FloatArray) -> float:
    return float(np.vdot(a, b))
