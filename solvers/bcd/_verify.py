"""The independent check of results: objective, feasibility and bound, from the data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from solvers._core.arrays import to_host
from solvers._core.linalg import UNIT
from solvers._core.options import check_integer
from solvers._core.proofs import judge, problem_arguments
from solvers._core.result import Verification
from solvers.bcd._label_problem import label_problem
from solvers.bcd._label_propagation import PropagationResult
from solvers.bcd._paper import plan
from solvers.bcd._problem import composite
from solvers.bcd._result import BCDResult

__all__ = ["verify_label_propagation", "verify_minimize_bcd"]

# Relative agreement of two computations of a distance from the subdifferential.
KKT_ACCURACY = 1e-6


def verify_minimize_bcd(
    result: BCDResult,
    loss: Any,
    penalty: Any = None,
    *,
    blocks: Any = "auto",
    rule: str = "auto",
    update: str = "auto",
    block_size: int | None = None,
) -> Verification:
    """Check a result of ``minimize_bcd``; how blocks were chosen need make sense, and does not matter to the claim."""
    with problem_arguments():
        problem = composite(loss, penalty)
        if block_size is not None:
            block_size = check_integer("block_size", block_size, low=1)
        if block_size is not None or not (isinstance(blocks, str) and blocks == rule == update == "auto"):
            plan(problem, blocks, rule, update, block_size)
    loss = problem.loss
    x = to_host(result.x)
    intercept = np.atleast_1d(to_host(result.intercept).astype(np.float64))
    if x.shape != loss.shape or x.dtype.kind != "f" or not np.isfinite(x).all():
        return _refused(f"x must be finite, of shape {loss.shape}")
    if (loss.n_free and intercept.shape != (loss.n_free,)) or not np.isfinite(intercept).all():
        return _refused("intercept has the wrong shape or is not finite")
    if not np.array_equal(to_host(result.support), np.flatnonzero(x)):
        return _refused("support is not that of x")
    flat = np.concatenate([x.reshape(-1), intercept if loss.n_free else np.zeros(0)])
    z = loss.image(flat)
    fun = problem.objective(flat, z)
    if math.isinf(fun):
        return _refused("x violates the bounds of the penalty")
    kkt, error = problem.kkt(flat, z), problem.kkt_error(flat)
    if math.isfinite(kkt + error) and not result.kkt >= kkt * (1.0 - KKT_ACCURACY) - error:
        return _refused(f"kkt is {result.kkt!r} and was recomputed as {kkt!r}")
    bound = problem.rebound(result.certificate, flat, z)
    return judge(
        result,
        fun=fun,
        bound=min(bound.reestablished, fun),
        fun_slack=2 * problem.objective_error(flat, z),
        scale=problem.scale,
    )


def verify_label_propagation(result: PropagationResult, graph: Any, labels: Any, *, bounds: Any = None) -> Verification:
    """Check a result of ``label_propagation``."""
    with problem_arguments():
        problem = label_problem(graph, labels, bounds=bounds)
    x = to_host(result.x)
    shape = problem.shaped(problem.values).shape
    if x.shape != shape or x.dtype.kind != "f" or not np.isfinite(x).all():
        return _refused(f"x must be finite, of shape {shape}")
    table = x.reshape(problem.values.shape)
    known = ~np.isnan(problem.values)
    if not np.array_equal(table[known], problem.values[known]):
        return _refused("x differs from the labels")
    for k, column in enumerate(problem.columns):
        if math.isinf(column.term.value(table[problem.unknown, k])):
            return _refused("x violates the bounds")
    if result.nodes != problem.nodes:
        return _refused("nodes are not those of the graph in its order")
    fun = problem.energy(table)
    value, error = problem.bound(result.certificate)
    size = float(np.max(np.abs(table))) ** 2 * problem.total_weight
    return judge(
        result,
        fun=fun,
        bound=min(max(value - error, 0.0), fun),
        fun_slack=1e-13 * (fun + UNIT * size),
        scale=problem.scale,
    )


def _refused(reason: str) -> Verification:
    return Verification(False, math.nan, -math.inf, math.inf, f"infeasible: {reason}")
