"""Gross outliers: Huber sweeps with a falling threshold and guarded rejection.

A redescending weight tied to the residuals' median collapses on noise-free data: the median tends to zero, and what
has not converged yet is rejected. Here entries are rejected on a copy of the iterate only, and the copy is believed
only if it then fits the entries it kept to the rounding level, or at least lowers the median residual.

Under noise nothing is fitted to the rounding level. Descents from several starts then end with rounds of rejection that
lower the capped loss (the loss of :mod:`solvers.completion._problem`), which also chooses among them.
"""

from __future__ import annotations

import math
import reprlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from solvers._core.arrays import FloatArray
from solvers.completion._altmin import Sweeper, polish
from solvers.completion._biases import MAD_TO_SIGMA
from solvers.completion._growth import grow
from solvers.completion._problem import OUTLYING
from solvers.completion._run import Run
from solvers.completion._sweeps import Factors, SweepRule, balanced, half_sweep

__all__ = ["robust_alternate"]

# 95 % efficiency of the Huber estimator at the normal law.
HUBER_EFFICIENCY = 1.345
CLIP = 3.0
FIRST_TRIAL, TRIAL_EVERY, LAST_SWEEP = 10, 5, 60
REJECT_BEYOND, REJECT_SHARE = 10.0, 0.5
FROZEN_SWEEPS, FROZEN_PROGRESS, RECOVERED = 25, 0.9, 1e-11
DISPUTED = "Searches from different starts end at different fits; no second one found this, the best"
# Up to this share of rows and columns is refitted from so many elemental subsets each.
STUCK_SHARE, ELEMENTAL_FITS = 0.1, 200
# Descents at most, all but the first from such a share of the data; two agree at such a ratio of losses, with at most this
# share of the entries outliers of one of them only.
DESCENTS, RESTART_SHARE, AGREEING, ALIKE = 4, 0.85, 1.001, 0.005
# Rows and columns with so many times the average share of outliers are refitted, at most so many of either in a round.
SUSPICIOUS, SUSPECTS = 1.5, 200
# Rounds of refits, and the ratio of losses at which they end.
SETTLING, SETTLED = 20, 0.999
# Thresholds stop falling at this share of the data's spread, above the rounding level.
DELTA_FLOOR = 1e-9


@dataclass(frozen=True)
class Trial:
    """What sweeps on the kept entries alone achieved."""

    factors: Factors
    rms: float


@dataclass(frozen=True)
class Candidate:
    """Where one descent ended, with the median residual there, and whether it fits what it kept to the rounding level."""

    factors: Factors
    median: float
    recovered: bool


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
    factors = polish(run, sweeper, factors) if monitor.status is None else factors
    if problem.capped and not run.disputed and factors.rank:
        run.disputed = _ambiguous(run, sweeper, run.monitor.x)
    return factors


def _clipped_start(run: Run, nothing: Factors, share: float = 1.0) -> Factors:
    """Leading pairs of the clipped values, or of a random share of them."""
    problem = run.problem
    width = CLIP * problem.spread / MAD_TO_SIGMA
    clipped = problem.observed.weights * np.clip(problem.targets, -width, width)
    if run.work.scale is not None:
        clipped = clipped / run.work.scale
    if share < 1.0:
        clipped = clipped * (run.rng.random(len(clipped)) < share)
    run.work.reweight(None)
    return grow(run.work, nothing, problem.rank, run.rng, clipped)


def _find_threshold(run: Run, sweeper: Sweeper, factors: Factors) -> Factors:
    """The best of several descents, and 1.345 robust standard deviations of its residuals as the threshold.

    Under noise no descent proves that it has found the outliers. More of them start from random parts of the data until
    the two best agree; all are compared by the capped loss at the least threshold.
    """
    problem, monitor = run.problem, run.monitor
    found = [_descend(run, sweeper, factors)]
    while problem.capped and not found[0].recovered and len(found) < DESCENTS and monitor.running():
        found.append(_descend(run, sweeper, _clipped_start(run, run.nothing(), RESTART_SHARE)))
        run.delta = _threshold(run, MAD_TO_SIGMA * min(candidate.median for candidate in found))
        found.sort(key=lambda candidate: sweeper.huber_objective(candidate.factors))
        best, second = (sweeper.huber_objective(candidate.factors) for candidate in found[:2])
        mine, other = (problem.outlying(sweeper.plain_residuals(c.factors), run.delta) for c in found[:2])
        agreed = second <= AGREEING * best and float(np.mean(mine != other)) <= ALIKE
        run.disputed = "" if agreed or found[0].recovered else DISPUTED
        if not run.disputed:
            break
    factors = found[0].factors
    run.change_delta(_threshold(run, MAD_TO_SIGMA * min(candidate.median for candidate in found)))
    run.offer(factors)
    run.certify(factors)
    monitor.checkpoint()
    return factors


