"""Observed entries in blocks: what the loop asks of them, as passes over the blocks.

A half sweep is one pass: the fixed factor goes to every block, improved rows come back. Where blocks are on workers,
the improved rows are factored there and only k x k triangles travel (Demmel, Grigori, Hoemmen and Langou 2012):
X_b = Q_b R_b at each block, the stacked R_b = Q' R at the caller, and R = W diag(s) Tᵀ give U_b = Q_b Q'_b W.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from solvers._core.arrays import FloatArray
from solvers.completion import _blocks as tasks
from solvers.completion._blocks import BlockedMatrix, Frame
from solvers.completion._sweeps import Factors, Orientation, SweepRule, balanced, shared_factor

__all__ = ["BlockEntries", "BlockGradient"]


class BlockEntries:
    """Entries of a blocked matrix, in scaled coordinates and working precision.

    Parameters
    ----------
    matrix : BlockedMatrix
    row_bias, col_bias, row_scale, col_scale : float64 arrays or None
    reg : float
    square : float
        Sum of w a² over the entries.
    """

    def __init__(
        self, matrix: BlockedMatrix, frame: Frame, reg: float, square: float, dtype: npt.DTypeLike = np.float64
    ) -> None:
        self.matrix = matrix
        self.shape = matrix.shape
        self.dtype = np.dtype(dtype)
        self.reg = reg
        self.square = square
        self.frames = frame, Frame(frame.other_bias, frame.own_bias, frame.other_scale, frame.own_scale)
        self.seed = 0
        counts = matrix.counts(), matrix.counts(columns=True)
        totals: list[Any] = list(counts)
        if frame.own_scale is not None or matrix.weighted:
            frames = zip(self.frames, (False, True), strict=True)
            totals = [np.concatenate(list(matrix.run(tasks.weight_sums, None, (f,), columns=c))) for f, c in frames]
        nothing = np.empty(0)
        self.outlines = tuple(
            Orientation(
                np.concatenate([[0], np.cumsum(own)]), nothing.astype(np.int32), nothing, nothing, total.astype(float)
            )
            for own, total in zip(counts, totals[::-1], strict=True)
        )

    def improved(
        self, factors: Factors, penalty: FloatArray, inverse_scale: FloatArray, rule: SweepRule, *, columns: bool
    ) -> tuple[Factors, float]:
        """Rows (or columns) solved with the other factor fixed and balanced, and sum w r² there."""
        moving, fixed = (factors.V, factors.U) if columns else (factors.U, factors.V)
        self.seed += 1
        x = np.ascontiguousarray(moving * factors.s.astype(self.dtype))
        parts = self.matrix.split(x, columns=columns)
        preconditioner = np.empty((0, 0), dtype=self.dtype)
        if rule.inner == "auto":
            preconditioner = shared_factor(self.outlines[columns], fixed, penalty.astype(self.dtype))
        shared = self.frames[columns], fixed, penalty, inverse_scale, rule, self.seed, preconditioner
        if self.matrix.remote:
            basis, s, turn, loss = self._factored(parts, shared, columns)
            fixed = np.ascontiguousarray(fixed @ turn)
            return (Factors(fixed, s, basis) if columns else Factors(basis, s, fixed)), loss
        # The parts are views of x: rows change where they are.
        losses = [loss for _, loss in self.matrix.run(tasks.solve, parts, shared, columns=columns)]
        return balanced(fixed, x) if columns else balanced(x, fixed), float(np.sum(np.concatenate(losses)))

    def fit_of_zero(self) -> float:
        """1/2 sum w a² over the entries."""
        return 0.5 * self.square

    def gradient(self, factors: Factors, given: FloatArray | None = None) -> BlockGradient:
        """The matrix w r at the factors, as an operator."""
        left = np.ascontiguousarray(factors.U * factors.s.astype(self.dtype))
        kept = self.matrix.keep(tasks.gradient, None, (self.frames[0], left, factors.V))
        return BlockGradient(self.matrix, self.frames[0], kept)

    def length_moments(self, factors: Factors) -> tuple[FloatArray, FloatArray]:
        """Quadratic and linear term of the fit as a function of s, (k, k) and (k,)."""
        U, V = factors.U.astype(np.float64), factors.V.astype(np.float64)
        parts = list(self.matrix.run(tasks.moments, None, (self.frames[0], U, V)))
        return np.sum([gram for gram, _ in parts], axis=0), np.sum([slope for _, slope in parts], axis=0)

    def host(self, factor: Any) -> npt.NDArray[Any]:
        """A factor as a NumPy array."""
        return np.asarray(factor)

    def take(self, factor: npt.NDArray[Any]) -> Any:
        """A NumPy array as a factor."""
        return np.ascontiguousarray(factor, dtype=self.dtype)

    def _factored(
        self, parts: list[Any], shared: tuple[Any, ...], columns: bool
    ) -> tuple[npt.NDArray[Any], FloatArray, npt.NDArray[Any], float]:
        """The improved rows X = basis diag(s) turnᵀ, by a tree of QR factorisations, and sum w r²."""
        leaves = self.matrix.keep(tasks.solve_and_factor, parts, shared, columns=columns)
        small = list(self.matrix.run(tasks.triangle_of, leaves, (), columns=columns))
        loss = float(np.sum(np.concatenate([losses for _, losses in small])))
        triangles = [triangle.astype(np.float64) for triangle, _ in small]
        q, r = np.linalg.qr(np.vstack(triangles))
        w, s, vt = np.linalg.svd(r)
        turns = np.split((q @ w).astype(self.dtype), np.cumsum([len(t) for t in triangles])[:-1])
        basis = list(self.matrix.run(tasks.basis_of, list(zip(leaves, turns, strict=True)), (), columns=columns))
        return np.vstack(basis), s, np.ascontiguousarray(vt.T, dtype=self.dtype), loss


class BlockGradient:
    """G from one value per entry, kept with the blocks of rows."""

    def __init__(self, matrix: BlockedMatrix, frame: Frame, kept: Any) -> None:
        self.shape = matrix.shape
        self.scale = max(matrix.run(tasks.largest, kept, ()))
        self._matrix, self._frame, self._kept = matrix, frame, kept

    def product(self, block: FloatArray) -> FloatArray:
        """(G / scale) B."""
        return np.vstack(list(self._matrix.run(tasks.product, self._kept, (block / self.scale,))))

    def gram_product(self, block: FloatArray) -> FloatArray:
        """(G / scale)ᵀ (G / scale) B."""
        total = np.zeros_like(block)
        for part in self._matrix.run(tasks.gram_product, self._kept, (block / self.scale,)):
            total += part
        scaled: FloatArray = total / self.scale
        return scaled

    def along(self, u: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Slope and curvature of the fit along each pair."""
        parts = list(self._matrix.run(tasks.along, self._kept, (self._frame, u, v)))
        return np.sum([slope for slope, _ in parts], axis=0), np.sum([curvature for _, curvature in parts], axis=0)
