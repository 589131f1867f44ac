"""Gross outliers: Huber sweeps with a falling threshold and guarded rejection.

A redescending weight tied to the residuals' median collapses on noise-free data: the median tends to zero, and what
has not converged yet is rejected. Here entries are rejected on a copy of the iterate only, and the copy is believed
only if it then fits the entries it kept to the rounding level, or at least lowers the median residual.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from solvers._core.arrays import FloatArray
from solvers.completion._altmin import Sweeper, polish
from solvers.completion._growth import grow
from solvers.completion._problem import MAD_TO_SIGMA
from solvers.completion._run import Run
from solvers.completion._sweeps import Factors, SweepRule, balanced, half_sweep

__all__ = ["robust_alternate"]

# 95 % efficiency of the Huber estimator at the normal law.
HUBER_EFFICIENCY = 1.345
CLIP = 3.0
FIRST_TRIAL, TRIAL_EVERY, LAST_SWEEP = 10, 5, 60
REJECT_BEYOND, REJECT_SHARE = 10.0, 0.5
FROZEN_SWEEPS, FROZEN_PROGRESS, RECOVERED = 25, 0.9, 1e-11
# Up to this share of rows and columns is refitted from so many elemental subsets each.
STUCK_SHARE, ELEMENTAL_FITS = 0.1, 200
# Thresholds stop falling at this share of the data's spread, above the rounding level.
DELTA_FLOOR = 1e-9


@dataclass(frozen=True)
class Trial:
    """What sweeps on the kept entries alone achieved."""

    factors: Factors
    kept: npt.NDArray[np.bool_]
    rms: float


def robust_alternate(run: Run, factors: Factors, inner: str) -> Factors:
    """Start from clipped values; with ``delta="auto"`` find the threshold and the outliers, then converge at it."""
    problem, monitor = run.problem, run.monitor
    sweeper = Sweeper(run, inner)
    if factors.rank == 0:
        factors = _clipped_start(run, factors)
        run.offer(factors)
    if problem.delta is None:
        factors = _find_threshold(run, sweeper, factors)
    run.work.reweight(None)
    sweeper.fun = math.inf
    return polish(run, sweeper, factors) if monitor.status is None else factors


def _clipped_start(run: Run, factors: Factors) -> Factors:
    problem = run.problem
    width = CLIP * problem.spread / MAD_TO_SIGMA
    clipped = problem.observed.weights * np.clip(problem.targets, -width, width)
    if run.work.scale is not None:
        clipped = clipped / run.work.scale
    run.work.reweight(None)
    return grow(run.work, factors, problem.rank, run.rng, clipped)


def _find_threshold(run: Run, sweeper: Sweeper, factors: Factors) -> Factors:
    """Sweeps at delta = 1.345 median |r|, reset each half sweep, with trials of rejection from the tenth on."""
    problem, monitor = run.problem, run.monitor
    floor = DELTA_FLOOR * problem.spread
    medians: list[float] = []
    accepted: Trial | None = None
    for count in range(1, LAST_SWEEP + 1):
        if factors.rank == 0 or not monitor.running():
            break
        for columns in (False, True):
            run.delta = max(floor, HUBER_EFFICIENCY * _median(sweeper, factors))
            sweeper.reweight(factors)
            factors, _ = half_sweep(run.work, factors, SweepRule(sweeper.inner, 0.01), columns=columns)
        medians.append(_median(sweeper, factors))
        if problem.reg == 0.0 and count >= FIRST_TRIAL and count % TRIAL_EVERY == 0:
            trial = _frozen_trial(run, sweeper, factors)
            if trial is not None and trial.rms < RECOVERED * problem.spread:
                factors, accepted = trial.factors, trial
                break
            if trial is not None and _median(sweeper, trial.factors) < medians[-1]:
                factors = trial.factors
                medians[-1] = _median(sweeper, factors)
        if count > 2 * TRIAL_EVERY and medians[-1] > 0.99 * medians[-1 - TRIAL_EVERY]:
            break
    run.change_delta(max(floor, HUBER_EFFICIENCY * MAD_TO_SIGMA * _median(sweeper, factors)))
    if accepted is not None:
        # What was rejected while it had not converged yet, and fits after all, is no outlier.
        run.kept = accepted.kept | (np.abs(sweeper.plain_residuals(factors)) <= floor)
    run.offer(factors)
    run.certify(factors)
    monitor.checkpoint()
    return factors


def _frozen_trial(run: Run, sweeper: Sweeper, factors: Factors) -> Trial | None:
    """Least-squares sweeps on the entries that look sound, on a copy; None where too many would be rejected.

    A row or column that would lose half of its entries has not converged yet: it keeps the better half.
    """
    problem = run.problem
    size = np.abs(sweeper.plain_residuals(factors))
    limit = REJECT_BEYOND * MAD_TO_SIGMA * float(np.median(size))
    observed = problem.observed
    sides = (observed.rows, problem.shape[0]), (observed.cols, problem.shape[1])
    stuck = [_starved(size <= limit, index, count, problem.rank) for index, count in sides]
    if 0 < sum(int(s.sum()) for s in stuck) <= STUCK_SHARE * sum(problem.shape):
        factors = _refitted(run, factors, *stuck)
        size = np.abs(sweeper.plain_residuals(factors))
    kept = size <= limit
    for index, count in sides:
        starved = _starved(kept, index, count, problem.rank)
        if starved.any():
            kept = kept | (starved[index] & (size <= _group_medians(size, index, count)[index]))
    if float(np.mean(kept)) <= REJECT_SHARE:
        return None
    weights: Any = run.work.base_weights * kept
    run.work.reweight(weights)
    share = float(np.sum(observed.weights * kept))
    rms = math.inf
    for count in range(FROZEN_SWEEPS):
        for columns in (False, True):
            factors, _ = half_sweep(run.work, factors, SweepRule("exact"), columns=columns)
        residual = sweeper.plain_residuals(factors)
        before, rms = rms, math.sqrt(float(np.sum(observed.weights * kept * residual**2)) / share)
        if rms < RECOVERED * problem.spread or run.monitor.out_of_time():
            break
        if count >= 4 and rms > FROZEN_PROGRESS * before:
            break
    return Trial(factors, kept, rms)


def _starved(kept: npt.NDArray[np.bool_], index: npt.NDArray[np.int32], count: int, rank: int) -> npt.NDArray[np.bool_]:
    """Rows (or columns) that would lose half of their entries, or all but ``rank`` of them."""
    least = np.maximum(rank + 1, REJECT_SHARE * np.bincount(index, minlength=count))
    starved: npt.NDArray[np.bool_] = np.bincount(index[kept], minlength=count) < least
    return starved


def _refitted(run: Run, factors: Factors, rows: npt.NDArray[np.bool_], cols: npt.NDArray[np.bool_]) -> Factors:
    """Fits the given rows and columns afresh from elemental subsets (Rousseeuw 1984), the others standing.

    Where outliers are a large part of a short row, the Huber fit of that row may settle on them. Of many exact fits
    to as many entries as unknowns, the one with the least median residual does not, if half of the entries are sound.
    """
    left, right = factors.U * factors.s, factors.V.copy()
    for chosen, moving, fixed, side in ((rows, left, right, run.work.rows), (cols, right, left, run.work.cols)):
        for i in np.flatnonzero(chosen):
            part = slice(side.indptr[i], side.indptr[i + 1])
            panel, values = fixed[side.indices[part]], side.values[part]
            if len(values) <= factors.rank:
                continue
            subsets = np.argsort(run.rng.random((ELEMENTAL_FITS, len(values))), axis=1)[:, : factors.rank]
            systems = panel[subsets]
            sound = np.abs(np.linalg.det(systems)) > 0.0
            fits = np.linalg.solve(systems[sound], values[subsets[sound]][..., None])[..., 0]
            if len(fits):
                misses = np.median(np.abs(values - fits @ panel.T), axis=1)
                moving[i] = fits[int(np.argmin(misses))]
    q, r = np.linalg.qr(right)
    return balanced(np.ascontiguousarray(left @ r.T), np.ascontiguousarray(q))


def _group_medians(size: FloatArray, index: npt.NDArray[np.int32], count: int) -> FloatArray:
    """Upper median of ``size`` in each group; 0 for empty groups."""
    order = np.lexsort((size, index))
    lengths = np.bincount(index, minlength=count)
    middle = np.minimum(np.cumsum(lengths) - lengths + lengths // 2, len(size) - 1)
    return np.where(lengths > 0, size[order[middle]], 0.0)


def _median(sweeper: Sweeper, factors: Factors) -> float:
    return float(np.median(np.abs(sweeper.plain_residuals(factors))))
