"""Few changes: Gauss-Southwell steps along a queue of the nodes whose gradient stands out, and nowhere else.

A change of one label moves its surroundings only, as far as the tolerance sees. Nodes whose step exceeds a threshold wait in
first-in-first-out order; each takes its exact step (clipped at its bounds) and queues neighbours that it lifts over the
threshold. The cost is that of the nodes moved, whatever the size of the graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.jit import njit

__all__ = ["LocalDescent"]


@dataclass
class LocalDescent:
    """The point, its gradient Q x - c, and the queue; ``x`` and ``g`` change in place."""

    graph: scipy.sparse.csr_array
    diagonal: FloatArray
    lower: FloatArray
    upper: FloatArray
    x: FloatArray
    g: FloatArray

    def __post_init__(self) -> None:
        n = len(self.x)
        self._queue = np.empty(n, dtype=np.int64)
        self._queued = np.zeros(n, dtype=np.bool_)

    def outstanding(self, threshold: float) -> IntArray:
        """Nodes whose clipped step, times their curvature, exceeds the threshold."""
        step = np.clip(self.x - self.g / self.diagonal, self.lower, self.upper) - self.x
        return np.flatnonzero(np.abs(step) * self.diagonal > threshold)

    def descend(self, nodes: IntArray, threshold: float, budget: int) -> int:
        """Steps from the given nodes until none exceeds the threshold; the number taken, -1 where over budget."""
        start = np.ascontiguousarray(nodes, dtype=np.int64)
        problem = (*compressed(self.graph), self.diagonal, self.lower, self.upper)
        return _descend(*problem, self.x, self.g, start, threshold, budget, self._queue, self._queued)


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
    queue: IntArray,
    queued: Any,
) -> int:
    n = len(queue)
    head = waiting = 0
    for i in nodes:
        if not queued[i]:
            queued[i] = True
            queue[(head + waiting) % n] = i
            waiting += 1
    taken = 0
    while waiting > 0 and taken < budget:
        i = queue[head]
        head = head + 1 if head + 1 < n else 0
        waiting -= 1
        queued[i] = False
        d = min(max(x[i] - g[i] / diagonal[i], lower[i]), upper[i]) - x[i]
        if abs(d) * diagonal[i] <= threshold:
            continue
        taken += 1
        x[i] += d
        for k in range(indptr[i], indptr[i + 1]):
            j = indices[k]
            g[j] += data[k] * d
            if j != i and not queued[j] and abs(g[j]) > threshold:
                queued[j] = True
                at = head + waiting
                queue[at if at < n else at - n] = j
                waiting += 1
    over = waiting > 0
    while waiting > 0:
        queued[queue[head]] = False
        head = head + 1 if head + 1 < n else 0
        waiting -= 1
    return -1 if over else taken
