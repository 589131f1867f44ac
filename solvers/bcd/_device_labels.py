"""Label propagation for graphs on an array-API device: the same quadratics, built and multiplied where the graph lives.

Segment sums go through :class:`solvers.bcd._device_matrix.DeviceMatrix`. The host sees vectors over the nodes only: labels,
iterates and certificates.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from solvers._core.arrays import Array, FloatArray, kind_of, namespace_of, to_host
from solvers._core.errors import BackendError, InvalidProblemError
from solvers._core.linalg import UNIT
from solvers.bcd._device_matrix import DeviceMatrix
from solvers.bcd._label_problem import LabelProblem, label_table
from solvers.bcd._penalties import Box, Penalty
from solvers.bcd._problem import composite
from solvers.bcd._quadratic import Quadratic

__all__ = ["DeviceLabelProblem"]


class DeviceLabelProblem(LabelProblem):
    """The quadratics of labels (n,) or (n, C) on the graph of triplets, all of one array kind."""

    def __init__(
        self, triplets: tuple[Array, Array, Array, int], labels: Array, bounds: tuple[float, float] | None
    ) -> None:
        rows, columns, weights, n = triplets
        if kind_of(labels) != kind_of(weights):
            raise BackendError(
                f"labels are a {kind_of(labels)} array and graph is {kind_of(weights)}; convert one explicitly"
            )
        xp = self._xp = namespace_of(weights)
        self._device = weights.device
        if float(xp.min(weights)) < 0:
            raise InvalidProblemError(f"graph must have non-negative weights; got {float(xp.min(weights))!r}")
        off = (rows != columns) & (weights > 0)
        rows, columns, weights = rows[off], columns[off], weights[off]
        if rows.shape[0] == 0:
            raise InvalidProblemError("graph must have edges; got none between different nodes")
        graph = DeviceMatrix(rows, columns, weights, n)
        row, column, most = graph.asymmetry()
        if most > 0:
            raise InvalidProblemError(f"graph must be symmetric; entries ({row}, {column}) differ by {most!r}")
        self.nodes, self.kind = None, kind_of(weights)
        self.flat = labels.ndim == 1
        self.values = label_table(to_host(labels), n)
        known = ~np.isnan(self.values[:, 0])
        self.unknown = np.flatnonzero(~known)
        there = self._there(known)
        self._require_reach(graph, there)

        degree = graph @ xp.ones(n, dtype=xp.float64, device=self._device)
        y = np.where(known[:, None], self.values, 0.0)
        pulls = [to_host(graph @ self._there(column)) for column in y.T]
        own = to_host(degree)[:, None] * y * y
        self.constant: FloatArray = 0.5 * (
            np.sum(own, axis=0) - np.array([np.sum(a * b) for a, b in zip(y.T, pulls, strict=True)])
        )
        self.slack = float(np.sum(own)) * UNIT * 4 * (64 + float(np.max(graph.counts)))
        self.total_weight = float(xp.sum(weights))
        ahead = rows < columns
        self._ends: tuple[Array, Array, Array] = (rows[ahead], columns[ahead], weights[ahead])
        penalty: Penalty | None = None if bounds is None else Box(*bounds)
        self.columns = []
        m = len(self.unknown)
        if m:
            inner = ~(xp.take(there, rows) | xp.take(there, columns))
            place = self._there(np.cumsum(~known) - 1)
            diagonal = xp.arange(m, dtype=rows.dtype, device=self._device)
            laplacian = (
                xp.concat([xp.take(place, rows[inner]), diagonal]),
                xp.concat([xp.take(place, columns[inner]), diagonal]),
                xp.concat([-weights[inner], degree[~there]]),
                (m, m),
            )
            pulled = [self._there(pull[self.unknown]) for pull in pulls]
            first = Quadratic(laplacian, pulled[0])
            self.columns = [composite(first, penalty)]
            self.columns += [composite(first.with_linear(pull), penalty) for pull in pulled[1:]]

    def _there(self, values: np.ndarray) -> Array:
        return self._xp.asarray(values, device=self._device)

    def _require_reach(self, graph: DeviceMatrix, known: Array) -> None:
        """Every component needs a label: labels spread along edges until nothing changes."""
        xp = self._xp
        reached, count = known, -1
        while count != (fresh := int(xp.sum(xp.astype(reached, xp.int64)))):
            count = fresh
            reached = reached | (graph @ xp.astype(reached, xp.float64) > 0)
        if count < known.shape[0]:
            lost = int(xp.argmin(xp.astype(reached, xp.int64)))
            raise InvalidProblemError(
                f"every connected component needs a label; the one of node {lost!r} has none "
                f"({known.shape[0] - count} nodes are affected)"
            )

    def energy(self, x: FloatArray) -> float:
        """sum over edges of w_ij |x_i - x_j|^2 / 2, from differences."""
        xp = self._xp
        heads, tails, weights = self._ends
        total = 0.0
        for values in x.T:
            there = self._there(np.ascontiguousarray(values))
            difference = xp.take(there, heads) - xp.take(there, tails)
            total += float(xp.sum(weights * difference * difference))
        return 0.5 * total

    def given(self, x: FloatArray) -> Any:
        """Values of all nodes in the caller's kind of array."""
        return self._there(np.ascontiguousarray(self.shaped(x)))
