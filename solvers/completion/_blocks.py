"""A matrix of observed entries in blocks of rows and blocks of columns, and what is done with one block.

Where the blocks are -- in files that are read one after the other, on the workers of a cluster -- is decided by a
:class:`BlockedMatrix`: it carries functions of one block to all of them, in order. The functions here are all that is
ever run on a block by the iteration; those of the certificate are in :mod:`solvers.completion._blocked_certificate`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.errors import InvalidProblemError
from solvers.completion import _kernels_numba as kernels
from solvers.completion._biases import margin
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
    weights : (e,) positive float32 or float64, in their own precision
        Empty for ones.
    """

    start: int
    stop: int
    width: int
    indptr: IntArray
    indices: npt.NDArray[np.int32]
    values: npt.NDArray[Any]
    weights: npt.NDArray[Any] = field(default_factory=lambda: np.empty(0))

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
    weighted : bool
        Whether entries have weights of their own.
    remote : bool
        Whether blocks are worked on elsewhere: what is large then stays there where it can.
    """

    shape: tuple[int, int]
    size: int
    dtype: np.dtype[Any]
    weighted = False
    remote = False

    @abstractmethod
    def weighted_by(self, weights: Self) -> Self:
        """The matrix with the values of another one of the same positions as weights."""

    @abstractmethod
    def without(self, keys: IntArray) -> Self:
        """The matrix without the entries row * n + column named by sorted keys, all of which it holds."""

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
        return np.asarray(block.weights, dtype=dtype)
    own = block.weights if len(block.weights) else 1.0
    return np.asarray(own / (frame.own_scale[rows_of(block)] * frame.other_scale[block.indices]) ** 2, dtype=dtype)


def weighted(block: Block, weights: Block) -> Block:
    """The block with the values of another one as weights."""
    if not (np.array_equal(block.indptr, weights.indptr) and np.array_equal(block.indices, weights.indices)):
        raise InvalidProblemError("weights must have the positions of A, in the same blocks")
    if len(weights.values) and not float(weights.values.min()) > 0.0:
        raise InvalidProblemError("weights must be positive; leave entries of weight zero out of A and of the weights")
    return replace(block, weights=weights.values)


def keys_of(block: Block) -> IntArray:
    """row * n + column of each entry, ascending, with the rows and columns of this side."""
    keys: IntArray = rows_of(block) * block.width + block.indices
    return keys


def without(block: Block, keys: IntArray) -> Block:
    """The block without the entries that sorted keys of this side name; others are not in it."""
    first, last = np.searchsorted(keys, (block.start * block.width, block.stop * block.width))
    if first == last:
        return block
    kept = np.ones(len(block.values), dtype=bool)
    kept[np.searchsorted(keys_of(block), keys[first:last])] = False
    counts = np.bincount(rows_of(block)[kept] - block.start, minlength=block.stop - block.start)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    weights = block.weights[kept] if len(block.weights) else block.weights
    return replace(block, indptr=indptr, indices=block.indices[kept], values=block.values[kept], weights=weights)


def drawn(block: Block, _: None, seed: int, share: float) -> tuple[npt.NDArray[np.uint64], IntArray]:
    """Pseudorandom numbers and keys of the entries whose number is below a share of the range (splitmix64)."""
    keys = keys_of(block)
    mixed = keys.astype(np.uint64) + np.uint64(seed)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    low = mixed < np.uint64(min(share, 0.999999) * 2.0**64) if share < 1.0 else np.ones(len(mixed), dtype=bool)
    return mixed[low], keys[low]


def values_at(block: Block, _: None, keys: IntArray) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Values and weights of the entries of the block that sorted keys name; those it lacks are left out."""
    mine = keys_of(block)
    own = keys[slice(*np.searchsorted(keys, (block.start * block.width, block.stop * block.width)))]
    at = np.searchsorted(mine, own)
    there = at < len(mine)
    there[there] = mine[at[there]] == own[there]
    at = at[there]
    return block.values[at], block.weights[at] if len(block.weights) else np.ones(len(at))


def solve(
    block: Block, x: npt.NDArray[Any], frame: Frame, fixed: npt.NDArray[Any], penalty: FloatArray,
    inverse_scale: FloatArray, rule: SweepRule, seed: int, shared: npt.NDArray[Any],
) -> tuple[npt.NDArray[Any], FloatArray]:  # fmt: skip
    """The rows ``x`` of the block improved in place with the other factor fixed, and sum w r² of each."""
    dtype = fixed.dtype
    side = Orientation(block.indptr, block.indices, targets(block, frame, dtype), entry_weights(block, frame, dtype))
    return x, improve_rows(side, fixed, penalty, inverse_scale, rule, seed, x, shared)


def solve_and_factor(
    block: Block, x: npt.NDArray[Any], *shared: Any
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], FloatArray]:
    """As ``solve``, with the rows as orthonormal columns times a triangle: a leaf of the tree of QR factorisations.

    What travelled to a worker may be read-only, and is not its own.
    """
    x, losses = solve(block, np.array(x, order="C"), *shared)
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


def margins(block: Block, _: None, mean: float) -> FloatArray:
    """The sums over each row that the effects of rows and columns rest on."""
    weights = block.weights.astype(np.float64) if len(block.weights) else None
    return margin(
        rows_of(block) - block.start, weights, block.values.astype(np.float64) - mean, block.stop - block.start
    )


def sums_over(block: Block, _: None, other: FloatArray) -> FloatArray:
    """Sum of w times the other side's numbers over the entries of each row."""
    terms = other[block.indices]
    terms = terms * block.weights if len(block.weights) else terms
    return np.bincount(rows_of(block) - block.start, terms, block.stop - block.start).astype(np.float64)


def extent(block: Block, _: None) -> tuple[float, float, float, float]:
    """Greatest absolute value, greatest weight, sum of w times the values, sum of w."""
    values = block.values
    if not len(block.weights):
        return largest(block, values), 1.0, float(np.sum(values, dtype=np.float64)), float(len(values))
    weights = block.weights.astype(np.float64)
    return largest(block, values), largest(block, weights), float(np.sum(weights * values)), float(np.sum(weights))


def target_extent(block: Block, _: None, frame: Frame) -> tuple[float, float, float]:
    """Greatest absolute value of the targets, sum of w a² and of a², in the caller's units."""
    values = targets(block, Frame(frame.own_bias, frame.other_bias), np.float64)
    squares = values * values
    plain = float(np.sum(squares))
    return largest(block, values), float(np.sum(block.weights * squares)) if len(block.weights) else plain, plain


def weight_sums(block: Block, _: None, frame: Frame) -> FloatArray:
    """Total weight of each row."""
    weights = entry_weights(block, frame, np.float64)
    weights = weights if len(weights) else np.ones(len(block.values))
    return np.bincount(rows_of(block) - block.start, weights, block.stop - block.start).astype(np.float64)


def columns_of(block: Block, _: None) -> npt.NDArray[np.int32]:
    """Column of each entry."""
    return block.indices.copy()
