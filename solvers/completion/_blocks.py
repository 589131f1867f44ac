"""A matrix of observed entries in blocks of rows and blocks of columns, and what is done with one block.

Where the blocks are -- in files that are read one after the other, on the workers of a cluster -- is decided by a
:class:`BlockedMatrix`: it carries functions of one block to all of them, in order. The functions here are all that is
ever run on a block by the iteration; those of the certificate are in :mod:`solvers.completion._blocked_certificate`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse

from solvers._core.arrays import FloatArray, IntArray
from solvers.completion import _kernels_numba as kernels
from solvers.completion._sweeps import Orientation, SweepRule, improve_rows

__all__ = ["Block", "BlockedMatrix", "Frame", "rows_of", "targets"]


@dataclass(frozen=True)
class Block:
    """Consecutive rows (or columns) in compressed form, each position once, in order.

    Attributes
    ----------
    start, stop : int
        The rows that it holds.
    width : int
        Number of columns of the matrix.
    indptr : (stop - start + 1,) int64
        From 0 on.
    indices : (e,) int32
    values : (e,) float32 or float64
    """

    start: int
    stop: int
    width: int
    indptr: IntArray
    indices: npt.NDArray[np.int32]
    values: npt.NDArray[Any]

    def matrix(self, data: npt.NDArray[Any]) -> scipy.sparse.csr_array:
        """The block as a sparse matrix with ``data`` at its positions."""
        narrow = self.indptr.astype(np.int32) if len(data) < 2**31 else self.indptr
        return scipy.sparse.csr_array((data, self.indices, narrow), shape=(self.stop - self.start, self.width))


@dataclass(frozen=True)
class Frame:
    """Coordinates of the sweeps as seen from one side: biases are subtracted, then entries scaled; None for neither."""

    own_bias: FloatArray | None = None
    other_bias: FloatArray | None = None
    own_scale: FloatArray | None = None
    other_scale: FloatArray | None = None


class BlockedMatrix(ABC):
    """Observed entries in blocks.

    Attributes
    ----------
    shape : (m, n)
    size : int
        Number of entries.
    dtype : dtype
        Of the values.
    remote : bool
        Whether blocks are worked on elsewhere: what is large then stays there where it can.
    """

    shape: tuple[int, int]
    size: int
    dtype: np.dtype[Any]
    remote = False

    @abstractmethod
    def counts(self, *, columns: bool = False) -> IntArray:
        """Entries of every row (or column)."""

    @abstractmethod
    def ranges(self, *, columns: bool = False) -> list[tuple[int, int]]:
        """Rows (or columns) of each block."""

    @abstractmethod
    def run(
        self, task: Callable[..., Any], parts: Sequence[Any] | None, shared: tuple[Any, ...], *, columns: bool = False
    ) -> Iterator[Any]:
        """``task(block, part, *shared)`` for every block, results in order; a part may be one that was kept."""

    @abstractmethod
    def keep(
        self, task: Callable[..., Any], parts: Sequence[Any] | None, shared: tuple[Any, ...], *, columns: bool = False
    ) -> Sequence[Any]:
        """As ``run``, with the results left where the blocks are, to be parts of later runs."""

    def split(self, array: npt.NDArray[Any], *, columns: bool = False) -> list[npt.NDArray[Any]]:
        """The rows of an array by blocks."""
        return [array[start:stop] for start, stop in self.ranges(columns=columns)]


def rows_of(block: Block) -> IntArray:
    """Row of each entry in the whole matrix."""
    return np.repeat(np.arange(block.start, block.stop), np.diff(block.indptr))


def targets(block: Block, frame: Frame, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Values in the coordinates of the sweeps."""
    values = block.values
    if frame.own_bias is not None and frame.other_bias is not None:
        values = values - frame.own_bias[rows_of(block)] - frame.other_bias[block.indices]
    if frame.own_scale is not None and frame.other_scale is not None:
        values = values * (frame.own_scale[rows_of(block)] * frame.other_scale[block.indices])
    return np.asarray(values, dtype=dtype)