def _descend(run: Run, sweeper: Sweeper, factors: Factors) -> Candidate:
    """Sweeps at delta = 1.345 median |r|, reset each half sweep, with trials of rejection from the tenth on."""
    problem = run.problem
    medians: list[float] = []
    for count in range(1, LAST_SWEEP + 1):
        if factors.rank == 0 or not run.monitor.running():
            break
        for columns in (False, True):
            delta = _threshold(run, _median(sweeper, factors))
            size = np.abs(sweeper.plain_residuals(factors))
            run.work.reweight(run.work.base_weights * (delta / np.maximum(size, delta)))
            factors, _ = half_sweep(run.work, factors, SweepRule(sweeper.inner, 0.01), columns=columns)
        medians.append(_median(sweeper, factors))
        if problem.capped and count >= FIRST_TRIAL and count % TRIAL_EVERY == 0:
            trial = _frozen_trial(run, sweeper, factors)
            if trial is not None and trial.rms < RECOVERED * problem.spread:
                return Candidate(trial.factors, _median(sweeper, trial.factors), True)
            if trial is not None and _median(sweeper, trial.factors) < medians[-1]:
                factors = trial.factors
                medians[-1] = _median(sweeper, factors)
        if count > 2 * TRIAL_EVERY and medians[-1] > 0.99 * medians[-1 - TRIAL_EVERY]:
            break
    if problem.capped and factors.rank:
        factors, recovered = _settled(run, sweeper, factors)
        return Candidate(factors, _median(sweeper, factors), recovered)
    return Candidate(factors, _median(sweeper, factors), False)


def _settled(run: Run, sweeper: Sweeper, factors: Factors) -> tuple[Factors, bool]:
    """Trials for as long as they lower the capped loss, before each of them suspicious rows and columns fitted afresh."""
    problem = run.problem
    observed = problem.observed
    for _ in range(SETTLING):
        if not run.monitor.running():
            break
        run.delta = _threshold(run, MAD_TO_SIGMA * _median(sweeper, factors))
        gone = problem.outlying(sweeper.plain_residuals(factors), run.delta)
        sides = (observed.rows, problem.shape[0]), (observed.cols, problem.shape[1])
        rows, cols = (_suspicious(gone, index, count) for index, count in sides)
        trial = _frozen_trial(run, sweeper, _refitted(run, factors, rows, cols, run.delta))
        if trial is None:
            break
        if trial.rms < RECOVERED * problem.spread:
            return trial.factors, True
        before, after = sweeper.huber_objective(factors), sweeper.huber_objective(trial.factors)
        if not after < before:
            break
        factors = trial.factors
        if after > SETTLED * before:
            break
    return factors, False


def _threshold(run: Run, scale: float) -> float:
    return max(DELTA_FLOOR * run.problem.spread, HUBER_EFFICIENCY * scale)


def _frozen_trial(run: Run, sweeper: Sweeper, factors: Factors) -> Trial | None:
    """Least-squares sweeps on the entries that look sound, on a copy; None where too many would be rejected.

    A row or column that would lose half of its entries has not converged yet: it keeps the better half.
    """
    problem = run.problem
    size = np.abs(sweeper.plain_residuals(factors))
    limit = REJECT_BEYOND * MAD_TO_SIGMA * float(np.median(size))
    observed = problem.observed
    sides = (observed.rows, problem.shape[0]), (observed.cols, problem.shape[1])
    rows, cols = (_starved(size <= limit, index, count, problem.rank) for index, count in sides)
    if 0 < int(rows.sum()) + int(cols.sum()) <= STUCK_SHARE * sum(problem.shape):
        factors = _refitted(run, factors, rows, cols)
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
    return Trial(factors, rms)


def _suspicious(gone: npt.NDArray[np.bool_], index: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.bool_]:
    """Rows (or columns) with a share of outliers that is large beside the average."""
    share = np.bincount(index[gone], minlength=count) / np.maximum(np.bincount(index, minlength=count), 1)
    largest = np.zeros(count, dtype=bool)
    largest[np.argsort(-share, kind="stable")[:SUSPECTS]] = True
    chosen: npt.NDArray[np.bool_] = largest & (share > SUSPICIOUS * float(np.mean(gone)))
    return chosen


def _starved(kept: npt.NDArray[np.bool_], index: npt.NDArray[np.int32], count: int, rank: int) -> npt.NDArray[np.bool_]:
    """Rows (or columns) that would lose half of their entries, or all but ``rank`` of them."""
    least = np.maximum(rank + 1, REJECT_SHARE * np.bincount(index, minlength=count))
    starved: npt.NDArray[np.bool_] = np.bincount(index[kept], minlength=count) < least
    return starved


