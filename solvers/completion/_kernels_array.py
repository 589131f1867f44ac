"""Alternating minimisation in array code, for any device: rows of like length are solved together.

A half sweep solves for every row i with positions j_t, values a_t and weights w_t

    min_x  1/2 sum_t w_t (a_t - q_{j_t}^T x)^2 + 1/2 sum_l penalty_l x_l^2,

as in :mod:`solvers.completion._kernels_numba`. Rows are sorted by length and cut into buckets whose longest row is at
most a quarter longer than the shortest, so that padding costs little; a bucket's panels form one array (B, L, k), its
Gram matrices one product of stacks, and Cholesky factors and conjugate gradient steps run over the whole stack. The
Cholesky factorisation is spelled out because libraries differ in what they do where one matrix of a stack is
singular: raise, fill with NaN, or go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np

from solvers._core.arrays import Array, FloatArray, IntArray, namespace_of, to_host

__all__ = ["BY_CG", "BY_GRAM", "Side", "Slab", "orthogonal", "row_products", "solve_buckets"]

BY_GRAM, BY_CG = 0, 1
# Longest row of a bucket, relative to the shortest and in entries.
PADDING, SHORTEST = 1.25, 8
# Elements of one stack of panels.
STACK = 1 << 25


@dataclass(frozen=True)
class Slab:
    """Rows of like length: first entry and number of entries of each, (B,), and the length that all are padded to."""

    starts: Array
    counts: Array
    length: int


@dataclass(frozen=True)
class Side:
    """Compressed rows on a device.

    Attributes
    ----------
    indices, values : (N + 1,)
        Positions and values of the entries; the last one is padding: position 0, value 0.
    roots : (N + 1,)
        Square roots of the weights, 0 for the padding.
    buckets : list of Slab
    rows, place : (m,)
        The rows in the order of the buckets, and where each row is in it.
    """

    indices: Array
    values: Array
    roots: Array
    buckets: list[Slab]
    rows: Array
    place: Array

    @classmethod
    def of(cls, indptr: IntArray, indices: Array, values: Array, roots: Array) -> Side:
        """Buckets of the rows, planned on the host from their lengths."""
        xp, device = namespace_of(values), _device(values)
        counts = np.diff(indptr)
        order = np.argsort(counts, kind="stable")
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        buckets, begin = [], 0
        while begin < len(order):
            limit = max(SHORTEST, int(PADDING * counts[order[begin]]))
            end = begin + int(np.searchsorted(counts[order[begin:]], limit, side="right"))
            rows = order[begin:end]
            starts, lengths = (xp.asarray(part, device=device) for part in (indptr[rows], counts[rows]))
            buckets.append(Slab(starts, lengths, max(1, int(counts[rows[-1]]))))
            begin = end
        return cls(indices, values, roots, buckets, *(xp.asarray(part, device=device) for part in (order, place)))


def solve_buckets(
    side: Side, fixed: Array, penalty: Array, inverse_scale: Array, modes: list[int], eta: float, max_steps: int,
    x: Array,
) -> tuple[Array, float]:  # fmt: skip
    """One half sweep from ``x`` (m, k); ``modes`` says for each bucket ``BY_GRAM`` or ``BY_CG``.

    Returns the improved rows and sum_t w_t r_t^2 over all of them.
    """
    xp = namespace_of(fixed)
    k = fixed.shape[1]
    solved, total, row = [], 0.0, 0
    for bucket, mode in zip(side.buckets, modes, strict=True):
        for part in _parts(bucket, k):
            size = part.starts.shape[0]
            start = xp.take(x, side.rows[row : row + size], axis=0)
            row += size
            panel, r = _panel(side, part, fixed)
            if mode == BY_GRAM:
                fresh = _by_gram(panel, r, penalty)
                r = r - _apply(panel, fresh)
            else:
                fresh, r = _by_gradients(panel, r - _apply(panel, start), start, penalty, inverse_scale, eta, max_steps)
            total += float(xp.sum(r * r))
            solved.append(fresh)
    return xp.take(xp.concat(solved, axis=0), side.place, axis=0), total


def row_products(side: Side, values: Array, block: Array) -> Array:
    """``sum_t values_t block_{j_t}`` for every row, (m, w); ``values`` are padded as those of the side."""
    xp = namespace_of(block)
    w = block.shape[1]
    rows = []
    for bucket in side.buckets:
        for part in _parts(bucket, w):
            positions, size = _positions(side, part), part.starts.shape[0]
            panel = xp.reshape(xp.take(block, xp.take(side.indices, positions), axis=0), (size, part.length, w))
            own = xp.reshape(xp.take(values, positions), (size, 1, part.length))
            rows.append(xp.reshape(own @ panel, (size, w)))
    return xp.take(xp.concat(rows, axis=0), side.place, axis=0)


def orthogonal(x: Array) -> tuple[Array, FloatArray, Array]:
    """X = basis diag(s) turnᵀ with s descending; s on the host.

    By the Gram matrix while the squared condition number leaves enough digits, otherwise by QR.
    """
    xp = namespace_of(x)
    scale = float(xp.max(xp.abs(x))) or 1.0
    unit = float(xp.finfo(x.dtype).eps)
    scaled = x / scale
    squares, turn = np.linalg.eigh(to_host(xp.matrix_transpose(scaled) @ scaled).astype(np.float64))
    if squares[0] > max(1e-4, 1e4 * unit) * squares[-1]:
        s = np.sqrt(squares[::-1])
        spread = _like(x, turn[:, ::-1])
        return (scaled @ spread) / _like(x, s), s * scale, spread
    q, r = xp.linalg.qr(x)
    u, s, vt = np.linalg.svd(to_host(r).astype(np.float64))
    return q @ _like(x, u), s, _like(x, vt.T)


def _parts(bucket: Slab, width: int) -> list[Slab]:
    """The bucket cut into stacks of bounded size."""
    step = max(1, STACK // (bucket.length * max(width, 1)))
    size = bucket.starts.shape[0]
    if step >= size:
        return [bucket]
    cuts = [slice(start, min(start + step, size)) for start in range(0, size, step)]
    return [Slab(bucket.starts[cut], bucket.counts[cut], bucket.length) for cut in cuts]


def _positions(side: Side, part: Slab) -> Array:
    """Positions of the entries of a bucket, (B L,), padded with the last one."""
    xp = namespace_of(side.values)
    ahead = xp.expand_dims(xp.arange(part.length, dtype=xp.int64, device=_device(part.starts)), axis=0)
    inside = ahead < xp.expand_dims(part.counts, axis=1)
    entries = xp.expand_dims(part.starts, axis=1) + ahead
    last = xp.full_like(entries, side.values.shape[0] - 1)
    return xp.reshape(xp.where(inside, entries, last), (-1,))


def _panel(side: Side, part: Slab, fixed: Array) -> tuple[Array, Array]:
    """Rows of the fixed factor and values, both times the roots of the weights, (B, L, k) and (B, L)."""
    xp = namespace_of(fixed)
    positions, shape = _positions(side, part), (part.starts.shape[0], part.length)
    roots = xp.reshape(xp.take(side.roots, positions), shape)
    panel = xp.reshape(xp.take(fixed, xp.take(side.indices, positions), axis=0), (*shape, fixed.shape[1]))
    values = xp.reshape(xp.take(side.values, positions), shape)
    return panel * xp.expand_dims(roots, axis=2), values * roots


def _apply(stack: Array, x: Array) -> Array:
    """Matrix times vector for each member of a stack."""
    xp = namespace_of(stack)
    product = stack @ xp.expand_dims(x, axis=2)
    return xp.reshape(product, product.shape[:2])


def _by_gram(panel: Array, values: Array, penalty: Array) -> Array:
    """Normal equations of each row by Cholesky factors; singular ones get the least shift that makes them definite."""
    xp = namespace_of(panel)
    k = panel.shape[2]
    unit = float(xp.finfo(panel.dtype).eps)
    transposed = xp.matrix_transpose(panel)
    diagonal = xp.expand_dims(_diagonal(xp, penalty), axis=0)
    gram = transposed @ panel + diagonal
    sizes = xp.sum(panel * panel, axis=1) + penalty
    positive = xp.where(sizes > 0.0, sizes, xp.full_like(sizes, xp.inf))
    smallest = xp.min(positive, axis=1)
    smallest = xp.expand_dims(xp.where(xp.isfinite(smallest), smallest, xp.ones_like(smallest)), axis=1)
    lift = xp.maximum(sizes, xp.broadcast_to(smallest, sizes.shape))
    lower, sound = _cholesky(gram, k * unit)
    shift = 4.0 * k * unit
    while not bool(xp.all(sound)):
        more = xp.where(xp.expand_dims(sound, axis=1), xp.zeros_like(lift), shift * lift)
        gram = gram + xp.expand_dims(more, axis=2) * xp.expand_dims(_diagonal(xp, xp.ones_like(penalty)), axis=0)
        lower, sound = _cholesky(gram, k * unit)
        shift *= 100.0
    return _substitute(lower, _apply(transposed, values))


def _diagonal(xp: Any, values: Array) -> Array:
    return xp.eye(values.shape[0], dtype=values.dtype, device=_device(values)) * values


def _cholesky(gram: Array, tiny: float) -> tuple[Array, Array]:
    """Lower factors of a stack, and which are sound: no pivot below ``tiny`` of its diagonal entry."""
    xp = namespace_of(gram)
    k = gram.shape[2]
    lower = xp.zeros_like(gram)
    sound = gram[:, 0, 0] > 0.0
    for j in range(k):
        column = gram[:, j:, j]
        if j:
            column = column - _apply(lower[:, j:, :j], lower[:, j, :j])
        pivot = column[:, 0]
        good = pivot > tiny * gram[:, j, j]
        sound = sound & good
        lower[:, j:, j] = column / xp.expand_dims(xp.sqrt(xp.where(good, pivot, xp.ones_like(pivot))), axis=1)
    return lower, sound


def _substitute(lower: Array, right: Array) -> Array:
    """Solve L Lᵀ x = b for each member of a stack."""
    xp = namespace_of(lower)
    k = right.shape[1]
    x = xp.zeros_like(right)
    for i in range(k):
        known = xp.sum(lower[:, i, :i] * x[:, :i], axis=1)
        x[:, i] = (right[:, i] - known) / lower[:, i, i]
    for i in range(k - 1, -1, -1):
        known = xp.sum(lower[:, i + 1 :, i] * x[:, i + 1 :], axis=1)
        x[:, i] = (x[:, i] - known) / lower[:, i, i]
    return x


def _by_gradients(
    panel: Array, r: Array, x: Array, penalty: Array, inverse_scale: Array, eta: float, max_steps: int
) -> tuple[Array, Array]:
    """Conjugate gradients on every row from x with residual r; a row rests once its scaled gradient has fallen by eta."""
    xp = namespace_of(panel)
    transposed = xp.matrix_transpose(panel)
    g = _apply(transposed, r) - penalty * x
    p, rho = g, xp.sum(g * g, axis=1)
    target = eta * eta * xp.sum((g * inverse_scale) ** 2, axis=1)
    active = rho > 0.0
    none, one = xp.zeros_like(rho), xp.ones_like(rho)
    for _ in range(max_steps):
        if not bool(xp.any(active)):
            break
        s = _apply(panel, p)
        q = penalty * p + _apply(transposed, s)
        curvature = xp.sum(penalty * p * p, axis=1) + xp.sum(s * s, axis=1)
        active = active & (curvature > 0.0)
        alpha = xp.expand_dims(xp.where(active, rho / xp.where(active, curvature, one), none), axis=1)
        x, g, r = x + alpha * p, g - alpha * q, r - alpha * s
        active = active & (xp.sum((g * inverse_scale) ** 2, axis=1) > target)
        fresh = xp.sum(g * g, axis=1)
        active = active & (fresh > 0.0)
        beta = xp.expand_dims(xp.where(active, fresh / xp.where(active, rho, one), none), axis=1)
        p, rho = g + beta * p, xp.where(active, fresh, rho)
    return x, r


def _like(x: Array, values: FloatArray) -> Array:
    xp = namespace_of(x)
    # A copy: a single column taken backwards counts as contiguous, and PyTorch refuses its strides.
    return xp.asarray(np.array(values, order="C"), dtype=x.dtype, device=_device(x))


def _device(array: Array) -> Any:
    return array_api_compat.device(array)
