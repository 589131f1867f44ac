"""The textbook relaxations, for any linear-programming solver."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from ranking._precedence import precedence_scores
from ranking._problem import path_problem
from ranking._rank_tsp_batch import padded
from ranking._verify import plain_costs
from solvers._core.arrays import to_host
from solvers._core.errors import InvalidProblemError

if TYPE_CHECKING:
    import cvxpy

__all__ = ["rank_linear_model", "rank_tsp_batch_model", "rank_tsp_model"]

# Subsets of nodes, one constraint each: beyond this many nodes the model is not worth writing down.
MOST_NODES = 12
MOST_ITEMS = 30


def rank_tsp_model(
    scores: Any, *, start: Any = None, end: Any = None, closed: bool = False, maximize: bool = True
) -> cvxpy.Problem:
    """Dantzig, Fulkerson and Johnson: one arc out of and into each node, at most |S| - 1 arcs inside each subset S.

    Variables X (m, m) with the depot last where the path is open; all subset constraints are written out, so at most 12
    nodes. The value is the subtour bound; with ``boolean`` variables it would be the optimum.
    """
    import cvxpy

    problem = path_problem(scores, start, end, closed, maximize)
    m = problem.m
    if not 2 <= m <= MOST_NODES:
        raise InvalidProblemError(f"the reference model is written out for 2 to {MOST_NODES} nodes; got {m}")
    c = plain_costs(problem)
    allowed = np.isfinite(c)
    x = cvxpy.Variable((m, m), nonneg=True, name="X")
    value = cvxpy.sum(cvxpy.multiply(problem.sign * np.where(allowed, c, 0.0), x))
    constraints = [cvxpy.sum(x, axis=0) == 1, cvxpy.sum(x, axis=1) == 1, cvxpy.multiply(~allowed, x) == 0]
    members = (np.arange(1, 2**m - 1)[:, None] >> np.arange(m)) & 1
    members = members[(members.sum(axis=1) >= 2) & (members[:, 0] == 0)].astype(np.float64)
    inside = np.einsum("si,sj->sij", members, members).reshape(len(members), -1)
    if len(members):
        constraints.append(inside @ cvxpy.vec(x, order="C") <= members.sum(axis=1) - 1)
    return cvxpy.Problem(cvxpy.Maximize(value) if problem.maximize else cvxpy.Minimize(value), constraints)


def rank_tsp_batch_model(
    scores: Any,
    lengths: Any = None,
    *,
    start: Any = None,
    end: Any = None,
    closed: bool = False,
    maximize: bool = True,
) -> cvxpy.Problem:
    """The models of all groups of two items or more side by side: the value is the sum of theirs."""
    import cvxpy

    table, sizes = padded(scores if isinstance(scores, (list, tuple)) else to_host(scores), lengths)
    groups = [
        rank_tsp_model(group[:n, :n], start=start, end=end, closed=closed, maximize=maximize)
        for group, n in zip(table, sizes, strict=True)
        if n > 1
    ]
    nothing = cvxpy.Problem(cvxpy.Maximize(0.0) if maximize else cvxpy.Minimize(0.0))
    return sum(groups, nothing)


def rank_linear_model(scores: Any) -> cvxpy.Problem:
    """Reinelt: x_ij + x_ji = 1, and at most two arcs of each cycle of three; variables X (n, n), at most 30 items.

    The value is the three-cycle bound; with ``boolean`` variables it would be the optimum.
    """
    import cvxpy

    matrix, _ = precedence_scores(scores)
    n = len(matrix)
    if not 2 <= n <= MOST_ITEMS:
        raise InvalidProblemError(f"the reference model is written out for 2 to {MOST_ITEMS} items; got {n}")
    x = cvxpy.Variable((n, n), nonneg=True, name="X")
    constraints = [x + x.T == 1 - np.eye(n)]
    if n > 2:
        i, j, k = np.array(list(itertools.permutations(range(n), 3))).T
        constraints.append(x[i, j] + x[j, k] + x[k, i] <= 2)
    return cvxpy.Problem(cvxpy.Maximize(cvxpy.sum(cvxpy.multiply(matrix, x))), constraints)
