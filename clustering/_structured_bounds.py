r"""Bounds by multipliers that the labels themselves give, in time and memory proportional to the number of rows.

The *structured* B of a labelling G_1..G_K with total weights n_k, means mu_k and scales t_kl has zero diagonal
blocks and

    r_i^{kl} = max(0, n_l/2 (|x_i - mu_l|^2 - |x_i - mu_k|^2) - t_kl/2 (1 + n_l/n_k)),  i in G_k,
    B_kl = r^{kl} (r^{lk})^T / sqrt(s_kl s_lk),     s_kl = sum_i w_i r_i^{kl}                           (2)

(for weights, rows scaled by sqrt(w)). Then A + B = F G F^T with F of m = p + (number of pairs) columns and G a
permutation, so (1) needs one tall QR factorisation and an m x m eigenproblem.

A row s of G_k nearly between k and l has r_s < 0 before clipping at the scale that the other rows need, and clipping makes
the bound loose. The triangle inequalities Z_sj + Z_si <= Z_ss + Z_ij (in the weights' units) of s with j in G_l and i in
G_k hold for every clustering and are tight at this one. Multiplied by M a_j b_i with a, b >= 0 of weighted sum one on G_l
and G_k, b_s = 0, they add to A + B

    M/2 [(e - a)(e - b)^T + (e - b)(e - a)^T],    e the unit vector of s (for weights, over w_s),                  (3)

which takes M/2 (1 + n_l/n_k) b_i off r_i^{kl} and M/2 n_h/n_k b_i off r_i^{kh}, and gives row s as much as it takes off the
others. With M = -2 w_s r_s / (1 + n_l/n_k), a ~ r^{lk} and b ~ r^{kl} nothing is clipped, and F gains one column a cut.

(1) is the bound of :mod:`clustering._ky_fan`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from clustering._ky_fan import EIGEN_ERROR, FORM_ERROR, LowerBound, less_drift, multiplier_bound
from clustering._problem import Groups
from solvers._core.arrays import Array, FloatArray, IntArray, to_host
from solvers._core.linalg import UNIT, row_chunks, tall_r_factor

__all__ = ["dense_multiplier", "structured_bound"]

NO_CUTS: IntArray = np.empty((0, 2), dtype=np.int64)
NO_MULTIPLIERS: FloatArray = np.empty(0)


@dataclass(frozen=True)
class Cut:
    """Row (position in its cluster), another cluster and M of (3)."""

    row: int
    other: int
    multiplier: float


def structured_bound(
    groups: Groups, scales: FloatArray, cuts: IntArray = NO_CUTS, multipliers: FloatArray = NO_MULTIPLIERS
) -> LowerBound:
    """(1) for the multiplier (2) and cuts (3). O(n (p + K)^2) time and O(n (p + K)) memory, or dense where smaller."""
    problem = groups.problem
    mine = _cuts_of_clusters(groups, cuts, multipliers)
    factors, rho, partners = _structure(groups, scales, mine)
    m = problem.p + sum(len(partner) for partner in partners)
    if m + 1 >= problem.n and len(cuts) == 0:
        return multiplier_bound(problem, dense_multiplier(groups, scales))
    return _factored_bound(groups, factors, rho, partners, mine)


def _cuts_of_clusters(groups: Groups, cuts: IntArray, multipliers: FloatArray) -> list[list[Cut]]:
    """The cuts of the rows of each cluster."""
    found: list[list[Cut]] = [[] for _ in groups.slices]
    if len(cuts):
        place = np.argsort(to_host(groups.order), kind="stable")[cuts[:, 0]]
        of_row = np.searchsorted(groups.offsets, place, side="right") - 1
        for position, k, other, multiplier in zip(place, of_row, cuts[:, 1], multipliers, strict=True):
            found[int(k)].append(Cut(int(position - groups.offsets[k]), int(other), float(multiplier)))
    return found


def dense_multiplier(groups: Groups, scales: FloatArray) -> Array:
    """B of (2) as an (n, n) array in the problem's row order."""
    problem = groups.problem
    xp, device = problem.backend.xp, problem.backend.device
    factors, rho, partners = _structure(groups, scales, [[] for _ in groups.slices])
    columns = [_columns(groups, factors, rho, partners, k) for k in range(problem.n_clusters)]
    bands = []
    for k in range(problem.n_clusters):
        blocks = []
        for l in range(problem.n_clusters):
            if rho[k, l] > 0:
                mine = columns[k][:, int(np.flatnonzero(partners[k] == l)[0])]
                theirs = columns[l][:, int(np.flatnonzero(partners[l] == k)[0])]
                blocks.append(xp.expand_dims(mine, axis=1) * theirs)
            else:
                shape = (columns[k].shape[0], columns[l].shape[0])
                blocks.append(xp.zeros(shape, dtype=xp.float64, device=device))
        bands.append(xp.concat(blocks, axis=1))
    inverse = xp.argsort(groups.order, stable=True)
    return xp.take(xp.take(xp.concat(bands, axis=0), inverse, axis=0), inverse, axis=1)


