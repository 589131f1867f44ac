"""Compiled kernels on the graph of a sparse symmetric matrix in CSR form (data, indices, indptr).

Eliminating the leaves of a forest one after the other is a sparse Cholesky factorisation without fill, the same arithmetic as
Gaussian belief propagation scheduled in two passes: linear time.
"""

from __future__ import annotations

import numpy as np

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.jit import njit

__all__ = ["eliminate", "forest_direction", "greedy_forest", "solve_eliminated"]


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
    tail = 0
    for i in range(n):
        if inside[i] == 0:
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
        if count <= 1:
            order[tail] = i
            tail += 1
    head = 0
    while head < tail:
        i = order[head]
        head += 1
        # -1 marks an eliminated node.
        degree[i] = -1
        for k in range(indptr[i], indptr[i + 1]):
            j = indices[k]
            if j != i and inside[j] == 1 and degree[j] >= 0 and data[k] != 0.0:
                parent[i] = j
                weight[i] = data[k]
                if pivot[i] > 0:
                    pivot[j] -= data[k] * data[k] / pivot[i]
                degree[j] -= 1
                if degree[j] == 1:
                    order[tail] = j
                    tail += 1
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


@njit()
def _tree_solve(up: IntArray, ratio: FloatArray, pivot: FloatArray, v: FloatArray) -> None:
    """v = T^{-1} v in elimination order; up = -1 for roots and for nodes treated alone."""
    n = len(up)
    for k in range(n):
        if up[k] >= 0:
            v[up[k]] -= ratio[k] * v[k]
    for k in range(n - 1, -1, -1):
        v[k] = v[k] / pivot[k]
        if up[k] >= 0:
            v[k] -= ratio[k] * v[up[k]]


@njit()
def _product(data: FloatArray, indices: IntArray, indptr: IntArray, v: FloatArray, out: FloatArray) -> None:
    for i in range(len(out)):
        total = 0.0
        for k in range(indptr[i], indptr[i + 1]):
            total += data[k] * v[indices[k]]
        out[i] = total


@njit()
def schur_cg(
    first_up: IntArray,
    first_ratio: FloatArray,
    first_pivot: FloatArray,
    second_up: IntArray,
    second_ratio: FloatArray,
    second_pivot: FloatArray,
    down_data: FloatArray,
    down_indices: IntArray,
    down_indptr: IntArray,
    across_data: FloatArray,
    across_indices: IntArray,
    across_indptr: IntArray,
    own_data: FloatArray,
    own_indices: IntArray,
    own_indptr: IntArray,
    x: FloatArray,
    r: FloatArray,
    p: FloatArray,
    rho: float,
    iterations: int,
    target: float,
) -> float:
    """Conjugate gradients on S = A22 - A21 A11^{-1} A12, preconditioned by a forest of A22; returns rho = r^T M^{-1} r.

    A11 is a forest factor, ``down`` is A21 and ``across`` A12 in CSR form, ``own`` is A22. Continues from the state (x, r, p,
    rho); rho < 0 starts afresh. Stops at rho <= target. A curvature that is not positive returns -1.
    """
    n, m = len(x), len(first_up)
    image, back, inner, y = np.empty(n), np.empty(n), np.empty(m), np.empty(n)
    if rho < 0.0:
        p[:] = r
        _tree_solve(second_up, second_ratio, second_pivot, p)
        rho = 0.0
        for i in range(n):
            rho += r[i] * p[i]
    for _ in range(iterations):
        if rho <= target:
            break
        _product(across_data, across_indices, across_indptr, p, inner)
        _tree_solve(first_up, first_ratio, first_pivot, inner)
        _product(down_data, down_indices, down_indptr, inner, back)
        _product(own_data, own_indices, own_indptr, p, image)
        curvature = 0.0
        for i in range(n):
            image[i] -= back[i]
            curvature += p[i] * image[i]
        if not curvature > 0.0:
            return -1.0
        step = rho / curvature
        for i in range(n):
            x[i] += step * p[i]
            r[i] -= step * image[i]
            y[i] = r[i]
        _tree_solve(second_up, second_ratio, second_pivot, y)
        fresh = 0.0
        for i in range(n):
            fresh += r[i] * y[i]
        ratio = fresh / rho
        rho = fresh
        for i in range(n):
            p[i] = y[i] + ratio * p[i]
    return rho


@njit()
def projected_sor(
    data: FloatArray,
    indices: IntArray,
    indptr: IntArray,
    diagonal: FloatArray,
    c: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    x: FloatArray,
    omega: float,
    sweeps: int,
) -> tuple[float, float]:
    """Projected successive over-relaxation in place; returns the norms of the last two sweeps' moves.

    Sweeps alternate direction, so that the natural order does not favour one side.
    """
    previous = last = 0.0
    n = len(x)
    for sweep_number in range(sweeps):
        previous, last = last, 0.0
        for k in range(n):
            i = k if sweep_number % 2 == 0 else n - 1 - k
            total = c[i]
            for e in range(indptr[i], indptr[i + 1]):
                total -= data[e] * x[indices[e]]
            fresh = min(max(x[i] + omega * total / diagonal[i], lower[i]), upper[i])
            last += (fresh - x[i]) * (fresh - x[i])
            x[i] = fresh
    return previous**0.5, last**0.5
