# mypy: disable-error-code="no-untyped-def, no-untyped-call"
r"""Compiled kernels for thousands of items: assignment, patching and segment exchange on candidate arcs.

Nothing of size n^2 is stored. Arc costs c_ij come from a tuple ``arcs`` = (scores, perm, sign, P, Q, start, end, huge):
sign times an entry of the caller's matrix, read through the random order ``perm``, or the inner product <P_i, Q_j> where
the matrix is empty; node n is the depot, and ``huge`` stands for a forbidden arc. The search looks at a sparse graph of
candidates (row pointers, columns, costs), which passes over all n^2 arcs (:mod:`ranking._large_passes_numba`) extend by
the arcs of least reduced cost until none is negative: column generation for the assignment problem. The graph always
holds the cycle 0, 1, ..., m - 1, so that it has a perfect matching and every set of nodes can be left.

References: Volgenant, Linear and semi-assignment problems: a core oriented approach, Comput. Oper. Res. 23, 1996; Karp,
SIAM J. Comput. 8, 1979 (patching).
"""

from __future__ import annotations

import numpy as np

from solvers._core.jit import njit

__all__ = [
    "augment_forest",
    "complete",
    "exchange",
    "extend",
    "patch_cycles",
    "price_rows",
    "reduce_rows",
    "tour_value",
]

# Part of the free rows that a forest is to serve.
SERVED = 0.5


@njit()
def arc_cost(arcs, i, j):
    """c_ij."""
    scores, perm, sign, P, Q, start, end, huge = arcs
    n = len(perm)
    if i == n:
        return 0.0 if start < 0 or j == start else huge
    if j == n:
        return 0.0 if end < 0 or i == end else huge
    if i == j:
        return huge
    if scores.shape[0] > 0:
        return sign * scores[perm[i], perm[j]]
    total = 0.0
    for k in range(P.shape[1]):
        total += P[i, k] * Q[j, k]
    return total


@njit()
def tour_value(arcs, tour):
    """Cost of a closed tour."""
    total = arc_cost(arcs, tour[-1], tour[0])
    for k in range(len(tour) - 1):
        total += arc_cost(arcs, tour[k], tour[k + 1])
    return total


@njit()
def extend(arcs, near, indptr, column, m):
    """The old graph and the arcs to ``near``; every row also keeps the arc to its successor and to the depot."""
    _scores, perm, _sign, _P, _Q, start, end, _huge = arcs
    n = len(perm)
    width = near.shape[1]
    room = len(column) + m * (width + 2)
    pointers = np.zeros(m + 1, np.int64)
    columns = np.empty(room, np.int32)
    costs = np.empty(room)
    mark = np.full(m, -1)
    count = 0
    for i in range(m):
        for k in range(-2, indptr[i + 1] - indptr[i] + width):
            if k == -2:
                j = i + 1 if i + 1 < m else 0
            elif k == -1:
                j = m - 1
            elif k < width:
                j = near[i, k]
            else:
                j = column[indptr[i] + k - width]
            if j < 0 or j == i or mark[j] == i:
                continue
            if (i == n and start >= 0 and j != start) or (j == n and end >= 0 and i != end):
                continue
            mark[j] = i
            columns[count] = j
            costs[count] = arc_cost(arcs, i, j)
            count += 1
        pointers[i + 1] = count
    return pointers, columns[:count].copy(), costs[:count].copy()


@njit()
def price_rows(indptr, column, cost, x, y, u, v, low, eps, free):
    """u_i = min(candidates, ``low``) and the rows whose arc is missing or not tight, which become free; how many."""
    m = len(x)
    count = 0
    for i in range(m):
        least, own = low[i], np.inf
        for e in range(indptr[i], indptr[i + 1]):
            value = cost[e] - v[column[e]]
            least = min(least, value)
            if column[e] == x[i]:
                own = value
        u[i] = least
        if x[i] < 0 or not own <= least + eps:
            if x[i] >= 0:
                y[x[i]] = -1
                x[i] = -1
            free[count] = i
            count += 1
    return count


@njit()
def reduce_rows(indptr, column, cost, x, y, u, v, free, count):
    """Augmenting row reduction: a free row takes its best column and lowers its price to the second best's level."""
    m = len(x)
    k, waiting, steps = 0, 0, 0
    while k < count:
        i = free[k]
        k += 1
        steps += 1
        low, second, first, other = np.inf, np.inf, -1, -1
        for e in range(indptr[i], indptr[i + 1]):
            value = cost[e] - v[column[e]]
            if value < low:
                second, other = low, first
                low, first = value, column[e]
            elif value < second:
                second, other = value, column[e]
        u[i] = low
        if second == np.inf or steps > 4 * m:
            free[waiting] = i
            waiting += 1
            continue
        u[i] = second
        lowered = low < second
        if lowered:
            v[first] -= second - low
        elif y[first] >= 0:
            first = other
        holder = y[first]
        x[i] = first
        y[first] = i
        if holder >= 0:
            x[holder] = -1
            if lowered and k > 0:
                k -= 1
                free[k] = holder
            else:
                free[waiting] = holder
                waiting += 1
    return waiting


