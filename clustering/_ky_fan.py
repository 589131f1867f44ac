r"""Rigorous lower bounds on the k-means cost, from any dual point.

Let A = W^{1/2} X X^T W^{1/2} for centred points X (n, p) with weights w, q = sqrt(w)/|sqrt(w)|, P = I - q q^T and
T = tr A. For every clustering the membership matrix Z is positive semidefinite and non-negative, Zq = q, tr Z = K, and
its cost is T - <A, Z>. So for **every** symmetric B >= 0

    LB(B) = T - q^T (A + B) q - sum_{j < K} lambda_j(P (A + B) P)  <=  SDP value  <=  optimal cost,     (1)

because <A, Z> <= <A + B, Z>, Z = q q^T + V with V psd, Vq = 0, tr V = K - 1, lambda_max(V) <= 1, and Ky Fan's maximum
principle bounds <A + B, V>. (q^T A q = 0 for centred points; what rounding leaves of it is the *drift*, which matters
where the points agree to the last digits.) No step needs B to be optimal, so any solver's multiplier gives a true
bound.

Every function returns the value of (1) in floating point and a bound on its error. A published bound is reduced by
**twice** that error and verification subtracts it once: then a correct recomputation elsewhere, which may differ by the
error either way, always re-establishes the claim.

Nothing here is used by the iterations that search for B.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from clustering._problem import KMeansProblem
from solvers._core.arrays import Array
from solvers._core.linalg import UNIT, top_eigenvalue_sum

__all__ = ["EIGEN_ERROR", "FORM_ERROR", "LowerBound", "ky_fan_bound", "less_drift", "multiplier_bound"]

# Constant of the symmetric eigensolver's and the Gram product's backward errors, relative to dimension times UNIT.
EIGEN_ERROR = 10
# Relative error, in UNITs, of the quadratic form q^T B q (pairwise sums of non-negative terms).
FORM_ERROR = 128


@dataclass(frozen=True)
class LowerBound:
    """A value of (1) with a bound on its rounding error."""

    value: float
    error: float

    @property
    def published(self) -> float:
        """What a result claims; k-means costs are non-negative."""
        return max(0.0, self.value - 2.0 * self.error)

    @property
    def reestablished(self) -> float:
        """What verification proves."""
        return max(0.0, self.value - self.error)


def multiplier_bound(problem: KMeansProblem, multiplier: Array) -> LowerBound:
    """(1) for a dense symmetric multiplier, made non-negative and symmetric first. O(n^3) time, O(n^2) memory."""
    xp = problem.backend.xp
    q = problem.direction
    b = 0.5 * (multiplier + multiplier.T)
    b = xp.where(b > 0, b, xp.zeros_like(b))
    form = float(q @ (b @ q))
    largest = float(xp.max(b)) or 1.0
    norm = largest * math.sqrt(float(xp.sum((b / largest) ** 2)))
    return ky_fan_bound(problem, b, norm, form, form)


def ky_fan_bound(
    problem: KMeansProblem, multiplier: Array, norm: float, form: float, size_of_form: float
) -> LowerBound:
    """T - form - sum of the K - 1 largest eigenvalues of P (A + multiplier) P, for a symmetric multiplier.

    ``norm`` bounds the Frobenius norm of the terms that make up the multiplier and ``size_of_form`` the sum of the
    absolute terms of the quadratic form q^T multiplier q = ``form``; both only enter the error.
    """
    xp = problem.backend.xp
    q = problem.direction
    rows = xp.sqrt(problem.weights)[:, None] * problem.points
    matrix = rows @ rows.T + multiplier
    size = problem.scatter + norm
    image = matrix @ q
    matrix = matrix - xp.expand_dims(image, axis=1) * q - xp.expand_dims(q, axis=1) * image
    matrix = matrix + float(q @ image) * (xp.expand_dims(q, axis=1) * q)
    count = problem.n_clusters - 1
    if count == 0:
        top = 0.0
    elif problem.backend.device is None:
        top = top_eigenvalue_sum(0.5 * (matrix + matrix.T), count)
    else:
        top = float(xp.sum(xp.linalg.eigvalsh(0.5 * (matrix + matrix.T))[-count:]))
    value = problem.scatter - form - top
    error = UNIT * (
        2 * max(count, 1) * EIGEN_ERROR * (problem.n + problem.p) * size + (FORM_ERROR + 2 * problem.n) * size_of_form
    )
    return less_drift(problem, LowerBound(value, error))


def less_drift(problem: KMeansProblem, bound: LowerBound) -> LowerBound:
    """Subtract q^T A q = |sum_i w_i x_i|^2 / sum_i w_i, with the error of an inner product of n terms."""
    xp = problem.backend.xp
    total = xp.sum(problem.weights)
    residue = problem.weights @ problem.points
    drift = float(xp.sum(residue * residue) / total)
    relative = UNIT * (problem.n + problem.p + 8)
    error = relative * (2.0 * math.sqrt(drift * problem.scatter) + relative * problem.scatter)
    # |sqrt(OPT) - sqrt(OPT of the exact rows)| <= blur, and OPT <= scatter.
    error += problem.blur * (2.0 * math.sqrt(problem.scatter) + problem.blur)
    return LowerBound(bound.value - drift, bound.error + error)
