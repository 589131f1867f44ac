# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""Compiled kernels of the path search: assignment, patching, segment exchange, branch and bound, subset recursion.

Costs c (m, m) are minimised over Hamiltonian cycles; +inf marks an arc that must not be used, the diagonal among them.
An assignment is kept as x (column of each row), y (row of each column) with prices u, v such that c_ij - u_i - v_j >= 0
and = 0 on the assignment, up to rounding. Nothing here is trusted: :mod:`ranking._bounds` proves from v alone.

References: Jonker and Volgenant, Computing 38, 1987 (assignment); Karp, SIAM J. Comput. 8, 1979 (patching); Carpaneto,
Dell'Amico and Toth, ACM Trans. Math. Softw. 21, 1995 (branch and bound on assignments).
"""

from __future__ import annotations

import math

import numpy as np

from solvers._core.jit import njit

__all__ = [
    "assign",
    "branch",
    "build_costs",
    "cut_slack",
    "iterate",
    "patch",
    "solve_root",
    "subset_recursion",
]

# Segment exchanges per node before the local search gives up: roundings of huge arcs could make it turn in circles.
MOST_MOVES = 50
# Part of the tolerance at which a branch is cut off, the rest is for rounding; and of the unit by which costs of whole
# numbers differ.
CUT_SHARE = 0.5
CUT_UNIT = 0.99
# A move must gain more than this fraction of the largest price.
NOTICEABLE = 1e-13


@njit()
def build_costs(scores, perm, sign, depot, start, end, c):
    """Costs sign * scores of the items in the order ``perm``, with a free depot as last node if asked for.

    Returns the numbers of NaN, of attractive infinities and of forbidden arcs off the diagonal, and max |finite|.
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
    if depot:
        for i in range(n):
            c[n, i] = 0.0 if start < 0 or perm[i] == start else np.inf
            c[i, n] = 0.0 if end < 0 or perm[i] == end else np.inf
        c[n, n] = np.inf
    return nans, attractive, forbidden, largest


@njit()
def augment(c, row, only, x, y, u, v, blocked, work, pred, todo, limit):
    """Shortest augmenting path from a free row (Dijkstra on reduced costs), columns ``blocked`` left out.

    ``only`` is the free column where there is but one, else -1.

    Returns the rise of the dual objective. At ``limit`` the search stops with feasible prices and the row still free;
    an infinite rise means that there is no path, and ``todo[:k]`` (k in ``pred[-1]``) then lists the columns reached.

    Columns that are left out or done have the price -inf and stay at distance inf, so that every pass runs over all of
    them and the processor takes several at once.
    """
    m = c.shape[0]
    dist, price, reached = work[0], work[1], work[2]
    for j in range(m):
        price[j] = -np.inf if blocked[j] else v[j]
        dist[j] = np.inf
    scanned = 0
    sink = -1
    mu = 0.0
    i = row
    while True:
        relax(c[i], price, dist, pred, mu - u[i], i)
        j = least(dist)
        best = dist[j]
        if best == np.inf:
            pred[m] = scanned
            return np.inf
        mu = max(best, 0.0)
        if mu >= limit:
            mu = limit
            break
        # Among equals, a free column ends the search.
        if only >= 0:
            if dist[only] <= best:
                j = only
        elif y[j] >= 0:
            for k in range(j + 1, m):
                if dist[k] <= best and y[k] < 0:
                    j = k
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
def relax(costs, price, dist, pred, base, row):
    """Distances through a row: base + costs - price where that is less."""
    for j in range(len(dist)):
        value = base + costs[j] - price[j]
        less = value < dist[j]
        dist[j] = value if less else dist[j]
        pred[j] = row if less else pred[j]


@njit()
def least(values):
    """Place of the least of numbers that are not negative but for rounding; of several negative ones, any.

    Doubles that are not negative are ordered as the integers of the same bits, whose minimum the compiler vectorises.
    """
    bits = values.view(np.int64)
    low = bits[0]
    for j in range(len(bits)):
        low = min(low, bits[j])
    at = 0
    while bits[at] != low:
        at += 1
    return at


