r"""The bound of column prices for problems whose cost matrix is never copied.

    L(v) = sum_i min_j (c_ij - v_j) + sum_j v_j  <=  cost of every cycle                                        (1)

as in :mod:`ranking._bounds`, from blocks of rows. A computed difference c_ij - v_j is the rounded true one, and rounding
keeps the order, so that each row's minimum is off by one rounding of itself; the sums are rounded once (``math.fsum``).
For factors, a score is a sum of d rounded products, and a block of them is a matrix product, whose sums may be taken in
any order: both are within d roundoffs of |U_i| |V_j|, by Cauchy's inequality at most |U_i| max_j |V_j| each.
"""

from __future__ import annotations

import math

import numpy as np

from ranking._bounds import LARGEST_SCORE, LARGEST_SUM
from ranking._factors import Factors
from ranking._problem import PathProblem
from solvers._core.arrays import FloatArray
from solvers._core.linalg import UNIT

__all__ = ["TINY", "factor_error", "streamed_bound"]

# Rows and columns of a block: as much as a processor's second cache holds.
ROWS, COLUMNS = 64, 2048
# Smallest positive double, which a product may lose by underflow, and the smallest normal one, above which none does.
TINY, LEAST_NORMAL = 2.0**-1074, 2.0**-1022


def streamed_bound(problem: PathProblem, prices: FloatArray, units: float) -> float:
    """(1) less its rounding error, once for 2 units of roundoff and twice for 4; -inf for data that allow no bound."""
    n, m = problem.n, problem.m
    if not np.abs(prices).max() <= LARGEST_SUM / m:
        return -math.inf
    scores, v = problem.scores, prices[:n]
    largest, error = factor_error(scores) if isinstance(scores, Factors) else (0.0, 0.0)
    lows = np.full(m, np.inf)
    if problem.depot:
        lows[slice(n) if problem.end < 0 else problem.end] = -prices[n]
        lows[n] = -v.max() if problem.start < 0 else -v[problem.start]
    room = np.empty((ROWS, COLUMNS))
    for first in range(0, n, ROWS):
        mine = lows[first : min(first + ROWS, n)]
        for left in range(0, n, COLUMNS):
            columns = slice(left, min(left + COLUMNS, n))
            block = room[: len(mine), : columns.stop - left]
            if isinstance(scores, Factors):
                np.matmul(problem.sign * scores.left[first : first + ROWS], scores.right[columns].T, out=block)
            else:
                np.multiply(scores[first : first + ROWS, columns], problem.sign, out=block)
            diagonal = np.arange(max(first, left), min(first + ROWS, left + COLUMNS, n))
            block[diagonal - first, diagonal - left] = np.inf
            if not isinstance(scores, Factors):
                largest = max(largest, float(np.max(np.abs(block), where=block < np.inf, initial=0.0)))
            block -= v[columns]
            np.minimum(mine, block.min(axis=1), out=mine)
    value = math.fsum(lows.tolist()) + math.fsum(prices.tolist())
    if math.isnan(value) or not largest <= LARGEST_SCORE:
        return -math.inf
    if value == math.inf:
        return value  # a row without arcs
    total = math.fsum(np.abs(lows).tolist()) + math.fsum(np.abs(prices).tolist())
    return value - 0.5 * units * (4.0 * UNIT * total + error)


def factor_error(factors: Factors) -> tuple[float, float]:
    """Largest modulus that a score may have, and the error of all row minima together."""
    n, d = factors.left.shape
    lengths, reach = row_lengths(factors.left), float(row_lengths(factors.right).max())
    # Norms are computed with a few roundoffs themselves, for which the factor stands.
    error = (2 * d + 4) * UNIT * 1.01 * (reach * math.fsum(lengths.tolist()))
    smallest = [float(np.min(np.abs(part), where=part != 0, initial=1.0)) for part in (factors.left, factors.right)]
    if smallest[0] * smallest[1] < 2 * LEAST_NORMAL:
        error += 4 * d * n * TINY
    return reach * float(lengths.max()), error


def row_lengths(points: FloatArray) -> FloatArray:
    """Euclidean norms, whose squares neither overflow nor vanish: each row is scaled by a power of two."""
    _, exponents = np.frexp(np.abs(points).max(axis=1))
    scaled = np.ldexp(points, -exponents[:, None])
    lengths: FloatArray = np.ldexp(np.sqrt((scaled * scaled).sum(axis=1)), exponents)
    return lengths
