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
from solvers.completion._blocks import BlockedMatrix, Frame
from solvers.completion._problem import BIAS_SHRINKAGE, refuse_extreme, shrunk_effects

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
class BlockedProblem:
    """Least squares on a blocked matrix; the fields are those of ``CompletionProblem``."""

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
        return math.sqrt(self.square / self.size)

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
) -> BlockedProblem:
    """Validate the problem options and fit the biases, by passes over the blocks."""
    (m, n), refused = matrix.shape, {}
    refused["weights"] = weights is not None
    refused["holdout"] = holdout != 0.0
    refused["loss='huber'"] = loss == "huber"
    refused["duplicates='mean'"] = duplicates == "mean"
    for name, given in refused.items():
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
    row_counts, col_counts = matrix.counts(), matrix.counts(columns=True)
    counted = reg_scaling == "count" and reg > 0
    largest = max(size for size, _ in matrix.run(tasks.extent, None, ()))
    refuse_extreme(largest, 1.0)
    row_bias, col_bias = _two_way_effects(matrix, row_counts, col_counts) if biases else (np.zeros(m), np.zeros(n))
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
        row_counts=row_counts,
        col_counts=col_counts,
        counted=counted,
        biased=bool(biases),
        square=math.fsum(sums[:, 1]),
        largest=largest,
        largest_target=float(np.max(sums[:, 0])),
    )


def _two_way_effects(
    matrix: BlockedMatrix, row_counts: IntArray, col_counts: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Ridge-shrunk row and column effects, as for data in memory; two passes per step of conjugate gradients."""
    mean = math.fsum(total for _, total in matrix.run(tasks.extent, None, ())) / matrix.size

    def by_rows(task: Any, *shared: Any, columns: bool = False) -> FloatArray:
        return np.concatenate(list(matrix.run(task, None, shared, columns=columns)))

    row, col = shrunk_effects(
        lambda v: by_rows(tasks.sums_over, v),
        lambda u: by_rows(tasks.sums_over, u, columns=True),
        row_counts.astype(np.float64) + BIAS_SHRINKAGE,
        col_counts.astype(np.float64) + BIAS_SHRINKAGE,
        by_rows(tasks.deviations, mean),
        by_rows(tasks.deviations, mean, columns=True),
    )
    return row + mean, col
