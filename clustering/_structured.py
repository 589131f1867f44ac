"""Search for the scale of the structured multiplier, and for its cuts: the iteration behind ``method="structured"``.

The value at given scales is estimated from the m x m Gram matrix of P F (see :mod:`clustering._structured_bounds` for F), which
squares the condition number and therefore proves nothing; the winner goes to the rigorous evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from clustering._ky_fan import LowerBound
from clustering._problem import Groups, largest_eigenvalue
from clustering._result import StructuredCertificate
from clustering._structured_bounds import structured_bound
from solvers._core.arrays import Array, FloatArray, to_host

__all__ = ["Trial", "certify", "cut_trials", "scale_trials"]

COARSE_TRIALS = 7
REFINING_TRIALS = 10
# Search over one scale for each pair of clusters: most pairs, first step of a logarithm, sweeps, and the share of the
# open gap that a sweep must close to be followed by another.
MAX_SCALED_PAIRS = 28
FIRST_STEP = 0.2
PAIR_SWEEPS = 6
PAIR_PROGRESS = 0.02
# Relative gap below which scales of pairs are not searched: what keeps it open then are single rows between two clusters,
# and on 50,000 rows with gaps of 1e-6 and 1e-9 the search closed 3 % of it.
PAIRS_GAP = 1e-4
# Pairs of clusters beyond this count are left out, the most distant ones first: the eigenproblem stays small.
MAX_COLUMNS = 1_200
# Scales of the trials with cuts, relative to the largest eigenvalue of the scatter within clusters; the most rows they
# cut, and the least rows for each.
CUT_SCALES = (1.2, 1.35)
MOST_CUT_ROWS, ROWS_PER_CUT = 50, 20
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


@dataclass(frozen=True)
class Trial:
    """Scales (K, K), symmetric, the estimated bound there, and its proof where it was evaluated to the end."""

    scales: FloatArray
    estimate: float
    proof: tuple[LowerBound, StructuredCertificate] | None = None

    @property
    def scale(self) -> float:
        """One scale in place of all."""
        return float(np.median(self.scales))


def certify(groups: Groups, trial: Trial) -> tuple[LowerBound, StructuredCertificate]:
    """The rigorous bound at the scales of a trial."""
    if trial.proof is not None:
        return trial.proof
    scales = np.where(_used_pairs(groups), trial.scales, np.inf)
    certificate = StructuredCertificate(to_host(groups.labels).astype(np.int64), scales)
    return structured_bound(groups, scales), certificate


def scale_trials(groups: Groups, target: float, *, pairs: bool = True) -> Iterator[Trial]:
    """Evaluate scales: one with cuts, then one without, then, if the target was not reached, one for each pair."""
    for trial in cut_trials(groups):
        yield trial
        if trial.estimate >= target:
            return
    best = None
    for trial in _common_scale_trials(groups, target):
        if best is None or trial.estimate > best.estimate:
            best = trial
        yield trial
    n_pairs = groups.problem.n_clusters * (groups.problem.n_clusters - 1) // 2
    worthwhile = best is not None and best.estimate < min(target, groups.cost * (1.0 - PAIRS_GAP))
    if pairs and best is not None and worthwhile and 1 < n_pairs <= MAX_SCALED_PAIRS:
        yield from _pair_scale_trials(groups, best, target)


def _pair_scale_trials(groups: Groups, best: Trial, target: float) -> Iterator[Trial]:
    """Coordinate search over the logarithms of the pairs' scales, with steps that shrink."""
    estimate = _Estimator(groups)
    n_clusters = groups.problem.n_clusters
    steps = dict.fromkeys(zip(*np.triu_indices(n_clusters, 1), strict=True), FIRST_STEP)
    for _ in range(PAIR_SWEEPS):
        before = best.estimate
        for (k, l), step in steps.items():
            for direction in (1.0, -1.0):
                scales = best.scales.copy()
                scales[k, l] = scales[l, k] = scales[k, l] * math.exp(direction * step)
                trial = Trial(scales, estimate(scales))
                yield trial
                if trial.estimate > best.estimate:
                    best = trial
                    steps[k, l] = direction * step * 1.5
                    break
            else:
                steps[k, l] = 0.4 * step
            if best.estimate >= target:
                return
        if best.estimate - before <= PAIR_PROGRESS * (groups.cost - best.estimate):
            return


def _common_scale_trials(groups: Groups, target: float) -> Iterator[Trial]:
    """One scale for all pairs, best guess first: the largest without clipping, a geometric grid, then golden sections.

    Ends early once an estimate reaches ``target``. The bound was unimodal in log t on every instance scanned; where it
    is not, a worse scale is found and the bound is still true.
    """
    xp = groups.problem.backend.xp
    top = largest_eigenvalue(xp.expand_dims(xp.sqrt(groups.weights), axis=1) * groups.points)
    if groups.problem.n_clusters == 1 or top <= 0.0:
        yield Trial(np.full((groups.problem.n_clusters,) * 2, 1.0), groups.cost)
        return
    estimator = _Estimator(groups)

    def uniform(scale: float) -> FloatArray:
        return np.full((groups.problem.n_clusters,) * 2, scale)

    def estimate(scale: float) -> float:
        return estimator(uniform(scale))

    unclipped = largest_unclipped_scale(groups)
    scales = [float(share) * top for share in np.geomspace(0.02, 1.0, COARSE_TRIALS)]
    if 0.0 < unclipped < math.inf:
        scales.append(unclipped)
    found: dict[float, float] = {}
    for scale in sorted(scales, key=lambda s: s != unclipped):
        found[scale] = estimate(scale)
        yield Trial(uniform(scale), found[scale])
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
            yield Trial(uniform(math.exp(left)), value_left)
        if value_right is None:
            value_right = estimate(math.exp(right))
            yield Trial(uniform(math.exp(right)), value_right)
        if max(value_left, value_right) >= target:
            return
        if value_left >= value_right:
            high, right, value_right = right, left, value_left
            left, value_left = high - GOLDEN * (high - low), None
        else:
            low, left, value_left = left, right, value_right
            right, value_right = low + GOLDEN * (high - low), None


