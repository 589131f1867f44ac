"""``verify`` and ``reference_model``: the checks a user can run without trusting the solver."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numba.core.errors import NumbaError

from solvers._catalogue import entry_named
from solvers._core.errors import InvalidProblemError, SolversError
from solvers._core.options import COMMON_KEYWORDS
from solvers._core.result import NEGLIGIBLE, Result, Sense, Status, Verification, relative_gap

if TYPE_CHECKING:
    import cvxpy

__all__ = ["damage", "judge", "problem_arguments", "reference_model", "verify"]


# What reading a result of wrong types, or evaluating a certificate of absurd values, may raise.
UNREADABLE = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    np.linalg.LinAlgError,
    NumbaError,
)
CHECKED_FIELDS = ("x", "fun", "bound", "gap", "scale", "sense", "status", "success", "tol", "certificate")
# Relative rounding of the size of a problem, which only enters gaps.
SCALE_ROUNDING = 1e-9


def verify(result: Result, *args: Any, **problem_options: Any) -> Verification:
    """Check a result against the data it claims to answer.

    Recomputes the objective of ``result.x``, its feasibility, and the bound from ``result.certificate``, with code that
    shares nothing with the iteration that found them.

    Parameters
    ----------
    result : Result
        What an entry returned, possibly from another process or machine.
    *args, **problem_options
        Exactly the problem arguments of the original call: everything but the shared keywords.

    Returns
    -------
    Verification
        True iff the answer is feasible, ``fun`` is right within rounding, ``bound`` is no stronger than the re-established
        one, and ``gap``, ``scale``, ``success`` and an OPTIMAL status follow. A family's own numbers are checked unless its
        Result calls them diagnostics. Counts, times, the history and messages are no claims.

    Raises
    ------
    TypeError, ValueError, SolversError
        Something that is no Result; problem arguments that do not fit the entry's signature, or of a kind or value that the
        entry refuses: what the entry itself raises for them. A result that cannot be read is false instead.

    Examples
    --------
    >>> import solvers
    >>> X = solvers.load_example("ruspini").data
    >>> result = solvers.kmeans_sdp(X, 4, rng=7)
    >>> bool(solvers.verify(result, X, 4))
    True
    """
    if not isinstance(result, Result):
        raise TypeError(f"result must be a solvers Result; got {type(result).__name__}")
    entry = entry_named(str(result.get("entry")))
    for name in problem_options:
        if name in COMMON_KEYWORDS:
            raise TypeError(f"verify takes the problem arguments of {entry.name} only; {name!r} is a shared keyword")
    wrong = "" if entry.batch else damage(result)
    if wrong:
        return Verification(False, math.nan, math.nan, math.inf, wrong)
    check = _load(entry.verifier)
    try:
        inspect.signature(check).bind(result, *args, **problem_options)
    except TypeError as error:
        raise TypeError(f"verify takes the result and then the problem arguments of {entry.name}: {error}") from None
    try:
        # What a forgery makes overflow is compared, and refused.
        with np.errstate(over="ignore", invalid="ignore"):
            verification: Verification = check(result, *args, **problem_options)
    except SolversError:
        raise
    except UNREADABLE as error:
        if getattr(error, "about_the_problem", False):
            raise
        what = f"the result cannot be checked: {type(error).__name__}: {error}"
        return Verification(False, math.nan, math.nan, math.inf, what)
    return verification


@contextmanager
def problem_arguments() -> Iterator[None]:
    """What is raised inside concerns the problem and not the result, so that :func:`verify` passes it on."""
    try:
        yield
    except Exception as error:
        error.about_the_problem = True  # type: ignore[attr-defined]
        raise


def reference_model(name: str, *args: Any, **problem_options: Any) -> cvxpy.Problem:
    """The textbook convex model of an entry, for any conic or LP solver.

    Parameters
    ----------
    name : str
        An entry of :func:`solvers.catalogue`.
    *args, **problem_options
        The entry's problem arguments.

    Returns
    -------
    cvxpy.Problem
        Unsolved. Its optimal value bounds the entry's objective.
    """
    entry = entry_named(name)
    if not entry.model:
        raise InvalidProblemError(f"{name} has no convex reference model")
    return _load(entry.model)(*args, **problem_options)


def damage(result: Result) -> str:
    """What makes the common fields unreadable, or contradictory in themselves."""
    missing = [name for name in CHECKED_FIELDS if name not in result]
    if missing:
        return f"the result lacks {', '.join(missing)}"
    for name in ("fun", "bound", "gap", "scale", "tol"):
        if not isinstance(result[name], float):
            return f"{name} must be a float; got {result[name]!r}"
    status: object = result["status"]
    if not isinstance(status, Status):
        return f"status must be a Status; got {status!r}"
    if result.success is not status.success:
        return f"success is {result.success!r} with status {status.name}"
    if status is Status.OPTIMAL and not result.gap <= result.tol:
        return f"status is OPTIMAL with gap {result.gap!r} above tol {result.tol!r}"
    if status is Status.INFEASIBLE and result.x is not None:
        return "status is INFEASIBLE and x is an answer"
    if status is Status.UNBOUNDED and math.isfinite(result.bound):
        return f"status is UNBOUNDED and bound is {result.bound!r}"
    return ""


def judge(
    result: Result,
    *,
    fun: float,
    bound: float,
    fun_slack: float,
    scale: float,
    feasible: str = "",
    sense: Sense | None = None,
) -> Verification:
    """Compare what a result claims with what was recomputed from the data.

    ``feasible`` is empty or says what is wrong with ``x``; ``sense`` is the entry's unless the problem chooses it. A bound is
    accepted if it is no stronger than ``bound``, and the claimed gap if it follows from the claimed numbers.
    """
    sense = sense or cast("Sense", entry_named(result.entry).sense)
    recomputed_gap = max(0.0, relative_gap(fun, bound, sense, scale))
    claimed_gap = max(0.0, relative_gap(result.fun, result.bound, sense, scale))
    # Written so that a NaN supports nothing.
    supported = result.bound <= bound if sense == "min" else result.bound >= bound
    if feasible:
        verdict = f"infeasible: {feasible}"
    elif result.sense != sense:
        verdict = f"sense is {result.sense!r} and {result.entry} has {sense!r}"
    elif not abs(result.fun - fun) <= fun_slack < math.inf:
        verdict = f"fun is {result.fun!r} and was recomputed as {fun!r}"
    elif not supported:
        verdict = f"bound is {result.bound!r} and only {bound!r} could be re-established"
    elif not abs(result.scale - scale) <= SCALE_ROUNDING * abs(scale):
        verdict = f"scale is {result.scale!r} and was recomputed as {scale!r}"
    elif not (
        result.gap == claimed_gap
        or (math.isfinite(claimed_gap) and abs(result.gap - claimed_gap) <= 1e-9 * max(claimed_gap, NEGLIGIBLE))
    ):
        verdict = f"gap is {result.gap!r} and follows as {claimed_gap!r} from fun and bound"
    else:
        claimed = "objective, feasibility and bound" if math.isfinite(result.bound) else "objective and feasibility"
        nothing = "" if math.isfinite(result.bound) else "; no bound is claimed"
        return Verification(True, float(fun), float(bound), recomputed_gap, f"{claimed} re-established{nothing}")
    return Verification(False, float(fun), float(bound), recomputed_gap, verdict)


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
