r"""``rank_tsp_batch`` on arrays of any kind: small groups by the subset recursion, on the device where the scores live.

An assignment or a branch-and-bound tree is a sequence of short augmentations, which accelerators do not speed up; the
recursion is a few hundred batched minima for any number of groups. Its value V differs from the optimum by rounding
only. Every partial sum is at most S = sum_i max_j |c_ij| in modulus, so V - 8 (m + 2) u S lies below the optimum and
below what the verifier's own recursion, which charges 3 u for each of at most m sums, re-establishes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ranking._bounds import LARGEST_SCORE
from ranking._kernels_array import compensated_sum, recursion_bytes, subset_recursion
from ranking._problem import EXPECTED
from solvers._core.arrays import Array, FloatArray, IntArray, to_host
from solvers._core.backend import Backend
from solvers._core.errors import BackendError, InvalidProblemError
from solvers._core.linalg import UNIT
from solvers._core.monitor import Monitor
from solvers._core.result import Status

__all__ = ["MOST_ITEMS", "solve_on_arrays"]

# Groups beyond this size take thousands of sets each; branch and bound on the host is faster.
MOST_ITEMS = 12
# Memory of the recursion's tables at any time.
TABLE_BYTES = 2**28


def solve_on_arrays(
    scores: Array, sizes: IntArray, ends: list[int], problem: Mapping[str, Any], monitor: Monitor, backend: Backend
) -> tuple[Array, dict[str, Any]]:
    """The orders in the caller's kind, and on the host orders, values, bounds, sizes and statuses of the groups."""
    if int(sizes.max()) > MOST_ITEMS:
        raise BackendError(
            f"the array path takes groups of up to {MOST_ITEMS} items; got {int(sizes.max())}: convert the scores to "
            "NumPy (CuPy: .get()) for branch and bound on the host"
        )
    total, n = len(sizes), int(scores.shape[1])
    sign = -1.0 if problem["maximize"] else 1.0
    order = np.full((total, n), -1)
    fun, bound = np.full(total, sign * np.inf), np.full(total, -sign * np.inf)
    size, status = np.zeros(total), np.full(total, int(Status.TIME_LIMIT))
    keys = monitor.common.rng.random((total, n))
    for k in sorted(set(sizes.tolist())):
        groups = np.flatnonzero(sizes == k)
        chunk = max(1, int(TABLE_BYTES / recursion_bytes(k + 1)))
        for first in range(0, len(groups), chunk):
            chosen = groups[first : first + chunk]
            if monitor.out_of_time():
                break
            perm = np.argsort(keys[chosen, :k], axis=1)
            found = _solve_size(scores, chosen, perm, ends, sign, problem["closed"], backend)
            order[chosen, :k] = np.where(np.isfinite(found[1])[:, None], found[0], -1)
            fun[chosen], bound[chosen], size[chosen] = sign * found[1], sign * found[2], found[3]
            status[chosen] = np.where(np.isfinite(found[1]), int(Status.CONVERGED), int(Status.INFEASIBLE))
    fields = {"order": order, "fun": fun, "bound": bound, "scale": size, "status": status}
    return backend.give(backend.take(order)), fields


def _solve_size(
    scores: Array, chosen: IntArray, perm: IntArray, ends: list[int], sign: float, closed: bool, backend: Backend
) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
    """Orders, costs, lower bounds and sizes of groups of k items, each in the random order ``perm`` (B, k)."""
    xp, take = backend.xp, backend.take
    count, k = perm.shape
    n = int(scores.shape[1])
    places = (chosen[:, None, None] * n + perm[:, :, None]) * n + perm[:, None, :]
    c = sign * xp.reshape(xp.take(xp.reshape(scores, (-1,)), take(places.ravel()), axis=0), (count, k, k))
    c = xp.where(take(np.eye(k, dtype=bool)), xp.inf, c)
    finite = xp.isfinite(c)
    moduli = xp.where(finite, xp.abs(c), 0.0)
    for wrong, what in (
        (xp.isnan(c), "NaN"),
        (c == -xp.inf, "an infinity that attracts"),
        (moduli > LARGEST_SCORE, "a modulus above 2**1000"),
    ):
        bad = to_host(xp.any(wrong, axis=(1, 2)))
        if bad.any():
            g = int(chosen[int(np.argmax(bad))])
            raise InvalidProblemError(f"scores[{g}] must be {EXPECTED}; got {what} off the diagonal")
    if k == 1:
        return perm, np.zeros(count), np.zeros(count), np.zeros(count)
    if not closed:
        # The depot, from and to the items that may begin and end the path.
        free = [np.where(perm == end, 0.0, np.inf) if end >= 0 else np.zeros((count, k)) for end in ends]
        leave, enter = take(free[1])[:, :, None], take(np.append(free[0], np.full((count, 1), np.inf), axis=1))
        c = xp.concat([xp.concat([c, leave], axis=2), enter[:, None, :]], axis=1)
    m = k + (not closed)
    tour = xp.zeros((count, m), dtype=xp.int64, device=backend.device)
    value = subset_recursion(c, tour)
    rows = xp.arange(count, dtype=xp.int64, device=backend.device)[:, None] * (m * m)
    cells = xp.reshape(rows + tour * m + xp.roll(tour, -1, axis=1), (-1,))
    arcs = xp.reshape(xp.take(xp.reshape(c, (-1,)), cells, axis=0), (count, m))
    if not closed:
        tour, arcs = tour[:, 1:], arcs[:, 1:-1]
    found = xp.isfinite(value)
    arcs = xp.where(found[:, None], arcs, 0.0)
    reach = xp.sum(xp.max(moduli, axis=2), axis=1)
    bound = value - xp.where(found, 8.0 * (m + 2) * UNIT * reach, 0.0)
    cost = xp.where(found, compensated_sum(arcs, xp), xp.inf)
    nodes = np.take_along_axis(perm, to_host(tour), axis=1)
    if closed:
        nodes = _turned(nodes, to_host(arcs), ends[0])
    return nodes, to_host(cost), to_host(bound), to_host(xp.sum(xp.abs(arcs), axis=1))


def _turned(nodes: IntArray, arcs: FloatArray, start: int) -> IntArray:
    """Cycles that begin at ``start``, or behind their weakest arc."""
    at = np.argmax(nodes == start, axis=1) if start >= 0 else np.argmax(arcs, axis=1) + 1
    columns = (at[:, None] + np.arange(nodes.shape[1])) % nodes.shape[1]
    return np.take_along_axis(nodes, columns, axis=1)
