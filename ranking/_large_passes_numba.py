# mypy: disable-error-code="no-untyped-def, no-untyped-call"
r"""Compiled passes over all arcs of a large problem: for each item the arcs of least reduced cost.

Nothing of size n^2 is stored. A matrix is read row by row; for factors the scores <P_i, Q_j> of blocks of rows are computed
a tile of columns at a time. Lists of the nearest are ascending. What ``arcs`` holds is said in
:mod:`ranking._large_numba`.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from solvers._core.jit import njit

__all__ = [
    "cheapest_columns",
    "column_minima",
    "nearest_dense",
    "nearest_factors",
    "nearest_rows",
    "successors",
    "survey",
]

# Columns whose reduced costs are held at once, and rows that share them while they are in the cache.
TILE = 1024
ROWS = 64
STRIDE = 64
# Coordinates that are multiplied at a time.
EIGHT = 8


@njit(parallel=True)
def survey(scores, sign):
    """Numbers of NaN, of attracting infinities and of forbidden arcs off the diagonal, and the largest finite modulus."""
    n = scores.shape[0]
    counts = np.zeros((n, 3), np.int64)
    largest = np.zeros(n)
    for i in numba.prange(n):
        for j in range(n):
            value = sign * scores[i, j]
            if i != j and not abs(value) <= largest[i]:
                if math.isnan(value):
                    counts[i, 0] += 1
                elif value == -np.inf:
                    counts[i, 1] += 1
                elif value == np.inf:
                    counts[i, 2] += 1
                else:
                    largest[i] = abs(value)
    return counts[:, 0].sum(), counts[:, 1].sum(), counts[:, 2].sum(), largest.max()


@njit()
def column_minima(arcs, v):
    """v_j = min_i c_ij over the items."""
    scores, perm, sign, _P, _Q, _start, _end, _huge = arcs
    n = len(perm)
    v[:n] = np.inf
    for i in range(n):
        row = scores[perm[i]]
        for j in range(n):
            value = sign * row[perm[j]]
            if value < v[j] and i != j:
                v[j] = value


@njit()
def insert(value, j, values, near):
    """Put a column into the ascending list of the best ones."""
    k = len(values) - 1
    while k > 0 and values[k - 1] > value:
        values[k] = values[k - 1]
        near[k] = near[k - 1]
        k -= 1
    values[k] = value
    near[k] = j


@njit(parallel=True)
def nearest_dense(arcs, v, rows, values, near):
    """The items j of least c_ij - v_j for some items, ascending; scans begin behind i, so that ties differ."""
    scores, perm, sign, _P, _Q, _start, _end, _huge = arcs
    n = len(perm)
    for at in numba.prange(len(rows)):
        i = rows[at]
        values[i] = np.inf
        near[i] = -1
        row = scores[perm[i]]
        worst = np.inf
        j = i
        for _ in range(n - 1):
            j = j + 1 if j + 1 < n else 0
            value = sign * row[perm[j]] - v[j]
            if value < worst:
                insert(value, j, values[i], near[i])
                worst = values[i, -1]


@njit()
def nearest_rows(arcs, u, values, near):
    """The items i of least c_ij - u_i for each item j, ascending, from a matrix that is read row by row."""
    scores, perm, sign, _P, _Q, _start, _end, _huge = arcs
    n = len(perm)
    values[:] = np.inf
    near[:] = -1
    for i in range(n):
        row = scores[perm[i]]
        for j in range(n):
            value = sign * row[perm[j]] - u[i]
            if value < values[j, -1] and i != j:
                insert(value, i, values[j], near[j])


@njit(fastmath={"nnan", "nsz", "contract"})
def reduced_tile(p, QT, left, width, v, held):
    """held_j = <p, Q_j> - v_j for ``width`` columns from ``left`` on, coordinates eight at a time."""
    prices = v[left : left + width]
    for k in range(0, len(p), EIGHT):
        a, b, c, d = QT[k, left:], QT[k + 1, left:], QT[k + 2, left:], QT[k + 3, left:]
        e, f, g, h = QT[k + 4, left:], QT[k + 5, left:], QT[k + 6, left:], QT[k + 7, left:]
        p0, p1, p2, p3, p4, p5, p6, p7 = p[k], p[k + 1], p[k + 2], p[k + 3], p[k + 4], p[k + 5], p[k + 6], p[k + 7]
        if k == 0:
            for j in range(width):
                held[j] = (
                    ((p0 * a[j] + p1 * b[j]) + (p2 * c[j] + p3 * d[j]))
                    + ((p4 * e[j] + p5 * f[j]) + (p6 * g[j] + p7 * h[j]))
                    - prices[j]
                )
        else:
            for j in range(width):
                held[j] += ((p0 * a[j] + p1 * b[j]) + (p2 * c[j] + p3 * d[j])) + (
                    (p4 * e[j] + p5 * f[j]) + (p6 * g[j] + p7 * h[j])
                )


@njit(fastmath={"nnan", "nsz"})
def below(held, worst, lows, found):
    """Positions of ``held`` (TILE) below ``worst``; returns how many. Minima over strides first, which vectorise."""
    lows[:] = held[:STRIDE]
    for first in range(STRIDE, TILE, STRIDE):
        part = held[first : first + STRIDE]
        for j in range(STRIDE):
            lows[j] = part[j] if part[j] < lows[j] else lows[j]
    count = 0
    for j in range(STRIDE):
        if lows[j] < worst:
            for at in range(j, TILE, STRIDE):
                if held[at] < worst:
                    found[count] = at
                    count += 1
    return count


@njit(parallel=True)
def nearest_factors(P, QT, v, rows, values, near):
    """The same for c_ij = <P_i, Q_j>, QT (d, n), d a multiple of eight; blocks of rows share each tile of columns."""
    n = QT.shape[1]
    tiles = (n + TILE - 1) // TILE
    blocks = (len(rows) + ROWS - 1) // ROWS
    for block in numba.prange(blocks):
        mine = rows[block * ROWS : min((block + 1) * ROWS, len(rows))]
        held, lows, found = np.full(TILE, np.inf), np.empty(STRIDE), np.empty(TILE, np.int64)
        for i in mine:
            values[i] = np.inf
            near[i] = -1
        for t in range(tiles):
            # Blocks begin at tiles of their own, so that ties differ.
            left = ((t + mine[0] // TILE) % tiles) * TILE
            width = min(TILE, n - left)
            held[width:] = np.inf
            for i in mine:
                reduced_tile(P[i], QT, left, width, v, held)
                if left <= i < left + width:
                    held[i - left] = np.inf
                count = below(held, values[i, -1], lows, found)
                for k in range(count):
                    at = found[k]
                    if held[at] < values[i, -1]:
                        insert(held[at], left + at, values[i], near[i])


@njit()
def cheapest_columns(v, count, near):
    """The ``count`` items of greatest price: candidates of the depot, whose arcs all cost 0."""
    values = np.full(len(near), np.inf)
    near[:] = -1
    for j in range(count):
        if -v[j] < values[-1]:
            insert(-v[j], j, values, near)
    return values[0]


@njit()
def successors(indptr, column, cost, v, near, reduced):
    """Candidate successors in ascending order of c_ij - v_j, padded with -1 and inf."""
    m, width = near.shape
    for i in range(m):
        near[i] = -1
        reduced[i] = np.inf
        for e in range(indptr[i], indptr[i + 1]):
            value = cost[e] - v[column[e]]
            if value < reduced[i, width - 1]:
                insert(value, column[e], reduced[i], near[i])
