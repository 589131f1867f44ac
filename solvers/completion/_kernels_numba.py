"""Compiled kernels of alternating minimisation for NumPy arrays.

A half sweep solves, for every row i with observed positions (j_t, a_t) and weights w_t,

    min_x  1/2 sum_t w_t (a_t - q_{j_t}^T x)^2 + 1/2 sum_l penalty_l x_l^2,

where Q, the fixed factor with rows q_j, has orthonormal columns. Four ways, chosen per row: the k x k normal equations; the
d x d dual ones for rows with fewer entries than unknowns; conjugate gradients, which under uniform sampling contract by
about sqrt(k / d) per step, for the Gram matrix of the row is then near a multiple of the identity; and conjugate
gradients with the Gram matrix of a leverage sample of the row as preconditioner.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from solvers._core.jit import njit
from solvers.completion._kernels_panel import (
    BLOCK,
    FAST,
    is_narrow,
    load,
    load_and_pull,
    normal_equations,
    padded_width,
    pull_residual,
    push_and_pull,
)

__all__ = ["BY_CG", "BY_DUAL", "BY_GRAM", "BY_SKETCH", "FAST", "effective_counts", "residuals", "solve_rows"]

BY_GRAM, BY_CG, BY_SKETCH, BY_DUAL = 0, 1, 2, 3

CACHE_LINE = 64
# Entries of a panel up to which the call of a library costs more than its Gram matrix.
SMALL_PANEL = 32
LARGEST_SHIFT = 1e12


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

    Everything is relative to the diagonal entries, which penalties spread over many orders of magnitude. A diagonal that
    has grown so far is definite unless it is not finite, and that is left to be seen in the answer.
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
    while not _factor(gram, k, k * unit) and shift < LARGEST_SHIFT:
        shift = max(100.0 * shift, 4.0 * k * unit)
        for i in range(k):
            for l in range(i + 1):
                gram[i, l] = saved[i, l]
            gram[i, i] += shift * max(gram[i, i], smallest)


@njit(fastmath=FAST)
def effective_counts(indptr: Any, indices: Any, weights: Any, norms: Any) -> Any:
    """(sum_t a_t)^2 / sum_t a_t^2 per row, a_t = w_t |q_{j_t}|^2: how many equal entries weigh as much (Kish 1965)."""
    m = len(indptr) - 1
    out = np.ones(m)
    weighted = len(weights) > 0
    for i in range(m):
        first = 0.0
        second = 0.0
        for t in range(indptr[i], indptr[i + 1]):
            mass = np.float64(norms[indices[t]])
            if weighted:
                mass *= weights[t]
            first += mass
            second += mass * mass
        if second > 0.0:
            out[i] = first * first / second
    return out


@njit(fastmath=FAST)
def _load_values(values: Any, weights: Any, begin: Any, d: int, r: Any) -> None:
    """Values times the roots of the weights; zeros beyond ``d``."""
    for t in range(d):
        r[t] = values[begin + t]
    if len(weights) > 0:
        for t in range(d):
            r[t] *= np.sqrt(weights[begin + t])
    for t in range(d, len(r)):
        r[t] = r.dtype.type(0.0)


@njit(fastmath=FAST)
def _descend(
    panel: Any, r: Any, w: Any, x: Any, g: Any, p: Any, q: Any, z: Any, factor: Any, penalty: Any, inverse_scale: Any,
    k: int, eta: float, max_steps: int, preconditioned: bool,
) -> int:  # fmt: skip
    """Conjugate gradients on one row from x with residual r, preconditioned by a factored Gram matrix if any.

    Ends when the gradient in units of the moving factor's column lengths has fallen by ``eta``. A plain norm would see
    only the directions of large singular values. Returns the number of steps.
    """
    dtype = panel.dtype
    first = 0.0
    rho = 0.0
    for l in range(k):
        scaled = np.float64(g[l]) * inverse_scale[l]
        first += scaled * scaled
        z[l] = g[l]
    if preconditioned:
        _substitute(factor, z, k)
    for l in range(k):
        p[l] = z[l]
        rho += np.float64(g[l]) * z[l]
    target = eta * eta * first
    for step in range(max_steps):
        if not rho > 0.0:
            return step
        curvature = 0.0
        for l in range(k):
            q[l] = penalty[l] * p[l]
            curvature += np.float64(q[l]) * p[l]
        curvature += push_and_pull(panel, p, w, q)
        if not curvature > 0.0:
            return step
        alpha = dtype.type(rho / curvature)
        for t in range(len(panel)):
            r[t] -= alpha * w[t]
        size = 0.0
        for l in range(k):
            x[l] += alpha * p[l]
            g[l] -= alpha * q[l]
            scaled = np.float64(g[l]) * inverse_scale[l]
            size += scaled * scaled
            z[l] = g[l]
        if not size > target:
            return step + 1
        if preconditioned:
            _substitute(factor, z, k)
        previous = rho
        rho = 0.0
        for l in range(k):
            rho += np.float64(g[l]) * z[l]
        beta = dtype.type(rho / previous)
        for l in range(k):
            p[l] = z[l] + beta * p[l]
    return max_steps


@njit()
def _uniform(x: Any) -> float:
    """A number in (0, 1) by the splitmix64 finaliser: reproducible without a stream of random numbers."""
    x = x * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x = x ^ (x >> np.uint64(31))
    return (np.float64(x >> np.uint64(12)) + 0.5) / 4503599627370496.0


@njit(fastmath=FAST)
def _leverage_sample(panel: Any, d: int, k: int, draw: float, sketch: Any, mass: Any) -> int:
    """Rows of the panel drawn with probabilities proportional to their squared norms, scaled so that the expected Gram
    matrix is that of the panel; returns how many.

    With Q orthonormal, |q_j|^2 is the leverage of row j. Systematic sampling: one draw places equidistant marks on the
    cumulated norms, so that a row of large leverage is never missed.
    """
    total = 0.0
    for t in range(d):
        source = panel[t]
        square = panel.dtype.type(0.0)
        for l in range(k):
            square += source[l] * source[l]
        mass[t] = square
        total += square
    spacing = total / (len(sketch) - 1)
    mark = draw * spacing
    passed = 0.0
    count = 0
    for t in range(d):
        passed += mass[t]
        hits = 0
        while mark < passed and count < len(sketch):
            mark += spacing
            hits += 1
        if hits > 0:
            scale = panel.dtype.type(np.sqrt(hits * spacing / mass[t]))
            source = panel[t]
            target = sketch[count]
            for l in range(k):
                target[l] = scale * source[l]
            count += 1
    return count


@njit(fastmath=FAST)
def _gram(panel: Any, out: Any) -> None:
    """panel^T panel; of a small one only the lower triangle."""
    d, k = panel.shape
    if d * k > SMALL_PANEL:
        np.dot(panel.T, panel, out)
        return
    zero = panel.dtype.type(0.0)
    for a in range(k):
        for b in range(a + 1):
            out[a, b] = zero
    for t in range(d):
        source = panel[t]
        for a in range(k):
            value = source[a]
            for b in range(a + 1):
                out[a, b] += value * source[b]


@njit(fastmath=FAST)
def _solve_normal(panel: Any, r: Any, penalty: Any, gram: Any, saved: Any, x: Any) -> None:
    """(P^T P + penalty) x = P^T r by Cholesky factorisation."""
    d, k = panel.shape
    zero = panel.dtype.type(0.0)
    for l in range(k):
        x[l] = zero
    for t in range(d):
        value = r[t]
        source = panel[t]
        for l in range(k):
            x[l] += value * source[l]
    _gram(panel, gram)
    _factor_safely(gram, saved, penalty, k, np.finfo(panel.dtype).eps)
    _substitute(gram, x, k)


@njit(fastmath=FAST)
def _solve_dual(panel: Any, r: Any, ratio: Any, ridge: Any, gram: Any, saved: Any, y: Any, x: Any) -> None:
    """x = D^{-1} P^T y with (P D^{-1} P^T + I) y = r, for fewer rows than unknowns.

    Both sides are multiplied by the smallest entry of D, ``ridge``; ``ratio`` is ridge / D. Without penalties this is
    the solution of least norm.
    """
    d, k = panel.shape
    zero = panel.dtype.type(0.0)
    for a in range(d):
        y[a] = r[a]
        for b in range(a + 1):
            total = zero
            for l in range(k):
                total += panel[a, l] * ratio[l] * panel[b, l]
            gram[a, b] = total
    _factor_safely(gram, saved, ridge, d, np.finfo(panel.dtype).eps)
    _substitute(gram, y, d)
    for l in range(k):
        x[l] = zero
    for t in range(d):
        value = y[t]
        for l in range(k):
            x[l] += value * ratio[l] * panel[t, l]


@njit(fastmath=FAST)
def solve_rows(
    indptr: Any, indices: Any, values: Any, weights: Any, fixed: Any, penalty: Any, inverse_scale: Any, modes: Any,
    shared: Any, eta: float, max_steps: int, sketch_rows: int, seed: int, x: Any, losses: Any,
) -> int:  # fmt: skip
    """One half sweep: improves every row of ``x`` (m, k) in place.

    Parameters
    ----------
    indptr, indices, values, weights
        Compressed rows; ``weights`` empty means ones.
    fixed : (n, k)
        Q, orthonormal columns.
    penalty, inverse_scale : (k,)
        Ridge of each coordinate, ascending; reciprocal column lengths for the stopping test.
    modes : (m,) int8
        ``BY_GRAM``, ``BY_CG``, ``BY_SKETCH`` or ``BY_DUAL`` for each row; the last means ``BY_GRAM`` where d > k.
    shared : (k, k)
        Factor, with reciprocal diagonal, of a Gram matrix that preconditions the rows solved ``BY_CG``; empty for none.
    losses : (m,)
        Receives sum_t w_t r_t^2 of each row at the new x.

    Returns
    -------
    int
        Conjugate gradient steps times entries, summed.
    """
    k = fixed.shape[1]
    dtype = fixed.dtype
    zero = dtype.type(0.0)
    padded = padded_width(k, fixed.itemsize)
    narrow = is_narrow(k, fixed.itemsize)
    longest_direct = k
    longest = BLOCK
    for i in range(len(indptr) - 1):
        d = indptr[i + 1] - indptr[i]
        if modes[i] == BY_DUAL or (modes[i] == BY_GRAM and not narrow):
            longest_direct = max(longest_direct, d)
        longest = max(longest, d + BLOCK - 1) if modes[i] != BY_DUAL or narrow else longest
    direct_store = np.empty((longest_direct, k), dtype=dtype)
    # Rows of panels begin where cache lines do.
    reserve = np.empty(longest * padded + CACHE_LINE // fixed.itemsize, dtype=dtype)
    ahead = (-reserve.ctypes.data % CACHE_LINE) // fixed.itemsize
    store = reserve[ahead : ahead + longest * padded].reshape(longest, padded)
    longest = max(longest, longest_direct)
    gram = np.empty((k, k), dtype=dtype)
    saved = np.empty((k, k), dtype=dtype)
    square = np.empty((padded, padded), dtype=dtype) if narrow else gram
    sketch = np.empty((sketch_rows, k), dtype=dtype)
    r = np.empty(longest, dtype=dtype)
    w = np.empty(longest, dtype=dtype)
    here = np.zeros(padded, dtype=dtype)
    g = np.zeros(padded, dtype=dtype)
    p = np.zeros(padded, dtype=dtype)
    q = np.zeros(padded, dtype=dtype)
    z = np.zeros(padded, dtype=dtype)
    ratio = np.empty(k, dtype=dtype)
    ridge = np.empty(k, dtype=dtype)
    for l in range(k):
        ridge[l] = penalty[0]
        ratio[l] = penalty[0] / penalty[l] if penalty[l] > zero else dtype.type(1.0)
    work = 0
    for i in range(len(indptr) - 1):
        begin = indptr[i]
        d = indptr[i + 1] - begin
        row = x[i]
        total = 0.0
        blocks = ((d + BLOCK - 1) // BLOCK) * BLOCK
        dual = modes[i] == BY_DUAL and d <= k
        direct = dual or modes[i] == BY_GRAM or modes[i] == BY_DUAL
        if d == 0:
            row[:] = zero
        elif direct and (dual or not narrow):
            panel = direct_store[:d]
            _load_values(values, weights, begin, d, r[:d])
            load(indices, begin, d, fixed, weights, 0, panel)
            if dual:
                _solve_dual(panel, r, ratio, ridge, gram, saved, w, row)
            else:
                _solve_normal(panel, r, penalty, gram, saved, row)
            for t in range(d):
                source = panel[t]
                value = r[t]
                for l in range(k):
                    value -= source[l] * row[l]
                total += value * value
        elif direct:
            panel = store[:blocks]
            _load_values(values, weights, begin, d, r[:blocks])
            normal_equations(indices, begin, d, fixed, weights, panel, r, here, square)
            _factor_safely(square, saved, penalty, k, np.finfo(dtype).eps)
            _substitute(square, here, k)
            pull_residual(panel, here, r, g)
            for l in range(k):
                row[l] = here[l]
            for t in range(d):
                total += r[t] * r[t]
        else:
            panel = store[:blocks]
            for l in range(padded):
                g[l] = zero
            for l in range(k):
                here[l] = row[l]
            _load_values(values, weights, begin, d, r[:blocks])
            load_and_pull(indices, begin, d, fixed, weights, panel, here, r, g)
            for l in range(k):
                g[l] -= penalty[l] * here[l]
            sketched = modes[i] == BY_SKETCH
            if sketched:
                count = _leverage_sample(panel, d, k, _uniform(np.uint64(seed) + np.uint64(begin)), sketch, w)
                _gram(sketch[:count], gram)
                _factor_safely(gram, saved, penalty, k, np.finfo(dtype).eps)
            factor = gram if sketched else shared
            steps = _descend(
                panel, r, w, here, g, p, q, z, factor, penalty, inverse_scale, k, eta, max_steps, len(factor) > 0
            )  # fmt: skip
            work += steps * d
            for l in range(k):
                row[l] = here[l]
            for t in range(d):
                total += r[t] * r[t]
        losses[i] = total
    return work