@njit()
def assign(c, x, y, u, v, blocked, work, pred, todo):
    """Minimum-cost assignment. Returns 0, or 1 where none exists: v is then a ray that proves it (see _bounds)."""
    m = c.shape[0]
    for i in range(m):
        x[i] = -1
        y[i] = -1
        blocked[i] = False
    # Column reduction, row by row so that memory is read in order.
    for j in range(m):
        v[j] = np.inf
        pred[j] = -1
    for i in range(m):
        for j in range(m):
            less = c[i, j] < v[j]
            v[j] = c[i, j] if less else v[j]
            pred[j] = i if less else pred[j]
    for j in range(m - 1, -1, -1):
        i = pred[j]
        if i < 0:
            v[:] = 0.0
            v[j] = 1.0
            return 1
        if x[i] < 0:
            x[i] = j
            y[j] = i
    free = np.empty(m, np.int64)
    n_free = 0
    for i in range(m):
        if x[i] < 0:
            free[n_free] = i
            n_free += 1
    # Augmenting row reduction; the step limit guards against creeping by roundings.
    for _ in range(2):
        k, count = 0, n_free
        n_free = 0
        steps = 0
        while k < count:
            i = free[k]
            k += 1
            steps += 1
            low, second, j1, j2 = np.inf, np.inf, -1, -1
            for j in range(m):
                h = c[i, j] - v[j]
                if h < second:
                    if h < low:
                        second, j2 = low, j1
                        low, j1 = h, j
                    else:
                        second, j2 = h, j
            if j1 < 0:
                # A row without arcs: any prices prove it.
                v[:] = 0.0
                return 1
            if second == np.inf or steps > 4 * m:
                free[n_free] = i
                n_free += 1
                continue
            holder = y[j1]
            lowered = low < second
            if lowered:
                v[j1] -= second - low
            elif holder >= 0:
                j1 = j2
                holder = y[j1]
            if holder >= 0:
                x[holder] = -1
            x[i] = j1
            y[j1] = i
            if holder >= 0:
                if lowered:
                    k -= 1
                    free[k] = holder
                else:
                    free[n_free] = holder
                    n_free += 1
    for i in range(m):
        if x[i] >= 0:
            u[i] = c[i, x[i]] - v[x[i]]
        else:
            low = np.inf
            for j in range(m):
                low = min(low, c[i, j] - v[j])
            u[i] = low
            if low == np.inf:
                v[:] = 0.0
                return 1
    for k in range(n_free):
        if augment(c, free[k], -1, x, y, u, v, blocked, work, pred, todo, np.inf) == np.inf:
            write_ray(v, todo, pred[m])
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
def successors(d, v, near, i):
    """Write the successors of least reduced cost of node i, ascending, unless they are known; -1 marks that not."""
    if near[i, 0] >= 0:
        return
    m, width = near.shape
    filled = 0
    costs, own = d[i], near[i]
    last = np.inf
    for j in range(m):
        value = costs[j] - v[j]
        if (filled == width and value >= last) or j == i:
            continue
        k = filled if filled < width else width - 1
        while k > 0 and costs[own[k - 1]] - v[own[k - 1]] > value:
            own[k] = own[k - 1]
            k -= 1
        own[k] = j
        if filled < width:
            filled += 1
        last = costs[own[filled - 1]] - v[own[filled - 1]]


@njit()
def swap_segments(tour, place, scratch, first, left, right):
    """Exchange the adjacent segments of lengths ``left`` and ``right`` that begin at position ``first`` (cyclic)."""
    m = len(tour)
    at = first
    for k in range(left):
        scratch[k] = tour[at]
        at = at + 1 if at + 1 < m else 0
    to = first
    for _ in range(right):
        node = tour[at]
        at = at + 1 if at + 1 < m else 0
        tour[to] = node
        place[node] = to
        to = to + 1 if to + 1 < m else 0
    for k in range(left):
        node = scratch[k]
        tour[to] = node
        place[node] = to
        to = to + 1 if to + 1 < m else 0


@njit()
def tour_from(x, tour, place):
    """Positions of a single cycle."""
    j = 0
    for k in range(len(x)):
        tour[k] = j
        place[j] = k
        j = x[j]


@njit()
def tour_cost(d, tour):
    """Sum of the arcs of a closed tour."""
    m = len(tour)
    total = d[tour[m - 1], tour[0]]
    for k in range(m - 1):
        total += d[tour[k], tour[k + 1]]
    return total


@njit()
def polish(d, u, v, near, tour, place, scratch, queue, queued, ends, nothing, eps):
    """Segment exchange from every node whose arc has a positive reduced cost."""
    m = len(tour)
    count = 0
    for k in range(m):
        a = tour[k]
        b = tour[k + 1] if k + 1 < m else tour[0]
        queued[a] = d[a, b] - u[a] - v[b] > eps
        if queued[a]:
            queue[count] = a
            count += 1
    local_search(d, u, v, near, tour, place, scratch, queue, queued, ends, count, eps, False, nothing, nothing)


