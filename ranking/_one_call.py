"""A path problem in one compiled call: for the many that a small tree proves, where calls would cost more than the work."""

from __future__ import annotations

import numpy as np

from ranking._batch_numba import PROVED, solve_path
from ranking._factors import Factors
from ranking._improve import ROUNDED_GAP
from ranking._result import BranchCertificate
from ranking._run import Run
from solvers._core.result import Status, relative_gap

__all__ = ["solve_in_one_call"]

# Items up to which the arrays of a small tree are small, and its tree nodes per item.
MOST_ITEMS = 300
ROOM_FACTOR = 12
# Relative distance of the first tour from the assignment value above which a small tree is no proof.
LOOSE = 0.05


def solve_in_one_call(run: Run, most_bytes: int) -> bool:
    """Solve and prove the problem of a run within ``most_bytes``.

    False, with the run untouched, where a small tree is not enough.
    """
    problem, monitor = run.problem, run.monitor
    room = ROOM_FACTOR * problem.m
    if problem.n > MOST_ITEMS or isinstance(problem.scores, Factors) or 8 * room * (problem.m + 5) > most_bytes:
        return False
    order = np.empty(problem.n, np.int64)
    parent, tail, head, leaf = np.empty((4, room), np.int64)
    ray, prices = np.empty(room, np.bool_), np.empty((room, problem.m))
    tol = monitor.common.tol
    code, fun, bound, size, nodes, leaves, forbidden = solve_path(
        problem.scores, run.perm, problem.sign, problem.depot, problem.start, problem.end, tol, LOOSE, room, order,
        parent, tail, head, leaf, ray, prices,
    )  # fmt: skip
    # A gap that a finished tree leaves open is one of rounding.
    if code != PROVED or not relative_gap(fun, bound, monitor.sense, size) <= max(tol, ROUNDED_GAP):
        return False
    run.forbidden = forbidden
    monitor.running()
    run.accept(order, fun, size)
    monitor.prove(
        bound,
        BranchCertificate(
            parent[:nodes].copy(), tail[:nodes].copy(), head[:nodes].copy(), leaf[:nodes].copy(), ray[:nodes].copy(),
            prices[:leaves].copy(),
        ),
    )  # fmt: skip
    monitor.finish(Status.CONVERGED)
    return True