@njit()
def rise(heap, where, dist, position):
    """Move a heap entry towards the root."""
    j = heap[position]
    while position > 0:
        above = (position - 1) >> 1
        if dist[heap[above]] <= dist[j]:
            break
        heap[position] = heap[above]
        where[heap[position]] = position
        position = above
    heap[position] = j
    where[j] = position


@njit()
def take(heap, where, dist, count):
    """Remove the first of ``count`` entries; returns it."""
    top, j = heap[0], heap[count - 1]
    where[top] = -1
    count -= 1
    position = 0
    while True:
        child = 2 * position + 1
        if child >= count:
            break
        if child + 1 < count and dist[heap[child + 1]] < dist[heap[child]]:
            child += 1
        if dist[heap[child]] >= dist[j]:
            break
        heap[position] = heap[child]
        where[heap[position]] = position
        position = child
    if count > 0:
        heap[position] = j
        where[j] = position
    return top


@njit()
def augment_forest(indptr, column, cost, x, y, u, v, free, count):
    """One shortest-path forest (Dijkstra with a heap) from the free rows free[:count]; returns how many stay free.

    Trees share no node, so each that reaches a free column augments its row. With the distance delta at which the search
    ends, u_i rises by delta - dist_i and v_j falls by delta - dist_j over the nodes within reach: reduced costs stay
    non-negative, and the arcs of the forest are tight, those into free columns among them, which are leaves.
    """
    m = len(x)
    dist, pred, root = np.empty(m), np.empty(m, np.int64), np.full(m, -1)
    where, heap, done = np.full(m, -1), np.empty(m, np.int64), np.empty(m, np.int64)
    sink = np.full(m, -1)
    wanted = max(1, int(SERVED * count))
    queued, settled, served, source, mu = 0, 0, 0, 0, 0.0
    while True:
        if source < count:
            i = free[source]
            tree = i
            source += 1
        else:
            if queued == 0 or served >= wanted:
                break
            j = take(heap, where, dist, queued)
            queued -= 1
            mu = dist[j]
            done[settled] = j
            settled += 1
            tree = root[j]
            i = y[j]
            if i < 0:
                if sink[tree] < 0:
                    sink[tree] = j
                    served += 1
                continue
        base = mu - u[i]
        for e in range(indptr[i], indptr[i + 1]):
            j = column[e]
            value = max(mu, base + cost[e] - v[j])
            if root[j] >= 0 and (where[j] < 0 or value >= dist[j]):
                continue
            if root[j] < 0:
                where[j] = queued
                heap[queued] = j
                queued += 1
            dist[j], pred[j], root[j] = value, i, tree
            rise(heap, where, dist, where[j])
    for k in range(settled):
        j = done[k]
        shift = mu - dist[j]
        v[j] -= shift
        if y[j] >= 0:
            u[y[j]] += shift
    left = 0
    for k in range(count):
        row = free[k]
        u[row] += mu
        j = sink[row]
        if j < 0:
            free[left] = row
            left += 1
            continue
        while True:
            i = pred[j]
            y[j] = i
            j, x[i] = x[i], j
            if i == row:
                break
    return left


@njit()
def complete(arcs, x, y):
    """An assignment from a part of one: ends that are fixed first, then whatever is left, but no node to itself."""
    m = len(x)
    _scores, _perm, _sign, _P, _Q, start, end, _huge = arcs
    for i, j in ((m - 1, start), (end, m - 1)):
        if i >= 0 and j >= 0:
            for row, column in ((i, x[i]), (y[j], j)):
                if row >= 0 and column >= 0:
                    x[row], y[column] = -1, -1
            x[i], y[j] = j, i
    rows, columns = np.flatnonzero(x < 0), np.flatnonzero(y < 0)
    for k in range(len(rows)):
        i, j = rows[k], columns[k]
        if i == j and k + 1 < len(rows):
            j, columns[k + 1] = columns[k + 1], j
        elif i == j:
            # Another row gives its column and serves this node instead.
            other = i
            while other == i or (other == m - 1 and start >= 0) or (x[other] == m - 1 and end >= 0):
                other = other + 1 if other + 1 < m else 0
            x[i] = x[other]
            y[x[i]] = i
            i = other
        x[i], y[j] = j, i


