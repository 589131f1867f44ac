"""``select_rank``: the rank that predicts held-out entries best."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.errors import InvalidProblemError
from solvers._core.options import check_integer, check_number
from solvers._core.random import RNG, generator
from solvers.completion._blocked_problem import as_blocked
from solvers.completion._complete_matrix import complete_matrix
from solvers.completion._observations import Observations, read_observations, split_holdout
from solvers.completion._result import CompletionResult

__all__ = ["RankSelection", "select_rank"]

# A larger rank must lower the held-out error by this share to be preferred.
WORTHWHILE = 0.005


@dataclass(frozen=True)
class RankSelection:
    """Held-out errors by rank.

    Attributes
    ----------
    rank : int
        The chosen one.
    ranks : (r,) int64
    holdout_rmse : (r,) float64
        Mean over the splits of the root mean square error at the held-out entries.
    """

    rank: int
    ranks: IntArray
    holdout_rmse: FloatArray


def select_rank(
    A: Any,
    ranks: int | Iterable[int] = 10,
    *,
    holdout: float = 0.1,
    n_splits: int = 1,
    weights: Any = None,
    duplicates: str = "error",
    rng: RNG = None,
    **options: Any,
) -> RankSelection:
    """Choose the rank by held-out error.

    Parameters
    ----------
    A : scipy.sparse array, (rows, cols, values, shape), or (m, n) array_like
        As in :func:`solvers.complete_matrix`.
    ranks : int or iterable of int
        Ranks to try; an integer r means 1 to r. Each starts from the result of the one before.
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
        Further keywords of :func:`solvers.complete_matrix`. Give noisy data a ``reg``: without one, few entries that
        are predicted far off may decide the errors.

    Returns
    -------
    RankSelection
        The smallest rank whose error is within half a percent of the least.

    Examples
    --------
    >>> import numpy as np
    >>> from solvers.completion import select_rank
    >>> noise = np.random.default_rng(0)
    >>> A = noise.standard_normal((60, 3)) @ noise.standard_normal((3, 50)) + 0.1 * noise.standard_normal((60, 50))
    >>> A[noise.random(A.shape) < 0.5] = np.nan
    >>> select_rank(A, 6, rng=0).rank
    3
    """
    tried = np.unique(np.asarray(range(1, ranks + 1) if isinstance(ranks, int) else list(ranks)))
    if not len(tried) or tried.dtype.kind not in "iu" or tried[0] < 1:
        raise InvalidProblemError(f"ranks must be positive integers; got {ranks!r}")
    check_integer("n_splits", n_splits, low=1)
    check_number("holdout", holdout, low=0.0, strict=True)
    for name in ("holdout", "x0", "rank"):
        if name in options:
            raise TypeError(f"select_rank sets {name!r} itself")
    if as_blocked(A) is not None:
        raise InvalidProblemError(
            f"select_rank needs the entries in memory; got a {type(A).__name__}: select_reg takes it"
        )
    source = generator(rng)
    observed = read_observations(A, weights, duplicates)
    errors = np.zeros(len(tried))
    for _ in range(n_splits):
        fitted, held = split_holdout(observed, holdout, source)
        last: CompletionResult | None = None
        for position, rank in enumerate(tried):
            triplets = fitted.rows, fitted.cols, fitted.values, fitted.shape
            result = complete_matrix(triplets, int(rank), weights=_given(fitted), x0=last, rng=source, **options)
            misses = held.values - result.predict(held.rows, held.cols)
            errors[position] += math.sqrt(float(np.mean(misses**2))) / n_splits
            last = result
    chosen = int(np.flatnonzero(errors <= (1.0 + WORTHWHILE) * errors.min())[0])
    return RankSelection(int(tried[chosen]), tried, errors)


def _given(observed: Observations) -> FloatArray | None:
    return observed.weights if observed.weighted else None


RankSelection.__module__ = "solvers.completion"
