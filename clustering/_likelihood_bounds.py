r"""Rigorous bounds on the classification likelihood (symbols of :mod:`clustering._likelihood`).

*At fixed covariances.* For every y and symmetric B_k >= 0, every labelling without empty groups has

    NLL >= sum(y) + sum_k lambda_min(C_k - 1/2 (y 1^T + 1 y^T) - B_k),                                        (1)

because Z_k = 1_{G_k} 1_{G_k}^T / n_k is psd of trace 1, non-negative, and (sum_k Z_k) 1 = 1.

*One covariance for two groups, over labels and covariance.* At the best covariance NLL = n/2 (log|W/n| + p) with W the
within-group scatter. Whiten, Y = X R^{-1}: the scatter of Y is near I, W_Y = T_Y - b b^T, and
|W| = |R|^2 |T_Y| (1 - b^T T_Y^{-1} b), where |b|^2 = tr T_Y - tr W_Y <= tr T_Y - (bound on the 2-means cost of Y). With
e >= |T_Y - I| this gives

    NLL >= n/2 [ 2 log|R| + p log(1 - e) + log(1 - (p (1 + e) - bound) / (1 - e)) - p log n + p ].                   (2)

Published values are reduced by twice the error bound, verified ones by once, as in :mod:`clustering._ky_fan`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from clustering._bounds import evaluate, is_sound
from clustering._ky_fan import EIGEN_ERROR
from clustering._likelihood import GaussianModel, centred
from clustering._problem import KMeansProblem, kmeans_problem
from clustering._result import BlockProof
from solvers._core.arrays import FloatArray, IntArray
from solvers._core.backend import Backend
from solvers._core.linalg import UNIT

__all__ = [
    "AssignmentCertificate",
    "LikelihoodCertificate",
    "TiedCertificate",
    "assignment_bound",
    "is_determined",
    "nll_error",
    "tied_bound",
    "whiten",
]

# Constant of norms and sums of squares of p terms.
SOLVE_ERROR = 16
# Share of the NLL, or of one nat per number, beyond which its rounding error leaves it undetermined.
MEANINGLESS = 1e-2
# Beyond this relative error of the whitening nothing is claimed.
WORST_WHITENING = 1e-3


@dataclass(frozen=True)
class AssignmentCertificate:
    """Dual point of (1): y (n,) and B_k (K, n, n) float32."""

    y: FloatArray
    multipliers: np.ndarray


@dataclass(frozen=True)
class TiedCertificate:
    """Whitening R (p, p) upper triangular, and the proof of the 2-means bound of the whitened rows."""

    whitening: FloatArray
    proof: BlockProof


@dataclass(frozen=True)
class LikelihoodCertificate:
    """What is proved of a result of ``ila_sdp``; None where nothing is."""

    assignment: AssignmentCertificate | None
    tied: TiedCertificate | None
    kind: str = "likelihood"


for _public in (AssignmentCertificate, TiedCertificate, LikelihoodCertificate):
    _public.__module__ = "clustering"


def nll_error(points: FloatArray, labels: IntArray, model: GaussianModel) -> float:
    """Bound on the rounding error of the NLL of labels at these covariances.

    Factorisation and triangular solves change entry (i, j) of S_k by at most 2 (p + 1) u sqrt(S_ii S_jj), hence quadratic
    forms and factors of the determinant relatively by p times that and the norm of the inverse correlation matrix. Rounded
    rows and means err by e = 8 u (|x_i| + |m_k|), which changes |z_i|^2 / 2, z_i = L_k^{-1} (x_i - m_k), by
    |z_i|^T |L_k^{-1}| e at first order.
    """
    p = points.shape[1]
    error = 0.0
    for k in range(model.n_clusters):
        mine = points[labels == k]
        if len(mine) == 0:
            continue
        z = model.whitened(centred(mine), k)
        inverse = np.abs(model.whitened(np.eye(p), k))
        blur = 8.0 * UNIT * (np.abs(mine) + np.abs(mine.mean(axis=0))) @ inverse
        error += float(np.sum(np.abs(z) * blur) + 0.5 * np.sum(blur * blur))
        logs = abs(float(model.log_determinants[k])) + abs(float(model.log_shares[k]))
        error += factor_error(model, k) * (float(np.sum(z * z)) + len(mine) * p)
        error += SOLVE_ERROR * UNIT * (p + 8) * len(mine) * logs
    return error


def factor_error(model: GaussianModel, k: int) -> float:
    """Relative error of |L_k^{-1} x|^2 and of a factor of det S_k."""
    p = int(model.factors.shape[1])
    return 4.0 * UNIT * float(p + 1) ** 2 * model.condition(k)


def is_determined(error: float, nll: float, shape: tuple[int, ...]) -> bool:
    """Whether an NLL with this rounding error says anything."""
    return error <= MEANINGLESS * (abs(nll) + math.prod(shape))


def assignment_bound(
    points: FloatArray, model: GaussianModel, certificate: AssignmentCertificate
) -> tuple[float, float]:
    """Value of (1) and a bound on its error."""
    n, p = points.shape
    y = np.asarray(certificate.y, dtype=np.float64)
    multipliers = np.asarray(certificate.multipliers, dtype=np.float64)
    value = float(np.sum(y))
    error = UNIT * n * float(np.sum(np.abs(y)))
    for k in range(model.n_clusters):
        b = np.maximum(0.5 * (multipliers[k] + multipliers[k].T), 0.0)
        cost = model.cost_matrix(points, k)
        slack = cost - 0.5 * (y[:, None] + y) - b
        value += float(scipy.linalg.eigvalsh(slack, subset_by_index=(0, 0), check_finite=False)[0])
        sizes = float(np.linalg.norm(slack)) + float(np.linalg.norm(b)) + n * float(np.max(np.abs(y)))
        rows = model.whitened(points, k)
        farthest = float(np.max(np.sum(rows * rows, axis=1)))
        logs = abs(float(model.log_determinants[k])) + abs(float(model.log_shares[k]))
        error += UNIT * (
            EIGEN_ERROR * n * (sizes + n * (farthest + logs)) + SOLVE_ERROR * (p + 8) * n * (farthest + p + logs)
        )
        error += factor_error(model, k) * n * (farthest + p)
    return value, error


def whiten(points: FloatArray, backend: Backend, whitening: FloatArray) -> tuple[KMeansProblem, float, float]:
    """The 2-means problem of Y = X R^{-1}, e of (2), and a bound on |computed Y - Y|_F."""
    p = points.shape[1]
    rows = scipy.linalg.solve_triangular(whitening.T, points.T, lower=True, check_finite=False).T
    rows = np.ascontiguousarray(rows)
    gram = rows.T @ rows
    condition = float(np.linalg.cond(whitening))
    solving = 2.0 * p * UNIT * condition * float(np.linalg.norm(rows))
    e = float(np.linalg.norm(gram - np.eye(p)))
    e += 2.0 * len(rows) * UNIT * float(np.trace(gram)) + 3.0 * solving * float(np.linalg.norm(rows))
    return kmeans_problem(rows, 2, None, backend), e, solving


def tied_bound(points: FloatArray, backend: Backend, certificate: TiedCertificate) -> tuple[float, float]:
    """Value of (2) and a bound on its error; minus infinity where it does not apply."""
    n, p = points.shape
    whitening = np.asarray(certificate.whitening, dtype=np.float64)
    if whitening.shape != (p, p) or not np.isfinite(whitening).all() or not (np.abs(np.diag(whitening)) > 0).all():
        return -math.inf, 0.0
    whitening = np.triu(whitening)
    problem, e, solving = whiten(points, backend, whitening)
    if not e < WORST_WHITENING or not is_sound(problem, certificate.proof):
        return -math.inf, 0.0
    cost = max(0.0, math.sqrt(evaluate(problem, certificate.proof).reestablished) - solving) ** 2
    rest = 1.0 - (p * (1.0 + e) - cost) / (1.0 - e)
    if not rest > 0.0:
        return -math.inf, 0.0
    logs = np.log(np.abs(np.diag(whitening)))
    value = 0.5 * n * (2.0 * float(np.sum(logs)) + p * math.log1p(-e) + math.log(rest) - p * math.log(n) + p)
    size = 2.0 * float(np.sum(np.abs(logs))) + p * (math.log(n) + 2.0) + abs(math.log(rest)) + 8.0 * p / rest
    return value, SOLVE_ERROR * UNIT * n * (p + 8) * size
