"""The textbook semidefinite program, for any conic solver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from clustering._ila_sdp import likelihood_problem, regularisation
from clustering._likelihood import fit_model, log_constant
from clustering._problem import kmeans_problem
from solvers._core.backend import choose_backend

if TYPE_CHECKING:
    import cvxpy

__all__ = ["certify_kmeans_model", "ila_sdp_model", "kmeans_sdp_model"]


def kmeans_sdp_model(X: Any, n_clusters: int, *, sample_weight: Any = None) -> cvxpy.Problem:
    """Peng and Wei: min T - <A, Z> over Z psd, Z >= 0, Zq = q, tr Z = K; see :mod:`clustering._ky_fan` for A and q."""
    import cvxpy

    problem = kmeans_problem(X, n_clusters, sample_weight, choose_backend("clustering", "array", ("array",), X=X))
    rows = np.sqrt(problem.host_weights)[:, None] * problem.host_points
    q = np.asarray(problem.direction)
    z = cvxpy.Variable((problem.n, problem.n), PSD=True, name="Z")
    objective = cvxpy.Minimize(problem.scatter - cvxpy.sum(cvxpy.multiply(rows @ rows.T, z)))
    return cvxpy.Problem(objective, [z >= 0, z @ q == q, cvxpy.trace(z) == n_clusters])


def certify_kmeans_model(X: Any, labels: Any, *, sample_weight: Any = None) -> cvxpy.Problem:
    """The relaxation whose value bounds every clustering into as many groups as the labels have."""
    return kmeans_sdp_model(X, len(np.unique(np.asarray(labels))), sample_weight=sample_weight)


def ila_sdp_model(
    X: Any,
    n_clusters: int,
    *,
    covariance_type: str = "full",
    mixing: bool = False,
    floor: float = 0.2,
    reg_covar: float = 1e-6,
) -> cvxpy.Problem:
    """The relaxation at the covariances of the k-means labels: its value, negated, bounds their likelihood.

    min sum_k <C_k, Z_k> over psd Z_k >= 0 of trace 1 with (sum_k Z_k) 1 = 1; see :mod:`clustering._likelihood`. The
    constant (n p / 2) log 2 pi is included, so that minus the value is comparable with ``fun``.
    """
    import cvxpy
    from sklearn.cluster import KMeans

    how = regularisation(covariance_type, mixing, floor, reg_covar)
    problem = likelihood_problem(X, n_clusters)
    points = np.ascontiguousarray(problem.host_points)
    labels = KMeans(problem.n_clusters, n_init=10, random_state=0).fit(points).labels_
    model = fit_model(points, labels.astype(np.int64), problem.n_clusters, how)
    matrices = [cvxpy.Variable((problem.n,) * 2, PSD=True, name=f"Z{k}") for k in range(problem.n_clusters)]
    costs = [cvxpy.sum(cvxpy.multiply(model.cost_matrix(points, k), z)) for k, z in enumerate(matrices)]
    constraints = [constraint for z in matrices for constraint in (z >= 0, cvxpy.trace(z) == 1)]
    constraints.append(cvxpy.sum(cvxpy.hstack([cvxpy.sum(z, axis=1, keepdims=True) for z in matrices]), axis=1) == 1)
    return cvxpy.Problem(cvxpy.Minimize(sum(costs) + log_constant(problem.n, problem.p)), constraints)