def _refitted(
    run: Run, factors: Factors, rows: npt.NDArray[np.bool_], cols: npt.NDArray[np.bool_], delta: float | None = None
) -> Factors:
    """Fits the given rows and columns afresh from elemental subsets (Rousseeuw 1984), the others standing.

    Where outliers are a large part of a short row, the Huber fit of that row may settle on them. Of many exact fits
    to as many entries as unknowns, the one with the least median residual does not, if half of the entries are sound.
    Once a threshold is known, the least capped loss chooses, and the fit as it was takes part.
    """
    problem, work = run.problem, run.work
    left, right = factors.U * factors.s, factors.V.copy()
    weights = work.base_weights
    for chosen, moving, fixed, side, weight in (
        (rows, left, right, work.rows, weights),
        (cols, right, left, work.cols, weights[work.order]),
    ):
        for i in np.flatnonzero(chosen):
            if run.monitor.out_of_time():
                break
            part = slice(side.indptr[i], side.indptr[i + 1])
            panel, values = fixed[side.indices[part]], side.values[part]
            if len(values) <= factors.rank:
                continue
            fits = _elemental_fits(panel, values, run.rng)
            if delta is not None:
                fits = np.vstack([moving[i], fits])
            if len(fits):
                misses = values - fits @ panel.T
                scores = (
                    np.median(np.abs(misses), axis=1) if delta is None else problem.rho(misses, delta) @ weight[part]
                )
                moving[i] = fits[int(np.argmin(scores))]
    q, r = np.linalg.qr(right)
    return balanced(np.ascontiguousarray(left @ r.T), np.ascontiguousarray(q))


def _elemental_fits(panel: FloatArray, values: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Exact fits to random subsets of as many entries as unknowns."""
    subsets = np.argsort(rng.random((ELEMENTAL_FITS, len(values))), axis=1)[:, : panel.shape[1]]
    systems = panel[subsets]
    sound = np.abs(np.linalg.det(systems)) > 0.0
    fits: FloatArray = np.linalg.solve(systems[sound], values[subsets[sound]][..., None])[..., 0]
    return fits


def _ambiguous(run: Run, sweeper: Sweeper, factors: Factors) -> str:
    """Rows and columns whose outliers might as well be others, in words; empty if there are none.

    Two vectors of k unknowns agree at k - 1 generic entries at most. So among d entries another explanation that rejects
    no more than t of them needs 2 t > d - k: up to that radius decoding is unique. Beyond, one is looked for. And where
    outliers occur, nothing tells whether they do in a row that keeps no more entries than unknowns.
    """
    problem, work = run.problem, run.work
    rank, reach = problem.rank, OUTLYING * run.delta
    residual = sweeper.plain_residuals(factors)
    gone = problem.outlying(residual, run.delta)
    if not gone.any():
        return ""
    found = []
    for name, side, fixed, order in (
        ("rows", work.rows, factors.V, slice(None)),
        ("columns", work.cols, factors.U * factors.s, work.order),
    ):
        mine, lost = residual[order], gone[order]
        rejected = np.diff(np.concatenate([[0], np.cumsum(lost)])[side.indptr])
        doubtful = (side.counts > 0) & (side.counts - rejected <= rank)
        for i in np.flatnonzero(~doubtful & (2 * rejected > side.counts - rank)):
            part = slice(side.indptr[i], side.indptr[i + 1])
            panel, values = fixed[side.indices[part]], side.values[part]
            doubtful[i] = _another_explanation(panel, values, mine[part], reach, run.rng)
        if doubtful.any():
            found.append(f"{name} {reprlib.repr(np.flatnonzero(doubtful).tolist())}")
    return f"Other entries may be the outliers just as well in {' and '.join(found)}" if found else ""


def _another_explanation(
    panel: FloatArray, values: FloatArray, residual: FloatArray, reach: float, rng: np.random.Generator
) -> bool:
    """Whether as many entries of a row lie within reach of a fit that is far from this one at some of them."""
    sound = np.abs(residual) <= reach
    within = np.abs(values - _elemental_fits(panel, values, rng) @ panel.T) <= 2.0 * reach
    for chosen in np.unique(within, axis=0):
        misses = values - panel @ np.linalg.lstsq(panel[chosen], values[chosen], rcond=None)[0]
        kept = np.abs(misses) <= reach
        swapped = kept & ~sound & (np.abs(misses - residual) > 2.0 * reach)
        if int(kept.sum()) >= int(sound.sum()) and swapped.any():
            return True
    return False


def _group_medians(size: FloatArray, index: npt.NDArray[np.int32], count: int) -> FloatArray:
    """Upper median of ``size`` in each group; 0 for empty groups."""
    order = np.lexsort((size, index))
    lengths = np.bincount(index, minlength=count)
    middle = np.minimum(np.cumsum(lengths) - lengths + lengths // 2, len(size) - 1)
    return np.where(lengths > 0, size[order[middle]], 0.0)


def _median(sweeper: Sweeper, factors: Factors) -> float:
    return float(np.median(np.abs(sweeper.plain_residuals(factors))))
