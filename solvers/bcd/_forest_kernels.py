"""Compiled kernels on the graph of a sparse symmetric matrix in CSR form (data, indices, indptr).

Eliminating the leaves of a forest one after the other is a sparse Cholesky factorisation without fill, the same arithmetic as
Gaussian belief propagation scheduled in two passes: linear time.
"""

from __future__ import annotations

import numpy as np

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.jit import njit

__all__ = [
    "eliminate",
    "eliminated_positions",
    "forest_direction",
    "greedy_forest",
    "solve_eliminated",
    "sweep",
]


@njit()
def _root(parent: IntArray, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit()
def greedy_forest(
    order: IntArray, indices: IntArray, indptr: IntArray, parent: IntArray, stamp: IntArray, inside: IntArray
) -> int:
    """Grow an induced forest: visit nodes in ``order`` and take each that closes no cycle; returns how many.

    ``parent``, ``stamp`` and ``inside`` are (n,) workspaces; on return ``inside[i]`` is 1 for the nodes taken.
    """
    for i in range(len(parent)):
        parent[i] = i
        stamp[i] = -1
        inside[i] = 0
    taken = 0
    for i in order:
        cyclic = False
        for k in range(indptr[i], indptr[i + 1]):
            j = indices[k]
            if j != i and inside[j] == 1:
                root = _root(parent, j)
                # Two neighbours in one tree would close a cycle.
                if stamp[root] == i:
                    cyclic = True
                    break
                stamp[root] = i
        if not cyclic:
            for k in range(indptr[i], indptr[i + 1]):
                j = indices[k]
                if j != i and inside[j] == 1:
                    parent[_root(parent, j)] = i
            inside[i] = 1
            taken += 1
    return taken


@njit()
def eliminate(
    data: FloatArray,
    indices: IntArray,
    indptr: IntArray,
    inside: IntArray,
    order: IntArray,
    parent: IntArray,
    weight: FloatArray,
    pivot: FloatArray,
    degree: IntArray,
) -> int:
    """Leaf elimination of the nodes with ``inside[i] == 1``; returns how many were eliminated.

    Fills ``order`` (elimination order), ``parent`` (its remaining neighbour or -1), ``weight`` (the entry towards it) and
    ``pivot``, all by node except ``order``. Fewer eliminated than inside: the rest contains a cycle.
    """
    n = len(inside)
    for i in range(n):
        if inside[i] == 0:
            degree[i] = -1
            continue
        count = 0
        pivot[i] = 0.0
        parent[i] = -1
        for k in range(indptr[i], indptr[i + 1]):
            j = indices[k]
            if j == i:
                pivot[i] += data[k]
            elif inside[j] == 1 and data[k] != 0.0:
                count += 1
        degree[i] = count
    tail = 0
    for leaf in range(n):
        i = leaf
        # A path is followed up until a node with two neighbours left: order and memory stay close.
        while degree[i] == 0 or degree[i] == 1:
            # -1 marks an eliminated node.
            degree[i] = -1
            order[tail] = i
            tail += 1
            for k in range(indptr[i], indptr[i + 1]):
                j = indices[k]
                if j != i and degree[j] >= 0 and data[k] != 0.0:
                    parent[i] = j
                    weight[i] = data[k]
                    if pivot[i] > 0:
                        pivot[j] -= data[k] * data[k] / pivot[i]
                    degree[j] -= 1
                    i = j
                    break
    return tail


@njit()
def solve_eliminated(
    order: IntArray, count: int, parent: IntArray, weight: FloatArray, pivot: FloatArray, x: FloatArray
) -> None:
    """Overwrite x, the right-hand side, by the solution on the eliminated nodes: leaves up, then roots down."""
    for k in range(count):
        i = order[k]
        j = parent[i]
        if j >= 0:
            x[j] -= weight[i] * x[i] / pivot[i]
    for k in range(count - 1, -1, -1):
        i = order[k]
        j = parent[i]
        below = weight[i] * x[j] if j >= 0 else 0.0
        x[i] = (x[i] - below) / pivot[i]


@njit()
def forest_direction(
    data: FloatArray,
    indices: IntArray,
    indptr: IntArray,
    inside: IntArray,
    g: FloatArray,
    d: FloatArray,
    order: IntArray,
    parent: IntArray,
    weight: FloatArray,
    pivot: FloatArray,
    degree: IntArray,
) -> int:
    """d_b = -A_bb^{-1} g_b on a forest b; returns the number of nodes solved, or -1 where a pivot is not positive."""
    count = eliminate(data, indices, indptr, inside, order, parent, weight, pivot, degree)
    for k in range(count):
        i = order[k]
        if not pivot[i] > 0:
            return -1
        d[i] = -g[i]
    solve_eliminated(order, count, parent, weight, pivot, d)
    return count


@njit()
def eliminated_positions(
    order: IntArray, parent: IntArray, weight: FloatArray, pivot: FloatArray
) -> tuple[IntArray, FloatArray, FloatArray]:
    """The factor renumbered in elimination order: position of the parent (-1 for roots), weight / pivot, and pivot."""
    n = len(order)
    place = np.empty(n, dtype=np.int64)
    for k in range(n):
        place[order[k]] = k
    up = np.empty(n, dtype=np.int64)
    ratio, pivots = np.empty(n), np.empty(n)
    for k in range(n):
        i = order[k]
        up[k] = place[parent[i]] if parent[i] >= 0 else -1
        ratio[k] = weight[i] / pivot[i] if parent[i] >= 0 else 0.0
        pivots[k] = pivot[i]
    return up, ratio, pivots


@njit()
def sweep(
    order: IntArray, up: IntArray, ratio: FloatArray, pivot: FloatArray, b: FloatArray, work: FloatArray, x: FloatArray
) -> None:
    """x = A^{-1} b with the renumbered factor."""
    n = len(order)
    for k in range(n):
        work[k] = b[order[k]]
    for k in range(n):
        if up[k] >= 0:
            work[up[k]] -= ratio[k] * work[k]
    for k in range(n - 1, -1, -1):
        value = work[k] / pivot[k]
        if up[k] >= 0:
            value -= ratio[k] * work[up[k]]
        work[k] = value
        x[order[k]] = value
