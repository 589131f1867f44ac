"""Whole simulated runs in array-API code, all runs of a policy at once: for accelerators.

The same decisions as :mod:`matching._kernels_policy` from the same keys: the hash of (key, time, number) is drawn on the
host, everything else happens on the device. Marks are (runs, units + 1) arrays whose last column stands for "no unit"
and is never free, so that rows of different length can be padded with it; type K stands for "nobody came".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from matching._result import PolicyTables
from solvers._core.arrays import Array, FloatArray, IntArray, refuse_beyond_memory, to_host
from solvers._core.backend import Backend

__all__ = ["BatchedPolicy", "Rows", "batched_policy", "discarded", "marked", "picked", "run_policy"]

# Marks that are advanced at once: so many runs times units.
MARKS_AT_ONCE = 20_000_000
# Bytes on the device per cell of the padded tables.
BYTES_PER_CELL = 40.0
MASK = 2**64 - 1


@dataclass(frozen=True)
class Rows:
    """The edges of one time on the device, a row per type, the heaviest first; a last row without edges.

    Attributes
    ----------
    unit : (K + 1, D) int64
    weight : (K + 1, D) float64
    merit : (K + 1, D) float64
        Rate of sampled policies; weight, less the price, of the others.
    """

    unit: Array
    weight: Array
    merit: Array


@dataclass(frozen=True)
class TopUp:
    """Units that may leave without being matched at one time.

    Attributes
    ----------
    numbers : (C,) host int64
        The units, to draw their coins.
    units, leaves : (C,) arrays
        The units, and their probability of leaving.
    rows : list of (k, p, place)
        Types whose proposals may find no room, and where unit c stands in the row, D where it does not.
    column : (units + 1,) int64 array
        c by unit, C where it is none of them.
    """

    numbers: IntArray
    units: Array
    leaves: Array
    rows: list[tuple[int, float, Array]]
    column: Array


@dataclass(frozen=True)
class BatchedPolicy:
    """One policy's tables on the device: ``proposals`` and ``top_ups`` for sampled policies, ``edges`` for salvage too."""

    method: str
    salvage: bool
    n_units: int
    n_types: int
    edges: list[Rows]
    proposals: list[Rows]
    top_ups: list[TopUp | None]
    backend: Backend


def batched_policy(tables: PolicyTables, backend: Backend) -> BatchedPolicy:
    """The tables of a policy in padded rows on the backend's device."""
    start, node, weight, price, rate_start, rate_node, rate_weight, rate, leaves, row_total, p, n_types, *_ = (
        tables.arrays
    )
    n_units, n_times = tables.instance.n_units, tables.instance.n_times
    degree = int(np.max(np.diff(start), initial=1))
    refuse_beyond_memory(
        2.0 * BYTES_PER_CELL * n_times * (n_types + 1.0) * degree,
        what="edges padded to the same number per type",
        instead="use backend='numba'",
    )
    merit = weight if tables.method == "greedy" else weight - price
    edges, proposals, top_ups = [], [], []
    for t in range(n_times):
        rows = range(t * n_types, (t + 1) * n_types)
        edges.append(_rows(rows, start, node, weight, merit, n_units, backend))
        if tables.method in ("pivotal", "independent", "rollout"):
            proposals.append(_rows(rows, rate_start, rate_node, rate_weight, rate, n_units, backend))
            crowded = [row for row in rows if p[row] > 0.0 and (row_total[row] > 1.0 or tables.method == "independent")]
            top_ups.append(_top_up(rows, crowded, rate_start, rate_node, leaves, p, n_units, backend))
    return BatchedPolicy(tables.method, tables.salvage, n_units, n_types, edges, proposals, top_ups, backend)


