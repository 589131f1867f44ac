"""Compiled sums over the observed entries for growing the rank and for singular values."""

from __future__ import annotations

from typing import Any

from solvers._core.jit import njit
from solvers.completion._kernels_panel import FAST

__all__ = ["entry_products", "slopes_and_curvatures"]


@njit(fastmath=FAST)
def entry_products(rows: Any, cols: Any, left: Any, right: Any, begin: int, out: Any) -> None:
    """``out_tl = u_il v_jl`` for the entries (i, j) from number ``begin`` on."""
    k = left.shape[1]
    for t in range(len(out)):
        u = left[rows[begin + t]]
        v = right[cols[begin + t]]
        target = out[t]
        for l in range(k):
            target[l] = u[l] * v[l]


@njit(fastmath=FAST)
def slopes_and_curvatures(
    rows: Any, cols: Any, values: Any, weights: Any, left: Any, right: Any, slopes: Any, curvatures: Any
) -> None:
    """Adds ``sum g u_il v_jl`` and ``sum w (u_il v_jl)^2``; ``weights`` empty means ones."""
    k = left.shape[1]
    weighted = len(weights) > 0
    for t in range(len(rows)):
        u = left[rows[t]]
        v = right[cols[t]]
        weight = weights[t] if weighted else 1.0
        for l in range(k):
            product = u[l] * v[l]
            slopes[l] += values[t] * product
            curvatures[l] += weight * product * product
