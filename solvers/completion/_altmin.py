"""Inexact alternating minimisation with rank continuation, for least squares and for a fixed Huber threshold."""

from __future__ import annotations

import math

import numpy as np

from solvers._core.arrays import FloatArray
from solvers._core.result import Status
from solvers.completion._growth import grow, relength, stages
from solvers.completion._run import Run
from solvers.completion._sweeps import Factors, SweepRule, half_sweep

__all__ = ["Sweeper", "alternate"]

# Accuracy of the rows' systems: at first, and at best.
LOOSEST, TIGHTEST = 0.1, 1e-6
# A run whose gap stays open ends after so many certificates without improvement, once a sweep's progress is below this
# share of the tolerance. Certificates begin once it is below that multiple.
IDLE, PATIENCE, BEGIN_PROOFS = 0.01, 3, 30.0
UNPROVED = "Sweeps no longer improve the objective; no bound was asked for."
WITHOUT_PENALTY = (
    "The fit no longer improves. Without a penalty the bound is 0; determined says whether the data fix it."
)
# A fit that keeps more than this share over so many sweeps has stalled.
STALL_WINDOW, STALL_FALL = 10, 0.8
# Up to this rank singular values are made the best ones after each sweep: their Gram matrix costs less than the sweep.
RELENGTH_RANK = 20
# Columns shorter than this share of the first have died out and make room for others, so often at most.
DEAD, MAX_GROWTHS = 1e-7, 20


class Sweeper:
    """Sweeps that choose their own accuracy.

    The accuracy ``eta`` follows the last sweep's progress: half of the fall of the objective's square root where it
    fell (no better solves than the outer contraction can use), a tenth of the last one where it rose.
    """

    def __init__(self, run: Run, inner: str) -> None:
        self.run = run
        self.inner = inner
        self.eta = LOOSEST
        self.fun = math.inf

    def __call__(self, factors: Factors) -> Factors:
        """One sweep over rows and columns; reports the result to the monitor."""
        rule = SweepRule(self.inner, self.eta)
        for columns in (False, True):
            if self.run.problem.loss == "huber":
                self.reweight(factors)
            factors, fun = half_sweep(self.run.work, factors, rule, columns=columns)
        if self.run.problem.loss == "huber":
            fun = self.huber_objective(factors)
        self.adapt(fun)
        self.run.offer(factors, fun)
        return factors

    def adapt(self, fun: float) -> None:
        """Set the next accuracy from the progress of the last sweep."""
        if not fun <= self.fun:
            self.eta = max(TIGHTEST, 0.1 * self.eta)
        elif self.fun < math.inf and self.fun > 0.0:
            self.eta = float(np.clip(0.5 * math.sqrt(fun / self.fun), TIGHTEST, LOOSEST))
        self.fun = fun

    def reweight(self, factors: Factors) -> None:
        """Weights of the quadratic that touches the loss at the current residuals, from above; 0 for outliers."""
        run = self.run
        residual = self.plain_residuals(factors)
        tangent = run.delta / np.maximum(np.abs(residual), run.delta)
        run.work.reweight(run.work.base_weights * tangent * ~run.problem.outlying(residual, run.delta))

    def plain_residuals(self, factors: Factors) -> FloatArray:
        """Residuals in the caller's units."""
        scaled = self.run.work.residuals(factors).astype(np.float64)
        return scaled if self.run.work.scale is None else scaled / self.run.work.scale

    def huber_objective(self, factors: Factors) -> float:
        """The objective at the threshold in force."""
        problem = self.run.problem
        loss = float(np.sum(problem.observed.weights * problem.rho(self.plain_residuals(factors), self.run.delta)))
        return loss + problem.reg * float(np.sum(factors.s))


def alternate(run: Run, factors: Factors, inner: str, *, watch: bool = False) -> Factors:
    """Grow to the full rank, then sweep until proved, converged or limited; ``watch`` leaves off where that stalls."""
    sweeper = Sweeper(run, inner)
    factors = climb(run, sweeper, factors)
    return polish(run, sweeper, factors, watch=watch)


def climb(run: Run, sweeper: Sweeper, factors: Factors) -> Factors:
    """Rank continuation: append a pair, sweep a few times, repeat."""
    for rank in stages(run.problem.rank, run.problem.size, convex=run.problem.reg > 0.0):
        if rank <= factors.rank or run.monitor.status is not None:
            continue
        grown = _grown(run, sweeper, factors, rank)
        if grown.rank == factors.rank:
            break
        factors = grown
        for _ in range(run.settings.stage_sweeps or (1 if run.problem.reg > 0.0 else 3)):
            if not run.monitor.running():
                return factors
            factors = _swept(run, sweeper, factors)
            run.monitor.checkpoint(residual=sweeper.fun)
    return factors


