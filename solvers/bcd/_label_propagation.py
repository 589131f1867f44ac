"""``label_propagation``: the smoothest extension of labels over a weighted graph, with a certified energy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import connected_components

from solvers._catalogue import entry_named
from solvers._core.arrays import FloatArray, IntArray, as_float_array, kind_of
from solvers._core.errors import BackendError, InvalidProblemError
from solvers._core.linalg import UNIT
from solvers._core.monitor import Monitor
from solvers._core.options import check_choice, check_common
from solvers._core.random import RNG
from solvers._core.result import Result, Status
from solvers.bcd._definiteness import propose_definiteness
from solvers.bcd._design import sparse_matrix
from solvers.bcd._graph import GraphSolver
from solvers.bcd._penalties import Box, Penalty
from solvers.bcd._problem import Composite, composite
from solvers.bcd._quadratic import Quadratic
from solvers.bcd._quadratic_certificate import Definiteness
from solvers.bcd._result import PointCertificate
from solvers.bcd._run import shrink_wanted

__all__ = ["LabelProblem", "PropagationCertificate", "PropagationResult", "label_problem", "label_propagation"]

STEPS = 1000


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


class PropagationResult(Result):
    """Labels of all nodes with a proved bound on the least energy.

    Besides the fields of :class:`solvers.Result`:

    Attributes
    ----------
    nodes : list or None
        The nodes in the order of ``x``, for networkx input.
    """

    nodes: list[Any] | None


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
        own = weights[labelled][:, labelled]
        y = values[labelled]
        self.constant: FloatArray = 0.5 * (
            np.sum(degree[labelled, None] * y * y, axis=0) - np.sum(y * (own @ y), axis=0)
        )
        rounding = np.sum(degree[labelled, None] * y * y, axis=0)
        self.slack = float(np.sum(rounding)) * UNIT * 4 * (64 + float(np.max(np.diff(weights.indptr), initial=0)))
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
        upper = scipy.sparse.triu(self.weights, k=1).tocoo()
        difference = x[upper.row] - x[upper.col]
        return 0.5 * float(np.sum(upper.data * np.sum(difference * difference, axis=1)))

    def filled(self, unknown: FloatArray) -> FloatArray:
        """All nodes' values, given those of the unlabelled."""
        x = self.values.copy()
        x[self.unknown] = unknown
        return x

    def shaped(self, x: FloatArray) -> FloatArray:
        """(n,) for a single vector of labels."""
        return x[:, 0] if self.flat else x

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


