"""Compiled dual and primal passes of the linear program; see :mod:`matching._lp` for the symbols.

``layout``, ``smoothed_dual`` and ``exact_dual`` have the same names and meaning in :mod:`matching._kernels_array`.
"""

from __future__ import annotations

import math

import numpy as np

from matching._instance import BayesianMatching
from solvers._core.arrays import FloatArray, IntArray
from solvers._core.jit import njit

__all__ = ["exact_dual", "layout", "smoothed_dual", "stopping_values", "used_mass"]


def layout(instance: BayesianMatching, backend: object) -> BayesianMatching:
    """What the dual passes take: the instance itself."""
    return instance


def smoothed_dual(data: BayesianMatching, prices: FloatArray, eps: float) -> tuple[float, FloatArray, FloatArray]:
    """D with max(0, g) replaced by eps log(1 + exp(g / eps)): value, gradient, and x from the gradient."""
    edges, p = data.edges, data.probabilities.ravel()
    value, gradient, x = _smoothed(edges.start, edges.node, edges.weight, p, prices, data.copies, data.n_types, eps)
    return value, gradient, x


def exact_dual(data: BayesianMatching, prices: FloatArray) -> float:
    """D(lambda), without error bound."""
    edges, p = data.edges, data.probabilities.ravel()
    v, _ = stopping_values(edges.start, edges.node, edges.weight, p, prices, data.n_types, data.n_nodes)
    return float(p @ prices + data.copies @ v)


@njit()
def _smoothed(
    start: IntArray,
    node: IntArray,
    weight: FloatArray,
    p: FloatArray,
    prices: FloatArray,
    copies: FloatArray,
    n_types: int,
    eps: float,
) -> tuple[float, FloatArray, FloatArray]:
    n_times = len(p) // n_types
    v = np.zeros(len(copies))
    gain = np.zeros(len(copies))
    x = np.empty(len(weight))
    value = 0.0
    for t in range(n_times - 1, -1, -1):
        for k in range(n_types):
            row = t * n_types + k
            value += p[row] * prices[row]
            for e in range(start[row], start[row + 1]):
                i = node[e]
                g = (weight[e] - prices[row] - v[i]) / eps
                # Beyond 36 the smaller exponential is below the rounding of the larger.
                if g > 36.0:
                    gain[i] += p[row] * eps * g
                    x[e] = 1.0
                elif g < -36.0:
                    x[e] = 0.0
                else:
                    small = math.exp(-abs(g))
                    gain[i] += p[row] * eps * (max(g, 0.0) + math.log1p(small))
                    x[e] = (1.0 if g >= 0.0 else small) / (1.0 + small)
        for e in range(start[t * n_types], start[(t + 1) * n_types]):
            i = node[e]
            v[i] += gain[i]
            gain[i] = 0.0
    for i in range(len(copies)):
        value += copies[i] * v[i]
    y = copies.copy()
    gradient = p.copy()
    for t in range(n_times):
        for k in range(n_types):
            row = t * n_types + k
            for e in range(start[row], start[row + 1]):
                x[e] *= p[row] * y[node[e]]
                gradient[row] -= x[e]
        for e in range(start[t * n_types], start[(t + 1) * n_types]):
            y[node[e]] -= x[e]
    return value, gradient, x


@njit()
def stopping_values(
    start: IntArray,
    node: IntArray,
    weight: FloatArray,
    p: FloatArray,
    prices: FloatArray,
    n_types: int,
    n_nodes: int,
) -> tuple[FloatArray, FloatArray]:
    """v_i(0), and by edge the value v_i(t + 1) of keeping its node."""
    v = np.zeros(n_nodes)
    gain = np.zeros(n_nodes)
    kept = np.empty(len(weight))
    for t in range(len(p) // n_types - 1, -1, -1):
        for k in range(n_types):
            row = t * n_types + k
            for e in range(start[row], start[row + 1]):
                i = node[e]
                kept[e] = v[i]
                gain[i] += p[row] * max(0.0, weight[e] - prices[row] - v[i])
        for e in range(start[t * n_types], start[(t + 1) * n_types]):
            i = node[e]
            v[i] += gain[i]
            gain[i] = 0.0
    return v, kept


@njit()
def used_mass(
    start: IntArray, node: IntArray, x: FloatArray, p: FloatArray, copies: FloatArray, n_types: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Make x primal feasible; returns it, and by edge the mass left before t and the mass used at t by its node.

    Each row is scaled to at most p and each entry cut to p y; lowering early entries only raises later y.
    """
    n_times = len(p) // n_types
    y = copies.copy()
    feasible = np.zeros(len(x))
    left = np.zeros(len(x))
    used = np.zeros(len(x))
    now = np.zeros(len(copies))
    for t in range(n_times):
        for k in range(n_types):
            row = t * n_types + k
            total = 0.0
            for e in range(start[row], start[row + 1]):
                feasible[e] = min(max(0.0, x[e]), p[row] * y[node[e]])
                total += feasible[e]
            shrink = p[row] / total if total > p[row] else 1.0
            for e in range(start[row], start[row + 1]):
                feasible[e] *= shrink
                left[e] = y[node[e]]
                now[node[e]] += feasible[e]
        for e in range(start[t * n_types], start[(t + 1) * n_types]):
            used[e] = now[node[e]]
        for e in range(start[t * n_types], start[(t + 1) * n_types]):
            i = node[e]
            y[i] = max(0.0, y[i] - now[i])
            now[i] = 0.0
    return feasible, left, used
