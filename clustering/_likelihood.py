r"""The classification likelihood of Gaussian clusters, with labels as parameters.

For groups G_k of n_k points with means m_k, covariances S_k and, with mixing, shares pi_k,

    NLL = 1/2 sum_k [ n_k log|S_k| + sum_{i in G_k} (x_i - m_k)^T S_k^{-1} (x_i - m_k) ] - sum_k n_k log pi_k,

without the constant (n p / 2) log 2 pi. With Z_k = 1_{G_k} 1_{G_k}^T / n_k and D_k(i, j) = (x_i - x_j)^T S_k^{-1} (x_i
- x_j) it equals sum_k <C_k, Z_k> for

    C_k = 1/2 (1/2 D_k + log|S_k| 1 1^T) - log pi_k 1 1^T.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from solvers._core.arrays import FloatArray, IntArray

__all__ = [
    "COVARIANCE_TYPES",
    "GaussianModel",
    "Regularisation",
    "centred",
    "fit_model",
    "group_means",
    "least_size",
    "log_constant",
]

COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")
# Groups smaller than this have no covariance worth the name.
LEAST_SIZE = 4


@dataclass(frozen=True)
class Regularisation:
    """How covariances are kept away from singular ones.

    ``floor``: least eigenvalue of a group's covariance relative to the pooled one; ``ridge``: added to the diagonal of
    the pooled one, in units of the mean total variance.
    """

    covariance_type: str
    mixing: bool
    floor: float
    ridge: float


@dataclass(frozen=True)
class GaussianModel:
    """Covariances (K, p, p), whatever their type, their Cholesky factors, log-determinants and log shares (K,)."""

    covariances: FloatArray
    factors: FloatArray
    log_determinants: FloatArray
    log_shares: FloatArray

    @property
    def n_clusters(self) -> int:
        """K."""
        return len(self.covariances)

    def whitened(self, points: FloatArray, k: int) -> FloatArray:
        """Rows L_k^{-1} x_i, for S_k = L_k L_k^T."""
        result: FloatArray = np.ascontiguousarray(
            scipy.linalg.solve_triangular(self.factors[k], points.T, lower=True, check_finite=False).T
        )
        return result

    def nll(self, points: FloatArray, labels: IntArray) -> float:
        """The negative log-likelihood at these covariances, each group around its own mean."""
        total = 0.0
        for k in range(self.n_clusters):
            rows = centred(points[labels == k])
            if len(rows):
                rows = self.whitened(rows, k)
                total += 0.5 * (len(rows) * self.log_determinants[k] + float(np.sum(rows * rows)))
                total -= len(rows) * self.log_shares[k]
        return total

    def cost_matrix(self, points: FloatArray, k: int) -> FloatArray:
        """C_k of the module's docstring."""
        rows = self.whitened(points, k)
        rows = rows - rows.mean(axis=0)
        squares = np.sum(rows * rows, axis=1)
        cost: FloatArray = 0.25 * (squares[:, None] + squares) - 0.5 * (rows @ rows.T)
        cost += 0.5 * self.log_determinants[k] - self.log_shares[k]
        return cost

    def discriminants(self, points: FloatArray, centers: FloatArray) -> FloatArray:
        """The term of each point in each group (n, K): 1/2 log|S_k| + 1/2 |x_i - m_k|^2_{S_k^{-1}} - log pi_k."""
        columns = []
        for k in range(self.n_clusters):
            rows = self.whitened(points - centers[k], k)
            columns.append(0.5 * (self.log_determinants[k] + np.sum(rows * rows, axis=1)) - self.log_shares[k])
        return np.stack(columns, axis=1)

    def condition(self, k: int) -> float:
        """Norm of the inverse of the correlation matrix of S_k, which rounding errors grow with, whatever the units."""
        rows = self.factors[k] / np.linalg.norm(self.factors[k], axis=1)[:, None]
        return float(np.linalg.svd(rows, compute_uv=False)[-1]) ** -2


def centred(rows: FloatArray) -> FloatArray:
    """Rows around their mean, which is subtracted twice."""
    if len(rows) == 0:
        return rows
    for _ in range(2):
        rows = rows - rows.mean(axis=0)
    return rows


def least_size(n: int, n_clusters: int) -> int:
    """Smallest group that is accepted: LEAST_SIZE where the data allow it."""
    return max(1, min(LEAST_SIZE, n // n_clusters - 1))


def group_means(points: FloatArray, labels: IntArray, n_clusters: int) -> FloatArray:
    """Means of the groups (K, p)."""
    return np.stack([points[labels == k].mean(axis=0) for k in range(n_clusters)])


def fit_model(points: FloatArray, labels: IntArray, n_clusters: int, how: Regularisation) -> GaussianModel:
    """Maximum-likelihood covariances of the groups, kept within the floor; affine invariant but for the ridge."""
    n, p = points.shape
    counts = np.bincount(labels, minlength=n_clusters)
    groups = [points[labels == k] - mean for k, mean in enumerate(group_means(points, labels, n_clusters))]
    scatters = [rows.T @ rows / max(len(rows), 1) for rows in groups]
    total = points - points.mean(axis=0)
    ridge = how.ridge * max(float(np.sum(total * total)) / (n * p), np.finfo(np.float64).tiny)
    pooled = sum((counts[k] / n) * scatters[k] for k in range(n_clusters)) + ridge * np.eye(p)
    if how.covariance_type == "tied":
        covariances = [pooled] * n_clusters
    elif how.covariance_type == "spherical":
        level = float(np.trace(pooled)) / p
        covariances = [max(float(np.trace(s)) / p, how.floor * level) * np.eye(p) for s in scatters]
    elif how.covariance_type == "diag":
        least = how.floor * np.diag(pooled)
        covariances = [np.diag(np.maximum(np.diag(s), least)) for s in scatters]
    else:
        factor = np.linalg.cholesky(pooled)
        covariances = [_floored(s, factor, how.floor) for s in scatters]
    stacked = np.stack([0.5 * (c + c.T) for c in covariances])
    factors = np.stack([np.linalg.cholesky(c) for c in stacked])
    log_determinants = 2.0 * np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
    shares = np.log(np.maximum(counts, 1) / n) if how.mixing else np.zeros(n_clusters)
    return GaussianModel(stacked, factors, log_determinants, shares)


def _floored(scatter: FloatArray, factor: FloatArray, floor: float) -> FloatArray:
    """The covariance with its eigenvalues relative to factor factor^T raised to the floor."""
    half = scipy.linalg.solve_triangular(factor, scatter, lower=True, check_finite=False)
    relative = scipy.linalg.solve_triangular(factor, half.T, lower=True, check_finite=False)
    values, vectors = np.linalg.eigh(0.5 * (relative + relative.T))
    basis = factor @ vectors
    result: FloatArray = (basis * np.maximum(values, max(floor, 1e-12))) @ basis.T
    return result


def log_constant(n: int, p: int) -> float:
    """(n p / 2) log 2 pi."""
    return 0.5 * n * p * math.log(2.0 * math.pi)
