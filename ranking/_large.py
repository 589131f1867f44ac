r"""Thousands of items: assignment on candidate arcs with column generation, patching, segment exchange.

The assignment is solved on a sparse graph of candidates. A pass over all arcs then finds, for the prices v of its columns,
each row's arcs of least c_ij - v_j; the sum of these minima and of v bounds every cycle. Where a minimum lies below what
the candidates offer, its arcs join the graph, rows whose arc is no longer tight become free, and shortest augmenting paths
begin from the prices of before. Prices start from column minima, or, where scores have low rank, from moments
(:mod:`ranking._transport`).

Time: n^2 d for a pass, a handful of which are made, and about n log n otherwise. Memory: proportional to n.
Reference: Volgenant, Comput. Oper. Res. 23, 1996.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ranking import _large_numba as kernels
from ranking import _large_passes_numba as passes
from ranking._bounds import PUBLISH
from ranking._factors import Factors
from ranking._large_bounds import streamed_bound
from ranking._moment_bounds import moment_bound, moment_certificate
from ranking._problem import PathProblem
from ranking._run import Run, leaf_certificate
from ranking._transport import low_rank_factors, transport_potential
from solvers._core.arrays import FloatArray, IntArray
from solvers._core.options import Common
from solvers._core.result import Status

__all__ = ["LargeRun", "survey"]

# Candidates that a pass gives each row, and passes at most.
WIDTH = 12
COLUMN_WIDTH = 4
PASSES = 30
# Successors that the segment exchange looks at.
NEAR = 8
# Reduced costs down to this part of the tolerance count as zero; the rest is for the tours.
PRICE_SHARE = 0.05
# Work between two looks at the clock: arcs of a pass, segment exchanges.
PASS_ARCS = 2e8
EXCHANGES = 5000
# Orders in which cycles are patched, and the number of nodes that all of them together may look at.
TRIES, TRY_WORK = 20, 2e5
# Seconds per arc and coordinate of a proof.
PROOF_SPEED = 4e-10


def survey(problem: PathProblem) -> int:
    """Check the entries of a matrix that is not copied; returns the number of forbidden arcs."""
    if isinstance(problem.scores, Factors):
        return 0
    nans, attractive, forbidden, largest = passes.survey(problem.scores, problem.sign)
    problem.refuse(int(nans), int(attractive), float(largest))
    return int(forbidden)


class LargeRun(Run):
    """A run whose arcs are computed when they are looked at.

    Attributes
    ----------
    arcs : tuple
        What the kernels make costs of, in units of 2**exponent; see their module.
    exponent : int
        Factors are scaled by powers of two to moduli below 1, so that nothing overflows.
    indptr, column, arc : the candidate graph by rows.
    x, y, u, v : assignment and prices.
    cut : bool
        Whether work was left out because the time would not have sufficed.
    """

    def __init__(self, problem: PathProblem, common: Common, *, method: str, max_iter: int) -> None:
        self.open(problem, common, method=method, max_iter=max_iter)
        n, m = problem.n, problem.m
        # The cycle 0, 1, ..., m - 1 is allowed whatever the ends are.
        for end, place in ((problem.start, 0), (problem.end, n - 1)):
            if problem.depot and end >= 0:
                at = int((self.perm == end).argmax())
                self.perm[[at, place]] = self.perm[[place, at]]
        self.nodes_of = np.append(self.perm, n) if problem.depot else self.perm
        dense = not isinstance(problem.scores, Factors)
        if isinstance(problem.scores, Factors):
            P, p_exponent = _scaled(problem.sign * problem.scores.left[self.perm])
            Q, q_exponent = _scaled(problem.scores.right[self.perm])
            self.exponent = p_exponent + q_exponent
            self.largest = math.sqrt(float((P * P).sum(axis=1).max()) * float((Q * Q).sum(axis=1).max()))
            matrix = np.empty((0, 0))
            # Zero coordinates fill up to what the kernels take at a time.
            filler = np.zeros((n, -Q.shape[1] % passes.EIGHT))
            P, Q = np.hstack([P, filler]), np.hstack([Q, filler])
            self.QT = np.ascontiguousarray(Q.T)
        else:
            matrix, P, Q = problem.scores, np.empty((0, 0)), np.empty((0, 0))
            self.exponent, self.largest = 0, float(passes.survey(matrix, 1.0)[3])
        huge = 4.0 * (m + 1) * self.largest if self.largest > 0 else 1.0
        self.barrier = 0.5 * huge
        self.arcs = (
            matrix, self.perm, problem.sign, P, Q,
            0 if problem.depot and problem.start >= 0 else -1, n - 1 if problem.depot and problem.end >= 0 else -1, huge,
        )  # fmt: skip
        self.speed = PROOF_SPEED * (4 if dense else P.shape[1])
        self.u, self.v = np.zeros(m), np.zeros(m)
        self.x, self.y = np.full(m, -1), np.full(m, -1)
        self.indptr, self.column, self.arc = np.zeros(m + 1, np.int64), np.empty(0, np.int32), np.empty(0)
        self.cut = False

    def cost(self, tour: IntArray) -> float:
        """Cost of a cycle in this run's numbering."""
        return float(kernels.tour_value(self.arcs, tour))

    def solve(self) -> None:
        """The whole search."""
        monitor = self.monitor
        monitor.running()
        if not math.isfinite(self.upper):
            self._take(np.arange(self.problem.m))
        if isinstance(self.problem.scores, Factors):
            moments = moment_certificate(self.problem.scores, self.problem.sign)
            monitor.prove(self.problem.sign * moment_bound(self.problem, moments, PUBLISH), moments)
        self._start_prices()
        common = monitor.common
        if len(self.arcs[0]) and (common.callback, common.time_limit, common.max_iter) != (None, None, None):
            self._prove(self.v)
        monitor.checkpoint()
        self._generate_columns()
        if self.x.min() >= 0:
            self._search()
        else:
            kernels.complete(self.arcs, self.x, self.y)
            self._take(self._patched(np.empty(0)))
        monitor.finish(Status.TIME_LIMIT if self.cut else Status.CONVERGED)

    def _take(self, tour: IntArray) -> None:
        """Offer a cycle if it is better and allowed."""
        cost = self.cost(tour)
        if cost < self.upper and cost < self.barrier:
            self.upper = cost
            self.tour[:] = tour
            self.offer(tour)

    def _start_prices(self) -> None:
        """Column minima, or the potential of the Gaussian transport map where scores have low rank."""
        n = self.problem.n
        matrix, perm, sign, P, Q, *_ = self.arcs
        if len(P):
            self.v[:n] = -transport_potential(-P, Q)
        elif factors := low_rank_factors(matrix, perm, sign / self.largest if self.largest > 0 else sign):
            self.v[:n] = -self.largest * transport_potential(-factors[0], factors[1])
        else:
            passes.column_minima(self.arcs, self.v)
        if self.problem.depot:
            # The depot is served by the row that gains most from it.
            self.v[n] = float(np.quantile(self.v[:n], 1.0 / n))

    def _generate_columns(self) -> None:
        """Assignment and passes in turn, until no arc has a noticeable negative reduced cost.

        Prices v only fall, so that a row's minimum only rises: a pass looks at the rows whose u has risen above it.
        """
        monitor, m = self.monitor, self.problem.m
        near, values = np.full((m, WIDTH), -1), np.full((m, WIDTH), np.inf)
        rows = np.arange(m)
        tolerance, best = 0.0, None
        for _ in range(PASSES):
            # Time is kept for a proof of what there is.
            if best is not None and not monitor.affords(2.0 * self.speed * m * m):
                self.cut = True
                break
            if not self._pass(rows, values, near):
                if len(self.column) == 0:
                    self._assign_roughly(near)
                break
            lows = self._row_minima(values)
            bound = math.fsum(lows.tolist()) + math.fsum(self.v.tolist())
            best = self.v.copy()
            if len(rows) == 0 or (np.maximum(self.u - lows, 0.0).sum() <= tolerance and self.x[0] >= 0):
                break
            tolerance = PRICE_SHARE * monitor.common.tol * abs(bound)
            if self.x[0] < 0 and not self._predecessors(lows):
                self._assign_roughly(near)
                break
            self.indptr, self.column, self.arc = kernels.extend(self.arcs, near, self.indptr, self.column, m)
            if not self._assign(lows, tolerance / m):
                break
            values[:, 0] = lows
            rows = np.flatnonzero(self.u > lows + tolerance / m)
            near[:] = -1
        else:
            best = self.v
        if best is not None and monitor.affords(self.speed * m * m):
            self._prove(best)

    def _prove(self, prices: FloatArray) -> None:
        """Publish what prices prove over all arcs."""
        certificate = leaf_certificate(np.ldexp(self.renumber(prices[None, :]), self.exponent), False)
        bound = self.problem.sign * streamed_bound(self.problem, certificate.prices[0], PUBLISH)
        self.monitor.prove(bound, certificate)

    def _pass(self, rows: IntArray, values: FloatArray, near: IntArray) -> bool:
        """Least c_ij - v_j of some rows; False if the time is over."""
        monitor, n = self.monitor, self.problem.n
        _matrix, _perm, _sign, P, _Q, *_ = self.arcs
        items = rows[rows < n]
        share = max(1, int(PASS_ARCS / n))
        for first in range(0, len(items), share):
            if not monitor.running():
                return False
            if len(P):
                passes.nearest_factors(P, self.QT, self.v, items[first : first + share], values, near)
            else:
                passes.nearest_dense(self.arcs, self.v, items[first : first + share], values, near)
            monitor.checkpoint()
        if self.problem.depot:
            values[n, 0] = passes.cheapest_columns(self.v, n, near[n])
        return True

    def _predecessors(self, lows: FloatArray) -> bool:
        """Start the graph with each column's arcs of least c_ij - u_i, so that none is left to a distant row."""
        monitor, n, m = self.monitor, self.problem.n, self.problem.m
        _matrix, _perm, _sign, P, Q, *_ = self.arcs
        values, tails = np.empty((n, COLUMN_WIDTH)), np.empty((n, COLUMN_WIDTH), np.int64)
        PT = np.ascontiguousarray(P.T)
        share = max(1, int(PASS_ARCS / n)) if len(P) else n
        for first in range(0, n, share):
            if not monitor.running():
                return False
            if len(P) == 0:
                passes.nearest_rows(self.arcs, lows, values, tails)
                continue
            passes.nearest_factors(Q, PT, lows[:n], np.arange(first, min(first + share, n)), values, tails)
            monitor.checkpoint()
        order = np.argsort(tails, axis=None, kind="stable")
        self.indptr = np.searchsorted(tails.ravel()[order], np.arange(m + 1)).astype(np.int64)
        self.column = (order // COLUMN_WIDTH).astype(np.int32)
        return True

    def _row_minima(self, values: FloatArray) -> FloatArray:
        """u_i = min_j c_ij - v_j over all arcs, those of the depot among them."""
        lows = values[:, 0].copy()
        if self.problem.depot:
            n = self.problem.n
            start, end = self.arcs[5], self.arcs[6]
            rows: Any = slice(0, n) if end < 0 else [end]
            lows[rows] = np.minimum(lows[rows], -self.v[n])
            if start >= 0:
                lows[n] = -self.v[start]
        return lows

    def _assign(self, lows: FloatArray, eps: float) -> bool:
        """The assignment of least cost on the candidates; False if the time is over."""
        monitor, m = self.monitor, self.problem.m
        free = np.empty(m, np.int64)
        graph = (self.indptr, self.column, self.arc)
        count = kernels.price_rows(*graph, self.x, self.y, self.u, self.v, lows, eps, free)
        for _ in range(2):
            count = kernels.reduce_rows(*graph, self.x, self.y, self.u, self.v, free, count)
        self._tighten()
        while count > 0:
            if not (monitor.running() and monitor.affords(self.speed * m * m)):
                self.cut = True
                return False
            count = kernels.augment_forest(*graph, self.x, self.y, self.u, self.v, free, count)
            monitor.checkpoint()
        return True

    def _assign_roughly(self, near: IntArray) -> None:
        """Most rows to what the first pass has found for them until the time was over."""
        m = self.problem.m
        self.indptr, self.column, self.arc = kernels.extend(self.arcs, near, self.indptr, self.column, m)
        graph = (self.indptr, self.column, self.arc)
        kernels.reduce_rows(*graph, self.x, self.y, self.u, self.v, np.arange(m), m)

    def _tighten(self) -> None:
        """u from v, so that free rows have a tight arc."""
        m = self.problem.m
        free = np.empty(m, np.int64)
        kernels.price_rows(
            self.indptr, self.column, self.arc, self.x, self.y, self.u, self.v, np.full(m, np.inf), np.inf, free
        )

    def _search(self) -> None:
        """Patching and segment exchange; again with cycles in random order while there is something to gain."""
        monitor, m = self.monitor, self.problem.m
        near, reduced = np.empty((m, NEAR), np.int64), np.empty((m, NEAR))
        passes.successors(self.indptr, self.column, self.arc, self.v, near, reduced)
        tries = 1 if monitor.common.method == "greedy" else max(1, min(TRIES, int(TRY_WORK / m)))
        for attempt in range(tries):
            lots = monitor.common.rng.random(m) if attempt else np.empty(0)
            tour = self._patched(lots)
            self._take(tour)
            self._exchange(tour, near, reduced)
            if monitor.status is not None:
                break

    def _patched(self, lots: FloatArray) -> IntArray:
        """The cycles of the assignment as one."""
        m = self.problem.m
        x, y = self.x.copy(), self.y.copy()
        kernels.patch_cycles(self.arcs, self.indptr, self.column, x, y, lots)
        tour, node = np.empty(m, np.int64), 0
        for k in range(m):
            tour[k] = node
            node = x[node]
        return tour

    def _exchange(self, tour: IntArray, near: IntArray, reduced: FloatArray) -> None:
        """Segment exchange from every node, offered as it goes."""
        monitor, m = self.monitor, self.problem.m
        place, scratch = np.empty(m, np.int64), np.empty(m, np.int64)
        place[tour] = np.arange(m)
        queue, queued = tour.copy(), np.ones(m, np.bool_)
        left = m
        while left > 0 and monitor.running():
            left = kernels.exchange(
                self.arcs,
                self.v,
                near,
                reduced,
                tour,
                place,
                scratch,
                queue,
                queued,
                left,
                1e-13 * self.largest,
                EXCHANGES,
            )
            self._take(tour)
            monitor.checkpoint()


def _scaled(points: FloatArray) -> tuple[FloatArray, int]:
    """Points with moduli below 1 and the exponent of 2 that was taken out."""
    exponent = int(np.frexp(np.abs(points).max())[1])
    return np.ldexp(points, -exponent), exponent
