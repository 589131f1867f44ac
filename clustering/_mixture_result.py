"""The result of likelihood clustering."""

from __future__ import annotations

from typing import Any

import numpy as np

from clustering._likelihood import GaussianModel
from solvers._core.arrays import FloatArray, IntArray, as_float_array
from solvers._core.errors import InvalidProblemError
from solvers._core.result import Result

__all__ = ["GaussianClusteringResult", "compress_covariances", "expand_covariances", "model_of"]


class GaussianClusteringResult(Result):
    """Gaussian clusters with their likelihood.

    Besides the fields of :class:`solvers.Result`:

    Attributes
    ----------
    labels : (n,) int64
        Cluster of each row, 0 to K-1; the same array as ``x``.
    centers : (K, p) float64
    covariances : array
        (K, p, p) for "full", (p, p) for "tied", (K, p) for "diag", (K,) for "spherical".
    weights : (K,) float64
        Shares of the rows; part of the likelihood only with ``mixing``.
    mixing : bool
    covariance_type : str
    assignment_bound : float
        Proved: no labelling has a larger log-likelihood at the returned covariances; inf where not computed.
    assignment_gap : float
        (assignment_bound - fun) / n, in nats per point.
    """

    labels: IntArray
    centers: FloatArray
    covariances: FloatArray
    weights: FloatArray
    mixing: bool
    covariance_type: str
    assignment_bound: float
    assignment_gap: float

    def predict(self, X_new: Any) -> IntArray:
        """Most likely cluster of new points (m, p): the Gaussian discriminant, with shares if ``mixing``."""
        points = np.asarray(as_float_array(X_new, "X_new", ndim=2, expected="an (m, p) array"))
        if points.shape[1] != self.centers.shape[1]:
            raise InvalidProblemError(f"X_new must have {self.centers.shape[1]} columns; got {points.shape[1]}")
        terms = model_of(self).discriminants(points, self.centers)
        labels: IntArray = np.argmin(terms, axis=1).astype(np.int64)
        return labels


GaussianClusteringResult.__module__ = "clustering"


def expand_covariances(covariances: FloatArray, covariance_type: str, n_clusters: int, p: int) -> FloatArray:
    """Covariances of any type as (K, p, p)."""
    if covariance_type == "tied":
        return np.stack([covariances] * n_clusters)
    if covariance_type == "diag":
        return np.stack([np.diag(row) for row in covariances])
    if covariance_type == "spherical":
        return np.stack([float(value) * np.eye(p) for value in covariances])
    return np.asarray(covariances, dtype=np.float64)


def compress_covariances(covariances: FloatArray, covariance_type: str) -> FloatArray:
    """(K, p, p) covariances in the shape of their type."""
    if covariance_type == "tied":
        return np.array(covariances[0])
    if covariance_type == "diag":
        return np.ascontiguousarray(np.diagonal(covariances, axis1=1, axis2=2))
    if covariance_type == "spherical":
        return np.ascontiguousarray(covariances[:, 0, 0])
    return np.array(covariances)


def model_of(result: GaussianClusteringResult) -> GaussianModel:
    """The model that a result claims; raises LinAlgError where a covariance is not positive definite."""
    n_clusters, p = result.centers.shape
    covariances = np.array(expand_covariances(result.covariances, result.covariance_type, n_clusters, p))
    factors = np.stack([np.linalg.cholesky(c) for c in covariances])
    logs = 2.0 * np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
    shares = np.log(result.weights) if result.mixing else np.zeros(n_clusters)
    return GaussianModel(covariances, factors, logs, shares)
