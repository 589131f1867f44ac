r"""Rigorous bounds on both sides: what no online policy exceeds, and what a policy given by its rates attains.

*Above.* For **every** lambda >= 0, with prices lambda_tk on the types and an optimal-stopping recursion per node,

    v_i(T) = 0,   v_i(t) = v_i(t + 1) + sum_k p_tk max(0, w_tki - lambda_tk - v_i(t + 1)),
    D(lambda) = sum_tk p_tk lambda_tk + sum_i b_i v_i(0)  >=  LP of the online optimum  >=  OPT_on.            (1)

*Below.* For **every** r in [0, 1] per edge, the policy with pivotal proposals and top-up discards has free nodes with
marginals y_i(t + 1) = y_i(t) (1 - sum_k p_tk r_tki) that are, given any past, removed in a negatively associated way.
Comparison with independent coins (Shao 2000) and the prefix property of ordered pivotal sampling give its value at
least

    C(r) = sum_tk p_tk sum_j (w_j - w_{j+1}) E min(1, X_j),   X_j = sum_{i <= j} r_i B_i,  B_i ~ Bernoulli(y_i)
    independent,   (2)

nodes of each type in order of decreasing weight. The law of X_j is kept on the grid {0, 1/G, ..., 1}, each r_i split
between its grid neighbours with the same mean: larger in convex order, so (2) on the grid is still a lower bound. With
independent proposals in place of pivotal ones, E min(1, X_j) becomes 1 - prod_{i <= j} (1 - r_i y_i).

Each function returns a value and a bound on its rounding error. A published claim is worse by twice the error,
verification allows for it once, so that every correct recomputation re-establishes the claim. Nothing here is used by
the iterations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from matching._instance import BayesianMatching, Edges
from solvers._core.arrays import FloatArray, IntArray
from solvers._core.jit import njit
from solvers._core.linalg import UNIT

__all__ = ["Enclosure", "dual_bound", "independent_value", "pivotal_value"]

# Products of subnormal numbers lose up to this much each.
SMALLEST = 2.0**-1074


@dataclass(frozen=True)
class Enclosure:
    """A number computed in floating point and a bound on its error."""

    value: float
    error: float

    @property
    def published_above(self) -> float:
        """What a result claims as an upper bound."""
        return self.value + 2.0 * self.error

    @property
    def published_below(self) -> float:
        """What a result claims as a lower bound; values are non-negative."""
        return max(0.0, self.value - 2.0 * self.error)


def dual_bound(instance: BayesianMatching, prices: FloatArray) -> Enclosure:
    """D(lambda) of (1) for prices (T, K) >= 0. O(edges) time.

    The step v -> v + sum p max(0, w - lambda - v) has slopes in [0, 1], so local errors only add up. A step rounds by
    at most 4 p w (the differences are at most w where they count) and v once per addition.
    """
    p = instance.probabilities.ravel()
    flat = np.ascontiguousarray(prices, dtype=np.float64).ravel()
    edges, copies = instance.edges, instance.copies
    v, degree, weighted = _stopping_values(
        edges.start, edges.node, edges.weight, p, flat, instance.n_types, instance.n_nodes
    )
    if not np.any(p[np.diff(instance.units[0].start) > 0] > 0):
        return Enclosure(0.0, 0.0)
    paid = p * flat
    value = math.fsum(paid) + math.fsum(copies * v)
    rounding = 4.0 * float(np.sum(paid)) + float(np.sum(copies * (4.0 * (degree + 2.0) * v + 8.0 * weighted)))
    subnormal = SMALLEST * (len(p) + 4.0 * float(np.sum(copies * (degree + 1.0))))
    return Enclosure(value, 2.0 * UNIT * rounding + subnormal)


def pivotal_value(instance: BayesianMatching, rates: FloatArray, grid: int) -> Enclosure:
    """C(r) of (2) for one rate in [0, 1] per edge of ``instance.units``. O(edges x grid) time.

    ``grid`` is a power of two, so that splitting a rate is exact.
    """
    return _proved(instance, rates, grid)


def independent_value(instance: BayesianMatching, rates: FloatArray) -> Enclosure:
    """(2) with 1 - prod(1 - r_i y_i): what independent proposals attain."""
    return _proved(instance, rates, 0)


def _proved(instance: BayesianMatching, rates: FloatArray, grid: int) -> Enclosure:
    edges, _ = instance.units
    p = instance.probabilities.ravel()
    rows, drift = _row_values(edges.start, edges.node, edges.weight, p, rates, instance.n_types, instance.n_units, grid)
    degree = float(np.max(np.diff(edges.start), initial=0))
    value = math.fsum(p * rows)
    # Positive terms only: sums over the grid and over the prefix; the marginals y drift by UNIT a step.
    relative = 8.0 * degree + grid + 32.0
    heaviest = _heaviest(edges)
    absolute = float(np.sum(p * heaviest)) * (4.0 * degree if grid == 0 else 0.0)
    rounding = relative * value + drift * (instance.n_types + 4.0) + absolute
    return Enclosure(value, 2.0 * UNIT * rounding + SMALLEST * (len(p) + (grid + 8.0) * len(edges)))


def _heaviest(edges: Edges) -> FloatArray:
    heaviest = np.zeros(len(edges.start) - 1)
    filled = np.diff(edges.start) > 0
    heaviest[filled] = edges.weight[edges.start[:-1][filled]]
    return heaviest


@njit()
def _stopping_values(
    start: IntArray,
    node: IntArray,
    weight: FloatArray,
    p: FloatArray,
    prices: FloatArray,
    n_types: int,
    n_nodes: int,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """v_i(0), the number of edges of each node and its sum of p w."""
    v = np.zeros(n_nodes)
    gain = np.zeros(n_nodes)
    degree = np.zeros(n_nodes)
    weighted = np.zeros(n_nodes)
    for t in range(len(p) // n_types - 1, -1, -1):
        first, last = start[t * n_types], start[(t + 1) * n_types]
        for k in range(n_types):
            row = t * n_types + k
            for e in range(start[row], start[row + 1]):
                i = node[e]
                excess = weight[e] - prices[row] - v[i]
                if excess > 0.0:
                    gain[i] += p[row] * excess
                degree[i] += 1.0
                weighted[i] += p[row] * weight[e]
        for e in range(first, last):
            i = node[e]
            v[i] += gain[i]
            gain[i] = 0.0
    return v, degree, weighted


@njit()
def _row_values(
    start: IntArray,
    node: IntArray,
    weight: FloatArray,
    p: FloatArray,
    rates: FloatArray,
    n_types: int,
    n_nodes: int,
    grid: int,
) -> tuple[FloatArray, float]:
    """Proved value of each arrival, and sum of p w r times the number of steps that y has taken."""
    n_times = len(p) // n_types
    rows = np.zeros(len(p))
    y = np.ones(n_nodes)
    steps = np.zeros(n_nodes)
    leaving = np.zeros(n_nodes)
    law = np.zeros(grid + 1)
    fresh = np.zeros(grid + 1)
    drift = 0.0
    for t in range(n_times):
        for k in range(n_types):
            row = t * n_types + k
            if p[row] == 0.0:
                continue
            law[:] = 0.0
            law[0] = 1.0
            none = 1.0
            for e in range(start[row], start[row + 1]):
                i, r = node[e], rates[e]
                if r == 0.0:
                    continue
                drift += p[row] * weight[e] * r * steps[i]
                leaving[i] += p[row] * r
                if grid == 0:
                    rows[row] += weight[e] * none * r * y[i]
                    none *= 1.0 - r * y[i]
                    continue
                low = math.floor(r * grid)
                part = r * grid - low
                gain = 0.0
                fresh[:] = 0.0
                for s in range(grid + 1):
                    if law[s] == 0.0:
                        continue
                    a, b = min(low, grid - s), min(low + 1, grid - s)
                    gain += law[s] * ((1.0 - part) * a + part * b)
                    fresh[s] += law[s] * (1.0 - y[i])
                    fresh[s + a] += law[s] * y[i] * (1.0 - part)
                    fresh[s + b] += law[s] * y[i] * part
                rows[row] += weight[e] * y[i] * gain / grid
                law[:] = fresh
        for e in range(start[t * n_types], start[(t + 1) * n_types]):
            i = node[e]
            if leaving[i] != 0.0:
                y[i] *= max(0.0, 1.0 - leaving[i])
                steps[i] += 1.0
                leaving[i] = 0.0
    return rows, drift
