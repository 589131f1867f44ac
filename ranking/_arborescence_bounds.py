# mypy: disable-error-code="no-untyped-def, no-untyped-call"
r"""Rigorous lower bounds on the cost of every Hamiltonian cycle, from potentials of its nodes.

For every vector of potentials p and every root r, with w_ij = c_ij + p_i,

    minimum arborescence of w rooted at r  +  min_i w_ir  -  sum_i p_i  <=  cost of every cycle

(Held and Karp): a cycle is an arborescence from r and one arc into r, and leaves every node once. A *tree* proves more:
the two children of an inner node forbid and force one and the same arc, so that every cycle belongs to one of them,
and the least of the leaves' bounds is a bound. A forced arc forbids all others from its tail and into its head.

Every sum is rounded downwards by a factor that the caller chooses. Nothing here is used by the search.
"""

from __future__ import annotations

import math

import numpy as np

from solvers._core.jit import njit

__all__ = ["arborescence_bound", "arborescence_tree_bound", "halves_cover"]


@njit()
def halves_cover(m, parent, tail, head, forced, leaf, n_potentials):
    """Whether every inner node has two children, one that forces an arc and one that forbids it."""
    nodes = len(parent)
    if parent[0] != -1:
        return False
    child = np.full((2, nodes), -1)
    for t in range(1, nodes):
        above = parent[t]
        if not (0 <= above < t and 0 <= tail[t] < m and 0 <= head[t] < m and leaf[above] < 0):
            return False
        side = 1 if forced[t] else 0
        if child[side, above] >= 0:
            return False
        child[side, above] = t
    for t in range(nodes):
        if leaf[t] >= 0:
            if leaf[t] >= n_potentials:
                return False
            continue
        one, other = child[0, t], child[1, t]
        if one < 0 or other < 0 or tail[one] != tail[other] or head[one] != head[other]:
            return False
    return True


@njit()
def arborescence_tree_bound(c, root, parent, tail, head, forced, leaf, potentials, down):
    """Least of the leaves' bounds; inf where no leaf has a cycle."""
    m = c.shape[0]
    own = np.empty((m, m))
    least = np.inf
    for node in range(len(parent)):
        if leaf[node] < 0:
            continue
        own[:] = c
        t = node
        while t > 0:
            i, j = tail[t], head[t]
            if forced[t]:
                for k in range(m):
                    if k != j:
                        own[i, k] = np.inf
                    if k != i:
                        own[k, j] = np.inf
            else:
                own[i, j] = np.inf
            t = parent[t]
        value = arborescence_bound(own, potentials[leaf[node]], root, down)
        if math.isnan(value):
            return -np.inf
        least = min(least, value)
    return least


@njit()
def arborescence_bound(c, potentials, root, down):
    """The bound of one vector of potentials.

    By contraction: entering minima are subtracted until the cheapest entering arcs reach every node.

    The value is the sum of the subtracted minima, a feasible dual point of the arborescence problem by construction; inf
    where no arborescence spans, or no arc enters the root.
    """
    m = c.shape[0]
    w = np.empty((m, m))
    value = 0.0
    closing = np.inf
    for i in range(m):
        for j in range(m):
            total = c[i, j] + potentials[i]
            w[i, j] = total - down * abs(total) if total < np.inf else np.inf
        closing = min(closing, w[i, root])
    if closing == np.inf:
        return np.inf
    alive = np.arange(m)
    count = m
    source = np.empty(m, np.int64)
    seen = np.empty(m, np.int64)
    while True:
        for k in range(count):
            j = alive[k]
            if j == root:
                continue
            low, source[j] = np.inf, -1
            for l in range(count):
                i = alive[l]
                if i != j and w[i, j] < low:
                    low, source[j] = w[i, j], i
            if source[j] < 0:
                return np.inf
            for l in range(count):
                i = alive[l]
                if i != j and w[i, j] < np.inf:
                    rest = w[i, j] - low
                    w[i, j] = max(0.0, rest - down * rest)
            value += low
            value -= down * abs(value)
        # Cycles of the cheapest entering arcs become nodes of their own.
        seen[:] = -1
        seen[root] = root
        merged = False
        for k in range(count):
            j = alive[k]
            t = j
            while seen[t] < 0:
                seen[t] = j
                t = source[t]
            if seen[t] == j and t != root:
                merged = True
                keep = t
                t = source[keep]
                while t != keep:
                    for l in range(count):
                        i = alive[l]
                        if w[t, i] < w[keep, i]:
                            w[keep, i] = w[t, i]
                        if w[i, t] < w[i, keep]:
                            w[i, keep] = w[i, t]
                    seen[t] = m + 1
                    t = source[t]
                seen[keep] = m
        if not merged:
            break
        kept = 0
        for k in range(count):
            if seen[alive[k]] != m + 1:
                alive[kept] = alive[k]
                kept += 1
        count = kept
    value += closing
    value -= down * abs(value)
    for i in range(m):
        value -= potentials[i]
        value -= down * abs(value)
    return value
