"""``certify_kmeans``: how far a clustering from anywhere can be from the best one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from clustering._admm import DEFAULT_ITERATIONS, DENSE_MATRICES, solve_relaxation
from clustering._blocks import BLOCK_TOLERANCE, bound_by_blocks
from clustering._line import DEFAULT_PRICES, solve_on_line
from clustering._problem import Groups, KMeansProblem, kmeans_problem
from clustering._result import ClusteringResult
from clustering._run import Run
from clustering._structured import scale_trials
from solvers._catalogue import entry_named
from solvers._core.arrays import as_integer_labels, refuse_beyond_memory, to_host
from solvers._core.backend import Backend, choose_backend
from solvers._core.errors import InvalidProblemError
from solvers._core.options import check_common, check_integer
from solvers._core.result import Status

__all__ = ["certify_kmeans", "labelled_problem"]

DEFAULT_TRIALS = 100
SMALL = 256


# method="auto" solves the relaxation up to the first number of rows, and those of blocks up to the second: seconds. Where
# a time limit says how long it may take, blocks are solved for any number.
AUTO_ADMM_ROWS, AUTO_BLOCKS_ROWS = 500, 5_000


@dataclass(frozen=True)
class StructuredSettings:
    """No options."""


@dataclass(frozen=True)
class ADMMSettings:
    """Options of ``method="admm"``: iterations between certificates."""

    check_every: int = 25


@dataclass(frozen=True)
class BlocksSettings:
    """Options of ``method="blocks"``: rows of a block, at most."""

    block_size: int = 500


@dataclass(frozen=True)
class AutoSettings:
    """Options of ``method="auto"``: those of the methods it may choose."""

    check_every: int = 25
    block_size: int = 500


SETTINGS: dict[str, type] = {
    "auto": AutoSettings,
    "structured": StructuredSettings,
    "admm": ADMMSettings,
    "blocks": BlocksSettings,
}


def certify_kmeans(
    X: Any,
    labels: Any,
    *,
    sample_weight: Any = None,
    method: str = "auto",
    tol: float = 1e-6,
    max_iter: int | None = None,
    time_limit: float | None = None,
    callback: Callable[..., Any] | None = None,
    history: bool = False,
    verbose: int = 0,
    backend: str = "auto",
    options: Mapping[str, Any] | None = None,
) -> ClusteringResult:
    r"""Certify a k-means clustering: a rigorous lower bound on the cost of every clustering into as many groups.

    .. math:: \text{fun} = \sum_k \sum_{i \in G_k} w_i \lVert x_i - \mu_k \rVert^2, \qquad
              \text{bound} \le \min_{G'_1,\dots,G'_K} \sum_k \sum_{i \in G'_k} w_i \lVert x_i - \mu'_k \rVert^2

    Parameters
    ----------
    X : (n, p) array_like
        Points, one per row: NumPy, a list, pandas, CuPy or any array-API array. Finite; not modified.
    labels : (n,) array_like of int
        Cluster of each row, 0 to K-1 with none empty; from scikit-learn or anywhere.
    sample_weight : (n,) array_like, optional
        Non-negative weights, ones by default. Every cluster needs positive weight.
    method : {"auto", "structured", "admm", "blocks"}
        ``"structured"``: the dual point built from the labels, its scales searched; any n. ``"admm"``: then the
        semidefinite relaxation itself (n x n matrices, see :func:`kmeans_sdp`). ``"blocks"``: then the relaxations of
        balanced blocks of rows; any n, about a second per 500 rows. ``"auto"``: structured, and while its gap stays
        open the relaxation (n <= 500) or blocks (n <= 5000, or any n until a ``time_limit``), these only where the gap
        is large enough for what dividing the rows loses. For one feature (p = 1, NumPy arrays) ``"auto"`` compares with
        the optimum itself, found and proved as in :func:`kmeans_sdp`.
    tol : float
        The run ends as OPTIMAL once ``gap <= tol``; otherwise as CONVERGED after the search, or once the relaxation is
        solved to ``tol``.
    max_iter : int, optional
        Scales tried, splitting iterations and blocks, in all; at most 100, 3000 and one per block by default.
    time_limit : float, optional
        Seconds.
    callback : callable, optional
        Called as ``callback(intermediate_result)`` at checkpoints; a true answer or StopIteration ends the run.
    history : bool
        Keep a :class:`solvers.History` of the checkpoints.
    verbose : {0, 1, 2}
        Silent; a summary line; a table row per checkpoint (standard error).
    backend : {"auto", "numba", "array", "cupy"}
        ``"auto"``: where the data live.
    options : mapping, optional
        ``check_every`` (25; admm, auto): iterations between certificates. ``block_size`` (500; blocks, auto).

    Returns
    -------
    ClusteringResult
        ``labels`` as given, ``fun`` their cost, ``bound``, ``gap``: the labels are within ``gap`` of the optimum.

    Raises
    ------
    InvalidProblemError
        Bad values or shapes, or a cluster without weight.

    Notes
    -----
    *Guarantee.* ``bound`` is at most the cost of every clustering of X into K groups, rounding errors included, whether
    or not the labels are good; it is tight where the clusters are well separated and the labels right.

    *Complexity.* O(n (p + K)^2) time and O(n (p + K)) memory: hundreds of thousands of points in about a second.

    References
    ----------
    T. Iguchi, D. Mixon, J. Peterson, S. Villar, Probably certifiably correct k-means clustering, Math.
    Program. 165, 2017.
    J. Peng and Y. Wei, Approximating k-means-type clustering via semidefinite programming, SIAM J. Optim. 18, 2007.

    Examples
    --------
    >>> import solvers
    >>> from sklearn.cluster import KMeans
    >>> X = solvers.load_example("ruspini").data
    >>> labels = KMeans(4, n_init=10, random_state=7).fit_predict(X)
    >>> solvers.certify_kmeans(X, labels).gap < 1e-10
    True
    """
    entry = entry_named("certify_kmeans")
    common = check_common(
        entry.name,
        method=method,
        methods=entry.methods,
        tol=tol,
        max_iter=max_iter,
        time_limit=time_limit,
        callback=callback,
        history=history,
        verbose=verbose,
        options=options,
    )
    settings: Any = common.settings(SETTINGS[method])
    for name in ("check_every", "block_size"):
        if hasattr(settings, name):
            check_integer(f"options['{name}']", getattr(settings, name), low=1)
    chosen = choose_backend(
        "clustering", backend, entry.backends, small_below=SMALL, X=X, labels=labels, sample_weight=sample_weight
    )
    problem, mine = labelled_problem(X, labels, sample_weight, chosen)
    if method == "admm":
        refuse_beyond_memory(
            8.0 * DENSE_MATRICES * problem.n**2,
            what=f"method='admm' with {problem.n} rows",
            instead="use method='blocks' or 'structured'",
        )
    run = Run(problem, common, method="structured", max_iter=DEFAULT_TRIALS, fixed_labels=True)
    monitor = run.monitor
    run.open(mine)
    if method == "auto" and problem.p == 1 and chosen.device is None:
        run.begin_phase("exact", DEFAULT_PRICES)
        solve_on_line(run)
        return _result(run)
    groups: Groups = monitor.x
    trials = scale_trials(groups, target=groups.cost * (1.0 - 0.5 * common.tol))
    best = None
    for trial in trials:
        if not monitor.running():
            break
        if best is None or trial.estimate > best.estimate:
            best = trial
        monitor.checkpoint()
    if best is not None:
        run.certify_at(best)
    if monitor.status is None and (method == "admm" or (method == "auto" and problem.n <= AUTO_ADMM_ROWS)):
        run.begin_phase("admm", DEFAULT_ITERATIONS)
        solve_relaxation(run, best.scale if best else 0.0, settings.check_every)
    if monitor.status is None and (method == "blocks" or (method == "auto" and _blocks_pay(run))):
        run.begin_phase("blocks", problem.n)
        bound_by_blocks(run, settings.block_size)
    return _result(run)


def _result(run: Run) -> ClusteringResult:
    run.monitor.finish(Status.CONVERGED)
    result = run.monitor.result()
    assert isinstance(result, ClusteringResult)
    return result


def _blocks_pay(run: Run) -> bool:
    """Whether blocks may raise the bound of the structured certificate in the time there is."""
    monitor, n = run.monitor, run.problem.n
    fits = n <= AUTO_BLOCKS_ROWS or monitor.common.time_limit is not None
    return n > AUTO_ADMM_ROWS and fits and monitor.gap > BLOCK_TOLERANCE


def labelled_problem(X: Any, labels: Any, sample_weight: Any, backend: Backend) -> tuple[KMeansProblem, Any]:
    """The problem that a labelling poses (K = number of labels) and the labels of its rows of positive weight."""
    length = len(X) if not hasattr(X, "shape") else (X.shape[0] if len(X.shape) else 0)
    given = as_integer_labels(labels, "labels", length=length)
    host = to_host(given)
    counts = np.bincount(host) if len(host) and host.max() < max(4 * len(host), 16) else np.zeros(1, dtype=np.int64)
    if counts.min(initial=1) == 0:
        empty = int(np.flatnonzero(counts == 0)[0])
        raise InvalidProblemError(
            f"labels must use every value from 0 to {host.max()}; cluster {empty} is empty "
            "(np.unique(labels, return_inverse=True)[1] renumbers)"
        )
    problem = kmeans_problem(X, len(counts), sample_weight, backend)
    kept = host if problem.kept is None else host[problem.kept]
    if len(np.unique(kept)) < len(counts):
        empty = int(np.setdiff1d(np.arange(len(counts)), kept)[0])
        raise InvalidProblemError(f"every cluster needs positive weight; cluster {empty} has none in sample_weight")
    return problem, backend.take(np.ascontiguousarray(kept))
