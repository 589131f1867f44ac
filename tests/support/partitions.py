"""All clusterings of a few points, by enumeration: the oracle of the bounds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def partitions(n: int, n_clusters: int) -> Iterator[np.ndarray]:
    """Every labelling of n points with all of 0..K-1 used, once up to renaming."""

    def extend(prefix: list[int], used: int) -> Iterator[list[int]]:
        if len(prefix) == n:
            if used == n_clusters:
                yield prefix
            return
        for k in range(min(used + 1, n_clusters)):
            if n - len(prefix) - 1 >= n_clusters - max(used, k + 1):
                yield from extend([*prefix, k], max(used, k + 1))

    for labels in extend([], 0):
        yield np.array(labels)


def kmeans_cost(X: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Cost of a labelling in extended precision, from the definition."""
    points = np.asarray(X, dtype=np.longdouble)
    w = np.ones(len(points), dtype=np.longdouble) if weights is None else np.asarray(weights, dtype=np.longdouble)
    cost = np.longdouble(0)
    for k in np.unique(labels):
        mine, weight = points[labels == k], w[labels == k]
        if weight.sum() > 0:
            mean = weight @ mine / weight.sum()
            cost += weight @ ((mine - mean) ** 2).sum(axis=1)
    return float(cost)


def best_cost(X: np.ndarray, n_clusters: int, weights: np.ndarray | None = None, must=(), cannot=()) -> float:
    """Least cost over all clusterings that respect the links; inf if there is none."""
    return min(
        (
            kmeans_cost(X, labels, weights)
            for labels in partitions(len(X), n_clusters)
            if all(labels[i] == labels[j] for i, j in must) and all(labels[i] != labels[j] for i, j in cannot)
        ),
        default=np.inf,
    )