def entry_weights(block: Block, frame: Frame, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Weights in the coordinates of the sweeps; empty means ones."""
    if frame.own_scale is None or frame.other_scale is None:
        return np.empty(0, dtype=dtype)
    return np.asarray(1.0 / (frame.own_scale[rows_of(block)] * frame.other_scale[block.indices]) ** 2, dtype=dtype)


def solve(
    block: Block, x: npt.NDArray[Any], frame: Frame, fixed: npt.NDArray[Any], penalty: FloatArray,
    inverse_scale: FloatArray, rule: SweepRule, seed: int, shared: npt.NDArray[Any],
) -> tuple[npt.NDArray[Any], FloatArray]:  # fmt: skip
    """The rows of the block improved with the other factor fixed, and sum w r² of each."""
    dtype = fixed.dtype
    x = np.array(x, dtype=dtype, order="C")
    side = Orientation(block.indptr, block.indices, targets(block, frame, dtype), entry_weights(block, frame, dtype))
    return x, improve_rows(side, fixed, penalty, inverse_scale, rule, seed, x, shared)


def solve_and_factor(
    block: Block, x: npt.NDArray[Any], *shared: Any
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], FloatArray]:
    """As ``solve``, with the rows as orthonormal columns times a triangle: a leaf of the tree of QR factorisations."""
    x, losses = solve(block, x, *shared)
    basis, triangle = np.linalg.qr(x)
    return basis, triangle, losses


def triangle_of(block: Block, leaf: tuple[Any, ...]) -> tuple[npt.NDArray[Any], FloatArray]:
    """What of a leaf is small."""
    return leaf[1], leaf[2]


def basis_of(block: Block, leaf_and_turn: tuple[Any, ...]) -> npt.NDArray[Any]:
    """The leaf's rows of the orthonormal factor."""
    leaf, turn = leaf_and_turn
    return np.asarray(leaf[0] @ turn)


def gradient(block: Block, _: None, frame: Frame, left: npt.NDArray[Any], right: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """w r at left rightᵀ, one value per entry."""
    out = targets(block, frame, left.dtype).copy()
    own = np.ascontiguousarray(left[block.start : block.stop])
    kernels.residuals(block.indptr, block.indices, out, own, np.ascontiguousarray(right), out)
    weights = entry_weights(block, frame, left.dtype)
    return out * weights if len(weights) else out


def largest(block: Block, values: npt.NDArray[Any]) -> float:
    """Greatest absolute value."""
    return float(np.max(np.abs(values), initial=0.0))


def product(block: Block, values: npt.NDArray[Any], vectors: FloatArray) -> FloatArray:
    """The block with ``values`` times vectors."""
    return np.asarray(block.matrix(values) @ vectors)


def transposed_product(block: Block, values: npt.NDArray[Any], vectors: FloatArray) -> FloatArray:
    """Its transpose times vectors that all blocks together have one row each for."""
    return np.asarray(block.matrix(values).T @ vectors[block.start : block.stop])


def gram_product(block: Block, values: npt.NDArray[Any], vectors: FloatArray) -> FloatArray:
    """Its transpose times itself times vectors."""
    matrix = block.matrix(values)
    return np.asarray(matrix.T @ (matrix @ vectors))


def along(
    block: Block, values: npt.NDArray[Any], frame: Frame, u: FloatArray, v: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Slope and curvature of the fit along each pair (u_l, v_l)."""
    own = u[block.start : block.stop]
    weights = entry_weights(block, frame, np.float64)
    curvature = block.matrix(weights if len(weights) else np.ones(len(values)))
    slopes = np.sum(own * (block.matrix(values) @ v), axis=0)
    return slopes, np.sum(own * own * (curvature @ (v * v)), axis=0)


def moments(block: Block, _: None, frame: Frame, U: FloatArray, V: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The block's part in the quadratic and linear term of the fit as a function of s, row by row."""
    k = U.shape[1]
    gram, slope = np.zeros((k, k)), np.zeros(k)
    values, weights = targets(block, frame, np.float64), entry_weights(block, frame, np.float64)
    chunk = max(1, (1 << 22) // k)
    rows = rows_of(block)
    for start in range(0, len(values), chunk):
        part = slice(start, start + chunk)
        products = U[rows[part]] * V[block.indices[part]]
        weighted = products * weights[part, None] if len(weights) else products
        gram += weighted.T @ products
        slope += weighted.T @ values[part]
    return gram, slope


def deviations(block: Block, _: None, mean: float) -> FloatArray:
    """Sum of value - mean over each row."""
    rows = rows_of(block) - block.start
    return np.bincount(rows, block.values - mean, block.stop - block.start).astype(np.float64)


def sums_over(block: Block, _: None, other: FloatArray) -> FloatArray:
    """Sum of the other side's numbers over the entries of each row."""
    return np.bincount(rows_of(block) - block.start, other[block.indices], block.stop - block.start).astype(np.float64)


def extent(block: Block, _: None) -> tuple[float, float]:
    """Greatest absolute value and sum of the values."""
    return largest(block, block.values), float(np.sum(block.values, dtype=np.float64))


def target_extent(block: Block, _: None, frame: Frame) -> tuple[float, float]:
    """Greatest absolute value and sum of squares of the targets, in the caller's units."""
    values = targets(block, Frame(frame.own_bias, frame.other_bias), np.float64)
    return largest(block, values), float(np.sum(values * values))


def weight_sums(block: Block, _: None, frame: Frame) -> FloatArray:
    """Total weight of each row."""
    weights = entry_weights(block, frame, np.float64)
    return np.bincount(rows_of(block) - block.start, weights, block.stop - block.start).astype(np.float64)


def columns_of(block: Block, _: None) -> npt.NDArray[np.int32]:
    """Column of each entry."""
    return block.indices.copy()
