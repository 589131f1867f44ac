r"""A proof that the least eigenvalue of a dense symmetric matrix exceeds a number, by one Cholesky factorisation.

If the factorisation of A = fl(Q - s I) runs to completion in floating point, then A + E = L L^T with

    |E|_2  <=  g / (1 - g) tr(A),      g = (n + 1) UNIT / (1 - (n + 1) UNIT),                                  (1)

whatever the order of the sums (Demmel 1989; Rump 2006, theorem 2.3), so that lambda_min(Q) >= s - |E|_2 - UNIT (max Q_ii + s),
the last term for the subtraction of s. Libraries may divide by pivots through their reciprocals, one rounding more; a factor of
four over (1) covers that and the rounding of the trace. Overflow and NaN end the factorisation.

With n = 10^4 equal diagonal entries d, what rounding takes is 5e-8 d: matrices conditioned worse than that are not proved.
Units of coordinates do not count: Q is balanced by powers of two first, which is exact but for underflow, far below the rest.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

from solvers._core.arrays import FloatArray
from solvers._core.linalg import UNIT

__all__ = ["balanced", "factor_shifted", "least_eigenvalue_exceeds", "rounding_of_factors"]

CAUTION = 4.0


def balanced(Q: FloatArray) -> tuple[FloatArray, FloatArray]:
    """D^{-1} Q D^{-1} and the diagonal of D, powers of two near the roots of that of Q, so that no entry is rounded."""
    diagonal = np.diagonal(Q)
    _, exponent = np.frexp(np.where(diagonal > 0, diagonal, 1.0))
    units = np.ldexp(1.0, exponent // 2)
    matrix = Q / units[:, None]
    matrix /= units
    return matrix, units


def rounding_of_factors(diagonal: FloatArray, shift: float = 0.0) -> float:
    """What lies between a shift that can be factorised and a proved eigenvalue."""
    n = len(diagonal)
    trace = float(np.sum(np.abs(diagonal))) + n * abs(shift)
    return CAUTION * (n + 3) * UNIT * trace + n * np.finfo(float).tiny


def factor_shifted(Q: FloatArray, shift: float) -> FloatArray | None:
    """The lower Cholesky factor of Q - shift I in a matrix of its own; None where a pivot is not positive."""
    matrix = np.array(Q, order="F")
    matrix[np.diag_indices_from(matrix)] -= shift
    try:
        factor, _ = scipy.linalg.cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError:
        return None
    pivots = np.diagonal(factor)
    return np.asarray(factor) if np.all(pivots > 0) and np.isfinite(pivots).all() else None


def least_eigenvalue_exceeds(Q: FloatArray, least: float) -> bool:
    """Whether lambda_min(Q) >= least > 0 is proved."""
    if not 0.0 < least < np.inf:
        return False
    diagonal = np.diagonal(Q)
    shift = least + rounding_of_factors(diagonal, 2.0 * least)
    return factor_shifted(Q, shift * (1.0 + 4.0 * UNIT)) is not None
