r"""A spanning forest that proves a sparse quadratic positive definite, and bounds its inverse, in linear time.

Write s_i = Q_ii - sum_j |Q_ij| for the slack of a row. If no slack is negative and every tree of a forest T of edges of Q
contains a row of positive slack, then

    z^T Q z  =  sum_{i<j} |Q_ij| (z_i + sgn(Q_ij) z_j)^2 + sum_i s_i z_i^2  >=  z^T Q_T z,                    (1)

where Q_T keeps the edges of T and all slacks. Hence v^T Q^{-1} v <= v^T Q_T^{-1} v, which leaf elimination computes by one pass
over the trees: with D_i = s_i + |Q_ip| (p the parent of i), leaves first,

    s_p += |Q_ip| s_i / D_i,    v_p -= Q_ip v_i / D_i,    v^T Q_T^{-1} v = sum_i v_i^2 / D_i.                  (2)

No slack is ever subtracted, so that pivots have small relative errors (as in Grassmann, Taksar and Heyman 1985). Rounding may
leave a slack that is zero as a tiny negative number -d_i; with h = Q_T^{-1} d, componentwise and over |Q_T|, and tau >= max h,
diag(d) <= tau Q_T (the Z-matrix Q_T - diag(d)/tau maps h > 0 to a non-negative vector), so (1) holds with the factor 1 - tau.

Errors are running bounds, computed along with the values. Proofs only: no iteration uses this module.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.jit import njit
from solvers._core.linalg import UNIT
from solvers.bcd._quadratic import compressed

__all__ = ["SpanningForest", "spanning_forest"]

# Slacks more negative than rounding explains are no proof; below this tau the factor 1 / (1 - tau) is at most two.
LARGEST_TAU = 0.5
# Relative errors up to here keep computed responses within a factor of two.
LARGEST_RELATIVE_ERROR = 0.05
# Running errors are themselves computed with rounding.
MARGIN = 1.01
# The spacing of subnormal numbers.
SUBNORMAL = 2.0**-1074


@dataclass(frozen=True)
class SpanningForest:
    """The elimination (2) of a forest that has been checked.

    Attributes
    ----------
    order, parents : (n,) int64
        Leaves first; the parent of each node or -1.
    ratio, ratio_error : (n,) float64
        -Q_ip / D_i and a bound on its error.
    pivot : (n,) float64
        D_i, rounded down.
    factor : float
        1 / (1 - tau).
    """

    order: IntArray
    parents: IntArray
    ratio: FloatArray
    ratio_error: FloatArray
    pivot: FloatArray
    factor: float

    def charge(self, v: FloatArray, error: FloatArray) -> tuple[float, float]:
        """At least v^T Q^{-1} v / 2 for every vector within ``error`` of v, and how much of it is due to ``error``."""
        n = len(self.order)
        arrays = (self.order, self.parents, self.ratio, self.ratio_error, self.pivot)
        most, plain = _charge(*arrays, v.copy(), error.copy())
        most *= 0.5 * self.factor * (1 + 4 * UNIT * (n + 8))
        return most, max(most - 0.5 * self.factor * plain, 0.0)


def spanning_forest(graph: scipy.sparse.csr_array, parents: IntArray) -> SpanningForest | None:
    """Check a forest of edges of a symmetric matrix; None where it proves nothing."""
    n = graph.shape[0]
    if parents.shape != (n,) or parents.dtype != np.int64:
        return None
    order = np.empty(n, dtype=np.int64)
    ratio, ratio_error, pivot, slack, deficit = (np.empty(n) for _ in range(5))
    if not _factor(*compressed(graph), parents, order, ratio, ratio_error, pivot, slack, deficit):
        return None
    tau = 2.0 * _largest_response(order, parents, ratio, ratio_error, pivot, deficit)
    if not tau <= LARGEST_TAU:
        return None
    return SpanningForest(order, parents, ratio, ratio_error, pivot, 1.0 / (1.0 - tau) * (1 + 4 * UNIT))


@njit()
def _factor(
    data: FloatArray,
    indices: IntArray,
    indptr: IntArray,
    parents: IntArray,
    order: IntArray,
    ratio: FloatArray,
    ratio_error: FloatArray,
    pivot: FloatArray,
    slack: FloatArray,
    deficit: FloatArray,
) -> bool:
    """Slacks, elimination order and (2) with running errors; False where the forest is none or a pivot may vanish."""
    n = len(parents)
    children = np.zeros(n, dtype=np.int64)
    for i in range(n):
        p = parents[i]
        if p < -1 or p >= n or p == i:
            return False
        total = size = 0.0
        towards = 0.0
        for k in range(indptr[i], indptr[i + 1]):
            j = indices[k]
            if j == i:
                total += data[k]
                size += abs(data[k])
            else:
                total -= abs(data[k])
                size += abs(data[k])
                if j == p:
                    towards = data[k]
        if p >= 0:
            if towards == 0.0:
                return False
            children[p] += 1
        # Until its turn comes, a node's ratio holds the entry towards its parent.
        ratio[i] = towards
        doubt = (indptr[i + 1] - indptr[i] + 4) * UNIT * size
        slack[i] = max(total - doubt, 0.0)
        deficit[i] = max(doubt - total, 0.0)
        ratio_error[i] = 0.0
    tail = 0
    for i in range(n):
        if children[i] == 0:
            order[tail] = i
            tail += 1
    head = 0
    while head < tail:
        i = order[head]
        head += 1
        p = parents[i]
        weight = abs(ratio[i])
        # ratio_error holds the error of the slack until here.
        doubt = ratio_error[i]
        D = slack[i] + weight
        least = D - doubt - 2 * UNIT * D
        if not least > (1.0 - LARGEST_RELATIVE_ERROR) * D:
            return False
        pivot[i] = least
        if p < 0:
            ratio[i] = ratio_error[i] = 0.0
            continue
        part = weight / D
        passed = part * slack[i]
        slack[p] += passed
        # a s / (s + a) falls by a^2 d / ((s + a) (s + a - d)) where s falls by d.
        ratio_error[p] += part * (weight / least) * doubt + 6 * UNIT * passed + 2 * UNIT * slack[p] + 2 * SUBNORMAL
        ratio_error[i] = part * (doubt / least + 4 * UNIT)
        ratio[i] = -ratio[i] / D
        children[p] -= 1
        if children[p] == 0:
            order[tail] = p
            tail += 1
    return tail == n


@njit()
def _largest_response(
    order: IntArray,
    parents: IntArray,
    ratio: FloatArray,
    ratio_error: FloatArray,
    pivot: FloatArray,
    deficit: FloatArray,
) -> float:
    """max Q_T^{-1} d over |Q_T|, within a factor of two; inf where relative errors may be too large for that."""
    n = len(order)
    t = deficit.copy()
    doubt = np.zeros(n)
    for k in range(n):
        i = order[k]
        if parents[i] >= 0:
            t[parents[i]] += abs(ratio[i]) * t[i]
    largest = 0.0
    for k in range(n - 1, -1, -1):
        i = order[k]
        p = parents[i]
        t[i] /= pivot[i]
        if p >= 0:
            t[i] += abs(ratio[i]) * t[p]
            doubt[i] = doubt[p] + ratio_error[i] / abs(ratio[i]) + 8 * UNIT
            if doubt[i] > LARGEST_RELATIVE_ERROR:
                return np.inf
        largest = max(largest, t[i])
    return largest


@njit()
def _charge(
    order: IntArray,
    parents: IntArray,
    ratio: FloatArray,
    ratio_error: FloatArray,
    pivot: FloatArray,
    t: FloatArray,
    error: FloatArray,
) -> tuple[float, float]:
    """(2) with every entry enlarged by its running error, and without; overwrites t and error."""
    most = plain = 0.0
    for k in range(len(order)):
        i = order[k]
        p = parents[i]
        size = abs(t[i])
        doubt = error[i]
        # Squares of small entries would underflow before small pivots divide them.
        most += (size + MARGIN * doubt) * ((size + MARGIN * doubt) / pivot[i]) + 8 * SUBNORMAL
        plain += size * (size / pivot[i])
        if p >= 0:
            t[p] += ratio[i] * t[i]
            part = abs(ratio[i])
            error[p] += part * doubt + size * (ratio_error[i] + UNIT * part) + ratio_error[i] * doubt + UNIT * abs(t[p])
    return most, plain
