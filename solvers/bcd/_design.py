"""The matrix A (n, p) of a linear model, behind the few products that the family needs.

Dense matrices live in column order on any array library; sparse ones as CSC on the host. Everything above this module is
written once for all of them.
"""

from __future__ import annotations

import math
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse

from solvers._core.arrays import (
    Array,
    FloatArray,
    IntArray,
    as_float_array,
    freeze,
    host_namespace,
    kind_of,
    namespace_of,
    to_host,
)
from solvers._core.errors import InvalidProblemError
from solvers._core.jit import njit

__all__ = ["DenseDesign", "Design", "SparseDesign", "design_matrix", "sparse_matrix"]

# Columns multiplied at a time where a (p, p) product is needed only through its row sums.
BAND = 256


class DenseDesign:
    """A dense matrix of any array library."""

    def __init__(self, matrix: Array) -> None:
        self.matrix = matrix
        self.device = None if isinstance(matrix, np.ndarray) else matrix.device
        self.n, self.p = (int(size) for size in matrix.shape)

    @property
    def xp(self) -> ModuleType:
        """Array namespace of the data; not stored, so that problems pickle."""
        return namespace_of(self.matrix)

    @property
    def kernel(self) -> Any:
        """What compiled kernels take: the matrix."""
        return self.matrix

    @property
    def counts(self) -> FloatArray:
        """Stored entries of each column."""
        return np.full(self.p, float(self.n))

    @cached_property
    def squared_norms(self) -> FloatArray:
        """Squared norms of the columns, on the host."""
        if self.device is None:
            return np.asarray(np.einsum("ij,ij->j", self.matrix, self.matrix))
        return to_host(self.xp.sum(self.matrix * self.matrix, axis=0))

    @cached_property
    def row_norms(self) -> FloatArray:
        """Norms of the rows, on the host."""
        if self.device is None:
            return np.asarray(np.sqrt(np.einsum("ij,ij->i", self.matrix, self.matrix)))
        return to_host(self.xp.sqrt(self.xp.sum(self.matrix * self.matrix, axis=1)))

    def times(self, x: Array) -> Array:
        """A x for x (p,) or (p, K)."""
        return self.matrix @ x

    def adjoint(self, v: Array) -> Array:
        """A^T v for v (n,) or (n, K)."""
        return self.matrix.T @ v

    def adjoint_pair(self, u: Array, v: Array) -> tuple[Array, Array]:
        """A^T u and A^T v, in one pass over A."""
        both = self.matrix.T @ self.xp.stack([u, v], axis=1)
        return both[:, 0], both[:, 1]

    def columns(self, block: IntArray) -> Array:
        """The columns of a block, dense."""
        if self.device is None:
            return self.matrix[:, block]
        return self.xp.take(self.matrix, self.xp.asarray(block, device=self.device), axis=1)

    def times_block(self, block: IntArray, d: Array) -> Array:
        """A_b d."""
        return self.columns(block) @ d

    def adjoint_block(self, block: IntArray, v: Array) -> Array:
        """A_b^T v."""
        return self.columns(block).T @ v

    def gram(self, block: IntArray, weights: Array | None = None) -> FloatArray:
        """A_b^T diag(weights) A_b on the host."""
        columns = self.columns(block)
        if weights is not None:
            columns = columns * self.xp.sqrt(weights)[:, None]
        return to_host(columns.T @ columns)

    def cross(self, block: IntArray, others: IntArray, weights: Array | None = None) -> FloatArray:
        """A_b^T diag(weights) A_others on the host."""
        left = self.columns(block)
        if weights is not None:
            left = left * weights[:, None]
        return to_host(left.T @ self.columns(others))

    def restricted(self, block: IntArray) -> DenseDesign:
        """The columns of a block as a design of their own."""
        columns = self.columns(block)
        return DenseDesign(np.asfortranarray(columns) if self.device is None else columns)

    def with_ones(self) -> DenseDesign:
        """A with a column of ones appended."""
        xp = self.xp
        if self.device is None:
            wider = np.empty((self.n, self.p + 1), order="F")
            wider[:, :-1] = self.matrix
            wider[:, -1] = 1.0
            return DenseDesign(freeze(wider))
        ones = xp.ones((self.n, 1), dtype=xp.float64, device=self.device)
        return DenseDesign(xp.concat([self.matrix, ones], axis=1))

    def scaled_rows(self, factors: Array) -> DenseDesign:
        """diag(factors) A."""
        return DenseDesign(self.matrix * factors[:, None])