def cut_trials(groups: Groups) -> Iterator[Trial]:
    """Scales that separate the clusters, with cuts for the rows clipped there, while these are few."""
    problem = groups.problem
    if not 1 < problem.n_clusters < problem.n:
        return
    xp, take = problem.backend.xp, problem.backend.take
    top = _scatter_within(groups)
    limits = [_row_scales(groups, k) for k in range(problem.n_clusters)]
    nearest = np.concatenate([to_host(xp.min(limit, axis=1)) for limit in limits])
    for factor in CUT_SCALES:
        scale = factor * top
        short = np.flatnonzero(nearest < scale)
        if len(short) > min(MOST_CUT_ROWS, problem.n // ROWS_PER_CUT) or not nearest.min() > 0.0:
            return
        of_row = np.searchsorted(groups.offsets, short, side="right") - 1
        others = [int(xp.argmin(limits[k][int(i - groups.offsets[k]), :])) for i, k in zip(short, of_row, strict=True)]
        rows, weights = (to_host(xp.take(array, take(short))) for array in (groups.order, groups.weights))
        scales = np.full((problem.n_clusters,) * 2, scale)
        certificate = StructuredCertificate(
            to_host(groups.labels).astype(np.int64),
            np.where(_used_pairs(groups), scales, np.inf),
            np.stack([rows.astype(np.int64), np.array(others, dtype=np.int64)], axis=1),
            np.asarray(weights * (scale - nearest[short]), dtype=np.float64),
        )
        bound = structured_bound(groups, certificate.scales, certificate.cuts, certificate.cut_multipliers)
        yield Trial(scales, bound.value, (bound, certificate))


def _scatter_within(groups: Groups) -> float:
    """Largest eigenvalue of the scatter within clusters; for scaling, not for bounds."""
    problem = groups.problem
    xp, take = problem.backend.xp, problem.backend.take
    rows = xp.expand_dims(xp.sqrt(groups.weights), axis=1) * groups.points
    if problem.p <= problem.n:
        centers = take(np.sqrt(groups.totals)[:, None]) * groups.means
        return max(0.0, float(np.linalg.eigvalsh(to_host(rows.T @ rows) - to_host(centers.T @ centers))[-1]))
    own = take(np.repeat(np.arange(problem.n_clusters), np.diff(groups.offsets)))
    return largest_eigenvalue(
        rows - xp.expand_dims(xp.sqrt(groups.weights), axis=1) * xp.take(groups.means, own, axis=0)
    )


def largest_unclipped_scale(groups: Groups) -> float:
    """t_max: the largest scale at which no r of the structured multiplier is clipped; may be negative."""
    xp = groups.problem.backend.xp
    return min(float(xp.min(_row_scales(groups, k))) for k in range(groups.problem.n_clusters))


def _row_scales(groups: Groups, k: int) -> Array:
    """For the rows of cluster k, the largest scale at which r^{kl} is not clipped; inf for l = k."""
    xp, take = groups.problem.backend.xp, groups.problem.backend.take
    x = groups.points[groups.slices[k], :]
    offset = groups.means - groups.means[k, :]
    excess = xp.sum(offset * offset, axis=1) - 2.0 * ((x - groups.means[k, :]) @ offset.T)
    itself = np.arange(groups.problem.n_clusters) == k
    pair = groups.totals[k] * groups.totals / (groups.totals[k] + groups.totals)
    return excess * take(pair) + take(np.where(itself, np.inf, 0.0))


class _Estimator:
    """Estimated bound at given scales, from the Gram matrix of P F or, for small n, from the dense multiplier."""

    def __init__(self, groups: Groups) -> None:
        self.groups = groups
        problem = groups.problem
        xp = problem.backend.xp
        self.used = _used_pairs(groups)
        self.pairs = np.argwhere(self.used)
        self.m = problem.p + len(self.pairs)
        rows = xp.expand_dims(xp.sqrt(groups.weights), axis=1) * groups.points
        self.covariance = to_host(rows.T @ rows)

    def __call__(self, scales: FloatArray) -> float:
        problem = self.groups.problem
        if self.m + 1 >= problem.n:
            return structured_bound(self.groups, np.where(self.used, scales, np.inf)).value
        sums, cross, products = problem.backend.kernels.structured_moments(
            self.groups.points, self.groups.weights, self.groups.offsets, self.groups.means, self.groups.totals, scales
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
