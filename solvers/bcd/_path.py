"""``bcd_path``: one loss, a sequence of penalties, each run started from the last."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from solvers._core.errors import InvalidProblemError
from solvers.bcd._minimize_bcd import minimize_bcd
from solvers.bcd._result import BCDResult

__all__ = ["bcd_path"]


def bcd_path(
    loss: Any, penalty_family: Callable[[float], Any], lams: Iterable[float], *, tol: float = 1e-6, **keywords: Any
) -> list[BCDResult]:
    """Solve for each penalty ``penalty_family(lam)``, warm-started.

    Parameters
    ----------
    loss : bcd.Loss
    penalty_family : callable
        A number to a penalty, as ``bcd.L1`` or ``lambda lam: bcd.ElasticNet(lam, 0.1)``.
    lams : iterable of float
        In the order of solving; descending is fastest.
    tol : float
        Certified gap of each.
    **keywords
        Further keywords of :func:`solvers.minimize_bcd` except ``x0``.

    Returns
    -------
    list of BCDResult
        One per penalty, each with its own certificate.

    Examples
    --------
    >>> import numpy as np
    >>> from solvers import bcd
    >>> loss = bcd.LeastSquares(np.eye(3), np.array([3.0, 2.0, 1.0]))
    >>> [int(len(result.support)) for result in bcd.bcd_path(loss, bcd.L1, [3.0, 1.5, 0.5])]
    [0, 2, 3]
    """
    if "x0" in keywords:
        raise TypeError("bcd_path starts each run from the last and takes no x0")
    if not callable(penalty_family):
        raise InvalidProblemError(f"penalty_family must turn a number into a penalty; got {penalty_family!r}")
    if not isinstance(lams, Iterable):
        raise InvalidProblemError(f"lams must be a sequence of numbers; got {lams!r}")
    results: list[BCDResult] = []
    for lam in lams:
        start = results[-1] if results else None
        results.append(minimize_bcd(loss, penalty_family(lam), x0=start, tol=tol, **keywords))
    if not results:
        raise InvalidProblemError("lams must hold at least one number; got none")
    return results
