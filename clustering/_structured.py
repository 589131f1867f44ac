"""Search for the scale of the structured multiplier: the iteration behind ``method="structured"``.

The value at a scale t is estimated from the m x m Gram matrix of P F (see :mod:`clustering._bounds` for F), which
squares the condition number and therefore proves nothing; the winner goes to the rigorous evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from clustering._bounds import LowerBound, structured_bound
from clustering._problem import Groups
from clustering._result import StructuredCertificate
from solvers._core.arrays import FloatArray, to_host

__all__ = ["Trial", "certify", "scale_trials"]

COARSE_TRIALS = 7
REFINING_TRIALS = 10
# Pairs of clusters beyond this count are left out, the most distant ones first: the eigenproblem stays small.
MAX_COLUMNS = 1_200
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True)
class Trial:
    """A scale and the estimated bound there."""

    scale: float
    estimate: float


def certify(groups: Groups, scale: float) -> tuple[LowerBound, StructuredCertificate]:
    """The rigorous bound at one common scale."""
    scales = np.where(_used_pairs(groups), scale, np.inf)
    certificate = StructuredCertificate(to_host(groups.labels).astype(np.int64), scales)
    return structured_bound(groups, scales), certificate


def scale_trials(groups: Groups, target: float) -> Iterator[Trial]:
    """Evaluate scales, best guess first: the largest without clipping, a geometric grid, then golden sections.

    Ends early once an estimate reaches ``target``. The bound was unimodal in log t on every instance scanned; where it
    is not, a worse scale is found and the bound is still true.
    """
    top = _largest_eigenvalue(groups)
    if groups.problem.n_clusters == 1 or top <= 0.0:
        yield Trial(1.0, groups.cost)
        return
    estimate = _Estimator(groups)
    unclipped = largest_unclipped_scale(groups)
    scales = [float(share) * top for share in np.geomspace(0.02, 1.0, COARSE_TRIALS)]
    if 0.0 < unclipped < math.inf:
        scales.append(unclipped)
    found: dict[float, float] = {}
    for scale in sorted(scales, key=lambda s: s != unclipped):
        found[scale] = estimate(scale)
        yield Trial(scale, found[scale])
        if found[scale] >= target:
            return
    ordered = sorted(found)
    best = ordered.index(max(found, key=lambda s: found[s]))
    low = math.log(ordered[max(best - 1, 0)])
    high = math.log(ordered[min(best + 1, len(ordered) - 1)])
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    value_left = value_right = None
    for _ in range(REFINING_TRIALS):
        if value_left is None:
            value_left = estimate(math.exp(left))
            yield Trial(math.exp(left), value_left)
        if value_right is None:
            value_right = estimate(math.exp(right))
            yield Trial(math.exp(right), value_right)
        if max(value_left, value_right) >= target:
            return
        if value_left >= value_right:
            high, right, value_right = right, left, value_left
            left, value_left = high - GOLDEN * (high - low), None
        else:
            low, left, value_left = left, right, value_right
            right, value_right = low + GOLDEN * (high - low), None


def largest_unclipped_scale(groups: Groups) -> float:
    """t_max: the largest scale at which no r of the structured multiplier is clipped; may be negative."""
    smallest = math.inf
    xp = groups.problem.backend.xp
    for k, rows in enumerate(groups.slices):
        x = groups.points[rows, :]
        offset = groups.means - groups.means[k, :]
        excess = xp.sum(offset * offset, axis=1) - 2.0 * ((x - groups.means[k, :]) @ offset.T)
        nearest = to_host(xp.min(excess, axis=0))
        for l in range(groups.problem.n_clusters):
            if l != k:
                pair = groups.totals[k] * groups.totals[l] / (groups.totals[k] + groups.totals[l])
                smallest = min(smallest, float(pair * nearest[l]))
    return smallest


class _Estimator:
    """Estimated bound at a scale, from the Gram matrix of P F or, for small n, from the dense multiplier."""

    def __init__(self, groups: Groups) -> None:
        self.groups = groups
        problem = groups.problem
        xp = problem.backend.xp
        self.used = _used_pairs(groups)
        self.pairs = np.argwhere(self.used)
        self.m = problem.p + len(self.pairs)
        rows = xp.expand_dims(xp.sqrt(groups.weights), axis=1) * groups.points
        self.covariance = to_host(rows.T @ rows)

    def __call__(self, scale: float) -> float:
        problem = self.groups.problem
        if self.m + 1 >= problem.n:
            return structured_bound(self.groups, np.where(self.used, scale, np.inf)).value
        sums, cross, products = problem.backend.kernels.structured_moments(
            self.groups.points, self.groups.weights, self.groups.offsets, self.groups.means, self.groups.totals, scale
        )
        rho = np.where(self.used, np.sqrt(sums) * np.sqrt(sums.T), 0.0)
        inverse = np.divide(1.0, np.sqrt(rho), out=np.zeros_like(rho), where=rho > 0)
        gram = self._gram(sums * inverse, cross * inverse[:, :, None], products, inverse)
        values, vectors = np.linalg.eigh(gram)
        half = vectors * np.sqrt(np.maximum(values, 0.0))
        swapped = half[self._swap()]
        spectrum = np.linalg.eigvalsh(half.T @ swapped)[::-1][: problem.n_clusters - 1]
        form = float(np.sum(rho)) / float(np.sum(self.groups.totals))
        return problem.scatter - form - float(np.sum(np.maximum(spectrum, 0.0)))

    def _gram(self, sums: FloatArray, cross: FloatArray, products: FloatArray, inverse: FloatArray) -> FloatArray:
        """F^T P F from the moments; columns of different clusters meet only through q."""
        p = self.groups.problem.p
        k, l = self.pairs.T
        gram = np.zeros((self.m, self.m))
        gram[:p, :p] = self.covariance
        gram[p:, :p] = cross[k, l]
        gram[:p, p:] = gram[p:, :p].T
        inner = products[k[:, None], l[:, None], l[None, :]] * inverse[k, l][:, None] * inverse[k, l][None, :]
        gram[p:, p:] = np.where(k[:, None] == k[None, :], inner, 0.0)
        along = np.concatenate([np.zeros(p), sums[k, l]]) / math.sqrt(float(np.sum(self.groups.totals)))
        return gram - np.outer(along, along)

    def _swap(self) -> np.ndarray:
        """The permutation that exchanges the columns (k, l) and (l, k)."""
        p = self.groups.problem.p
        place = {(int(k), int(l)): p + i for i, (k, l) in enumerate(self.pairs)}
        return np.array([*range(p), *(place[int(l), int(k)] for k, l in self.pairs)], dtype=np.int64)


def _used_pairs(groups: Groups) -> np.ndarray:
    """Ordered pairs of clusters that take part: all, or the nearest ones where the columns would be too many."""
    n_clusters = groups.problem.n_clusters
    used = ~np.eye(n_clusters, dtype=bool)
    room = MAX_COLUMNS // 2
    if n_clusters * (n_clusters - 1) // 2 > room and groups.problem.n > MAX_COLUMNS:
        means = to_host(groups.means)
        square = np.sum(means**2, axis=1)
        distance = square[:, None] + square[None, :] - 2.0 * means @ means.T
        upper = np.triu_indices(n_clusters, 1)
        nearest = np.argsort(distance[upper], kind="stable")[:room]
        used[:] = False
        used[upper[0][nearest], upper[1][nearest]] = True
        used |= used.T
    return used


def _largest_eigenvalue(groups: Groups) -> float:
    xp = groups.problem.backend.xp
    rows = xp.expand_dims(xp.sqrt(groups.weights), axis=1) * groups.points
    gram = rows @ rows.T if rows.shape[0] < rows.shape[1] else rows.T @ rows
    return float(np.linalg.eigvalsh(to_host(gram))[-1])
