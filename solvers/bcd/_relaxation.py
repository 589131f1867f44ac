r"""Projected over-relaxation of x^T Q x / 2 - c^T x on l <= x <= u, in colour order.

Nodes of one colour have no edges among themselves, so their updates do not wait for each other: sweeps over a matrix renumbered
by colour run several times as fast as in natural order, where each node needs the one before. Convergence is the same.

The relaxation factor starts from how firmly the graph is tied to the ground and is raised on the way where that was too low
(Hageman and Young 1981, chapter 9): the ratio R of the squared moves of two sweeps
estimates the eigenvalue lambda of the relaxation, (lambda + omega - 1)^2 = lambda omega^2 mu^2 gives the radius mu of Jacobi's
iteration, and mu the best omega = 2 / (1 + sqrt(1 - mu^2)).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.jit import njit
from solvers.bcd._quadratic import compressed

__all__ = ["ColouredRelaxation", "first_omega"]

# Least eigenvalue of D^{-1} Q over 1^T Q 1 / 1^T D 1 on lattices with 0.2 to 4 % of the nodes labelled.
LEAST_SHARE = 0.2
LARGEST_FIRST = 1.99
# Hageman and Young's safeguard: omega is changed only where eigenvalues exceed this power of omega - 1.
DAMPING = 0.5
LARGEST_STEP = 1.4
# A rate has settled once its distance from one has grown by less than this share between two batches.
SETTLED = 0.05
# Sweeps between two estimates of the rate.
BATCH = 5


class ColouredRelaxation:
    """One bounded quadratic, renumbered by colour, and its current point."""

    def __init__(
        self,
        graph: scipy.sparse.csr_array,
        diagonal: FloatArray,
        c: FloatArray,
        lower: FloatArray,
        upper: FloatArray,
        omega: float,
    ) -> None:
        self._order, starts = colour_order(*compressed(graph))
        n = len(self._order)
        self._arrays = _renumbered(*compressed(graph), diagonal, self._order)
        self._diagonal = diagonal[self._order]
        self._c = c[self._order] / self._diagonal
        self._lower, self._upper = (np.ascontiguousarray(side[self._order]) for side in (lower, upper))
        self._x = np.empty(n)
        self.colours = len(starts) - 1
        self._omega = omega
        self._eigenvalue = math.inf
        self._moves = math.inf

    def begin(self, x: FloatArray) -> None:
        """Go on from x."""
        self._x = x[self._order]
        self._moves = math.inf

    def step(self, sweeps: int, shrink: float) -> FloatArray:
        """Sweep until the squared moves have shrunk by a factor; the point."""
        target = 0.0
        for done in range(0, sweeps, BATCH):
            first, last = _sweeps(
                *self._arrays, self._c, self._diagonal, self._lower, self._upper, self._x, self._omega, BATCH
            )
            if done == 0:
                target = shrink * min(self._moves, first)
            self._moves = last
            if last <= target:
                break
            rate = (last / first) ** (1.0 / (BATCH - 1)) if first > 0 else 0.0
            self._accelerate(math.sqrt(rate))
        out = np.empty_like(self._x)
        out[self._order] = self._x
        return out

    @property
    def omega(self) -> float:
        """The relaxation factor in use."""
        return self._omega

    def _accelerate(self, eigenvalue: float) -> None:
        """Raise omega where the observed rate has settled and says that it is below the best one."""
        omega = self._omega
        settled, self._eigenvalue = eigenvalue >= self._eigenvalue - SETTLED * (1.0 - eigenvalue), eigenvalue
        # At or above the best omega every eigenvalue has modulus omega - 1, and nothing can be read from the rate.
        if settled and (omega - 1.0) ** DAMPING < eigenvalue < 1.0:
            square = (eigenvalue + omega - 1.0) ** 2 / (eigenvalue * omega * omega)
            best = 2.0 / (1.0 + math.sqrt(max(1.0 - square, 0.0)))
            self._omega = max(omega, min(best, 2.0 - (2.0 - omega) / LARGEST_STEP))
            self._eigenvalue = math.inf


def first_omega(diagonal: FloatArray, row_sums: FloatArray) -> float:
    """Young's best factor for a graph grounded evenly: the least eigenvalue is a fraction of the mean slack's share."""
    grounding = float(np.sum(np.maximum(2.0 * diagonal - row_sums, 0.0)) / np.sum(diagonal))
    return min(2.0 / (1.0 + math.sqrt(min(2.0 * LEAST_SHARE * grounding, 1.0))), LARGEST_FIRST)


@njit()
def colour_order(data: FloatArray, indices: IntArray, indptr: IntArray) -> tuple[IntArray, IntArray]:
    """Nodes by colour, each taking in natural order the first one that no neighbour has; and where colours start."""
    n = len(indptr) - 1
    colour = np.full(n, -1, dtype=np.int64)
    stamp = np.full(n + 1, -1, dtype=np.int64)
    counts = np.zeros(n + 2, dtype=np.int64)
    used = 0
    for i in range(n):
        for k in range(indptr[i], indptr[i + 1]):
            j = indices[k]
            if j != i and colour[j] >= 0 and data[k] != 0.0:
                stamp[colour[j]] = i
        own = 0
        while stamp[own] == i:
            own += 1
        colour[i] = own
        counts[own + 1] += 1
        used = max(used, own + 1)
    for k in range(used):
        counts[k + 1] += counts[k]
    starts = counts[: used + 1].copy()
    order = np.empty(n, dtype=np.int64)
    for i in range(n):
        order[counts[colour[i]]] = i
        counts[colour[i]] += 1
    return order, starts


@njit()
def _renumbered(
    data: FloatArray, indices: IntArray, indptr: IntArray, diagonal: FloatArray, order: IntArray
) -> tuple[FloatArray, Any, Any]:
    """Off-diagonal entries over the diagonal, rows and columns in the given order."""
    n = len(order)
    place = np.empty(n, dtype=np.int32)
    for k in range(n):
        place[order[k]] = k
    # Unsigned: compiled code need not look for negative positions.
    starts = np.empty(n + 1, dtype=np.uint32)
    values, columns = np.empty(len(data)), np.empty(len(data), dtype=np.uint32)
    at = 0
    for k in range(n):
        i = order[k]
        starts[k] = at
        for e in range(indptr[i], indptr[i + 1]):
            if indices[e] != i and data[e] != 0.0:
                values[at] = data[e] / diagonal[i]
                columns[at] = place[indices[e]]
                at += 1
    starts[n] = at
    return values[:at].copy(), columns[:at].copy(), starts


@njit()
def _sweeps(
    values: FloatArray,
    columns: IntArray,
    starts: IntArray,
    c: FloatArray,
    diagonal: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    x: FloatArray,
    omega: float,
    sweeps: int,
) -> tuple[float, float]:
    """Projected sweeps in place; squared moves of the first and the last, in the metric of the diagonal."""
    first = last = 0.0
    n = len(x)
    for number in range(sweeps):
        last = 0.0
        measured = number == 0 or number == sweeps - 1
        for k in range(n):
            total = c[k]
            for e in range(starts[k], starts[k + 1]):
                total -= values[e] * x[columns[e]]
            before = x[k]
            fresh = min(max(before + omega * (total - before), lower[k]), upper[k])
            x[k] = fresh
            if measured:
                last += diagonal[k] * (fresh - before) * (fresh - before)
        if number == 0:
            first = last
    return first, last
