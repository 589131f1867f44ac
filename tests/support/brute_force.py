"""Optimal clusterings of a few points by enumeration, in extended precision."""

from __future__ import annotations

from functools import cache

import numpy as np

# Relative accuracy of the enumeration in 80-bit arithmetic, far below any float64 slack.
ACCURACY = 1e-16


@cache
def partitions(n: int, n_clusters: int) -> np.ndarray:
    """All partitions of n items into exactly n_clusters groups, as rows of labels (restricted growth strings)."""
    rows: list[list[int]] = []

    def grow(prefix: list[int], used: int) -> None:
        if len(prefix) == n:
            if used == n_clusters:
                rows.append(prefix)
            return
        if used + n - len(prefix) < n_clusters:
            return
        for label in range(min(used + 1, n_clusters)):
            grow([*prefix, label], max(used, label + 1))

    grow([], 0)
    return np.array(rows)


def cost_of(X: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """k-means cost of one labelling."""
    return float(_costs(X, np.asarray(labels)[None, :], int(np.max(labels)) + 1, weights)[0])


def best_cost(X: np.ndarray, n_clusters: int, weights: np.ndarray | None = None) -> float:
    """Cost of the best clustering into n_clusters groups; rows of weight 0 are left out."""
    X = np.asarray(X)
    if weights is not None:
        X, weights = X[weights > 0], weights[weights > 0]
    candidates = partitions(len(X), n_clusters)
    # In double precision first: what is this far above the least is not the best.
    rough = _costs(X, candidates, n_clusters, weights, np.float64)
    scatter = float(_costs(X, np.zeros((1, len(X)), dtype=np.int64), 1, weights)[0])
    near = rough <= rough.min() + 1e-8 * scatter
    return float(np.min(_costs(X, candidates[near], n_clusters, weights)))


def _costs(
    X: np.ndarray, labels: np.ndarray, n_clusters: int, weights: np.ndarray | None, precision: type = np.longdouble
) -> np.ndarray:
    points = np.asarray(X, dtype=np.longdouble)
    w = np.ones(len(points), dtype=np.longdouble) if weights is None else np.asarray(weights, dtype=np.longdouble)
    points = (points - (w @ points) / w.sum()).astype(precision)
    w = w.astype(precision)
    total = np.zeros(len(labels), dtype=precision)
    for k in range(n_clusters):
        member = (labels == k) * w
        load = member.sum(axis=1)
        mean = (member @ points) / np.where(load > 0, load, 1)[:, None]
        difference = points[None, :, :] - mean[:, None, :]
        total += (member * (difference**2).sum(axis=2)).sum(axis=1)
    return total
