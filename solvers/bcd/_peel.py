r"""Near-forests: trees and chains are eliminated exactly in linear time, and a small core is left.

A node with at most two neighbours can be eliminated with at most one new entry, between them. Leaves go first, which removes
every tree that hangs on the rest; then chains of nodes with two neighbours shrink to single edges between the nodes where they
meet; and again, while that helps. A forest leaves nothing, a tree with k more edges at most 2 k - 2 nodes.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.jit import njit
from solvers.bcd._forest_kernels import eliminate
from solvers.bcd._quadratic import compressed
from solvers.bcd._red_black import RedBlackSystem
from solvers.bcd._schur import SchurSystem

__all__ = ["FreeSystem"]

# A level that removes a smaller share of the nodes is not worth its passes.
WORTHWHILE = 0.1
# Cores up to this size are factorised.
DENSE_CORE = 1000


class _Level:
    """One round of elimination: trees, then chains; ``nodes`` are left and ``core`` is their matrix."""

    def __init__(self, graph: scipy.sparse.csr_array) -> None:
        n = graph.shape[0]
        csr = compressed(graph)
        order, parent, degree = (np.empty(n, dtype=np.int64) for _ in range(3))
        weight, pivot = np.zeros(n), np.empty(n)
        count = eliminate(*csr, np.ones(n, dtype=np.int64), order, parent, weight, pivot, degree)
        beside = np.full(n, -1, dtype=np.int64)
        other = np.zeros(n)
        kept = np.empty(n, dtype=np.int64)
        rows, columns, values = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64), np.empty(n)
        count, edges, left = _contract_chains(
            *csr, degree, count, order, parent, weight, beside, other, pivot, kept, rows, columns, values
        )
        self.order: IntArray = order[:count]
        self.parent, self.beside, self.pivot = parent, beside, pivot
        self.sound = bool(np.all(pivot[self.order] > 0))
        self.ratio, self.other = np.zeros(n), np.zeros(n)
        at = self.order
        with np.errstate(divide="ignore", invalid="ignore"):
            self.ratio[at], self.other[at] = weight[at] / pivot[at], other[at] / pivot[at]
        self.nodes: IntArray = kept[:left]
        self._edges = (rows[:edges], columns[:edges], values[:edges])
        self._graph = graph

    @property
    def removed(self) -> float:
        """Share of the nodes eliminated."""
        return len(self.order) / len(self.pivot)

    def core(self) -> scipy.sparse.csr_array:
        """The matrix of the nodes left: their own entries, with pivots on the diagonal, and the shrunken chains."""
        n, m = len(self.pivot), len(self.nodes)
        place = np.full(n, -1, dtype=np.int64)
        place[self.nodes] = np.arange(m)
        own = self._graph[self.nodes][:, self.nodes].tocoo()
        off = own.row != own.col
        rows, columns, values = (place[self._edges[0]], place[self._edges[1]], self._edges[2])
        diagonal = np.arange(m)
        return scipy.sparse.csr_array(
            (
                np.concatenate([own.data[off], values, values, self.pivot[self.nodes]]),
                (
                    np.concatenate([own.row[off], rows, columns, diagonal]),
                    np.concatenate([own.col[off], columns, rows, diagonal]),
                ),
            ),
            shape=(m, m),
        )

    def reduce(self, c: FloatArray) -> FloatArray:
        """The right-hand side after elimination, all nodes."""
        b = c.copy()
        _forward(self.order, self.parent, self.ratio, self.beside, self.other, b)
        return b

    def extend(self, b: FloatArray, inner: FloatArray) -> FloatArray:
        """Values of all nodes, given those of the core."""
        x = b.copy()
        x[self.nodes] = inner
        _backward(self.order, self.parent, self.ratio, self.beside, self.other, self.pivot, x)
        return x


class FreeSystem:
    """Q x = c for one sparse Q: peeled, and what is left factorised if small or else iterated.

    Attributes
    ----------
    sound : bool
        Whether every pivot is positive; nothing else may be used where not.
    exact : bool
        Whether ``step`` solves at once.
    """

    def __init__(self, graph: scipy.sparse.csr_array) -> None:
        self.graph = graph
        self._levels: list[_Level] = []
        self.sound = True
        core = graph
        while core.shape[0] and _share_of_low_degree(core) >= WORTHWHILE:
            level = _Level(core)
            if level.removed < WORTHWHILE:
                break
            self._levels.append(level)
            self.sound = self.sound and level.sound
            if not self.sound:
                return
            core = level.core()
        self._dense: tuple[FloatArray, bool] | None = None
        self._core: RedBlackSystem | SchurSystem | None = None
        if 0 < core.shape[0] <= DENSE_CORE:
            try:
                self._dense = scipy.linalg.cho_factor(core.toarray(), lower=True, check_finite=False)
            except np.linalg.LinAlgError:
                self.sound = False
        elif core.shape[0]:
            self._core = RedBlackSystem.of(core) or SchurSystem(core)
            self.sound = self._core.sound
        self._reduced: list[FloatArray] = []

    @property
    def exact(self) -> bool:
        """Nothing is left to iterate."""
        return self._core is None

    def sibling(self) -> FreeSystem:
        """The same factors with a state of its own."""
        other = FreeSystem.__new__(FreeSystem)
        other.__dict__.update(self.__dict__)
        if self._core is not None:
            other._core = self._core.sibling()
        return other

    def begin(self, x: FloatArray, c: FloatArray) -> None:
        """Start (or restart) at x."""
        self._c = c
        self._reduced = []
        for level in self._levels:
            c = level.reduce(c)
            self._reduced.append(c)
            c, x = c[level.nodes], x[level.nodes]
        if self._core is not None:
            self._core.begin(x, c)

    def step(self, iterations: int, shrink: float) -> FloatArray | None:
        """Improve until the squared residual has shrunk by a factor; None where Q is not definite."""
        if self.exact:
            return self._solve()
        assert self._core is not None
        inner = self._core.step(iterations, shrink)
        return None if inner is None else self._extended(inner)

    def _extended(self, inner: FloatArray) -> FloatArray:
        for level, reduced in zip(reversed(self._levels), reversed(self._reduced), strict=True):
            inner = level.extend(reduced, inner)
        return inner

    def _solve(self) -> FloatArray:
        """Eliminate all of it, then correct once by the residual."""
        c, x = self._c, np.zeros(len(self._c))
        for _ in range(2):
            self.begin(x, c - self.graph @ x)
            rest = self._reduced[-1][self._levels[-1].nodes] if self._levels else self._c
            if self._dense is not None:
                rest = scipy.linalg.cho_solve(self._dense, rest, check_finite=False)
            x = x + self._extended(rest)
        self._c = c
        return x


def _share_of_low_degree(graph: scipy.sparse.csr_array) -> float:
    """Nodes with at most two neighbours, besides their own entry."""
    return float(np.count_nonzero(np.diff(graph.indptr) <= 3)) / graph.shape[0]


@njit()
def _contract_chains(
    data: FloatArray,
    indices: IntArray,
    indptr: IntArray,
    degree: IntArray,
    count: int,
    order: IntArray,
    parent: IntArray,
    weight: FloatArray,
    beside: IntArray,
    other: FloatArray,
    pivot: FloatArray,
    kept: IntArray,
    rows: IntArray,
    columns: IntArray,
    values: FloatArray,
) -> tuple[int, int, int]:
    """Eliminate the nodes of degree two among those with ``degree >= 0``, chain by chain.

    A node of a chain is left with two neighbours: the next one (``parent``, ``weight``) and the node where the chain began
    (``beside``, ``other``). Returns the numbers of nodes eliminated in all, of edges (rows, columns, values) that stand for
    chains, and of nodes kept.
    """
    n = len(degree)
    edges = left = 0
    # A component that is one cycle has no meeting point: its first node is made one.
    for cycles in range(2):
        for start in range(n):
            meets = degree[start] >= 3 if cycles == 0 else degree[start] == 2
            if not meets:
                continue
            degree[start] = max(degree[start], 3)
            kept[left] = start
            left += 1
            for e in range(indptr[start], indptr[start + 1]):
                current, before = indices[e], start
                if current == start or degree[current] != 2 or data[e] == 0.0:
                    continue
                towards = data[e]
                while True:
                    following, step = -1, 0.0
                    for k in range(indptr[current], indptr[current + 1]):
                        j = indices[k]
                        if j != current and j != before and degree[j] >= 2 and data[k] != 0.0:
                            following, step = j, data[k]
                    degree[current] = -1
                    order[count] = current
                    count += 1
                    D = pivot[current]
                    if following == start:
                        parent[current], weight[current] = start, towards + step
                        if D > 0.0:
                            pivot[start] -= (towards + step) * (towards + step) / D
                        break
                    parent[current], weight[current] = following, step
                    beside[current], other[current] = start, towards
                    if D > 0.0:
                        pivot[start] -= towards * towards / D
                        pivot[following] -= step * step / D
                        towards = -towards * step / D
                    if degree[following] >= 3:
                        rows[edges], columns[edges], values[edges] = start, following, towards
                        edges += 1
                        break
                    before, current = current, following
    return count, edges, left


@njit()
def _forward(
    order: IntArray, parent: IntArray, ratio: FloatArray, beside: IntArray, other: FloatArray, b: FloatArray
) -> None:
    for i in order:
        if parent[i] >= 0:
            b[parent[i]] -= ratio[i] * b[i]
        if beside[i] >= 0:
            b[beside[i]] -= other[i] * b[i]


@njit()
def _backward(
    order: IntArray,
    parent: IntArray,
    ratio: FloatArray,
    beside: IntArray,
    other: FloatArray,
    pivot: FloatArray,
    x: FloatArray,
) -> None:
    for k in range(len(order) - 1, -1, -1):
        i = order[k]
        value = x[i] / pivot[i]
        if parent[i] >= 0:
            value -= ratio[i] * x[parent[i]]
        if beside[i] >= 0:
            value -= other[i] * x[beside[i]]
        x[i] = value