def label_propagation(
    graph: Any,
    labels: Any,
    *,
    bounds: Any = None,
    method: str = "auto",
    x0: Any = None,
    tol: float = 1e-6,
    max_iter: int | None = None,
    time_limit: float | None = None,
    callback: Callable[..., Any] | None = None,
    rng: RNG = None,
    history: bool = False,
    verbose: int = 0,
    backend: str = "auto",
    options: Mapping[str, Any] | None = None,
) -> PropagationResult:
    r"""Extend labels from some nodes of a graph to all of them, as smoothly as possible.

    .. math:: \min_x \; \tfrac12 \sum_{(i,j) \in E} w_{ij} \lVert x_i - x_j \rVert^2
              \quad\text{with } x_i = \text{label of } i \text{ where there is one, and } l \le x \le u \text{ elsewhere.}

    Parameters
    ----------
    graph : (n, n) scipy.sparse, or networkx.Graph
        Symmetric non-negative weights; the diagonal is ignored. Undirected networkx graphs use the edge attribute "weight".
    labels : (n,) or (n, C) array_like; for networkx also a mapping of nodes to numbers
        NaN marks unlabelled nodes (a row is NaN as a whole). Classes: one indicator column each.
    bounds : (lower, upper), optional
        Numbers that the unlabelled nodes must stay between; +-inf leaves a side open.
    method : {"auto"}
        Message passing on forests, conjugate gradients on the rest, projected relaxation for bounds.
    x0 : PropagationResult or array like ``x``, optional
        Where to start.
    tol : float
        The run ends as OPTIMAL once ``gap <= tol``.
    max_iter : int, optional
        Steps of 40 iterations each, 1000 by default.
    time_limit : float, optional
        Seconds.
    callback : callable, optional
        Called as ``callback(intermediate_result)`` at checkpoints; a true answer or StopIteration ends the run.
    rng : int, Generator, SeedSequence or None
        Nothing is random here; it is only checked.
    history : bool
        Keep a :class:`solvers.History` of the checkpoints.
    verbose : {0, 1, 2}
        Silent; a summary line; a table row per checkpoint (standard error).
    backend : {"auto", "numba"}
        Runs on the host.
    options : mapping, optional
        None are known.

    Returns
    -------
    PropagationResult
        ``x`` (n,) or (n, C) with every node's value, ``fun`` (the energy), ``bound``, ``gap``, ``nodes``.

    Raises
    ------
    InvalidProblemError
        Among others if a connected component has no label: its values would be arbitrary. A node of it is named.

    Notes
    -----
    *Guarantee.* ``bound`` is at most the energy of every extension, rounding errors included: a supporting plane at the
    answer, with what it may miss bounded through a spanning forest whose trees are tied to labels (or through the bounds).

    *Algorithm.* Trees and chains are eliminated exactly; on what is left an induced forest is eliminated and conjugate
    gradients iterate on its Schur complement, with a coarse space where labels are few. Bounds: projected over-relaxation.
    From ``x0``, only the surroundings of what changed move, where that is enough.

    *Complexity.* O(n) time and memory for forests; O(n + edges) an iteration otherwise.

    References
    ----------
    X. Zhu, Z. Ghahramani, J. Lafferty, Semi-supervised learning using Gaussian fields and harmonic functions, ICML 2003.
    J. Nutini, I. Laradji, M. Schmidt, Let's make block coordinate descent converge faster, JMLR 23(131), 2022.

    Examples
    --------
    >>> import networkx, solvers
    >>> result = solvers.label_propagation(networkx.path_graph(5), {0: 0.0, 4: 1.0})
    >>> result.x.round(6).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    entry = entry_named("label_propagation")
    common = check_common(
        entry.name,
        method=method,
        methods=entry.methods,
        tol=tol,
        max_iter=max_iter,
        time_limit=time_limit,
        callback=callback,
        rng=rng,
        history=history,
        verbose=verbose,
        options=options,
    )
    check_choice("backend", backend, ("auto", "numba"))
    common.settings(NoOptions)
    problem = label_problem(graph, labels, bounds=bounds)
    start = _start(problem, x0)
    scale = problem.scale

    def package(monitor: Monitor) -> PropagationResult:
        fields = monitor.fields()
        return PropagationResult(**(fields | {"x": problem.shaped(monitor.x).copy()}), nodes=problem.nodes)

    slack = 1e-10 * scale + 4 * problem.slack
    monitor = Monitor(
        common,
        sense="min",
        scale=scale,
        max_iter=STEPS,
        fun_slack=slack,
        package=package,
        method="graph",
        backend="numba",
    )
    _solve(problem, monitor, start, given=x0 is not None)
    monitor.finish(Status.CONVERGED)
    result = monitor.result()
    assert isinstance(result, PropagationResult)
    return result


@dataclass(frozen=True)
class NoOptions:
    """There are none."""


def _solve(problem: LabelProblem, monitor: Monitor, x: FloatArray, *, given: bool) -> None:
    """Step every column, certify their sum."""
    proof = Definiteness()
    if problem.columns:
        first = problem.columns[0]
        assert isinstance(first.loss, Quadratic)
        proof = propose_definiteness(first.loss)

    def certify(point: FloatArray) -> None:
        everyone = problem.filled(point)
        certificate = PropagationCertificate(point.copy(), proof.weights, proof.parents)
        monitor.incumbent(everyone, problem.energy(everyone))
        value, error = problem.bound(certificate)
        monitor.prove(max(value - 2.0 * error, 0.0), certificate)

    certify(x)
    solvers = [GraphSolver(column) for column in problem.columns]
    share_systems(solvers)
    for k, solver in enumerate(solvers if given else ()):
        solver.prepare(np.ascontiguousarray(x[:, k]))
    while solvers and monitor.running():
        shrink = shrink_wanted(monitor, solvers[0].first_shrink)
        for k, solver in enumerate(solvers):
            fresh = solver.step(np.ascontiguousarray(x[:, k]), shrink)
            if fresh is None:
                monitor.finish(Status.NUMERICAL_ERROR)
                return
            x[:, k] = problem.columns[k].term.project(fresh)
        certify(x)
        residual = max(
            p.kkt(np.ascontiguousarray(x[:, k]), p.loss.image(np.ascontiguousarray(x[:, k])))
            for k, p in enumerate(problem.columns)
        )
        monitor.checkpoint(residual)
        if monitor.stalled(residual, 5):
            monitor.finish(Status.STALLED)


def share_systems(solvers: list[GraphSolver]) -> None:
    """Free columns differ in c only: one elimination serves them all."""
    for solver in solvers[1:]:
        solver.share(solvers[0])


def label_problem(graph: Any, labels: Any, *, bounds: Any = None) -> LabelProblem:
    """Validate the problem arguments of ``label_propagation``."""
    nodes = None
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
    else:
        weights = graph
    if not scipy.sparse.issparse(weights):
        raise InvalidProblemError(
            f"graph must be a scipy.sparse matrix or a networkx graph; got {type(graph).__name__}"
        )
    matrix = _symmetric(weights)
    values = _labels(labels, matrix.shape[0])
    limits = _limits(bounds)
    _require_labels(matrix, np.isnan(values[:, 0]), nodes)
    return LabelProblem(matrix, values, limits, np.ndim(labels) == 1, nodes)


def _from_mapping(labels: Mapping[Any, Any], nodes: list[Any]) -> FloatArray:
    values = np.full(len(nodes), np.nan)
    position = {node: k for k, node in enumerate(nodes)}
    for node, value in labels.items():
        if node not in position:
            raise InvalidProblemError(f"labels names the node {node!r}, which is not in the graph")
        values[position[node]] = float(value)
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


def _labels(labels: Any, n: int) -> FloatArray:
    if kind_of(labels) != "numpy":
        raise BackendError("labels must be a NumPy array, a list or a mapping: graphs live on the host")
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


def _start(problem: LabelProblem, x0: Any) -> FloatArray:
    m, count = len(problem.unknown), problem.values.shape[1]
    if x0 is None:
        start = np.zeros((m, count))
    else:
        value = x0.x if isinstance(x0, Result) else x0
        shape = problem.shaped(problem.values).shape
        array = as_float_array(value, "x0", ndim=len(shape), expected=f"a {shape} array")
        if array.shape != shape:
            raise InvalidProblemError(f"x0 must have shape {shape}; got {array.shape}")
        start = np.array(array.reshape(len(problem.values), count)[problem.unknown])
    for k, column in enumerate(problem.columns):
        start[:, k] = column.term.project(start[:, k])
    return start


for _public in (PropagationCertificate, PropagationResult):
    _public.__module__ = "solvers.bcd"
