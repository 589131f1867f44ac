"""The textbook convex program, for any conic solver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from solvers._core.arrays import to_host
from solvers._core.errors import InvalidProblemError
from solvers.bcd._group_term import GroupTerm
from solvers.bcd._label_problem import label_problem
from solvers.bcd._loss import LinearLoss, Loss
from solvers.bcd._losses import Huber, LeastSquares, Logistic, Softmax
from solvers.bcd._problem import composite
from solvers.bcd._quadratic import Quadratic
from solvers.bcd._separable_term import SeparableTerm
from solvers.bcd._term import Term

if TYPE_CHECKING:
    import cvxpy

__all__ = ["label_propagation_model", "minimize_bcd_model"]


def minimize_bcd_model(loss: Any, penalty: Any = None, **_: Any) -> cvxpy.Problem:
    """min f(x) + phi(x) over the flat coordinates, intercepts last."""
    import cvxpy

    problem = composite(loss, penalty)
    x = cvxpy.Variable(problem.loss.size, name="x")
    value, constraints = _penalty(problem.term, x)
    return cvxpy.Problem(cvxpy.Minimize(_loss(problem.loss, x) + value), constraints)


def label_propagation_model(graph: Any, labels: Any, *, bounds: Any = None) -> cvxpy.Problem:
    """min sum over edges w_ij |x_i - x_j|^2 / 2 with the labels fixed."""
    import cvxpy

    problem = label_problem(graph, labels, bounds=bounds)
    upper = scipy.sparse.triu(problem.weights, k=1).tocoo()
    x = cvxpy.Variable(problem.values.shape, name="x")
    known = np.flatnonzero(~np.isnan(problem.values[:, 0]))
    constraints = [x[known] == problem.values[known]]
    if bounds is not None:
        constraints += [
            sign * x[problem.unknown] >= sign * side
            for side, sign in ((bounds[0], 1.0), (bounds[1], -1.0))
            if np.isfinite(side) and len(problem.unknown)
        ]
    difference = x[upper.row] - x[upper.col]
    energy = 0.5 * cvxpy.sum_squares(cvxpy.multiply(np.sqrt(upper.data)[:, None], difference))
    return cvxpy.Problem(cvxpy.Minimize(energy), constraints)


def _loss(loss: Loss, x: Any) -> Any:
    import cvxpy

    if isinstance(loss, Quadratic):
        matrix = loss.sparse if loss.sparse is not None else to_host(loss.dense)
        return 0.5 * cvxpy.quad_form(x, cvxpy.psd_wrap(matrix)) - loss.host_c @ x
    if not isinstance(loss, LinearLoss):
        raise InvalidProblemError(f"no reference model is known for {type(loss).__name__}")
    matrix = loss.design.matrix if hasattr(loss.design.matrix, "indptr") else to_host(loss.design.matrix)
    weights = np.ones(loss.design.n) if loss.weights is None else to_host(loss.weights)
    if isinstance(loss, Softmax):
        z = matrix @ cvxpy.reshape(x, (loss.design.p, loss.n_outputs), order="C")
        own = cvxpy.sum(cvxpy.multiply(to_host(loss.indicator), z), axis=1)
        return cvxpy.sum(cvxpy.multiply(weights, cvxpy.log_sum_exp(z, axis=1) - own))
    z = matrix @ x
    if isinstance(loss, Logistic):
        return cvxpy.sum(cvxpy.multiply(weights, cvxpy.logistic(-cvxpy.multiply(to_host(loss.y), z))))
    if isinstance(loss, Huber):
        return 0.5 * cvxpy.sum(cvxpy.multiply(weights, cvxpy.huber(z - to_host(loss.b), loss.delta)))
    assert isinstance(loss, LeastSquares)
    return 0.5 * cvxpy.sum(cvxpy.multiply(weights, cvxpy.square(z - to_host(loss.b))))


def _penalty(term: Term, x: Any) -> tuple[Any, list[Any]]:
    import cvxpy

    if isinstance(term, GroupTerm):
        norms = [lam * cvxpy.norm(x[member]) for lam, member in zip(term.lam, term.members, strict=True) if len(member)]
        return sum(norms), []
    if not isinstance(term, SeparableTerm):
        raise InvalidProblemError(f"no reference model is known for {type(term).__name__}")
    value = cvxpy.sum(cvxpy.multiply(term.lam, cvxpy.abs(x))) + 0.5 * cvxpy.sum(
        cvxpy.multiply(term.l2, cvxpy.square(x))
    )
    constraints = []
    for ends, sign in ((term.lower, 1.0), (term.upper, -1.0)):
        held = np.flatnonzero(np.isfinite(ends))
        if len(held):
            constraints.append(sign * x[held] >= sign * ends[held])
    return value, constraints
