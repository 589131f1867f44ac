# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""Compiled branch and bound on 1-arborescences, for scores whose assignments fall into short cycles.

Each node of the tree forbids or forces one arc, on top of what its ancestors do; its bound is that of its own
potentials, a few steps of ascent from its parent's. An arc is chosen among those that leave a node which several
leave: the one whose loss costs much in both children, where a forced arc costs what the others from its tail, which are
then lost, take to replace. Replacing an arc ij means entering j from outside the branch below j.

Nothing here is trusted: :mod:`ranking._arborescence_bounds` proves from the potentials of the leaves alone.

References: Held and Karp, Oper. Res. 18, 1970; Volgenant and Jonker, European J. Oper. Res. 9, 1982.
"""

from __future__ import annotations

import numpy as np

from ranking._ascent_numba import TAIL, climb, entering_costs, keep_cycle, preorder, workspace
from ranking._kernels_numba import pop, push
from ranking._search_numba import best_of
from solvers._core.jit import njit

__all__ = ["branch_on_arcs"]

# Steps of ascent at a node.
NODE_STEPS = 20
# One in so many nodes gives a tour, by local search from its arborescence.
TOUR_NODES = 3
# Weight of the cheaper of two losses' sum against the lesser of them.
SIDE_WEIGHT = 1e-3


@njit()
def restrict(all_into, into, node, parent, tail, head, forced, m):
    """Entering costs at a node of the tree: those of the arcs that its decisions leave out are inf."""
    into[:] = all_into
    while parent[node] >= 0:
        i, j = tail[node], head[node]
        kept = into[j * m + i] if forced[node] else np.inf
        if forced[node]:
            for k in range(m):
                into[j * m + k] = np.inf
                into[k * m + i] = np.inf
        into[j * m + i] = kept
        node = parent[node]


@njit()
def loss(into, p, root, tails, j):
    """What it costs to enter j by another arc that closes no cycle."""
    m = len(p)
    i = tails[j]
    own = into[j * m + i] + p[i]
    least = np.inf
    for k in range(m):
        if k != i and k != j:
            more = into[j * m + k] + p[k] - own
            if more < least:
                # An arc from below j does not count, but into the root, where every branch ends.
                t = k
                while t != root and t != j:
                    t = tails[t]
                if t != j or j == root:
                    least = more
    return least


@njit()
def choose(into, p, root, tails, leaving):
    """Head of the arc to branch on, -1 if one arc leaves every node."""
    m = len(p)
    leaving[:] = 0
    for j in range(m):
        leaving[tails[j]] += 1
    best, chosen = -1.0, -1
    losses = np.empty(m)
    for i in range(m):
        if leaving[i] < 2:
            continue
        total, endless = 0.0, 0
        for j in range(m):
            if tails[j] == i:
                losses[j] = loss(into, p, root, tails, j)
                if losses[j] < np.inf:
                    total += losses[j]
                else:
                    endless += 1
        for j in range(m):
            if tails[j] == i:
                if endless > 0:
                    score = np.inf
                else:
                    score = min(losses[j], total - losses[j]) + SIDE_WEIGHT * total
                if score > best:
                    best, chosen = score, j
    return chosen


@njit()
def branch_on_arcs(
    c, d, root, slack, barrier, parent, tail, head, forced, state, key, P, heap, counts, upper, tour, budget
):  # fmt: skip
    """Expand up to ``budget`` nodes, least bound first.

    ``state``: 0 open, 1 internal, 2 leaf that is cut off, or whose arborescence is a cycle. ``counts`` holds the number of
    nodes and the size of the heap. Nodes with bound >= upper - slack are cut off. Tours are sought in d, the costs with
    huge ones for forbidden arcs, and those of cost >= barrier use one. Returns (reason, upper, expanded):
    0 nothing open below the limit, 1 budget used, 2 no room for the children of the next node.
    """
    m = c.shape[0]
    room = len(parent)
    all_into, least = entering_costs(c)
    into = np.empty(m * m)
    w, bits, paid, links, vectors = workspace(m)
    leaving = np.empty(m, np.int64)
    p, entering = np.empty(m), np.empty(m)
    walk = np.empty((1, m), np.int64)
    expanded = 0
    while counts[1] > 0 and key[heap[0]] < upper - slack:
        if expanded >= budget:
            return 1, upper, expanded
        if counts[0] + 2 > room:
            return 2, upper, expanded
        node = pop(heap, counts[1], key)
        counts[1] -= 1
        expanded += 1
        restrict(all_into, into, node, parent, tail, head, forced, m)
        p[:] = P[node]
        climb(into, least, p, root, -np.inf, upper, 1, w, bits, paid, links, vectors, walk[:0])
        j = choose(into, vectors[0], root, links[TAIL], leaving)
        if j < 0:
            state[node] = 2
            upper = keep_cycle(all_into, least, root, links[TAIL], upper, tour)
            continue
        i = links[TAIL, j]
        state[node] = 1
        if expanded % TOUR_NODES == 1:
            preorder(links, root, walk[0])
            for k in range(m):
                p[k] = -p[k]
                entering[k] = np.inf
            for k in range(m):
                for l in range(m):
                    entering[l] = min(entering[l], d[k, l] - p[k])
            upper = best_of(d, p, entering, walk, tour, upper, barrier)
        for force in (True, False):
            t = counts[0]
            counts[0] += 1
            parent[t], tail[t], head[t], forced[t] = node, i, j, force
            P[t] = P[node]
            restrict(all_into, into, t, parent, tail, head, forced, m)
            value, _, is_cycle = climb(
                into, least, P[t], root, upper - slack, upper, NODE_STEPS, w, bits, paid, links, vectors, walk[:0]
            )
            key[t] = max(value, key[node])
            if is_cycle:
                upper = keep_cycle(all_into, least, root, links[TAIL], upper, tour)
            if is_cycle or key[t] >= upper - slack:
                state[t] = 2
            else:
                state[t] = 0
                push(heap, counts[1], key, t)
                counts[1] += 1
    return 0, upper, expanded
