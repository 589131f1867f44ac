"""Compiled kernels of k-means on a line; host arrays only. See :mod:`clustering._line`.

Sums over intervals are differences of prefix sums, whose digits cancel where groups are narrow and far out. So prefix sums
have two parts, high and low (``sums`` (n + 1, 6): weight, first and second moment, two columns each), and the last
subtraction is carried out with the remainders of product and quotient.
"""

from __future__ import annotations

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.jit import njit

__all__ = ["path_cost", "penalised_paths", "prefix_sums"]

# Veltkamp's constant: splits a double into halves of 26 bits, whose products are exact.
SPLITTER = 134217729.0


@njit()
def remainder_of_product(a: float, b: float, product: float) -> float:
    """a b - product, exactly."""
    t = SPLITTER * a
    a_high = t - (t - a)
    a_low = a - a_high
    t = SPLITTER * b
    b_high = t - (t - b)
    b_low = b - b_high
    return a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)


@njit()
def remainder_of_sum(a: float, b: float, total: float) -> float:
    """a + b - total, exactly."""
    rest = total - a
    return (a - (total - rest)) + (b - rest)


@njit()
def prefix_sums(points: FloatArray, weights: FloatArray, sums: FloatArray) -> None:
    """Sums of w, w x and w x^2 over the first i points, in two parts each, into ``sums``."""
    for column in range(6):
        sums[0, column] = 0.0
    for i in range(len(points)):
        term, low = weights[i], 0.0
        for moment in range(3):
            if moment > 0:
                product = term * points[i]
                low = low * points[i] + remainder_of_product(term, points[i], product)
                term = product
            high = sums[i, 2 * moment] + term
            rest = remainder_of_sum(sums[i, 2 * moment], term, high) + sums[i, 2 * moment + 1] + low
            total = high + rest
            sums[i + 1, 2 * moment] = total
            sums[i + 1, 2 * moment + 1] = rest - (total - high)


@njit()
def difference(sums: FloatArray, j: int, i: int, column: int) -> tuple[float, float]:
    """A sum over the points j, ..., i - 1 in two parts that do not overlap."""
    high = sums[i, column] - sums[j, column]
    low = remainder_of_sum(sums[i, column], -sums[j, column], high) + (sums[i, column + 1] - sums[j, column + 1])
    total = high + low
    return total, low - (total - high)


@njit()
def interval_cost(sums: FloatArray, j: int, i: int) -> float:
    """Cost of the points j, ..., i - 1 as one cluster: second moment less the squared first one over the weight."""
    weight, weight_low = difference(sums, j, i, 0)
    first, first_low = difference(sums, j, i, 2)
    second, second_low = difference(sums, j, i, 4)
    square = first * first
    square_low = remainder_of_product(first, first, square) + 2.0 * first * first_low
    ratio = square / weight
    back = ratio * weight
    rest = (square - back) - remainder_of_product(ratio, weight, back) + square_low - ratio * weight_low
    cost: float = max(0.0, (second - ratio) + (second_low - rest / weight))
    return cost


@njit()
def path_cost(sums: FloatArray, path: IntArray) -> float:
    """Cost of the intervals between consecutive cuts."""
    total = 0.0
    for k in range(len(path) - 1):
        total += interval_cost(sums, path[k], path[k + 1])
    return total


@njit()
def penalised_paths(
    sums: FloatArray, penalty: float, values: FloatArray, before: IntArray, candidate: IntArray, since: IntArray
) -> None:
    """values_i = min over j < i of values_j + cost(j, i) + penalty, and the j that attains it, into ``before``.

    Of two candidates j < j' the later one is better from some i on and stays better. ``candidate`` holds those that are best
    somewhere, in order, and ``since`` where each begins to be.
    """
    n = len(values) - 1
    values[0], before[0] = 0.0, -1
    candidate[0], since[0] = 0, 1
    head, tail = 0, 1
    for i in range(1, n + 1):
        while head + 1 < tail and since[head + 1] <= i:
            head += 1
        j = candidate[head]
        values[i] = values[j] + interval_cost(sums, j, i) + penalty
        before[i] = j
        if i == n:
            return
        last = candidate[tail - 1]
        if values[i] + interval_cost(sums, i, n) >= values[last] + interval_cost(sums, last, n):
            continue
        while tail - 1 > head and since[tail - 1] > i:
            last, at = candidate[tail - 1], since[tail - 1]
            if values[i] + interval_cost(sums, i, at) >= values[last] + interval_cost(sums, last, at):
                break
            tail -= 1
        last = candidate[tail - 1]
        # The new candidate is better at n and not at the start of the last one, unless that start has passed.
        worse, better = max(since[tail - 1], i), n
        while better - worse > 1:
            middle = (worse + better) // 2
            if values[i] + interval_cost(sums, i, middle) < values[last] + interval_cost(sums, last, middle):
                better = middle
            else:
                worse = middle
        candidate[tail], since[tail] = i, better
        tail += 1
