"""Compiled products with the tangent map (dU, dV) -> P_Omega(dU Vᵀ + U dVᵀ) after dU has been eliminated row by row.

For fixed dV the best dU is a small least-squares problem per row. What remains is the Schur complement

    (S dV)_j = sum_i w_ij r_ij u_i,   r_i = (I - projection on {v_j : j in Omega_i}) (u_i^T dv_j)_j,

whose kernel contains the k² gauge directions dV = V K.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from solvers._core.jit import njit
from solvers.completion._kernels_numba import FAST, _factor_safely, _substitute

__all__ = ["apply_schur", "factor_rows", "pull_back", "schur_blocks", "truncated_steps"]


@njit(fastmath=FAST)
def factor_rows(indptr: Any, indices: Any, weights: Any, right: Any, unit: float, factors: Any) -> None:
    """Cholesky factors (m, k, k) of sum_j w_ij v_j v_jᵀ, reciprocal diagonals."""
    k = right.shape[1]
    saved = factors[0].copy()
    zero = right[0] * 0.0
    weighted = len(weights) > 0
    for i in range(len(indptr) - 1):
        gram = factors[i]
        gram[:] = 0.0
        for t in range(indptr[i], indptr[i + 1]):
            v = right[indices[t]]
            w = weights[t] if weighted else 1.0
            for a in range(k):
                scaled = w * v[a]
                for b in range(a + 1):
                    gram[a, b] += scaled * v[b]
        _factor_safely(gram, saved, zero, k, unit)


@njit(fastmath=FAST)
def schur_blocks(indptr: Any, indices: Any, weights: Any, left: Any, right: Any, factors: Any, blocks: Any) -> None:
    """Diagonal blocks (n, k, k) of the Schur complement: sum_i w_ij (1 - leverage_ij) u_i u_iᵀ."""
    k = right.shape[1]
    blocks[:] = 0.0
    z = right[0].copy()
    weighted = len(weights) > 0
    for i in range(len(indptr) - 1):
        u = left[i]
        for t in range(indptr[i], indptr[i + 1]):
            j = indices[t]
            w = weights[t] if weighted else 1.0
            v = right[j]
            for l in range(k):
                z[l] = v[l]
            _substitute(factors[i], z, k)
            leverage = 0.0
            for l in range(k):
                leverage += z[l] * v[l]
            share = w * max(0.0, 1.0 - w * leverage)
            block = blocks[j]
            for a in range(k):
                for b in range(k):
                    block[a, b] += share * u[a] * u[b]


@njit(fastmath=FAST)
def apply_schur(
    indptr: Any,
    indices: Any,
    weights: Any,
    left: Any,
    right: Any,
    factors: Any,
    direction: Any,
    work: Any,
    out: Any,
    width: Any,
) -> None:
    """``out = S direction``; ``work`` has the length of the longest row, ``width`` that of the rank."""
    k = len(width)
    out[:] = 0.0
    y = right[0].copy()
    weighted = len(weights) > 0
    for i in range(len(indptr) - 1):
        u = left[i]
        begin = indptr[i]
        d = indptr[i + 1] - begin
        for l in range(k):
            y[l] = 0.0
        for t in range(d):
            j = indices[begin + t]
            step = direction[j]
            v = right[j]
            value = u[0] * step[0]
            for l in range(1, k):
                value += u[l] * step[l]
            work[t] = value
            if weighted:
                value *= weights[begin + t]
            for l in range(k):
                y[l] += value * v[l]
        _substitute(factors[i], y, k)
        for t in range(d):
            j = indices[begin + t]
            v = right[j]
            value = work[t]
            for l in range(k):
                value -= y[l] * v[l]
            if weighted:
                value *= weights[begin + t]
            target = out[j]
            for l in range(k):
                target[l] += value * u[l]


@njit(fastmath=FAST)
def _normal_product(
    indptr: Any, indices: Any, weights: Any, rows: Any, cols: Any, out_x: Any, out_y: Any, width: Any
) -> None:
    """``(out_x, out_y) = J^T W J (x, y)`` for J(x, y) = P_Omega(x right^T + left y^T), in one pass.

    ``rows`` holds x beside left, ``cols`` right beside y, so that an entry of J (x, y) is one product of 2 k numbers. The
    rank is the length of ``width``, known to the compiler.
    """
    k = len(width)
    out_y[:] = 0.0
    weighted = len(weights) > 0
    for i in range(len(indptr) - 1):
        mine = rows[i]
        target = out_x[i]
        for l in range(k):
            target[l] = 0.0
        for t in range(indptr[i], indptr[i + 1]):
            j = indices[t]
            theirs = cols[j]
            value = mine[0] * theirs[0]
            for l in range(1, 2 * k):
                value += mine[l] * theirs[l]
            if weighted:
                value *= weights[t]
            other = out_y[j]
            for l in range(k):
                target[l] += value * theirs[l]
                other[l] += value * mine[k + l]


@njit(fastmath=FAST)
def _beside(part: Any, rows: Any, offset: int, width: Any) -> None:
    """Copy a flat (m, k) array into the columns of ``rows`` from ``offset`` on."""
    k = len(width)
    for i in range(len(rows)):
        for l in range(k):
            rows[i, offset + l] = part[i * k + l]


@njit(fastmath=FAST)
def _dot(a: Any, b: Any) -> Any:
    value = a[0] * b[0]
    for t in range(1, len(a)):
        value += a[t] * b[t]
    return value


@njit(fastmath=FAST)
def _add(alpha: Any, p: Any, x: Any) -> None:
    for t in range(len(x)):
        x[t] += alpha * p[t]


@njit(fastmath=FAST)
def _turn(beta: Any, g: Any, p: Any) -> None:
    for t in range(len(p)):
        p[t] = g[t] + beta * p[t]


@njit(fastmath=FAST)
def truncated_steps(
    indptr: Any,
    indices: Any,
    weights: Any,
    left: Any,
    right: Any,
    gx: Any,
    gy: Any,
    steps: int,
    x: Any,
    y: Any,
    width: Any,
) -> None:
    """Conjugate gradient steps from zero on J^T W J (x, y) = (gx, gy); the right side becomes the residual."""
    k = len(width)
    rows, cols = np.empty((len(left), 2 * k), left.dtype), np.empty((len(right), 2 * k), left.dtype)
    out_x, out_y = np.empty_like(x), np.empty_like(y)
    _beside(left.ravel(), rows, k, width)
    _beside(right.ravel(), cols, 0, width)
    x[:] = 0.0
    y[:] = 0.0
    rx, ry, qx, qy, zx, zy = gx.ravel(), gy.ravel(), out_x.ravel(), out_y.ravel(), x.ravel(), y.ravel()
    px, py = rx.copy(), ry.copy()
    rho = _dot(rx, rx) + _dot(ry, ry)
    first = rho
    for _ in range(steps):
        _beside(px, rows, 0, width)
        _beside(py, cols, k, width)
        _normal_product(indptr, indices, weights, rows, cols, out_x, out_y, width)
        curvature = _dot(px, qx) + _dot(py, qy)
        if not curvature > 0.0:
            break
        alpha = rho / curvature
        _add(alpha, px, zx)
        _add(alpha, py, zy)
        _add(-alpha, qx, rx)
        _add(-alpha, qy, ry)
        rho, previous = _dot(rx, rx) + _dot(ry, ry), rho
        if rho <= 1e-30 * first:
            break
        _turn(rho / previous, rx, px)
        _turn(rho / previous, ry, py)


@njit(fastmath=FAST)
def pull_back(indptr: Any, indices: Any, data: Any, left: Any, right: Any, out_x: Any, out_y: Any) -> None:
    """``(out_x, out_y) = J^T data``."""
    k = right.shape[1]
    out_x[:] = 0.0
    out_y[:] = 0.0
    for i in range(len(indptr) - 1):
        u = left[i]
        target = out_x[i]
        for t in range(indptr[i], indptr[i + 1]):
            j = indices[t]
            v = right[j]
            other = out_y[j]
            for l in range(k):
                target[l] += data[t] * v[l]
                other[l] += data[t] * u[l]