@njit()
def noticeable(u, v):
    """The least gain that is no rounding."""
    largest = 0.0
    for i in range(len(u)):
        largest = max(largest, abs(u[i]), abs(v[i]))
    return NOTICEABLE * largest


@njit()
def solve_root(c, d, x, y, u, v, near, tour):
    """Assignment, patching, segment exchange.

    Returns (code, value of the prices, cost of the tour in d): code 1 if no assignment exists (v is a ray), 2 if the
    assignment is a single cycle, 0 otherwise.
    """
    m = c.shape[0]
    blocked = np.zeros(m, np.bool_)
    work = np.empty((3, m))
    pred = np.empty(m + 1, np.int64)
    todo = np.empty(m, np.int64)
    near[:, 0] = -1
    if assign(c, x, y, u, v, blocked, work, pred, todo) == 1:
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
    m = c.shape[0]
    room = len(parent)
    eps = noticeable(U[0], V[0])
    sets = np.zeros((3, m), np.bool_)
    blocked, fixed, queued = sets[0], sets[1], sets[2]
    work = np.empty((3, m))
    pred = np.empty(m + 1, np.int64)
    rows = np.empty((9, m), np.int64)
    todo, label, size, loose = rows[0], rows[1], rows[2], rows[3]
    y, y_parent, z, trial, place = rows[4], rows[5], rows[6], rows[7], rows[8]
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
                    c, i, j, X[t], y, U[t], V[t], blocked, work, pred, todo, max(0.0, upper - slack - key[node])
                )
                c[i, j] = was
                key[t] = key[node] + rise
                if rise == np.inf:
                    write_ray(V[t], todo, pred[m])
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


@njit()
def prefix_sums(d, tour, forward, backward):
    """Costs of the arcs up to each position, along the tour and against it."""
    m = len(tour)
    forward[0] = 0.0
    backward[0] = 0.0
    for k in range(m):
        a = tour[k]
        b = tour[k + 1] if k + 1 < m else tour[0]
        forward[k + 1] = forward[k] + d[a, b]
        backward[k + 1] = backward[k] + d[b, a]


@njit()
def reverse(tour, place, first, length):
    """Turn round the ``length`` nodes from position ``first`` on (cyclic)."""
    m = len(tour)
    i, j = first, first + length - 1
    while i < j:
        p = i if i < m else i - m
        q = j if j < m else j - m
        tour[p], tour[q] = tour[q], tour[p]
        place[tour[p]] = p
        place[tour[q]] = q
        i += 1
        j -= 1


@njit()
def reversal_gain(d, tour, place, forward, backward, a, c):
    """Gain of turning round the path from the successor of a to c."""
    m = len(tour)
    p, q = place[a], place[c]
    first = p + 1 if p + 1 < m else 0
    b = tour[first]
    after = tour[q + 1] if q + 1 < m else tour[0]
    if first <= q:
        inner = forward[q] - forward[first] - (backward[q] - backward[first])
    else:
        inner = forward[m] - forward[first] + forward[q] - (backward[m] - backward[first] + backward[q])
    return inner + d[a, b] + d[c, after] - d[a, c] - d[b, after]


@njit()
def local_search(d, u, v, near, tour, place, scratch, queue, queued, ends, count, eps, turn, forward, backward):
    """Segment exchange and, if ``turn``, reversal, from the ``count`` nodes in ``queue``, until neither helps."""
    m, width = near.shape
    moves = 0
    if turn:
        prefix_sums(d, tour, forward, backward)
    while count > 0 and moves < MOST_MOVES * m:
        count -= 1
        a = queue[count]
        queued[a] = False
        before = moves
        if exchange_once(d, u, v, near, tour, place, scratch, a, eps, ends):
            moves += 1
        elif turn:
            p = place[a]
            b = tour[p + 1] if p + 1 < m else tour[0]
            successors(d, v, near, b)
            for k in range(width):
                c = near[a, k]
                if c != b:
                    gain = reversal_gain(d, tour, place, forward, backward, a, c)
                    if gain > eps:
                        ends[0], ends[1], ends[2] = a, b, c
                        turn_at(tour, place, a, c)
                        moves += 1
                        break
                # The other new arc, from b to the node behind the turned path.
                after = near[b, k]
                if after != a:
                    q = place[after] - 1
                    c = tour[q] if q >= 0 else tour[m - 1]
                    if c != a and c != b:
                        gain = reversal_gain(d, tour, place, forward, backward, a, c)
                        if gain > eps:
                            ends[0], ends[1], ends[2] = a, b, c
                            turn_at(tour, place, a, c)
                            moves += 1
                            break
        if moves > before:
            if turn:
                prefix_sums(d, tour, forward, backward)
            for k in range(3):
                node = ends[k]
                if not queued[node]:
                    queued[node] = True
                    queue[count] = node
                    count += 1
                q = place[node] - 1
                node = tour[q] if q >= 0 else tour[m - 1]
                if not queued[node]:
                    queued[node] = True
                    queue[count] = node
                    count += 1
    while count > 0:
        count -= 1
        queued[queue[count]] = False


