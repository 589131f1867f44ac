"""The dual passes in array-API code, all nodes at once: for accelerators, and the oracle of the compiled passes.

A step in time works on dense (K, n) slices, so memory is O(T K n).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from matching._instance import BayesianMatching
from solvers._core.arrays import Array, FloatArray, refuse_beyond_memory, to_host
from solvers._core.backend import Backend

__all__ = ["Layout", "exact_dual", "layout", "smoothed_dual"]


@dataclass(frozen=True)
class Layout:
    """Dense data on the device.

    Attributes
    ----------
    weights : (T, K, n) array
        Zero where there is no edge.
    present : (T, K, n) array
        1.0 where there is one.
    p : (T, K) array
    copies : (n,) array
    rows, nodes : host integers
        Position of each edge, to bring x home.
    """

    weights: Array
    present: Array
    p: Array
    copies: Array
    rows: Array
    nodes: Array
    backend: Backend


def layout(instance: BayesianMatching, backend: Backend) -> Layout:
    """The dense arrays of an instance on the backend's device."""
    shape = (instance.n_times, instance.n_types, instance.n_nodes)
    refuse_beyond_memory(
        40.0 * np.prod(shape, dtype=float), what="dense (T, K, n) arrays", instead="use backend='numba'"
    )
    edges = instance.edges
    rows = np.repeat(np.arange(shape[0] * shape[1]), np.diff(edges.start))
    weights, present = np.zeros(shape), np.zeros(shape)
    weights.reshape(-1, shape[2])[rows, edges.node] = edges.weight
    present.reshape(-1, shape[2])[rows, edges.node] = 1.0
    take = backend.take
    return Layout(
        take(weights),
        take(present),
        take(np.array(instance.probabilities)),
        take(instance.copies),
        rows,
        edges.node,
        backend,
    )


def smoothed_dual(data: Layout, prices: FloatArray, eps: float) -> tuple[float, FloatArray, FloatArray]:
    """D with max(0, g) replaced by eps log(1 + exp(g / eps)): value, gradient, and x from the gradient."""
    xp = data.backend.xp
    n_times, n_types, _ = data.weights.shape
    level = data.backend.take(np.array(prices.reshape(n_times, n_types)))
    v = xp.zeros_like(data.copies)
    chosen = [None] * n_times
    for t in range(n_times - 1, -1, -1):
        g = (data.weights[t, :, :] - level[t, :][:, None] - v) / eps
        small = xp.exp(-xp.abs(g))
        p = data.p[t, :][:, None]
        soft = eps * (xp.where(g > 0, g, xp.zeros_like(g)) + xp.log1p(small))
        chosen[t] = data.present[t, :, :] * p * xp.where(g >= 0, xp.ones_like(g), small) / (1.0 + small)
        v = v + xp.sum(data.present[t, :, :] * p * soft, axis=0)
    value = float(xp.sum(data.p * level)) + float(xp.sum(data.copies * v))
    y = data.copies
    x = []
    for t in range(n_times):
        now = chosen[t] * y
        y = y - xp.sum(now, axis=0)
        x.append(now)
    stacked = xp.stack(x)
    gradient = data.p - xp.sum(stacked, axis=2)
    home = to_host(stacked).reshape(n_times * n_types, -1)
    return value, np.array(to_host(gradient)).ravel(), home[data.rows, data.nodes]


def exact_dual(data: Layout, prices: FloatArray) -> float:
    """D(lambda), without error bound."""
    xp = data.backend.xp
    n_times, n_types, _ = data.weights.shape
    level = data.backend.take(np.array(prices.reshape(n_times, n_types)))
    v = xp.zeros_like(data.copies)
    for t in range(n_times - 1, -1, -1):
        g = (data.weights[t, :, :] - level[t, :][:, None] - v) * data.present[t, :, :]
        v = v + xp.sum(data.p[t, :][:, None] * xp.where(g > 0, g, xp.zeros_like(g)), axis=0)
    return float(xp.sum(data.p * level)) + float(xp.sum(data.copies * v))
