"""Compiled kernel of the relaxation of the likelihood; host arrays only. See :mod:`clustering._la_sdp`."""

from __future__ import annotations

import numpy as np

from solvers._core.arrays import FloatArray
from solvers._core.jit import njit

__all__ = ["next_arguments", "project_rows"]

MOST_NEWTON_STEPS = 60


@njit(fastmath={"reassoc", "contract"})
def excess(values: FloatArray, threshold: float) -> tuple[float, int]:
    """Sum of the parts above a threshold, and how many there are; in any order, so that it runs on vectors."""
    total, count = 0.0, 0
    for j in range(len(values)):
        above = values[j] > threshold
        total += values[j] - threshold if above else 0.0
        count += 1 if above else 0
    return total, count


@njit()
def project_rows(
    z: FloatArray, w: FloatArray, t: FloatArray, tau: FloatArray, relaxation: float, most_steps: int
) -> tuple[float, float]:
    """T = relaxation Z + (1 - relaxation) W + Y, then each row of all W_k together on the simplex, in place.

    tau holds the threshold of each row, from which Newton's method starts. Returns |Z - W|^2 and |change of W|^2.
    """
    n_clusters, n = z.shape[0], z.shape[1]
    row = np.empty(n_clusters * n)
    primal, moved = 0.0, 0.0
    for i in range(n):
        for k in range(n_clusters):
            for j in range(n):
                value = t[k, i, j] + relaxation * (z[k, i, j] - w[k, i, j])
                t[k, i, j] = value
                row[k * n + j] = value
        threshold = tau[i]
        for _ in range(most_steps):
            total, count = excess(row, threshold)
            if count == 0:
                threshold = row.max() - 1.0
                continue
            step = (total - 1.0) / count
            threshold += step
            if abs(step) <= 1e-14 * (1.0 + abs(threshold)):
                break
        tau[i] = threshold
        for k in range(n_clusters):
            for j in range(n):
                value = max(t[k, i, j] - threshold, 0.0)
                primal += (z[k, i, j] - value) ** 2
                moved += (value - w[k, i, j]) ** 2
                w[k, i, j] = value
    return primal, moved


@njit()
def next_arguments(w: FloatArray, t: FloatArray, costs: FloatArray, inverse_rho: float, v: FloatArray) -> None:
    """V_k = sym(W_k - Y_k) - C_k / rho with Y_k = T_k - W_k, into ``v``."""
    n_clusters, n = w.shape[0], w.shape[1]
    for k in range(n_clusters):
        for i in range(n):
            for j in range(i + 1):
                value = w[k, i, j] + w[k, j, i] - 0.5 * (t[k, i, j] + t[k, j, i]) - costs[k, i, j] * inverse_rho
                v[k, i, j] = value
                v[k, j, i] = value
