# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""A whole path problem in one compiled call: costs, assignment, tour, tree and the bound of the tree's leaves.

Many small ones run in one compiled loop; the result of a group depends on nothing but the group. The smallest share the
subset recursion of Held and Karp (SIAM J. Appl. Math. 10, 1962): its steps are the same for all groups of a size, so
that each step serves a row of groups at once, which costs less than branching even where branching is short.
"""

from __future__ import annotations

import numba
import numpy as np

from ranking._bounds import LARGEST_SCORE, PUBLISH, WIDE, lowered, tree_bound, whole
from ranking._kernels_numba import branch, build_costs, cut_slack, solve_root
from solvers._core.jit import njit
from solvers._core.linalg import UNIT

__all__ = [
    "ATTRACTIVE",
    "INFEASIBLE",
    "LANES",
    "NOT_A_NUMBER",
    "PROVED",
    "TOO_LARGE",
    "UNPROVED",
    "recur_groups",
    "solve_groups",
    "solve_path",
]

NEAR = 10
# Groups that share a recursion.
LANES = 112
# Predecessors compared in one pass of the recursion.
PREDECESSORS = 6
# Every sum of the recursion is rounded down by this factor, as in ranking._bounds.
DOWN = PUBLISH * UNIT
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
            shuffle(perm, keys[g])
            code[g], fun[g], bound[g], size[g], count[g], _, _ = solve_path(
                scores[g], perm, sign, depot, start, end, tol, np.inf, room, orders[g], parent[k], tail[k], head[k],
                leaf[k], ray[k], prices[k],
            )  # fmt: skip


@njit()
def shuffle(perm, keys):
    """Put ``perm`` in the random order that the keys, numbers from 0 to 1, stand for."""
    for i in range(len(perm) - 1, 0, -1):
        j = min(int(keys[i] * (i + 1)), i)
        perm[i], perm[j] = perm[j], perm[i]


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
    width = -(-m // WIDE) * WIDE
    c = np.empty((m, width))
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
    y = np.empty(width, np.int64)
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
    value, size = write_order(scores, sign, perm, tour, depot, start, order)
    return code, value, bound, size, nodes, leaves, forbidden


@njit()
def write_order(scores, sign, perm, tour, depot, start, order):
    """The order of a tour in the caller's numbering; returns its score and the sum of the moduli of its arcs."""
    n, m = len(perm), len(tour)
    at = 0
    if depot:
        while tour[at] != n:
            at += 1
        at += 1
    else:
        weakest = -np.inf
        for k in range(m):
            arc = sign * scores[perm[tour[k - 1]], perm[tour[k]]]
            if start >= 0:
                if perm[tour[k]] == start:
                    at = k
            elif arc > weakest:
                weakest = arc
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
    return high + low, size


@njit(parallel=True)
def recur_groups(scores, n, chosen, keys, sign, depot, start, end, tables, orders, fun, bound, size, code):
    """Solve the chosen groups, all of n > 1 items, by the subset recursion, with one table per thread."""
    threads = tables.shape[0]
    rows = (len(chosen) + LANES - 1) // LANES
    for thread in numba.prange(threads):
        for row in range(thread, rows, threads):
            recur_row(
                scores, n, chosen[row * LANES : (row + 1) * LANES], keys, sign, depot, start, end, tables[thread],
                orders, fun, bound, size, code,
            )  # fmt: skip


@njit()
def recur_row(scores, n, chosen, keys, sign, depot, start, end, table, orders, fun, bound, size, code):
    """Solve groups of n items that share one recursion, from the last node through the subsets of the others.

    The last node is the depot or the caller's last item, so that the bound is the one that the verifier finds in any
    numbering of the others.
    """
    m = n + 1 if depot else n
    width = len(chosen)
    c = np.empty((m, m))
    costs = np.empty(m * m * width)
    perms = np.empty((width, n), np.int64)
    are_whole = np.empty(width, np.bool_)
    none = sign * np.inf
    for lane in range(width):
        g = chosen[lane]
        perm = perms[lane]
        for i in range(n):
            perm[i] = i
        shuffle(perm if depot else perm[: n - 1], keys[g])
        nans, attractive, _, largest = build_costs(scores[g], perm, sign, depot, start, end, c)
        code[g] = PROVED
        if nans:
            code[g] = NOT_A_NUMBER
        elif attractive:
            code[g] = ATTRACTIVE
        elif largest > LARGEST_SCORE:
            code[g] = TOO_LARGE
        are_whole[lane] = whole(c)
        for i in range(m):
            for j in range(m):
                costs[(i * m + j) * width + lane] = c[i, j]
    first_row = np.empty((1 << (m - 1)) + 1, np.int64)
    recur(costs, table, first_row, m, width)
    tour = np.empty(m, np.int64)
    for lane in range(width):
        g = chosen[lane]
        orders[g] = -1
        fun[g] = bound[g] = none
        size[g] = 0.0
        if code[g] == PROVED:
            least = trace(costs, table, first_row, m, width, lane, tour)
            if least == np.inf:
                code[g] = INFEASIBLE
            else:
                bound[g] = sign * (np.ceil(least) if are_whole[lane] else least)
                fun[g], size[g] = write_order(scores[g], sign, perms[lane], tour, depot, start, orders[g])


