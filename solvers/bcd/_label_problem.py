r"""Label propagation as quadratics: what is unknown, what the labels weigh, and the bound of an extension's energy.

With L the Laplacian of the graph, u the unlabelled nodes and y the labels of the others,

    E(x)  =  x_u^T L_uu x_u / 2 - (W_ul y)^T x_u + y^T L_ll y / 2,

one such quadratic per column of labels, all with the same matrix.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components

from solvers._core.arrays import FloatArray, IntArray, Kind, as_float_array, dimensions, kind_of
from solvers._core.errors import BackendError, InvalidProblemError
from solvers._core.linalg import UNIT
from solvers.bcd._design import sparse_matrix
from solvers.bcd._device_matrix import device_triplets
from solvers.bcd._penalties import Box, Penalty
from solvers.bcd._problem import Composite, composite
from solvers.bcd._quadratic import Quadratic
from solvers.bcd._result import PointCertificate

__all__ = ["LabelProblem", "PropagationCertificate", "label_problem", "label_table"]


@dataclass(frozen=True)
class PropagationCertificate:
    """One supporting plane per column of labels.

    Attributes
    ----------
    points : (m, C) float64
        Where the planes touch, over the m unlabelled nodes.
    weights : (m,) float64 or None
    parents : (m,) int64 or None
        As in :class:`solvers.bcd.PointCertificate`, common to the columns.
    """

    points: FloatArray
    weights: FloatArray | None = None
    parents: IntArray | None = None


class LabelProblem:
    """The quadratic of each column of labels on the unlabelled nodes.

    Attributes
    ----------
    columns : list of Composite
        Q = L_uu and c = W_ul y, one per column of labels.
    constant : (C,) array
        Energy of the labelled nodes among themselves and towards zero, to be added.
    unknown : (m,) array
        Unlabelled nodes.
    values : (n, C) array
        Labels, NaN where unlabelled.
    total_weight : float
        Of all entries of the graph.
    kind : str
        Of the arrays that hold the graph, as in :func:`solvers._core.arrays.kind_of`.
    """

    def __init__(
        self,
        weights: scipy.sparse.csr_array,
        values: FloatArray,
        bounds: tuple[Any, Any] | None,
        flat: bool,
        nodes: Any,
    ) -> None:
        self.weights, self.values, self.flat, self.nodes = weights, values, flat, nodes
        known = ~np.isnan(values[:, 0])
        self.unknown = np.flatnonzero(~known)
        labelled = np.flatnonzero(known)
        degree = np.asarray(weights.sum(axis=1))
        between = weights[self.unknown][:, labelled]
        inner = weights[self.unknown][:, self.unknown]
        laplacian = scipy.sparse.csr_array(scipy.sparse.diags_array(degree[self.unknown], format="csr") - inner)
        own = scipy.sparse.triu(weights[labelled][:, labelled], k=1).tocoo()
        y = values[labelled]
        apart = y[own.row] - y[own.col]
        self.constant: FloatArray = 0.5 * (
            np.sum(own.data[:, None] * apart * apart, axis=0)
            + np.sum(np.asarray(between.sum(axis=0))[:, None] * y * y, axis=0)
        )
        rounding = np.sum(degree[labelled, None] * y * y, axis=0)
        self.slack = float(np.sum(rounding)) * UNIT * 4 * (64 + float(np.max(np.diff(weights.indptr), initial=0)))
        self.total_weight = float(weights.sum())
        self.kind: Kind = "sparse"
        penalty: Penalty | None = None if bounds is None else Box(*bounds)
        self.columns: list[Composite] = []
        if len(self.unknown):
            first = Quadratic(laplacian, between @ y[:, 0])
            self.columns = [composite(first, penalty)]
            for k in range(1, y.shape[1]):
                self.columns.append(composite(first.with_linear(between @ y[:, k]), penalty))

    @property
    def scale(self) -> float:
        """Energy with every unlabelled node at zero (clipped), or the labels' own."""
        return float(np.sum(self.constant)) + sum(p.scale for p in self.columns) or 1.0

    def energy(self, x: FloatArray) -> float:
        """sum over edges of w_ij |x_i - x_j|^2 / 2, from differences."""
        heads, tails, data = self._edges
        difference = x[heads] - x[tails]
        return 0.5 * float(np.sum(data * np.sum(difference * difference, axis=1)))

    @cached_property
    def _edges(self) -> tuple[IntArray, IntArray, FloatArray]:
        upper = scipy.sparse.triu(self.weights, k=1).tocoo()
        return upper.row, upper.col, upper.data

    def filled(self, unknown: FloatArray) -> FloatArray:
        """All nodes' values, given those of the unlabelled."""
        x = self.values.copy()
        x[self.unknown] = unknown
        return x

    def shaped(self, x: FloatArray) -> FloatArray:
        """(n,) for a single vector of labels."""
        return x[:, 0] if self.flat else x

    def given(self, x: FloatArray) -> Any:
        """Values of all nodes in the caller's kind of array."""
        return self.shaped(x).copy()

    def bound(self, certificate: Any) -> tuple[float, float]:
        """Value and error of the sum of the columns' bounds; -inf where the certificate is malformed."""
        m, count = len(self.unknown), self.values.shape[1]
        if not isinstance(certificate, PropagationCertificate):
            return -math.inf, 0.0
        points = np.asarray(certificate.points)
        if points.shape != (m, count) or points.dtype != np.float64 or not np.isfinite(points).all():
            return -math.inf, 0.0
        value, error = float(np.sum(self.constant)), self.slack
        for k, problem in enumerate(self.columns):
            x = np.ascontiguousarray(points[:, k])
            part = problem.rebound(
                PointCertificate(x, certificate.weights, certificate.parents), x, problem.loss.image(x)
            )
            value, error = value + part.value, error + part.error + 4 * UNIT * abs(part.value)
        return value, error + 4 * UNIT * abs(value)


