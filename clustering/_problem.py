"""The k-means problem after validation, and a labelling laid out by cluster.

Points x_i in R^p with weights w_i > 0, K clusters. Everything below works on points that were centred twice: after one
subtraction of the weighted mean the rounding error of the mean is still there, and with an offset of 1e8 spreads it
would cost digits of the bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from solvers._core.arrays import Array, FloatArray, IntArray, as_float_array, freeze, kind_of, to_host
from solvers._core.backend import Backend
from solvers._core.errors import InvalidProblemError
from solvers._core.linalg import UNIT
from solvers._core.options import check_integer

__all__ = ["Groups", "KMeansProblem", "contracted", "kmeans_problem", "largest_eigenvalue", "validate_points"]


# Magnitudes of rows and weights whose products (fourth powers of rows, cubes of weights) stay well inside float64.
SAFE_MAGNITUDES = (1e-45, 1e45)
SAFE_WEIGHTS = (1e-30, 1e30)


@dataclass(frozen=True)
class KMeansProblem:
    """Rows of positive weight, centred.

    Attributes
    ----------
    points : (n, p) array
        Centred rows of positive weight, on the backend's device.
    weights : (n,) array
        Their weights; ones where none were given.
    shift : (p,) array
        What was subtracted: original row = point + shift.
    kept : (n,) host integers or None
        Original indices of the rows kept; None if all.
    n_rows, n_clusters : int
        Rows of the original data; K.
    scatter : float
        T = sum of w_i |x_i|^2, the cost of one cluster: the scale of the problem.
    backend : Backend
    """

    points: Array
    weights: Array
    shift: Array
    kept: IntArray | None
    n_rows: int
    n_clusters: int
    scatter: float
    backend: Backend

    @property
    def n(self) -> int:
        """Rows of positive weight."""
        return int(self.points.shape[0])

    @property
    def p(self) -> int:
        """Columns."""
        return int(self.points.shape[1])

    @cached_property
    def host_points(self) -> FloatArray:
        """The centred points as NumPy: the explicit copy that seeding and certificates of device data make."""
        return to_host(self.points)

    @cached_property
    def host_weights(self) -> FloatArray:
        """The weights as NumPy."""
        return to_host(self.weights)

    @property
    def direction(self) -> Array:
        """Unit vector q = sqrt(w) / |sqrt(w)|, which every membership matrix fixes."""
        xp = self.backend.xp
        root = xp.sqrt(self.weights)
        return root / xp.sqrt(xp.sum(self.weights))

    def subset(self, rows: IntArray) -> KMeansProblem:
        """The same problem for some of the rows (positions among those of positive weight), centred afresh."""
        xp = self.backend.xp
        index = self.backend.take(rows)
        points, weights = xp.take(self.points, index, axis=0), xp.take(self.weights, index)
        size = float(xp.sum(weights * xp.sum(points * points, axis=1)))
        blur = self.blur + 4.0 * UNIT * math.sqrt(size)
        return replace(_centred(points, weights, self.n_clusters, self.backend), blur=blur)

    def expand(self, labels: Array, centers: Array) -> Array:
        """Labels of all original rows in the caller's array kind; rows of weight 0 go to the nearest centre."""
        if self.kept is None:
            return self.backend.give(labels)
        raise_if_none = self._rows
        everyone = self.backend.kernels.assign(raise_if_none, centers)
        if kind_of(everyone) == "numpy":
            everyone = np.array(everyone)
            everyone[self.kept] = labels
            return everyone
        host = np.array(to_host(everyone))
        host[self.kept] = to_host(labels)
        return self.backend.give(self.backend.take(host))

    # sqrt(sum of w_i |error of row i|^2) that the rows carry from the centring of the problem they were taken from.
    blur: float = 0.0
    # All original rows, centred; kept only where some weights are zero.
    _rows: Any = None


