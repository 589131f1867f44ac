"""One run of the completion on a blocked matrix."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.options import Common
from solvers.completion._blocked_certificate import blocked_dual_bound, blocked_objective, sum_of_squares
from solvers.completion._blocked_entries import BlockEntries
from solvers.completion._blocked_problem import BlockedProblem
from solvers.completion._certificate import DualBound
from solvers.completion._run import Run, Settings
from solvers.completion._sweeps import Orientation

__all__ = ["BlockedRun"]


class BlockedRun(Run):
    """As for data in memory, with every sum over the entries a pass over the blocks."""

    problem: Any

    def __init__(self, problem: BlockedProblem, common: Common, settings: Settings, max_iter: int) -> None:
        dtype = np.float32 if settings.precision == "single" else np.float64
        square = problem.square
        work = BlockEntries(problem.matrix, problem.frame, problem.reg, square, dtype)
        super().__init__(problem, common, settings, max_iter, work=work)  # type: ignore[arg-type]

    def objective(self, left: FloatArray, right: FloatArray) -> tuple[float, float]:
        """The objective at left rightᵀ and a bound on its rounding error."""
        return blocked_objective(self.problem, left, right)

    def bound(self, left: FloatArray, right: FloatArray) -> DualBound:
        """The dual bound at the residual of left rightᵀ."""
        return blocked_dual_bound(self.problem, left, right, checking=False)

    def misfit(self, left: FloatArray, right: FloatArray) -> tuple[float, IntArray]:
        """Weighted root mean square residual; no entry is rejected here."""
        square = sum_of_squares(self.problem, left, right)
        return math.sqrt(square / self.problem.total_weight), np.empty((0, 2), dtype=np.int64)

    def held_out(self) -> tuple[IntArray, FloatArray]:
        """Positions and values of the entries that were held out."""
        held = self.problem.held
        return np.column_stack([held.rows, held.cols]).astype(np.int64), held.values

    def structure(self) -> Orientation:
        """Positions of the fitted entries by rows, gathered: asked for only where that is affordable."""
        positions = self.problem.positions
        return Orientation(positions.indptr, positions.cols, np.empty(0), np.empty(0))
