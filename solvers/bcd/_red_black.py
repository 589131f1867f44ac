"""Free sparse systems Q x = c on bipartite graphs: one colour is eliminated, conjugate gradients solve for the other.

Scaled to a unit diagonal, Q = [[I, B], [B^T, I]] with B the couplings of the two colours, and the Schur complement of the first
colour is I - B^T B. Its spectrum is that of Q folded onto itself, so that conjugate gradients need half the iterations (Reid
1972), on half of the unknowns; and both products of an iteration, its curvature |p|^2 - |B p|^2 included, take one pass over B.

A coarse space removes the smooth errors of weakly grounded graphs, as in :mod:`solvers.bcd._schur`.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import scipy.sparse

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.jit import njit
from solvers.bcd._quadratic import compressed, diagonal_and_sums
from solvers.bcd._schur import coarse_space

__all__ = ["RedBlackSystem", "two_colours"]


class RedBlackSystem:
    """Couplings of one matrix with a two-colouring, and the state of one right-hand side.

    Parameters
    ----------
    graph : (n, n) CSR
        Symmetric.
    colour : (n,) array
        0 or 1, different across every edge.

    Attributes
    ----------
    sound : bool
        Whether the diagonal is positive; nothing else may be used where not.
    """

    def __init__(self, graph: scipy.sparse.csr_array, colour: Any) -> None:
        diagonal, sums = np.empty(graph.shape[0]), np.empty(graph.shape[0])
        diagonal_and_sums(*compressed(graph), diagonal, sums)
        self.sound = bool(np.all(diagonal > 0))
        if not self.sound:
            return
        # The larger colour is eliminated.
        eliminated = int(2 * np.count_nonzero(colour) > len(colour))
        self._rows, self._kept = np.flatnonzero(colour == eliminated), np.flatnonzero(colour != eliminated)
        self._root = np.sqrt(diagonal)
        self._couplings = _scaled_couplings(*compressed(graph), self._rows, self._kept, self._root)
        self._weight = self._root[self._kept]
        member, self._coarse = coarse_space(graph, diagonal, sums)
        self._member = member[self._kept] if len(self._coarse) else member

    @classmethod
    def of(cls, graph: scipy.sparse.csr_array) -> RedBlackSystem | None:
        """For a bipartite graph; None for others."""
        colour = np.empty(graph.shape[0], dtype=np.int8)
        return cls(graph, colour) if two_colours(*compressed(graph), colour) else None

    def sibling(self) -> RedBlackSystem:
        """The same couplings with a state of its own."""
        return copy.copy(self)

    def begin(self, x: FloatArray, c: FloatArray) -> None:
        """Start (or restart) the iteration at x."""
        scaled = c / self._root
        self._b = scaled[self._rows]
        self._y = (x * self._root)[self._kept]
        self._r = scaled[self._kept] - self._y
        _eliminate(*self._couplings, self._b, self._y, np.empty_like(self._b), self._r)
        self._p = np.empty_like(self._r)
        self._rho = -1.0
        self.work = 0

    def step(self, iterations: int, shrink: float) -> FloatArray | None:
        """Iterate until the squared residual has shrunk by a factor; the point, or None where Q is not definite."""
        state = (self._y, self._r, self._p)
        shared = (*self._couplings, self._member, self._weight, self._coarse)
        if self._rho < 0.0:
            self._rho, _ = _red_black_cg(*shared, *state, -1.0, 0, 0.0)
        self._rho, done = _red_black_cg(*shared, *state, self._rho, iterations, shrink * self._rho)
        self.work += done
        if self._rho < 0.0:
            return None
        inner = np.empty_like(self._b)
        _eliminate(*self._couplings, self._b, self._y, inner, np.zeros_like(self._r))
        out = np.empty(len(self._root))
        out[self._rows], out[self._kept] = inner, self._y
        return out / self._root


@njit()
def two_colours(data: FloatArray, indices: IntArray, indptr: IntArray, colour: Any) -> bool:
    """Fill ``colour`` with 0 and 1 so that no edge joins equals; False where a cycle is odd."""
    n = len(colour)
    for i in range(n):
        colour[i] = -1
    stack = np.empty(n, dtype=np.int32)
    for start in range(n):
        if colour[start] >= 0:
            continue
        colour[start] = 0
        stack[0] = start
        height = 1
        while height > 0:
            height -= 1
            i = stack[height]
            own = colour[i]
            # Backwards, so that the stack goes along rows of a lattice.
            for k in range(indptr[i + 1] - 1, indptr[i] - 1, -1):
                j = indices[k]
                if j == i or data[k] == 0.0:
                    continue
                if colour[j] < 0:
                    colour[j] = 1 - own
                    stack[height] = j
                    height += 1
                elif colour[j] == own:
                    return False
    return True


@njit()
def _scaled_couplings(
    data: FloatArray, indices: IntArray, indptr: IntArray, rows: IntArray, kept: IntArray, root: FloatArray
) -> tuple[FloatArray, Any, Any]:
    """CSR arrays of B: rows of the eliminated colour, columns numbered along the kept one."""
    place = np.empty(len(root), dtype=np.uint32)
    for k in range(len(kept)):
        place[kept[k]] = k
    starts = np.empty(len(rows) + 1, dtype=np.uint32)
    values, columns = np.empty(len(data)), np.empty(len(data), dtype=np.uint32)
    at = 0
    for k in range(len(rows)):
        starts[k] = at
        i = rows[k]
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            if j != i and data[e] != 0.0:
                values[at] = data[e] / (root[i] * root[j])
                columns[at] = place[j]
                at += 1
    starts[len(rows)] = at
    return values[:at].copy(), columns[:at].copy(), starts


@njit()
def _eliminate(
    values: FloatArray, columns: Any, starts: Any, b: FloatArray, y: FloatArray, inner: FloatArray, r: FloatArray
) -> None:
    """inner = b - B y, and r -= B^T inner."""
    for k in range(len(b)):
        t = b[k]
        for e in range(starts[k], starts[k + 1]):
            t -= values[e] * y[columns[e]]
        inner[k] = t
        for e in range(starts[k], starts[k + 1]):
            r[columns[e]] -= values[e] * t


@njit()
def _precondition(member: IntArray, weight: FloatArray, coarse: FloatArray, r: FloatArray, y: FloatArray) -> float:
    """y = r plus the coarse correction; returns r^T y."""
    groups = len(coarse)
    gathered, correction = np.zeros(groups), np.zeros(groups)
    for k in range(len(r)):
        gathered[member[k]] += weight[k] * r[k]
    for i in range(groups):
        total = 0.0
        for j in range(groups):
            total += coarse[i, j] * gathered[j]
        correction[i] = total
    product = 0.0
    for k in range(len(r)):
        y[k] = r[k] + weight[k] * correction[member[k]]
        product += r[k] * y[k]
    return product


@njit()
def _red_black_cg(
    values: FloatArray,
    columns: Any,
    starts: Any,
    member: IntArray,
    weight: FloatArray,
    coarse: FloatArray,
    x: FloatArray,
    r: FloatArray,
    p: FloatArray,
    rho: float,
    iterations: int,
    target: float,
) -> tuple[float, int]:
    """Conjugate gradients on I - B^T B with a coarse space.

    Continues from the state (x, r, p, rho) and returns rho = r^T M^{-1} r and the iterations done; rho < 0 starts afresh. Stops
    at rho <= target. A curvature that is not positive returns -1.
    """
    n = len(x)
    corrected = len(coarse) > 0
    image, y = np.zeros(n), np.empty(n if corrected else 0)
    if rho < 0.0:
        rho = 0.0
        if corrected:
            rho = _precondition(member, weight, coarse, r, y)
            for i in range(n):
                p[i] = y[i]
        else:
            for i in range(n):
                p[i] = r[i]
                rho += r[i] * r[i]
    size = 0.0
    for i in range(n):
        size += p[i] * p[i]
    done = 0
    while done < iterations and rho > target:
        done += 1
        lost = 0.0
        for k in range(len(starts) - 1):
            t = 0.0
            for e in range(starts[k], starts[k + 1]):
                t += values[e] * p[columns[e]]
            lost += t * t
            for e in range(starts[k], starts[k + 1]):
                image[columns[e]] += values[e] * t
        curvature = size - lost
        if not curvature > 0.0:
            return -1.0, done
        step = rho / curvature
        # Two sums each, of which neither waits for the other.
        even = odd = 0.0
        for i in range(0, n - 1, 2):
            x[i] += step * p[i]
            x[i + 1] += step * p[i + 1]
            t = r[i] - step * (p[i] - image[i])
            u = r[i + 1] - step * (p[i + 1] - image[i + 1])
            r[i], r[i + 1] = t, u
            image[i] = image[i + 1] = 0.0
            even += t * t
            odd += u * u
        if n % 2:
            x[n - 1] += step * p[n - 1]
            r[n - 1] -= step * (p[n - 1] - image[n - 1])
            image[n - 1] = 0.0
            even += r[n - 1] * r[n - 1]
        fresh = even + odd
        if corrected:
            fresh = _precondition(member, weight, coarse, r, y)
        ratio = fresh / rho
        rho = fresh
        source = y if corrected else r
        even = odd = 0.0
        for i in range(0, n - 1, 2):
            t = source[i] + ratio * p[i]
            u = source[i + 1] + ratio * p[i + 1]
            p[i], p[i + 1] = t, u
            even += t * t
            odd += u * u
        if n % 2:
            p[n - 1] = source[n - 1] + ratio * p[n - 1]
            even += p[n - 1] * p[n - 1]
        size = even + odd
    return rho, done
