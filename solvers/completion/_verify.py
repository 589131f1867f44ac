"""The independent check of a completion: factors, objective and bound, from the data."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from solvers._core.arrays import FloatArray
from solvers._core.errors import InvalidProblemError
from solvers._core.proofs import judge, problem_arguments
from solvers._core.result import Verification
from solvers.completion._blocked_certificate import blocked_dual_bound, blocked_objective
from solvers.completion._blocked_problem import BlockedProblem, as_blocked, blocked_problem
from solvers.completion._blocks import BlockedMatrix
from solvers.completion._certificate import DualBound, DualCertificate, dual_bound, objective, published_steps
from solvers.completion._claims import blocked_claim, unsupported_claim
from solvers.completion._observations import checked_holdout, data_at_home, read_observations, split_holdout
from solvers.completion._problem import CompletionProblem, completion_problem
from solvers.completion._result import CompletionResult, at_home

__all__ = ["verify_complete_matrix"]

# Departure from orthonormal columns that rounding explains.
ORTHOGONALITY = 1e-10


def verify_complete_matrix(
    result: CompletionResult,
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
) -> Verification:
    """Check a result of ``complete_matrix``."""
    with problem_arguments():
        matrix = as_blocked(A)
    if matrix is not None:
        return _verify_blocked(
            result, matrix, rank, weights=weights, reg=reg, reg_scaling=reg_scaling, loss=loss, delta=delta,
            biases=biases, holdout=holdout, duplicates=duplicates,
        )  # fmt: skip
    result = at_home(result)
    with problem_arguments():
        everything = read_observations(*data_at_home(A, weights), duplicates)
        checked_holdout(everything.size, holdout)
    try:
        observed, held = split_holdout(everything, holdout, np.random.default_rng(0), chosen=result.holdout_index)
    except InvalidProblemError as reason:
        return _refused(str(reason))
    with problem_arguments():
        problem = completion_problem(
            observed, held, rank, reg=reg, reg_scaling=reg_scaling, loss=loss, delta=delta, biases=biases
        )
    threshold = float(result.delta) if problem.delta is None else problem.delta
    wrong = _wrong_answer(result, problem, threshold) or unsupported_claim(result, problem, threshold)
    if wrong:
        return _refused(wrong)
    fun, error = objective(problem, result.U * result.s, result.V, threshold)
    return judge(
        result,
        fun=fun,
        bound=_proved(
            result.certificate,
            problem,
            threshold,
            lambda left, right, steps: dual_bound(problem, left, right, threshold, checking=True, steps=steps),
        ),
        fun_slack=2 * error,
        scale=problem.size_of(threshold),
    )


def _verify_blocked(result: CompletionResult, matrix: BlockedMatrix, rank: int, **options: Any) -> Verification:
    with problem_arguments():
        checked_holdout(matrix.size, options["holdout"])
    try:
        problem = blocked_problem(matrix, rank, **options, chosen=result.holdout_index)
    except InvalidProblemError as reason:
        if "holdout_index" not in str(reason):
            raise
        return _refused(str(reason))
    wrong = _wrong_answer(result, problem, math.inf) or blocked_claim(result, problem)
    if wrong:
        return _refused(wrong)
    fun, error = blocked_objective(problem, result.U * result.s, result.V)
    bound = _proved(
        result.certificate,
        problem,
        math.inf,
        lambda left, right, steps: blocked_dual_bound(problem, left, right, checking=True, steps=steps),
    )
    return judge(result, fun=fun, bound=bound, fun_slack=2 * error, scale=problem.size_of(math.inf))


def _refused(reason: str) -> Verification:
    return Verification(False, math.nan, -math.inf, math.inf, f"infeasible: {reason}")


def _wrong_answer(result: CompletionResult, problem: CompletionProblem | BlockedProblem, threshold: float) -> str:
    """What is wrong with the answer as an answer; empty if nothing."""
    (m, n), k = problem.shape, problem.rank
    U, s, V = (np.asarray(part) for part in (result.U, result.s, result.V))
    if any(type(part) is not np.ndarray or part.dtype != np.float64 for part in (result.U, result.s, result.V)):
        return "U, s, V must be float64 arrays"
    if (U.shape, s.shape, V.shape) != ((m, k), (k,), (n, k)):
        return f"U, s, V must have shapes ({m}, {k}), ({k},), ({n}, {k})"
    if not all(np.isfinite(part).all() for part in (U, s, V)):
        return "U, s, V must be finite"
    if not all(np.array_equal(mine, theirs) for mine, theirs in zip((U, s, V), result.x, strict=True)):
        return "x and (U, s, V) differ"
    if any(float(np.max(np.abs(basis.T @ basis - np.eye(k)))) > ORTHOGONALITY for basis in (U, V)):
        return "U and V must have orthonormal columns"
    if (s < 0).any() or (np.diff(s) > 0).any():
        return "s must be non-negative and descending"
    if not threshold > 0.0 or (problem.loss == "l2" and result.delta != math.inf):
        return f"delta must be positive, and infinite for loss='l2'; got {result.delta!r} with loss={problem.loss!r}"
    if problem.delta is not None and result.delta != problem.delta:
        return f"delta is {result.delta!r} and was given as {problem.delta!r}"
    for mine, theirs in ((result.row_bias, problem.row_bias), (result.col_bias, problem.col_bias)):
        size = problem.largest
        if np.shape(mine) != theirs.shape or not np.allclose(mine, theirs, rtol=0.0, atol=1e-9 * size):
            return "the biases are not those of the data"
    if not math.isclose(result.row_shrinkage, problem.row_shrinkage, rel_tol=1e-6):
        return "row_shrinkage is not that of the data"
    return ""


def _proved(
    certificate: Any,
    problem: CompletionProblem | BlockedProblem,
    threshold: float,
    bound: Callable[[FloatArray, FloatArray, int], DualBound],
) -> float:
    """The bound that the certificate proves, 0 (every term is non-negative) where it is malformed."""
    if not isinstance(certificate, DualCertificate) or problem.reg == 0.0 or certificate.delta != threshold:
        return 0.0
    left, right = np.asarray(certificate.left), np.asarray(certificate.right)
    m, n = problem.shape
    sound = left.ndim == 2 and right.ndim == 2 and left.shape[1] == right.shape[1]
    if not (sound and _finite(left) and _finite(right) and (len(left), len(right)) == (m, n)):
        return 0.0
    return bound(left, right, published_steps(certificate.steps)).reestablished


def _finite(array: FloatArray) -> bool:
    return array.dtype.kind == "f" and bool(np.isfinite(array).all())
