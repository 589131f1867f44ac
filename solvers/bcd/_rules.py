r"""Which block moves next: scores of coordinates and of blocks.

With g the gradient of f, L_i the coordinate and L_b the block constants, H_b a bound on the block's Hessian, D a diagonal above
H (tau L_i for blocks of tau, by Cauchy-Schwarz):

    gs     |g_b|^2                  gs-s   squared distance of -g_b from the subdifferential
    gsl    |g_b|^2 / L_b            gs-r   |p_b|^2, p the prox step with the largest L
    gsd    sum g_i^2 / D_i          gs-q   -V_b, V the model decrease of that step
    gsq    g_b^T H_b^{-1} g_b       gsl-q  -V_b with each coordinate's (or block's) own L

Left: smooth problems; right: with a penalty. Rules for a fixed partition compare blocks; a variable block takes the
highest-scoring coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from solvers._core.arrays import FloatArray, IntArray
from solvers.bcd._problem import Composite

__all__ = ["PROXIMAL_RULES", "RULES", "SMOOTH_RULES", "Selection", "scores", "solve_psd", "sparse_model_support"]

BLIND_RULES = ("random", "cyclic", "lipschitz")
SMOOTH_RULES = ("gs", "gsl", "gsd", "gsq")
PROXIMAL_RULES = ("gs-s", "gs-r", "gs-q", "gsl-q")
RULES = (*BLIND_RULES, *SMOOTH_RULES, *PROXIMAL_RULES)

# Candidates of the sparse model per place in the block; their dense Hessian is formed.
CANDIDATES = 6
SWEEPS = 10


@dataclass
class Selection:
    """What rules look at: the problem, the point, its gradient."""

    problem: Composite
    x: FloatArray
    g: FloatArray


def scores(rule: str, at: Selection, constants: FloatArray) -> FloatArray:
    """Score of each coordinate; ``constants`` are positive curvature bounds (L_i, or L_b spread over b)."""
    x, g, term = at.x, at.g, at.problem.term
    if rule == "gs":
        return g * g
    if rule in ("gsl", "gsd", "gsq"):
        return g * g / constants
    if rule == "gs-s":
        return term.distance(x, g) ** 2
    curvature = constants if rule == "gsl-q" else np.full_like(constants, float(np.max(constants)))
    everyone = np.arange(len(x))
    fresh = term.prox(x - g / curvature, curvature, everyone)
    p = fresh - x
    if rule == "gs-r":
        return p * p
    before, after = term.block_value(x, everyone), term.block_value(fresh, everyone)
    return np.asarray(-(g * p + 0.5 * curvature * p * p + after - before))


def sparse_model_support(
    at: Selection, ranking: FloatArray, size: int, *, greedy_addition: bool
) -> tuple[IntArray, FloatArray]:
    """A block of ``size`` coordinates for gsq, and its Hessian bound.

    Maximising g_b^T H_b^{-1} g_b over all blocks is sparse approximation, NP-hard. Among the best few by ``ranking``,
    iterative hard thresholding (from the ranked step, with a step size that cannot raise the model) or greedy addition
    proposes a block; the better of it and of the ranked one is taken.
    """
    count = min(len(ranking), max(CANDIDATES * size, 32))
    candidates = np.argsort(-ranking, kind="stable")[:count]
    hessian = at.problem.loss.block_bound(candidates)
    g = at.g[candidates]
    ranked = np.arange(min(size, count))
    proposed = _greedy_addition(hessian, g, size) if greedy_addition else _hard_thresholding(hessian, g, size)
    best = max((ranked, proposed), key=lambda b: float(g[b] @ solve_psd(hessian[np.ix_(b, b)], g[b])))
    return candidates[best], hessian[np.ix_(best, best)]


def _hard_thresholding(hessian: FloatArray, g: FloatArray, size: int) -> IntArray:
    step = 1.0 / max(float(np.max(np.sum(np.abs(hessian), axis=1))), np.finfo(float).tiny)
    d = np.zeros_like(g)
    d[:size] = -g[:size] / np.maximum(len(d[:size]) * np.diagonal(hessian)[:size], np.finfo(float).tiny)
    for _ in range(SWEEPS):
        trial = d - step * (g + hessian @ d)
        keep = np.argsort(-np.abs(trial), kind="stable")[:size]
        fresh = np.zeros_like(d)
        fresh[keep] = trial[keep]
        if np.max(np.abs(fresh - d)) <= 1e-10 * np.max(np.abs(fresh)):
            break
        d = fresh
    return np.sort(np.argsort(-np.abs(d), kind="stable")[:size])


def _greedy_addition(hessian: FloatArray, g: FloatArray, size: int) -> IntArray:
    """Add the coordinate of largest gain r_i^2 / s_i, with r and s the residual gradient and Schur complements."""
    residual, schur = g.copy(), np.diagonal(hessian).copy()
    floor = 1e-12 * np.maximum(schur, np.finfo(float).tiny)
    factors = np.zeros((size, len(g)))
    chosen: list[int] = []
    open_ = np.ones(len(g), dtype=bool)
    for k in range(min(size, len(g))):
        gain = np.where(open_, residual**2 / np.maximum(schur, floor), -1.0)
        i = int(np.argmax(gain))
        chosen.append(i)
        open_[i] = False
        if not schur[i] > floor[i]:
            continue
        row = (hessian[i] - factors[:k].T @ factors[:k, i]) / np.sqrt(schur[i])
        factors[k] = row
        residual = residual - row * (residual[i] / np.sqrt(schur[i]))
        schur = schur - row * row
    return np.array(sorted(chosen))


def solve_psd(matrix: FloatArray, rhs: FloatArray) -> FloatArray:
    """Solution for a positive semidefinite matrix, of least norm where it is singular."""
    if len(rhs) == 0:
        return rhs.copy()
    ridge = 1e-13 * max(float(np.trace(matrix)) / len(rhs), 0.0)
    try:
        factor = scipy.linalg.cho_factor(matrix + ridge * np.eye(len(rhs)), check_finite=False)
        return np.asarray(scipy.linalg.cho_solve(factor, rhs, check_finite=False))
    except scipy.linalg.LinAlgError:
        values, vectors = scipy.linalg.eigh(matrix, check_finite=False)
        keep = values > 1e-12 * max(float(values[-1]), 0.0)
        return np.asarray(vectors[:, keep] @ ((vectors[:, keep].T @ rhs) / values[keep]))
