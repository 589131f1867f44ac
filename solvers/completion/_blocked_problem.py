"""The completion problem of a blocked matrix: what the run needs to know, without the entries."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.errors import InvalidProblemError
from solvers._core.options import check_choice, check_integer, check_number
from solvers.completion import _blocks as tasks
from solvers.completion._biases import shrunk_effects
from solvers.completion._blocks import BlockedMatrix, Frame
from solvers.completion._observations import checked_holdout
from solvers.completion._problem import refuse_extreme

__all__ = ["BlockedProblem", "as_blocked", "blocked_problem"]


class Positions:
    """Where the entries are; gathered from the blocks once somebody asks for more than their numbers."""

    def __init__(self, matrix: BlockedMatrix, row_counts: IntArray, col_counts: IntArray) -> None:
        self.size, self.row_counts, self.col_counts = matrix.size, row_counts, col_counts
        self._matrix = matrix

    @cached_property
    def indptr(self) -> IntArray:
        """Offsets of the rows, (m + 1,)."""
        return np.concatenate([[0], np.cumsum(self.row_counts)])

    @cached_property
    def cols(self) -> npt.NDArray[np.int32]:
        """Column of each entry, in row order."""
        return np.concatenate(list(self._matrix.run(tasks.columns_of, None, ())))

    @cached_property
    def rows(self) -> IntArray:
        """Row of each entry."""
        return np.repeat(np.arange(len(self.row_counts)), self.row_counts)


@dataclass(frozen=True)
class HeldOut:
    """Entries that are not fitted, by rows."""

    rows: IntArray
    cols: IntArray
    values: FloatArray

    @property
    def size(self) -> int:
        """How many."""
        return len(self.values)


@dataclass(frozen=True)
class BlockedProblem:
    """Least squares on a blocked matrix; the fields are those of ``CompletionProblem``.

    ``matrix`` is without the held-out entries; ``square`` is the sum of w a² of the others.
    """

    matrix: BlockedMatrix
    rank: int
    reg: float
    row_scale: FloatArray
    col_scale: FloatArray
    row_bias: FloatArray
    col_bias: FloatArray
    row_counts: IntArray
    col_counts: IntArray
    counted: bool
    biased: bool
    square: float
    largest: float
    largest_target: float
    held: HeldOut
    plain_square: float
    total_weight: float
    row_shrinkage: float = 0.0
    loss: str = "l2"
    delta: float = math.inf

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.matrix.shape

    @property
    def size(self) -> int:
        """Number of fitted entries."""
        return self.matrix.size

    @property
    def typical(self) -> float:
        """Root mean square of the targets."""
        return math.sqrt(self.plain_square / self.size)

    @property
    def bias_frame(self) -> Frame:
        """The caller's units, less the biases."""
        return Frame(self.row_bias, self.col_bias) if self.biased else Frame()

    @cached_property
    def positions(self) -> Positions:
        """Where the entries are."""
        return Positions(self.matrix, self.row_counts, self.col_counts)

    @property
    def frame(self) -> Frame:
        """The coordinates of the sweeps."""
        biases = self.bias_frame
        scales = (self.row_scale, self.col_scale) if self.counted else (None, None)
        return Frame(biases.own_bias, biases.other_bias, *scales)

    def size_of(self, delta: float) -> float:
        """The objective at X = 0."""
        return 0.5 * self.square


def as_blocked(A: Any) -> BlockedMatrix | None:
    """The data argument as a blocked matrix; None where it is data in memory."""
    if isinstance(A, BlockedMatrix):
        return A
    if type(A).__module__.partition(".")[0] == "dask":
        from solvers.completion._dask import DaskMatrix

        return DaskMatrix(A)
    return None


