"""Compiled coordinate descent on a separable model.

The model of a working set, with Gram (or Hessian) matrix G, is

    m(d) = g^T d + d^T G d / 2 + sum_j lam_j |x_j + d_j| + l2_j (x_j + d_j)^2 / 2,   lower <= x + d <= upper.
"""

from __future__ import annotations

from solvers._core.arrays import FloatArray
from solvers._core.jit import njit

__all__ = ["gram_descent"]


@njit()
def _prox(v: float, curvature: float, lam: float, l2: float, lower: float, upper: float) -> float:
    """argmin_u curvature (u - v)^2 / 2 + lam |u| + l2 u^2 / 2 on [lower, upper]."""
    pull = v * curvature
    if pull > lam:
        u = (pull - lam) / (curvature + l2)
    elif pull < -lam:
        u = (pull + lam) / (curvature + l2)
    else:
        u = 0.0
    return min(max(u, lower), upper)


@njit()
def gram_descent(
    gram: FloatArray,
    g: FloatArray,
    x: FloatArray,
    lam: FloatArray,
    l2: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    epochs: int,
    tolerance: float,
) -> int:
    """Cyclic descent in place on x and g = the model's gradient; returns the epochs used.

    Stops when no coordinate's scaled move sqrt(G_jj) |delta| exceeds ``tolerance`` in an epoch.
    """
    size = len(x)
    for epoch in range(epochs):
        largest = 0.0
        for j in range(size):
            curvature = gram[j, j]
            if curvature <= 0.0:
                continue
            fresh = _prox(x[j] - g[j] / curvature, curvature, lam[j], l2[j], lower[j], upper[j])
            delta = fresh - x[j]
            if delta != 0.0:
                x[j] = fresh
                for k in range(size):
                    g[k] += gram[j, k] * delta
                largest = max(largest, abs(delta) * curvature**0.5)
        if largest <= tolerance:
            return epoch + 1
    return epochs