@njit()
def turn_at(tour, place, a, c):
    """Turn round the path from the successor of a to c."""
    m = len(tour)
    first = place[a] + 1
    length = place[c] - place[a]
    if length < 0:
        length += m
    reverse(tour, place, first if first < m else 0, length)


@njit()
def exchange_once(d, u, v, near, tour, place, scratch, a, eps, ends):
    """One improving exchange of two adjacent segments behind a, if there is one; writes the ends of the new arcs."""
    m, width = near.shape
    successors(d, v, near, a)
    pa = place[a]
    a_next = tour[pa + 1] if pa + 1 < m else tour[0]
    out_a = d[a, a_next] - u[a] - v[a_next]
    for k in range(width):
        head = near[a, k]
        gain1 = out_a - (d[a, head] - u[a] - v[head])
        if gain1 <= eps:
            return False
        ph = place[head]
        offset = ph - 1 - pa
        if offset < 0:
            offset += m
        if offset == 0:
            continue
        b = tour[ph - 1] if ph > 0 else tour[m - 1]
        gain_b = gain1 + d[b, head] - u[b] - v[head]
        successors(d, v, near, b)
        for l in range(width):
            tail = near[b, l]
            gain2 = gain_b - (d[b, tail] - u[b] - v[tail])
            if gain2 <= eps:
                break
            pt = place[tail]
            reach = pt - pa
            if reach <= 0:
                reach += m
            if reach <= offset + 1:
                continue
            z = tour[pt - 1] if pt > 0 else tour[m - 1]
            gain = gain2 + d[z, tail] - v[tail] - (d[z, a_next] - v[a_next])
            if gain > eps:
                swap_segments(tour, place, scratch, (pa + 1) % m, offset, reach - 1 - offset)
                ends[0], ends[1], ends[2] = a, b, z
                return True
    return False


@njit()
def iterate(d, u, v, near, tour, draws, turn, fresh):
    """Iterated local search: exchange two short adjacent segments at random, repair, keep what is not worse.

    ``draws`` (kicks, 3) are random integers. ``fresh`` tours are first improved from every node. Returns the cost.
    """
    m = len(tour)
    place = np.empty(m, np.int64)
    scratch, queue, ends = np.empty(m, np.int64), np.empty(m, np.int64), np.empty(3, np.int64)
    queued = np.zeros(m, np.bool_)
    forward, backward = np.empty(m + 1), np.empty(m + 1)
    eps = noticeable(u, v)
    for k in range(m):
        place[tour[k]] = k
    if fresh:
        queue[:] = tour
        queued[:] = True
        local_search(d, u, v, near, tour, place, scratch, queue, queued, ends, m, eps, turn, forward, backward)
    cost = tour_cost(d, tour)
    kept, kept_place = tour.copy(), place.copy()
    longest = min(50, (m - 1) // 2)
    for k in range(len(draws)):
        if m < 4:
            break
        first = draws[k, 0] % m
        left, right = 1 + draws[k, 1] % longest, 1 + draws[k, 2] % longest
        if left + right >= m:
            continue
        swap_segments(tour, place, scratch, first, left, right)
        count = 0
        for position in (first - 1, first + right - 1, first + left + right - 1):
            node = tour[position % m]
            if not queued[node]:
                queued[node] = True
                queue[count] = node
                count += 1
        local_search(d, u, v, near, tour, place, scratch, queue, queued, ends, count, eps, turn, forward, backward)
        new = tour_cost(d, tour)
        if new <= cost:
            cost = new
            kept[:] = tour
            kept_place[:] = place
        else:
            tour[:] = kept
            place[:] = kept_place
    return cost