@njit()
def recur(costs, table, first_row, m, width):
    """Fill the table: its rows are the least costs from the last node through a set to a node outside, for every lane.

    ``costs`` (m, m, width) and ``table`` are flat, and places in them unsigned: no time goes into views and signs. The
    rows of a set begin at row ``first_row[set]``, one for each of the nodes outside in ascending order.
    """
    k = m - 1
    first_row[0] = 0
    first_row[1] = k
    for place in range(k * width):
        table[place] = rounded_down(costs[k * m * width + place])
    arcs = np.empty(k + PREDECESSORS, np.uint64)
    rows = np.empty(k + PREDECESSORS, np.uint64)
    for subset in range(1, 1 << k):
        count = 0
        for i in range(k):
            if subset >> i & 1:
                arcs[count] = np.uint64(i * m * width)
                rows[count] = np.uint64((first_row[subset ^ 1 << i] + i - count) * width)
                count += 1
        first_row[subset + 1] = first_row[subset] + k - count
        # A predecessor that is named twice changes no minimum.
        for spare in range(count, count + PREDECESSORS):
            arcs[spare], rows[spare] = arcs[count - 1], rows[count - 1]
        for q in range(0, count, PREDECESSORS):
            a, b, c, d, e, f = arcs[q], arcs[q + 1], arcs[q + 2], arcs[q + 3], arcs[q + 4], arcs[q + 5]
            from_a, from_b, from_c = rows[q], rows[q + 1], rows[q + 2]
            from_d, from_e, from_f = rows[q + 3], rows[q + 4], rows[q + 5]
            at = np.uint64(first_row[subset] * width)
            for j in range(k):
                if subset >> j & 1 == 0:
                    to = np.uint64(j * width)
                    lower(
                        table, at, from_a, from_b, from_c, from_d, from_e, from_f,
                        costs, a + to, b + to, c + to, d + to, e + to, f + to, np.uint64(width), q == 0,
                    )  # fmt: skip
                    at += np.uint64(width)


@njit()
def lower(table, at, from_a, from_b, from_c, from_d, from_e, from_f, costs, a, b, c, d, e, f, width, first):
    """Lower the entries at ``at`` to the best of six predecessors; ``first`` entries are new."""
    for lane in range(width):
        x, y = table[from_a + lane] + costs[a + lane], table[from_b + lane] + costs[b + lane]
        z, p = table[from_c + lane] + costs[c + lane], table[from_d + lane] + costs[d + lane]
        q, r = table[from_e + lane] + costs[e + lane], table[from_f + lane] + costs[f + lane]
        x = y if y < x else x
        z = p if p < z else z
        q = r if r < q else q
        x = z if z < x else x
        x = rounded_down(q if q < x else x)
        old = np.inf if first else table[at + lane]
        table[at + lane] = x if x < old else old


@njit()
def rounded_down(value):
    """A sum less its rounding; rounding down keeps the order of numbers, so that minima may be taken before."""
    return value - DOWN * abs(value) if value < np.inf else value


@njit()
def trace(costs, table, first_row, m, width, lane, tour):
    """Write the best tour of a lane, and return its cost, rounded down."""
    k = m - 1
    tour[0] = k
    subset, to, least = (1 << k) - 1, k, np.inf
    for position in range(k, 0, -1):
        best, last, count = np.inf, -1, 0
        for i in range(k):
            if subset >> i & 1:
                row = first_row[subset ^ 1 << i] + i - count
                count += 1
                value = rounded_down(table[row * width + lane] + costs[(i * m + to) * width + lane])
                if value < best:
                    best, last = value, i
        if last < 0:
            return np.inf
        if position == k:
            least = best
        tour[position] = last
        subset ^= 1 << last
        to = last
    return least
