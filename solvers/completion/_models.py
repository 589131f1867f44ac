"""The convex nuclear-norm model, for any conic solver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from solvers._core.errors import InvalidProblemError
from solvers.completion._observations import read_observations, split_holdout
from solvers.completion._problem import completion_problem

if TYPE_CHECKING:
    import cvxpy

__all__ = ["complete_matrix_model"]


def complete_matrix_model(
    A: Any,
    rank: int,
    *,
    weights: Any = None,
    reg: float = 0.0,
    reg_scaling: str = "plain",
    loss: str = "l2",
    delta: Any = "auto",
    biases: bool = False,
    holdout: float = 0.0,
    duplicates: str = "error",
) -> cvxpy.Problem:
    """Minimise sum w rho(X - A) + reg ||D^{1/2} X E^{1/2}||_* over all X; no completion has a lower objective."""
    import cvxpy

    if holdout:
        raise InvalidProblemError(f"the convex model takes all entries; got holdout={holdout!r}")
    observed, held = split_holdout(read_observations(A, weights, duplicates), 0.0, np.random.default_rng(0))
    problem = completion_problem(
        observed, held, rank, reg=reg, reg_scaling=reg_scaling, loss=loss, delta=delta, biases=biases
    )
    if problem.delta is None:
        raise InvalidProblemError("the convex model needs a number for delta; pass that of the result")
    x = cvxpy.Variable(problem.shape, name="X")
    residual = x[observed.rows, observed.cols] - problem.targets
    if problem.loss == "l2":
        fit = 0.5 * cvxpy.sum(cvxpy.multiply(observed.weights, cvxpy.square(residual)))
    else:
        fit = 0.5 * cvxpy.sum(cvxpy.multiply(observed.weights, cvxpy.huber(residual, problem.delta)))
    scaled = cvxpy.multiply(np.outer(problem.row_scale, problem.col_scale), x)
    return cvxpy.Problem(cvxpy.Minimize(fit + problem.reg * cvxpy.normNuc(scaled)))
