"""``kmeans_sdp``: the best clustering found and a proof of how good it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from clustering._admm import DEFAULT_ITERATIONS, DENSE_MATRICES, ADMMSettings, solve_relaxation
from clustering._blocks import BlocksSettings, bound_by_blocks
from clustering._exact import DEFAULT_NODES, ExactSettings, branch_and_bound
from clustering._incumbent import first_labels
from clustering._links import NO_LINKS
from clustering._low_rank import LOW_RANK_ITERATIONS, LowRankSettings, improve_by_low_rank
from clustering._problem import kmeans_problem
from clustering._result import ClusteringResult
from clustering._run import Run
from solvers._catalogue import entry_named
from solvers._core.arrays import refuse_beyond_memory
from solvers._core.backend import choose_backend
from solvers._core.options import check_common, check_integer
from solvers._core.random import RNG
from solvers._core.result import Status

__all__ = ["kmeans_sdp"]

# method="auto" solves the relaxation up to this many rows.
AUTO_ADMM_ROWS = 3_000
# Low-rank iterations before the blocks under method="auto".
FEW_ITERATIONS = 500
# Entries of X up to which array code beats compiling.
SMALL = 256


@dataclass(frozen=True)
class StructuredSettings:
    """Options of ``method="structured"``: the number of k-means++ starts."""

    n_starts: int = 10


@dataclass(frozen=True)
class AutoSettings:
    """Options of ``method="auto"``: those of the methods it may choose."""

    n_starts: int = 10
    check_every: int = 25
    rank: int = 0
    block_size: int = 500


SETTINGS: dict[str, type] = {
    "auto": AutoSettings,
    "structured": StructuredSettings,
    "admm": ADMMSettings,
    "low-rank": LowRankSettings,
    "blocks": BlocksSettings,
    "exact": ExactSettings,
}


def kmeans_sdp(
    X: Any,
    n_clusters: int,
    *,
    sample_weight: Any = None,
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
) -> ClusteringResult:
    r"""Cluster points around means, with a certified lower bound on the best possible cost.

    .. math:: \min_{G_1,\dots,G_K} \; \sum_{k=1}^{K} \sum_{i \in G_k} w_i \lVert x_i - \mu_k \rVert^2

    over all partitions of the rows into K non-empty groups with (weighted) means :math:`\mu_k`.

    Parameters
    ----------
    X : (n, p) array_like
        Points, one per row: NumPy, a list, pandas, CuPy or any array-API array. Finite; not modified.
    n_clusters : int
        K, from 1 to the number of distinct rows of positive weight.
    sample_weight : (n,) array_like, optional
        Non-negative weights, ones by default. Rows of weight 0 join the nearest centre and count for nothing.
    method : {"auto", "structured", "admm"}
        ``"structured"``: restarts, then the bound of a dual point built from the labels; any n, no n x n matrix.
        ``"admm"``: in addition solves the semidefinite relaxation; for n up to about 500 (O(n^3) an iteration).
        ``"auto"``: structured, and if its gap stays open and n <= 500, the relaxation.
    x0 : ClusteringResult, (n,) labels or (K, p) centres, optional
        Where to start; a result of ``method="admm"`` also passes on its dual point.
    tol : float
        The run ends as OPTIMAL once ``gap <= tol``, and as CONVERGED once the restarts are used up (structured) or the
        relaxation is solved to a relative primal-dual gap of ``tol`` (admm).
    max_iter : int, optional
        Restarts ("structured", all of ``n_starts`` by default) or splitting iterations ("admm", 3000 by default).
    time_limit : float, optional
        Seconds.
    callback : callable, optional
        Called as ``callback(intermediate_result)`` at checkpoints; a true answer or StopIteration ends the run.
    rng : int, Generator, SeedSequence or None
        Seeds of the restarts.
    history : bool
        Keep a :class:`solvers.History` of the checkpoints.
    verbose : {0, 1, 2}
        Silent; a summary line; a table row per checkpoint (standard error).
    backend : {"auto", "numba", "array", "cupy"}
        ``"auto"``: where the data live.
    options : mapping, optional
        ``n_starts`` (10): k-means++ starts. ``check_every`` (25, admm only): iterations between certificates.

    Returns
    -------
    ClusteringResult
        ``labels`` (n,), ``centers`` (K, p), ``fun`` (their cost, in the squared unit of X), ``bound``, ``gap``,
        ``sdp_gap``.

    Raises
    ------
    InvalidProblemError
        Bad values, shapes or sizes; also where the n x n work of "admm" would not fit into memory.

    Notes
    -----
    *Guarantee.* ``bound`` is at most the cost of every clustering of X into K groups, rounding errors included.
    k-means++ seeds are improved by Hartigan-Wong moves (single points, which lower cost where Lloyd's algorithm stops).
    The structured multiplier of the best labels is scaled by a one-dimensional search. The relaxation of Peng and Wei
    is solved by ADMM with all equations in one block, so that every iterate gives a rigorous bound by Ky Fan's
    principle.

    *Complexity.* Restarts O(n K p) a sweep; structured bound O(n (p + K)^2) time, O(n (p + K)) memory; ADMM O(n^3) an
    iteration, 12 n^2 doubles.

    References
    ----------
    J. Peng and Y. Wei, Approximating k-means-type clustering via semidefinite programming, SIAM J. Optim. 18, 2007.
    T. Iguchi, D. Mixon, J. Peterson, S. Villar, Probably certifiably correct k-means clustering, Math.
    Program. 165, 2017.
    D. Arthur and S. Vassilvitskii, k-means++: the advantages of careful seeding, SODA 2007.

    Examples
    --------
    >>> import solvers
    >>> X = solvers.load_example("ruspini").data
    >>> result = solvers.kmeans_sdp(X, 4, rng=7)
    >>> result.status.name, round(result.fun, 6)
    ('OPTIMAL', 12881.051236)
    """
    entry = entry_named("kmeans_sdp")
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
    settings: Any = common.settings(SETTINGS[method])
    for name in ("n_starts", "check_every", "block_size"):
        if hasattr(settings, name):
            check_integer(f"options['{name}']", getattr(settings, name), low=1)
    if hasattr(settings, "rank"):
        check_integer("options['rank']", settings.rank, low=0)
    chosen = choose_backend("clustering", backend, entry.backends, small_below=SMALL, X=X, sample_weight=sample_weight)
    problem = kmeans_problem(X, n_clusters, sample_weight, chosen)
    if method == "admm":
        refuse_beyond_memory(
            8.0 * DENSE_MATRICES * problem.n**2,
            what=f"method='admm' with {problem.n} rows",
            instead="use method='blocks' or 'structured'",
        )
    run = Run(problem, common, method="structured", max_iter=settings.n_starts)
    first = None if x0 is None else first_labels(problem, x0)
    run.start_from(x0)
    scale = _restart(run, first, settings.n_starts, counted=method == "structured")
    links = NO_LINKS
    small = problem.n <= AUTO_ADMM_ROWS
    if method == "low-rank" or (method == "auto" and not small):
        run.begin_phase("low-rank", LOW_RANK_ITERATIONS)
        improve_by_low_rank(run, settings.rank, limit=LOW_RANK_ITERATIONS if method == "low-rank" else FEW_ITERATIONS)
    if method == "admm" or (method == "auto" and small):
        run.begin_phase("admm", DEFAULT_ITERATIONS)
        solve_relaxation(run, scale, settings.check_every)
    if method == "blocks" or (method == "auto" and not small):
        run.begin_phase("blocks", problem.n)
        bound_by_blocks(run, settings.block_size)
    if method == "exact":
        run.begin_phase("exact", DEFAULT_NODES)
        branch_and_bound(run, links, scale, divide=True, certificate_bytes=settings.certificate_bytes)
    run.monitor.finish(Status.CONVERGED)
    result = run.monitor.result()
    assert isinstance(result, ClusteringResult)
    return result


def _restart(run: Run, first: Any, n_starts: int, *, counted: bool) -> float:
    """Restart from seeds, certifying each improvement, until optimality is proved; returns the structured scale.

    ``counted`` restarts are the method's iterations and checkpoints; otherwise they only prepare the relaxation.
    """
    monitor = run.monitor
    starts = run.starts(n_starts)
    labels = next(starts) if first is None else first
    run.open(labels)
    scale = 0.0
    while labels is not None and monitor.status is None and not (monitor.out_of_time() and not counted):
        if counted and not monitor.running():
            break
        certified = monitor.fun
        if run.offer(run.descend(labels)) or scale == 0.0 or monitor.fun < certified:
            scale = run.certify_best()
        if counted:
            monitor.checkpoint()
        labels = next(starts, None)
    return scale