def polish(run: Run, sweeper: Sweeper, factors: Factors, *, watch: bool = False) -> Factors:
    """Sweeps at the full rank, with certificates when they may help; ``watch`` returns without a verdict on a stall."""
    problem, monitor, tol = run.problem, run.monitor, run.monitor.common.tol
    size = math.sqrt(2.0 * problem.size_of(math.inf if problem.loss == "l2" else run.delta))
    certified_at, pause, idle, growths, gap = monitor.nit, 1, 0, 0, math.inf
    previous = sweeper.fun
    falls: list[float] = []
    while monitor.running():
        if factors.rank:
            factors = _swept(run, sweeper, factors)
        fun = sweeper.fun if factors.rank else monitor.fun
        drop = (previous - fun) / fun if fun > 0.0 else 0.0
        previous = fun
        if problem.reg > 0.0 and not run.settings.certify:
            if drop <= tol:
                monitor.finish(Status.CONVERGED, UNPROVED)
        elif problem.reg > 0.0:
            if drop <= BEGIN_PROOFS * tol and monitor.nit - certified_at >= pause:
                run.certify(factors)
                certified_at, pause = monitor.nit, math.ceil(1.3 * pause)
                # The objective's error is the square of the dual point's: only the gap tells when nothing moves.
                idle = idle + 1 if monitor.gap > 0.7 * gap else 0
                gap = monitor.gap
                if monitor.status is None and problem.rank > RELENGTH_RANK:
                    factors = _relengthened(run, sweeper, factors)
                alive = _alive(factors)
                if monitor.status is None and alive.rank < problem.rank and drop <= tol and growths < MAX_GROWTHS:
                    grown = _grown(run, sweeper, alive, alive.rank + 1)
                    if grown.rank > alive.rank:
                        idle, factors, growths = 0, grown, growths + 1
                if idle >= PATIENCE and drop <= IDLE * tol:
                    monitor.finish(Status.CONVERGED, _open_gap(run))
        else:
            root, last = math.sqrt(2.0 * max(fun, 0.0)), math.sqrt(2.0 * max(fun * (1.0 + drop), 0.0))
            idle = idle + 1 if last - root <= tol * root else 0
            falls.append(fun)
            stalls = len(falls) > STALL_WINDOW and fun > STALL_FALL * falls[-1 - STALL_WINDOW]
            if watch and (stalls or idle >= 2) and root > tol * size and monitor.status is None:
                return factors
            if root <= tol * size or idle >= 2:
                monitor.finish(Status.CONVERGED, WITHOUT_PENALTY)
        monitor.checkpoint(residual=math.sqrt(2.0 * max(fun, 0.0)) / size if size else 0.0)
    limited = problem.reg > 0.0 and monitor.status is not Status.OPTIMAL and monitor.nit > certified_at
    if limited and not monitor.out_of_time():
        run.certify(factors)
    return factors


def _alive(factors: Factors) -> Factors:
    """The factors without columns that have died out."""
    return factors.leading(int(np.sum(factors.s > DEAD * factors.s[0])) if factors.rank else 0)


def _swept(run: Run, sweeper: Sweeper, factors: Factors) -> Factors:
    """A sweep, and with a penalty the best singular values for its vectors.

    Half sweeps reduce the error of a singular value sigma by a factor of about (reg / sigma)²; here it goes at once.
    """
    factors = sweeper(factors)
    convex = run.problem.reg > 0.0 and run.monitor.status is None
    return _relengthened(run, sweeper, factors) if convex and run.problem.rank <= RELENGTH_RANK else factors


def _relengthened(run: Run, sweeper: Sweeper, factors: Factors) -> Factors:
    if not factors.rank:
        return factors
    if run.problem.loss == "huber":
        sweeper.reweight(factors)
    return _alive(relength(run.work, factors))


def _grown(run: Run, sweeper: Sweeper, factors: Factors, rank: int) -> Factors:
    gradient = None
    if run.problem.loss == "huber":
        problem = run.problem
        clipped = problem.clipped(sweeper.plain_residuals(factors), run.delta)
        gradient = problem.observed.weights * clipped
        gradient = gradient if run.work.scale is None else gradient / run.work.scale
        sweeper.reweight(factors)
    return grow(run.work, factors, rank - factors.rank, run.rng, gradient)


def _open_gap(run: Run) -> str:
    factors: Factors = run.monitor.x
    full = factors.rank == run.problem.rank and factors.s[-1] > 1e-9 * factors.s[0]
    if full and run.monitor.gap > run.monitor.common.tol:
        return (
            "A stationary point of the factors; the convex optimum has a larger rank: "
            "raise rank or reg to close the gap."
        )
    return ""
