r"""Simulated runs of the rollout in array-API code, all runs at once: for accelerators.

The same decisions as ``rollout_steps`` of :mod:`matching._kernels_policy`. With r the rates and rho_i(t) the probability of
leaving, a unit free at time s is free at time t with probability

    y_i(t) = F_i S_i(t),   S_i(t) = prod_{s <= u < t} (1 - rho_i(u)),

S the same for all runs. So the proved value of the future needs no scan over time: all remaining arrivals are evaluated
together, only the edges of a row one after the other, on arrays of (runs, rows, grid + 1). Its derivative in F_i is a sum
over the edges of i, gathered per unit. V[u] = P(X >= u) stands for the law of a sum X of proposals on the grid, so that
adding an edge is a gather of V at indices that are the same for all runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from matching._kernels_policy import LEVEL_SLACK
from matching._kernels_policy_array import BatchedPolicy, Rows, batched_policy, discarded, marked, picked
from matching._result import PolicyTables
from solvers._core.arrays import Array, FloatArray, IntArray, refuse_beyond_memory, to_host
from solvers._core.backend import Backend

__all__ = ["BatchedRollout", "batched_rollout", "run_rollout"]

# Cells of laws (runs x rows x edges of a row x grid) that are held at once.
CELLS_AT_ONCE = 30_000_000


@dataclass(frozen=True)
class BatchedRollout:
    """The tables of a rollout.

    Attributes
    ----------
    policy : BatchedPolicy
        Edges, proposals and discards of each time, on the device.
    unit, weight, rate : (T K, D) host arrays
        Edges with a rate by row, the heaviest first, padded with unit m and rate 0.
    p : (T K,) host array
    leaves : (T, m + 1) host array
        rho_i(t).
    bids : (T, m + 1) host array
        v_i(t + 1) of the dual for the units that have an edge at t.
    blend : float
    grid : int
    future : (T + 1, 2^m) host array
        Values of the best online policy where the rollout follows them, else empty.
    """

    policy: BatchedPolicy
    unit: IntArray
    weight: FloatArray
    rate: FloatArray
    p: FloatArray
    leaves: FloatArray
    bids: FloatArray
    blend: float
    grid: int
    future: FloatArray


def batched_rollout(tables: PolicyTables, backend: Backend) -> BatchedRollout:
    """The tables of a rollout for the backend."""
    start, node, _, price, rate_start, rate_node, rate_weight, rate, _, _, p, n_types, grid, future = tables.arrays
    n_units, n_times = tables.instance.n_units, tables.instance.n_times
    counts = np.diff(rate_start)
    shape = (len(p), max(1, int(counts.max(initial=0))))
    refuse_beyond_memory(
        16.0 * float(shape[0] * shape[1]) * (grid + 1.0),
        what="the laws of all arrivals of one run",
        instead="use backend='numba'",
    )
    rows = np.repeat(np.arange(len(p)), counts)
    place = np.arange(len(rows)) - rate_start[rows]
    unit, weight, rates = np.full(shape, n_units), np.zeros(shape), np.zeros(shape)
    unit[rows, place], weight[rows, place], rates[rows, place] = rate_node, rate_weight, rate
    leaves, bids = np.zeros((n_times, n_units + 1)), np.zeros((n_times, n_units + 1))
    np.add.at(leaves, (rows // n_types, rate_node), p[rows] * rate)
    edge_times = np.repeat(np.arange(len(p)), np.diff(start)) // n_types
    bids[edge_times, node] = price
    policy = batched_policy(tables, backend)
    return BatchedRollout(policy, unit, weight, rates, p, np.minimum(leaves, 1.0), bids, tables.blend, grid, future)


def run_rollout(rollout: BatchedRollout, keys: npt.NDArray[np.uint64], arrivals: IntArray) -> FloatArray:
    """Total weight of each run; ``arrivals`` (runs, T) holds the type that came or -1, ``keys`` one key a run."""
    cells = rollout.unit.shape[0] * (rollout.unit.shape[1] + 4) * (rollout.grid + 1)
    size = max(1, CELLS_AT_ONCE // cells)
    parts = [slice(first, first + size) for first in range(0, len(keys), size)]
    return np.concatenate([_run_part(rollout, keys[part], arrivals[part]) for part in parts])


def _run_part(rollout: BatchedRollout, keys: npt.NDArray[np.uint64], arrivals: IntArray) -> FloatArray:
    policy, n_units = rollout.policy, rollout.policy.n_units
    take, xp = policy.backend.take, policy.backend.xp
    columns = take(np.arange(n_units + 1))
    free = take(np.repeat((np.arange(n_units + 1) < n_units)[None, :], len(keys), axis=0))
    pool = take(np.zeros((len(keys), n_units + 1), dtype=bool))
    offset = take((n_units + 1) * np.arange(len(keys)))
    totals = take(np.zeros(len(keys)))
    zero = 0.0 * totals[:, None]
    level, _ = _future(rollout, -1, free)
    for t in range(arrivals.shape[1]):
        kinds = take(np.where(arrivals[:, t] < 0, policy.n_types, arrivals[:, t]))
        whole, loss = _future(rollout, t, free)
        ask = (1.0 - rollout.blend) * loss + rollout.blend * take(rollout.bids[t])[None, :]
        blended = _expected(rollout, t, free, ask, whole, loss) >= level * (1.0 - LEVEL_SLACK)
        nothing, after, fallen = whole, whole[:, None] - loss, None
        if not bool(xp.all(blended)):
            fallen = _coins(rollout, t, free, keys)
        if fallen is not None:
            thinned, spread = _future(rollout, t, free & ~fallen)
            other = thinned[:, None] - spread
            coins = ~blended & xp.any(fallen, axis=1)
            drop, drop_each = coins & (thinned > whole), coins[:, None] & (other > after)
            nothing, after = xp.where(drop, thinned, whole), xp.where(drop_each, other, after)
        ask = xp.where(blended[:, None], ask, nothing[:, None] - after)
        edges = policy.edges[t]
        gain = xp.where(
            marked(xp, free, offset, edges, kinds),
            xp.take(edges.weight, kinds, axis=0) - marked(xp, ask, offset, edges, kinds),
            zero,
        )
        found = xp.max(gain, axis=1) > 0
        unit, worth = picked(xp, edges, kinds, xp.argmax(gain, axis=1), found, n_units)
        cell = offset + unit
        level = xp.where(found, xp.take(xp.reshape(after, (-1,)), cell, axis=0), nothing)
        if fallen is not None:
            dropping = xp.where(found, xp.take(xp.reshape(drop_each, (-1,)), cell, axis=0), drop)
            left = fallen & dropping[:, None] & (columns[None, :] != unit[:, None])
            free, pool = free & ~left, pool | left
        if policy.salvage:
            spare = marked(xp, pool, offset, edges, kinds)
            some = xp.any(spare, axis=1) & ~found
            extra, value = picked(xp, edges, kinds, xp.argmax(xp.astype(spare, xp.int8), axis=1), some, n_units)
            unit, worth = xp.where(found, unit, extra), worth + value
        others = columns[None, :] != unit[:, None]
        free, pool = free & others, pool & others
        totals = totals + worth
    return np.array(to_host(totals))


def _coins(rollout: BatchedRollout, t: int, free: Array, keys: npt.NDArray[np.uint64]) -> Array | None:
    """Free units whose coin says leave, (runs, units + 1); None where there is none to throw."""
    policy, top_up = rollout.policy, rollout.policy.top_ups[t]
    if top_up is None:
        return None
    nobody = policy.backend.take(np.full(len(keys), policy.n_units))
    return discarded(policy, policy.proposals[t], top_up, free, nobody, keys, t)


def _expected(rollout: BatchedRollout, t: int, free: Array, ask: Array, whole: Array, loss: Array) -> Array:
    """Expected sale at ``t`` at the prices ``ask``, and the proved value of the future after it, (runs,)."""
    policy, xp = rollout.policy, rollout.policy.backend.xp
    edges: Rows = policy.edges[t]
    shape = (free.shape[0], *edges.unit.shape)
    at = xp.reshape(edges.unit, (-1,))

    def by_edge(values: Array) -> Array:
        return xp.reshape(xp.take(values, at, axis=1), shape)

    gain = xp.where(by_edge(free), edges.weight[None, :, :] - by_edge(ask), 0.0 * whole[:, None, None])
    best = xp.max(gain, axis=2, keepdims=True)
    # The first of the best, as in a search from the front.
    first = (gain == best) & (best > 0)
    count = xp.cumulative_sum(xp.astype(first, xp.int64), axis=2)
    first = first & (count == 1)
    change = xp.where(first, edges.weight[None, :, :] - by_edge(loss), 0.0 * gain)
    p = rollout.p[t * policy.n_types : (t + 1) * policy.n_types]
    chance = policy.backend.take(np.append(p, 0.0))
    return whole + xp.sum(chance[None, :] * xp.sum(change, axis=2), axis=1)


def _future(rollout: BatchedRollout, t: int, free: Array) -> tuple[Array, Array]:
    """Proved value of the times after ``t``, (runs,), and what it loses without each unit, (runs, units + 1)."""
    policy, xp, take = rollout.policy, rollout.policy.backend.xp, rollout.policy.backend.take
    n_runs, n_units, grid = free.shape[0], policy.n_units, rollout.grid
    if rollout.future.size:
        return _exact_future(rollout, t, free)
    later = np.flatnonzero(rollout.p[(t + 1) * policy.n_types :] > 0) + (t + 1) * policy.n_types
    present = xp.astype(free, xp.float64)
    if len(later) == 0:
        return 0.0 * xp.sum(present, axis=1), 0.0 * present
    unit, rate, weight = rollout.unit[later], rollout.rate[later], rollout.weight[later]
    stays = np.cumprod(np.vstack([np.ones(n_units + 1), 1.0 - rollout.leaves[t + 1 :]]), axis=0)
    survival = stays[(later // policy.n_types - t - 1)[:, None], unit]
    n_rows, degree = unit.shape
    base, cells = (grid + 1) * np.arange(n_rows)[:, None], np.arange(grid + 1)[None, :]
    low = np.minimum(np.floor(rate * grid), grid - 1).astype(np.int64)
    part = rate * grid - low
    shape = (n_runs, n_rows, grid + 1)
    chances = [
        xp.take(present, take(unit[:, c]), axis=1)[:, :, None] * take(survival[:, c])[None, :, None]
        for c in range(degree)
    ]

    def shifted(values: Array, index: IntArray) -> Array:
        flat = xp.take(xp.reshape(values, (n_runs, n_rows * (grid + 1))), take((base + index).ravel()), axis=1)
        return xp.reshape(flat, shape)

    tail = xp.broadcast_to(take((cells == 0) * np.ones((n_rows, 1)))[None, :, :], shape)
    tails = []
    for c in range(degree):
        tails.append(tail)
        steps = low[:, c, None]
        some = take(part[:, c])[None, :, None]
        moved = (1.0 - some) * shifted(tail, np.maximum(cells - steps, 0))
        moved = moved + some * shifted(tail, np.maximum(cells - steps - 1, 0))
        tail = (1.0 - chances[c]) * tail + chances[c] * moved
    ahead = 0.0 * tail
    ending = take(np.zeros((n_runs, n_rows, 1)))
    slopes: list[Any] = [None] * degree
    for c in range(degree - 1, -1, -1):
        steps = low[:, c, None]
        some = take(part[:, c])[None, :, None]
        near, far = np.minimum(cells + steps, grid), np.minimum(cells + steps + 1, grid)
        gain = (weight[:, c, None] / grid) * ((near - cells) + part[:, c, None] * (far - near))
        at_low = shifted(ahead, near)
        change = take(gain)[None, :, :] + at_low + some * (shifted(ahead, far) - at_low) - ahead
        law = tails[c] - xp.concat([tails[c][:, :, 1:], ending], axis=2)
        slopes[c] = xp.sum(law * change, axis=2)
        ahead = ahead + chances[c] * change
    value = xp.sum(take(rollout.p[later])[None, :] * ahead[:, :, 0], axis=1)
    by_edge = xp.reshape(
        xp.stack(slopes, axis=2) * take(rollout.p[later][:, None] * survival)[None, :, :], (n_runs, -1)
    )
    return value, _summed_by_unit(policy, by_edge, unit.ravel())


def _exact_future(rollout: BatchedRollout, t: int, free: Array) -> tuple[Array, Array]:
    """The same from the values of the best online policy."""
    policy, xp, take = rollout.policy, rollout.policy.backend.xp, rollout.policy.backend.take
    bits = np.append(1 << np.arange(policy.n_units), 0)
    held = xp.where(free, take(bits)[None, :], take(0 * bits)[None, :])
    free_set = xp.sum(held, axis=1)
    values = take(rollout.future[t + 1])
    without = xp.take(values, xp.reshape(free_set[:, None] - held, (-1,)), axis=0)
    whole = xp.take(values, free_set, axis=0)
    return whole, whole[:, None] - xp.reshape(without, held.shape)


def _summed_by_unit(policy: BatchedPolicy, by_edge: Array, unit: IntArray) -> Array:
    """Sum of the edges of each unit, (runs, units + 1), by gathering; the padding counts for nothing."""
    xp, take = policy.backend.xp, policy.backend.take
    n_units = policy.n_units
    order = np.argsort(unit, kind="stable")
    counts = np.bincount(unit, minlength=n_units + 1)[:n_units]
    width = max(1, int(counts.max(initial=0)))
    where = np.full((n_units + 1, width), len(unit))
    first = np.concatenate([[0], np.cumsum(counts)])
    mine = unit[order] < n_units
    owners = unit[order][mine]
    where[owners, np.arange(len(owners)) - first[owners]] = order[mine]
    padded = xp.concat([by_edge, 0.0 * by_edge[:, :1]], axis=1)
    gathered = xp.take(padded, take(where.ravel()), axis=1)
    return xp.sum(xp.reshape(gathered, (by_edge.shape[0], n_units + 1, width)), axis=2)
