"""``kmeans_sdp``: the best clustering found and a proof of how good it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from clustering._admm import DEFAULT_ITERATIONS, DENSE_MATRICES, ADMMSettings, solve_relaxation
from clustering._blocks import BlocksSettings, bound_by_blocks
from clustering._exact import DEFAULT_NODES, ExactSettings, branch_and_bound, respecting
from clustering._incumbent import first_labels
from clustering._line import DEFAULT_PRICES, solve_on_line
from clustering._links import NO_LINKS, Links, as_pairs
from clustering._low_rank import LOW_RANK_ITERATIONS, LowRankSettings, improve_by_low_rank
from clustering._problem import kmeans_problem
from clustering._result import ClusteringResult
from clustering._run import Run
from solvers._catalogue import entry_named
from solvers._core.arrays import refuse_beyond_memory, to_host
from solvers._core.backend import choose_backend
from solvers._core.errors import BackendError
from solvers._core.options import check_common, check_integer
from solvers._core.random import RNG
from solvers._core.result import Status

__all__ = ["kmeans_sdp"]

# method="auto" solves the relaxation up to this many rows.
AUTO_ADMM_ROWS = 3_000
# Low-rank iterations before the blocks under method="auto".
FEW_ITERATIONS = 500
UNLIMITED = 2**62
# Restarts before a relaxation end once so many found the same best cost.
AGREEING = 5
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
    cuts: bool = False
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
    method : {"auto", "structured", "admm", "low-rank", "blocks", "exact"}
        Each begins with ``"structured"``: restarts, and the bound of a dual point built from the labels; any n, no n x
        n matrix. ``"admm"`` solves the semidefinite relaxation; n up to about 3000. ``"blocks"`` adds up relaxations of
        balanced blocks of rows; any n, about a second per 500 rows. ``"low-rank"`` looks for better labels in a
        non-negative factor of the relaxation; any n. ``"exact"`` divides on pairs of rows until optimality is proved; n
        up to about 500. ``"auto"``: structured, then, while the gap is open, admm (n <= 3000) or low-rank and blocks.
        One feature (p = 1) is no hard problem: there ``"auto"`` and ``"exact"`` without links find the optimum and its
        proof by shortest paths over intervals, any n (NumPy arrays).
    x0 : ClusteringResult, (n,) labels or (K, p) centres, optional
        Where to start; a result of ``method="admm"`` also passes on its dual point.
    tol : float
        The run ends as OPTIMAL once ``gap <= tol``, and as CONVERGED once the restarts, the blocks or the low-rank
        iterations are used up or the relaxation is solved to a relative primal-dual gap of ``tol`` (admm). Branch and
        bound in reasonable time needs about 1e-4.
    max_iter : int, optional
        Restarts (structured; all of ``n_starts`` by default), iterations (admm, low-rank; 3000), blocks, nodes divided
        (exact; 10000) or shortest paths (exact or auto with one feature; 200).
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
        ``n_starts`` (10): k-means++ starts, at most; five that agree suffice before a relaxation. ``check_every`` (25;
        admm, auto): iterations between certificates. ``cuts`` (False; admm, auto with n <= 500 or so): tighten the
        relaxation by valid inequalities. ``rank`` (0, which means 2 K; low-rank, auto): columns of the factor.
        ``block_size`` (500; blocks, auto). ``must_link``, ``cannot_link`` (None; exact): pairs of rows that must or
        must not share a cluster; labels and bound are then those of the clusterings that respect them, and
        :func:`solvers.verify` takes both as keywords.
        ``certificate_bytes`` (2^30; exact): largest certificate.

    Returns
    -------
    ClusteringResult
        ``labels`` (n,), ``centers`` (K, p), ``fun`` (their cost, in the squared unit of X), ``bound``, ``gap``,
        ``sdp_gap``.

    Raises
    ------
    InvalidProblemError
        Bad values, shapes or sizes; links that no clustering respects; n x n work that would not fit into memory.
    BackendError
        ``"exact"`` or cuts with arrays that are not NumPy's.

    Notes
    -----
    *Guarantee.* ``bound`` is at most the cost of every clustering of X into K groups, rounding errors included.
    k-means++ seeds are improved by Hartigan-Wong moves (single points, which lower cost where Lloyd's algorithm stops).
    The structured multiplier of the best labels is scaled by a one-dimensional search. The relaxation of Peng and Wei
    is solved by ADMM with all equations in one block, so that every iterate gives a rigorous bound by Ky Fan's
    principle. Labels that may solve it are tried first: their dual point lies on a known face and takes ten iterations
    to find where it exists.

    The optimal clusters of one feature are intervals; a price per interval finds them, because the cost is convex in K.

    *Complexity.* Restarts O(n K p) a sweep; structured bound O(n (p + K)^2) time, O(n (p + K)) memory; ADMM O(n^3) an
    iteration, 12 n^2 doubles. One feature: O(n log n) a price, a few prices, O(n) memory.

    References
    ----------
    J. Peng and Y. Wei, Approximating k-means-type clustering via semidefinite programming, SIAM J. Optim. 18, 2007.
    T. Iguchi, D. Mixon, J. Peterson, S. Villar, Probably certifiably correct k-means clustering, Math.
    Program. 165, 2017.
    A. Aggarwal, B. Schieber, T. Tokuyama, Finding a minimum-weight k-link path in graphs with the concave Monge
    property and applications, Discrete Comput. Geom. 12, 1994.
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
    for name in ("n_starts", "check_every", "block_size", "certificate_bytes"):
        if hasattr(settings, name):
            check_integer(f"options['{name}']", getattr(settings, name), low=1)
    if hasattr(settings, "rank"):
        check_integer("options['rank']", settings.rank, low=0)
    cuts = getattr(settings, "cuts", False)
    if not isinstance(cuts, (bool, np.bool_)):
        raise TypeError(f"options['cuts'] must be True or False; got {cuts!r}")
    chosen = choose_backend("clustering", backend, entry.backends, small_below=SMALL, X=X, sample_weight=sample_weight)
    if (method == "exact" or cuts) and chosen.device is not None:
        raise BackendError("branch and bound and cuts run on NumPy arrays only; copy X to the host first")
    problem = kmeans_problem(X, n_clusters, sample_weight, chosen)
    links = NO_LINKS
    if isinstance(settings, ExactSettings):
        links = Links(
            as_pairs(settings.must_link, "must_link", problem), as_pairs(settings.cannot_link, "cannot_link", problem)
        )
    on_line = problem.p == 1 and method in ("auto", "exact") and links == NO_LINKS and chosen.device is None
    if not on_line and (method in ("admm", "exact") or cuts):
        refuse_beyond_memory(
            8.0 * DENSE_MATRICES * problem.n**2,
            what=f"method={method!r} with {problem.n} rows",
            instead="use method='blocks' or 'structured'",
        )
    run = Run(problem, common, method="structured", max_iter=settings.n_starts)
    first = None if x0 is None else first_labels(problem, x0)
    run.start_from(x0)
    if on_line:
        run.open(next(run.starts(1)) if first is None else first)
        run.begin_phase("exact", DEFAULT_PRICES)
        solve_on_line(run)
        return _result(run)
    if links == NO_LINKS:
        scale = _restart(run, first, settings.n_starts, counted=method == "structured")
    else:
        scale = _restart_linked(run, links, first, settings.n_starts)
    small = problem.n <= AUTO_ADMM_ROWS
    if method == "low-rank" or (method == "auto" and not small):
        run.begin_phase("low-rank", LOW_RANK_ITERATIONS)
        improve_by_low_rank(run, settings.rank, limit=LOW_RANK_ITERATIONS if method == "low-rank" else FEW_ITERATIONS)
    if method == "admm" or (method == "auto" and small):
        run.begin_phase("admm", DEFAULT_ITERATIONS)
        solve_relaxation(run, scale, settings.check_every, ends_solved=not cuts)
        if cuts:
            run.begin_phase("cuts", DEFAULT_NODES)
            branch_and_bound(run, NO_LINKS, scale, divide=False, certificate_bytes=UNLIMITED)
    if method == "blocks" or (method == "auto" and not small):
        run.begin_phase("blocks", problem.n)
        bound_by_blocks(run, settings.block_size)
    if method == "exact":
        run.begin_phase("exact", DEFAULT_NODES)
        branch_and_bound(run, links, scale, divide=True, certificate_bytes=settings.certificate_bytes)
    return _result(run)


def _result(run: Run) -> ClusteringResult:
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
    at_end = not counted and run.problem.n <= AUTO_ADMM_ROWS
    while labels is not None and monitor.status is None and not (monitor.out_of_time() and not counted):
        if counted and not monitor.running():
            break
        certified = monitor.fun
        improved = run.offer(run.descend(labels))
        if not at_end and (improved or scale == 0.0 or monitor.fun < certified):
            scale = run.certify_best()
        if counted:
            monitor.checkpoint()
        labels = None if at_end and run.agreeing >= AGREEING else next(starts, None)
    if at_end and monitor.status is None and not monitor.out_of_time():
        # Small problems: the relaxation follows, and starts from the multiplier of the best labels.
        scale = run.certify_best(pairs=False)
    return scale


def _restart_linked(run: Run, links: Links, first: Any, n_starts: int) -> float:
    """Restart from seeds, repaired to respect the links; bounds come from branch and bound alone."""
    labels = next(run.starts(1)) if first is None else first
    run.open(respecting(run.problem, links, to_host(labels)))
    for labels in run.starts(n_starts):
        if run.monitor.status is not None or run.monitor.out_of_time():
            break
        run.offer(respecting(run.problem, links, to_host(run.descend(labels))))
    return 0.0
