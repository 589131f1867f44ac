r"""What potentials prove of k-means on a line.

Give every row to the nearest centre of an optimal clustering, to the lower of two: the cost does not rise, and the rows of
each cluster are an interval that keeps equal rows together. So with w(j, i) the cost of the distinct values j + 1, ..., i
as one cluster,

    OPT >= min over m <= K and 0 = c_0 < c_1 < ... < c_m = n of sum_k w(c_{k-1}, c_k).

For **every** phi_0 = 0, phi_1, ..., phi_n >= 0 and lambda >= 0 with

    phi_i <= phi_j + w(j, i) + lambda          for all j < i,

a path of m <= K intervals satisfies phi_n <= sum_k (w(c_{k-1}, c_k) + lambda), hence OPT >= phi_n - K lambda.

The smallest lambda asks for the least entry g_i of each row i of G(i, j) = phi_j + w(j, i), j < i. G is a Monge array,
because w is, so the position of the least entry may be taken never to move left from row to row, and divide and conquer
finds all of them in O(n log n): the middle row first, then the rows above it left of that position and those below it
right of it.

*Rounding.* An entry is computed with a relative error of 4 u and an absolute one E. So the entry taken in the middle row
exceeds the least one in reach by some s <= 8 u (entry) + 3 E at most, and by (Monge) leaving out the columns on either
side raises the least entry of another row by no more than s. After d levels g_i is at most d s too large. Prefix
sums and costs are evaluated in double-word arithmetic, whose operations err by less than 2^-102 relatively (Joldes, Muller and
Popescu 2017); with R = max |x| and W the total weight, E = 8 (N + 16) 2^-102 W R^2 for N rows covers the prefix sums,
and an interval of so small a weight that its sums are lost, which counts as cost 0. The rows are rounded in being centred,
by b = 3 u sqrt(T) in their weighted norm, which changes the square root of no clustering's cost by more than that.

Nothing here is used by the search for phi.
"""

from __future__ import annotations

import math

import numpy as np

from clustering._ky_fan import LowerBound
from clustering._problem import KMeansProblem
from clustering._result import LineCertificate
from solvers._core.arrays import FloatArray
from solvers._core.jit import njit
from solvers._core.linalg import UNIT

__all__ = ["is_sound_line", "line_bound"]

# Relative error of an operation in double-word arithmetic, with room to spare.
DOUBLE_WORD = 2.0**-102
SPLITTER = 134217729.0
# Potentials beyond are refused: their sums overflow.
LARGEST_POTENTIAL = 1e150


def line_bound(problem: KMeansProblem, certificate: LineCertificate) -> LowerBound:
    """The bound of the potentials, from the data. O(n log n) time, O(n) memory."""
    order = np.argsort(problem.host_points[:, 0], kind="stable")
    points, weights = problem.host_points[order, 0], problem.host_weights[order]
    potentials = np.asarray(certificate.potentials, dtype=np.float64)
    n_clusters = problem.n_clusters
    ends = np.flatnonzero(np.append(points[1:] != points[:-1], True)) + 1
    sums = double_word_sums(points, weights)[np.append(0, ends)]
    n, rows = len(ends), len(points)
    if len(potentials) != n + 1:
        return LowerBound(0.0, 0.0)
    total, reach = float(sums[n, 0]), float(np.max(np.abs(points)))
    lost = (rows + 16) * DOUBLE_WORD
    absolute = 8.0 * lost * total * reach * reach
    least, largest = least_entries(sums, potentials, 2.0 * lost * total)
    price = max(0.0, float(np.max(potentials[1:] - least)))
    value = float(potentials[n]) - n_clusters * price
    levels = n.bit_length() + 1
    entry = levels * (8.0 * UNIT * largest + 3.0 * absolute)
    size = float(np.max(potentials)) + price
    error = n_clusters * (entry + 8.0 * UNIT * size)
    blur = problem.blur + 3.0 * UNIT * math.sqrt(problem.scatter)
    error += 2.0 * blur * math.sqrt(max(value, 0.0)) + blur * blur
    return LowerBound(value, error)


def is_sound_line(problem: KMeansProblem, certificate: LineCertificate) -> bool:
    """Whether a certificate from outside has the shapes and values that the evaluation relies on."""
    potentials = np.asarray(certificate.potentials)
    if problem.p != 1 or potentials.ndim != 1 or potentials.dtype != np.float64:
        return False
    return bool(
        1 < len(potentials) <= problem.n + 1
        and potentials[0] == 0.0
        and ((potentials >= 0.0) & (potentials < LARGEST_POTENTIAL)).all()
    )


