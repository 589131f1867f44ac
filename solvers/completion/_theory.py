"""The analysed form of alternating minimisation, step by step: sample splitting, clipping, a fixed inner accuracy.

The theorems of Jain, Netrapalli and Sanghavi (2013) and of Gu, Song, Yin and Zhang (2024) are about this algorithm. With T
rounds the observed set is split at random into 2 T + 1 parts, so that in each half round the fixed factor is
independent of the mask:

1. U = the k leading left singular vectors of the first part, entries above 2 mu sqrt(k / m) set to zero, orthonormalised.
2. Round t: V = argmin on part t with U fixed, orthonormalised; then U = argmin on part T + t with V fixed.

Every row is solved from zero by a leverage sample and refinement, to one fixed relative accuracy. In practice every
sweep uses all entries and starts from the last one (``method="altmin"``): fresh samples are a device of the proof and cost
a factor 2 T + 1 in data.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from solvers._core.arrays import FloatArray
from solvers._core.errors import InvalidProblemError
from solvers._core.result import Status
from solvers.completion._growth import grow
from solvers.completion._problem import CompletionProblem
from solvers.completion._run import Run
from solvers.completion._sweeps import Factors, SweepRule, Workspace, balanced, improve_rows

__all__ = ["split_alternate"]

# Refinement steps of one row at most.
REFINEMENTS = 200


def split_alternate(run: Run) -> Factors:
    """Rounds on fresh samples; the factors after the last of them."""
    settings, problem, monitor = run.settings, run.problem, run.monitor
    rounds = settings.rounds
    parts = _parts(problem, 2 * rounds + 1, run.rng)
    work = Workspace(parts[0])
    start = grow(work, run.nothing(), problem.rank, run.rng)
    factors = Factors(clipped(start.U, settings.incoherence), start.s, start.V)
    rule = SweepRule("sketch", settings.inner_tol, REFINEMENTS)
    for turn in range(1, rounds + 1):
        if not monitor.running():
            return factors
        factors = _solved(Workspace(parts[turn]), factors, rule, turn, columns=True)
        factors = _solved(Workspace(parts[rounds + turn]), factors, rule, rounds + turn, columns=False)
        run.offer(factors)
        monitor.checkpoint()
    reached = (2.0 * monitor.fun) ** 0.5 <= 1e-3 * monitor.common.tol**0.5 * (2.0 * monitor.scale) ** 0.5
    if reached:
        monitor.finish(Status.CONVERGED)
    else:
        monitor.finish(
            Status.STALLED,
            f"The samples for {rounds} rounds are used up; raise options['rounds'], or use method='altmin'.",
        )
    return factors


def clipped(basis: FloatArray, incoherence: float) -> FloatArray:
    """Entries above 2 mu sqrt(k / m) set to zero, then orthonormal columns again."""
    m, k = basis.shape
    kept = np.where(np.abs(basis) <= 2.0 * incoherence * np.sqrt(k / m), basis, 0.0)
    return np.ascontiguousarray(np.linalg.qr(kept)[0])


def _parts(problem: CompletionProblem, count: int, rng: np.random.Generator) -> list[CompletionProblem]:
    """The problem on each of ``count`` random parts of its entries, of equal size up to one."""
    observed = problem.observed
    if observed.size < count:
        raise InvalidProblemError(
            f"options['theory'] splits the entries into 2 rounds + 1 = {count} parts; got {observed.size} entries"
        )
    label = rng.permutation(observed.size) % count
    return [
        dataclasses.replace(problem, observed=observed.keep(label == part), targets=problem.targets[label == part])
        for part in range(count)
    ]


def _solved(work: Workspace, factors: Factors, rule: SweepRule, seed: int, *, columns: bool) -> Factors:
    """One side solved from zero on the part's entries with the other's orthonormal basis fixed."""
    side, fixed = (work.cols, factors.U) if columns else (work.rows, factors.V)
    x = np.zeros((work.shape[1] if columns else work.shape[0], factors.rank))
    nothing = np.zeros(factors.rank)
    improve_rows(side, fixed, nothing, np.ones(factors.rank), rule, seed, x)
    return balanced(fixed, x) if columns else balanced(x, fixed)
