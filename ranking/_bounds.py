# mypy: disable-error-code="no-untyped-def, no-untyped-call"
r"""Rigorous lower bounds on the cost of every Hamiltonian cycle.

Costs c (m, m), +inf for a forbidden arc. For **every** vector of column prices v,

    L(v) = sum_i min_j (c_ij - v_j) + sum_j v_j  <=  cost of every assignment  <=  cost of every cycle,         (1)

because a cycle uses each column once. With c = 0 on the allowed arcs, L(v) > 0 proves that no assignment exists: L is
homogeneous there, so it could be made arbitrarily large. A *tree* proves more. Each inner node names arcs a_1, ..., a_k
that, together with the arcs forced above it, contain a cycle of fewer than m arcs; its t-th child forbids a_t and
forces a_1, ..., a_{t-1}. The children cover every Hamiltonian cycle of their parent, so the least of the leaves' L is a
bound. At a leaf, a forced row has its one arc, and a forced column serves no other row.

For every vector of potentials p and every root r, with w_ij = c_ij + p_i,

    minimum arborescence of w rooted at r  +  min_i w_ir  -  sum_i p_i  <=  cost of every cycle               (2)

(Held and Karp), by itself or at the leaves of a tree: see :mod:`ranking._arborescence_bounds`.

Where all costs are integers and small enough to add up exactly, so are the costs of all cycles, and every bound is rounded
up to the next integer.

Every rounding is charged: the bound (1) that is published is lowered by twice its error bound, verification lowers its
own by the error bound once, so that a correct recomputation always re-establishes the claim. The recursions (2) and
Held-Karp's round each sum downwards instead, by 4 units of roundoff when publishing and by 2 when verifying: one unit
covers the rounding itself, so the first result lies below the second on any machine.

Nothing here is used by the search.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ranking._arborescence_bounds import arborescence_bound, arborescence_tree_bound, halves_cover
from ranking._result import (
    ArborescenceCertificate,
    ArborescenceTreeCertificate,
    BranchCertificate,
    Certificate,
    RecursionCertificate,
)
from solvers._core.arrays import FloatArray
from solvers._core.jit import njit
from solvers._core.linalg import UNIT

__all__ = ["PUBLISH", "VERIFY", "cycle_bound", "lowered", "sound", "tree_bound", "whole"]

# Units of roundoff by which bounds are lowered, see above.
PUBLISH = 4.0
VERIFY = 2.0
# Nodes up to which the subset recursion is an affordable proof.
RECURSION_NODES = 17
# Scores up to this modulus, and prices and potentials up to LARGEST_SUM / m, make no sum below overflow.
LARGEST_SCORE = 2.0**1000
LARGEST_SUM = 2.0**1020
# Integers up to this modulus / m^2 add up exactly, and their bounds have errors far below one.
LARGEST_WHOLE = 2.0**42
# Numbers that processors take at a time are divisors of this.
WIDE = 16
# Nodes up to which matrices are looked through for that; bounds of more are evaluated in blocks.
WHOLE_NODES = 2000


def cycle_bound(c: FloatArray, certificate: Certificate, units: float) -> float:
    """The bound that a sound certificate proves; +inf proves that there is no cycle."""
    m = len(c)
    if m == 1:
        return 0.0  # one item alone: no arc
    if isinstance(certificate, RecursionCertificate):
        value = float(recursion_bound(c, units * UNIT))
    elif isinstance(certificate, ArborescenceCertificate):
        if not np.abs(certificate.potentials).max() <= LARGEST_SUM / m:
            return -math.inf
        value = float(arborescence_bound(c, certificate.potentials, certificate.root, units * UNIT))
    elif isinstance(certificate, ArborescenceTreeCertificate):
        h = certificate
        if not np.abs(h.potentials).max() <= LARGEST_SUM / m:
            return -math.inf
        value = float(
            arborescence_tree_bound(c, h.root, h.parent, h.tail, h.head, h.forced, h.leaf, h.potentials, units * UNIT)
        )
    else:
        t = certificate
        if t.prices.size and not np.abs(t.prices).max() <= LARGEST_SUM / m:
            return -math.inf
        least, total, largest = tree_bound(c, t.parent, t.tail, t.head, t.leaf, t.ray, t.prices)
        value = float(least if math.isinf(least) else lowered(least, total, largest, m, units))
    if math.isfinite(value) and whole(c):
        value = float(np.ceil(value))
    return -math.inf if math.isnan(value) else value


@njit()
def whole(c):
    """Whether all finite costs are integers that add up exactly."""
    m = c.shape[0]
    if m > WHOLE_NODES:
        return False
    for i in range(m):
        for j in range(m):
            modulus = abs(c[i, j])
            if modulus < np.inf and (modulus != np.floor(modulus) or modulus * m * m > LARGEST_WHOLE):
                return False
    return True


def sound(certificate: object, m: int) -> bool:
    """Whether a certificate has the right shapes and its tree covers every Hamiltonian cycle of m nodes."""
    if isinstance(certificate, RecursionCertificate):
        return m <= RECURSION_NODES
    if isinstance(certificate, ArborescenceCertificate):
        return (
            _is_array(certificate.potentials, np.float64)
            and certificate.potentials.shape == (m,)
            and bool(np.isfinite(certificate.potentials).all())
            and type(certificate.root) is int
            and 0 <= certificate.root < m
        )
    if isinstance(certificate, ArborescenceTreeCertificate):
        return _sound_halves(certificate, m)
    if not isinstance(certificate, BranchCertificate):
        return False
    t = certificate
    return (
        _is_tree(t, t.ray, t.prices, m)
        and t.parent[0] == -1
        and bool(covers(m, t.parent, t.tail, t.head, t.leaf, len(t.prices)))
    )


def _sound_halves(t: ArborescenceTreeCertificate, m: int) -> bool:
    """Whether a tree of arborescences has the right shapes and covers every Hamiltonian cycle of m nodes."""
    if not (type(t.root) is int and 0 <= t.root < m and _is_tree(t, t.forced, t.potentials, m)):
        return False
    return bool(halves_cover(m, t.parent, t.tail, t.head, t.forced, t.leaf, len(t.potentials)))


def _is_tree(t: BranchCertificate | ArborescenceTreeCertificate, flags: Any, table: Any, m: int) -> bool:
    """Whether all arrays have one entry per node, and ``table`` finite rows for m nodes of the problem."""
    arrays = (t.parent, t.tail, t.head, t.leaf)
    if not (
        all(_is_array(a, np.int64) for a in arrays) and _is_array(flags, np.bool_) and _is_array(table, np.float64)
    ):
        return False
    nodes = len(t.parent) if t.parent.ndim == 1 else 0
    if nodes == 0 or not all(np.shape(a) == (nodes,) for a in (t.parent, t.tail, t.head, t.leaf, flags)):
        return False
    return table.ndim == 2 and table.shape[1] == m and bool(np.isfinite(table).all())


def _is_array(value: object, dtype: type) -> bool:
    """Whether this is what the compiled code below was written for."""
    return type(value) is np.ndarray and value.dtype == np.dtype(dtype) and value.dtype.isnative


@njit()
def lowered(value, total, largest, m, units):
    """L(v) less its rounding error, once for 2 units and twice for 4: sums of 2 m terms and m differences."""
    return value - 0.5 * units * UNIT * ((2 * m + 8) * total + 4 * m * largest)


@njit()
def mark(node, parent, tail, head, arc_of, serves, touched):
    """Write the arcs forced at a node and the nodes that forbid one; returns their number, -1 if unsound."""
    arc_of[:] = -1
    serves[:] = -1
    count = 0
    t = node
    while t > 0:
        if count >= len(touched):
            return -1
        touched[count] = t
        count += 1
        above = parent[t]
        if not 0 <= above < t:
            return -1
        s = t - 1
        while s > above and parent[s] == above:
            arc_of[tail[s]] = head[s]
            serves[head[s]] = tail[s]
            s -= 1
        t = above
    return count


@njit()
def covers(m, parent, tail, head, leaf, n_prices):
    """Whether the children of every inner node cover the Hamiltonian cycles of their parent."""
    nodes = len(parent)
    for t in range(1, nodes):
        if not (0 <= parent[t] < t and 0 <= tail[t] < m and 0 <= head[t] < m and leaf[parent[t]] < 0):
            return False
        # Children of one node stand together, so that siblings are found by stepping back.
        if parent[t] != parent[t - 1]:
            for s in range(1, t - 1):
                if parent[s] == parent[t]:
                    return False
    arc_of = np.empty(m, np.int64)
    serves = np.empty(m, np.int64)
    touched = np.empty(nodes, np.int64)
    last_child = np.full(nodes, -1)
    for t in range(1, nodes):
        last_child[parent[t]] = t
    for node in range(nodes):
        if leaf[node] >= 0:
            if leaf[node] >= n_prices:
                return False
            continue
        t = last_child[node]
        if t < 0 or mark(t, parent, tail, head, arc_of, serves, touched) < 0:
            return False
        arc_of[tail[t]] = head[t]
        # Follow the forced arcs and those of all children from one of them: they must close before m steps.
        i = tail[t]
        steps = 0
        while steps < m:
            i = arc_of[i]
            steps += 1
            if i < 0 or i == tail[t]:
                break
        if i != tail[t] or steps >= m:
            return False
    return True


@njit()
def tree_bound(c, parent, tail, head, leaf, ray, prices):
    """Least of the leaves' L(v), with the sum of the moduli in its terms and the largest modulus, over all leaves.

    The minima of all rows fall together, column by column, so that the processor takes several rows at once.
    """
    m = c.shape[0]
    nodes = len(parent)
    # Rows that come out even for the processor; what is beyond m is not read.
    width = -(-m // WIDE) * WIDE
    columns = np.full((m, width), np.inf)
    for i in range(m):
        for j in range(m):
            columns[j, i] = c[i, j]
    arc_of = np.empty(m, np.int64)
    serves = np.empty(m, np.int64)
    touched = np.empty(nodes, np.int64)
    low = np.empty(width)
    saved = np.empty(nodes)
    least, most_total, most = np.inf, 0.0, 0.0
    for node in range(nodes):
        if leaf[node] < 0:
            continue
        count = mark(node, parent, tail, head, arc_of, serves, touched)
        if count < 0:
            return -np.inf, 0.0, 0.0
        for k in range(count):
            t = touched[k]
            saved[k] = columns[head[t], tail[t]]
            columns[head[t], tail[t]] = np.inf
        v = prices[leaf[node]]
        value, total, largest = 0.0, 0.0, 0.0
        low[:] = np.inf
        for j in range(m):
            value += v[j]
            total += abs(v[j])
            largest = max(largest, abs(v[j]))
            if serves[j] < 0:
                lower_rows(columns, j, v[j], ray[node], low)
        empty = False
        for i in range(m):
            j = arc_of[i]
            if j >= 0:
                forced = columns[j, i]
                low[i] = (0.0 if ray[node] and forced < np.inf else forced) - v[j]
            if low[i] == np.inf:
                empty = True
                break
            value += low[i]
            total += abs(low[i])
        for k in range(count - 1, -1, -1):
            t = touched[k]
            columns[head[t], tail[t]] = saved[k]
        if empty:
            continue  # a row without arcs
        if not (value < np.inf and total < np.inf):
            return -np.inf, 0.0, 0.0
        if ray[node]:
            # A ray of value > 0 proves that the leaf is empty; 1/2 keeps roundings of foreign rays out.
            if not (value > 0.5 and total < 1e9):
                return -np.inf, 0.0, 0.0
        else:
            least = min(least, value)
            most_total = max(most_total, total)
            most = max(most, largest)
    return least, most_total, most


@njit()
def lower_rows(columns, column, price, ray, low):
    """low_i = min(low_i, c_ij - price) for one column j; with c = 0 on the allowed arcs for a ray."""
    j = np.uint64(column)
    if ray:
        for i in range(np.uint64(len(low))):
            value = -price if columns[j, i] < np.inf else np.inf
            low[i] = value if value < low[i] else low[i]
    else:
        for i in range(np.uint64(len(low))):
            value = columns[j, i] - price
            low[i] = value if value < low[i] else low[i]


@njit()
def recursion_bound(c, down):
    """Held-Karp recursion over subsets, every sum rounded down by the factor ``down``.

    Rounding down keeps the order of numbers: the least of the sums, rounded down, is the least of those rounded down.
    """
    m = c.shape[0]
    k = m - 1
    if k == 0:
        return 0.0
    best = np.full((1 << k, k), np.inf)
    for j in range(k):
        best[1 << j, j] = c[k, j] - down * abs(c[k, j]) if c[k, j] < np.inf else np.inf
    for subset in range(1, 1 << k):
        for j in range(k):
            if subset >> j & 1 and subset != 1 << j:
                low = np.inf
                rest = subset ^ 1 << j
                for i in range(k):
                    if rest >> i & 1:
                        low = min(low, best[rest, i] + c[i, j])
                best[subset, j] = low - down * abs(low) if low < np.inf else np.inf
    low = np.inf
    for i in range(k):
        total = best[(1 << k) - 1, i] + c[i, k]
        if total < np.inf:
            low = min(low, total - down * abs(total))
    return low
