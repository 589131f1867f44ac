"""The subset recursion in array-API code, all groups of one size at once: for accelerators.

Layer p holds, for every set S of p nodes and every node j of S, the least cost of a way through S that ends in j. A
layer follows from the one before in k batched minima, so that a whole batch takes k^2 of them and as many small
gathers, whatever the number of groups. The sets are enumerated on the host.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np

from solvers._core.arrays import Array, IntArray, namespace_of

__all__ = ["compensated_sum", "recursion_bytes", "subset_recursion"]


@dataclass(frozen=True)
class Layer:
    """How the sets of p + 1 nodes come from those of p.

    Attributes
    ----------
    without : list of (L_j,) int64
        For each node j, the place among the sets of p of S less j, for the sets S of p + 1 that hold j.
    place : list of (K,) int64
        For each set of p + 1, its place among those of ``without[j]``; L_j where it does not hold j.
    less : (K, k) int64
        Place among the sets of p of the set less j; 0 where it does not hold j.
    """

    without: tuple[IntArray, ...]
    place: tuple[IntArray, ...]
    less: IntArray


@functools.cache
def layers(k: int) -> tuple[Layer, ...]:
    """The layers of the subsets of k nodes, from those of one node on."""
    out = []
    before: dict[tuple[int, ...], int] = {(j,): j for j in range(k)}
    for p in range(2, k + 1):
        sets = list(itertools.combinations(range(k), p))
        less = np.zeros((len(sets), k), dtype=np.int64)
        for s, members in enumerate(sets):
            for at, j in enumerate(members):
                less[s, j] = before[members[:at] + members[at + 1 :]]
        holds = np.zeros((len(sets), k), dtype=bool)
        for s, members in enumerate(sets):
            holds[s, list(members)] = True
        counts = holds.sum(axis=0)
        place = np.where(holds, np.cumsum(holds, axis=0) - 1, counts)
        out.append(Layer(tuple(less[holds[:, j], j] for j in range(k)), tuple(place.T.copy()), less))
        before = {members: s for s, members in enumerate(sets)}
    return tuple(out)


def recursion_bytes(m: int) -> float:
    """Memory per group of m nodes: all layers, and the largest intermediate beside them."""
    return 8.0 * 1.75 * m * 2.0 ** (m - 1)


def subset_recursion(c: Array, tour: Array) -> Array:
    """Held-Karp recursion over subsets of the first m - 1 nodes of c (B, m, m).

    Writes the tours (B, m), which begin at the last node, and returns their costs (B,), infinite where every tour uses an
    infinite arc.
    """
    xp, device = namespace_of(c), array_api_compat.device(c)
    count, k = c.shape[0], c.shape[1] - 1
    enter, inner, leave = c[:, k, :k], c[:, :k, :k], c[:, :k, k]

    def there(host: Any) -> Array:
        return xp.asarray(host, device=device)

    infinite = xp.full((count, 1), xp.inf, dtype=c.dtype, device=device)
    tables = [xp.where(there(np.eye(k, dtype=bool)), enter[:, None, :], xp.inf)]
    for layer in layers(k):
        columns = []
        for j in range(k):
            ways = xp.take(tables[-1], there(layer.without[j]), axis=1) + inner[:, None, :, j]
            best = xp.concat([xp.min(ways, axis=2), infinite], axis=1)
            columns.append(xp.take(best, there(layer.place[j]), axis=1))
        tables.append(xp.stack(columns, axis=2))
    total = tables[-1][:, 0, :] + leave
    value = xp.min(total, axis=1)
    groups = xp.arange(count, dtype=xp.int64, device=device)
    arriving = xp.reshape(xp.matrix_transpose(inner), (count * k, k))
    node = xp.argmin(total, axis=1)
    subset = xp.zeros_like(groups)
    path = [node]
    for layer, table in zip(reversed(layers(k)), reversed(tables[:-1]), strict=True):
        sets = table.shape[1]
        subset = xp.take(xp.reshape(there(layer.less), (-1,)), subset * k + node, axis=0)
        ways = xp.take(xp.reshape(table, (count * sets, k)), groups * sets + subset, axis=0)
        node = xp.argmin(ways + xp.take(arriving, groups * k + node, axis=0), axis=1)
        path.append(node)
    tour[:, 0] = k
    tour[:, 1:] = xp.stack(path[::-1], axis=1)
    return value


def compensated_sum(terms: Array, xp: Any) -> Array:
    """Sums of the rows of (B, t), rounded as if once (Neumaier)."""
    high, low = terms[:, 0], xp.zeros_like(terms[:, 0])
    for t in range(1, terms.shape[1]):
        term = terms[:, t]
        new = high + term
        low = low + xp.where(xp.abs(high) >= xp.abs(term), (high - new) + term, (term - new) + high)
        high = new
    return high + low