def _rows(
    rows: range, start: IntArray, node: IntArray, weight: FloatArray, merit: FloatArray, n_units: int, backend: Backend
) -> Rows:
    bounds = start[rows.start : rows.stop + 1]
    counts = np.diff(bounds)
    shape = (len(rows) + 1, max(1, int(counts.max(initial=0))))
    which = np.repeat(np.arange(len(rows)), counts)
    inside = slice(int(bounds[0]), int(bounds[-1]))
    place = np.arange(inside.start, inside.stop) - bounds[which]
    unit, heavy, good = np.full(shape, n_units), np.zeros(shape), np.zeros(shape)
    unit[which, place], heavy[which, place], good[which, place] = node[inside], weight[inside], merit[inside]
    return Rows(backend.take(unit), backend.take(heavy), backend.take(good))


def _top_up(
    rows: range,
    crowded: list[int],
    start: IntArray,
    node: IntArray,
    leaves: FloatArray,
    p: FloatArray,
    n_units: int,
    backend: Backend,
) -> TopUp | None:
    width = max(1, int(np.diff(start[rows.start : rows.stop + 1]).max(initial=0)))
    spans = [slice(int(start[row]), int(start[row + 1])) for row in crowded]
    if not any(node[span].size for span in spans):
        return None
    units, where = np.unique(np.concatenate([node[span] for span in spans]), return_index=True)
    leaving = np.concatenate([leaves[span] for span in spans])[where]
    parts = []
    for row, span in zip(crowded, spans, strict=True):
        place = np.full(len(units), width)
        place[np.searchsorted(units, node[span])] = np.arange(span.stop - span.start)
        parts.append((row - rows.start, float(p[row]), backend.take(place)))
    column = np.full(n_units + 1, len(units))
    column[units] = np.arange(len(units))
    return TopUp(units, backend.take(units), backend.take(leaving), parts, backend.take(column))


