# mypy: disable-error-code="no-untyped-def, no-untyped-call"
r"""Weights of three-cycles by coordinate descent on a smoothed dual, for more items than linear programs take.

Each triple i < j < k has one signed weight y: that of the cycle i j k where positive, of the reverse where negative, as both
at once would waste. With d_ij = s_ij - s_ji less the weights of the cycles through ij and plus those through ji, the bound
of :mod:`ranking._precedence_bounds` is

    D(y)  =  (sum_{i<j} (s_ij + s_ji + |d_ij|) + sum |y|) / 2.

Descent along single weights gets stuck where |d| has its kinks, so that |d| gives way to 2 tau log(2 cosh(d / 2 tau)), the
temperature tau falling round by round. For a positive weight with arcs a, b, c, the best t = exp(-change / tau) then solves

    e_a e_b e_c t^3 - (e_a + e_b + e_c) t - 2 = 0,   e = exp(d / tau),

a cubic with one positive root. The relaxed precedences are 1 / (1 + exp(-d / tau)). A sweep takes O(n^3).

Reference: Nesterov, Smooth minimization of non-smooth functions, Math. Program. 103, 2005 (smoothing).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ranking._precedence_bounds import CycleCertificate
from solvers._core.arrays import FloatArray
from solvers._core.jit import njit

__all__ = ["ascend_cycles", "ascent_seconds"]

# First temperature as a part of the mean modulus of the differences, and its factor from round to round.
HOT, COOLING = 0.3, 0.6
# Sweeps in a round, fewer where as many would look at more triples than the second number.
SWEEPS, ROUND_WORK = 8, 6_000_000
# Weights below this part of the largest difference are left out of certificates.
NOTICEABLE = 1e-9
# Exponents beyond this are cut off, so that products of three exponentials do not overflow.
STEEP = 200.0


def ascend_cycles(scores: FloatArray) -> Iterator[tuple[CycleCertificate, FloatArray]]:
    """Rounds of the descent: a certificate, and for each item the expected number of items before it."""
    n = len(scores)
    difference = np.triu(scores - scores.T, 1)
    size = float(np.max(np.abs(difference)))
    if size == 0.0:
        return
    d = difference / size
    weights = np.zeros(n * (n - 1) * (n - 2) // 6)
    tau = HOT * 2.0 * float(np.sum(np.abs(d))) / (n * (n - 1))
    sweeps = _sweeps(len(weights))
    while True:
        for _ in range(sweeps):
            sweep(d, weights, tau)
        cycles, sizes = collected(weights, n, NOTICEABLE)
        likely = np.where(np.tri(n, dtype=bool), 0.0, 0.5 * (1.0 + np.tanh(0.5 * d / tau)))
        before = likely.sum(axis=0) + (np.arange(n)[::-1] - likely.sum(axis=1))
        yield CycleCertificate(cycles, size * sizes), before
        tau *= COOLING


def ascent_seconds(n: int) -> float:
    """What a round takes, roughly."""
    triples = n * (n - 1) * (n - 2) // 6
    return 1e-7 * triples * _sweeps(triples)


def _sweeps(triples: int) -> int:
    return max(1, min(SWEEPS, ROUND_WORK // max(1, triples)))


@njit()
def best_change(a, b, c, weight, tau):
    """The change of a weight >= 0 with differences a, b, c on its arcs that is best at temperature tau."""
    if weight == 0.0 and (a + b <= 0.0 or b + c <= 0.0 or a + c <= 0.0):
        return 0.0
    e = math.exp(max(-STEEP, min(STEEP, a / tau)))
    f = math.exp(max(-STEEP, min(STEEP, b / tau)))
    g = math.exp(max(-STEEP, min(STEEP, c / tau)))
    product, total = e * f * g, e + f + g
    # Right of the root, where the cubic is convex and Newton's steps descend to it.
    t = math.sqrt(total / product) + (2.0 / product) ** (1.0 / 3.0)
    for _ in range(20):
        step = (product * t * t * t - total * t - 2.0) / (3.0 * product * t * t - total)
        t -= step
        if step <= 1e-6 * t:
            break
    return max(-weight, -tau * math.log(t))


@njit()
def sweep(d, weights, tau):
    """Every weight once."""
    n = len(d)
    at = 0
    for i in range(n):
        for j in range(i + 1, n):
            for k in range(j + 1, n):
                a, b, c = d[i, j], d[j, k], -d[i, k]
                weight = weights[at]
                change = best_change(a, b, c, weight, tau) if weight >= 0.0 else 0.0
                if weight + change <= 0.0:
                    # The reverse cycle, after what the first has given back.
                    change -= best_change(change - a, change - b, change - c, -min(weight, 0.0), tau)
                if change != 0.0:
                    weights[at] = weight + change
                    d[i, j] -= change
                    d[j, k] -= change
                    d[i, k] += change
                at += 1


@njit()
def collected(weights, n, least):
    """The cycles of noticeable weight, as items and moduli."""
    count = 0
    for at in range(len(weights)):
        count += abs(weights[at]) > least
    cycles, sizes = np.empty((count, 3), np.int64), np.empty(count)
    at, count = 0, 0
    for i in range(n):
        for j in range(i + 1, n):
            for k in range(j + 1, n):
                if abs(weights[at]) > least:
                    cycles[count, 0] = i
                    cycles[count, 1], cycles[count, 2] = (j, k) if weights[at] > 0.0 else (k, j)
                    sizes[count] = abs(weights[at])
                    count += 1
                at += 1
    return cycles, sizes
