"""Compiled kernels of alternating minimisation for NumPy arrays.

A half sweep solves, for every row i with observed positions (j_t, a_t) and weights w_t,

    min_x  1/2 sum_t w_t (a_t - q_{j_t}^T x)^2 + 1/2 sum_l penalty_l x_l^2,

where the rows q_j of the fixed factor Q are orthonormal as columns, so that under uniform sampling the Gram matrix
of a row is near a multiple of the identity and conjugate gradients contract by about sqrt(k / d_i) per step.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from solvers._core.jit import njit

__all__ = ["BY_CG", "BY_GRAM", "BY_SKETCH", "residuals", "solve_rows"]

BY_GRAM, BY_CG, BY_SKETCH = 0, 1, 2

# Reassociation and contraction let sums vectorise; NaN and infinity keep their meaning.
FAST = {"reassoc", "contract", "nsz", "arcp"}


@njit(fastmath=FAST)
def residuals(indptr: Any, indices: Any, values: Any, left: Any, right: Any, out: Any) -> None:
    """``out_t = a_t - left_i^T right_{j_t}`` for every stored entry t of row i."""
    k = left.shape[1]
    for i in range(len(indptr) - 1):
        x = left[i]
        for t in range(indptr[i], indptr[i + 1]):
            q = right[indices[t]]
            total = values[t]
            for l in range(k):
                total -= x[l] * q[l]
            out[t] = total


@njit(fastmath=FAST)
def _factor(gram: Any, k: int, tiny: float) -> bool:
    """Cholesky factor in the lower triangle, in place; False where a pivot is below ``tiny`` of its diagonal entry."""
    for i in range(k):
        for j in range(i):
            total = gram[i, j]
            for l in range(j):
                total -= gram[i, l] * gram[j, l]
            gram[i, j] = total * gram[j, j]
        diagonal = gram[i, i]
        total = diagonal
        for l in range(i):
            total -= gram[i, l] * gram[i, l]
        if not total > tiny * diagonal:
            return False
        # The diagonal holds the reciprocal, which is all that is needed later.
        gram[i, i] = 1.0 / np.sqrt(total)
    return True


@njit(fastmath=FAST)
def _substitute(factor: Any, x: Any, k: int) -> None:
    """Solve L L^T x = x in place for a factor with reciprocal diagonal."""
    for i in range(k):
        total = x[i]
        for l in range(i):
            total -= factor[i, l] * x[l]
        x[i] = total * factor[i, i]
    for i in range(k - 1, -1, -1):
        x[i] *= factor[i, i]
        scaled = x[i]
        for l in range(i):
            x[l] -= factor[i, l] * scaled


@njit(fastmath=FAST)
def _factor_safely(gram: Any, saved: Any, penalty: Any, k: int, unit: float) -> None:
    """Factor gram + penalty; where it is singular, its diagonal grows by the least share that makes it definite.

    Everything is relative to the diagonal entries, which penalties spread over many orders of magnitude.
    """
    smallest = 0.0
    for i in range(k):
        gram[i, i] += penalty[i]
        if gram[i, i] > 0.0 and (smallest == 0.0 or gram[i, i] < smallest):
            smallest = gram[i, i]
        for l in range(i + 1):
            saved[i, l] = gram[i, l]
    shift = 0.0
    smallest = smallest if smallest > 0.0 else 1.0
    while not _factor(gram, k, k * unit):
        shift = max(100.0 * shift, 4.0 * k * unit)
        for i in range(k):
            for l in range(i + 1):
                gram[i, l] = saved[i, l]
            gram[i, i] += shift * max(gram[i, i], smallest)


@njit(fastmath=FAST)
def _descend(
    panel: Any, r: Any, x: Any, g: Any, p: Any, q: Any, z: Any, factor: Any, penalty: Any, inverse_scale: Any,
    d: int, k: int, eta: float, max_steps: int, sketched: bool,
) -> int:  # fmt: skip
    """Conjugate gradients on one row from x with residual r, preconditioned by the sketched Gram matrix if any.

    Ends when the gradient in units of the moving factor's column lengths has fallen by ``eta``. A plain norm would see
    only the directions of large singular values. Returns the number of steps.
    """
    first = 0.0
    rho = 0.0
    for l in range(k):
        first += (g[l] * inverse_scale[l]) ** 2
        z[l] = g[l]
    if sketched:
        _substitute(factor, z, k)
    for l in range(k):
        p[l] = z[l]
        rho += g[l] * z[l]
    target = eta * eta * first
    for step in range(max_steps):
        if not rho > 0.0:
            return step
        curvature = 0.0
        for l in range(k):
            q[l] = penalty[l] * p[l]
            curvature += q[l] * p[l]
        t = 0
        while t + 4 <= d:
            p0, p1, p2, p3 = panel[t], panel[t + 1], panel[t + 2], panel[t + 3]
            s0 = p[0] * p0[0]
            s1 = p[0] * p1[0]
            s2 = p[0] * p2[0]
            s3 = p[0] * p3[0]
            for l in range(1, len(p)):
                s0 += p[l] * p0[l]
                s1 += p[l] * p1[l]
                s2 += p[l] * p2[l]
                s3 += p[l] * p3[l]
            for l in range(len(q)):
                q[l] += s0 * p0[l] + s1 * p1[l] + s2 * p2[l] + s3 * p3[l]
            panel[t, len(p)] = s0
            panel[t + 1, len(p)] = s1
            panel[t + 2, len(p)] = s2
            panel[t + 3, len(p)] = s3
            curvature += s0 * s0 + s1 * s1 + s2 * s2 + s3 * s3
            t += 4
        while t < d:
            p0 = panel[t]
            s0 = p[0] * p0[0]
            for l in range(1, len(p)):
                s0 += p[l] * p0[l]
            for l in range(len(q)):
                q[l] += s0 * p0[l]
            panel[t, len(p)] = s0
            curvature += s0 * s0
            t += 1
        if not curvature > 0.0:
            return step
        alpha = rho / curvature
        for t in range(d):
            r[t] -= alpha * panel[t, len(p)]
        size = 0.0
        for l in range(k):
            x[l] += alpha * p[l]
            g[l] -= alpha * q[l]
            size += (g[l] * inverse_scale[l]) ** 2
            z[l] = g[l]
        if not size > target:
            return step + 1
        if sketched:
            _substitute(factor, z, k)
        previous = rho
        rho = 0.0
        for l in range(k):
            rho += g[l] * z[l]
        beta = rho / previous
        for l in range(k):
            p[l] = z[l] + beta * p[l]
    return max_steps


@njit()
def _hash(x: Any) -> Any:
    """The splitmix64 finaliser: reproducible signs and buckets without a stream of random numbers."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(fastmath=FAST)
