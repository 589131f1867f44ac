r"""k-means of one feature, solved exactly.

On a line optimal clusters are intervals of the sorted points x_1 < ... < x_n (equal rows are one point here), so that a
clustering is a path 0 = c_0 < c_1 < ... < c_K = n of cuts, of cost sum_k w(c_{k-1}, c_k), with w(j, i) the cost of the
points j + 1, ..., i. For a <= b <= c <= d

    w(a, c) + w(b, d) <= w(a, d) + w(b, c),                                                                  (Monge)

wherefore the least cost OPT_K of K intervals is convex in K, and a price lambda per interval finds it:

    OPT_K = max_{lambda >= 0} F(lambda) - lambda K,      F(lambda) = min over all paths of cost + lambda (intervals).

F(lambda) takes O(n log n), whatever K is, because the best last cut never moves left. Between a price that gives fewer
than K intervals and one that gives more, the price where both paths cost the same comes next: either a path of another
length is cheaper there, or both are optimal, and then their exchange at nested intervals gives one of K intervals that
is optimal too (Aggarwal, Schieber and Tokuyama 1994).

The values of the shortest paths at the last price are the potentials of the certificate; :mod:`clustering._line_bounds`
says what they prove.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from clustering import _kernels_line as kernels
from clustering._incumbent import fill_empty
from clustering._problem import KMeansProblem
from clustering._result import LineCertificate
from clustering._run import Run
from solvers._core.arrays import FloatArray, IntArray

__all__ = ["DEFAULT_PRICES", "solve_on_line"]

DEFAULT_PRICES = 200
# Prices tried below the one that gave K intervals, where rounding of large prices leaves a gap.
LOWER_PRICES = 12
# Paths whose costs differ by less, relatively, are both optimal as far as float64 can tell.
SAME = 1e-13
# Distinct points per interval from which on the price is looked for among a quarter as many first.
MANY_POINTS = 2_000
# F(lambda) may take this many times as long as the last time.
CAUTION = 1.5


@dataclass(frozen=True)
class _Priced:
    """A shortest path at a price: its cuts, its cost without the price, and the values of all shortest paths."""

    price: float
    cuts: IntArray
    cost: float
    values: FloatArray | None = None

    @property
    def length(self) -> int:
        return len(self.cuts) - 1

    @property
    def total(self) -> float:
        return self.cost + self.price * self.length


@dataclass(frozen=True)
class _State:
    """The path found last, the two nearest of fewer and of more than K intervals, and the cuts of K once known."""

    found: _Priced
    few: _Priced
    many: _Priced
    cuts: IntArray | None


class _Line:
    """Distinct points in order with weights, and shortest paths over them."""

    def __init__(self, points: FloatArray, weights: FloatArray, inverse: IntArray) -> None:
        self.points, self.weights, self.inverse, self.n = points, weights, inverse, len(points)
        self.sums = np.empty((self.n + 1, 6))
        kernels.prefix_sums(points, weights, self.sums)
        self._before, self._candidate, self._since = (np.empty(self.n + 1, dtype=np.int64) for _ in range(3))

    @classmethod
    def of(cls, problem: KMeansProblem) -> _Line:
        points, inverse = np.unique(problem.host_points[:, 0], return_inverse=True)
        weights: FloatArray = np.bincount(inverse, weights=problem.host_weights).astype(np.float64)
        return cls(points, weights, inverse)

    def thinned(self, step: int) -> _Line:
        """Every ``step``-th point with the weight of those up to the next."""
        starts = np.arange(0, self.n, step)
        return _Line(np.ascontiguousarray(self.points[starts]), np.add.reduceat(self.weights, starts), self.inverse[:0])

    def priced(self, price: float) -> _Priced:
        """A shortest path at a price."""
        values = np.empty(self.n + 1)
        kernels.penalised_paths(self.sums, price, values, self._before, self._candidate, self._since)
        cuts = [self.n]
        while cuts[-1] > 0:
            cuts.append(int(self._before[cuts[-1]]))
        return self.along(price, np.array(cuts[::-1], dtype=np.int64), values)

    def along(self, price: float, cuts: IntArray, values: FloatArray | None = None) -> _Priced:
        return _Priced(price, cuts, kernels.path_cost(self.sums, cuts), values)

    def smooth(self, n_clusters: int) -> float:
        """The price if costs fell like K^-2."""
        return 2.0 * self.along(0.0, np.array([0, self.n])).cost / n_clusters**3

    def labels(self, cuts: IntArray) -> IntArray:
        """Interval of each row."""
        sizes = np.diff(cuts)
        labels: IntArray = np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)[self.inverse]
        return labels


def solve_on_line(run: Run) -> None:
    """Optimal labels of one feature and their proof; each iteration of the run is one price."""
    monitor, n_clusters = run.monitor, run.problem.n_clusters
    line = _Line.of(run.problem)
    if n_clusters >= line.n:
        run.offer(fill_empty(run.problem, np.ascontiguousarray(line.inverse)))
        return
    prices = _prices(line, n_clusters, _first_price(line, n_clusters))
    state: _State | None = None
    took = 0.0
    while monitor.running():
        began = monitor.time
        state = next(prices)
        took = monitor.time - began
        monitor.checkpoint()
        if state.cuts is not None or not monitor.affords(CAUTION * took):
            break
    if state is None:
        return
    cuts = _exchanged(state.few.cuts, state.many.cuts, n_clusters) if state.cuts is None else state.cuts
    run.offer(line.labels(cuts))
    _prove(run, state.found)
    if state.found.length == n_clusters:
        _lower(run, line, state.found, took)


def _prices(line: _Line, n_clusters: int, price: float) -> Iterator[_State]:
    """Prices until a path of K intervals is optimal at the last one."""
    few, many = line.along(np.inf, np.array([0, line.n])), line.along(0.0, np.arange(line.n + 1))
    meeting = False
    while True:
        found = line.priced(price)
        both = min(few.cost + price * few.length, many.cost + price * many.length)
        if found.length == n_clusters:
            yield _State(found, few, many, found.cuts)
            return
        if meeting and found.total >= both * (1.0 - SAME):
            yield _State(found, few, many, _exchanged(few.cuts, many.cuts, n_clusters))
            return
        few, many = (found, many) if found.length < n_clusters else (few, found)
        yield _State(found, few, many, None)
        price, meeting = _next_price(found, few, many, n_clusters, guess=meeting)


def _first_price(line: _Line, n_clusters: int) -> float:
    """The last price for groups of neighbouring points where there are many points, else that of smooth data."""
    if line.n >= MANY_POINTS * n_clusters:
        fewer = line.thinned(4 * line.n // (MANY_POINTS * n_clusters))
        for state in _prices(fewer, n_clusters, line.smooth(n_clusters)):
            price = state.found.price
        return price
    return line.smooth(n_clusters)


def _next_price(last: _Priced, few: _Priced, many: _Priced, n_clusters: int, *, guess: bool) -> tuple[float, bool]:
    """The price where both paths cost the same, and whether it is that; every other time a guess, which is often nearer."""
    meeting = (few.cost - many.cost) / (many.length - few.length)
    power = last.price * (last.length / n_clusters) ** 3
    if guess and many.price < power < few.price:
        return power, False
    return meeting, True


def _exchanged(few: IntArray, many: IntArray, n_clusters: int) -> IntArray:
    """Cuts of K intervals: the start of ``many``, and ``few`` from where an interval of its holds one of the other's.

    Where both are optimal at one price, so is this.
    """
    ahead = n_clusters - (len(few) - 1)
    lead = many[ahead : ahead + len(few)] - few
    i = int(np.flatnonzero((lead[:-1] >= 0) & (lead[1:] <= 0))[0])
    return np.concatenate([many[: i + ahead + 1], few[i + 1 :]])


def _lower(run: Run, line: _Line, found: _Priced, took: float) -> None:
    """Look for a lower price of the same path: rounding is relative to the price, which may be large beside the cost."""
    monitor, least, low = run.monitor, found, 0.0
    price = found.cost / run.problem.n_clusters
    for _ in range(LOWER_PRICES):
        rounded = monitor.bound < found.cost * (1.0 - 0.5 * monitor.common.tol)
        if not (rounded and low < price < least.price and monitor.affords(CAUTION * took) and monitor.running()):
            return
        trial = line.priced(price)
        if trial.length == run.problem.n_clusters:
            least = trial
            _prove(run, trial)
            price = max(trial.price / 16.0, trial.cost / run.problem.n_clusters)
        else:
            low = price
            price = float(np.sqrt(low * least.price))
        monitor.checkpoint()


def _prove(run: Run, found: _Priced) -> None:
    assert found.values is not None
    run.prove(LineCertificate(found.values))