@njit()
def add(a: float, a_low: float, b: float, b_low: float) -> tuple[float, float]:
    """Sum of two double words."""
    high = a + b
    part = high - a
    low = (a - (high - part)) + (b - part)
    tail = a_low + b_low
    part = tail - a_low
    rest = (a_low - (tail - part)) + (b_low - part)
    low += tail
    middle = high + low
    low = rest + (low - (middle - high))
    high = middle + low
    return high, low - (high - middle)


@njit()
def multiply(a: float, a_low: float, b: float, b_low: float) -> tuple[float, float]:
    """Product of two double words."""
    product = a * b
    t = SPLITTER * a
    a_1 = t - (t - a)
    a_2 = a - a_1
    t = SPLITTER * b
    b_1 = t - (t - b)
    b_2 = b - b_1
    low = a_2 * b_2 - (((product - a_1 * b_1) - a_2 * b_1) - a_1 * b_2)
    low += a * b_low + a_low * b
    high = product + low
    return high, low - (high - product)


@njit()
def divide(a: float, a_low: float, b: float, b_low: float) -> tuple[float, float]:
    """Quotient of two double words: a first quotient, and that of its remainder."""
    first = a / b
    high, low = multiply(first, 0.0, b, b_low)
    rest, _ = add(a, a_low, -high, -low)
    second = rest / b
    total = first + second
    return total, second - (total - first)


@njit()
def double_word_sums(points: FloatArray, weights: FloatArray) -> FloatArray:
    """Sums of w, w x and w x^2 over the first i rows as double words, (N + 1, 6)."""
    sums = np.zeros((len(points) + 1, 6))
    for i in range(len(points)):
        x, w = points[i], weights[i]
        first, first_low = multiply(w, 0.0, x, 0.0)
        second, second_low = multiply(first, first_low, x, 0.0)
        sums[i + 1, 0], sums[i + 1, 1] = add(sums[i, 0], sums[i, 1], w, 0.0)
        sums[i + 1, 2], sums[i + 1, 3] = add(sums[i, 2], sums[i, 3], first, first_low)
        sums[i + 1, 4], sums[i + 1, 5] = add(sums[i, 4], sums[i, 5], second, second_low)
    return sums


@njit()
def cost(sums: FloatArray, j: int, i: int, weightless: float) -> float:
    """w(j, i); 0 for a weight up to ``weightless``."""
    weight, weight_low = add(sums[i, 0], sums[i, 1], -sums[j, 0], -sums[j, 1])
    if weight <= weightless:
        return 0.0
    first, first_low = add(sums[i, 2], sums[i, 3], -sums[j, 2], -sums[j, 3])
    second, second_low = add(sums[i, 4], sums[i, 5], -sums[j, 4], -sums[j, 5])
    square, square_low = multiply(first, first_low, first, first_low)
    part, part_low = divide(square, square_low, weight, weight_low)
    value, _ = add(second, second_low, -part, -part_low)
    return max(value, 0.0)


@njit()
def least_entries(sums: FloatArray, potentials: FloatArray, weightless: float) -> tuple[FloatArray, float]:
    """Least entry of each row i = 1, ..., n of G by divide and conquer, and the largest of them."""
    n = len(potentials) - 1
    least = np.empty(n)
    largest = 0.0
    waiting = np.empty((128, 4), dtype=np.int64)
    waiting[0, 0], waiting[0, 1], waiting[0, 2], waiting[0, 3] = 1, n, 0, n - 1
    count = 1
    while count > 0:
        count -= 1
        top, bottom, left, right = waiting[count, 0], waiting[count, 1], waiting[count, 2], waiting[count, 3]
        middle = (top + bottom) // 2
        best, at = np.inf, left
        for j in range(left, min(right, middle - 1) + 1):
            entry = potentials[j] + cost(sums, j, middle, weightless)
            if entry < best:
                best, at = entry, j
        least[middle - 1] = best
        largest = max(largest, best)
        if top < middle:
            waiting[count, 0], waiting[count, 1], waiting[count, 2], waiting[count, 3] = top, middle - 1, left, at
            count += 1
        if middle < bottom:
            waiting[count, 0], waiting[count, 1], waiting[count, 2], waiting[count, 3] = middle + 1, bottom, at, right
            count += 1
    return least, largest
