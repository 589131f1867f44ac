"""One run of a path search: the problem in random order, the monitor, and how cycles become answers."""

from __future__ import annotations

import math
from functools import cached_property, partial

import numpy as np

from ranking._bounds import PUBLISH, cycle_bound, whole
from ranking._problem import PathProblem
from ranking._result import BranchCertificate, Certificate, RankingResult, RecursionCertificate
from ranking._search_numba import tour_cost
from solvers._core.arrays import FloatArray, IntArray
from solvers._core.linalg import UNIT
from solvers._core.monitor import Monitor
from solvers._core.options import Common

__all__ = ["Run"]

# Successors per node that local search looks at.
NEAR = 10
# Units of roundoff, of the sum of the moduli, within which a compensated sum is.
COMPENSATED = 4.0


class Run:
    """State that the phases of a method share, in the numbering of a random order of the items.

    The random order is what decides between equally good answers, so that the order of the input never does.

    Attributes
    ----------
    c, d : (m, m) float64
        Costs with +inf for forbidden arcs, and with a huge finite cost instead (the same array where none is
        forbidden).
    barrier : float
        Cycles of cost >= barrier in d use a forbidden arc.
    tour, upper : (m,) int64, float
        Best cycle and its cost in d, inf while none is allowed.
    whole : bool
        Whether all costs are integers that add up exactly.
    x, y, u, v, lower : assignment, prices of the root and their value.
    """

    def __init__(self, problem: PathProblem, common: Common, *, method: str, max_iter: int) -> None:
        self.open(problem, common, method=method, max_iter=max_iter)

    def read_costs(self) -> None:
        """Make the cost matrices, once."""
        if hasattr(self, "c"):
            return
        problem, m = self.problem, self.problem.m
        self.c, self.largest, self.forbidden = problem.costs(self.perm)
        self.whole = whole(self.c)
        self.d = self.c
        ends_fixed = problem.depot and (problem.start >= 0 or problem.end >= 0)
        if self.forbidden or ends_fixed:
            huge = 4.0 * (m + 1) * self.largest if self.largest > 0 else 1.0
            self.d = np.where(np.isinf(self.c), huge, self.c)
            self.barrier = 0.5 * huge

    def open(self, problem: PathProblem, common: Common, *, method: str, max_iter: int) -> None:
        """Number the items at random and start the monitor."""
        self.problem = problem
        self.perm = common.rng.permutation(problem.n)
        self.tour = np.zeros(problem.m, dtype=np.int64)
        self.upper, self.barrier = math.inf, math.inf
        self.monitor = Monitor(
            common,
            sense="max" if problem.maximize else "min",
            scale=0.0,
            max_iter=max_iter,
            package=partial(_package, problem),
            method=method,
            backend="numba",
        )

    @cached_property
    def nodes_of(self) -> IntArray:
        """The caller's number of every node: the items in this run's order, and the depot."""
        return np.append(self.perm, self.problem.n) if self.problem.depot else self.perm

    def cost(self, tour: IntArray) -> float:
        """Cost of a cycle in this run's numbering."""
        return float(tour_cost(self.d, tour))

    def allocate(self) -> None:
        """Room for the assignment and the neighbour lists."""
        m = self.problem.m
        self.x, self.y = np.empty(m, np.int64), np.empty(m, np.int64)
        self.u, self.v = np.empty(m), np.empty(m)
        self.near = np.empty((m, min(NEAR, m - 1)), np.int64)
        self.lower = -math.inf

    def offer(self, tour: IntArray) -> bool:
        """Offer a cycle of allowed arcs, in this run's numbering; True if it is the best so far."""
        return self.offer_order(self.problem.order_of(self.nodes_of[tour]))

    def offer_order(self, order: IntArray) -> bool:
        """Offer an order of the items."""
        fun, scale = self.problem.value(order)
        monitor = self.monitor
        if monitor.x is not None and not (fun > monitor.fun if self.problem.maximize else fun < monitor.fun):
            return False
        # Size of the answer, and the one rounding of its value.
        monitor.scale, monitor.fun_slack = scale, 2.0 * UNIT * abs(fun)
        return monitor.incumbent(order, fun)

    def accept(self, order: IntArray, fun: float, scale: float) -> None:
        """Take a first order with its value, summed with compensation, and the sum of the moduli of its arcs."""
        self.monitor.scale, self.monitor.fun_slack = scale, COMPENSATED * UNIT * scale
        self.monitor.incumbent(order, fun)

    def prove(self, certificate: Certificate, stored: Certificate) -> None:
        """Publish what a certificate in this run's numbering proves; ``stored`` is the same in the caller's.

        Recursions, whose roundings depend on the numbering, are evaluated in the caller's: pass ``stored`` twice.
        """
        c = self.c
        if certificate is stored:
            place = np.argsort(self.nodes_of)
            c = c[np.ix_(place, place)]
        self.monitor.prove(self.problem.sign * cycle_bound(c, certificate, PUBLISH), stored)

    def prove_root(self, *, ray: bool = False) -> None:
        """Publish the bound of the assignment's prices."""
        certificate = leaf_certificate(self.v[None, :], ray)
        self.prove(certificate, leaf_certificate(self.renumber(self.v[None, :]), ray))

    def prove_small(self) -> None:
        """Publish the bound of the verifier's own recursion."""
        certificate = RecursionCertificate()
        self.prove(certificate, certificate)

    def renumber(self, prices: FloatArray) -> FloatArray:
        """Columns of vectors per node, from this run's numbering to the caller's."""
        out = np.empty_like(prices)
        out[:, self.nodes_of] = prices
        return out


def _package(problem: PathProblem, monitor: Monitor) -> RankingResult:
    order = monitor.x
    rank = None
    if order is not None:
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
    return RankingResult(**monitor.fields(), order=order, rank=rank, nodes=problem.nodes, closed=problem.closed)


def leaf_certificate(prices: FloatArray, ray: bool) -> BranchCertificate:
    """A tree that is its root."""
    return BranchCertificate(_ROOT, _NONE, _NONE, _FIRST, _RAY if ray else _NO_RAY, prices)


_ROOT, _NONE, _FIRST = np.array([-1]), np.array([-1]), np.array([0])
_RAY, _NO_RAY = np.array([True]), np.array([False])
