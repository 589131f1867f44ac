"""The textbook linear program of the online optimum, for any solver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matching._proved import check_problem

if TYPE_CHECKING:
    import cvxpy

__all__ = ["match_online_model"]


def match_online_model(instance: Any, *, scaling: str = "auto", salvage: bool = True) -> cvxpy.Problem:
    """Max w x with sum_i x_tki <= p_tk and x_tki <= p_tk (b_i - sum_{s < t} x_s.i); see :mod:`matching._lp`."""
    import cvxpy

    check_problem(instance, scaling, salvage)
    p, n_types = instance.probabilities.ravel(), instance.n_types
    weights = instance.weights.toarray()
    x = cvxpy.Variable(weights.shape, nonneg=True, name="x")
    constraints = [cvxpy.sum(x, axis=1) <= p, cvxpy.multiply(x, weights == 0) == 0]
    for t in range(instance.n_times):
        left = instance.copies - (cvxpy.sum(x[: t * n_types], axis=0) if t else 0)
        for row in range(t * n_types, (t + 1) * n_types):
            constraints.append(x[row] <= p[row] * left)
    return cvxpy.Problem(cvxpy.Maximize(cvxpy.sum(cvxpy.multiply(weights, x))), constraints)
