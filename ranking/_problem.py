"""The path problem, and the cheapest Hamiltonian cycle as which it is solved; an open path closes through a depot."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ranking import _kernels_numba as kernels
from ranking._bounds import LARGEST_SCORE
from ranking._factors import Factors, are_factors, read_factors
from solvers._core.arrays import FloatArray, IntArray, as_float_array, refuse_beyond_memory
from solvers._core.errors import InvalidProblemError
from solvers._core.options import check_integer

__all__ = ["LARGE_ITEMS", "PathProblem", "path_problem", "read_scores"]

# Items above which memory is estimated, factors stay factors, and the search looks at candidate arcs.
LARGE_ITEMS = 2000
# Square matrices of doubles that a search over all arcs and its proof hold besides the caller's.
DENSE_MATRICES = 3
INSTEAD = "pass float64 scores in C order, or factors (U, V) of them"
EXPECTED = "a square (n, n) array of scores (forbidden arcs -inf, or +inf when minimising)"


class PathProblem(NamedTuple):
    """Scores (n, n), or more than LARGE_ITEMS of them as factors, the ends asked for (-1: free), whether the path closes.

    ``m`` counts the nodes of the cycle: the items, and the depot where the path is open. Costs are sign times scores.
    """

    scores: FloatArray | Factors
    start: int
    end: int
    closed: bool
    maximize: bool
    nodes: list[Any] | None
    n: int
    m: int
    sign: float
    depot: bool

    def costs(self, perm: IntArray) -> tuple[FloatArray, float, int]:
        """Cost matrix of the items in the order ``perm``, its largest finite modulus and number of forbidden arcs."""
        assert not isinstance(self.scores, Factors)
        if self.n > LARGE_ITEMS:
            refuse_beyond_memory(
                8.0 * DENSE_MATRICES * self.m**2,
                what=f"ranking {self.n} items over all arcs",
                instead="rank a subset of the items, or use method='auto' without forbidden arcs",
            )
        c = np.empty((self.m, self.m))
        nans, attractive, forbidden, largest = kernels.build_costs(
            self.scores, perm, self.sign, self.depot, self.start, self.end, c
        )
        self.refuse(nans, attractive, largest)
        return c, largest, forbidden

    def refuse(self, nans: int, attractive: int, largest: float) -> None:
        """Raise if the scores hold NaN, attracting infinities, or moduli whose sums may overflow."""
        if nans:
            raise InvalidProblemError(f"scores must be {EXPECTED}; got {nans} NaN off the diagonal")
        if attractive:
            infinity = "+inf" if self.maximize else "-inf"
            raise InvalidProblemError(
                f"scores must be {EXPECTED}; got {attractive} entries {infinity}, of which no path value can be made"
            )
        if largest > LARGEST_SCORE:
            raise InvalidProblemError(f"scores must be {EXPECTED}, of modulus below 2**1000; got {largest!r}")

    def at(self, tails: IntArray, heads: IntArray) -> FloatArray:
        """Scores of some arcs."""
        if isinstance(self.scores, Factors):
            return self.scores.at(tails, heads)
        return self.scores[tails, heads]

    def arcs(self, order: IntArray) -> list[float]:
        """Scores along the path, the closing arc last."""
        if self.n == 1:
            return []
        values: list[float] = self.at(order[:-1], order[1:]).tolist()
        if self.closed:
            values.extend(self.at(order[-1:], order[:1]).tolist())
        return values

    def value(self, order: IntArray) -> tuple[float, float]:
        """Score of an order, rounded once, and the sum of the moduli of its arcs."""
        arcs = self.arcs(order)
        return math.fsum(arcs), math.fsum(map(abs, arcs))

    def forbids(self, order: IntArray) -> str:
        """What is wrong with a permutation of the items as an answer; empty if nothing."""
        if self.start >= 0 and order[0] != self.start:
            return f"it must begin with item {self.start}, not {order[0]}"
        if self.end >= 0 and order[-1] != self.end:
            return f"it must end with item {self.end}, not {order[-1]}"
        bad = np.flatnonzero(np.isinf(self.arcs(order)))
        if len(bad):
            return f"the arc from item {order[bad[0]]} to item {order[(bad[0] + 1) % self.n]} is forbidden"
        return ""

    def order_of(self, tour: IntArray) -> IntArray:
        """Order of the items along a cycle of nodes; a closed one begins at ``start``, or behind its weakest arc."""
        if self.depot:
            at = int((tour == self.n).argmax())
            return np.concatenate([tour[at + 1 :], tour[:at]])
        if self.start >= 0:
            at = int((tour == self.start).argmax())
        elif self.n == 1:
            at = 0
        else:
            arcs = self.sign * self.at(np.roll(tour, 1), tour)
            at = int(np.argmax(arcs))
        return np.concatenate([tour[at:], tour[:at]])


def path_problem(scores: Any, start: Any, end: Any, closed: bool, maximize: bool) -> PathProblem:
    """Validate the problem arguments; the entries themselves are checked while the costs are made."""
    for name, flag in (("closed", closed), ("maximize", maximize)):
        if not isinstance(flag, (bool, np.bool_)):
            raise TypeError(f"{name} must be True or False; got {flag!r}")
    matrix: FloatArray | Factors
    nodes: list[Any] | None = None
    if are_factors(scores):
        matrix = read_factors(scores)
        matrix = matrix if len(matrix) > LARGE_ITEMS else matrix.dense()
    else:
        matrix, nodes = read_scores(scores, bool(maximize))
    n = len(matrix)
    ends = []
    for name, node in (("start", start), ("end", end)):
        if node is not None and nodes is not None:
            if node not in nodes:
                raise InvalidProblemError(f"{name} must be a node of the graph; got {node!r}")
            ends.append(nodes.index(node))
        else:
            ends.append(-1 if node is None else check_integer(name, node, low=0, high=n - 1))
    if closed and ends[1] >= 0:
        raise InvalidProblemError(f"end must be None when closed=True: a cycle has no end; got {end!r}")
    if n > 1 and ends[0] >= 0 and ends[0] == ends[1]:
        raise InvalidProblemError(f"start and end must differ for {n} items; got {start!r} for both")
    sign = -1.0 if maximize else 1.0
    return PathProblem(
        matrix, ends[0], ends[1], bool(closed), bool(maximize), nodes, n, n + (not closed), sign, not closed
    )


def read_scores(scores: Any, maximize: bool) -> tuple[FloatArray, list[Any] | None]:
    """A square float64 matrix and, for a graph, its nodes; absent arcs are forbidden."""
    if hasattr(scores, "is_directed") and hasattr(scores, "adjacency"):
        nodes = list(scores)
        if not scores.is_directed():
            raise InvalidProblemError(
                "scores must be a directed graph (networkx.DiGraph); got an undirected one: its to_directed() has each edge "
                "both ways"
            )
        if scores.is_multigraph():
            raise InvalidProblemError("scores must be a simple directed graph; got a multigraph")
        if not nodes:
            raise InvalidProblemError("scores must be a graph of at least one node; got an empty graph")
        if len(nodes) > LARGE_ITEMS:
            refuse_beyond_memory(8.0 * len(nodes) ** 2, what=f"scores of {len(nodes)} items", instead="rank a subgraph")
        place = {node: i for i, node in enumerate(nodes)}
        matrix = np.full((len(nodes), len(nodes)), -np.inf if maximize else np.inf)
        for tail, head, weight in scores.edges(data="weight", default=1.0):
            matrix[place[tail], place[head]] = weight
        return matrix, nodes
    if not (isinstance(scores, np.ndarray) and scores.dtype == np.float64 and scores.flags.c_contiguous):
        items = len(scores) if hasattr(scores, "__len__") else 0
        if items > LARGE_ITEMS:
            refuse_beyond_memory(8.0 * items**2, what=f"a float64 copy of the scores of {items} items", instead=INSTEAD)
    matrix = as_float_array(scores, "scores", ndim=2, finite=False, expected=EXPECTED)
    n, columns = matrix.shape
    if n != columns:
        raise InvalidProblemError(f"scores must be {EXPECTED}; got shape {matrix.shape}")
    return matrix, None
