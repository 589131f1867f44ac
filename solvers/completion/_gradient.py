"""The gradient of the fit as a matrix on the observed positions, by its products only.

Growing the rank needs leading singular pairs of G = w r, the slope of the fit along them and its curvature. Where the
entries are decides how products are formed; what is done with them does not.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import scipy.sparse

from solvers._core.arrays import FloatArray, IntArray
from solvers.completion import _kernels_gradient as kernels
from solvers.completion._observations import Observations

__all__ = ["EntryGradient", "Gradient", "length_moments"]

# Entries whose products stay in a cache until they are summed.
CHUNK = 1 << 13


class Gradient(Protocol):
    """G of shape (m, n); products are those of G / scale."""

    shape: tuple[int, int]
    scale: float

    def product(self, block: FloatArray) -> FloatArray:
        """(G / scale) B, (m, w) for B of shape (n, w)."""

    def gram_product(self, block: FloatArray) -> FloatArray:
        """(G / scale)ᵀ (G / scale) B, (n, w)."""

    def along(self, u: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Slope u_lᵀ G v_l and curvature sum w (u_il v_jl)² of the fit along each pair."""


class EntryGradient:
    """G from one value per observed entry in memory; ``columns`` is their order by columns, and that of the columns."""

    def __init__(
        self,
        observed: Observations,
        values: FloatArray,
        weights: FloatArray | None,
        columns: tuple[IntArray, npt.NDArray[Any], IntArray],
    ) -> None:
        self.shape = observed.shape
        self.scale = float(np.max(np.abs(values), initial=0.0))
        self._observed, self._values, self._weights = observed, values, weights
        if self.scale > 0.0:
            order, rows, indptr = columns
            scaled = values / self.scale
            self._matrix = observed.matrix(scaled)
            self._transposed = scipy.sparse.csr_array((scaled[order], rows, indptr), shape=self.shape[::-1])

    def product(self, block: FloatArray) -> FloatArray:
        """(G / scale) B."""
        return np.asarray(self._matrix @ block)

    def gram_product(self, block: FloatArray) -> FloatArray:
        """(G / scale)ᵀ (G / scale) B."""
        return np.asarray(self._transposed @ (self._matrix @ block))

    def along(self, u: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Slope and curvature of the fit along each pair."""
        slopes, curvatures = np.zeros(u.shape[1]), np.zeros(u.shape[1])
        weights = np.empty(0) if self._weights is None else self._weights
        u, v = np.ascontiguousarray(u), np.ascontiguousarray(v)
        kernels.slopes_and_curvatures(
            self._observed.rows, self._observed.cols, self._values, weights, u, v, slopes, curvatures
        )
        return slopes, curvatures


def length_moments(
    observed: Observations, values: npt.NDArray[Any], weights: npt.NDArray[Any], U: FloatArray, V: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Of 1/2 sum w (a - sum_l s_l u_il v_jl)² as a function of s: the matrix and the linear term, by chunks."""
    k = U.shape[1]
    gram, slope = np.zeros((k, k)), np.zeros(k)
    U, V = np.ascontiguousarray(U), np.ascontiguousarray(V)
    store = np.empty((min(CHUNK, observed.size), k), dtype=U.dtype)
    for start in range(0, observed.size, CHUNK):
        part = slice(start, min(start + CHUNK, observed.size))
        products = store[: part.stop - start]
        kernels.entry_products(observed.rows, observed.cols, U, V, start, products)
        weighted = products * weights[part, None].astype(np.float64) if len(weights) else products
        gram += weighted.T @ products
        slope += weighted.T @ values[part].astype(np.float64)
    return gram, slope
