"""The two ways to close a gap: better tours and potentials (local search, ascent), and branching."""

from __future__ import annotations

import math

import numpy as np

from ranking import _kernels_numba as kernels
from ranking import _search_numba as search
from ranking._ascent_numba import ascend as kernels_ascend
from ranking._bounds import RECURSION_NODES
from ranking._potential_tree import PotentialTree
from ranking._run import Run
from ranking._trees import Tree
from solvers._core.result import Status

__all__ = ["ROUNDED_GAP", "ascend", "grow_tree", "improve"]

# Kicks per node of a local search; a search without success ends after IDLE_KICKS per node, or m^2 / IDLE_DIVISOR where that
# is more. Kicks in all stay below KICK_WORK / m.
MOST_KICKS = 60
IDLE_KICKS = 5
IDLE_DIVISOR = 1000
KICK_WORK = 2e7
# Node visits per round of kicks, and arc inspections per round of branching.
ROUND_VISITS = 1e4
ROUND_WORK = 2e7
# Steps of the ascent, the number of nodes up to which it is worth its m^2 a step, and seconds per arc and step.
ASCENT_STEPS = 150
ASCENT_NODES = 600
STEP_SPEED = 5e-9
# Growth of a tree between its proofs, each of which costs m^2 a leaf.
PROOF_GROWTH = 4
# Gap that roundings alone leave where scores have one scale.
ROUNDED_GAP = 1e-9


def improve(run: Run, *, turn: bool) -> None:
    """Iterated local search from the best tour, an iteration or more, until it has found nothing for a while.

    ``turn``: also turn paths round, which pays where scores are nearly symmetric.
    """
    monitor, m = run.monitor, run.problem.m
    chunk = max(1, int(ROUND_VISITS / m))
    left, idle = int(min(MOST_KICKS * m, KICK_WORK / m)), 0
    tour, fresh, best = run.tour.copy(), True, math.inf
    patience = m * max(IDLE_KICKS, m * m // IDLE_DIVISOR)
    while left > 0 and idle < patience and monitor.running():
        draws = monitor.common.rng.integers(0, 2**31 - 1, size=(min(left, chunk), 3))
        left -= len(draws)
        idle += len(draws)
        cost = search.iterate(run.d, run.u, run.v, tour, draws, turn, fresh, search.KICK_NEAR)
        fresh = False
        if cost < best:
            best, idle = cost, 0
        if cost < run.upper and cost < run.barrier:
            run.upper = cost
            run.tour[:] = tour
            run.offer(tour)
        monitor.checkpoint()


def ascend(run: Run) -> PotentialTree | None:
    """Potentials that nearly reach the subtour bound, starting from the assignment's prices: the root of a tree.

    Local search from arborescences on the way gives tours.

    None without a tour, or where a step would take too long.
    """
    monitor, m = run.monitor, run.problem.m
    affordable = m <= ASCENT_NODES and monitor.affords(ASCENT_STEPS * STEP_SPEED * m * m)
    if not (math.isfinite(run.upper) and affordable and monitor.running()):
        return None
    p = -run.u
    goal = run.upper - kernels.cut_slack(run.upper, monitor.common.tol, run.whole)
    lower, upper, walks = kernels_ascend(run.c, p, m - 1, goal, run.upper, ASCENT_STEPS, run.tour)
    upper = search.best_of(run.d, -p, np.min(run.d + p[:, None], axis=0), walks, run.tour, upper, run.barrier)
    if upper < run.upper:
        run.upper = upper
        run.offer(run.tour)
    tree = PotentialTree(run, p, lower)
    tree.prove()
    monitor.checkpoint()
    return tree


def grow_tree(run: Run, tree: Tree, rounds: int, most_bytes: int) -> bool:
    """Branch and bound, least bound first, an iteration per round; the tree is proved at the end and whenever it has
    grown fourfold.

    Returns whether it is exhausted; a tree that outgrows ``most_bytes`` is left as it was last proved. The run goes on after
    a tree of potentials that is exhausted and, by roundings, proves little.
    """
    monitor = run.monitor
    budget = max(1, int(ROUND_WORK / tree.node_work))
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
        if not monitor.affords(tree.proof_seconds):
            monitor.finish(Status.TIME_LIMIT)
    if proved < tree.counts[0]:
        tree.prove()
    if done and monitor.x is not None and monitor.gap > max(monitor.common.tol, ROUNDED_GAP):
        if isinstance(tree, PotentialTree):
            return True
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
