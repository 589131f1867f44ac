"""``label_propagation``: the smoothest extension of labels over a weighted graph, with a certified energy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from solvers._catalogue import entry_named
from solvers._core.arrays import FloatArray, as_float_array, to_host
from solvers._core.backend import BACKENDS
from solvers._core.errors import BackendError, InvalidProblemError
from solvers._core.monitor import Monitor
from solvers._core.options import check_choice, check_common
from solvers._core.random import RNG
from solvers._core.result import Result, Status
from solvers.bcd._box_cg import BoxCG
from solvers.bcd._definiteness import propose_definiteness
from solvers.bcd._graph import GraphSolver
from solvers.bcd._label_problem import LabelProblem, PropagationCertificate, label_problem
from solvers.bcd._problem import Composite
from solvers.bcd._quadratic import Quadratic
from solvers.bcd._quadratic_certificate import Definiteness
from solvers.bcd._run import shrink_wanted

__all__ = ["PropagationResult", "label_propagation"]

STEPS = 1000
# Conjugate gradients between two looks at the gap.
ITERATIONS = 200
# By how many tolerances squared residuals shrink before the first look at the gap of a graph on a device.
DEVICE_SHRINK = 0.1


class PropagationResult(Result):
    """Labels of all nodes with a proved bound on the least energy.

    Besides the fields of :class:`solvers.Result`:

    Attributes
    ----------
    nodes : list or None
        The nodes in the order of ``x``, for networkx input.
    """

    nodes: list[Any] | None


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
    graph : (n, n) scipy.sparse, or networkx.Graph, or (rows, columns, values, (n, n))
        Symmetric non-negative weights; the diagonal is ignored. Undirected networkx graphs use the edge attribute "weight".
        Triplets without duplicates may be CuPy's or any array-API library's; CuPy's own sparse matrices are taken, too.
    labels : (n,) or (n, C) array_like; for networkx also a mapping of nodes to numbers
        Of the same kind as the triplets, where these are given.
        NaN marks unlabelled nodes (a row is NaN as a whole). Classes: one indicator column each.
    bounds : (lower, upper), optional
        Numbers that the unlabelled nodes must stay between; +-inf leaves a side open.
    method : {"auto"}
        Message passing on forests, conjugate gradients on the rest, projected relaxation for bounds. On devices conjugate
        gradients, with proportioning where there are bounds.
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
    backend : {"auto", "numba", "array", "cupy"}
        ``"auto"``: where the graph lives. Products with the graph and all vectors of the iteration stay there.
    options : mapping, optional
        None are known.

    Returns
    -------
    PropagationResult
        ``x`` (n,) or (n, C) with every node's value, of the labels' kind; ``fun`` (the energy), ``bound``, ``gap``, ``nodes``.

    Raises
    ------
    InvalidProblemError
        Among others if a connected component has no label: its values would be arbitrary. A node of it is named.

    Notes
    -----
    *Guarantee.* ``bound`` is at most the energy of every extension, rounding errors included: a supporting plane at the
    answer, with what it may miss bounded through a spanning forest whose trees are tied to labels (or through the bounds).

    *Algorithm.* Trees and chains are eliminated exactly; on what is left one colour of a bipartite graph, or an induced forest,
    is eliminated and conjugate gradients iterate on its Schur complement, with a coarse space where labels are few. Bounds:
    projected over-relaxation.
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
    check_choice("backend", backend, BACKENDS)
    common.settings(NoOptions)
    problem = label_problem(graph, labels, bounds=bounds)
    where = _backend(problem, backend)
    start = _start(problem, x0)
    scale = problem.scale

    def package(monitor: Monitor) -> PropagationResult:
        fields = monitor.fields()
        return PropagationResult(**(fields | {"x": problem.given(monitor.x)}), nodes=problem.nodes)

    slack = 1e-10 * scale + 4 * problem.slack
    monitor = Monitor(
        common,
        sense="min",
        scale=scale,
        max_iter=STEPS,
        fun_slack=slack,
        package=package,
        method="graph",
        backend=where,
    )
    _solve(problem, monitor, start, given=x0 is not None)
    monitor.finish(Status.CONVERGED)
    result = monitor.result()
    assert isinstance(result, PropagationResult)
    return result


def _backend(problem: LabelProblem, requested: str) -> str:
    """The backend of the graph; refuses any other."""
    name = {"cupy": "cupy", "array-api": "array"}.get(problem.kind, "numba")
    if requested not in ("auto", name) and not (requested == "array" and name == "cupy"):
        raise BackendError(f"backend={requested!r} does not take this graph, which runs on {name!r}")
    return name


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
    columns = [_Column(column) for column in problem.columns]
    solvers = [column.solver for column in columns if column.solver is not None]
    for solver in solvers[1:]:
        # Free columns differ in c only: one elimination serves them all.
        solver.share(solvers[0])
    for k, solver in enumerate(solvers if given else ()):
        solver.prepare(np.ascontiguousarray(x[:, k]))
    while columns and monitor.running():
        shrink = shrink_wanted(monitor, solvers[0].first_shrink if solvers else DEVICE_SHRINK)
        for k, column in enumerate(columns):
            x[:, k] = column.step(np.ascontiguousarray(x[:, k]), shrink, monitor)
        certify(x)
        residual = max(column.residual(np.ascontiguousarray(x[:, k])) for k, column in enumerate(columns))
        monitor.checkpoint(residual)
        if any(column.lost for column in columns) or monitor.stalled(residual, 5):
            monitor.finish(Status.STALLED)


class _Column:
    """Steps of one column: by the graph engine; by conjugate gradients on devices, and where rounding has eaten up a pivot.

    Every column has a minimum, but weights so far apart that a label's disappear beside others leave a matrix without one.

    Attributes
    ----------
    lost : bool
        Whether conjugate gradients found no curvature either, so that no further step helps.
    """

    def __init__(self, problem: Composite) -> None:
        self.problem = problem
        assert isinstance(problem.loss, Quadratic)
        self.solver = GraphSolver(problem) if problem.loss.remote is None else None
        self._gradients: BoxCG | None = None

    @property
    def lost(self) -> bool:
        return self._gradients is not None and self._gradients.unbounded

    def step(self, x: FloatArray, shrink: float, monitor: Monitor) -> FloatArray:
        fresh = None if self._gradients is not None or self.solver is None else self.solver.step(x, shrink)
        if fresh is None:
            if self._gradients is None:
                self._gradients = BoxCG(self.problem, x)
            self._gradients.step(ITERATIONS, shrink, monitor)
            fresh = self._gradients.point()
        return np.asarray(self.problem.term.project(fresh))

    def residual(self, x: FloatArray) -> float:
        """Largest distance of the negative gradient from the normal cone of the bounds."""
        return self.problem.kkt(x, self.problem.loss.image(x))


def _start(problem: LabelProblem, x0: Any) -> FloatArray:
    m, count = len(problem.unknown), problem.values.shape[1]
    if x0 is None:
        start = np.zeros((m, count))
    else:
        value = to_host(x0.x if isinstance(x0, Result) else x0)
        shape = problem.shaped(problem.values).shape
        array = as_float_array(value, "x0", ndim=len(shape), expected=f"a {shape} array")
        if array.shape != shape:
            raise InvalidProblemError(f"x0 must have shape {shape}; got {array.shape}")
        start = np.array(array.reshape(len(problem.values), count)[problem.unknown])
    for k, column in enumerate(problem.columns):
        start[:, k] = column.term.project(start[:, k])
    return start


PropagationResult.__module__ = "solvers.bcd"
