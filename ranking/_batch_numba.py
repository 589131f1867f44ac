# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""A whole path problem in one compiled call: costs, assignment, tour, tree and the bound of the tree's leaves.

Many small ones run in one compiled loop; the result of a group depends on nothing but the group.
"""

from __future__ import annotations

import numba
import numpy as np

from ranking._bounds import LARGEST_SCORE, PUBLISH, lowered, tree_bound, whole
from ranking._kernels_numba import branch, build_costs, cut_slack, solve_root
from solvers._core.jit import njit

__all__ = ["ATTRACTIVE", "INFEASIBLE", "NOT_A_NUMBER", "PROVED", "TOO_LARGE", "UNPROVED", "solve_groups", "solve_path"]

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
        n = lengths[g]
        orders[g] = -1
        if n == 1:
            orders[g, 0] = 0
            code[g], fun[g], bound[g], size[g], count[g] = PROVED, 0.0, 0.0, 0.0, 0
        else:
            perm = np.arange(n)
            for i in range(n - 1, 0, -1):
                j = min(int(keys[g, i] * (i + 1)), i)
                perm[i], perm[j] = perm[j], perm[i]
            code[g], fun[g], bound[g], size[g], count[g], _, _ = solve_path(
                scores[g], perm, sign, depot, start, end, tol, np.inf, room, orders[g], parent[k], tail[k], head[k],
                leaf[k], ray[k], prices[k],
            )  # fmt: skip


@njit()
def solve_path(
    scores, perm, sign, depot, start, end, tol, loose, room, order, parent, tail, head, leaf, ray, prices,
):  # fmt: skip
    """Best order of the n > 1 items that ``perm`` lists, worked on in that order, with a tree of at most ``room`` nodes.

    Nothing is branched where the first tour lies more than ``loose`` times its cost above the assignment. Writes the order
    and the certificate in the caller's numbering; returns (code, fun, bound, sum of the moduli of the order's arcs, tree
    nodes, leaves, forbidden arcs).
    """
    n = len(perm)
    m = n + 1 if depot else n
    none = sign * np.inf
    c = np.empty((m, m))
    nans, attractive, forbidden, largest = build_costs(scores, perm, sign, depot, start, end, c)
    if nans:
        return NOT_A_NUMBER, 0.0, 0.0, 0.0, 0, 0, forbidden
    if attractive:
        return ATTRACTIVE, 0.0, 0.0, 0.0, 0, 0, forbidden
    if largest > LARGEST_SCORE:
        return TOO_LARGE, 0.0, 0.0, 0.0, 0, 0, forbidden
    is_whole = whole(c)
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
    code = PROVED
    found = kind != 1 and upper < barrier
    if kind == 1:
        state[0] = 3
    elif kind == 2:
        state[0] = 2
    else:
        if not found:
            upper = np.inf
        slack = cut_slack(upper, tol, is_whole)
        if upper - value > loose * abs(upper):
            return UNPROVED, none, -none, 0.0, 0, 0, forbidden
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
                code = UNPROVED
    # Publish: the leaves in this numbering first, then everything in the caller's.
    nodes = counts[0]
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
        return INFEASIBLE, none, none, 0.0, nodes, leaves, forbidden
    least = lowered(least, total, most, m, PUBLISH)
    bound = sign * (np.ceil(least) if is_whole else least)
    if not found:
        return UNPROVED, none, bound, 0.0, nodes, leaves, forbidden
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
    high, low, size = 0.0, 0.0, 0.0
    for k in range(arcs):
        arc = scores[order[k], order[(k + 1) % n]]
        size += abs(arc)
        new = high + arc
        if abs(high) >= abs(arc):
            low += (high - new) + arc
        else:
            low += (arc - new) + high
        high = new
    return code, high + low, bound, size, nodes, leaves, forbidden
