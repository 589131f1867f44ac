r"""Rigorous upper bounds on the precedence score of every order.

With x_ij = 1 where i comes before j, x_ij + x_ji = 1 and every order breaks each cycle C of three arcs: x(C) <= 2.
Weights y_C >= 0 on cycles therefore prove

    sum_ij s_ij x_ij  <=  2 sum_C y_C + sum_{i<j} max(s_ij - y_ij, s_ji - y_ji),   y_ij = sum of y_C over C through ij,

for every order. Without cycles this is the sum over the better direction of every pair; the best weights give the value
of the linear relaxation with all three-cycle inequalities (Reinelt).

The published bound is raised by twice its rounding error and the verifier's by the error once, so that a correct
recomputation always re-establishes the claim. Nothing here is used by the search.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.linalg import UNIT

__all__ = [
    "LARGEST_PRECEDENCE",
    "PUBLISH",
    "VERIFY",
    "CycleCertificate",
    "cycles_are_sound",
    "linear_bound",
    "precedence_value",
]

# Multiples of the rounding error by which bounds are raised, see above.
PUBLISH = 2.0
VERIFY = 1.0
# Scores up to the first modulus, of at most 2**20 items, and weights whose sum stays below the second make no sum overflow.
LARGEST_PRECEDENCE = 2.0**970
LARGEST_SUM = 2.0**1010


@dataclass(frozen=True)
class CycleCertificate:
    """Weights on cycles of three arcs.

    Attributes
    ----------
    cycles : (K, 3) int64
        Items i, j, k of the arcs i to j, j to k, k to i.
    weights : (K,) float64
        Non-negative.
    """

    cycles: IntArray
    weights: FloatArray
    kind: Literal["cycles"] = "cycles"


CycleCertificate.__module__ = "ranking"


def linear_bound(scores: FloatArray, certificate: CycleCertificate, errors: float) -> float:
    """The bound that a sound certificate proves, raised by ``errors`` times its rounding error."""
    n = len(scores)
    if certificate.weights.size and not certificate.weights.max() <= LARGEST_SUM / (8 * len(certificate.weights)):
        return math.inf
    through = np.zeros((n, n))
    i, j, k = certificate.cycles.T
    for tail, head in ((i, j), (j, k), (k, i)):
        np.add.at(through, (tail, head), certificate.weights)
    rest = scores - through
    pairs = np.maximum(rest, rest.T)[np.triu_indices(n, 1)]
    weight = float(np.sum(certificate.weights))
    # Sums of n^2 / 2 pairs and of K weights, each entry with up to K additions before it.
    terms = 0.5 * n * n + 4 * len(certificate.weights) + 8
    total = float(np.sum(np.abs(pairs))) + float(np.sum(np.abs(scores))) + 8.0 * weight
    return 2.0 * weight + float(np.sum(pairs)) + errors * 2.0 * UNIT * terms * total


def cycles_are_sound(certificate: object, n: int) -> bool:
    """Whether a certificate holds non-negative weights on cycles of three different items."""
    if not isinstance(certificate, CycleCertificate):
        return False
    cycles, weights = certificate.cycles, certificate.weights
    if not (type(cycles) is np.ndarray and type(weights) is np.ndarray and cycles.dtype == np.int64):
        return False
    if weights.dtype != np.float64 or weights.ndim != 1 or cycles.shape != (len(weights), 3):
        return False
    if not len(weights):
        return True
    i, j, k = cycles.T
    return bool(
        cycles.min() >= 0
        and cycles.max() < n
        and ((i != j) & (j != k) & (k != i)).all()
        and np.isfinite(weights).all()
        and weights.min() >= 0
    )


def precedence_value(scores: FloatArray, order: IntArray) -> tuple[float, float]:
    """Sum of the scores of i before j, rounded once per row, and a bound on its rounding error."""
    n = len(order)
    before = np.triu(scores[np.ix_(order, order)], 1)
    value = math.fsum(before.ravel().tolist()) if n <= 64 else math.fsum(np.sum(before, axis=1).tolist())
    return value, 2.0 * UNIT * (n + 2) * float(np.sum(np.abs(before)))
