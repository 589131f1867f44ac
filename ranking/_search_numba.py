# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""Compiled local search on tours: segment exchange, reversal, and kicks.

A tour t is kept as an array with the place of each node. For any prices u, v the reduced costs r_ij = c_ij - u_i - v_j
differ from the costs by the same sum on all tours, so that every gain may be counted in them; near the optimum of the
prices they are small on good arcs, and few successors of each node need be looked at.

- *Exchange* of two adjacent segments: arcs (a, a'), (b, b'), (z, z') become (a, b'), (z, a'), (b, z'), no arc is
  turned round. A move is given up as soon as the arcs taken out cost no more than those put in so far.
- *Reversal* of a path b, ..., c behind a: the arcs (a, b), (c, c') become (a, c), (b, c') and all between are turned
  round, which costs the difference of two sums F_k = sum_{l<k} r(t_l, t_l+1) - r(t_l+1, t_l). It pays where costs are
  nearly symmetric.
- A *kick* exchanges two short segments at random; what does not come out better is undone.

References: Or, thesis, Northwestern University, 1976; Martin, Otto and Felten, Complex Systems 5, 1991.
"""

from __future__ import annotations

import numpy as np

from solvers._core.jit import njit

__all__ = ["KICK_NEAR", "best_of", "iterate", "noticeable", "polish", "tour_cost", "tour_from"]

# Moves per node before the local search gives up: roundings of huge arcs could make it turn in circles.
MOST_MOVES = 50
# A move must gain more than this fraction of the largest price.
NOTICEABLE = 1e-13
# Successors per node that are looked at: after kicks, and from tours that are near the best; nodes per segment of a kick.
KICK_NEAR = 10
START_NEAR = 6
KICK_LENGTH = 50


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
def skew_sums(d, tour, skew):
    """Costs of the arcs up to each position, less those of the same arcs turned round."""
    m = len(tour)
    skew[0] = 0.0
    for k in range(m):
        a = tour[k]
        b = tour[k + 1] if k + 1 < m else tour[0]
        skew[k + 1] = skew[k] + d[a, b] - d[b, a]


@njit()
def reversal_gain(d, tour, place, skew, a, b, c, after):
    """Gain of turning round the path from b, the successor of a, to c, which ``after`` follows."""
    p, q = place[b], place[c]
    inner = skew[q] - skew[p]
    if p > q:
        inner += skew[len(tour)]
    return inner + d[a, b] + d[c, after] - d[a, c] - d[b, after]


@njit()
def reverse(tour, place, first, last):
    """Turn round the nodes from position ``first`` to ``last`` (cyclic)."""
    m = len(tour)
    length = last - first + 1 if last >= first else last - first + 1 + m
    for _ in range(length // 2):
        one, other = tour[first], tour[last]
        tour[first], tour[last] = other, one
        place[other], place[one] = first, last
        first = first + 1 if first + 1 < m else 0
        last = last - 1 if last > 0 else m - 1


@njit()
def reverse_once(d, v, near, tour, place, skew, a, eps, ends):
    """One improving reversal of a path behind a, if there is one; writes the ends of the new arcs."""
    m, width = near.shape
    p = place[a]
    b = tour[p + 1] if p + 1 < m else tour[0]
    successors(d, v, near, b)
    for k in range(width):
        c = near[a, k]
        if c != b:
            q = place[c]
            after = tour[q + 1] if q + 1 < m else tour[0]
            if reversal_gain(d, tour, place, skew, a, b, c, after) > eps:
                ends[0], ends[1], ends[2] = a, b, c
                reverse(tour, place, place[b], place[c])
                return True
        # The other new arc, from b to the node behind the turned path.
        after = near[b, k]
        if after != a:
            q = place[after] - 1
            c = tour[q] if q >= 0 else tour[m - 1]
            if c != a and c != b and reversal_gain(d, tour, place, skew, a, b, c, after) > eps:
                ends[0], ends[1], ends[2] = a, b, c
                reverse(tour, place, place[b], place[c])
                return True
    return False


@njit()
def enqueue(node, queue, queued, count):
    """Add a node to the queue unless it is there; returns the new length."""
    if not queued[node]:
        queued[node] = True
        queue[count] = node
        count += 1
    return count


@njit()
def local_search(d, u, v, near, tour, place, scratch, queue, queued, ends, count, eps, turn, skew):
    """Segment exchange and, if ``turn``, reversal, from the ``count`` nodes in ``queue``, until neither helps."""
    m = len(tour)
    moves = 0
    if turn:
        skew_sums(d, tour, skew)
    while count > 0 and moves < MOST_MOVES * m:
        count -= 1
        a = queue[count]
        queued[a] = False
        if exchange_once(d, u, v, near, tour, place, scratch, a, eps, ends) or (
            turn and reverse_once(d, v, near, tour, place, skew, a, eps, ends)
        ):
            moves += 1
            if turn:
                skew_sums(d, tour, skew)
            for k in range(3):
                count = enqueue(ends[k], queue, queued, count)
                q = place[ends[k]] - 1
                count = enqueue(tour[q] if q >= 0 else tour[m - 1], queue, queued, count)
    while count > 0:
        count -= 1
        queued[queue[count]] = False


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
    local_search(d, u, v, near, tour, place, scratch, queue, queued, ends, count, eps, False, nothing)


@njit()
def iterate(d, u, v, tour, draws, turn, fresh, width):
    """Iterated local search: exchange two short adjacent segments at random, repair, keep what is not worse.

    ``draws`` (kicks, 3) are random integers. ``fresh`` tours are first improved from every node. ``width`` successors of
    each node are looked at. Returns the cost.
    """
    m = len(tour)
    # Costs less prices once for all, so that no price is read again.
    rest = np.empty((m, m))
    for i in range(m):
        for j in range(m):
            rest[i, j] = d[i, j] - u[i] - v[j]
    none = np.zeros(m)
    near = np.empty((m, min(width, m - 1)), np.int64)
    near[:, 0] = -1
    place = np.empty(m, np.int64)
    scratch, queue, ends = np.empty(m, np.int64), np.empty(m, np.int64), np.empty(3, np.int64)
    queued = np.zeros(m, np.bool_)
    skew = np.empty(m + 1)
    eps = noticeable(u, v)
    for k in range(m):
        place[tour[k]] = k
    if fresh:
        queue[:] = tour
        queued[:] = True
        local_search(rest, none, none, near, tour, place, scratch, queue, queued, ends, m, eps, turn, skew)
    cost = tour_cost(rest, tour)
    kept, kept_place = tour.copy(), place.copy()
    longest = min(KICK_LENGTH, (m - 1) // 2)
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
            count = enqueue(tour[position % m], queue, queued, count)
        local_search(rest, none, none, near, tour, place, scratch, queue, queued, ends, count, eps, turn, skew)
        new = tour_cost(rest, tour)
        if new <= cost:
            cost = new
            kept[:] = tour
            kept_place[:] = place
        else:
            tour[:] = kept
            place[:] = kept_place
    return tour_cost(d, tour)


@njit()
def best_of(d, u, v, starts, tour, cost, barrier):
    """Local search from several tours; writes one of less than ``cost`` and ``barrier`` to ``tour``; returns the least cost."""
    none = np.empty((0, 3), np.int64)
    for k in range(len(starts)):
        new = iterate(d, u, v, starts[k], none, True, True, START_NEAR)
        if new < cost and new < barrier:
            cost = new
            tour[:] = starts[k]
    return cost
