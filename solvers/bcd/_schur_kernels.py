"""Compiled kernels of the Schur complement of an induced forest: set-up and conjugate gradients.

The forest's nodes stand in elimination order, first; ``up`` is the position of the parent, one past the end for roots, whose
``ratio`` is zero, so that loops need no branches. Positions are unsigned: compiled code need not look for negative ones. A12
(``across``) is stored by rows of the forest; A21 is its transpose.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.jit import njit

__all__ = ["aggregates", "coarse_matrix", "couplings", "eliminated_part", "forest_positions", "schur_cg"]


@njit()
def forest_positions(
    order: IntArray, parent: IntArray, weight: FloatArray, pivot: FloatArray, place: IntArray
) -> tuple[Any, FloatArray, FloatArray]:
    """Position of the parent, weight / pivot and 1 / pivot, in elimination order; fills ``place`` by node."""
    count = len(order)
    for k in range(count):
        place[order[k]] = k
    up = np.empty(count, dtype=np.uint32)
    ratio, inverse = np.empty(count), np.empty(count)
    for k in range(count):
        i = order[k]
        inverse[k] = 1.0 / pivot[i]
        if parent[i] >= 0:
            up[k] = place[parent[i]]
            ratio[k] = weight[i] * inverse[k]
        else:
            up[k] = count
            ratio[k] = 0.0
    return up, ratio, inverse


@njit()
def couplings(
    data: FloatArray, indices: IntArray, indptr: IntArray, rows: IntArray, wanted: IntArray, place: IntArray
) -> tuple[FloatArray, Any, Any]:
    """CSR arrays of the given rows, restricted to columns with ``wanted == 1`` and renumbered by ``place``."""
    starts = np.empty(len(rows) + 1, dtype=np.uint32)
    total = 0
    for k in range(len(rows)):
        starts[k] = total
        for e in range(indptr[rows[k]], indptr[rows[k] + 1]):
            total += wanted[indices[e]] == 1 and data[e] != 0.0
    starts[len(rows)] = total
    values, columns = np.empty(total), np.empty(total, dtype=np.uint32)
    at = 0
    for k in range(len(rows)):
        for e in range(indptr[rows[k]], indptr[rows[k] + 1]):
            if wanted[indices[e]] == 1 and data[e] != 0.0:
                values[at], columns[at] = data[e], place[indices[e]]
                at += 1
    return values, columns, starts


@njit()
def _eliminated_product(
    up: IntArray,
    ratio: FloatArray,
    inverse: FloatArray,
    values: FloatArray,
    columns: IntArray,
    starts: IntArray,
    p: FloatArray,
    work: FloatArray,
    out: FloatArray,
) -> None:
    """out += A21 A11^{-1} A12 p, in two passes over the forest."""
    count = len(up)
    for k in range(count + 1):
        work[k] = 0.0
    for k in range(count):
        # The sum first: it need not wait for the node before.
        t = 0.0
        for e in range(starts[k], starts[k + 1]):
            t += values[e] * p[columns[e]]
        t += work[k]
        work[k] = t
        work[up[k]] -= ratio[k] * t
    for k in range(count - 1, -1, -1):
        t = work[k] * inverse[k] - ratio[k] * work[up[k]]
        work[k] = t
        for e in range(starts[k], starts[k + 1]):
            out[columns[e]] += values[e] * t


@njit()
def eliminated_part(
    up: IntArray,
    ratio: FloatArray,
    inverse: FloatArray,
    values: FloatArray,
    columns: IntArray,
    starts: IntArray,
    b: FloatArray,
    x: FloatArray,
    inner: FloatArray,
) -> None:
    """inner = A11^{-1} (b - A12 x); ``inner`` has one entry more than the forest has nodes."""
    count = len(up)
    for k in range(count):
        inner[k] = b[k]
    inner[count] = 0.0
    for k in range(count):
        t = inner[k]
        for e in range(starts[k], starts[k + 1]):
            t -= values[e] * x[columns[e]]
        inner[k] = t
        inner[up[k]] -= ratio[k] * t
    for k in range(count - 1, -1, -1):
        inner[k] = inner[k] * inverse[k] - ratio[k] * inner[up[k]]


@njit()
def aggregates(data: FloatArray, indices: IntArray, indptr: IntArray, size: int) -> tuple[IntArray, int]:
    """Connected sets of at most ``size`` nodes, grown breadth first in natural order; the set of each node, and how many."""
    n = len(indptr) - 1
    member = np.full(n, -1, dtype=np.int64)
    queue = np.empty(size, dtype=np.int64)
    count = 0
    for start in range(n):
        if member[start] >= 0:
            continue
        member[start] = count
        queue[0] = start
        head, tail = 0, 1
        while head < tail and tail < size:
            i = queue[head]
            head += 1
            for k in range(indptr[i], indptr[i + 1]):
                j = indices[k]
                if member[j] < 0 and data[k] != 0.0 and tail < size:
                    member[j] = count
                    queue[tail] = j
                    tail += 1
        count += 1
    return member, count


@njit()
def coarse_matrix(data: FloatArray, indices: IntArray, indptr: IntArray, member: IntArray, count: int) -> FloatArray:
    """P^T Q P for the piecewise constants P on aggregates, dense."""
    out = np.zeros((count, count))
    for i in range(len(member)):
        for k in range(indptr[i], indptr[i + 1]):
            out[member[i], member[indices[k]]] += data[k]
    return out


@njit()
def _precondition(
    up: IntArray,
    ratio: FloatArray,
    inverse: FloatArray,
    plain: bool,
    member: IntArray,
    coarse: FloatArray,
    r: FloatArray,
    y: FloatArray,
) -> float:
    """y = T^{-1} r for the forest T of A22, plus P C P^T r for the coarse inverse C; returns r^T y.

    ``plain`` where T is diagonal.
    """
    count, groups = len(up), len(coarse)
    gathered, correction = np.zeros(groups), np.zeros(groups)
    if groups:
        for k in range(count):
            gathered[member[k]] += r[k]
        for i in range(groups):
            total = 0.0
            for j in range(groups):
                total += coarse[i, j] * gathered[j]
            correction[i] = total
    if plain:
        for k in range(count):
            y[k] = r[k] * inverse[k]
    else:
        for k in range(count):
            y[k] = r[k]
        y[count] = 0.0
        for k in range(count):
            y[up[k]] -= ratio[k] * y[k]
        for k in range(count - 1, -1, -1):
            y[k] = y[k] * inverse[k] - ratio[k] * y[up[k]]
    product = 0.0
    for k in range(count):
        if groups:
            y[k] += correction[member[k]]
        product += r[k] * y[k]
    return product


@njit()
def schur_cg(
    up: IntArray,
    ratio: FloatArray,
    inverse: FloatArray,
    values: FloatArray,
    columns: IntArray,
    starts: IntArray,
    second_up: IntArray,
    second_ratio: FloatArray,
    second_inverse: FloatArray,
    plain: bool,
    member: IntArray,
    coarse: FloatArray,
    own_values: FloatArray,
    own_columns: IntArray,
    own_starts: IntArray,
    x: FloatArray,
    r: FloatArray,
    p: FloatArray,
    rho: float,
    iterations: int,
    target: float,
) -> tuple[float, int]:
    """Conjugate gradients on S = A22 - A21 A11^{-1} A12, preconditioned by a forest of A22 and a coarse space.

    Continues from the state (x, r, p, rho) and returns rho = r^T M^{-1} r and the iterations done; rho < 0 starts afresh. Stops
    at rho <= target. A curvature that is not positive returns -1.
    """
    n = len(x)
    image, y, work = np.empty(n), np.empty(n + 1), np.empty(len(up) + 1)
    if rho < 0.0:
        rho = _precondition(second_up, second_ratio, second_inverse, plain, member, coarse, r, y)
        for i in range(n):
            p[i] = y[i]
    done = 0
    while done < iterations and rho > target:
        done += 1
        for i in range(n):
            image[i] = 0.0
        _eliminated_product(up, ratio, inverse, values, columns, starts, p, work, image)
        curvature = 0.0
        for i in range(n):
            t = -image[i]
            for e in range(own_starts[i], own_starts[i + 1]):
                t += own_values[e] * p[own_columns[e]]
            image[i] = t
            curvature += p[i] * t
        if not curvature > 0.0:
            return -1.0, done
        step = rho / curvature
        for i in range(n):
            x[i] += step * p[i]
            r[i] -= step * image[i]
        fresh = _precondition(second_up, second_ratio, second_inverse, plain, member, coarse, r, y)
        ratio_rho = fresh / rho
        rho = fresh
        for i in range(n):
            p[i] = y[i] + ratio_rho * p[i]
    return rho, done
