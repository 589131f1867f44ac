"""Rank continuation: one more singular pair of the gradient at a time.

Spectral starts bury the small singular values of an ill-conditioned matrix in the noise of the mask; a pair taken
from the residual, after what is known has been fitted, does not.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.linalg
import scipy.optimize

from solvers._core.arrays import FloatArray
from solvers.completion._gradient import Gradient
from solvers.completion._sweeps import Entries, Factors

__all__ = ["grow", "relength", "stages"]

POWER_STEPS = 12
# Up to this many entries times rank, ranks are visited one by one.
ONE_BY_ONE = 4e7
# Up to this rank a penalised problem is grown in two stages.
TWO_STAGES = 20
# Share of the trace by which a singular quadratic term grows.
LENGTH_RIDGE = 1e-15


def stages(rank: int, size: int, *, convex: bool) -> list[int]:
    """Ranks to visit: all of them, or geometrically many where a stage is dear or there are many.

    With a penalty the objective has a convex counterpart, and small singular values are shrunk away: no detail is lost
    by adding several pairs at once. The larger half of them stands clear of the mask's noise in the data, the other half
    does once that one is fitted.
    """
    if convex and 1 < rank <= TWO_STAGES:
        return [(rank + 1) // 2, rank]
    if not convex and rank <= 20 and rank * size <= ONE_BY_ONE:
        return list(range(1, rank + 1))
    visited = [1]
    while visited[-1] < rank:
        visited.append(min(rank, math.ceil(1.5 * visited[-1]) + 1))
    return visited


def grow(
    work: Entries, factors: Factors, count: int, rng: np.random.Generator, gradient: FloatArray | None = None
) -> Factors:
    """Append up to ``count`` pairs of the gradient's leading singular vectors, each as long as is best on its own.

    Fewer, or none, are appended where the gradient's singular values are not above ``reg``: nothing else lowers the
    convex objective then.
    """
    matrix = work.gradient(factors, gradient)
    if not matrix.scale > 0.0:
        return factors
    u, sigma, v = _leading_pairs(matrix, count, rng)
    U, V = work.host(factors.U), work.host(factors.V)
    u, v = _outside(u, U), _outside(v, V)
    slopes, curvatures = matrix.along(u, v)
    excess = np.abs(slopes) - work.reg
    kept = (curvatures > 0.0) & (excess > 1e-12 * max(work.reg, matrix.scale * float(sigma[0])))
    if not kept.any():
        return factors
    v = v * np.where(slopes < 0.0, -1.0, 1.0)
    s = np.concatenate([factors.s, excess[kept] / curvatures[kept]])
    order = np.argsort(-s, kind="stable")
    left = np.hstack([U, u[:, kept].astype(work.dtype)])[:, order]
    right = np.hstack([V, v[:, kept].astype(work.dtype)])[:, order]
    return Factors(work.take(left), s[order], work.take(right))


def relength(work: Entries, factors: Factors) -> Factors:
    """The best singular values for the singular vectors as they are: a small non-negative quadratic program.

    Half sweeps shrink a superfluous column by a constant factor at best; here it goes at once.
    """
    k = factors.rank
    gram, slope = work.length_moments(factors)
    slope = slope - work.reg
    try:
        root = np.linalg.cholesky(gram + LENGTH_RIDGE * np.trace(gram) * np.eye(k))
        s = scipy.optimize.nnls(root.T, scipy.linalg.solve_triangular(root, slope, lower=True))[0]
    except (np.linalg.LinAlgError, RuntimeError):
        return factors
    order = np.argsort(-s, kind="stable")
    left, right = work.host(factors.U)[:, order], work.host(factors.V)[:, order]
    return Factors(work.take(left), s[order], work.take(right))


def _leading_pairs(matrix: Gradient, count: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Leading singular pairs to a few digits, by block Krylov iteration (Musco and Musco 2015)."""
    m, n = matrix.shape
    width = min(count + (2 if count > 1 else 0), m, n)
    steps = max(1, min(POWER_STEPS if count == 1 else 4, min(m, n) // width))
    block = rng.standard_normal((n, width))
    krylov = []
    for _ in range(steps):
        block = matrix.gram_product(block)
        block = np.linalg.qr(block)[0] if width > 1 else block / (float(np.linalg.norm(block)) or 1.0)
        krylov.append(block)
    basis = np.linalg.qr(np.hstack(krylov))[0] if steps > 1 else block
    u, sigma, vt = np.linalg.svd(matrix.product(basis), full_matrices=False)
    return np.ascontiguousarray(u[:, :count]), sigma[:count], np.ascontiguousarray((basis @ vt.T)[:, :count])


def _outside(fresh: FloatArray, basis: FloatArray) -> FloatArray:
    """Columns made orthonormal to a basis and to each other."""
    for _ in range(2):
        fresh = fresh - basis @ (basis.T @ fresh)
    return np.linalg.qr(fresh)[0]
