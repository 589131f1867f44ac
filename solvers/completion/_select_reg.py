r"""``select_reg``: the penalty that predicts held-out entries best.

X = 0 is optimal exactly for reg >= ||G||_2, with G the gradient of the fit at 0 in scaled coordinates. The path begins
there, so that effects of rows and columns alone are among the choices, and goes down from solution to solution.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse.linalg

from solvers._core.arrays import FloatArray
from solvers._core.errors import InvalidProblemError
from solvers._core.options import check_integer, check_number
from solvers._core.random import RNG, generator
from solvers.completion._blocked_entries import BlockEntries
from solvers.completion._blocked_problem import as_blocked, blocked_problem
from solvers.completion._complete_matrix import complete_matrix
from solvers.completion._gradient import Gradient
from solvers.completion._observations import data_at_home, read_observations
from solvers.completion._problem import completion_problem
from solvers.completion._result import CompletionResult
from solvers.completion._sweeps import Factors, Workspace

__all__ = ["RegSelection", "select_reg"]

# Each penalty of the path over the one before. It ends at so many held-out errors in a row that are above the least by
# more than the first few singular vectors of noise do.
STEP, PATIENCE, WORSE = math.sqrt(0.5), 2, 1.0001
# The norm of G is found to this relative accuracy from below, and the path begins so much above.
NORM_TOL, ABOVE = 1e-3, 1.01
# Remainders below this share of the data are rounding.
ROUNDING = 1e-12
# Errors of predictions are told apart long before the objective is exact.
PATH_TOL = 1e-3


@dataclass(frozen=True)
class RegSelection:
    """Held-out errors by penalty.

    Attributes
    ----------
    reg : float
        The chosen one.
    regs : (p,) float64
        Descending, as far as the path went.
    holdout_rmse : (p,) float64
        Mean over the splits of the root mean square error at the held-out entries.
    """

    reg: float
    regs: FloatArray
    holdout_rmse: FloatArray


def select_reg(
    A: Any,
    rank: int,
    regs: int | Iterable[float] = 20,
    *,
    holdout: float = 0.1,
    n_splits: int = 1,
    weights: Any = None,
    duplicates: str = "error",
    rng: RNG = None,
    **options: Any,
) -> RegSelection:
    """Choose the penalty by held-out error.

    Parameters
    ----------
    A : scipy.sparse array, (rows, cols, values, shape), (m, n) array_like, or a matrix in blocks
        As in :func:`solvers.complete_matrix`; blocks cost about thirty passes more for the start of the path.
    rank : int
        Of all fits.
    regs : int or iterable of float
        Penalties to try, from large to small. An integer p means at most p of them: the first is one at which nothing
        but the biases is fitted, each other one 0.707 times the one before, and the path ends once two errors in a row
        are above the least.
    holdout : float
        Fraction held out, above 0.
    n_splits : int
        Independent splits to average over.
    weights : array_like or scipy.sparse, optional
        As in :func:`solvers.complete_matrix`.
    duplicates : {"error", "mean"}
        As in :func:`solvers.complete_matrix`.
    rng : int, Generator, SeedSequence or None
        Seeds the splits and the starts.
    **options
        Further keywords of :func:`solvers.complete_matrix`; ``tol`` is 1e-3 unless it is given.

    Returns
    -------
    RegSelection
        The penalty of least error; the largest of them where there are several.

    Examples
    --------
    >>> import numpy as np
    >>> from solvers.completion import select_reg
    >>> noise = np.random.default_rng(0)
    >>> A = noise.standard_normal((60, 3)) @ noise.standard_normal((3, 50)) + 0.5 * noise.standard_normal((60, 50))
    >>> A[noise.random(A.shape) < 0.5] = np.nan
    >>> selection = select_reg(A, 6, rng=0)
    >>> bool(selection.reg < selection.regs[0] / 4)
    True
    """
    check_integer("n_splits", n_splits, low=1)
    check_number("holdout", holdout, low=0.0, strict=True)
    for name in ("holdout", "x0", "reg"):
        if name in options:
            raise TypeError(f"select_reg sets {name!r} itself")
    options = {"tol": PATH_TOL, "weights": weights, "duplicates": duplicates} | options
    # Bounds say nothing about entries that are held out.
    options["options"] = {"certify": False, "stage_sweeps": 1} | dict(options.get("options") or {})
    source = generator(rng)
    given = not isinstance(regs, (int, np.integer))
    tried = _given(regs) if given else _path(A, rank, check_integer("regs", regs, low=1), options, source)
    # One seed, one split.
    seeds = [int(source.integers(2**32)) for _ in range(n_splits)]
    last: list[CompletionResult | None] = [None] * n_splits
    errors: list[float] = []
    for reg in tried:
        last = [
            complete_matrix(A, rank, reg=reg, holdout=holdout, x0=before, rng=seed, **options)
            for before, seed in zip(last, seeds, strict=True)
        ]
        errors.append(float(np.mean([result.holdout_rmse for result in last if result is not None])))
        worse = np.array(errors[-PATIENCE:]) > WORSE * min(errors)
        if not given and int(worse.sum()) == PATIENCE:
            break
    best = int(np.argmin(errors))
    return RegSelection(float(tried[best]), np.array(tried[: len(errors)]), np.array(errors))


def _given(regs: Any) -> list[float]:
    """The caller's penalties, descending."""
    values = [check_number("regs", reg, low=0.0, strict=True) for reg in regs]
    if not values:
        raise InvalidProblemError("regs must hold at least one positive number; got none")
    return sorted(set(values), reverse=True)