def solve_rows(
    indptr: Any, indices: Any, values: Any, weights: Any, fixed: Any, penalty: Any, inverse_scale: Any, modes: Any,
    eta: float, max_steps: int, sketch_rows: int, seed: int, x: Any, losses: Any,
) -> int:  # fmt: skip
    """One half sweep: improves every row of ``x`` (m, k) in place.

    Parameters
    ----------
    indptr, indices, values, weights
        Compressed rows; ``weights`` empty means ones.
    fixed : (n, k)
        Q, orthonormal columns.
    penalty, inverse_scale : (k,)
        Ridge of each coordinate; reciprocal column lengths for the stopping test.
    modes : (m,) int8
        ``BY_GRAM``, ``BY_CG`` or ``BY_SKETCH`` for each row.
    losses : (m,)
        Receives sum_t w_t r_t^2 of each row at the new x.

    Returns
    -------
    int
        Conjugate gradient steps times entries, summed.
    """
    k = fixed.shape[1]
    dtype = fixed.dtype
    unit = np.finfo(dtype).eps
    lane = 16
    padded = k if k < 8 else ((k + lane - 1) // lane) * lane
    longest = 0
    for i in range(len(indptr) - 1):
        longest = max(longest, indptr[i + 1] - indptr[i])
    panel_store = np.zeros(longest * (padded + 1), dtype=dtype)
    gram = np.empty((k, k), dtype=dtype)
    saved = np.empty((k, k), dtype=dtype)
    sketch = np.empty((sketch_rows, k), dtype=dtype)
    r = np.empty(longest, dtype=dtype)
    g = np.zeros(padded, dtype=dtype)
    p = np.zeros(padded, dtype=dtype)
    q = np.zeros(padded, dtype=dtype)
    z = np.zeros(padded, dtype=dtype)
    weighted = len(weights) > 0
    work = 0
    for i in range(len(indptr) - 1):
        begin = indptr[i]
        d = indptr[i + 1] - begin
        row = x[i]
        losses[i] = 0.0
        if d == 0:
            row[:] = 0.0
            continue
        if modes[i] == BY_GRAM:
            panel = panel_store[: d * k].reshape((d, k))
            for t in range(d):
                source = fixed[indices[begin + t]]
                target = panel[t]
                root = np.sqrt(weights[begin + t]) if weighted else dtype.type(1.0)
                for l in range(k):
                    target[l] = root * source[l]
                r[t] = root * values[begin + t]
            for l in range(k):
                g[l] = 0.0
            for t in range(d):
                value = r[t]
                source = panel[t]
                for l in range(k):
                    g[l] += value * source[l]
            np.dot(panel.T, panel, gram)
            _factor_safely(gram, saved, penalty, k, unit)
            for l in range(k):
                row[l] = g[l]
            _substitute(gram, row, k)
            total = 0.0
            for t in range(d):
                source = panel[t]
                value = r[t]
                for l in range(k):
                    value -= source[l] * row[l]
                total += value * value
            losses[i] = total
            continue
        panel = panel_store[: d * (padded + 1)].reshape((d, padded + 1))
        for l in range(padded):
            g[l] = 0.0
        for t in range(d):
            source = fixed[indices[begin + t]]
            target = panel[t]
            root = np.sqrt(weights[begin + t]) if weighted else dtype.type(1.0)
            value = values[begin + t] * root
            for l in range(k):
                entry = root * source[l]
                target[l] = entry
                value -= entry * row[l]
            for l in range(k, padded):
                target[l] = 0.0
            r[t] = value
            for l in range(k):
                g[l] += value * target[l]
        for l in range(k):
            g[l] -= penalty[l] * row[l]
        sketched = modes[i] == BY_SKETCH and d > sketch_rows
        if modes[i] == BY_SKETCH:
            # CountSketch (Clarkson and Woodruff 2013): every row goes to one bucket with a random sign.
            if sketched:
                sketch[:] = 0.0
                for t in range(d):
                    code = _hash(np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(begin + t))
                    bucket = sketch[np.int64((code >> np.uint64(1)) % np.uint64(sketch_rows))]
                    target = panel[t]
                    if code & np.uint64(1):
                        for l in range(k):
                            bucket[l] += target[l]
                    else:
                        for l in range(k):
                            bucket[l] -= target[l]
                np.dot(sketch.T, sketch, gram)
            else:
                for a in range(k):
                    for b in range(k):
                        gram[a, b] = 0.0
                for t in range(d):
                    target = panel[t]
                    for a in range(k):
                        for b in range(a + 1):
                            gram[a, b] += target[a] * target[b]
            _factor_safely(gram, saved, penalty, k, unit)
            sketched = True
        steps = _descend(
            panel, r, row, g, p, q, z, gram, penalty, inverse_scale, d, k, eta, max_steps, sketched
        )  # fmt: skip
        work += steps * d
        total = 0.0
        for t in range(d):
            total += r[t] * r[t]
        losses[i] = total
    return work