class SparseDesign:
    """A sparse matrix in CSC form, 32-bit row indices."""

    device = None

    def __init__(self, matrix: scipy.sparse.csc_array, squared_norms: FloatArray | None = None) -> None:
        self.matrix = matrix
        if squared_norms is not None:
            self.squared_norms = squared_norms
        self.n, self.p = (int(size) for size in matrix.shape)

    @property
    def xp(self) -> ModuleType:
        """Array namespace of the data; not stored, so that problems pickle."""
        namespace: ModuleType = host_namespace
        return namespace

    @cached_property
    def kernel(self) -> Any:
        """What compiled kernels take: (data, indices, indptr)."""
        return (self.matrix.data, self.matrix.indices, self.matrix.indptr.astype(np.int64))

    @cached_property
    def _transposed(self) -> Any:
        return self.matrix.T

    @cached_property
    def counts(self) -> FloatArray:
        """Stored entries of each column."""
        return np.diff(self.matrix.indptr).astype(np.float64)

    @cached_property
    def squared_norms(self) -> FloatArray:
        """Squared norms of the columns."""
        return np.asarray(_survey(self.matrix.data, self.matrix.indices, self.matrix.indptr)[2])

    @cached_property
    def row_norms(self) -> FloatArray:
        """Norms of the rows."""
        squares = self.matrix.data * self.matrix.data
        return np.asarray(np.sqrt(np.bincount(self.matrix.indices, weights=squares, minlength=self.n)))

    def times(self, x: FloatArray) -> FloatArray:
        """A x for x (p,) or (p, K)."""
        return np.asarray(self.matrix @ x)

    def adjoint(self, v: FloatArray) -> FloatArray:
        """A^T v for v (n,) or (n, K)."""
        return np.asarray(self._transposed @ v)

    def adjoint_pair(self, u: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray]:
        """A^T u and A^T v, in one pass over A."""
        first, second = _products(self.matrix.data, self.matrix.indices, self.matrix.indptr, np.stack([u, v], axis=1))
        return first, second

    def columns(self, block: IntArray) -> FloatArray:
        """The columns of a block, dense."""
        return np.asarray(self.matrix[:, block].toarray())

    def times_block(self, block: IntArray, d: FloatArray) -> FloatArray:
        """A_b d."""
        return np.asarray(self.matrix[:, block] @ d)

    def adjoint_block(self, block: IntArray, v: FloatArray) -> FloatArray:
        """A_b^T v."""
        return np.asarray(self.matrix[:, block].T @ v)

    def gram(self, block: IntArray, weights: FloatArray | None = None) -> FloatArray:
        """A_b^T diag(weights) A_b, dense."""
        return self.cross(block, block, weights)

    def cross(self, block: IntArray, others: IntArray, weights: FloatArray | None = None) -> FloatArray:
        """A_b^T diag(weights) A_others, dense."""
        left, right = self.matrix[:, block], self.matrix[:, others]
        if weights is not None:
            left = left.multiply(weights[:, None]).tocsc()
        return np.asarray((left.T @ right).toarray())

    def restricted(self, block: IntArray) -> SparseDesign:
        """The columns of a block as a design of their own."""
        return SparseDesign(scipy.sparse.csc_array(self.matrix[:, block]))

    def with_ones(self) -> SparseDesign:
        """A with a column of ones appended."""
        ones = scipy.sparse.csc_array(np.ones((self.n, 1)))
        return SparseDesign(scipy.sparse.hstack([self.matrix, ones], format="csc"))

    def scaled_rows(self, factors: FloatArray) -> SparseDesign:
        """diag(factors) A."""
        scaled = self.matrix.copy()
        scaled.data = scaled.data * factors[scaled.indices]
        return SparseDesign(scaled)


Design = DenseDesign | SparseDesign