@njit()
def patch_cycles(arcs, indptr, column, x, y, lots):
    """Merge one cycle into another by the best exchange along a candidate arc, until one is left.

    The smallest goes first, or, where there are ``lots`` (m), that of the least lot.
    """
    m = len(x)
    label = np.full(m, -1)
    size = np.empty(m, np.int64)
    member = np.empty(m, np.int64)
    count = 0
    for i in range(m):
        if label[i] < 0:
            j, k = i, 0
            while label[j] < 0:
                label[j] = count
                k += 1
                j = x[j]
            size[count], member[count] = k, i
            count += 1
    drawn = len(lots) > 0
    key = lots[:count].copy() if drawn else size[:count].astype(np.float64)
    heap, where = np.arange(count), np.arange(count)
    for k in range(count):
        rise(heap, where, key, k)
    while count > 1:
        small = take(heap, where, key, count)
        count -= 1
        best, at, to = np.inf, -1, -1
        i = member[small]
        for _ in range(size[small]):
            for e in range(indptr[i], indptr[i + 1]):
                j = column[e]
                if label[j] != small:
                    k = y[j]
                    delta = (
                        arc_cost(arcs, i, j) - arc_cost(arcs, k, j) + arc_cost(arcs, k, x[i]) - arc_cost(arcs, i, x[i])
                    )
                    if delta < best or at < 0:
                        best, at, to = delta, i, j
            i = x[i]
        target, tail, head = label[to], y[to], x[at]
        i = member[small]
        for _ in range(size[small]):
            label[i] = target
            i = x[i]
        x[at], y[to] = to, at
        x[tail], y[head] = head, tail
        size[target] += size[small]
        if drawn:
            continue
        # A cycle that has grown sinks in the heap: it is lifted out and put in again.
        key[target] = -1.0
        rise(heap, where, key, where[target])
        take(heap, where, key, count)
        key[target] = size[target]
        heap[count - 1] = target
        where[target] = count - 1
        rise(heap, where, key, count - 1)


@njit()
def move_segment(tour, place, scratch, first, left, right):
    """Exchange the adjacent segments of lengths ``left`` and ``right`` from position ``first`` (cyclic).

    On a cycle the same new tour arises from exchanging any two of the three segments: the two shorter ones move.
    """
    m = len(tour)
    third = m - left - right
    if left >= right and left >= third:
        first, left, right = first + left, right, third
    elif right >= left and right >= third:
        first, left, right = first + left + right, third, left
    first %= m
    p = first
    for k in range(left):
        scratch[k] = tour[p]
        p = p + 1 if p + 1 < m else 0
    q = first
    for _ in range(right):
        node = tour[p]
        tour[q] = node
        place[node] = q
        p = p + 1 if p + 1 < m else 0
        q = q + 1 if q + 1 < m else 0
    for k in range(left):
        node = scratch[k]
        tour[q] = node
        place[node] = q
        q = q + 1 if q + 1 < m else 0


@njit()
def wake(tour, place, node, queue, queued, count):
    """Queue a node and the one before it."""
    q = place[node] - 1
    for one in (node, tour[q] if q >= 0 else tour[-1]):
        if not queued[one]:
            queued[one] = True
            queue[count] = one
            count += 1
    return count


@njit()
def exchange(arcs, v, near, reduced, tour, place, scratch, queue, queued, count, eps, moves):
    """Segment exchange (Or-3opt) from the ``count`` nodes in ``queue``, at most ``moves`` times; returns the nodes left."""
    m, width = near.shape
    while count > 0 and moves > 0:
        count -= 1
        a = queue[count]
        queued[a] = False
        pa = place[a]
        a_next = tour[pa + 1] if pa + 1 < m else tour[0]
        out_a = arc_cost(arcs, a, a_next) - v[a_next]
        found = False
        for k in range(width):
            head = near[a, k]
            gain1 = out_a - reduced[a, k]
            if gain1 <= eps:
                break
            ph = place[head]
            offset = ph - 1 - pa
            if offset < 0:
                offset += m
            if offset == 0:
                continue
            b = tour[ph - 1] if ph > 0 else tour[m - 1]
            gain_b = gain1 + arc_cost(arcs, b, head) - v[head]
            for l in range(width):
                tail = near[b, l]
                gain2 = gain_b - reduced[b, l]
                if gain2 <= eps:
                    break
                pt = place[tail]
                reach = pt - pa
                if reach <= 0:
                    reach += m
                if reach <= offset + 1:
                    continue
                z = tour[pt - 1] if pt > 0 else tour[m - 1]
                gain = gain2 + arc_cost(arcs, z, tail) - v[tail] - (arc_cost(arcs, z, a_next) - v[a_next])
                if gain > eps:
                    first = pa + 1 if pa + 1 < m else 0
                    move_segment(tour, place, scratch, first, offset, reach - 1 - offset)
                    moves -= 1
                    for node in (a, b, z):
                        count = wake(tour, place, node, queue, queued, count)
                    found = True
                    break
            if found:
                break
    return count
