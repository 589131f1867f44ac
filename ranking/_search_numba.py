# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""Compiled local search on tours: segment exchange, reversal, and kicks."""

from __future__ import annotations

import numpy as np

from solvers._core.jit import njit

__all__ = ["iterate", "noticeable", "polish", "tour_cost", "tour_from"]

# Moves per node before the local search gives up: roundings of huge arcs could make it turn in circles.
MOST_MOVES = 50
# A move must gain more than this fraction of the largest price.
NOTICEABLE = 1e-13


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
def noticeable(u, v):
    """The least gain that is no rounding."""
    largest = 0.0
    for i in range(len(u)):
        largest = max(largest, abs(u[i]), abs(v[i]))
    return NOTICEABLE * largest


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
def turn_at(tour, place, a, c):
    """Turn round the path from the successor of a to c."""
    m = len(tour)
    first = place[a] + 1
    length = place[c] - place[a]
    if length < 0:
        length += m
    reverse(tour, place, first if first < m else 0, length)


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