def _structure(
    groups: Groups, scales: FloatArray, cuts: list[list[Cut]]
) -> tuple[list[Array], FloatArray, list[IntArray]]:
    """The r^{kl} of each cluster, rho_kl = sqrt(s_kl s_lk) (zero where either sum is), and the pairs with rho > 0."""
    factors = [_after_cuts(groups, _factor_of(groups, scales, k), k, mine) for k, mine in enumerate(cuts)]
    sums = np.stack([to_host(groups.weights[rows] @ r) for rows, r in zip(groups.slices, factors, strict=True)])
    np.fill_diagonal(sums, 0.0)
    rho = np.sqrt(sums) * np.sqrt(sums.T)
    return factors, rho, [np.flatnonzero(row > 0) for row in rho]


def _factor_of(groups: Groups, scales: FloatArray, k: int) -> Array:
    """r^{kl} of (2) for cluster k, one column per cluster l; zero for l = k and for infinite scales."""
    xp = groups.problem.backend.xp
    take = groups.problem.backend.take
    x = groups.points[groups.slices[k], :]
    offset = groups.means - groups.means[k, :]
    # |x - mu_l|^2 - |x - mu_k|^2 with the origin at mu_k, where it cancels least.
    excess = xp.sum(offset * offset, axis=1) - 2.0 * ((x - groups.means[k, :]) @ offset.T)
    used = np.isfinite(scales[k])
    used[k] = False
    n_l = np.where(used, groups.totals, 0.0)
    threshold = np.where(used, scales[k], 0.0) * (1.0 + groups.totals / groups.totals[k])
    r = 0.5 * take(n_l) * excess - 0.5 * take(np.where(used, threshold, 0.0))
    return xp.where(r > 0, r, xp.zeros_like(r))


def _after_cuts(groups: Groups, r: Array, k: int, cuts: list[Cut]) -> Array:
    """r^{kl} with what the cuts of rows of cluster k take off and give; zero at (row, l) of each cut."""
    if not cuts:
        return r
    xp, take = groups.problem.backend.xp, groups.problem.backend.take
    weights = groups.weights[groups.slices[k]]
    n_k, n_clusters = r.shape
    zero = np.zeros((n_k, n_clusters), dtype=bool)
    total: FloatArray = np.zeros(n_clusters)
    for cut in cuts:
        zero[cut.row, cut.other] = True
        total[cut.other] += cut.multiplier
    r = xp.where(take(zero), xp.zeros_like(r), r)
    share = groups.totals / groups.totals[k]
    sums = to_host(weights @ r)
    kept = 1.0 - 0.5 * total * (1.0 + share) / np.where(sums > 0, sums, 1.0)
    r = r * take(np.maximum(kept, 0.0))
    sums = to_host(weights @ r)
    given = np.zeros((n_k, n_clusters))
    for cut in cuts:
        given[cut.row] += 0.5 * cut.multiplier / float(weights[cut.row]) * share * (np.arange(n_clusters) != cut.other)
    taken = np.zeros((n_clusters, n_clusters))
    for other in np.flatnonzero((total > 0) & (sums > 0)):
        taken[other] = 0.5 * total[other] / sums[other] * share
        taken[other, other] = 0.0
    changed = r + take(given) - r @ take(taken)
    return xp.where((changed > 0) & (r > 0) & take(~zero), changed, xp.zeros_like(r))


def _columns(groups: Groups, factors: list[Array], rho: FloatArray, partners: list[IntArray], k: int) -> Array:
    """sqrt(w) r^{kl} / sqrt(rho_kl) for the partners l of cluster k."""
    xp, take = groups.problem.backend.xp, groups.problem.backend.take
    chosen = xp.take(factors[k], take(partners[k]), axis=1)
    root = xp.sqrt(groups.weights[groups.slices[k]])
    return xp.expand_dims(root, axis=1) * chosen * take(1.0 / np.sqrt(rho[k, partners[k]]))


