"""Kernels in plain array code, for runs whose data live on a device: nothing is compiled for scores of coordinates."""

from __future__ import annotations

import numpy as np

from solvers._core.arrays import FloatArray

__all__ = ["screened", "violations"]


def violations(
    x: FloatArray,
    g: FloatArray,
    curvature: FloatArray,
    lam: FloatArray,
    l2: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    out: FloatArray,
) -> float:
    """The GSL-q score of each coordinate: how much its own prox step lowers the model; returns the largest."""
    safe = np.where(curvature > 0.0, curvature, 1.0)
    pull = x * safe - g
    fresh = np.sign(pull) * np.maximum(np.abs(pull) - lam, 0.0) / (safe + l2)
    fresh = np.clip(fresh, lower, upper)
    p = fresh - x
    change = lam * (np.abs(fresh) - np.abs(x)) + 0.5 * l2 * (fresh * fresh - x * x)
    out[:] = np.where(curvature > 0.0, np.maximum(-(g * p + 0.5 * curvature * p * p + change), 0.0), 0.0)
    return float(np.max(out))


def screened(
    x: FloatArray,
    q: FloatArray,
    radius: float,
    curvature: FloatArray,
    lam: FloatArray,
    l2: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    alive: np.ndarray,
) -> int:
    """Strike out in ``alive`` the coordinates that rest where every dual point near q keeps them; returns how many are left."""
    spread, bent = radius * np.sqrt(curvature), l2 * x
    above, below = bent + np.where(x >= 0.0, lam, -lam), bent + np.where(x <= 0.0, -lam, lam)
    alive &= ~(((x >= upper) | (q + spread < above)) & ((x <= lower) | (q - spread > below)))
    return int(np.count_nonzero(alive))
