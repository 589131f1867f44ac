"""Kernels in array-API code: any device, no compilation; the oracle of the compiled ones."""

from __future__ import annotations

import numpy as np

from clustering._spectral import Spectrum, project_spectrum
from solvers._core.arrays import Array, FloatArray, IntArray, namespace_of, to_host

__all__ = ["admm_step", "assign", "improve_labels", "structured_moments"]

# A move must lower the cost by this fraction of the point's own term, so that rounding cannot cycle.
MOVE_TOLERANCE = 1e-12


def assign(points: Array, centers: Array) -> Array:
    """Index of the nearest centre of each row, (n,) int64."""
    xp = namespace_of(points)
    return xp.astype(xp.argmin(_distances(points, centers), axis=1), xp.int64)


def improve_labels(points: Array, weights: Array, labels: Array, n_clusters: int) -> tuple[Array, int]:
    """One descent step on the labels: a Lloyd step, or where that is stable the best Hartigan-Wong move.

    Returns the labels and the number of rows moved; 0 at a local optimum of single moves.
    """
    xp = namespace_of(points)
    member = xp.astype(xp.expand_dims(labels, axis=1) == _arange(labels, n_clusters), xp.float64)
    loads = weights @ member
    counts = xp.sum(member, axis=0)
    means = (member * xp.expand_dims(weights, axis=1)).T @ points / xp.expand_dims(loads, axis=1)
    distances = _distances(points, means)
    nearest = xp.astype(xp.argmin(distances, axis=1), xp.int64)
    own = xp.sum(distances * member, axis=1)
    better = xp.min(distances, axis=1) < own * (1.0 - MOVE_TOLERANCE)
    sole = xp.sum(member * counts, axis=1) <= 1.5
    nearest = xp.where(better & ~sole, nearest, labels)
    moved = int(xp.sum(xp.astype(nearest != labels, xp.int64)))
    if moved:
        return _never_empty(nearest, labels, n_clusters), moved
    w = xp.expand_dims(weights, axis=1)
    gain_in = distances * w * loads / (loads + w)
    own_load = xp.sum(member * loads, axis=1)
    rest = xp.where(sole, xp.ones_like(own_load), own_load - weights)
    gain_out = xp.where(sole, xp.zeros_like(own), own * weights * own_load / rest)
    gain_in = xp.where(member > 0, xp.full_like(gain_in, xp.inf), gain_in)
    cheapest = xp.min(gain_in, axis=1)
    drop = gain_out * (1.0 - MOVE_TOLERANCE) - cheapest
    row = int(xp.argmax(drop))
    if not float(drop[row]) > 0:
        return labels, 0
    target = xp.astype(xp.argmin(gain_in[row, :]), xp.int64)
    return xp.where(_arange(labels, labels.shape[0]) == row, target, labels), 1


def structured_moments(
    points: Array, weights: Array, offsets: IntArray, means: Array, totals: FloatArray, scale: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Moments of the structured multiplier at one scale, for points sorted by cluster.

    With r^{kl} of :mod:`clustering._bounds`: sums s_kl (K, K), cross moments sum_i w_i x_i r_i^{kl} (K, K, p) and
    products sum_i w_i r_i^{kl} r_i^{kj} (K, K, K), all on the host.
    """
    xp = namespace_of(points)
    n_clusters = len(totals)
    sums, cross, products = [], [], []
    host_totals = xp.asarray(totals, device=_device(points))
    for k in range(n_clusters):
        rows = slice(int(offsets[k]), int(offsets[k + 1]))
        x, w = points[rows, :], weights[rows]
        offset = means - means[k, :]
        excess = xp.sum(offset * offset, axis=1) - 2.0 * ((x - means[k, :]) @ offset.T)
        r = 0.5 * host_totals * excess - 0.5 * scale * (1.0 + host_totals / float(totals[k]))
        r = xp.where((r > 0) & (_arange(weights, n_clusters) != k), r, xp.zeros_like(r))
        weighted = xp.expand_dims(w, axis=1) * r
        sums.append(to_host(xp.sum(weighted, axis=0)))
        cross.append(to_host(weighted.T @ x))
        products.append(to_host(weighted.T @ r))
    return np.stack(sums), np.stack(cross), np.stack(products)


def admm_step(
    affinity: Array, state: tuple[Array, Array], q: Array, rho: float, trace: float, relaxation: float
) -> tuple[tuple[Array, Array], Spectrum, float, float]:
    """One iteration of the two-block splitting; returns the state, the spectrum of Z1 and both residuals.

    Z1 = projection of Z2 - Y + A/rho on {Z psd, Zq = q, tr Z = trace + 1}; T = relaxed Z1 + Y; Z2 = max(T, 0); Y = T - Z2.
    Residuals are |Z1 - Z2| and rho |change of Z2|.
    """
    z2, y = state
    xp = namespace_of(z2)
    spectrum = project_spectrum(z2 - y + affinity / rho, q, trace)
    z1 = spectrum.matrix()
    t = relaxation * z1 + (1.0 - relaxation) * z2 + y
    fresh = xp.where(t > 0, t, xp.zeros_like(t))
    primal = float(xp.sqrt(xp.sum((z1 - fresh) ** 2)))
    dual = rho * float(xp.sqrt(xp.sum((fresh - z2) ** 2)))
    return (fresh, t - fresh), spectrum, primal, dual


def _never_empty(labels: Array, before: Array, n_clusters: int) -> Array:
    """The new labels, with the first row of each emptied cluster left where it was."""
    xp = namespace_of(labels)
    host, old = np.array(to_host(labels)), to_host(before)
    for k in np.flatnonzero(np.bincount(host, minlength=n_clusters) == 0):
        host[int(np.flatnonzero(old == k)[0])] = k
    return xp.asarray(host, device=_device(labels))


def _distances(points: Array, centers: Array) -> Array:
    """Squared distances (n, K), from differences where that is cheap enough to avoid cancellation."""
    xp = namespace_of(points)
    columns = []
    for k in range(centers.shape[0]):
        difference = points - centers[k, :]
        columns.append(xp.sum(difference * difference, axis=1))
    return xp.stack(columns, axis=1)


def _arange(like: Array, count: int) -> Array:
    xp = namespace_of(like)
    return xp.arange(count, dtype=xp.int64, device=_device(like))


def _device(array: Array) -> object:
    return None if isinstance(array, np.ndarray) else array.device
