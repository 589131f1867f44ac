"""The two ways to close a gap: better tours and potentials (local search, ascent), and branching."""

from __future__ import annotations

import math

from ranking import _kernels_numba as kernels
from ranking import _search_numba as search
from ranking._ascent_numba import ascend as kernels_ascend
from ranking._bounds import RECURSION_NODES
from ranking._result import ArborescenceCertificate
from ranking._run import Run, Tree
from solvers._core.result import Status

__all__ = ["RESTARTS", "ROUNDED_GAP", "ascend", "grow_tree", "improve"]

# Restarts of the local search and kicks per node and restart; kicks in all stay below KICK_WORK / m.
RESTARTS = 3
KICKS = 20
KICK_WORK = 2e7
# Node visits per round of kicks, and arc inspections per round of branching.
ROUND_VISITS = 2e4
ROUND_WORK = 2e7
# Steps of the ascent and the number of nodes up to which it is worth its m^2 a step.
ASCENT_STEPS = 400
ASCENT_NODES = 600
# Growth of a tree between its proofs, each of which costs m^2 a leaf.
PROOF_GROWTH = 4
# Gap that roundings alone leave where scores have one scale.
ROUNDED_GAP = 1e-9
# Seconds per arc inspection when a tree is proved.
PROOF_SPEED = 1e-9


def improve(run: Run, restarts: range, *, turn: bool) -> None:
    """Restarts of iterated local search, each an iteration or more; number 0 starts from the best tour.

    ``turn``: also turn paths round, which pays where scores are nearly symmetric.
    """
    monitor, m = run.monitor, run.problem.m
    kicks = int(min(KICKS * m, KICK_WORK / (RESTARTS * m)))
    chunk = max(1, int(ROUND_VISITS / m))
    for restart in restarts:
        tour = run.tour.copy() if restart == 0 else monitor.common.rng.permutation(m)
        fresh = True
        left = kicks
        while left > 0 and monitor.running():
            draws = monitor.common.rng.integers(0, 2**31 - 1, size=(min(left, chunk), 3))
            left -= len(draws)
            cost = search.iterate(run.d, run.u, run.v, run.near, tour, draws, turn, fresh)
            fresh = False
            if cost < run.upper and cost < run.barrier:
                run.upper = cost
                run.tour[:] = tour
                run.offer(tour)
            monitor.checkpoint()
        if monitor.status is not None:
            return


def ascend(run: Run) -> None:
    """Potentials that nearly reach the subtour bound, starting from the assignment's prices."""
    if not math.isfinite(run.upper) or run.monitor.status is not None or run.problem.m > ASCENT_NODES:
        return
    p = -run.u
    root = run.problem.m - 1
    kernels_ascend(run.d, p, root, run.upper, ASCENT_STEPS)
    named = run.renumber(p[None, :])[0]
    certificate = ArborescenceCertificate(named, int(run.nodes_of[root]))
    run.prove(certificate, certificate)


def grow_tree(run: Run, tree: Tree, rounds: int, most_bytes: int) -> bool:
    """Branch and bound, least bound first, an iteration per round; the tree is proved at the end and whenever it has
    grown fourfold.

    Returns whether it is exhausted; a tree that outgrows ``most_bytes`` is left as it was last proved.
    """
    monitor, m = run.monitor, run.problem.m
    budget = max(1, int(ROUND_WORK / m**3))
    proved = int(tree.counts[0])
    done = False
    while not done and rounds > 0 and tree.nbytes <= most_bytes and monitor.running():
        rounds -= 1
        slack = kernels.cut_slack(run.upper, monitor.common.tol, run.whole)
        done = tree.advance(budget, slack)
        if done or (tree.counts[0] >= PROOF_GROWTH * proved and tree.nbytes <= most_bytes):
            proved = int(tree.counts[0])
            tree.prove()
        monitor.checkpoint()
        if not monitor.affords(PROOF_SPEED * m * m * int(tree.counts[0])):
            break
    if proved < tree.counts[0]:
        tree.prove()
    if done and monitor.x is not None and monitor.gap > max(monitor.common.tol, ROUNDED_GAP):
        _beyond_precision(run)
    if done:
        monitor.finish(Status.CONVERGED if monitor.x is not None else Status.INFEASIBLE)
    return done


def _beyond_precision(run: Run) -> None:
    """An exhausted tree that proves little: its prices have lost the small scores. Sums of a recursion have not."""
    if run.problem.m <= RECURSION_NODES:
        if kernels.subset_recursion(run.c, run.tour) < math.inf:
            run.offer(run.tour)
        run.prove_small()
        return
    run.monitor.finish(
        Status.NUMERICAL_ERROR,
        "The scores span more orders of magnitude than double precision tells apart, and the order may be poor: forbid "
        "the worst arcs, or compress the scale of the scores.",
    )