def run_policy(policy: BatchedPolicy, keys: npt.NDArray[np.uint64], arrivals: IntArray) -> FloatArray:
    """Total weight of each run; ``arrivals`` (runs, T) holds the type that came or -1, ``keys`` one key a run."""
    size = max(1, MARKS_AT_ONCE // (policy.n_units + 1))
    parts = [slice(first, first + size) for first in range(0, len(keys), size)]
    return np.concatenate([_run_part(policy, keys[part], arrivals[part]) for part in parts])


def _run_part(policy: BatchedPolicy, keys: npt.NDArray[np.uint64], arrivals: IntArray) -> FloatArray:
    take, xp = policy.backend.take, policy.backend.xp
    n_runs, n_units = len(keys), policy.n_units
    columns = take(np.arange(n_units + 1))
    free = take(np.repeat((np.arange(n_units + 1) < n_units)[None, :], n_runs, axis=0))
    pool = take(np.zeros((n_runs, n_units + 1), dtype=bool))
    offset = take((n_units + 1) * np.arange(n_runs))
    totals = take(np.zeros(n_runs))
    pooled = False
    for t in range(arrivals.shape[1]):
        kinds = take(np.where(arrivals[:, t] < 0, policy.n_types, arrivals[:, t]))
        edges = policy.edges[t]
        if not policy.proposals:
            gain = xp.where(
                marked(xp, free, offset, edges, kinds), xp.take(edges.merit, kinds, axis=0), 0.0 * totals[:, None]
            )
            best = xp.argmax(gain, axis=1)
            unit, worth = picked(xp, edges, kinds, best, xp.max(gain, axis=1) > 0, n_units)
        else:
            rows = policy.proposals[t]
            chance = xp.where(
                marked(xp, free, offset, rows, kinds), xp.take(rows.merit, kinds, axis=0), 0.0 * totals[:, None]
            )
            if policy.method == "independent":
                chance = chance * _room(xp, chance)
            hit = take(uniforms(keys, t, np.zeros(1, dtype=np.int64))) < xp.cumulative_sum(chance, axis=1)
            unit, worth = _first(xp, rows, kinds, hit, n_units)
            top_up = policy.top_ups[t]
            if top_up is not None:
                left = discarded(policy, rows, top_up, free, unit, keys, t)
                free, pool = free & ~left, pool | left
                pooled = True
            if policy.salvage and pooled:
                spare, value = _first(xp, edges, kinds, marked(xp, pool, offset, edges, kinds), n_units)
                none = unit == n_units
                unit, worth = xp.where(none, spare, unit), xp.where(none, value, worth)
        # Nobody is column n_units, which is marked nowhere.
        others = columns[None, :] != unit[:, None]
        free = free & others
        pool = pool & others if pooled else pool
        totals = totals + worth
    return np.array(to_host(totals))


def marked(xp: Any, marks: Array, offset: Array, rows: Rows, kinds: Array) -> Array:
    """Marks of the units in each run's row, (runs, D)."""
    at = offset[:, None] + xp.take(rows.unit, kinds, axis=0)
    return xp.reshape(xp.take(xp.reshape(marks, (-1,)), xp.reshape(at, (-1,)), axis=0), at.shape)


def picked(xp: Any, rows: Rows, kinds: Array, place: Array, found: Array, n_units: int) -> tuple[Array, Array]:
    """Unit and weight at a place of each run's row; n_units and 0 where nothing was found."""
    at = kinds * rows.unit.shape[1] + place
    unit = xp.take(xp.reshape(rows.unit, (-1,)), at, axis=0)
    weight = xp.take(xp.reshape(rows.weight, (-1,)), at, axis=0)
    return xp.where(found, unit, xp.full_like(unit, n_units)), xp.where(found, weight, xp.zeros_like(weight))


def _first(xp: Any, rows: Rows, kinds: Array, hit: Array, n_units: int) -> tuple[Array, Array]:
    """Unit and weight at the first hit of each run's row."""
    return picked(xp, rows, kinds, xp.argmax(xp.astype(hit, xp.int8), axis=1), xp.any(hit, axis=1), n_units)


def _room(xp: Any, chance: Array) -> Array:
    """Probability that none of the proposers before speaks, each on its own."""
    return xp.cumulative_prod(1.0 - chance, axis=1, include_initial=True)[:, :-1]


def discarded(
    policy: BatchedPolicy, rows: Rows, top_up: TopUp, free: Array, unit: Array, keys: npt.NDArray[np.uint64], t: int
) -> Array:
    """Where a unit is discarded, (runs, units + 1): a coin tops its probability of leaving up to what was promised."""
    take, xp = policy.backend.take, policy.backend.xp
    still = xp.take(free, top_up.units, axis=1)
    none = take(np.zeros((len(keys), 1)))
    short = 0.0 * xp.astype(still, xp.float64)
    for k, p, place in top_up.rows:
        rate = xp.where(xp.take(free, rows.unit[k, :], axis=1), rows.merit[k, :][None, :], none)
        if policy.method == "independent":
            taken = rate * _room(xp, rate)
        else:
            room = 1.0 - xp.cumulative_sum(rate, axis=1, include_initial=True)[:, :-1]
            taken = xp.minimum(rate, xp.where(room > 0.0, room, none))
        short = short + xp.take(xp.concat([p * (rate - taken), none], axis=1), place, axis=1)
    rest = 1.0 - (top_up.leaves[None, :] - short)
    # A coin below short / rest, written without the division; where rest is not positive nobody is discarded.
    coin = take(uniforms(keys, t, top_up.numbers + 1))
    leave = still & (coin * rest < short) & (rest > 0.0) & (top_up.units[None, :] != unit[:, None])
    padded = xp.concat([leave, none > 0.0], axis=1)
    return xp.take(padded, top_up.column, axis=1)


def uniforms(keys: npt.NDArray[np.uint64], time: int, numbers: IntArray) -> FloatArray:
    """:func:`matching._kernels_policy.uniform` of each key and number, (keys, numbers) float64 on the host."""
    z = keys + np.uint64((time * 0x9E3779B97F4A7C15) & MASK)
    z = z[:, None] + (numbers.astype(np.uint64) * np.uint64(0xD1342543DE82EF95))[None, :]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return np.asarray((z >> np.uint64(11)).astype(np.float64) * 2.0**-53)