def blocked_problem(
    matrix: BlockedMatrix,
    rank: int,
    *,
    weights: Any,
    reg: float,
    reg_scaling: str,
    loss: str,
    delta: Any,
    biases: bool,
    holdout: float,
    duplicates: str,
    rng: np.random.Generator | None = None,
    chosen: Any = None,
) -> BlockedProblem:
    """Validate the problem options, hold entries out and fit the biases, by passes over the blocks."""
    m, n = matrix.shape
    for name, given in {"loss='huber'": loss == "huber", "duplicates='mean'": duplicates == "mean"}.items():
        if given:
            raise InvalidProblemError(f"{name} needs the entries in memory; got a {type(matrix).__name__}")
    rank = check_integer("rank", rank, low=1)
    if rank > min(m, n):
        raise InvalidProblemError(f"rank must be at most min(m, n) = {min(m, n)} for a {m} x {n} matrix; got {rank}")
    reg = check_number("reg", reg, low=0.0)
    check_choice("reg_scaling", reg_scaling, ("plain", "count"))
    check_choice("loss", loss, ("l2",))
    check_choice("duplicates", duplicates, ("error",))
    check_choice("delta", delta, ("auto",))
    if not isinstance(biases, (bool, np.bool_)):
        raise TypeError(f"biases must be True or False; got {biases!r}")
    if weights is not None:
        other = as_blocked(weights)
        if other is None or type(other) is not type(matrix) or other.shape != matrix.shape:
            raise InvalidProblemError(
                f"weights must be a {type(matrix).__name__} of shape {matrix.shape} with the positions of A; got "
                f"{type(weights).__name__}"
            )
        matrix = matrix.weighted_by(other)
    matrix, held = _split(matrix, holdout, rng, chosen)
    row_counts, col_counts = matrix.counts(), matrix.counts(columns=True)
    counted = reg_scaling == "count" and reg > 0
    extents = np.array(list(matrix.run(tasks.extent, None, ())))
    largest, heaviest = (float(part) for part in np.max(extents[:, :2], axis=0))
    refuse_extreme(largest, heaviest)
    total, weight = math.fsum(extents[:, 2]), math.fsum(extents[:, 3])
    effects = _two_way_effects(matrix, total, weight) if biases else (np.zeros(m), np.zeros(n), 0.0)
    row_bias, col_bias, row_shrinkage = effects
    frame = Frame(row_bias, col_bias) if biases else Frame()
    sums = np.array(list(matrix.run(tasks.target_extent, None, (frame,))))
    return BlockedProblem(
        matrix=matrix,
        rank=rank,
        reg=reg,
        row_scale=np.sqrt(row_counts.astype(np.float64)) if counted else np.ones(m),
        col_scale=np.sqrt(col_counts.astype(np.float64)) if counted else np.ones(n),
        row_bias=row_bias,
        col_bias=col_bias,
        row_shrinkage=row_shrinkage,
        row_counts=row_counts,
        col_counts=col_counts,
        counted=counted,
        biased=bool(biases),
        square=math.fsum(sums[:, 1]),
        plain_square=math.fsum(sums[:, 2]),
        total_weight=weight,
        held=held,
        largest=largest,
        largest_target=float(np.max(sums[:, 0])),
    )


def _split(
    matrix: BlockedMatrix, holdout: Any, rng: np.random.Generator | None, chosen: Any
) -> tuple[BlockedMatrix, HeldOut]:
    """Separate a random fraction of the entries, or those at the (row, column) pairs ``chosen``."""
    n = matrix.shape[1]
    count = checked_holdout(matrix.size, holdout)
    if chosen is None:
        keys = _drawn(matrix, count, rng or np.random.default_rng())
    else:
        pairs = np.asarray(chosen)
        if pairs.dtype.kind not in "iu" or pairs.ndim != 2 or pairs.shape[1] != 2:
            raise InvalidProblemError("holdout_index must hold pairs of integers")
        if pairs.size and (pairs.min() < 0 or (pairs.max(axis=0) >= matrix.shape).any()):
            raise InvalidProblemError("holdout_index lies outside the matrix")
        keys = np.unique(pairs[:, 0].astype(np.int64) * n + pairs[:, 1])
    if not count and not len(keys):
        return matrix, HeldOut(keys, keys, np.empty(0))
    parts = list(matrix.run(tasks.values_at, None, (keys,)))
    values = np.concatenate([part for part, _ in parts]).astype(np.float64)
    if not len(values) == len(keys) == count:
        raise InvalidProblemError(
            f"holdout_index must name {count} distinct observed entries, for holdout={holdout!r}; it has {len(keys)}"
        )
    return matrix.without(keys), HeldOut(keys // n, keys % n, values)


def _drawn(matrix: BlockedMatrix, count: int, rng: np.random.Generator) -> IntArray:
    """Sorted keys of so many entries: those with the least pseudorandom numbers."""
    if not count:
        return np.empty(0, dtype=np.int64)
    seed, share = int(rng.integers(2**63)), count / matrix.size
    while True:
        share = share + 8.0 * math.sqrt(share / matrix.size)
        parts = list(matrix.run(tasks.drawn, None, (seed, share)))
        numbers, keys = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        if len(keys) >= count:
            least = np.argsort(numbers, kind="stable")[:count]
            return np.sort(keys[least]).astype(np.int64)


def _two_way_effects(matrix: BlockedMatrix, total: float, weight: float) -> tuple[FloatArray, FloatArray, float]:
    """Shrunk row and column effects, as for data in memory; two passes per step of conjugate gradients."""
    mean = total / weight

    def by_rows(task: Any, *shared: Any, columns: bool = False, axis: int = 0) -> FloatArray:
        return np.concatenate(list(matrix.run(task, None, shared, columns=columns)), axis=axis)

    row, col, ridge = shrunk_effects(
        lambda v: by_rows(tasks.sums_over, v),
        lambda u: by_rows(tasks.sums_over, u, columns=True),
        by_rows(tasks.margins, mean, axis=1),
        by_rows(tasks.margins, mean, columns=True, axis=1),
        matrix.size,
    )
    return row + mean, col, ridge
