"""Free sparse systems Q x = c: an induced forest is eliminated exactly, conjugate gradients solve what is left.

Grow an induced forest greedily (two thirds of a lattice) and number it 1, the rest 2. Then S = A22 - A21 A11^{-1} A12 has a
much smaller condition number than Q, a product with S costs two passes over the forest, and a second induced forest, of A22,
serves as preconditioner. Both factors depend on Q only: further right-hand sides share them.

Where little ties the graph to the ground, smooth errors are left. They are taken out by a coarse space: with P piecewise
constant on some hundreds of connected aggregates, P (P^T Q P)^{-1} P^T restricted to the rest is added to the preconditioner.
It stays below S^{-1} = (Q^{-1})_22, since P (P^T Q P)^{-1} P^T never exceeds Q^{-1}.
"""

from __future__ import annotations

import copy

import numpy as np
import scipy.linalg
import scipy.sparse

from solvers._core.arrays import FloatArray, IntArray
from solvers.bcd._forest_kernels import eliminate, greedy_forest
from solvers.bcd._quadratic import compressed, diagonal_and_sums
from solvers.bcd._schur_kernels import (
    aggregates,
    coarse_matrix,
    couplings,
    eliminated_part,
    forest_positions,
    schur_cg,
)

__all__ = ["SchurSystem", "coarse_space"]

# Large graphs whose slack is below this share of the diagonal get a coarse space of about so many aggregates.
COARSE_NODES = 5000
COARSE_GROUND = 0.01
AGGREGATES = 500


# Aggregates and inverse where none is wanted.
NO_COARSE_SPACE = np.zeros(1, dtype=np.int64), np.empty((0, 0))


def coarse_space(graph: scipy.sparse.csr_array, diagonal: FloatArray, sums: FloatArray) -> tuple[IntArray, FloatArray]:
    """The aggregate of each node, and the inverse of the coarse matrix; empty where not wanted.

    ``sums`` are those of the absolute values of the rows.
    """
    csr = compressed(graph)
    n = graph.shape[0]
    if n < COARSE_NODES:
        return NO_COARSE_SPACE
    if float(np.sum(np.maximum(2.0 * diagonal - sums, 0.0))) > COARSE_GROUND * float(np.sum(diagonal)):
        return NO_COARSE_SPACE
    member, count = aggregates(*csr, -(-n // AGGREGATES))
    if count > 4 * AGGREGATES:
        return NO_COARSE_SPACE
    try:
        factor = scipy.linalg.cho_factor(coarse_matrix(*csr, member, count), lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        return NO_COARSE_SPACE
    inverse = scipy.linalg.cho_solve(factor, np.eye(count), check_finite=False)
    return member, np.ascontiguousarray(inverse)


class _Factor:
    """Leaf elimination of an induced forest, in elimination order; other nodes of the list stand alone."""

    def __init__(
        self, graph: scipy.sparse.csr_array, inside: IntArray, alone: IntArray, place: IntArray, degree: IntArray
    ) -> None:
        n = graph.shape[0]
        order, parent = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
        weight, pivot = np.empty(n), np.empty(n)
        count = eliminate(*compressed(graph), inside, order, parent, weight, pivot, degree)
        if len(alone):
            pivot[alone] = graph.diagonal()[alone]
            parent[alone] = -1
        self.order: IntArray = np.concatenate([order[:count], alone])
        self.sound = bool(np.all(pivot[self.order] > 0))
        self.up, self.ratio, self.inverse = forest_positions(self.order, parent, weight, pivot, place)

    @property
    def arrays(self) -> tuple[IntArray, FloatArray, FloatArray]:
        return self.up, self.ratio, self.inverse


class SchurSystem:
    """Factors of one matrix and the state of one right-hand side.

    Attributes
    ----------
    sound : bool
        Whether every pivot is positive; nothing else may be used where not.
    """

    def __init__(self, graph: scipy.sparse.csr_array) -> None:
        n = graph.shape[0]
        self.graph = graph
        parent, stamp, inside, degree, place = (np.empty(n, dtype=np.int64) for _ in range(5))
        # Natural order keeps neighbours together in memory.
        greedy_forest(np.arange(n), *compressed(graph)[1:], parent, stamp, inside)
        self.first = _Factor(graph, inside, np.empty(0, dtype=np.int64), place, degree)
        rest = np.flatnonzero(inside == 0)
        second = np.empty(n, dtype=np.int64)
        greedy_forest(rest, *compressed(graph)[1:], parent, stamp, second)
        self.second = _Factor(graph, second, rest[second[rest] == 0], place, degree)
        self.sound = self.first.sound and self.second.sound
        outside = 1 - inside
        csr = compressed(graph)
        self._across = couplings(*csr, self.first.order, outside, place)
        self._own = couplings(*csr, self.second.order, outside, place)
        self._plain = not np.any(self.second.ratio)
        diagonal, sums = np.empty(n), np.empty(n)
        diagonal_and_sums(*csr, diagonal, sums)
        member, self._coarse = coarse_space(graph, diagonal, sums) if self.sound else NO_COARSE_SPACE
        self._member = member[self.second.order] if len(self._coarse) else member
        self._rho = -1.0

    def sibling(self) -> SchurSystem:
        """The same factors with a state of its own."""
        return copy.copy(self)

    def begin(self, x: FloatArray, c: FloatArray) -> None:
        """Start (or restart) the iteration at x."""
        first, second = self.first, self.second
        self._b = c[first.order]
        self._x = x[second.order].copy()
        # With the forest eliminated its residual is zero, and the rest's is that of S.
        self._r = (c - self.graph @ self._filled())[second.order]
        self._p = np.empty_like(self._r)
        self._rho = -1.0
        self.work = 0

    def step(self, iterations: int, shrink: float) -> FloatArray | None:
        """Iterate until the squared residual has shrunk by a factor; the point, or None where Q is not definite."""
        target = shrink * self._rho if self._rho > 0 else -shrink
        if target < 0:
            self._rho, _ = self._run(0, 0.0)
            target = shrink * self._rho
        self._rho, done = self._run(iterations, target)
        self.work += done
        return None if self._rho < 0.0 else self._filled()

    def _run(self, iterations: int, target: float) -> tuple[float, int]:
        rho, done = schur_cg(
            *self.first.arrays, *self._across, *self.second.arrays, self._plain, self._member, self._coarse, *self._own,
            self._x, self._r, self._p, self._rho, iterations, target,
        )  # fmt: skip
        return rho, done

    def _filled(self) -> FloatArray:
        inner = np.empty(len(self.first.order) + 1)
        eliminated_part(*self.first.arrays, *self._across, self._b, self._x, inner)
        out = np.empty(self.graph.shape[0])
        out[self.second.order] = self._x
        out[self.first.order] = inner[:-1]
        return out
