"""Shared linear algebra with error bounds: orthogonal triangularisation of tall matrices, sums of eigenvalues.

``UNIT`` is the unit roundoff of float64. Bounds on backward errors follow Higham, *Accuracy and Stability of Numerical
Algorithms*, 2nd ed. (2002), chapters 3 and 19.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import ModuleType

import numpy as np
import scipy.linalg

from solvers._core.arrays import Array, FloatArray, host_namespace

__all__ = ["UNIT", "r_factor", "row_chunks", "simplex_threshold", "tall_r_factor", "top_eigenvalue_sum"]

UNIT = 2.0**-53

# Rows triangularised at a time: tall enough for BLAS-3, short enough for a small backward error.
CHUNK_ROWS = 1024


def r_factor(xp: ModuleType, matrix: Array) -> Array:
    """R of a QR factorisation, without Q where the library can leave it out."""
    if xp is host_namespace:
        return np.linalg.qr(matrix, mode="r")
    return xp.linalg.qr(matrix).R


def row_chunks(matrix: Array) -> Iterator[Array]:
    """Consecutive blocks of at most ``CHUNK_ROWS`` rows."""
    for start in range(0, matrix.shape[0], CHUNK_ROWS):
        yield matrix[start : min(start + CHUNK_ROWS, matrix.shape[0]), :]


def tall_r_factor(xp: ModuleType, blocks: Iterable[Array]) -> tuple[Array, int]:
    """R of the QR factorisation of stacked blocks of rows, and the number of rows behind its backward error.

    Blocks are gathered to about ``CHUNK_ROWS`` rows, triangularised, and their factors merged in the same way, level by
    level, as in a communication-avoiding tree. Column j of the result is exact for a matrix whose column j is perturbed by
    at most ``rows * columns * UNIT`` times its norm, ``rows`` being the second value returned: the heights of the
    factorisations that a row passes through, summed.
    """
    factors, height = _factor_once(xp, blocks)
    total = height
    while len(factors) > 1:
        factors, height = _factor_once(xp, factors)
        total += height
    return factors[0], total


def _factor_once(xp: ModuleType, blocks: Iterable[Array]) -> tuple[list[Array], int]:
    """Triangular factors of groups of blocks (two blocks a group at least), and the height of the tallest group."""
    factors: list[Array] = []
    group: list[Array] = []
    rows = tallest = 0

    def close() -> None:
        nonlocal rows, tallest
        stacked = xp.concat(group, axis=0) if len(group) > 1 else group[0]
        factors.append(r_factor(xp, stacked))
        tallest = max(tallest, stacked.shape[0])
        group.clear()
        rows = 0

    for block in blocks:
        if group and len(group) > 1 and rows + block.shape[0] > CHUNK_ROWS:
            close()
        group.append(block)
        rows += block.shape[0]
    close()
    return factors, tallest


def top_eigenvalue_sum(matrix: FloatArray, count: int) -> float:
    """Sum of the ``count`` largest eigenvalues of a symmetric matrix, by full tridiagonalisation.

    Backward stable: exact for a matrix within ``10 n UNIT`` of the given one in spectral norm. No iterative method
    is used here, because Ritz values lie below the eigenvalues and a bound made from them would not hold.
    """
    n = matrix.shape[0]
    count = min(count, n)
    if count <= 0:
        return 0.0
    values = scipy.linalg.eigvalsh(matrix, subset_by_index=(n - count, n - 1), check_finite=False)
    return float(np.sum(values))


def simplex_threshold(values: FloatArray, total: float) -> float:
    """The theta with ``sum(max(values - theta, 0)) == total`` (projection on a scaled simplex)."""
    descending = np.sort(values)[::-1]
    excess = (np.cumsum(descending) - total) / np.arange(1, len(values) + 1)
    active = int(np.flatnonzero(descending > excess)[-1])
    return float(excess[active])