def _factored_bound(
    groups: Groups, factors: list[Array], rho: FloatArray, partners: list[IntArray], cuts: list[list[Cut]]
) -> LowerBound:
    """(1) from R of the QR factorisation of [q, F]: dropping its first row and column leaves R of P F."""
    problem = groups.problem
    xp, take = problem.backend.xp, problem.backend.take
    n_clusters, p = problem.n_clusters, problem.p
    widths = [len(partner) + len(mine) for partner, mine in zip(partners, cuts, strict=True)]
    begin = p + np.concatenate([[0], np.cumsum(widths)])
    norms: FloatArray = np.zeros(int(begin[-1]))
    triangles, depth = [], 0
    for k in range(n_clusters):
        rows = groups.slices[k]
        root = xp.expand_dims(xp.sqrt(groups.weights[rows]), axis=1)
        columns = _columns(groups, factors, rho, partners, k)
        if cuts[k]:
            units = np.zeros((rows.stop - rows.start, len(cuts[k])))
            units[[cut.row for cut in cuts[k]], np.arange(len(cuts[k]))] = 1.0
            columns = xp.concat([columns, take(units) / root], axis=1)
        norms[begin[k] : begin[k + 1]] = to_host(xp.sqrt(xp.sum(columns**2, axis=0)))
        stacked = xp.concat(
            [root / math.sqrt(float(np.sum(groups.totals))), root * groups.points[rows, :], columns], axis=1
        )
        chunks = row_chunks(stacked)
        triangle, path = tall_r_factor(xp, chunks)
        depth = max(depth, path)
        left, right = int(begin[k]) - p, int(begin[-1] - begin[k + 1])
        zeros = [
            xp.zeros((triangle.shape[0], width), dtype=xp.float64, device=problem.backend.device)
            for width in (left, right)
        ]
        triangles.append(xp.concat([triangle[:, : 1 + p], zeros[0], triangle[:, 1 + p :], zeros[1]], axis=1))
    merged, path = tall_r_factor(xp, triangles)
    depth += path
    r = to_host(merged)[1:, 1:]
    m = r.shape[1]
    place = {(k, int(l)): int(begin[k]) + j for k in range(n_clusters) for j, l in enumerate(partners[k])}
    swap = np.arange(m)
    for (k, l), index in place.items():
        swap[index] = place[l, k]
    image = r[:, swap]
    for k, mine in enumerate(cuts):
        image[:, int(begin[k + 1]) - len(mine) : int(begin[k + 1])] = 0.0
    size = problem.scatter + float(np.sum((norms * norms[swap])[list(place.values())]))
    for (i, j), value in _cut_entries(groups, factors, rho, place, begin, cuts).items():
        image[:, j] += value * r[:, i]
        size += abs(value) * float(norms[i] * norms[j])
    matrix = image @ r.T
    count = min(n_clusters - 1, matrix.shape[0])
    # Beyond the m eigenvalues all are zero, so negative ones among the largest K - 1 do not count.
    values = np.linalg.eigvalsh(0.5 * (matrix + matrix.T))[::-1][:count]
    top = float(np.sum(np.maximum(values, 0.0)))
    form = float(np.sum(rho)) / float(np.sum(groups.totals))
    # The sums s_kl are inner products over a cluster, with no order of summation assumed.
    per_entry = depth + 24
    per_sum = max(rows.stop - rows.start for rows in groups.slices) + FORM_ERROR
    # Rounding of the sums of a and b in (3): each of four terms is at most M / (least weight), and q^T (e - a) = 0.
    loose = sum(cut.multiplier for mine in cuts for cut in mine) / float(xp.min(groups.weights))
    error = UNIT * (
        (2 * m * per_entry + 2 * EIGEN_ERROR * max(n_clusters - 1, 1) * m) * size
        + (per_entry + per_sum) * (form + 8.0 * loose)
    )
    return less_drift(problem, LowerBound(problem.scatter - form - top, error))


def _cut_entries(
    groups: Groups,
    factors: list[Array],
    rho: FloatArray,
    place: dict[tuple[int, int], int],
    begin: IntArray,
    cuts: list[list[Cut]],
) -> dict[tuple[int, int], float]:
    """What the cuts (3) add to G."""
    entries: dict[tuple[int, int], float] = {}

    def add(i: int, j: int, value: float) -> None:
        for pair in {(i, j), (j, i)}:
            entries[pair] = entries.get(pair, 0.0) + value

    for k, mine in enumerate(cuts):
        first = int(begin[k + 1]) - len(mine)
        for unit, cut in enumerate(mine, start=first):
            if (k, cut.other) not in place:
                continue
            a, b = place[cut.other, k], place[k, cut.other]
            of_a = math.sqrt(rho[k, cut.other]) / float(
                groups.weights[groups.slices[cut.other]] @ factors[cut.other][:, k]
            )
            of_b = math.sqrt(rho[k, cut.other]) / float(groups.weights[groups.slices[k]] @ factors[k][:, cut.other])
            add(unit, unit, cut.multiplier)
            add(unit, a, -0.5 * cut.multiplier * of_a)
            add(unit, b, -0.5 * cut.multiplier * of_b)
            add(a, b, 0.5 * cut.multiplier * of_a * of_b)
    return entries
