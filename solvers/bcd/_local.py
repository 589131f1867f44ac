"""Few changes: Gauss-Southwell steps along a queue of the nodes whose gradient stands out, and nowhere else.

A change of one label moves its surroundings only, as far as the tolerance sees. Nodes whose step exceeds a threshold wait in
first-in-first-out order; each takes its exact step (clipped at its bounds) and queues neighbours that it lifts over the
threshold. The cost is that of the nodes moved, whatever the size of the graph.
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
        self._queue, self._reached = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
        self._queued, self._seen = np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_)

    def outstanding(self, threshold: float) -> IntArray:
        """Nodes whose clipped step, times their curvature, exceeds the threshold."""
        step = np.clip(self.x - self.g / self.diagonal, self.lower, self.upper) - self.x
        return np.flatnonzero(np.abs(step) * self.diagonal > threshold)

    def descend(
        self, nodes: IntArray, threshold: float, budget: int, *, excess: float = math.inf
    ) -> tuple[int, float, IntArray]:
        """Steps from the given nodes until none exceeds the threshold, or |g|^2 has fallen by ``excess``.

        Returns the number of steps (-1 where over budget), the change of |g|^2, and the nodes whose gradient changed.
        """
        start = np.ascontiguousarray(nodes, dtype=np.int64)
        problem = (*compressed(self.graph), self.diagonal, self.lower, self.upper)
        work = (self._queue, self._queued, self._reached, self._seen)
        taken, change, reached = _descend(*problem, self.x, self.g, start, threshold, budget, -excess, *work)
        return taken, change, self._reached[:reached].copy()


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
    queue: IntArray,
    queued: Any,
    reached: IntArray,
    seen: Any,
) -> tuple[int, float, int]:
    n = len(queue)
    head = waiting = touched = 0
    for i in nodes:
        if not queued[i]:
            queued[i] = True
            queue[waiting] = i
            waiting += 1
            seen[i] = True
            reached[touched] = i
            touched += 1
    taken = 0
    change = 0.0
    while waiting > 0 and taken < budget and change > enough:
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
            move = data[k] * d
            change += move * (2.0 * g[j] + move)
            g[j] += move
            if not seen[j]:
                seen[j] = True
                reached[touched] = j
                touched += 1
            if j != i and not queued[j] and abs(g[j]) > threshold:
                queued[j] = True
                at = head + waiting
                queue[at if at < n else at - n] = j
                waiting += 1
    over = taken >= budget
    while waiting > 0:
        queued[queue[head]] = False
        head = head + 1 if head + 1 < n else 0
        waiting -= 1
    for k in range(touched):
        seen[reached[k]] = False
    return -1 if over else taken, change, touched
