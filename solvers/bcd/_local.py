"""Few changes: over-relaxation of a growing set of nodes, those whose gradient stands out, and nowhere else.

A change of one label moves its surroundings only, as far as the tolerance sees. Nodes whose gradient is lifted over a threshold
join the set in the order in which they are reached; the set is swept, each node taking its own step (clipped at its bounds)
lengthened by OMEGA, until no step exceeds the threshold. Without bounds, every step lowers the energy whatever the order. The
cost is that of the nodes moved, whatever the size of the graph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.jit import njit
from solvers.bcd._quadratic import compressed

__all__ = ["LocalDescent"]

# Best on lattices with some percent of the nodes labelled, where a change dies away within some ten nodes.
OMEGA = 1.65
# Members rest while their own step is below this share of the threshold.
IDLE = 0.25


@dataclass
class LocalDescent:
    """The point, its gradient Q x - c, and the set; ``x`` and ``g`` change in place."""

    graph: scipy.sparse.csr_array
    diagonal: FloatArray
    lower: FloatArray
    upper: FloatArray
    x: FloatArray
    g: FloatArray

    def __post_init__(self) -> None:
        n = len(self.x)
        self._members, self._inside = np.empty(n, dtype=np.int64), np.zeros(n, dtype=np.bool_)

    def outstanding(self, threshold: float) -> IntArray:
        """Nodes whose clipped step, times their curvature, exceeds the threshold."""
        step = np.clip(self.x - self.g / self.diagonal, self.lower, self.upper) - self.x
        return np.flatnonzero(np.abs(step) * self.diagonal > threshold)

    def descend(
        self, nodes: IntArray, threshold: float, budget: int, *, excess: float = math.inf
    ) -> tuple[int, float, IntArray]:
        """Steps from the given nodes until none exceeds the threshold, or |g|^2 has fallen by ``excess``.

        Returns the number of steps (-1 where over budget), the change of |g|^2, and the set: all nodes that moved are in it.
        """
        start = np.ascontiguousarray(nodes, dtype=np.int64)
        problem = (*compressed(self.graph), self.diagonal, self.lower, self.upper)
        work = (self._members, self._inside)
        taken, change, count = _descend(*problem, self.x, self.g, start, threshold, budget, -excess, *work)
        return taken, change, self._members[:count].copy()


@njit()
def _descend(
    data: FloatArray,
    indices: IntArray,
    indptr: IntArray,
    diagonal: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    x: FloatArray,
    g: FloatArray,
    nodes: IntArray,
    threshold: float,
    budget: int,
    enough: float,
    members: IntArray,
    inside: Any,
) -> tuple[int, float, int]:
    count = 0
    for i in nodes:
        if not inside[i]:
            inside[i] = True
            members[count] = i
            count += 1
    taken = 0
    change = 0.0
    largest = math.inf
    while largest > threshold and taken < budget and change > enough:
        largest = 0.0
        at = 0
        # The set grows while it is swept.
        while at < count:
            i = members[at]
            at += 1
            full = min(max(x[i] - g[i] / diagonal[i], lower[i]), upper[i]) - x[i]
            size = abs(full) * diagonal[i]
            if size <= IDLE * threshold:
                continue
            largest = max(largest, size)
            taken += 1
            d = min(max(x[i] + OMEGA * full, lower[i]), upper[i]) - x[i]
            x[i] += d
            for k in range(indptr[i], indptr[i + 1]):
                j = indices[k]
                move = data[k] * d
                before = g[j]
                after = before + move
                g[j] = after
                change += move * (before + after)
                if abs(after) > threshold and not inside[j]:
                    inside[j] = True
                    members[count] = j
                    count += 1
        if largest <= threshold:
            # Later steps may have lifted earlier nodes again.
            for k in range(count):
                i = members[k]
                full = min(max(x[i] - g[i] / diagonal[i], lower[i]), upper[i]) - x[i]
                largest = max(largest, abs(full) * diagonal[i])
    for k in range(count):
        inside[members[k]] = False
    return -1 if taken >= budget else taken, change, count
