# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""Compiled ascent of the 1-arborescence bound (Held and Karp) in the node potentials.

For potentials p, w_ij = c_ij + p_i; the minimum arborescence rooted at r plus the cheapest arc into r gives every node
one entering arc, and its value less the sum of p is a bound L(p) on every Hamiltonian cycle. The numbers of leaving arcs
less one are a supergradient of L, zero where the arcs are a cycle, which is then optimal. Steps follow Polyak's rule
with a remembered direction.

The arborescence is found by contraction, along a path of cheapest entering arcs that grows against the arcs until it
meets what the root reaches already. A node that is merged from others gets a row of its own: the cost of entering it
from every tail, less what its members have paid. Rows are never changed once read, so that the member which an arc
enters is found again by its cost. One bound takes O(m^2), in passes over rows that the processor takes several at once.

References: Held and Karp, Oper. Res. 18, 1970; Edmonds, J. Res. NBS 71B, 1967; Tarjan, Networks 7, 1977.
"""

from __future__ import annotations

import numpy as np

from solvers._core.jit import njit

__all__ = ["TAIL", "ascend", "climb", "entering_costs", "keep_cycle", "preorder", "workspace"]

# Steps: part of the distance to the best cycle, what is kept of the last direction, steps without progress before the
# part shrinks, by how much, and where it ends. Progress is a fraction of the distance.
PART, KEPT, PATIENCE, SHRINK, LEAST_PART = 1.5, 0.7, 4, 0.7, 1e-3
PROGRESS = 1e-4
# Steps between arborescences whose preorders become tours, and how many of them, the last ones, are kept.
TOUR_STEPS = 10
TOURS = 7
# What becomes of a node while the arborescence grows.
NEW, ON_PATH, REACHED, MERGED = range(4)
TAIL, MEMBER, SIBLING, STATE, PATH, HOME, RING = range(7)


@njit()
def workspace(m):
    """Rows of nodes and merged nodes with their bits, what each has paid, links between them, and three vectors."""
    w = np.empty(2 * m * m)
    return w, w.view(np.int64), np.empty(2 * m), np.empty((7, 2 * m), np.int64), np.empty((3, m))


@njit()
def entering_costs(c):
    """Costs >= 0 of the arcs into each node side by side, flat, and what was taken from every arc for that.

    Numbers that are not negative are ordered as the integers of the same bits.
    """
    m = c.shape[0]
    least = np.inf
    for i in range(m):
        for j in range(m):
            least = min(least, c[i, j])
    if least == np.inf:
        least = 0.0
    into = np.empty(m * m)
    for i in range(m):
        for j in range(m):
            into[j * m + i] = c[i, j] - least
    return into, least


@njit()
def fill(w, row, into, p, m):
    """Row of a node: costs of its entering arcs and the potentials of their tails."""
    for i in range(m):
        w[row + i] = into[row + i] + p[i]


@njit()
def cheapest(bits, row, m):
    """Tail of the cheapest entering arc."""
    low = bits[row]
    for i in range(m):
        low = min(low, bits[row + i])
    at = np.uint64(0)
    while bits[row + at] != low:
        at += np.uint64(1)
    return at


@njit()
def merge(w, row, one, paid, other, paid_other, m):
    """Row of a node merged from two: the cheaper of entering one or the other, less what they have paid."""
    for i in range(m):
        first, second = w[one + i] - paid, w[other + i] - paid_other
        w[row + i] = first if first < second else second


@njit()
def lower(w, row, other, paid, m):
    """One more member of a merged node."""
    for i in range(m):
        first, second = w[other + i] - paid, w[row + i]
        w[row + i] = first if first < second else second


@njit()
def any_node(x, member, m):
    """A node of the problem within a merged one."""
    while x >= m:
        x = member[x]
    return x


@njit()
def arborescence(into, p, root, w, bits, paid, links):
    """Minimum arborescence of into + p; writes the tail of the arc into each node, returns its cost (inf: none).

    ``into`` and p must not be negative.
    """
    m = len(p)
    width = np.uint64(m)
    tail, member, sibling, state = links[TAIL], links[MEMBER], links[SIBLING], links[STATE]
    path, home, ring = links[PATH], links[HOME], links[RING]
    for i in range(m):
        home[i], state[i], ring[i] = i, NEW, i
    state[root] = REACHED
    count = m
    value = 0.0
    for start in range(m):
        node = home[start]
        if state[node] == REACHED:
            continue
        depth = 0
        while True:
            row = np.uint64(node) * width
            if node < m:
                fill(w, row, into, p, width)
            at = cheapest(bits, row, width)
            low = w[row + at]
            if low == np.inf:
                return np.inf
            value += low
            paid[node], tail[node], state[node], path[depth] = low, at, ON_PATH, node
            depth += 1
            source = home[at]
            if state[source] == REACHED:
                break
            if state[source] == NEW:
                node = source
                continue
            # The path has met itself: its end, from there on, becomes one node.
            node = count
            count += 1
            row = np.uint64(node) * width
            depth -= 2
            x, y = path[depth + 1], path[depth]
            merge(w, row, np.uint64(x) * width, paid[x], np.uint64(y) * width, paid[y], width)
            member[node], sibling[y], sibling[x] = y, x, -1
            first = any_node(x, member, m)
            while True:
                state[x] = state[y] = MERGED
                other = any_node(y, member, m)
                ring[first], ring[other] = ring[other], ring[first]
                if y == source:
                    break
                depth -= 1
                y = path[depth]
                lower(w, row, np.uint64(y) * width, paid[y], width)
                sibling[y] = member[node]
                member[node] = y
            state[node] = NEW
            i = first
            while True:
                home[i] = node
                w[row + np.uint64(i)] = np.inf
                i = ring[i]
                if i == first:
                    break
        for k in range(depth):
            state[path[k]] = REACHED
    # Merged nodes, last first: the member that is entered from outside gives up its arc of the cycle.
    for node in range(count - 1, m - 1, -1):
        at = np.uint64(tail[node])
        cost = w[np.uint64(node) * width + at]
        x = member[node]
        while w[np.uint64(x) * width + at] - paid[x] != cost:
            x = sibling[x]
        tail[x] = tail[node]
    return value


@njit()
def climb(into, least, p, root, goal, upper, steps, w, bits, paid, links, vectors, tours):
    """Improve the potentials p in place, up to ``goal``; every few steps, the arborescence's preorder goes into ``tours``.

    Returns the best bound met, the number of tours, and whether the last arborescence, whose arcs ``links[TAIL]`` holds
    with that into the root, is a cycle: then it is optimal, and the bound its cost. A bound of inf says that there is none.
    """
    m = len(p)
    trial, direction, last = vectors[0], vectors[1], vectors[2]
    tail = links[TAIL]
    low = p.min()
    for i in range(m):
        trial[i] = p[i] - low
        last[i] = 0.0
    best, part, stalls, count = -np.inf, PART, 0, 0
    for step in range(steps):
        value = arborescence(into, trial, root, w, bits, paid, links)
        low, at = np.inf, -1
        for i in range(m):
            if into[root * m + i] + trial[i] < low and i != root:
                low, at = into[root * m + i] + trial[i], i
        value += low + m * least
        if not value < np.inf:
            return np.inf, count, False
        tail[root] = at
        for i in range(m):
            value -= trial[i]
            direction[i] = -1.0
        for j in range(m):
            direction[tail[j]] += 1.0
        stalls = 0 if value > best + PROGRESS * abs(upper - best) else stalls + 1
        if value > best:
            best = value
            p[:] = trial
        norm = 0.0
        for i in range(m):
            norm += abs(direction[i])
        if norm == 0.0:
            p[:] = trial
            return value, count, True
        if step % TOUR_STEPS == TOUR_STEPS - 1 and len(tours) > 0:
            preorder(links, root, tours[count % len(tours)])
            count += 1
        if best >= goal:
            return best, count, False
        if stalls >= PATIENCE:
            stalls = 0
            part *= SHRINK
            if part < LEAST_PART:
                return best, count, False
        norm = 0.0
        for i in range(m):
            direction[i] += KEPT * last[i]
            last[i] = direction[i]
            norm += direction[i] * direction[i]
        length = part * max(upper - value, 0.0) / norm if norm > 0.0 else 0.0
        low = np.inf
        for i in range(m):
            trial[i] += length * direction[i]
            low = min(low, trial[i])
        for i in range(m):
            trial[i] -= low
    return best, count, False


@njit()
def keep_cycle(into, least, root, tails, upper, tour):
    """Write a cycle that costs less than ``upper``; returns the lesser cost."""
    m = len(tour)
    cost = m * least
    for j in range(m):
        cost += into[j * m + tails[j]]
    if cost < upper:
        node = root
        for k in range(m - 1, -1, -1):
            tour[k] = node
            node = tails[node]
        return cost
    return upper


@njit()
def preorder(links, root, tour):
    """The nodes in the order in which a walk through the arborescence meets them first."""
    m = len(tour)
    tails, first, after, waiting = links[TAIL], links[MEMBER], links[SIBLING], links[PATH]
    for i in range(m):
        first[i] = -1
    for j in range(m):
        if j != root:
            after[j] = first[tails[j]]
            first[tails[j]] = j
    waiting[0] = root
    count, met = 1, 0
    while count > 0:
        count -= 1
        i = waiting[count]
        tour[met] = i
        met += 1
        j = first[i]
        while j >= 0:
            waiting[count] = j
            count += 1
            j = after[j]


@njit()
def ascend(c, p, root, goal, upper, steps, tour):
    """Improve the potentials p in place.

    Returns the best bound, the cost of the best cycle, written to ``tour`` if it is an arborescence's, and the preorders of
    some arborescences on the way.
    """
    m = c.shape[0]
    into, least = entering_costs(c)
    w, bits, paid, links, vectors = workspace(m)
    tours = np.empty((TOURS, m), np.int64)
    best, count, is_cycle = climb(into, least, p, root, goal, upper, steps, w, bits, paid, links, vectors, tours)
    if is_cycle:
        upper = keep_cycle(into, least, root, links[TAIL], upper, tour)
    return best, upper, tours[: min(count, TOURS)]
