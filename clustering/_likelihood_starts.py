"""Starting labels for likelihood clustering: no single start is good everywhere, so six different ones compete."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from clustering._admm import solve_relaxation
from clustering._likelihood import Regularisation, fit_model
from clustering._problem import KMeansProblem
from clustering._run import Run, subordinate
from solvers._core.arrays import FloatArray, IntArray, to_host
from solvers._core.monitor import Monitor
from solvers._core.options import Common
from solvers._core.random import sklearn_seed

__all__ = ["STARTS", "relaxed_kmeans", "starting_labels"]

STARTS = ("kmeans", "ward", "tied", "spectral", "map", "em")
RELAXATION_ITERATIONS, RELAXATION_ROWS, CHECK_EVERY = 200, 1_000, 25
WARD_ROWS, SPECTRAL_ROWS = 5_000, 3_000
TIED_ROUNDS = 10
EM_ITERATIONS, EM_TOLERANCE = 200, 1e-6
EM_STARTS = 10
NEIGHBOURS = 10


def starting_labels(
    problem: KMeansProblem, monitor: Monitor, how: Regularisation, names: tuple[str, ...]
) -> Iterator[IntArray]:
    """Labels of each named start in turn; starts that fail or whose cost grows too fast for the size are passed over."""
    points, n_clusters = np.ascontiguousarray(problem.host_points), problem.n_clusters
    common = monitor.common
    kmeans = relaxed_kmeans(problem, monitor, n_starts=10, max_iter=RELAXATION_ITERATIONS, tol=1e-4)
    first = to_host(kmeans.monitor.x.labels).astype(np.int64)
    for name in names:
        if monitor.out_of_time():
            return
        labels: IntArray | None = None
        if name == "kmeans":
            labels = first
        elif name == "ward" and problem.n <= WARD_ROWS:
            labels = _ward(points, n_clusters)
        elif name == "tied":
            labels = _tied(points, n_clusters, first, how, common)
        elif name == "spectral" and problem.n <= SPECTRAL_ROWS:
            labels = _spectral(points, n_clusters, common)
        elif name == "map":
            labels = _penalised_em(points, n_clusters, first)
        elif name == "em":
            labels = _em(points, n_clusters, how, monitor)
        if labels is not None and len(np.unique(labels)) == n_clusters:
            yield labels.astype(np.int64)


def relaxed_kmeans(problem: KMeansProblem, monitor: Monitor, *, n_starts: int, max_iter: int, tol: float) -> Run:
    """k-means by restarts and, for moderate sizes, the relaxation: a run with labels and a proof."""
    run = Run(problem, subordinate(monitor, tol=tol), method="structured", max_iter=max_iter)
    for labels in run.starts(n_starts):
        if run.monitor.x is None:
            run.open(labels)
        if run.monitor.out_of_time():
            break
        run.offer(run.descend(labels))
    scale = run.certify_best(pairs=False)
    if problem.n <= RELAXATION_ROWS and run.monitor.status is None:
        solve_relaxation(run, scale, CHECK_EVERY)
    return run


def _ward(points: FloatArray, n_clusters: int) -> IntArray:
    from sklearn.cluster import AgglomerativeClustering

    return np.asarray(AgglomerativeClustering(n_clusters).fit_predict(points))


def _tied(points: FloatArray, n_clusters: int, labels: IntArray, how: Regularisation, common: Common) -> IntArray:
    """k-means on the data whitened by the pooled covariance of the labels so far, a few times over."""
    from sklearn.cluster import KMeans

    pooled = replace(how, covariance_type="tied")
    for _ in range(TIED_ROUNDS):
        rows = fit_model(points, labels, n_clusters, pooled).whitened(points, 0)
        fresh = KMeans(n_clusters, n_init=5, random_state=sklearn_seed(common.rng)).fit(rows).labels_
        if len(np.unique(fresh)) < n_clusters or _same_partition(fresh, labels):
            break
        labels = fresh.astype(np.int64)
    return labels


def _spectral(points: FloatArray, n_clusters: int, common: Common) -> IntArray | None:
    from sklearn.cluster import SpectralClustering

    n = len(points)
    if n <= n_clusters + 1:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            method = SpectralClustering(
                n_clusters,
                affinity="nearest_neighbors",
                n_neighbors=min(NEIGHBOURS, n - 1),
                random_state=sklearn_seed(common.rng),
            )
            return np.asarray(method.fit_predict(points))
        except (np.linalg.LinAlgError, ValueError):
            return None


def _em(points: FloatArray, n_clusters: int, how: Regularisation, monitor: Monitor) -> IntArray | None:
    from sklearn.mixture import GaussianMixture

    n, p = points.shape
    ridge = max(how.ridge, 1e-9) * float(np.sum(points * points)) / (n * p)
    labels, best = None, -math.inf
    for _ in range(EM_STARTS):
        if monitor.out_of_time():
            break
        mixture = GaussianMixture(
            n_clusters,
            covariance_type=how.covariance_type,
            reg_covar=ridge,
            random_state=sklearn_seed(monitor.common.rng),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = mixture.fit_predict(points)
            except (np.linalg.LinAlgError, ValueError):
                continue
        if mixture.lower_bound_ > best:
            labels, best = np.asarray(found), float(mixture.lower_bound_)
    return labels


def _penalised_em(points: FloatArray, n_clusters: int, labels: IntArray) -> IntArray | None:
    """EM with an inverse-Wishart prior of p + 2 degrees of freedom (Fraley and Raftery 2007), from k-means labels."""
    n, p = points.shape
    prior = points.T @ points / n / n_clusters ** (2.0 / p)
    responsibilities = np.eye(n_clusters)[labels]
    before = -math.inf
    for _ in range(EM_ITERATIONS):
        loads = responsibilities.sum(axis=0)
        if loads.min() <= 0.0:
            return None
        means = (responsibilities.T @ points) / loads[:, None]
        terms = np.empty((n, n_clusters))
        for k in range(n_clusters):
            centred = points - means[k]
            scatter = (responsibilities[:, k, None] * centred).T @ centred
            try:
                factor = np.linalg.cholesky((prior + scatter) / (loads[k] + 2 * p + 4))
            except np.linalg.LinAlgError:
                return None
            white = np.linalg.solve(factor, centred.T)
            terms[:, k] = math.log(loads[k] / n) - 0.5 * np.sum(white * white, axis=0) - np.sum(np.log(np.diag(factor)))
        top = terms.max(axis=1)
        weights = np.exp(terms - top[:, None])
        total = float(np.sum(top + np.log(weights.sum(axis=1))))
        responsibilities = weights / weights.sum(axis=1)[:, None]
        if total - before <= EM_TOLERANCE * abs(total):
            break
        before = total
    return np.asarray(np.argmax(responsibilities, axis=1), dtype=np.int64)


def _same_partition(first: IntArray, second: IntArray) -> bool:
    pairs = np.unique(np.stack([first, second]), axis=1).shape[1]
    return bool(pairs == len(np.unique(first)) == len(np.unique(second)))