def _path(A: Any, rank: int, count: int, options: dict[str, Any], source: np.random.Generator) -> list[float]:
    """Penalties from one at which X = 0 is optimal for all of the data."""
    names = {"reg_scaling": "plain", "loss": "l2", "delta": "auto", "biases": False}
    chosen = {name: options.get(name, default) for name, default in names.items()}
    gradient, left, size = _at_zero(A, rank, options["weights"], options["duplicates"], chosen)
    if not left > ROUNDING * size:
        raise InvalidProblemError("A must hold something that biases do not explain; nothing is left to fit")
    largest = ABOVE * _norm(gradient, source)
    return [largest * STEP**position for position in range(count)]


def _at_zero(A: Any, rank: int, weights: Any, duplicates: str, chosen: Any) -> tuple[Gradient, float, float]:
    """The gradient of the fit at X = 0 in scaled coordinates; the largest entry without and with the biases."""
    matrix = as_blocked(A)
    if matrix is not None:
        blocked = blocked_problem(matrix, rank, weights=weights, reg=1.0, holdout=0.0, duplicates=duplicates, **chosen)
        entries = BlockEntries(blocked.matrix, blocked.frame, 1.0, blocked.square)
        return entries.gradient(_nothing(blocked.shape)), blocked.largest_target, blocked.largest
    observed = read_observations(*data_at_home(A, weights), duplicates)
    nobody = observed.keep(np.zeros(observed.size, dtype=bool))
    problem = completion_problem(observed, nobody, rank, reg=1.0, **chosen)
    delta = problem.spread if problem.delta is None else problem.delta
    slope = observed.weights * problem.clipped(problem.targets, delta) / problem.entry_scale
    gradient = Workspace(problem).gradient(_nothing(problem.shape), slope)
    return gradient, float(np.max(np.abs(problem.targets))), problem.largest


def _nothing(shape: tuple[int, int]) -> Factors:
    return Factors(np.zeros((shape[0], 0)), np.zeros(0), np.zeros((shape[1], 0)))


def _norm(gradient: Gradient, source: np.random.Generator) -> float:
    """Its spectral norm, from below."""
    n = gradient.shape[1]
    if n <= 2:
        square = float(np.linalg.eigvalsh(gradient.gram_product(np.eye(n)))[-1])
    else:
        operator = scipy.sparse.linalg.LinearOperator(
            (n, n), matvec=lambda v: gradient.gram_product(v.reshape(n, 1))[:, 0], dtype=np.float64
        )
        start = source.standard_normal(n)
        square = float(scipy.sparse.linalg.eigsh(operator, k=1, tol=NORM_TOL, v0=start, return_eigenvectors=False)[0])
    return gradient.scale * math.sqrt(square)


RegSelection.__module__ = "solvers.completion"
