"""Compiled kernels for NumPy arrays; same names, signatures and meaning as in :mod:`clustering._kernels_array`."""

from __future__ import annotations

import math

import numpy as np

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.jit import njit

__all__ = [
    "assign",
    "balance_blocks",
    "deflate",
    "face_multiplier",
    "face_step",
    "filter_step",
    "improve_labels",
    "multiplier",
    "rescale_multiplier",
    "spectral_argument",
    "splitting_step",
    "structured_moments",
]

MOVE_TOLERANCE = 1e-12
NO_DIRECTION = np.empty(0)


@njit()
def assign(points: FloatArray, centers: FloatArray) -> IntArray:
    """Index of the nearest centre of each row, (n,) int64."""
    n, p = points.shape
    labels = np.empty(n, dtype=np.int64)
    for i in range(n):
        best, nearest = math.inf, 0
        for k in range(centers.shape[0]):
            distance = 0.0
            for j in range(p):
                difference = points[i, j] - centers[k, j]
                distance += difference * difference
            if distance < best:
                best, nearest = distance, k
        labels[i] = nearest
    return labels


def improve_labels(points: FloatArray, weights: FloatArray, labels: IntArray, n_clusters: int) -> tuple[IntArray, int]:
    """One sweep of Hartigan-Wong moves; returns the labels and the number of rows moved."""
    fresh = np.array(labels)
    moved = _sweep(points, weights, fresh, n_clusters, MOVE_TOLERANCE)
    return fresh, moved


@njit()
def _sweep(points: FloatArray, weights: FloatArray, labels: IntArray, n_clusters: int, tolerance: float) -> int:
    """Move each row in turn to the cluster that lowers the cost most, keeping every cluster non-empty."""
    n, p = points.shape
    loads = np.zeros(n_clusters)
    counts = np.zeros(n_clusters, dtype=np.int64)
    means = np.zeros((n_clusters, p))
    for i in range(n):
        k = labels[i]
        loads[k] += weights[i]
        counts[k] += 1
        for j in range(p):
            means[k, j] += weights[i] * points[i, j]
    for k in range(n_clusters):
        for j in range(p):
            means[k, j] /= loads[k]
    moved = 0
    for i in range(n):
        k, w = labels[i], weights[i]
        if counts[k] == 1 or not loads[k] > w:
            continue
        distance = 0.0
        for j in range(p):
            difference = points[i, j] - means[k, j]
            distance += difference * difference
        leaving = distance * w * loads[k] / (loads[k] - w)
        best, target = leaving * (1.0 - tolerance), k
        for l in range(n_clusters):
            if l == k:
                continue
            factor = w * loads[l] / (loads[l] + w)
            distance = 0.0
            for j in range(p):
                difference = points[i, j] - means[l, j]
                distance += difference * difference
            if distance * factor < best:
                best, target = distance * factor, l
        if target != k:
            for j in range(p):
                means[k, j] += (means[k, j] - points[i, j]) * w / (loads[k] - w)
                means[target, j] += (points[i, j] - means[target, j]) * w / (loads[target] + w)
            loads[k] -= w
            loads[target] += w
            counts[k] -= 1
            counts[target] += 1
            labels[i] = target
            moved += 1
    return moved


