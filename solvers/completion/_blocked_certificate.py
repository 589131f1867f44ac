r"""Objective and dual bound of a blocked matrix: those of :mod:`solvers.completion._certificate`, summed over blocks.

Every block's terms are summed in pairs as there; the blocks' sums are added exactly. The residual R is computed once and
kept with the blocks, so that all products are with the same numbers: R is the dual point, whatever its rounding. As there, a
published bound leaves room for the R of another machine, or of other blocks.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from solvers._core.arrays import FloatArray
from solvers._core.linalg import UNIT
from solvers.completion import _blocks as tasks
from solvers.completion._blocked_problem import BlockedProblem
from solvers.completion._blocks import Block, BlockedMatrix, Frame
from solvers.completion._certificate import (
    DENSE_WORK,
    PUBLISHED_STEPS,
    SUM_ERROR,
    SVD_ERROR,
    Drift,
    DualBound,
    NormBound,
    best_multiple,
    deflated_norm,
    dense_norm,
    nuclear_norm,
)

__all__ = ["blocked_dual_bound", "blocked_objective", "sum_of_squares"]

CHUNK = 1 << 18


def blocked_objective(problem: BlockedProblem, left: FloatArray, right: FloatArray) -> tuple[float, float]:
    """The objective at left rightᵀ and a bound on the rounding error of two such evaluations."""
    parts = np.array(list(problem.matrix.run(_loss, None, (problem.bias_frame, left, right))))
    loss, error = math.fsum(parts[:, 0]), math.fsum(parts[:, 1])
    k = left.shape[1]
    norm = nuclear_norm(problem, left, right) if problem.reg > 0 else 0.0  # type: ignore[arg-type]
    scaled = float(
        np.linalg.norm(problem.row_scale[:, None] * left) * np.linalg.norm(problem.col_scale[:, None] * right)
    )
    error = error * (1.0 + 4 * UNIT) + 4 * SUM_ERROR * UNIT * loss
    return loss + problem.reg * norm, error + problem.reg * 8 * SVD_ERROR * UNIT * k * (max(problem.shape) + k) * scaled


def sum_of_squares(problem: BlockedProblem, left: FloatArray, right: FloatArray) -> float:
    """Sum of w r² over the entries."""
    return 2.0 * math.fsum(loss for loss, _ in problem.matrix.run(_loss, None, (problem.bias_frame, left, right)))


def blocked_dual_bound(
    problem: BlockedProblem,
    left: FloatArray,
    right: FloatArray,
    *,
    checking: bool,
    steps: int = PUBLISHED_STEPS[-1],
) -> DualBound:
    """The dual bound at the residual of left rightᵀ; ``checking`` takes twice the Lanczos steps published with."""
    matrix, frame, (m, n) = problem.matrix, problem.bias_frame, problem.shape
    dual = matrix.keep(_dual, None, (frame, left, right))
    sums = np.array(list(matrix.run(_dual_sums, dual, (frame,))))
    scales = problem.row_scale, problem.col_scale
    kept = matrix.keep(_scaled, dual, scales) if problem.counted else dual
    frobenius = math.sqrt(math.fsum(matrix.run(_square, kept, ())))
    linear, size, square = (math.fsum(column) for column in sums.T)
    if not (math.isfinite(frobenius) and math.isfinite(linear) and math.isfinite(square)):
        return DualBound(0.0, 0.0, "dense")
    error = SUM_ERROR * UNIT * size
    drift = Drift() if checking else _drift(problem, dual, left, right)
    if min(m, n) ** 2 * max(m, n) <= DENSE_WORK:
        import scipy.sparse

        whole = scipy.sparse.vstack(list(matrix.run(_as_matrix, kept, ())), format="csr")
        bound = NormBound(*dense_norm(whole), PUBLISHED_STEPS[-1])
        return best_multiple(problem.reg, bound, "dense", linear, square, error, drift=drift)
    depth = int(problem.row_counts.max()) + int(problem.col_counts.max()) + len(matrix.ranges())
    bases = problem.row_scale[:, None] * left, problem.col_scale[:, None] * right
    forward, backward = Products(matrix, kept), Products(matrix, kept, transposed=True)
    bound = deflated_norm(forward, backward, frobenius, depth, *bases, checking=checking, steps=steps)
    return best_multiple(problem.reg, bound, "deflated", linear, square, error, drift=drift)


class Products:
    """A kept matrix, or its transpose, by its products with blocks of vectors."""

    def __init__(self, matrix: BlockedMatrix, kept: Any, *, transposed: bool = False) -> None:
        self.shape = matrix.shape[::-1] if transposed else matrix.shape
        self._matrix, self._kept, self._transposed = matrix, kept, transposed

    def __matmul__(self, vectors: FloatArray) -> FloatArray:
        """The product."""
        if not self._transposed:
            return np.concatenate(list(self._matrix.run(tasks.product, self._kept, (vectors,))))
        total = np.zeros((self.shape[0], *vectors.shape[1:]))
        for part in self._matrix.run(tasks.transposed_product, self._kept, (vectors,)):
            total += part
        return total


def _residuals(block: Block, frame: Frame, left: FloatArray, right: FloatArray) -> FloatArray:
    values = tasks.targets(block, frame, np.float64)
    rows = tasks.rows_of(block)
    out = np.empty(len(values))
    for start in range(0, len(out), CHUNK):
        part = slice(start, start + CHUNK)
        out[part] = values[part] - np.einsum("tk,tk->t", left[rows[part]], right[block.indices[part]])
    return out


def _loss(block: Block, _: None, frame: Frame, left: FloatArray, right: FloatArray) -> tuple[float, float]:
    """Half the sum of w r², and what rounding may have changed in it."""
    residual, weights = _residuals(block, frame, left, right), _weights(block)
    noise = 4 * UNIT * (left.shape[1] + 4) * _sizes(block, frame, left, right)
    error = np.sum(weights * (np.abs(residual) * noise + noise * noise))
    return float(np.sum(weights * (0.5 * residual * residual))), float(error)


def _dual(block: Block, _: None, frame: Frame, left: FloatArray, right: FloatArray) -> FloatArray:
    residual = _residuals(block, frame, left, right)
    return residual * block.weights if len(block.weights) else residual


def _dual_sums(block: Block, dual: FloatArray, frame: Frame) -> tuple[float, float, float]:
    """Sums of R A, of its absolute values, and of R² / w."""
    terms = dual * tasks.targets(block, frame, np.float64)
    return float(np.sum(terms)), float(np.sum(np.abs(terms))), float(np.sum(dual * (dual / _weights(block))))


def _drift(problem: BlockedProblem, dual: Any, left: FloatArray, right: FloatArray) -> Drift:
    """How far sums taken in another order may move R, and with it its norm and sums."""
    frame, scales = problem.bias_frame, (problem.row_scale, problem.col_scale)
    parts = np.array(list(problem.matrix.run(_moved_sums, dual, (frame, left, right, *scales))))
    norm, linear, square = (math.fsum(column) for column in parts.T)
    return Drift(math.sqrt(norm), linear, square)


def _moved_sums(
    block: Block,
    dual: FloatArray,
    frame: Frame,
    left: FloatArray,
    right: FloatArray,
    row_scale: FloatArray,
    col_scale: FloatArray,
) -> tuple[float, float, float]:
    """Sums over a block of the squares of what may move in the scaled R, and of what that does to R A and to R² / w."""
    moved = 2 * UNIT * (left.shape[1] + 4) * _weights(block) * _sizes(block, frame, left, right)
    scaled = _scaled(block, moved, row_scale, col_scale)
    linear = np.sum(moved * np.abs(tasks.targets(block, frame, np.float64)))
    square = np.sum((2.0 * np.abs(dual) + moved) * (moved / _weights(block)))
    return float(np.sum(scaled * scaled)), float(linear), float(square)


def _sizes(block: Block, frame: Frame, left: FloatArray, right: FloatArray) -> FloatArray:
    """Bounds on the absolute values that meet in each residual."""
    lengths = np.sqrt(np.sum(left * left, axis=1)), np.sqrt(np.sum(right * right, axis=1))
    size: FloatArray = np.abs(tasks.targets(block, frame, np.float64))
    size += lengths[0][tasks.rows_of(block)] * lengths[1][block.indices]
    return size


def _weights(block: Block) -> Any:
    return block.weights.astype(np.float64) if len(block.weights) else 1.0


def _scaled(block: Block, dual: FloatArray, row_scale: FloatArray, col_scale: FloatArray) -> FloatArray:
    return dual / (row_scale[tasks.rows_of(block)] * col_scale[block.indices])


def _square(block: Block, values: npt.NDArray[Any]) -> float:
    return float(np.sum(values * values))


def _as_matrix(block: Block, values: npt.NDArray[Any]) -> Any:
    matrix = block.matrix(values)
    return matrix.copy()
