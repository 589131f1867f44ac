r"""Scores of low rank, s_ij = <U_i, V_j>, that are never written down as a matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ranking._bounds import LARGEST_SCORE
from solvers._core.arrays import FloatArray, IntArray, as_float_array, dimensions, kind_of, refuse_beyond_memory
from solvers._core.errors import BackendError, InvalidProblemError

__all__ = ["Factors", "are_factors", "read_factors"]

EXPECTED = "(n, d) factors of the scores, scores[i, j] = U[i] @ V[j],"
# Bytes per item that candidate arcs, prices and tours take, at most.
CANDIDATE_BYTES = 4000


@dataclass(frozen=True)
class Factors:
    """U and V (n, d). A score is the sum of its products in the order of the coordinates, each operation rounded."""

    left: FloatArray
    right: FloatArray

    def __len__(self) -> int:
        return len(self.left)

    def at(self, tails: IntArray, heads: IntArray) -> FloatArray:
        """Scores of some arcs."""
        total = np.zeros(len(tails))
        for u, v in zip(self.left.T, self.right.T, strict=True):
            total += u[tails] * v[heads]
        return total

    def dense(self) -> FloatArray:
        """The whole matrix."""
        total = np.zeros((len(self), len(self)))
        for u, v in zip(self.left.T, self.right.T, strict=True):
            total += u[:, None] * v
        total.flags.writeable = False
        return total


def are_factors(scores: Any) -> bool:
    """Whether ``scores`` is a pair of matrices; a nested tuple of numbers is a matrix itself."""
    return isinstance(scores, tuple) and len(scores) == 2 and all(dimensions(part) == 2 for part in scores)


def read_factors(scores: tuple[Any, Any]) -> Factors:
    """Validate a pair (U, V)."""
    for name, part in zip("UV", scores, strict=True):
        if kind_of(part) != "numpy":
            raise BackendError(
                f"{name} must be {EXPECTED} on the host; got {type(part).__name__}: bring it there first"
            )
    n, d = np.shape(scores[0])
    refuse_beyond_memory(
        n * (CANDIDATE_BYTES + 24.0 * d), what=f"ranking {n} items", instead="rank a subset of the items"
    )
    left, right = (
        as_float_array(part, name, ndim=2, expected=EXPECTED) for name, part in zip("UV", scores, strict=True)
    )
    if left.shape != right.shape:
        raise InvalidProblemError(f"U and V must be {EXPECTED} of one shape; got {left.shape} and {right.shape}")
    largest = float(np.abs(left).max()) * float(np.abs(right).max()) * d
    if not largest <= LARGEST_SCORE:
        raise InvalidProblemError(f"U and V must have inner products below 2**1000; got entries that allow {largest!r}")
    return Factors(left, right)
