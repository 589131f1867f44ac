# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""Compiled ascent of the 1-arborescence bound (Held and Karp) in the node potentials.

For potentials p, w_ij = c_ij + p_i; the minimum arborescence rooted at r plus the cheapest arc into r gives every node
one entering arc, and p steers the numbers of leaving arcs towards one each. References: Held and Karp, Oper. Res. 18,
1970; Edmonds, J. Res. NBS 71B, 1967.
"""

from __future__ import annotations

import numpy as np

from solvers._core.jit import njit

__all__ = ["ascend"]

MAGNITUDE = np.int64(2**63 - 1)


@njit()
def lowest(values):
    """Place of the least number: doubles are ordered as integers once the bits of negative ones are turned round."""
    bits = values.view(np.int64)
    low = bits[0] ^ ((bits[0] >> 63) & MAGNITUDE)
    for i in range(len(bits)):
        low = min(low, bits[i] ^ ((bits[i] >> 63) & MAGNITUDE))
    own = low ^ ((low >> 63) & MAGNITUDE)
    at = 0
    while bits[at] != own:
        at += 1
    return at


@njit()
def merge(w, real, into, other):
    """The entering arcs of one node join those of another, the cheaper from each tail."""
    for i in range(w.shape[1]):
        less = w[other, i] < w[into, i]
        w[into, i] = w[other, i] if less else w[into, i]
        real[into, i] = real[other, i] if less else real[into, i]


@njit()
def arborescence(ct, p, root, w, real, source, seen, alive, slot, above, entry_tail, entry_head):
    """Minimum arborescence of c_ij + p_i by contraction; writes the tails of its arcs, returns its cost.

    Arcs into one node lie side by side: ct is the transpose of c, w_ji the reduced cost of the arc ij and real_ji the arc
    i m + j of c behind it. Nodes that are merged into others keep arcs of cost inf.
    """
    m = ct.shape[0]
    for j in range(m):
        for i in range(m):
            w[j, i] = ct[j, i] + p[i]
            real[j, i] = i * m + j
        w[j, j] = np.inf
        alive[j] = j
        slot[j] = j
    above[:] = -1
    count = m
    created = m
    value = 0.0
    while True:
        for k in range(count):
            j = alive[k]
            if j == root:
                continue
            at = lowest(w[j])
            low = w[j, at]
            if low == np.inf:
                return np.inf
            for i in range(m):
                w[j, i] -= low
            value += low
            source[j] = at
            entry_tail[slot[j]] = real[j, at] // m
            entry_head[slot[j]] = real[j, at] % m
        for k in range(count):
            seen[alive[k]] = -1
        seen[root] = m
        merged = False
        for k in range(count):
            j = alive[k]
            t = j
            while seen[t] < 0:
                seen[t] = j
                t = source[t]
            if seen[t] == j:
                merged = True
                keep = t
                above[slot[keep]] = created
                t = source[keep]
                seen[keep] = m
                while t != keep:
                    above[slot[t]] = created
                    merge(w, real, keep, t)
                    for l in range(count):
                        i = alive[l]
                        if w[i, t] < w[i, keep]:
                            w[i, keep] = w[i, t]
                            real[i, keep] = real[i, t]
                        w[i, t] = np.inf
                    seen[t] = m + 1
                    t = source[t]
                w[keep, keep] = np.inf
                slot[keep] = created
                created += 1
        if not merged:
            break
        kept = 0
        for k in range(count):
            if seen[alive[k]] != m + 1:
                alive[kept] = alive[k]
                kept += 1
        count = kept
    # Undo the contractions, last first: the member that is entered from outside gives up its arc of the cycle.
    for node in range(created - 1, m - 1, -1):
        t = entry_head[node]
        while above[t] != node:
            t = above[t]
        entry_tail[t] = entry_tail[node]
        entry_head[t] = entry_head[node]
    return value


@njit()
def ascend(c, p, root, upper, steps):
    """Improve the potentials p in place; returns the best value met and the steps taken.

    Steps lambda (upper - L) / |d|^2 along d = leaving arcs - 1 + 0.3 (last d); lambda falls by 0.7 after 15 steps
    without progress.
    """
    m = c.shape[0]
    ct = c.T.copy()
    w = np.empty((m, m))
    real = np.empty((m, m), np.int64)
    source, seen = np.empty(m, np.int64), np.empty(m, np.int64)
    alive, slot = np.empty(m, np.int64), np.empty(m, np.int64)
    above, entry_tail, entry_head = np.empty(2 * m, np.int64), np.empty(2 * m, np.int64), np.empty(2 * m, np.int64)
    trial = p.copy()
    direction, last = np.zeros(m), np.zeros(m)
    best, stalls, factor = -np.inf, 0, 1.0
    done = 0
    for _ in range(steps):
        value = arborescence(ct, trial, root, w, real, source, seen, alive, slot, above, entry_tail, entry_head)
        done += 1
        low, at = np.inf, -1
        for i in range(m):
            if i != root and c[i, root] + trial[i] < low:
                low, at = c[i, root] + trial[i], i
        value += low
        for i in range(m):
            value -= trial[i]
            direction[i] = -1.0
        if not value < np.inf:
            break
        for j in range(m):
            if j != root:
                direction[entry_tail[j]] += 1.0
        direction[at] += 1.0
        if value > best + 1e-7 * abs(upper - best):
            stalls = 0
        else:
            stalls += 1
        if value > best:
            best = value
            p[:] = trial
        norm = 0.0
        for i in range(m):
            norm += direction[i] * direction[i]
            direction[i] += 0.3 * last[i]
            last[i] = direction[i]
        if norm == 0.0 or best >= upper:
            break
        if stalls >= 15:
            stalls = 0
            factor *= 0.7
            if factor < 1e-3:
                break
        norm = 0.0
        for i in range(m):
            norm += direction[i] * direction[i]
        step = factor * max(upper - value, 0.0) / norm if norm > 0.0 else 0.0
        for i in range(m):
            trial[i] += step * direction[i]
    return best, done
