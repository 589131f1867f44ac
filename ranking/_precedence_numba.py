# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""Compiled kernels for precedence scores: insertion search, packing of three-cycles, distance profiles."""

from __future__ import annotations

import numpy as np

from solvers._core.jit import njit

__all__ = ["adjacency_fit", "insertion_search", "pack_cycles", "perturbed_search", "precedence_fit"]

MOST_SWEEPS = 1000
NOTICEABLE = 1e-12


@njit()
def insertion_search(s, order):
    """Move single items to their best places until no move helps; changes ``order``, returns the value of the order."""
    n = len(order)
    largest = np.max(np.abs(s))
    for _ in range(MOST_SWEEPS):
        improved = False
        for position in range(n):
            item = order[position]
            best, to = NOTICEABLE * largest, position
            gain = 0.0
            for k in range(position - 1, -1, -1):
                gain += s[item, order[k]] - s[order[k], item]
                if gain > best:
                    best, to = gain, k
            gain = 0.0
            for k in range(position + 1, n):
                gain += s[order[k], item] - s[item, order[k]]
                if gain > best:
                    best, to = gain, k
            relocate(order, position, to)
            improved = improved or to != position
        if not improved:
            break
    return total_before(s, order)


@njit()
def perturbed_search(s, order, moves):
    """Iterated local search: move a few items at random, improve, keep what is no worse; changes ``order``.

    Each row of ``moves`` (kicks, 2 a) names places from and to which items move.
    """
    best = total_before(s, order)
    trial = order.copy()
    for kick in range(moves.shape[0]):
        trial[:] = order
        for a in range(0, moves.shape[1], 2):
            relocate(trial, moves[kick, a], moves[kick, a + 1])
        value = insertion_search(s, trial)
        if value >= best:
            best = value
            order[:] = trial
    return best


@njit()
def relocate(order, place, to):
    """Move the item at one place to another; those between close up."""
    item = order[place]
    if to < place:
        for k in range(place, to, -1):
            order[k] = order[k - 1]
    else:
        for k in range(place, to):
            order[k] = order[k + 1]
    order[to] = item


@njit()
def total_before(s, order):
    """Sum of the scores of i before j."""
    total = 0.0
    for i in range(len(order)):
        for j in range(i + 1, len(order)):
            total += s[order[i], order[j]]
    return total


@njit()
def pack_cycles(s):
    """Greedy packing of three-cycles of preferred arcs: cycles (K, 3) and their weights.

    Each cycle uses up an arc, so there are no more of them than pairs.
    """
    n = s.shape[0]
    w = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            w[i, j] = max(0.0, s[i, j] - s[j, i]) if i != j else 0.0
    cycles = np.empty((n * (n - 1) // 2, 3), np.int64)
    weights = np.empty(len(cycles))
    count = 0
    for i in range(n):
        for j in range(n):
            for k in range(n):
                if w[i, j] <= 0.0:
                    break
                if w[j, k] > 0.0 and w[k, i] > 0.0:
                    weight = min(w[i, j], w[j, k], w[k, i])
                    w[i, j] -= weight
                    w[j, k] -= weight
                    w[k, i] -= weight
                    cycles[count] = i, j, k
                    weights[count] = weight
                    count += 1
    return cycles[:count].copy(), weights[:count].copy()


@njit()
def largest_score(s):
    """Largest modulus off the diagonal."""
    n = s.shape[0]
    largest = 0.0
    for i in range(n):
        for j in range(n):
            largest = max(largest, abs(s[i, j]) if i != j else 0.0)
    return largest


# No order of summation is kept in the sums of rows, so that the processor adds several numbers at once.
@njit(fastmath={"reassoc", "nsz"})
def add_row(row, i, largest, entering):
    """Add a row of scores, in units of the largest, to the column sums; returns its sum."""
    total = 0.0
    for j in range(len(row)):
        value = row[j] / largest if j != i else 0.0
        entering[j] += value
        total += value
    return total


@njit(fastmath={"reassoc", "nsz"})
def row_moments(row, i, largest, mean, place):
    """Squares of the centred scores of a row, and their sum with the sign of the rank distance."""
    squares, step = 0.0, 0.0
    own = place[i]
    for j in range(len(row)):
        value = row[j] / largest - mean if j != i else 0.0
        squares += value * value
        step += value if place[j] > own else -value
    return squares, step


@njit()
def precedence_fit(s):
    """Share of variance explained by the signed rank distance along the Borda order, as a slope or as a step at 0."""
    n = s.shape[0]
    largest = largest_score(s)
    if largest == 0.0 or largest == np.inf:
        return 0.0
    entering, leaving = np.zeros(n), np.empty(n)
    mean = 0.0
    for i in range(n):
        leaving[i] = add_row(s[i], i, largest, entering)
        mean += leaving[i]
    mean /= n * (n - 1)
    excess = entering - leaving
    place = np.empty(n)
    order = np.argsort(excess)
    slope = 0.0
    for a in range(n):
        place[order[a]] = a
        slope += a * excess[order[a]]
    squares, step = 0.0, 0.0
    for i in range(n):
        more_squares, more_step = row_moments(s[i], i, largest, mean, place)
        squares += more_squares
        step += more_step
    if squares <= 1e-24 * n * n:
        return 0.0
    distances = n * n * (n * n - 1) / 6
    return max(slope * slope / distances, step * step / (n * (n - 1))) / squares


@njit()
def adjacency_fit(s, order):
    """Adjusted share of variance explained by the rank distance along an order; distances beyond n/2 count as one.

    Wide bins only, because a single huge score would explain itself in a bin of its own.
    """
    n = s.shape[0]
    largest = largest_score(s)
    if largest == 0.0 or largest == np.inf:
        return 0.0
    half = n // 2
    bins = 2 * half + 3
    sums = np.zeros(bins)
    widths = np.zeros(bins)
    cells = n * (n - 1)
    total, squares = 0.0, 0.0
    for a in range(n):
        for b in range(n):
            if a != b:
                value = s[order[a], order[b]] / largest
                k = max(-half - 1, min(half + 1, b - a)) + half + 1
                sums[k] += value
                widths[k] += 1.0
                total += value
    mean = total / cells
    for a in range(n):
        for b in range(n):
            if a != b:
                squares += (s[order[a], order[b]] / largest - mean) ** 2
    if squares <= 1e-24 * cells:
        return 0.0
    explained = 0.0
    for k in range(bins):
        if widths[k] > 0.0:
            explained += widths[k] * (sums[k] / widths[k] - mean) ** 2
    free = cells - 2 * half - 2
    return 1.0 - (1.0 - explained / squares) * (cells - 1) / free
