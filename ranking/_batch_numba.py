# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""Many small path problems in one compiled loop; the result of a group depends on nothing but the group."""

from __future__ import annotations

import numba
import numpy as np

from ranking._bounds import LARGEST_SCORE, PUBLISH, lowered, tree_bound
from ranking._kernels_numba import branch, build_costs, solve_root
from solvers._core.jit import njit

__all__ = ["solve_groups"]

NEAR = 10
# Codes of a group: proved, infeasible, not proved within the room of its tree, NaN met, attraction met, overflow ahead.
PROVED, INFEASIBLE, UNPROVED, NOT_A_NUMBER, ATTRACTIVE, TOO_LARGE = range(6)


@njit(parallel=True)
def solve_groups(
    scores, lengths, chosen, keys, sign, depot, start, end, tol, room,
    orders, fun, bound, size, code, count, parent, tail, head, leaf, ray, prices,
):  # fmt: skip
    """Solve the chosen groups within trees of at most ``room`` nodes; certificates go to one row per chosen group."""
    for k in numba.prange(len(chosen)):
        g = chosen[k]
        solve_group(
            scores[g], lengths[g], keys[g], sign, depot, start, end, tol, room, orders[g], g, fun, bound, size, code,
            count, parent[k], tail[k], head[k], leaf[k], ray[k], prices[k],
        )  # fmt: skip


@njit()
def solve_group(
    scores, n, keys, sign, depot, start, end, tol, room, order, g, fun, bound, size, code, count,
    parent, tail, head, leaf, ray, prices,
):  # fmt: skip
    """One group; see ``solve_groups``."""
    order[:] = -1
    count[g] = 0
    fun[g], bound[g], size[g] = 0.0, 0.0, 0.0
    code[g] = PROVED
    if n == 1:
        order[0] = 0
        return
    m = n + 1 if depot else n
    perm = np.arange(n)
    for i in range(n - 1, 0, -1):
        j = min(int(keys[i] * (i + 1)), i)
        perm[i], perm[j] = perm[j], perm[i]
    c = np.empty((m, m))
    nans, attractive, forbidden, largest = build_costs(scores, perm, sign, depot, start, end, c)
    if nans or attractive:
        code[g] = NOT_A_NUMBER if nans else ATTRACTIVE
        return
    if largest > LARGEST_SCORE:
        code[g] = TOO_LARGE
        return
    d = c
    barrier = np.inf
    if forbidden or start >= 0 or end >= 0:
        huge = 4.0 * (m + 1) * largest if largest > 0.0 else 1.0
        barrier = 0.5 * huge
        d = c.copy()
        for i in range(m):
            for j in range(m):
                if d[i, j] == np.inf:
                    d[i, j] = huge
    X = np.empty((room, m), np.int64)
    U = np.empty((room, m))
    V = np.empty((room, m))
    state = np.zeros(room, np.int64)
    near = np.empty((m, min(NEAR, m - 1)), np.int64)
    tour = np.empty(m, np.int64)
    y = np.empty(m, np.int64)
    parent[0] = tail[0] = head[0] = -1
    kind, value, upper = solve_root(c, d, X[0], y, U[0], V[0], near, tour)
    counts = np.array([1, 1])
    found = kind != 1 and upper < barrier
    if kind == 1:
        state[0] = 3
    elif kind == 2:
        state[0] = 2
    else:
        if not found:
            upper = np.inf
        slack = 0.5 * tol * abs(upper) if found else 0.0
        if value < upper - slack:
            key = np.empty(room)
            heap = np.empty(room, np.int64)
            key[0] = value
            heap[0] = 0
            reason, best, _ = branch(
                c, d, slack, barrier, parent, tail, head, state, key, X, U, V, heap, counts, upper, tour, near, 1 << 30
            )
            found = found or best < np.inf
            if reason != 0:
                code[g] = UNPROVED
    # Publish: the leaves in this numbering first, then everything in the caller's.
    nodes = counts[0]
    count[g] = nodes
    leaves = 0
    for t in range(nodes):
        leaf[t] = -1
        ray[t] = state[t] == 3
        if state[t] != 1:
            leaf[t] = leaves
            V[leaves] = V[t]
            leaves += 1
    least, total, most = tree_bound(c, parent[:nodes], tail[:nodes], head[:nodes], leaf[:nodes], ray[:nodes], V)
    for t in range(1, nodes):
        tail[t] = perm[tail[t]] if tail[t] < n else n
        head[t] = perm[head[t]] if head[t] < n else n
    for k in range(leaves):
        for i in range(m):
            prices[k, perm[i] if i < n else n] = V[k, i]
    if least == np.inf:
        bound[g] = sign * np.inf
        fun[g] = sign * np.inf
        code[g] = INFEASIBLE
        return
    bound[g] = sign * lowered(least, total, most, m, PUBLISH)
    if not found:
        code[g] = UNPROVED
        fun[g] = sign * np.inf
        return
    at = 0
    if depot:
        while tour[at] != n:
            at += 1
        at += 1
    else:
        weakest = -np.inf
        for k in range(m):
            if start >= 0:
                if perm[tour[k]] == start:
                    at = k
            elif c[tour[k - 1], tour[k]] > weakest:
                weakest = c[tour[k - 1], tour[k]]
                at = k
    for k in range(n):
        order[k] = perm[tour[(at + k) % m]]
    # Compensated sum of the arcs (Neumaier).
    arcs = n if not depot else n - 1
    high, low = 0.0, 0.0
    for k in range(arcs):
        arc = scores[order[k], order[(k + 1) % n]]
        size[g] += abs(arc)
        new = high + arc
        if abs(high) >= abs(arc):
            low += (high - new) + arc
        else:
            low += (arc - new) + high
        high = new
    fun[g] = high + low