@njit(fastmath={"reassoc", "contract"})
def structured_moments(
    points: FloatArray,
    weights: FloatArray,
    offsets: IntArray,
    means: FloatArray,
    totals: FloatArray,
    scales: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Sums, cross moments and products of the structured multiplier; see the array kernel."""
    p = points.shape[1]
    n_clusters = len(totals)
    sums = np.zeros((n_clusters, n_clusters))
    cross = np.zeros((n_clusters, n_clusters, p))
    products = np.zeros((n_clusters, n_clusters, n_clusters))
    r = np.zeros(n_clusters)
    slope = np.empty((n_clusters, p))
    constant = np.empty(n_clusters)
    for k in range(n_clusters):
        for l in range(n_clusters):
            # r_l = constant_l + slope_l . x, an affine function of the point.
            square = 0.0
            for j in range(p):
                offset = means[l, j] - means[k, j]
                slope[l, j] = -totals[l] * offset
                square += 0.5 * totals[l] * offset * (means[l, j] + means[k, j])
            constant[l] = square - 0.5 * scales[k, l] * (1.0 + totals[l] / totals[k])
        for i in range(offsets[k], offsets[k + 1]):
            w = weights[i]
            for l in range(n_clusters):
                if l == k:
                    continue
                value = constant[l]
                for j in range(p):
                    value += slope[l, j] * points[i, j]
                r[l] = value if value > 0.0 else 0.0
            r[k] = 0.0
            for l in range(n_clusters):
                if r[l] == 0.0:
                    continue
                weighted = w * r[l]
                sums[k, l] += weighted
                for j in range(p):
                    cross[k, l, j] += weighted * points[i, j]
                for j in range(n_clusters):
                    products[k, l, j] += weighted * r[j]
    return sums, cross, products


def spectral_argument(state: FloatArray, affinity: FloatArray, rho: float) -> FloatArray:
    """|T| + A / rho, the matrix that the spectral block projects."""
    return np.abs(state) + affinity / rho


def rescale_multiplier(state: FloatArray, factor: float) -> FloatArray:
    """T with its negative part Y multiplied by a factor."""
    return np.where(state < 0, factor * state, state)


def multiplier(state: FloatArray, rho: float) -> FloatArray:
    """B = -rho Y, exactly symmetric."""
    return _multiplier(state, rho)


def splitting_step(
    factor: FloatArray, state: FloatArray, matrix: FloatArray, affinity: FloatArray, rho: float, relaxation: float
) -> tuple[FloatArray, FloatArray, float, float]:
    """Block 2 and the next argument of block 1, in place of ``state`` and ``matrix``; see the array kernel."""
    np.matmul(factor, factor.T, out=matrix)
    primal, moved = _split(matrix, state, affinity, 1.0 / rho, relaxation)
    return state, matrix, math.sqrt(primal), math.sqrt(moved)


@njit()
def _multiplier(state: FloatArray, rho: float) -> FloatArray:
    n = state.shape[0]
    result = np.zeros((n, n))
    for i in range(n):
        for j in range(i):
            value = -0.5 * rho * (min(state[i, j], 0.0) + min(state[j, i], 0.0))
            result[i, j] = value
            result[j, i] = value
        result[i, i] = -rho * min(state[i, i], 0.0)
    return result


@njit(fastmath={"reassoc", "contract"})
def _split(
    z1: FloatArray, state: FloatArray, affinity: FloatArray, inverse_rho: float, relaxation: float
) -> tuple[float, float]:
    """One pass over the matrices; z1 becomes |T| + A / rho. Returns the squared residuals."""
    n = z1.shape[0]
    primal, moved = 0.0, 0.0
    for i in range(n):
        for j in range(n):
            z = z1[i, j]
            old = state[i, j]
            positive_before = max(old, 0.0)
            t = relaxation * z - relaxation * positive_before + old
            positive = max(t, 0.0)
            primal += (z - positive) * (z - positive)
            moved += (positive - positive_before) * (positive - positive_before)
            state[i, j] = t
            z1[i, j] = abs(t) + affinity[i, j] * inverse_rho
    return primal, moved


def face_step(
    change: FloatArray, state: FloatArray, affinity: FloatArray, labels: IntArray
) -> tuple[FloatArray, FloatArray]:
    """The state of the finish and A + its reflection, in place of ``change``; see the array kernel."""
    matrix = np.empty_like(change)
    _face(change, state, affinity, labels, matrix)
    return change, matrix


def face_multiplier(state: FloatArray, labels: IntArray) -> FloatArray:
    """max(T, 0) off the diagonal blocks, where it vanishes."""
    return np.where((labels[:, None] == labels) | (state < 0), 0.0, state)


@njit()
def _face(change: FloatArray, state: FloatArray, affinity: FloatArray, labels: IntArray, matrix: FloatArray) -> None:
    n = state.shape[0]
    for i in range(n):
        for j in range(n):
            if labels[i] == labels[j]:
                matrix[i, j] = affinity[i, j] - change[i, j]
            else:
                change[i, j] += max(state[i, j], 0.0)
                matrix[i, j] = affinity[i, j] + abs(change[i, j])


def deflate(block: FloatArray, q: FloatArray) -> FloatArray:
    """The columns of a block, orthogonal to the unit vector q."""
    return _deflated(np.ascontiguousarray(block), q)


def filter_step(
    image: FloatArray,
    now: FloatArray,
    before: FloatArray,
    q: FloatArray | None,
    centre: float,
    scale: float,
    weight: float,
) -> FloatArray:
    """One step of a Chebyshev recurrence; see the array kernel."""
    along = np.zeros(image.shape[1]) if q is None else q @ image
    direction = NO_DIRECTION if q is None else q
    return _filtered(
        image, np.ascontiguousarray(now), np.ascontiguousarray(before), direction, along, centre, scale, weight
    )


@njit()
def _deflated(block: FloatArray, q: FloatArray) -> FloatArray:
    n, columns = block.shape
    along = np.zeros(columns)
    for i in range(n):
        for j in range(columns):
            along[j] += q[i] * block[i, j]
    result = np.empty_like(block)
    for i in range(n):
        for j in range(columns):
            result[i, j] = block[i, j] - q[i] * along[j]
    return result


@njit()
def _filtered(
    image: FloatArray,
    now: FloatArray,
    before: FloatArray,
    q: FloatArray,
    along: FloatArray,
    centre: float,
    scale: float,
    weight: float,
) -> FloatArray:
    n, columns = image.shape
    result = np.empty((n, columns))
    deflating = len(q) == n
    for i in range(n):
        component = q[i] if deflating else 0.0
        for j in range(columns):
            value = image[i, j] - component * along[j]
            result[i, j] = scale * (value - centre * now[i, j]) - weight * before[i, j]
    return result


def balance_blocks(points: FloatArray, place: IntArray, n_blocks: int, sweeps: int) -> IntArray:
    """Blocks of the centred rows of one cluster after exchanges; see the array kernel."""
    fresh = np.array(place)
    _exchange(points, fresh, n_blocks, sweeps)
    return fresh


@njit()
def _exchange(points: FloatArray, place: IntArray, n_blocks: int, sweeps: int) -> None:
    """Exchange rows of different blocks while that lowers sum_j |sum of block j|^2 / (size of block j)."""
    n, p = points.shape
    sums = np.zeros((n_blocks, p))
    counts = np.zeros(n_blocks)
    for i in range(n):
        counts[place[i]] += 1.0
        for j in range(p):
            sums[place[i], j] += points[i, j]
    for sweep in range(sweeps):
        for i in range(n):
            # Partners at a distance that grows with the sweep: no random numbers needed.
            other = (i + 1 + sweep * (sweep + 3) * 7) % n
            a, b = place[i], place[other]
            if a == b:
                continue
            change = 0.0
            for j in range(p):
                step = points[other, j] - points[i, j]
                change += step * (2.0 * sums[a, j] + step) / counts[a] - step * (2.0 * sums[b, j] - step) / counts[b]
            if change < 0.0:
                for j in range(p):
                    step = points[other, j] - points[i, j]
                    sums[a, j] += step
                    sums[b, j] -= step
                place[i], place[other] = b, a
