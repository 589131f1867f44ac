"""Compiled kernels for NumPy arrays; same names, signatures and meaning as in :mod:`clustering._kernels_array`."""

from __future__ import annotations

import math

import numpy as np

from clustering._spectral import Spectrum, project_spectrum
from solvers._core.arrays import FloatArray, IntArray
from solvers._core.jit import njit

__all__ = ["admm_step", "assign", "improve_labels", "structured_moments"]

MOVE_TOLERANCE = 1e-12


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
        if counts[k] == 1:
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


@njit()
def structured_moments(
    points: FloatArray, weights: FloatArray, offsets: IntArray, means: FloatArray, totals: FloatArray, scale: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Sums, cross moments and products of the structured multiplier at one scale."""
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
            constant[l] = square - 0.5 * scale * (1.0 + totals[l] / totals[k])
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


def admm_step(
    affinity: FloatArray,
    state: tuple[FloatArray, FloatArray],
    q: FloatArray,
    rho: float,
    trace: float,
    relaxation: float,
) -> tuple[tuple[FloatArray, FloatArray], Spectrum, float, float]:
    """One iteration of the two-block splitting; see the array kernel for the formulas."""
    z2, y = state
    spectrum = project_spectrum(z2 - y + affinity / rho, q, trace)
    fresh, multiplier, primal, moved = _split(spectrum.matrix(), z2, y, relaxation)
    return (fresh, multiplier), spectrum, math.sqrt(primal), rho * math.sqrt(moved)


@njit()
def _split(
    z1: FloatArray, z2: FloatArray, y: FloatArray, relaxation: float
) -> tuple[FloatArray, FloatArray, float, float]:
    """Z2, Y and the squared residuals, in one pass over the matrices."""
    n = z1.shape[0]
    fresh, multiplier = np.empty_like(z1), np.empty_like(z1)
    primal, moved = 0.0, 0.0
    for i in range(n):
        for j in range(n):
            t = relaxation * z1[i, j] + (1.0 - relaxation) * z2[i, j] + y[i, j]
            positive = t if t > 0.0 else 0.0
            fresh[i, j] = positive
            multiplier[i, j] = t - positive
            primal += (z1[i, j] - positive) ** 2
            moved += (positive - z2[i, j]) ** 2
    return fresh, multiplier, primal, moved
