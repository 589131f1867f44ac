"""Labels from a non-negative factor of the relaxation's matrix: Z = U U^T with U >= 0 of a few columns.

    max <A, U U^T>   subject to   U >= 0,  |U|_F^2 = K,  U U^T q = q

by projected gradients on an augmented Lagrangian of the last equation (Zhuang, Chen and Yang 2023). One iteration costs
O(n r (p + 1)) time and O(n r) memory. U is never exactly feasible, so only the labels it suggests are used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from clustering._problem import Groups, largest_eigenvalue
from solvers._core.arrays import Array

if TYPE_CHECKING:
    from clustering._run import Run

__all__ = ["LOW_RANK_ITERATIONS", "LowRankSettings", "improve_by_low_rank"]

LOW_RANK_ITERATIONS = 3_000
ROUND_EVERY = 250
# Change of U per step, relative to |U|, at which the multiplier moves and at which the iteration has converged.
INNER_CHANGE, LAST_CHANGE = 1e-3, 1e-6
# Weight of the label indicator against noise in the first U.
NOISE = 0.3


@dataclass(frozen=True)
class LowRankSettings:
    """Options of ``method="low-rank"``: k-means++ starts before it, and the columns of U (0 means 2 K)."""

    n_starts: int = 10
    rank: int = 0


def improve_by_low_rank(run: Run, rank: int, limit: int) -> None:
    """Iterate from the best labels plus noise and offer the labels found on the way, until they settle."""
    problem, monitor = run.problem, run.monitor
    xp = problem.backend.xp
    n, n_clusters = problem.n, problem.n_clusters
    q = problem.direction
    # Scaled so that |X|_2^2 = n: then the penalty 1 and the step below suit every problem.
    rows = xp.expand_dims(xp.sqrt(problem.weights), axis=1) * problem.points
    rows = rows * math.sqrt(1.0 / (largest_eigenvalue(rows) or 1.0))
    step, penalty = 0.125, 1.0
    groups: Groups = monitor.x
    columns = max(rank or 2 * n_clusters, n_clusters)
    noise = monitor.common.rng.random((n, columns)) / math.sqrt(n)
    u = NOISE * problem.backend.take(noise)
    member = xp.expand_dims(groups.labels, axis=1) == xp.arange(columns, device=problem.backend.device)
    u = _on_sphere(xp, u + xp.where(member, xp.expand_dims(q, axis=1), xp.zeros_like(u)), n_clusters)
    multiplier = xp.zeros_like(q)
    while run.iterations_since_start < limit and monitor.running():
        along = q @ u
        violation = u @ along - q
        y = multiplier + penalty * violation
        gradient = (
            -2.0 * (rows @ (rows.T @ u)) + xp.expand_dims(y, axis=1) * along + xp.expand_dims(q, axis=1) * (y @ u)
        )
        following = _on_sphere(xp, u - step * gradient, n_clusters)
        change = float(xp.sqrt(xp.sum((following - u) ** 2))) / math.sqrt(n_clusters)
        u = following
        if change < INNER_CHANGE:
            multiplier = y
        done = change < LAST_CHANGE and float(xp.sqrt(xp.sum(violation * violation))) < LAST_CHANGE
        if done or monitor.due(ROUND_EVERY):
            embedded = u / xp.expand_dims(xp.sqrt(problem.weights), axis=1)
            if run.offer(run.labels_by_kmeans(embedded)):
                run.certify_best()
            monitor.checkpoint(residual=change)
        if done:
            break


def _on_sphere(xp: ModuleType, u: Array, n_clusters: int) -> Array:
    """The nearest U >= 0 with |U|_F^2 = K."""
    positive = xp.where(u > 0, u, xp.zeros_like(u))
    size = float(xp.sum(positive * positive))
    if size == 0.0:
        # Of points without a positive entry, the nearest is their largest entry alone.
        positive = xp.astype(u == xp.max(u), u.dtype)
        size = float(xp.sum(positive))
    return positive * math.sqrt(n_clusters / size)
