"""The two ways to close a gap: better tours and potentials (local search, ascent), and branching."""

from __future__ import annotations

import math

import numpy as np

from ranking import _ascent_numba as ascent
from ranking import _kernels_numba as kernels
from ranking._result import ArborescenceCertificate
from ranking._run import Run, Tree
from solvers._core.result import Status

__all__ = ["grow_tree", "improve"]

# Restarts of the local search and kicks per node and restart; kicks in all stay below KICK_WORK / m.
RESTARTS = 3
KICKS = 20
KICK_WORK = 2e7
# Node visits per round of kicks, and arc inspections per round of branching.
ROUND_VISITS = 1e6
ROUND_WORK = 2e7
# Steps of the ascent and the number of nodes up to which it is worth its m^2 a step.
ASCENT_STEPS = 400
ASCENT_NODES = 600
# Part of the tolerance at which a branch is cut off; the rest is for rounding.
CUT_SHARE = 0.9
# Seconds per arc inspection when a tree is proved.
PROOF_SPEED = 1e-9


def improve(run: Run, *, turn: bool) -> None:
    """Restarts of iterated local search, each an iteration or more, after the ascent of the 1-arborescence bound.

    ``turn``: also turn paths round, which pays where scores are nearly symmetric.
    """
    monitor, m = run.monitor, run.problem.m
    if monitor.status is None and m <= ASCENT_NODES:
        _ascend(run)
    kernels.neighbours(run.d, run.u, run.v, run.near)
    kicks = int(min(KICKS * m, KICK_WORK / (RESTARTS * m)))
    chunk = max(1, int(ROUND_VISITS / m))
    for restart in range(RESTARTS):
        tour = run.tour.copy() if restart == 0 else monitor.common.rng.permutation(m)
        fresh = True
        left = kicks
        while left > 0 and monitor.running():
            draws = monitor.common.rng.integers(0, 2**31 - 1, size=(min(left, chunk), 3))
            left -= len(draws)
            cost = kernels.iterate(run.d, run.u, run.v, run.near, tour, draws, turn, fresh)
            fresh = False
            if cost < run.upper and cost < run.barrier:
                run.upper = cost
                run.tour[:] = tour
                run.offer(tour)
            monitor.checkpoint()
        if monitor.status is not None:
            return


def _ascend(run: Run) -> None:
    """Potentials that nearly reach the subtour bound, starting from the assignment's prices."""
    if not math.isfinite(run.upper):
        return
    p = -run.u
    root = run.problem.m - 1
    ascent.ascend(run.d, p, root, run.upper, ASCENT_STEPS)
    named = run.renumber(p[None, :])[0]
    certificate = ArborescenceCertificate(named, int(run.nodes_of[root]))
    run.prove(certificate, certificate)


def grow_tree(run: Run, rounds: int, most_bytes: int) -> None:
    """Branch and bound, least bound first, an iteration per round; the tree is proved whenever it has doubled."""
    monitor, m = run.monitor, run.problem.m
    if monitor.status is not None:
        return
    tree = Tree(run)
    budget = max(1, int(ROUND_WORK / m**3))
    proved = 1
    done = False
    while not done and rounds > 0 and monitor.affords(PROOF_SPEED * m * m * tree.counts[0]) and monitor.running():
        rounds -= 1
        slack = CUT_SHARE * monitor.common.tol * abs(run.upper) if math.isfinite(run.upper) else 0.0
        done = tree.advance(budget, slack)
        if tree.nbytes > most_bytes:
            monitor.finish(
                Status.STALLED,
                f"The tree outgrew options['certificate_bytes'] = {most_bytes} after {tree.expanded} nodes; raise it.",
            )
            break
        if done or tree.counts[0] >= 2 * proved:
            proved = int(tree.counts[0])
            tree.prove()
        monitor.checkpoint()
    if proved < tree.counts[0]:
        tree.prove()
    if not done and rounds > 0 and monitor.status is None and not monitor.affords(PROOF_SPEED * m * m * proved):
        monitor.finish(Status.TIME_LIMIT)
    if done and monitor.x is None:
        monitor.finish(Status.INFEASIBLE)
    elif done:
        monitor.finish(Status.CONVERGED)