def label_problem(graph: Any, labels: Any, *, bounds: Any = None) -> LabelProblem:
    """Validate the problem arguments of ``label_propagation``."""
    nodes = None
    triplets = device_triplets(graph, "graph")
    if triplets is not None:
        from solvers.bcd._device_labels import DeviceLabelProblem

        return DeviceLabelProblem(triplets, labels, _limits(bounds))
    if hasattr(graph, "adj") and hasattr(graph, "is_directed"):
        import networkx

        if graph.is_directed():
            raise InvalidProblemError(
                "graph must be undirected; got a directed networkx graph: use graph.to_undirected()"
            )
        nodes = list(graph)
        if not nodes:
            raise InvalidProblemError("graph must have nodes; got an empty graph")
        weights = networkx.to_scipy_sparse_array(graph, nodelist=nodes, weight="weight", dtype=np.float64, format="csc")
        if isinstance(labels, Mapping):
            labels = _from_mapping(labels, nodes)
    elif isinstance(labels, Mapping):
        raise InvalidProblemError("labels may be a mapping for networkx graphs only; a matrix takes an array with NaN")
    else:
        weights = graph
    if not scipy.sparse.issparse(weights):
        raise InvalidProblemError(
            "graph must be a scipy.sparse matrix, a networkx graph, or (rows, columns, values, shape) of device arrays; "
            f"got {type(graph).__name__}" + (": pass scipy.sparse.csr_array(graph)" if dimensions(graph) == 2 else "")
        )
    matrix = _symmetric(weights)
    values = label_table(labels, matrix.shape[0])
    limits = _limits(bounds)
    _require_labels(matrix, np.isnan(values[:, 0]), nodes)
    return LabelProblem(matrix, values, limits, np.ndim(labels) == 1, nodes)


def _from_mapping(labels: Mapping[Any, Any], nodes: list[Any]) -> FloatArray:
    values = np.full(len(nodes), np.nan)
    position = {node: k for k, node in enumerate(nodes)}
    for node, value in labels.items():
        if node not in position:
            raise InvalidProblemError(f"labels names the node {node!r}, which is not in the graph")
        try:
            values[position[node]] = float(value)
        except (TypeError, ValueError):
            raise InvalidProblemError(
                f"labels must map nodes to numbers; got {value!r} at {node!r} (classes are columns of an array, one each)"
            ) from None
    return values


def _symmetric(weights: Any) -> scipy.sparse.csr_array:
    matrix = scipy.sparse.csr_array(sparse_matrix(weights, "graph", "an (n, n) matrix of edge weights"))
    if matrix.shape[0] != matrix.shape[1]:
        raise InvalidProblemError(f"graph must be square; got shape {matrix.shape}")
    if matrix.nnz and float(matrix.data.min()) < 0:
        raise InvalidProblemError(f"graph must have non-negative weights; got {float(matrix.data.min())!r}")
    difference = abs(matrix - matrix.T)
    if difference.nnz and float(difference.data.max()) > 0:
        raise InvalidProblemError(f"graph must be symmetric; entries differ by {float(difference.data.max())!r}")
    off = matrix - scipy.sparse.diags_array(matrix.diagonal(), format="csr")
    off = scipy.sparse.csr_array(off)
    off.eliminate_zeros()
    return off


def label_table(labels: Any, n: int) -> FloatArray:
    """Labels as (n, C), NaN where there is none."""
    if kind_of(labels) != "numpy":
        raise BackendError("labels must be a NumPy array, a list or a mapping: so does this graph live on the host")
    ndim = 2 if np.ndim(labels) == 2 else 1
    values = as_float_array(
        labels, "labels", ndim=ndim, finite=False, expected="(n,) or (n, C) labels, NaN = unlabelled"
    )
    if values.shape[0] != n:
        raise InvalidProblemError(f"labels must have one row per node ({n}); got {values.shape[0]}")
    table = np.array(values if ndim == 2 else values[:, None])
    if np.isinf(table).any():
        raise InvalidProblemError("labels must be finite or NaN; got infinite entries")
    missing = np.isnan(table)
    if np.any(missing.any(axis=1) != missing.all(axis=1)):
        row = int(np.argmax(missing.any(axis=1) != missing.all(axis=1)))
        raise InvalidProblemError(f"labels must be NaN for a whole row or not at all; row {row} is mixed")
    if missing.all():
        raise InvalidProblemError("labels must have at least one labelled node; got only NaN")
    return table


def _limits(bounds: Any) -> tuple[float, float] | None:
    if bounds is None:
        return None
    try:
        lower, upper = (float(side) for side in bounds)
    except (TypeError, ValueError):
        raise InvalidProblemError(f"bounds must be a pair of numbers (lower, upper); got {bounds!r}") from None
    if not lower <= upper:
        raise InvalidProblemError(f"bounds must satisfy lower <= upper; got {bounds!r}")
    return lower, upper


def _require_labels(matrix: scipy.sparse.csr_array, missing: np.ndarray, nodes: list[Any] | None) -> None:
    """Every component needs a label."""
    _, component = connected_components(matrix, directed=False)
    labelled = np.zeros(int(component.max()) + 1, dtype=bool)
    labelled[component[~missing]] = True
    lost = np.flatnonzero(~labelled[component])
    if len(lost):
        name = lost[0] if nodes is None else nodes[int(lost[0])]
        raise InvalidProblemError(
            f"every connected component needs a label; the one of node {name!r} has none ({len(lost)} nodes are affected)"
        )


PropagationCertificate.__module__ = "solvers.bcd"
