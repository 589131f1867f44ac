"""``ila_sdp``: Gaussian clusters of different shapes, by the likelihood-adjusted relaxation and many starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from clustering._incumbent import first_labels
from clustering._likelihood import COVARIANCE_TYPES, Regularisation
from clustering._likelihood_run import LikelihoodRun
from clustering._likelihood_starts import STARTS, starting_labels
from clustering._mixture_result import GaussianClusteringResult
from clustering._problem import KMeansProblem, kmeans_problem
from solvers._catalogue import entry_named
from solvers._core.arrays import refuse_beyond_memory, to_host
from solvers._core.backend import choose_backend
from solvers._core.errors import InvalidProblemError
from solvers._core.options import check_choice, check_common, check_integer, check_number
from solvers._core.random import RNG
from solvers._core.result import Status

__all__ = ["ila_sdp", "likelihood_problem"]

# method="auto" solves the relaxation in full up to the first number of rows, by factors of few columns up to the second.
RELAXATION_ROWS, LOW_RANK_ROWS = 300, 600
ROUNDS_PER_START = 8


@dataclass(frozen=True)
class ILASettings:
    """Options of ``ila_sdp``.

    ``starts``: names among kmeans, ward, tied, spectral, map, em. ``assignment_tol``: gap of the last relaxation, in
    nats per point. ``sample_size``: rows of the relaxation where it works on a sample (0: the larger of 150 and 50 K).
    """

    starts: tuple[str, ...] = STARTS
    assignment_tol: float = 1e-3
    sample_size: int = 0


def ila_sdp(
    X: Any,
    n_clusters: int,
    *,
    covariance_type: str = "full",
    mixing: bool = False,
    floor: float = 0.2,
    reg_covar: float = 1e-6,
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
) -> GaussianClusteringResult:
    r"""Cluster points around means with a covariance for each cluster, by likelihood.

    .. math:: \max_{G, \Sigma} \; -\frac12 \sum_{k=1}^{K} \Big[ n_k \log|\Sigma_k|
              + \sum_{i \in G_k} (x_i - \mu_k)^T \Sigma_k^{-1} (x_i - \mu_k) \Big]
              - \frac{np}{2} \log 2\pi \;\Big[ + \sum_k n_k \log \pi_k \Big]

    over partitions of the rows into K groups with means :math:`\mu_k` and covariances kept away from singular ones;
    the last term only with ``mixing``.

    Parameters
    ----------
    X : (n, p) array_like
        Points, one per row: NumPy, a list or pandas. Finite; not modified.
    n_clusters : int
        K, from 1 to the number of distinct rows.
    covariance_type : {"full", "tied", "diag", "spherical"}
        As in scikit-learn's GaussianMixture.
    mixing : bool
        Give each cluster a share pi_k = n_k / n; better for unequal sizes.
    floor : float
        Least eigenvalue of a cluster's covariance relative to the pooled one, from 0 to 1; affine invariant.
    reg_covar : float
        Ridge of the pooled covariance, in units of the mean variance of the columns.
    method : {"auto", "relaxation", "low-rank", "subsample"}
        ``"relaxation"``: group-specific membership matrices for all rows (K n x n matrices). ``"low-rank"``: the same
        matrices as products of non-negative factors of three columns, much faster, and in full only for the bound.
        ``"subsample"``: matrices in full for a sample of the rows, lifted to all by the Gaussian discriminant and hard
        EM; no bound. ``"auto"``: relaxation up to 300 rows, low-rank up to 600, then subsample.
    x0 : result, (n,) labels or (K, p) centres, optional
        One more start, the first.
    tol : float
        The run ends as OPTIMAL once ``gap <= tol``, possible only where ``bound`` is finite; otherwise as CONVERGED
        once the labels of every start repeat.
    max_iter : int, optional
        Relaxations solved; 8 per start by default.
    time_limit : float, optional
        Seconds.
    callback : callable, optional
        Called as ``callback(intermediate_result)`` after each relaxation; a true answer or StopIteration ends the run.
    rng : int, Generator, SeedSequence or None
        Seeds of the starts.
    history : bool
        Keep a :class:`solvers.History` of the checkpoints.
    verbose : {0, 1, 2}
        Silent; a summary line; a table row per checkpoint (standard error).
    backend : {"auto", "numba"}
        Host arrays only.
    options : mapping, optional
        ``starts`` (all six of kmeans, ward, tied, spectral, map, em), ``assignment_tol`` (1e-3): gap of the last
        relaxation in nats per point, ``sample_size`` (0: max(150, 50 K)): rows of a sample.

    Returns
    -------
    GaussianClusteringResult
        ``labels``, ``centers``, ``covariances``, ``weights``, ``fun`` (log-likelihood, natural log, summed), ``bound``
        (infinite unless ``covariance_type="tied"`` and K = 2), ``assignment_bound``, ``assignment_gap``,
        ``predict(X_new)``.

    Raises
    ------
    InvalidProblemError
        Bad values, shapes or sizes, or a pooled covariance that is singular even with the ridge.

    Notes
    -----
    *Guarantee.* ``assignment_bound`` is at least the log-likelihood of **every labelling at the returned covariances**,
    rounding errors included. Nothing is proved about other covariances, except for one covariance shared by two
    clusters, where ``bound`` holds for every labelling and every covariance.
    Each start alternates covariances and the relaxation of the labels given them; the membership matrix of each cluster
    is positive semidefinite of trace 1 and all their entries together are non-negative with row sums 1. Labels are the
    largest row sums, rejected unless the likelihood rises. The most likely labels of all starts are returned; likely is
    not the same as right where groups are small for their dimension.

    *Complexity.* O(K n^2 r) an iteration with r surviving eigenvectors, some hundred iterations a relaxation; low-rank
    O(K n p) an iteration, and one relaxation in full for the bound.

    References
    ----------
    Y. Zhuang, X. Chen, Y. Yang, Likelihood adjusted semidefinite programs for clustering heterogeneous data, 2022.
    C. Fraley, A. Raftery, Bayesian regularization for normal mixture estimation and model-based clustering, 2007.

    Examples
    --------
    >>> import solvers
    >>> X = solvers.load_example("iris").data
    >>> result = solvers.ila_sdp(X, 3, rng=0, options={"starts": ("kmeans", "ward")})
    >>> result.covariances.shape, result.fun <= result.assignment_bound
    ((3, 4, 4), True)
    """
    entry = entry_named("ila_sdp")
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
    settings = common.settings(ILASettings)
    names = _check_starts(settings.starts)
    assignment_tol = check_number("options['assignment_tol']", settings.assignment_tol, low=0.0, strict=True)
    sample_size = check_integer("options['sample_size']", settings.sample_size, low=0)
    how = regularisation(covariance_type, mixing, floor, reg_covar)
    problem = likelihood_problem(X, n_clusters, backend)
    sample = sample_size or max(150, 50 * problem.n_clusters)
    if method == "auto":
        small = problem.n <= max(RELAXATION_ROWS, sample)
        method = "relaxation" if small else "low-rank" if problem.n <= LOW_RANK_ROWS else "subsample"
    elif method == "subsample" and sample >= problem.n:
        method = "relaxation"
    whole = method != "subsample"
    refuse_beyond_memory(
        8.0 * 7 * problem.n_clusters * (problem.n if whole else sample) ** 2,
        what=f"method={method!r} with {problem.n} rows and {problem.n_clusters} clusters",
        instead="use method='subsample'",
    )
    first = [] if x0 is None else [to_host(first_labels(problem, getattr(x0, "labels", x0))).astype(np.int64)]
    run = LikelihoodRun(
        problem,
        common,
        how,
        method=method,
        max_iter=ROUNDS_PER_START * (len(names) + len(first)),
    )
    run.open()
    run.bound_tied()
    for labels in (*first, *starting_labels(problem, run.monitor, how, names)):
        if run.monitor.status is not None or run.monitor.out_of_time():
            break
        if whole:
            run.refine(labels, ROUNDS_PER_START, low_rank=method == "low-rank")
        else:
            run.refine_sample(labels, sample, ROUNDS_PER_START)
    run.monitor.finish(Status.TIME_LIMIT if run.monitor.out_of_time() else Status.CONVERGED)
    if whole:
        run.bound_assignment(assignment_tol)
    result = run.monitor.result()
    assert isinstance(result, GaussianClusteringResult)
    return result


def regularisation(covariance_type: str, mixing: bool, floor: float, reg_covar: float) -> Regularisation:
    """The problem options, validated."""
    check_choice("covariance_type", covariance_type, COVARIANCE_TYPES)
    if not isinstance(mixing, (bool, np.bool_)):
        raise TypeError(f"mixing must be True or False; got {mixing!r}")
    floor = check_number("floor", floor, low=0.0)
    if floor > 1.0:
        raise ValueError(f"floor must be a number from 0 to 1; got {floor!r}")
    return Regularisation(covariance_type, bool(mixing), floor, check_number("reg_covar", reg_covar, low=0.0))


def likelihood_problem(X: Any, n_clusters: int, backend: str = "auto") -> KMeansProblem:
    """X centred, on the host."""
    chosen = choose_backend("clustering", backend, entry_named("ila_sdp").backends, X=X)
    problem = kmeans_problem(X, n_clusters, None, chosen)
    if not problem.scatter > 0.0:
        raise InvalidProblemError("X must have two different rows: a single point has no covariance")
    return problem


def _check_starts(starts: Any) -> tuple[str, ...]:
    names = (starts,) if isinstance(starts, str) else tuple(starts)
    for name in names:
        check_choice("options['starts']", name, STARTS)
    if not names:
        raise ValueError("options['starts'] must name a start; got none")
    return names
