"""Good labellings: k-means++ seeds, then Hartigan-Wong moves to a local optimum.

Lloyd's algorithm alone stops at labellings that one single-point move improves (iris with K = 3 is one); the moves do
not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from clustering._problem import KMeansProblem
from clustering._result import ClusteringResult
from solvers._core.arrays import Array, as_float_array, as_integer_labels, dimensions, to_host
from solvers._core.errors import InvalidProblemError
from solvers._core.random import sklearn_seed

__all__ = ["descend", "first_labels", "seeded_labels"]

# Seeding looks at no more than this many rows (drawn once per start), so that it stays sublinear and, for arrays on a
# device, so that the copy to the host stays small.
SEEDING_ROWS = 20_000


def first_labels(problem: KMeansProblem, x0: Any) -> Array:
    """Labels meant by ``x0``: a previous result, (n,) labels or (K, p) centres."""
    n_clusters = problem.n_clusters
    if isinstance(x0, ClusteringResult):
        x0 = x0.labels
    elif hasattr(x0, "entry"):
        raise InvalidProblemError(f"x0 must come from a clustering entry; got a result of {x0.entry}")
    if (dimensions(x0) if isinstance(x0, (list, tuple)) else getattr(x0, "ndim", None)) == 2:
        centers = as_float_array(x0, "x0", ndim=2, expected=f"({n_clusters}, {problem.p}) centres or (n,) labels")
        if tuple(centers.shape) != (n_clusters, problem.p):
            raise InvalidProblemError(f"x0 as centres must be ({n_clusters}, {problem.p}); got {tuple(centers.shape)}")
        centers = problem.backend.take(centers) if problem.backend.copies_home else centers
        return fill_empty(problem, problem.backend.kernels.assign(problem.points, centers - problem.shift))
    labels = as_integer_labels(x0, "x0", length=problem.n_rows)
    host = to_host(labels)
    if host.max() >= n_clusters:
        raise InvalidProblemError(f"x0 as labels must be below n_clusters={n_clusters}; got {host.max()}")
    host = host if problem.kept is None else host[problem.kept]
    return fill_empty(problem, problem.backend.take(np.ascontiguousarray(host)))


def seeded_labels(problem: KMeansProblem, rng: np.random.Generator, n_starts: int) -> Iterator[Array]:
    """Labels of ``n_starts`` k-means++ seedings."""
    from sklearn.cluster import kmeans_plusplus

    backend = problem.backend
    for _ in range(n_starts):
        if problem.n > SEEDING_ROWS:
            chosen = np.sort(rng.choice(problem.n, size=max(SEEDING_ROWS, problem.n_clusters), replace=False))
            index = backend.take(chosen)
            rows = to_host(backend.xp.take(problem.points, index, axis=0))
            weights = to_host(backend.xp.take(problem.weights, index))
        else:
            rows, weights = problem.host_points, problem.host_weights
        # Seeds are points, so the scale does not matter to them; it keeps squared distances inside float64.
        size = float(np.max(np.abs(rows))) or 1.0
        seeds, _ = kmeans_plusplus(
            rows / size,
            problem.n_clusters,
            sample_weight=weights / float(np.max(weights)),
            random_state=sklearn_seed(rng),
        )
        yield fill_empty(
            problem, backend.kernels.assign(problem.points, backend.take(np.ascontiguousarray(seeds * size)))
        )


def descend(problem: KMeansProblem, labels: Array, out_of_time: Callable[[], bool], max_sweeps: int) -> Array:
    """Improve labels until no single move does, the sweeps are used up or time is."""
    for _ in range(max_sweeps):
        labels, moved = problem.backend.kernels.improve_labels(
            problem.points, problem.weights, labels, problem.n_clusters
        )
        if moved == 0 or out_of_time():
            break
    return labels


def fill_empty(problem: KMeansProblem, labels: Array) -> Array:
    """Give each empty cluster the row that lies farthest from the mean of its own cluster of several."""
    host = to_host(labels)
    counts = np.bincount(host, minlength=problem.n_clusters)
    if counts.min() > 0:
        return labels
    host, points = np.array(host), problem.host_points
    for k in np.flatnonzero(counts == 0):
        counts = np.bincount(host, minlength=problem.n_clusters)
        means = np.stack(
            [points[host == l].mean(axis=0) if counts[l] else np.zeros(problem.p) for l in range(problem.n_clusters)]
        )
        distance = np.sum((points - means[host]) ** 2, axis=1)
        host[int(np.argmax(np.where(counts[host] > 1, distance, -1.0)))] = k
    return problem.backend.take(host)
