"""Kernels in array-API code: any device, no compilation; the oracle of the compiled ones."""

from __future__ import annotations

import numpy as np

from solvers._core.arrays import Array, FloatArray, IntArray, namespace_of, to_host

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
    rest = own_load - weights
    sole = sole | ~(rest > 0)
    rest = xp.where(sole, xp.ones_like(own_load), rest)
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
    points: Array, weights: Array, offsets: IntArray, means: Array, totals: FloatArray, scales: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Moments of the structured multiplier at scales (K, K), for points sorted by cluster.

    With r^{kl} of :mod:`clustering._structured_bounds`: sums s_kl (K, K), cross moments sum_i w_i x_i r_i^{kl} (K, K, p) and
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
        threshold = 0.5 * scales[k] * (1.0 + totals / totals[k])
        r = 0.5 * host_totals * excess - xp.asarray(threshold, device=_device(points))
        r = xp.where((r > 0) & (_arange(weights, n_clusters) != k), r, xp.zeros_like(r))
        weighted = xp.expand_dims(w, axis=1) * r
        sums.append(to_host(xp.sum(weighted, axis=0)))
        cross.append(to_host(weighted.T @ x))
        products.append(to_host(weighted.T @ r))
    return np.stack(sums), np.stack(cross), np.stack(products)


def spectral_argument(state: Array, affinity: Array, rho: float) -> Array:
    """|T| + A / rho = Z2 - Y + A / rho, the matrix that the spectral block projects."""
    xp = namespace_of(state)
    return xp.abs(state) + affinity / rho


def rescale_multiplier(state: Array, factor: float) -> Array:
    """T with its negative part Y multiplied by a factor."""
    xp = namespace_of(state)
    return xp.where(state < 0, factor * state, state)


def multiplier(state: Array, rho: float) -> Array:
    """B = -rho Y, exactly symmetric."""
    xp = namespace_of(state)
    negative = xp.where(state < 0, -rho * state, xp.zeros_like(state))
    return 0.5 * (negative + negative.T)


def splitting_step(
    factor: Array, state: Array, matrix: Array, affinity: Array, rho: float, relaxation: float
) -> tuple[Array, Array, float, float]:
    """Block 2 and the next argument of block 1, from the factor of Z1 = factor factor^T.

    T = relaxation Z1 + (1 - relaxation) Z2 + Y, then Z2 = max(T, 0) and Y = T - Z2. Returns T, |T| + A / rho (which may
    take the place of ``state`` and ``matrix``), |Z1 - Z2| and |change of Z2|.
    """
    xp = namespace_of(state)
    z1 = factor @ factor.T
    zero = xp.zeros_like(state)
    before = xp.where(state > 0, state, zero)
    t = relaxation * z1 - relaxation * before + state
    positive = xp.where(t > 0, t, zero)
    primal = float(xp.sqrt(xp.sum((z1 - positive) ** 2)))
    moved = float(xp.sqrt(xp.sum((positive - before) ** 2)))
    return t, spectral_argument(t, affinity, rho), primal, moved


def face_step(change: Array, state: Array, affinity: Array, labels: Array) -> tuple[Array, Array]:
    """T <- max(T, 0) off the diagonal blocks of a labelling + ``change``, and A + the reflection of the new T.

    The reflection is |T| off the diagonal blocks and -T on them. Either result may take the place of an argument.
    """
    xp = namespace_of(state)
    state = face_multiplier(state, labels) + change
    same = xp.expand_dims(labels, axis=1) == labels
    return state, affinity + xp.where(same, -state, xp.abs(state))


def face_multiplier(state: Array, labels: Array) -> Array:
    """max(T, 0) off the diagonal blocks, where it vanishes."""
    xp = namespace_of(state)
    same = xp.expand_dims(labels, axis=1) == labels
    return xp.where(same | (state < 0), xp.zeros_like(state), state)


def deflate(block: Array, q: Array) -> Array:
    """The columns of a block, orthogonal to the unit vector q."""
    xp = namespace_of(block)
    return block - xp.expand_dims(q, axis=1) * (q @ block)


def filter_step(
    image: Array, now: Array, before: Array, q: Array | None, centre: float, scale: float, weight: float
) -> Array:
    """One step of a Chebyshev recurrence: scale (P image - centre now) - weight before, P as in :func:`deflate`."""
    image = image if q is None else deflate(image, q)
    return scale * (image - centre * now) - weight * before


def balance_blocks(points: FloatArray, place: IntArray, n_blocks: int, sweeps: int) -> IntArray:
    """Blocks of the centred rows of one cluster (host arrays), their means brought together by exchanges of two rows.

    Lowers sum_j |sum of block j|^2 / (size of block j), which is what dividing the cluster loses.
    """
    n = len(points)
    place = np.array(place)
    member = place[:, None] == np.arange(n_blocks)
    sums, counts = member.T.astype(np.float64) @ points, member.sum(axis=0)
    for sweep in range(sweeps):
        for i in range(n):
            other = (i + 1 + sweep * (sweep + 3) * 7) % n
            a, b = place[i], place[other]
            if a == b:
                continue
            step = points[other] - points[i]
            change = step @ (2.0 * sums[a] + step) / counts[a] - step @ (2.0 * sums[b] - step) / counts[b]
            if change < 0.0:
                sums[a] += step
                sums[b] -= step
                place[i], place[other] = b, a
    return place


def _never_empty(labels: Array, before: Array, n_clusters: int) -> Array:
    """The new labels, with one row returned to each emptied cluster: one of its own where a fuller cluster has it."""
    xp = namespace_of(labels)
    host, old = np.array(to_host(labels)), to_host(before)
    counts = np.bincount(host, minlength=n_clusters)
    for k in np.flatnonzero(counts == 0):
        spare = counts[host] > 1
        own = spare & (old == k)
        row = int(np.flatnonzero(own if own.any() else spare)[0])
        counts[host[row]] -= 1
        counts[k] += 1
        host[row] = k
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
