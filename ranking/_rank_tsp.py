"""``rank_tsp``: the best path through all items, and a proof that no path is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ranking import _kernels_numba as kernels
from ranking._bounds import RECURSION_NODES
from ranking._improve import grow_tree, improve
from ranking._problem import path_problem
from ranking._result import RankingResult
from ranking._run import Run
from solvers._catalogue import entry_named
from solvers._core.backend import choose_backend
from solvers._core.errors import InvalidProblemError
from solvers._core.options import check_common, check_integer
from solvers._core.random import RNG
from solvers._core.result import Status

__all__ = ["rank_tsp"]

# Items up to which "auto" prefers the subset recursion.
SMALL_ITEMS = 7
# Rounds (max_iter) by default; each is a few milliseconds of work.
EXACT_ROUNDS = 10**9
# Relative distance of the first tour from the assignment value above which scores count as near-symmetric: assignments
# then consist of two-cycles, branching on them is slow, and turning paths round pays.
LOOSE_GAP = 0.01
# Rounds of branching under "auto" where the assignment is tight, and where it is loose.
TIGHT_ROUNDS = 100
LOOSE_ROUNDS = 4


@dataclass(frozen=True)
class PathSettings:
    """Options: memory up to which the certificate keeps the whole tree."""

    certificate_bytes: int = 2**28


def rank_tsp(
    scores: Any,
    *,
    start: Any = None,
    end: Any = None,
    closed: bool = False,
    maximize: bool = True,
    method: str = "auto",
    x0: Any = None,
    tol: float = 1e-6,
    max_iter: int | None = None,
    time_limit: float | None = None,
    callback: Callable[..., Any] | None = None,
    rng: RNG = None,
    history: bool = False,
    verbose: int = 0,
    backend: str = "auto",
    options: Mapping[str, Any] | None = None,
) -> RankingResult:
    entry = entry_named("rank_tsp")
    common = check_common(
        entry.name,
        method=method,
        methods=entry.methods,
        tol=tol,
        max_iter=max_iter,
        time_limit=time_limit,
        callback=callback,
        rng=rng,
        history=history,
        verbose=verbose,
        options=options,
    )
    settings = common.settings(PathSettings)
    check_integer("options['certificate_bytes']", settings.certificate_bytes, low=0)
    if type(scores) is not np.ndarray or backend != "auto":
        choose_backend("ranking", backend, entry.backends, scores=None if hasattr(scores, "adjacency") else scores)
    problem = path_problem(scores, start, end, closed, maximize)
    run = Run(problem, common, method=method, max_iter=EXACT_ROUNDS)
    if x0 is not None:
        _start_from(run, x0)
    _solve(run, settings)
    result = run.monitor.result()
    assert isinstance(result, RankingResult)
    return result


def _solve(run: Run, settings: PathSettings) -> None:
    """The ladder: recursion; assignment, patching, exchange; then search for better tours and bounds, and branching."""
    monitor, problem = run.monitor, run.problem
    method = monitor.common.method
    if problem.n == 1 or method == "dynamic-programming" or (method == "auto" and problem.n <= SMALL_ITEMS):
        _recursion(run)
        return
    monitor.running()
    if not _root(run):
        return
    monitor.checkpoint()
    if monitor.status is None and method != "greedy":
        loose = not run.upper - float(np.sum(run.u) + np.sum(run.v)) <= LOOSE_GAP * abs(run.upper)
        if method == "heuristic":
            improve(run, turn=loose)
        elif not loose:
            grow_tree(run, EXACT_ROUNDS if method == "exact" else TIGHT_ROUNDS, settings.certificate_bytes)
            improve(run, turn=False)
        else:
            improve(run, turn=True)
            grow_tree(run, EXACT_ROUNDS if method == "exact" else LOOSE_ROUNDS, settings.certificate_bytes)
    monitor.finish(Status.CONVERGED if monitor.x is not None else Status.STALLED)


def _root(run: Run) -> bool:
    """Assignment, patching and local search; False if the problem has no answer."""
    run.allocate()
    code, _, cost = kernels.solve_root(run.c, run.d, run.x, run.y, run.u, run.v, run.near, run.tour)
    run.prove_root(ray=code == 1)
    if code == 1:
        run.monitor.finish(Status.INFEASIBLE)
        return False
    if cost < run.barrier and cost < run.upper:
        run.upper = cost
        run.offer(run.tour)
    return True


def _recursion(run: Run) -> None:
    """The subset recursion; one iteration."""
    problem, monitor = run.problem, run.monitor
    monitor.method = "dynamic-programming"
    if problem.m > RECURSION_NODES:
        raise InvalidProblemError(
            f"method='dynamic-programming' takes up to {RECURSION_NODES - problem.depot} items here (its work doubles with "
            f"each); got {problem.n}: use method='exact'"
        )
    monitor.running()
    if problem.n == 1:
        run.offer_order(np.zeros(1, dtype=np.int64))
    elif kernels.subset_recursion(run.c, run.tour) < math.inf:
        run.offer(run.tour)
    run.prove_small()
    monitor.checkpoint()
    monitor.finish(Status.CONVERGED if monitor.x is not None else Status.INFEASIBLE)


def _start_from(run: Run, x0: Any) -> None:
    """Offer the order of a previous result, or a permutation of the items, if the problem allows it."""
    problem = run.problem
    given = x0.order if isinstance(x0, RankingResult) else x0
    if given is None:
        return
    order = np.asarray(given)
    if order.shape != (problem.n,) or not np.array_equal(np.sort(order), np.arange(problem.n)):
        raise InvalidProblemError(f"x0 must be a RankingResult or a permutation of 0..{problem.n - 1}; got {given!r}")
    order = order.astype(np.int64)
    if wrong := problem.forbids(order):
        raise InvalidProblemError(f"x0 must be an allowed order; {wrong}")
    place = np.empty(problem.n, dtype=np.int64)
    place[run.perm] = np.arange(problem.n)
    tour = place[order]
    run.tour[:] = np.append(tour, problem.n) if problem.depot else tour
    run.upper = float(kernels.tour_cost(run.d, run.tour))
    run.offer(run.tour)
