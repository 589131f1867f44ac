"""Compiled kernels of the relaxation with cuts; host arrays only. See :mod:`clustering._cuts` for the symbols."""

from __future__ import annotations

import numpy as np

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.jit import njit

__all__ = ["constrained_sweep", "project_cliques", "project_cuts", "relax", "separate", "split"]


@njit()
def relax(z1: FloatArray, z2: FloatArray, t: FloatArray, relaxation: float) -> None:
    """T = relaxation Z1 + (1 - relaxation) Z2 + Y with Y = T - Z2, in place."""
    n = z1.shape[0]
    for i in range(n):
        for j in range(n):
            t[i, j] += relaxation * (z1[i, j] - z2[i, j])


@njit()
def project_cuts(
    t: FloatArray,
    s: FloatArray,
    forbidden: np.ndarray,
    rows: IntArray,
    columns: IntArray,
    values: FloatArray,
    mu: FloatArray,
    sweeps: int,
) -> None:
    """Hildreth's method for min |Z - T| over Z >= 0 and <G_c, Z> <= 0: updates mu and S = sum_c mu_c G_c in place."""
    for _ in range(sweeps):
        for c in range(rows.shape[0]):
            excess, norm = 0.0, 0.0
            for e in range(4):
                value = values[c, e]
                if value == 0.0:
                    continue
                i, j = rows[c, e], columns[c, e]
                norm += value * value if i == j else 0.5 * value * value
                z = t[i, j] - s[i, j]
                if z > 0.0 and not forbidden[i, j]:
                    excess += value * z
            fresh = max(0.0, mu[c] + excess / norm)
            step = fresh - mu[c]
            if step == 0.0:
                continue
            mu[c] = fresh
            for e in range(4):
                value = values[c, e]
                if value == 0.0:
                    continue
                i, j = rows[c, e], columns[c, e]
                if i == j:
                    s[i, i] += step * value
                else:
                    s[i, j] += 0.5 * step * value
                    s[j, i] = s[i, j]


@njit()
def project_cliques(
    t: FloatArray,
    s: FloatArray,
    forbidden: np.ndarray,
    rows: IntArray,
    columns: IntArray,
    values: FloatArray,
    level: float,
    nu: FloatArray,
) -> None:
    """One sweep of the same for sum_e value_e Z_e >= level over pairs e off the diagonal: updates nu and S in place."""
    for c in range(rows.shape[0]):
        total, norm = 0.0, 0.0
        for e in range(rows.shape[1]):
            i, j, value = rows[c, e], columns[c, e], values[c, e]
            norm += 0.5 * value * value
            z = t[i, j] - s[i, j]
            if z > 0.0 and not forbidden[i, j]:
                total += value * z
        fresh = max(0.0, nu[c] + (level - total) / norm)
        step = fresh - nu[c]
        if step == 0.0:
            continue
        nu[c] = fresh
        for e in range(rows.shape[1]):
            i, j = rows[c, e], columns[c, e]
            s[i, j] -= 0.5 * step * values[c, e]
            s[j, i] = s[i, j]


@njit()
def split(
    z1: FloatArray,
    z2: FloatArray,
    t: FloatArray,
    s: FloatArray,
    forbidden: np.ndarray,
    affinity: FloatArray,
    inverse_rho: float,
    matrix: FloatArray,
) -> tuple[float, float]:
    """Z2 = (T - S)+ (0 where forbidden) and 2 Z2 - T + A / rho, in place; the squared residuals."""
    n = z1.shape[0]
    primal, moved = 0.0, 0.0
    for i in range(n):
        for j in range(n):
            z = t[i, j] - s[i, j]
            if z < 0.0 or forbidden[i, j]:
                z = 0.0
            primal += (z1[i, j] - z) * (z1[i, j] - z)
            moved += (z - z2[i, j]) * (z - z2[i, j])
            z2[i, j] = z
            matrix[i, j] = 2.0 * z - t[i, j] + affinity[i, j] * inverse_rho
    return primal, moved


@njit()
def separate(z: FloatArray, threshold: float, per_row: int) -> tuple[IntArray, FloatArray]:
    """Violated pairs and triangles (m, 3) of an unscaled Z and their violations, so many at most per first index."""
    n = z.shape[0]
    cuts = np.empty((n * per_row, 3), dtype=np.int64)
    found = np.empty(n * per_row)
    best = np.empty(per_row)
    which = np.empty((per_row, 2), dtype=np.int64)
    total = 0
    for i in range(n):
        count, least = 0, threshold
        for j in range(n):
            if j == i:
                continue
            for l in range(j, n):
                if l == i:
                    continue
                if j == l:
                    violation = z[i, j] - z[i, i]
                else:
                    violation = z[i, j] + z[i, l] - z[i, i] - z[j, l]
                if violation <= least:
                    continue
                if count < per_row:
                    place = count
                    count += 1
                else:
                    place = int(np.argmin(best))
                best[place] = violation
                which[place, 0], which[place, 1] = j, l
                if count == per_row:
                    least = max(threshold, np.min(best))
        for place in range(count):
            cuts[total, 0], cuts[total, 1], cuts[total, 2] = i, which[place, 0], which[place, 1]
            found[total] = best[place]
            total += 1
    return cuts[:total], found[:total]


@njit()
def constrained_sweep(
    points: FloatArray, weights: FloatArray, labels: IntArray, n_clusters: int, conflicts: np.ndarray
) -> int:
    """Move each row to the cluster that lowers the cost most among those without a conflicting row; in place."""
    n, p = points.shape
    loads = np.zeros(n_clusters)
    counts = np.zeros(n_clusters, dtype=np.int64)
    means = np.zeros((n_clusters, p))
    for i in range(n):
        loads[labels[i]] += weights[i]
        counts[labels[i]] += 1
        means[labels[i]] += weights[i] * points[i]
    for k in range(n_clusters):
        means[k] /= loads[k]
    moved = 0
    allowed = np.empty(n_clusters, dtype=np.bool_)
    for i in range(n):
        k, w = labels[i], weights[i]
        # Beside a weight that all others vanish in, nothing would be left to divide by.
        if counts[k] == 1 or not loads[k] - w > 0.0:
            continue
        allowed[:] = True
        for j in range(n):
            if conflicts[i, j]:
                allowed[labels[j]] = False
        best = np.sum((points[i] - means[k]) ** 2) * w * loads[k] / (loads[k] - w) * (1.0 - 1e-12)
        target = k
        for l in range(n_clusters):
            if l != k and allowed[l]:
                gain = np.sum((points[i] - means[l]) ** 2) * w * loads[l] / (loads[l] + w)
                if gain < best:
                    best, target = gain, l
        if target != k:
            means[k] += (means[k] - points[i]) * w / (loads[k] - w)
            means[target] += (points[i] - means[target]) * w / (loads[target] + w)
            loads[k] -= w
            loads[target] += w
            counts[k] -= 1
            counts[target] += 1
            labels[i] = target
            moved += 1
    return moved
