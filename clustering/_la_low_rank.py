r"""Labels at fixed covariances from non-negative factors Z_k = U_k U_k^T of a few columns each.

    min sum_k <C_k, U_k U_k^T>   subject to   U_k >= 0,  |U_k|_F = 1,  sum_k U_k (U_k^T 1) = 1

by projected gradients on an augmented Lagrangian of the last equation, as in :mod:`clustering._low_rank` for k-means.
With whitened centred rows W_k and v_k = 1/2 |rows of W_k|^2 + 1/2 log|S_k| - log pi_k the cost matrices are 2 C_k = v_k 1^T
+ 1 v_k^T - W_k W_k^T, so that an iteration costs O(K n r p) time and nothing of size n x n is formed. The factors are never
exactly feasible: only the labels they suggest are used, and bounds come from :mod:`clustering._la_sdp`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from clustering._la_sdp import Rounding
from clustering._likelihood import GaussianModel
from clustering._problem import largest_eigenvalue
from solvers._core.arrays import FloatArray, IntArray

__all__ = ["low_rank_labels"]

COLUMNS = 3
MOST_ITERATIONS = 400
ROUND_EVERY = 25
# Roundings in a row that repeat the labels at which the factors have settled.
SETTLED = 4
# Penalty and step relative to the largest eigenvalue of the W_k W_k^T (the first per row), and the share of noise in the
# first factors.
PENALTY, STEP = 1.0, 0.5
NOISE = 0.3
# Change of the factors per step at which the multiplier moves.
INNER_CHANGE = 1e-3


def low_rank_labels(
    points: FloatArray,
    model: GaussianModel,
    labels: IntArray,
    rounding: Rounding,
    rng: np.random.Generator,
    out_of_time: Callable[[], bool],
) -> IntArray:
    """The most likely labels found from the given ones, which are returned where none is more likely.

    ``rounding(loads, vectors)`` makes labels of the row sums (K, n) of the Z_k and of their sum's leading eigenvectors.
    """
    n, n_clusters = len(points), model.n_clusters
    white = np.stack([model.whitened(points, k) for k in range(n_clusters)])
    white = white - white.mean(axis=1, keepdims=True)
    v = 0.5 * np.sum(white * white, axis=2) + (0.5 * model.log_determinants - model.log_shares)[:, None]
    top = max(largest_eigenvalue(rows) for rows in white) or 1.0
    penalty, step = PENALTY * top / n, STEP / top
    u = _on_spheres(NOISE * rng.random((n_clusters, n, COLUMNS)) / math.sqrt(n) + _indicators(labels, n_clusters))
    multiplier = np.full(n, -float(np.mean(v)))
    best, least = labels, model.nll(points, labels)
    before, repeats = labels, 0
    for iteration in range(1, MOST_ITERATIONS + 1):
        along = u.sum(axis=1)
        y = multiplier + penalty * (np.einsum("knr,kr->n", u, along) - 1.0)
        terms = v + y
        gradient = (
            terms[:, :, None] * along[:, None, :]
            + np.matmul(terms[:, None, :], u)
            - np.matmul(white, np.matmul(white.transpose(0, 2, 1), u))
        )
        following = _on_spheres(u - step * gradient)
        change = float(np.linalg.norm(following - u)) / math.sqrt(n_clusters)
        u = following
        if change < INNER_CHANGE:
            multiplier = y
        if iteration % ROUND_EVERY == 0:
            rounded = rounding(np.einsum("knr,kr->kn", u, u.sum(axis=1)), partial(_leading, u))
            value = model.nll(points, rounded)
            if value < least:
                best, least = rounded, value
            repeats = repeats + 1 if np.array_equal(rounded, before) else 0
            before = rounded
            if repeats >= SETTLED or out_of_time():
                break
    return best


def _indicators(labels: IntArray, n_clusters: int) -> FloatArray:
    """The factor of the labels, one column each."""
    n = len(labels)
    counts = np.bincount(labels, minlength=n_clusters)
    u = np.zeros((n_clusters, n, COLUMNS))
    u[labels, np.arange(n), 0] = 1.0 / np.sqrt(counts[labels])
    return u


def _on_spheres(u: FloatArray) -> FloatArray:
    """The nearest U_k >= 0 with |U_k|_F = 1."""
    positive = np.maximum(u, 0.0)
    norms = np.sqrt(np.sum(positive * positive, axis=(1, 2), keepdims=True))
    result: FloatArray = positive / np.where(norms > 0.0, norms, 1.0)
    return result


def _leading(u: FloatArray) -> FloatArray:
    """The K leading eigenvectors of sum_k U_k U_k^T as columns (n, K), ascending."""
    n_clusters, n, columns = u.shape
    stacked = u.transpose(1, 0, 2).reshape(n, n_clusters * columns)
    result: FloatArray = np.linalg.svd(stacked, full_matrices=False)[0][:, :n_clusters][:, ::-1]
    return result
