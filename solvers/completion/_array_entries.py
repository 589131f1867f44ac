"""The observed entries on a device: what the loop asks of them, in array code."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from solvers._core.arrays import Array, FloatArray, IntArray, to_host
from solvers._core.backend import Backend
from solvers.completion._kernels_array import BY_CG, BY_GRAM, Side, orthogonal, row_products, solve_buckets
from solvers.completion._problem import CompletionProblem
from solvers.completion._sweeps import Factors, SweepRule, Workspace, chosen_modes

__all__ = ["ArrayEntries", "DeviceGradient"]

# Entries taken at a time where all of them are gone through in order.
CHUNK = 1 << 20


class ArrayEntries(Workspace):
    """The entries by rows and by columns on the backend's device.

    The host keeps its own copy, from which objective and bound are computed.
    """

    def __init__(self, problem: CompletionProblem, dtype: npt.DTypeLike, backend: Backend) -> None:
        super().__init__(problem, dtype)
        self.backend = backend
        self.row_of = self._integers(self.observed.rows)
        self.col_of = self._integers(self.observed.cols)
        self.by_column = self._integers(np.append(self.order, self.observed.size))
        self.values = self._padded(self.rows.values)
        weights = self.rows.weights if len(self.rows.weights) else np.ones(self.observed.size)
        self.weights = self._padded(weights)
        roots = backend.xp.sqrt(self.weights)
        self.row_side = Side.of(self.rows.indptr, self._integers(np.append(self.rows.indices, 0)), self.values, roots)
        self.col_side = Side.of(
            self.cols.indptr, self._integers(np.append(self.cols.indices, 0)),
            self.to_columns(self.values), self.to_columns(roots),
        )  # fmt: skip

    def improved(
        self, factors: Factors, penalty: FloatArray, inverse_scale: FloatArray, rule: SweepRule, *, columns: bool
    ) -> tuple[Factors, float]:
        """Rows (or columns) solved with the other factor fixed and balanced, and sum w r² there."""
        side = self.col_side if columns else self.row_side
        moving, fixed = (factors.V, factors.U) if columns else (factors.U, factors.V)
        lengths = np.array([bucket.length for bucket in side.buckets])
        chosen = chosen_modes(lengths, factors.rank, rule)
        modes = [BY_CG if mode == BY_CG else BY_GRAM for mode in chosen.tolist()]
        x, loss = solve_buckets(
            side, fixed, self.take(penalty), self.take(inverse_scale), modes, rule.eta, rule.max_steps,
            moving * self.take(factors.s),
        )  # fmt: skip
        basis, s, turn = orthogonal(x)
        return (Factors(fixed @ turn, s, basis) if columns else Factors(basis, s, fixed @ turn)), loss

    def gradient(self, factors: Factors, given: FloatArray | None = None) -> DeviceGradient:  # type: ignore[override]
        """The matrix w r at the factors, as an operator."""
        values = self._residuals(factors) * self.weights if given is None else self._padded(given)
        return DeviceGradient(self, values)

    def length_moments(self, factors: Factors) -> tuple[FloatArray, FloatArray]:
        """Quadratic and linear term of the fit as a function of s, (k, k) and (k,)."""
        xp, k = self.backend.xp, factors.rank
        gram, slope = np.zeros((k, k)), np.zeros(k)
        for part in self.chunks():
            products = self.pairs(factors.U, factors.V, part)
            weighted = xp.matrix_transpose(products * xp.expand_dims(self.weights[part], axis=1))
            gram += to_host(weighted @ products)
            slope += to_host(weighted @ self.values[part])
        return gram, slope

    def residuals(self, factors: Factors) -> npt.NDArray[Any]:
        """Scaled residuals of the observed entries, in row order, on the host."""
        return to_host(self._residuals(factors))[:-1]

    def host(self, factor: Any) -> npt.NDArray[Any]:
        """A factor as a NumPy array."""
        return to_host(factor)

    def take(self, factor: npt.NDArray[Any]) -> Any:
        """A NumPy array on the device, in the precision of the sweeps."""
        return self.backend.take(np.array(factor, dtype=self.dtype, order="C"))

    def to_columns(self, values: Array) -> Array:
        """Padded values of the entries, in column order."""
        return self.backend.xp.take(values, self.by_column)

    def pairs(self, left: Array, right: Array, part: slice) -> Array:
        """Products left_i * right_j at a part of the entries, (part, k)."""
        xp = self.backend.xp
        return xp.take(left, self.row_of[part], axis=0) * xp.take(right, self.col_of[part], axis=0)

    def chunks(self) -> list[slice]:
        """Parts of the entries in order."""
        size = self.observed.size
        return [slice(start, min(start + CHUNK, size)) for start in range(0, size, CHUNK)]

    def _residuals(self, factors: Factors) -> Array:
        """Scaled residuals on the device, padded."""
        xp = self.backend.xp
        left = factors.U * self.take(factors.s)
        parts = [self.values[part] - xp.sum(self.pairs(left, factors.V, part), axis=1) for part in self.chunks()]
        return xp.concat([*parts, self.values[-1:]])

    def _padded(self, values: npt.NDArray[Any]) -> Array:
        return self.take(np.append(values, 0.0))

    def _integers(self, index: IntArray | npt.NDArray[np.int32]) -> Array:
        return self.backend.take(index.astype(np.int64))


class DeviceGradient:
    """G from one padded value per entry on the device; blocks of vectors come from the host and go back there."""

    def __init__(self, entries: ArrayEntries, values: Array) -> None:
        xp = entries.backend.xp
        self.shape = entries.shape
        self.scale = float(xp.max(xp.abs(values)))
        self._entries, self._values = entries, values
        if self.scale > 0.0:
            self._by_rows = values / self.scale
            self._by_columns = entries.to_columns(self._by_rows)

    def product(self, block: FloatArray) -> FloatArray:
        """(G / scale) B."""
        return self._home(row_products(self._entries.row_side, self._by_rows, self._entries.take(block)))

    def gram_product(self, block: FloatArray) -> FloatArray:
        """(G / scale)ᵀ (G / scale) B."""
        image = row_products(self._entries.row_side, self._by_rows, self._entries.take(block))
        return self._home(row_products(self._entries.col_side, self._by_columns, image))

    def along(self, u: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Slope and curvature of the fit along each pair."""
        entries = self._entries
        left, right = entries.take(u), entries.take(v)
        slopes, curvatures = np.zeros(u.shape[1]), np.zeros(u.shape[1])
        for part in entries.chunks():
            products = entries.pairs(left, right, part)
            slopes += self._home(self._values[part] @ products)
            curvatures += self._home(entries.weights[part] @ (products * products))
        return slopes, curvatures

    def _home(self, array: Array) -> FloatArray:
        return to_host(array).astype(np.float64)
