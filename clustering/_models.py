"""The textbook semidefinite program, for any conic solver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from clustering._problem import kmeans_problem
from solvers._core.backend import choose_backend

if TYPE_CHECKING:
    import cvxpy

__all__ = ["certify_kmeans_model", "kmeans_sdp_model"]


def kmeans_sdp_model(X: Any, n_clusters: int, *, sample_weight: Any = None) -> cvxpy.Problem:
    """Peng and Wei: min T - <A, Z> over Z psd, Z >= 0, Zq = q, tr Z = K; see :mod:`clustering._bounds` for A and q."""
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
