"""Compiled sums of bounds and objectives; the iteration uses none of them, and they none of its own.

Only the order of additions is left to the compiler: the slack of bounds holds for sums taken in any order, and a
contracted multiplication and addition rounds once where slack counts two roundings.
"""

from __future__ import annotations

from typing import Any

from solvers._core.jit import njit

__all__ = ["misses"]

IN_ANY_ORDER = {"reassoc", "contract", "nsz"}


@njit(fastmath=IN_ANY_ORDER)
def misses(rows: Any, cols: Any, targets: Any, left: Any, right: Any, out: Any) -> None:
    """``out_t = a_t - left_i^T right_j`` for every entry t = (i, j)."""
    k = left.shape[1]
    for t in range(len(rows)):
        x = left[rows[t]]
        q = right[cols[t]]
        total = 0.0
        for l in range(k):
            total += x[l] * q[l]
        out[t] = targets[t] - total
