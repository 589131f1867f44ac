# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""Compiled kernels of the path search: assignment, patching, branch and bound, subset recursion.

Costs c (m, m) are minimised over Hamiltonian cycles; +inf marks an arc that must not be used, the diagonal among them.
An assignment is kept as x (column of each row), y (row of each column) with prices u, v such that c_ij - u_i - v_j >= 0
and = 0 on the assignment, up to rounding. Costs c may have more columns than rows, +inf, so that passes over a row come
out even for the processor; y is as long as a row. Nothing here is trusted: :mod:`ranking._bounds` proves from v alone.

References: Jonker and Volgenant, Computing 38, 1987 (assignment); Karp, SIAM J. Comput. 8, 1979 (patching); Carpaneto,
Dell'Amico and Toth, ACM Trans. Math. Softw. 21, 1995 (branch and bound on assignments).
"""

from __future__ import annotations

import math

import numpy as np

from ranking._search_numba import noticeable, polish, tour_cost, tour_from
from solvers._core.jit import njit

__all__ = [
    "assign",
    "branch",
    "build_costs",
    "cut_slack",
    "patch",
    "solve_root",
    "subset_recursion",
]

# Part of the tolerance at which a branch is cut off, the rest is for rounding; and of the unit by which costs of whole
# numbers differ.
CUT_SHARE = 0.5
CUT_UNIT = 0.99
# First row prices lie at this share between the mean and the least of a row's costs, where costs differ in size by no
# more than this.
LEAST_SHARE = 0.7
WIDEST = 1e9
# All bits of a number but its sign.
BELOW_SIGN = (1 << 63) - 1


@njit()
def build_costs(scores, perm, sign, depot, start, end, c):
    """Costs sign * scores of the items in the order ``perm``, with a free depot as last node if asked for.

    Columns of ``c`` beyond its rows are filled with inf. Returns the numbers of NaN, of attractive infinities and of
    forbidden arcs off the diagonal, and max |finite|.
    """
    n = len(perm)
    nans, attractive, forbidden, largest = 0, 0, 0, 0.0
    for i in range(n):
        row = perm[i]
        for j in range(n):
            value = sign * scores[row, perm[j]]
            if i == j:
                value = np.inf
            elif math.isnan(value):
                nans += 1
            elif value == -np.inf:
                attractive += 1
            elif value == np.inf:
                forbidden += 1
            elif abs(value) > largest:
                largest = abs(value)
            c[i, j] = value
    c[:, len(c) :] = np.inf
    if depot:
        for i in range(n):
            c[n, i] = 0.0 if start < 0 or perm[i] == start else np.inf
            c[i, n] = 0.0 if end < 0 or perm[i] == end else np.inf
        c[n, n] = np.inf
    return nans, attractive, forbidden, largest


@njit()
def augment(c, row, x, y, u, v, blocked, work, bits, pred, todo, limit):
    """Shortest augmenting path from a free row (Dijkstra on reduced costs), columns ``blocked`` left out.

    ``bits`` are those of the first row of ``work``. Returns the rise of the dual objective. At ``limit`` the search
    stops with feasible prices and the row still free; an infinite rise means that there is no path, and ``todo[:k]`` (k
    in the last of ``pred``) then lists the columns reached.

    Columns that are left out or done have the price -inf and stay at distance inf, so that every pass runs over all of
    them and the processor takes several at once.
    """
    m, width = c.shape
    dist, price, reached = work[0], work[1], work[2]
    dist[:] = np.inf
    price[m:] = 0.0
    for j in range(m):
        price[j] = -np.inf if blocked[j] else v[j]
    scanned = 0
    sink = -1
    mu = 0.0
    i = row
    while True:
        relax(c, i, price, dist, pred, mu - u[i])
        j = place_of_least(bits, y)
        best = dist[j]
        if best == np.inf:
            pred[width] = scanned
            return np.inf
        mu = max(best, 0.0)
        if mu >= limit:
            mu = limit
            break
        todo[scanned] = j
        if y[j] < 0:
            sink = j
            break
        reached[scanned] = mu
        scanned += 1
        price[j] = -np.inf
        dist[j] = np.inf
        i = y[j]
    for k in range(scanned):
        j = todo[k]
        shift = mu - reached[k]
        if shift > 0.0:
            v[j] -= shift
            u[y[j]] += shift
    u[row] += mu
    if sink >= 0:
        j = sink
        while True:
            i = pred[j]
            y[j] = i
            j, x[i] = x[i], j
            if i == row:
                break
    return mu


@njit()
def relax(c, row, price, dist, pred, base):
    """Distances through a row: base + costs - price where that is less."""
    i = np.uint64(row)
    for j in range(np.uint64(len(dist))):
        value = base + c[i, j] - price[j]
        less = value < dist[j]
        dist[j] = value if less else dist[j]
        pred[j] = row if less else pred[j]


@njit()
def reduce_row(c, row, price, out):
    """Reduced costs of a row."""
    i = np.uint64(row)
    for j in range(np.uint64(len(out))):
        out[j] = c[i, j] - price[j]


@njit()
def place_of_least(bits, y):
    """Where the least of some numbers stands, of several equal ones at a free column.

    Numbers that are not negative but for rounding are ordered as the integers of the same bits, whose minimum the
    compiler vectorises; of several negative ones, any will do.
    """
    width = len(bits)
    low = bits[0]
    for j in range(width):
        low = min(low, bits[j])
    nowhere = 2 * width
    at = nowhere
    for j in range(width):
        k = j if y[j] < 0 else j + width
        k = k if bits[j] == low else nowhere
        at = k if k < at else at
    return at if at < width else at - width


@njit()
def lower_columns(c, row, price, pred, centre):
    """Column minima of costs - centre, taking another row into account."""
    i = np.uint64(row)
    for j in range(np.uint64(len(price))):
        value = c[i, j] - centre
        less = value < price[j]
        price[j] = value if less else price[j]
        pred[j] = row if less else pred[j]


@njit(fastmath={"reassoc", "nsz"})
def sum_of_allowed(c, row):
    """Sum of the finite costs of a row and their number; in no fixed order, so that several are added at once."""
    i = np.uint64(row)
    total, count = 0.0, 0.0
    for j in range(np.uint64(c.shape[1])):
        total += c[i, j] if c[i, j] < np.inf else 0.0
        count += 1.0 if c[i, j] < np.inf else 0.0
    return total, count


@njit()
def bits_of_least(all_bits, row):
    """The bits of the least number of a row; with the lower bits of negative ones turned over, the order is that of
    integers, whose minimum the compiler vectorises.
    """
    i = np.uint64(row)
    low = BELOW_SIGN
    for j in range(np.uint64(all_bits.shape[1])):
        key = all_bits[i, j] ^ ((all_bits[i, j] >> 63) & BELOW_SIGN)
        low = key if key < low else low
    return low ^ ((low >> 63) & BELOW_SIGN)


@njit()
def bits_of_finest(all_bits, row):
    """The bits of the least modulus of a row that is not 0."""
    i = np.uint64(row)
    low = np.uint64(BELOW_SIGN)
    for j in range(np.uint64(all_bits.shape[1])):
        # 0 less 1 is the greatest integer of all.
        key = np.uint64(all_bits[i, j] & BELOW_SIGN) - np.uint64(1)
        low = key if key < low else low
    return np.int64(low) + 1


@njit()
def centres(c, out, bits):
    """Row prices to begin with, between the least cost of each row and the mean; False where a row has no arc.

    ``bits`` are those of ``out``. Column minima over centred rows fall into more rows, so that more of them have an arc
    at once. Where centring would lose digits of the smallest costs, all centres are 0.
    """
    finest, largest = np.inf, 0.0
    all_bits = c.view(np.int64)
    for i in range(c.shape[0]):
        total, count = sum_of_allowed(c, i)
        if count == 0.0:
            return False
        bits[i] = bits_of_finest(all_bits, i)
        finest = min(finest, out[i])
        bits[i] = bits_of_least(all_bits, i)
        low = out[i]
        centre = LEAST_SHARE * low + (1.0 - LEAST_SHARE) * (total / count)
        # Whole costs keep whole prices.
        out[i] = np.floor(centre) if low == np.floor(low) else centre
        largest = max(largest, abs(out[i]))
    if largest > WIDEST * finest:
        out[:] = 0.0
    return True


@njit()
def assign(c, x, y, u, v, blocked, work, bits, pred, todo):
    """Minimum-cost assignment. Returns 0, or 1 where none exists: v is then a ray that proves it (see _bounds)."""
    m, width = c.shape
    blocked[:] = False
    x[:] = -1
    y[:m] = -1
    y[m:] = m
    h, price = work[0], work[1]
    centre = h[:m]
    if not centres(c, centre, bits):
        v[:] = 0.0
        return 1
    # Column reduction, row by row so that memory is read in order.
    price[:] = np.inf
    pred[:] = -1
    for i in range(m):
        lower_columns(c, i, price, pred, centre[i])
    for j in range(m - 1, -1, -1):
        i = pred[j]
        if i < 0:
            v[:] = 0.0
            v[j] = 1.0
            return 1
        if x[i] < 0:
            x[i] = j
            y[j] = i
    # Prices only fall from here on, and c - price >= 0 up to rounding.
    price += np.min(centre)
    price[m:] = 0.0
    free = np.empty(m, np.int64)
    n_free = 0
    for i in range(m):
        if x[i] < 0:
            free[n_free] = i
            n_free += 1
    # Augmenting row reduction, for as many steps as there are rows: shortest paths are cheaper than more of them.
    k, count, steps = 0, n_free, 0
    n_free = 0
    while k < count:
        i = free[k]
        k += 1
        steps += 1
        reduce_row(c, i, price, h)
        j = place_of_least(bits, y)
        low = h[j]
        h[j] = np.inf
        other = place_of_least(bits, y)
        second = h[other]
        if second == np.inf or steps > m:
            free[n_free] = i
            n_free += 1
            continue
        holder = y[j]
        lowered = low < second
        if lowered:
            price[j] -= second - low
        elif holder >= 0:
            j = other
            holder = y[j]
        if holder >= 0:
            x[holder] = -1
        x[i] = j
        y[j] = i
        if holder >= 0:
            if lowered:
                k -= 1
                free[k] = holder
            else:
                free[n_free] = holder
                n_free += 1
    for j in range(m):
        v[j] = price[j]
    for i in range(m):
        if x[i] >= 0:
            u[i] = c[i, x[i]] - v[x[i]]
        else:
            reduce_row(c, i, price, h)
            u[i] = h[place_of_least(bits, y)]
    for k in range(n_free):
        if augment(c, free[k], x, y, u, v, blocked, work, bits, pred, todo, np.inf) == np.inf:
            write_ray(v, todo, pred[width])
            return 1
    return 0


@njit()
def write_ray(v, todo, count):
    """Prices -1 on the columns reached: more rows than columns among them, so no assignment exists."""
    v[:] = 0.0
    for k in range(count):
        v[todo[k]] = -1.0


@njit()
def label_cycles(x, label, size):
    """Number the cycles of a permutation; returns how many."""
    m = len(x)
    label[:] = -1
    count = 0
    for i in range(m):
        if label[i] < 0:
            k, j = 0, i
            while label[j] < 0:
                label[j] = count
                k += 1
                j = x[j]
            size[count] = k
            count += 1
    return count


@njit()
def patch(d, x, label, size):
    """Karp patching: merge the smallest cycle by the cheapest exchange of two arcs until one cycle is left."""
    m = len(x)
    count = label_cycles(x, label, size)
    alive = count
    while alive > 1:
        small = -1
        for k in range(count):
            if size[k] > 0 and (small < 0 or size[k] < size[small]):
                small = k
        best, from_i, from_k = np.inf, -1, -1
        for i in range(m):
            if label[i] == small:
                xi = x[i]
                own = d[i, xi]
                for k in range(m):
                    if label[k] != small:
                        delta = d[i, x[k]] + d[k, xi] - own - d[k, x[k]]
                        if delta < best or from_i < 0:
                            best, from_i, from_k = delta, i, k
        target = label[from_k]
        x[from_i], x[from_k] = x[from_k], x[from_i]
        for i in range(m):
            if label[i] == small:
                label[i] = target
        size[target] += size[small]
        size[small] = 0
        alive -= 1


@njit()
def solve_root(c, d, x, y, u, v, near, tour):
    """Assignment, patching, segment exchange.

    Returns (code, value of the prices, cost of the tour in d): code 1 if no assignment exists (v is a ray), 2 if the
    assignment is a single cycle, 0 otherwise.
    """
    m, width = c.shape
    blocked = np.zeros(m, np.bool_)
    work = np.empty((3, width))
    bits = work[0].view(np.int64)
    pred = np.empty(width + 1, np.int64)
    todo = np.empty(m, np.int64)
    near[:, 0] = -1
    if assign(c, x, y, u, v, blocked, work, bits, pred, todo) == 1:
        return 1, np.inf, np.inf
    value = 0.0
    for i in range(m):
        value += u[i] + v[i]
    label = np.empty(m, np.int64)
    size = np.empty(m, np.int64)
    place = np.empty(m, np.int64)
    if label_cycles(x, label, size) == 1:
        tour_from(x, tour, place)
        return 2, value, tour_cost(d, tour)
    z = x.copy()
    patch(d, z, label, size)
    tour_from(z, tour, place)
    eps = noticeable(u, v)
    polish(d, u, v, near, tour, place, todo, pred, blocked, label, work[0], eps)
    return 0, value, tour_cost(d, tour)


@njit()
def push(heap, count, key, node):
    """Insert a node into the binary heap ordered by key."""
    k = count
    while k > 0:
        up = (k - 1) // 2
        if key[heap[up]] <= key[node]:
            break
        heap[k] = heap[up]
        k = up
    heap[k] = node


@njit()
def pop(heap, count, key):
    """Remove and return the first of ``count`` nodes."""
    top = heap[0]
    last = heap[count - 1]
    count -= 1
    k = 0
    while True:
        child = 2 * k + 1
        if child >= count:
            break
        if child + 1 < count and key[heap[child + 1]] < key[heap[child]]:
            child += 1
        if key[heap[child]] >= key[last]:
            break
        heap[k] = heap[child]
        k = child
    heap[k] = last
    return top


@njit()
def cut_slack(upper, tol, is_whole):
    """How far below the best tour a branch may be cut off."""
    slack = CUT_SHARE * tol * abs(upper) if abs(upper) < np.inf else 0.0
    return max(slack, CUT_UNIT) if is_whole else slack


@njit()
def branch(c, d, slack, barrier, parent, tail, head, state, key, X, U, V, heap, counts, upper, tour, near, budget):
    """Expand up to ``budget`` nodes, least bound first.

    Node t's ancestors forbid their own arc (tail, head) and force those of their earlier siblings. ``state``: 0 open,
    1 internal, 2 leaf that is cut off by its prices, 3 leaf that has no assignment (V is a ray). ``counts`` holds the
    number of nodes and the size of the heap. Nodes with bound >= upper - slack are cut off. Tours of
    cost >= barrier use forbidden arcs. Returns (reason, upper,
    expanded): 0 nothing open below the limit, 1 budget used, 2 no room for the children of the next node.
    """
    m, width = c.shape
    room = len(parent)
    eps = noticeable(U[0], V[0])
    sets = np.zeros((3, m), np.bool_)
    blocked, fixed, queued = sets[0], sets[1], sets[2]
    work = np.empty((3, width))
    bits = work[0].view(np.int64)
    pred = np.empty(width + 1, np.int64)
    rows = np.empty((7, m), np.int64)
    todo, label, size, loose = rows[0], rows[1], rows[2], rows[3]
    z, trial, place = rows[4], rows[5], rows[6]
    y, y_parent = np.zeros((2, width), np.int64)
    removed = np.empty(room, np.int64)
    kept_cost = np.empty(room)
    expanded = 0
    while counts[1] > 0 and key[heap[0]] < upper - slack:
        if expanded >= budget:
            return 1, upper, expanded
        if counts[0] + m > room:
            return 2, upper, expanded
        node = pop(heap, counts[1], key)
        counts[1] -= 1
        expanded += 1
        # Forbid and force what the ancestors do; arcs forbidden are put back before leaving.
        fixed[:] = False
        blocked[:] = False
        n_removed = 0
        t = node
        while parent[t] >= 0:
            removed[n_removed] = t
            n_removed += 1
            s = t - 1
            while s > 0 and parent[s] == parent[t]:
                fixed[tail[s]] = True
                blocked[head[s]] = True
                s -= 1
            t = parent[t]
        for k in range(n_removed):
            t = removed[k]
            kept_cost[k] = c[tail[t], head[t]]
            c[tail[t], head[t]] = np.inf
        x = X[node]
        for i in range(m):
            y_parent[x[i]] = i
        count = label_cycles(x, label, size)
        if count == 1:
            # Only the root can be one: there is no shorter cycle to break, its prices are the best proof.
            state[node] = 2
            for k in range(n_removed):
                c[tail[removed[k]], head[removed[k]]] = kept_cost[k]
            continue
        loose[:count] = 0
        for i in range(m):
            if not fixed[i]:
                loose[label[i]] += 1
        cycle = 0
        for k in range(1, count):
            if loose[k] < loose[cycle] or (loose[k] == loose[cycle] and size[k] < size[cycle]):
                cycle = k
        begin = 0
        while label[begin] != cycle:
            begin += 1
        state[node] = 1
        i = begin
        forced = 0
        while True:
            j = x[i]
            if not fixed[i]:
                t = counts[0]
                counts[0] += 1
                parent[t] = node
                tail[t] = i
                head[t] = j
                X[t] = x
                U[t] = U[node]
                V[t] = V[node]
                y[:] = y_parent
                X[t, i] = -1
                y[j] = -1
                was = c[i, j]
                c[i, j] = np.inf
                rise = augment(
                    c, i, X[t], y, U[t], V[t], blocked, work, bits, pred, todo, max(0.0, upper - slack - key[node])
                )
                c[i, j] = was
                key[t] = key[node] + rise
                if rise == np.inf:
                    write_ray(V[t], todo, pred[width])
                    state[t] = 3
                elif X[t, i] < 0:
                    state[t] = 2
                else:
                    z[:] = X[t]
                    cycles = label_cycles(z, label, size)
                    if cycles > 1 and (t % 8 == 0 or cycles == 2):
                        patch(d, z, label, size)
                        cycles = -1
                    if abs(cycles) == 1:
                        tour_from(z, trial, place)
                        cost = tour_cost(d, trial)
                        if cycles == -1 and cost < upper + 0.05 * abs(upper):
                            polish(d, U[t], V[t], near, trial, place, todo, pred, queued, size, work[0], eps)
                            cost = tour_cost(d, trial)
                        if cost < upper and cost < barrier:
                            upper = cost
                            tour[:] = trial
                    if cycles == 1:
                        state[t] = 2
                    else:
                        state[t] = 0
                        push(heap, counts[1], key, t)
                        counts[1] += 1
                # From here on the siblings force this arc.
                blocked[j] = True
                fixed[i] = True
                forced += 1
            i = j
            if i == begin:
                break
        for k in range(n_removed):
            t = removed[k]
            c[tail[t], head[t]] = kept_cost[k]
    return 0, upper, expanded


@njit()
def subset_recursion(c, tour):
    """Held-Karp recursion over subsets of the first m - 1 nodes; writes the tour, returns its cost (inf: none)."""
    m = c.shape[0]
    k = m - 1
    full = 1 << k
    best = np.full((full, k), np.inf)
    back = np.full((full, k), -1, np.int8)
    for j in range(k):
        best[1 << j, j] = c[k, j]
    for subset in range(1, full):
        for last in range(k):
            value = best[subset, last]
            if value == np.inf:
                continue
            for j in range(k):
                if subset >> j & 1 == 0:
                    total = value + c[last, j]
                    bigger = subset | 1 << j
                    if total < best[bigger, j]:
                        best[bigger, j] = total
                        back[bigger, j] = last
    low, last = np.inf, -1
    for j in range(k):
        total = best[full - 1, j] + c[j, k]
        if total < low:
            low, last = total, j
    if last < 0:
        return np.inf
    subset = full - 1
    tour[0] = k
    for position in range(k, 0, -1):
        tour[position] = last
        before = back[subset, last]
        subset ^= 1 << last
        last = before
    return low