def largest_eigenvalue(rows: Array) -> float:
    """Largest eigenvalue of rows rows^T, the square of the spectral norm; for scaling, not for bounds."""
    gram = rows.T @ rows if rows.shape[1] <= rows.shape[0] else rows @ rows.T
    return float(np.linalg.eigvalsh(to_host(gram))[-1])


def validate_points(X: Any, sample_weight: Any, backend: Backend) -> tuple[Array, Array | None]:
    """X as (n, p) and sample_weight as (n,) or None, float64 on the backend's device; raises on bad values."""
    points = as_float_array(X, "X", ndim=2, expected="an (n, p) array")
    if backend.copies_home:
        points = backend.take(points)
    if sample_weight is None:
        return points, None
    weights = as_float_array(sample_weight, "sample_weight", ndim=1, expected="an (n,) array")
    xp = backend.xp
    if weights.shape[0] != points.shape[0]:
        raise InvalidProblemError(
            f"sample_weight must have one entry per row of X ({points.shape[0]}); got {weights.shape[0]}"
        )
    if backend.copies_home:
        weights = backend.take(weights)
    smallest = float(xp.min(weights))
    if smallest < 0:
        raise InvalidProblemError(f"sample_weight must be non-negative; got {smallest!r}")
    if not float(xp.max(weights)) > 0:
        raise InvalidProblemError("sample_weight must have a positive entry; got only zeros")
    return points, weights


def kmeans_problem(X: Any, n_clusters: int, sample_weight: Any, backend: Backend) -> KMeansProblem:
    """Validate the problem arguments of k-means and centre the data.

    Raises InvalidProblemError unless 1 <= n_clusters <= number of distinct rows of positive weight.
    """
    points, weights = validate_points(X, sample_weight, backend)
    n_clusters = check_integer("n_clusters", n_clusters, low=1)
    xp = backend.xp
    rows, kept = points, None
    if weights is None:
        weights = xp.ones(points.shape[0], dtype=xp.float64, device=backend.device)
    elif float(xp.min(weights)) == 0:
        kept = np.flatnonzero(to_host(weights) > 0)
        index = backend.take(kept)
        points, weights = xp.take(points, index, axis=0), xp.take(weights, index)
    distinct = _distinct_rows(points, at_least=n_clusters)
    if distinct < n_clusters:
        raise InvalidProblemError(
            f"n_clusters must be at most the number of distinct rows of positive weight, {distinct}; got {n_clusters}"
        )
    _require_safe_weights(float(xp.min(weights)), float(xp.max(weights)))
    _require_safe_magnitude(float(xp.max(xp.abs(points))), low=0.0)
    problem = _centred(points, weights, n_clusters, backend)
    _require_safe_magnitude(float(xp.max(xp.abs(problem.points))), low=SAFE_MAGNITUDES[0])
    everyone = None if kept is None else rows - problem.shift
    return replace(problem, kept=kept, n_rows=int(rows.shape[0]), _rows=everyone)


def _centred(points: Array, weights: Array, n_clusters: int, backend: Backend) -> KMeansProblem:
    """The problem of these rows, centred twice."""
    xp = backend.xp
    total = xp.sum(weights)
    shift = xp.zeros(points.shape[1], dtype=xp.float64, device=backend.device)
    centred = points
    for _ in range(2):
        mean = (weights @ centred) / total
        centred = centred - mean
        shift = shift + mean
    scatter = float(xp.sum(weights * xp.sum(centred * centred, axis=1)))
    if backend.device is None:
        freeze(centred)
    return KMeansProblem(
        points=centred,
        weights=weights,
        shift=shift,
        kept=None,
        n_rows=int(points.shape[0]),
        n_clusters=n_clusters,
        scatter=scatter,
        backend=backend,
    )


def _require_safe_magnitude(largest: float, low: float) -> None:
    """Refuse data whose products overflow float64, or vanish in it though the points differ."""
    if largest > 0 and not low < largest < SAFE_MAGNITUDES[1]:
        raise InvalidProblemError(
            "X must have entries, and largest deviations from its mean, of magnitude "
            f"{SAFE_MAGNITUDES[0]:g} to {SAFE_MAGNITUDES[1]:g}; got {largest:g}: rescale the data"
        )


