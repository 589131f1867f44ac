"""Rank continuation: one more singular pair of the gradient at a time.

Spectral starts bury the small singular values of an ill-conditioned matrix in the noise of the mask; a pair taken
from the residual, after what is known has been fitted, does not.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse

from solvers._core.arrays import FloatArray
from solvers.completion._problem import CompletionProblem
from solvers.completion._sweeps import Factors, Workspace

__all__ = ["grow", "relength", "stages"]

POWER_STEPS = 12
# Up to this many entries times rank, ranks are visited one by one.
ONE_BY_ONE = 4e7
LENGTH_ROUNDS = 200
CHUNK = 1 << 18


def stages(rank: int, size: int) -> list[int]:
    """Ranks to visit: all of them, or geometrically many where a stage is dear or there are many."""
    if rank <= 20 and rank * size <= ONE_BY_ONE:
        return list(range(1, rank + 1))
    visited = [1]
    while visited[-1] < rank:
        visited.append(min(rank, math.ceil(1.5 * visited[-1]) + 1))
    return visited


def grow(
    problem: CompletionProblem, work: Workspace, factors: Factors, count: int, rng: np.random.Generator,
    gradient: FloatArray | None = None,
) -> Factors:  # fmt: skip
    """Append up to ``count`` pairs of the gradient's leading singular vectors, each as long as is best on its own.

    Fewer, or none, are appended where the gradient's singular values are not above ``reg``: nothing else lowers the
    convex objective then.
    """
    residual = work.residuals(factors).astype(np.float64)
    weights = work.rows.weights.astype(np.float64) if len(work.rows.weights) else None
    if gradient is None:
        gradient = residual if weights is None else weights * residual
    scale = float(np.max(np.abs(gradient), initial=0.0))
    if not scale > 0.0:
        return factors
    u, sigma, v = _leading_pairs(problem.observed.matrix(gradient / scale), count, rng)
    u, v = _outside(u, factors.U), _outside(v, factors.V)
    lengths = []
    kept = []
    for l in range(u.shape[1]):
        product = u[problem.observed.rows, l] * v[problem.observed.cols, l]
        slope = float(np.sum(gradient * product))
        curvature = float(np.sum(product * product if weights is None else weights * product * product))
        excess = abs(slope) - problem.reg
        if curvature > 0.0 and excess > 1e-12 * max(problem.reg, scale * float(sigma[0])):
            lengths.append(excess / curvature)
            kept.append(l)
            v[:, l] *= math.copysign(1.0, slope)
    if not kept:
        return factors
    s = np.concatenate([factors.s, lengths])
    order = np.argsort(-s, kind="stable")
    left = np.hstack([factors.U, u[:, kept].astype(work.dtype)])[:, order]
    right = np.hstack([factors.V, v[:, kept].astype(work.dtype)])[:, order]
    return Factors(np.ascontiguousarray(left), s[order], np.ascontiguousarray(right))


def relength(problem: CompletionProblem, work: Workspace, factors: Factors) -> Factors:
    """The best singular values for the singular vectors as they are: a small non-negative quadratic program.

    Half sweeps shrink a superfluous column by a constant factor at best; here it goes at once.
    """
    k = factors.rank
    gram, slope = np.zeros((k, k)), np.full(k, -problem.reg)
    values = work.rows.values.astype(np.float64)
    weights = work.rows.weights.astype(np.float64) if len(work.rows.weights) else None
    for start in range(0, len(values), CHUNK):
        part = slice(start, start + CHUNK)
        products = factors.U[problem.observed.rows[part]] * factors.V[problem.observed.cols[part]]
        weighted = products if weights is None else products * weights[part, None]
        gram += weighted.T @ products
        slope += weighted.T @ values[part]
    s = factors.s.copy()
    gradient = slope - gram @ s
    for _ in range(LENGTH_ROUNDS):
        moved = 0.0
        for l in range(k):
            if gram[l, l] > 0.0:
                fresh = max(0.0, s[l] + gradient[l] / gram[l, l])
                gradient -= gram[:, l] * (fresh - s[l])
                moved = max(moved, abs(fresh - s[l]))
                s[l] = fresh
        if moved <= 1e-13 * float(np.max(s, initial=0.0)):
            break
    order = np.argsort(-s, kind="stable")
    left, right = np.ascontiguousarray(factors.U[:, order]), np.ascontiguousarray(factors.V[:, order])
    return Factors(left, s[order], right)


def _leading_pairs(
    matrix: scipy.sparse.csr_array, count: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Leading singular pairs to a few digits, by block Krylov iteration (Musco and Musco 2015)."""
    m, n = matrix.shape
    width = min(count + (2 if count > 1 else 0), m, n)
    steps = max(1, min(POWER_STEPS if count == 1 else 4, min(m, n) // width))
    transposed = matrix.T.tocsr()
    block = rng.standard_normal((n, width))
    krylov = []
    for _ in range(steps):
        block = np.linalg.qr(transposed @ (matrix @ block))[0]
        krylov.append(block)
    basis = np.linalg.qr(np.hstack(krylov))[0] if steps > 1 else block
    u, sigma, vt = np.linalg.svd(matrix @ basis, full_matrices=False)
    return np.ascontiguousarray(u[:, :count]), sigma[:count], np.ascontiguousarray((basis @ vt.T)[:, :count])


def _outside(fresh: FloatArray, basis: FloatArray) -> FloatArray:
    """Columns made orthonormal to a basis and to each other."""
    for _ in range(2):
        fresh = fresh - basis @ (basis.T @ fresh)
    return np.linalg.qr(fresh)[0]
