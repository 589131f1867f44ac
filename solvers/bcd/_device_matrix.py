"""Sparse symmetric matrices on any array-API device: gathers along padded rows, since the standard has no scattered sums.

Rows are grouped by their number of entries, rounded up to powers of two (sliced ELLPACK), so that at most half of what is
stored is padding. A product gathers x along each group's columns, multiplies, sums along rows and puts the sums in order: the
rounding errors are those of plain row sums. Only functions of the standard are used, hence CuPy, PyTorch and others alike.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from solvers._core.arrays import Array, FloatArray, as_float_array, kind_of, namespace_of, to_host
from solvers._core.errors import InvalidProblemError

__all__ = ["DeviceMatrix", "device_triplets"]


class DeviceMatrix:
    """An (n, n) matrix from triplets without duplicates.

    Parameters
    ----------
    rows, columns : (nnz,) integer arrays
    values : (nnz,) float64 array of the same kind
    n : int

    Attributes
    ----------
    diagonal : (n,) array on the device
    """

    def __init__(self, rows: Array, columns: Array, values: Array, n: int) -> None:
        xp = self._xp = namespace_of(values)
        self.shape, self.device = (n, n), values.device
        self.triplets = rows, columns, values
        order = xp.argsort(rows)
        columns, values = xp.take(columns, order), xp.take(values, order)
        edges = xp.searchsorted(xp.take(rows, order), xp.arange(n + 1, dtype=rows.dtype, device=self.device))
        counts = edges[1:] - edges[:-1]
        self._groups: list[tuple[Array, Array]] = []
        places: list[Array] = []
        most, width, below = int(xp.max(counts)), 1, -1
        while below < most:
            chosen = xp.nonzero((counts > below) & (counts <= width))[0]
            if chosen.shape[0]:
                step = xp.arange(width, dtype=edges.dtype, device=self.device)
                used = step[None, :] < xp.take(counts, chosen)[:, None]
                at = xp.where(used, xp.take(edges, chosen)[:, None] + step[None, :], xp.zeros_like(step)[None, :])
                flat, shape = xp.reshape(at, (-1,)), (chosen.shape[0], width)
                part = xp.reshape(xp.take(values, flat), shape)
                self._groups.append((xp.take(columns, flat), xp.where(used, part, xp.zeros_like(part))))
                places.append(chosen)
            below, width = width, 2 * width
        self._back = xp.argsort(xp.concat(places))
        self.counts: FloatArray = np.asarray(to_host(counts), dtype=np.float64)
        on = self.triplets[0] == self.triplets[1]
        diagonal = DeviceMatrix._spread(xp, self.triplets[0][on], self.triplets[2][on], n, self.device)
        self.diagonal: Array = diagonal

    @staticmethod
    def _spread(xp: ModuleType, places: Array, values: Array, n: int, device: Any) -> Array:
        """A vector of zeros with values at distinct places."""
        order = xp.argsort(places)
        places, values = xp.take(places, order), xp.take(values, order)
        everywhere = xp.arange(n, dtype=places.dtype, device=device)
        zeros = xp.zeros(n, dtype=xp.float64, device=device)
        if places.shape[0] == 0:
            return zeros
        at = xp.searchsorted(places, everywhere)
        at = xp.where(at < places.shape[0], at, xp.zeros_like(at))
        return xp.where(xp.take(places, at) == everywhere, xp.take(values, at), zeros)

    def __matmul__(self, x: Array) -> Array:
        return self._product(x, absolute=False)

    def absolute_product(self, x: Array) -> Array:
        """|Q| x."""
        return self._product(x, absolute=True)

    def _product(self, x: Array, *, absolute: bool) -> Array:
        xp = self._xp
        sums = []
        for columns, values in self._groups:
            weights = xp.abs(values) if absolute else values
            sums.append(xp.sum(weights * xp.reshape(xp.take(x, columns), values.shape), axis=1))
        return xp.take(xp.concat(sums), self._back)

    def asymmetry(self) -> tuple[int, int, float]:
        """An entry that differs from its mirror image, and by how much; zero where there is none."""
        xp, n = self._xp, self.shape[0]
        rows, columns, values = self.triplets
        key, mirror = rows * n + columns, columns * n + rows
        first, second = xp.argsort(key), xp.argsort(mirror)
        keys = xp.take(key, first)
        place = xp.nonzero(keys != xp.take(mirror, second))[0]
        if place.shape[0]:
            # The smaller of the two keys is missing in the other order.
            k = int(xp.min(place))
            entry = min(int(keys[k]), int(xp.take(mirror, second)[k]))
            hit = xp.nonzero((key == entry) | (mirror == entry))[0]
            return entry // n, entry % n, abs(float(values[int(hit[0])]))
        difference = xp.abs(xp.take(values, first) - xp.take(values, second))
        k = int(xp.argmax(difference))
        return int(keys[k]) // n, int(keys[k]) % n, float(difference[k])


def device_triplets(Q: Any, name: str) -> tuple[Array, Array, Array, int] | None:
    """The validated triplets of a sparse matrix whose arrays live on a device; None for anything else.

    Taken are (rows, columns, values, shape) of one array kind, and CuPy's sparse matrices.
    """
    if type(Q).__module__.startswith("cupyx."):
        plain = Q.tocoo()
        Q = plain.row, plain.col, plain.data, plain.shape
    if not (isinstance(Q, tuple) and len(Q) == 4):
        return None
    what = f"{name} must be (rows, columns, values, (n, n))"
    rows, columns, values, shape = Q
    if kind_of(values) in ("numpy", "sparse"):
        raise InvalidProblemError(f"{what} of device arrays; on the host, pass a scipy.sparse matrix")
    if not (isinstance(shape, tuple) and len(shape) == 2 and shape[0] == shape[1] and int(shape[0]) > 0):
        raise InvalidProblemError(f"{what}; got shape {shape!r}")
    values, n = as_float_array(values, name, ndim=1, expected="(rows, columns, values, (n, n)), values"), int(shape[0])
    xp = namespace_of(values)
    places = []
    for part, axis in ((rows, "rows"), (columns, "columns")):
        if kind_of(part) != kind_of(values) or part.ndim != 1 or not xp.isdtype(part.dtype, "integral"):
            raise InvalidProblemError(f"{what}; {axis} must be a vector of integers of the same kind as values")
        if part.shape != values.shape:
            raise InvalidProblemError(f"{what}; got {part.shape[0]} {axis} for {values.shape[0]} values")
        part = xp.astype(part, xp.int64)
        if int(xp.min(part)) < 0 or int(xp.max(part)) >= n:
            raise InvalidProblemError(f"{what}; {axis} must be from 0 to {n - 1}")
        places.append(part)
    keys = xp.sort(places[0] * n + places[1])
    if bool(xp.any(keys[1:] == keys[:-1])):
        k = int(keys[int(xp.argmax(xp.astype(keys[1:] == keys[:-1], xp.int64)))])
        raise InvalidProblemError(f"{what} without duplicates; entry ({k // n}, {k % n}) is named twice")
    return places[0], places[1], values, n