def _require_safe_weights(smallest: float, largest: float) -> None:
    if not (SAFE_WEIGHTS[0] <= smallest and largest <= SAFE_WEIGHTS[1]):
        raise InvalidProblemError(
            f"sample_weight must be 0 or from {SAFE_WEIGHTS[0]:g} to {SAFE_WEIGHTS[1]:g}; "
            f"got values from {smallest:g} to {largest:g}: rescale the weights"
        )


def contracted(problem: KMeansProblem, supernodes: IntArray) -> tuple[KMeansProblem, float]:
    """Each group of rows as one row (total weight, weighted mean), and the cost within the groups. Host data only."""
    count = int(supernodes.max()) + 1
    points, weights = problem.host_points, problem.host_weights
    if count == problem.n:
        return problem, 0.0
    totals: FloatArray = np.bincount(supernodes, weights=weights, minlength=count).astype(np.float64)

    def means_of(rows: FloatArray) -> FloatArray:
        sums = [np.bincount(supernodes, weights=weights * column, minlength=count) for column in rows.T]
        means: FloatArray = np.stack(sums, axis=1) / totals[:, None]
        return means

    means = means_of(points)
    means = means + means_of(points - means[supernodes])
    constant = float(np.sum(weights * np.sum((points - means[supernodes]) ** 2, axis=1)))
    return _centred(means, totals, problem.n_clusters, problem.backend), constant


def _distinct_rows(points: Array, at_least: int) -> int:
    """Number of distinct rows, counted only as far as ``at_least`` where a prefix already shows it."""
    prefix = min(4 * at_least + 16, points.shape[0])
    count = len(np.unique(to_host(points[:prefix, :]), axis=0))
    if count >= at_least or prefix == points.shape[0]:
        return count
    return len(np.unique(to_host(points), axis=0))


class Groups:
    """A labelling of a problem, laid out with each cluster contiguous.

    Attributes
    ----------
    labels : (n,) array
        As given.
    points, weights : arrays
        Rows and weights sorted by cluster.
    order : (n,) array
        Position in the problem of each sorted row.
    slices : list of slice
        Rows of each cluster.
    totals : (K,) host float64
        Total weight of each cluster.
    means : (K, p) array
    cost : float
        Weighted k-means cost, by a corrected two-pass sum.
    cost_slack : float
        Bound on the rounding error of ``cost``.
    """

    def __init__(self, problem: KMeansProblem, labels: Array) -> None:
        xp = problem.backend.xp
        n_clusters = problem.n_clusters
        self.problem = problem
        self.labels = labels
        self.order = xp.argsort(labels, stable=True)
        self.points = xp.take(problem.points, self.order, axis=0)
        self.weights = xp.take(problem.weights, self.order)
        ends = np.cumsum(np.bincount(to_host(labels), minlength=n_clusters))
        self.offsets: IntArray = np.concatenate([[0], ends]).astype(np.int64)
        self.slices = [slice(int(a), int(b)) for a, b in zip(self.offsets[:-1], self.offsets[1:], strict=True)]
        totals, means, cost = [], [], 0.0
        for rows in self.slices:
            x, w = self.points[rows, :], self.weights[rows]
            total = float(xp.sum(w))
            mean = (w @ x) / total
            centred = x - mean
            drift = (w @ centred) / total
            cost += max(
                0.0, float(xp.sum(w * xp.sum(centred * centred, axis=1))) - total * float(xp.sum(drift * drift))
            )
            totals.append(total)
            means.append(mean + drift)
        self.totals: FloatArray = np.array(totals)
        self.means = xp.stack(means)
        self.cost = cost
        # Sums of n non-negative terms (pairwise), p products each, and the rounding of the centring.
        spread = cost + (cost * problem.scatter) ** 0.5 + UNIT * problem.scatter
        self.cost_slack = 64 * UNIT * (problem.p + 16) * spread