def design_matrix(value: Any, name: str = "A") -> Design:
    """Validate a design matrix: dense of any array kind, or scipy.sparse (converted to CSC, duplicates summed)."""
    expected = "an (n, p) matrix"
    if kind_of(value) == "sparse":
        return SparseDesign(*_canonical(value, name, expected))
    # Column order, because columns are swept. Norms are needed anyway and tell whether every entry is finite.
    matrix = as_float_array(value, name, ndim=2, order="F", finite=False, expected=expected)
    design = DenseDesign(matrix)
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(np.sum(design.squared_norms))
    if not math.isfinite(total):
        as_float_array(matrix, name, ndim=2, order="F", expected=expected)
        raise InvalidProblemError(f"{name} must have squared norms within float64; rescale the data")
    return design


def sparse_matrix(value: Any, name: str, expected: str) -> scipy.sparse.csc_array:
    """A canonical CSC copy or view of a scipy.sparse matrix: finite float64, sorted, no duplicates."""
    return _canonical(value, name, expected)[0]


def _canonical(value: Any, name: str, expected: str) -> tuple[scipy.sparse.csc_array, FloatArray]:
    """The matrix of ``sparse_matrix`` and the squared norms of its columns."""
    what = f"{name} must be {expected} of finite real numbers"
    if value.ndim != 2 or value.shape[0] == 0 or value.shape[1] == 0:
        raise InvalidProblemError(f"{what}; got shape {tuple(value.shape)}")
    if value.dtype.kind not in "bifu":
        raise InvalidProblemError(f"{what}; got dtype {value.dtype}")
    matrix = scipy.sparse.csc_array(value, dtype=np.float64)
    ascending, total, squared_norms = _survey(matrix.data, matrix.indices, matrix.indptr)
    if not ascending:
        # A fresh matrix, because summing duplicates in place would change the caller's.
        matrix = matrix.copy()
        matrix.sum_duplicates()
        _, total, squared_norms = _survey(matrix.data, matrix.indices, matrix.indptr)
    # A sum is finite only if every entry is; it may overflow where all are.
    if not math.isfinite(total) and not np.isfinite(matrix.data).all():
        bad = matrix.nnz - int(np.count_nonzero(np.isfinite(matrix.data)))
        raise InvalidProblemError(f"{what}; got {bad} entries that are NaN or infinite")
    if matrix.nnz >= 2**31 or max(matrix.shape) >= 2**31:
        raise InvalidProblemError(f"{name} must have fewer than 2**31 stored entries; got {matrix.nnz}")
    if matrix.indices.dtype != np.int32 or matrix.indptr.dtype != np.int32:
        parts = (matrix.data, matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32))
        matrix = scipy.sparse.csc_array(parts, shape=matrix.shape)
    view = scipy.sparse.csc_array(
        (freeze(matrix.data), freeze(matrix.indices), freeze(matrix.indptr)), shape=matrix.shape, copy=False
    )
    view.has_canonical_format = True
    return view, squared_norms


@njit()
def _survey(data: FloatArray, indices: Any, indptr: Any) -> tuple[bool, float, FloatArray]:
    """Whether row indices ascend strictly in every column, the sum of the entries, and each column's sum of squares.

    A matrix's own flag for sorted indices may be out of date. The matrix is read once.
    """
    ascending, total = True, 0.0
    squares = np.empty(len(indptr) - 1)
    for j in range(len(squares)):
        square, last = 0.0, -1
        for k in range(indptr[j], indptr[j + 1]):
            square += data[k] * data[k]
            total += data[k]
            row = int(indices[k])
            ascending = ascending and row > last
            last = row
        squares[j] = square
    return ascending, total, squares


@njit()
def _products(data: FloatArray, indices: Any, indptr: Any, pair: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Each column times two vectors, the columns of ``pair`` (n, 2): their entries lie side by side."""
    first, second = np.empty(len(indptr) - 1), np.empty(len(indptr) - 1)
    for j in range(len(first)):
        a, b = 0.0, 0.0
        for k in range(indptr[j], indptr[j + 1]):
            i = indices[k]
            a += data[k] * pair[i, 0]
            b += data[k] * pair[i, 1]
        first[j], second[j] = a, b
    return first, second
