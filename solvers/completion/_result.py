"""The family's Result."""

from __future__ import annotations

from typing import Any

import numpy as np

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.errors import InvalidProblemError
from solvers._core.result import Result
from solvers.completion._certificate import DualCertificate, TrivialCertificate

__all__ = ["CompletionResult"]

CHUNK = 1 << 18


class CompletionResult(Result):
    """A completed matrix, A ~ U diag(s) Vᵀ plus biases, with a proved bound.

    Besides the fields of :class:`solvers.Result` (``x`` is the tuple (U, s, V)):

    Attributes
    ----------
    U, s, V : (m, k), (k,), (n, k) float64
        Orthonormal columns, s descending.
    row_bias, col_bias : (m,), (n,) float64
        Effects that were fitted first and added to every prediction; zeros without ``biases``.
    delta : float
        Huber threshold at which ``fun`` is taken; inf for least squares.
    rmse : float
        Weighted root mean square residual of the fitted entries; with outliers rejected, of those kept.
    holdout_index : (h, 2) int64
        Row and column of the entries that were held out.
    holdout_rmse : float
        Root mean square error there; NaN where none was held out.
    determined : bool or None
        Whether the observed entries determine the completion locally uniquely; None where that was not examined
        (``reg > 0``, where the certificate speaks, or too large).
    tangent_gap : float
        The relative smallest singular value behind ``determined``; NaN where not examined.
    outliers : (t, 2) int64
        Row and column of the entries that the Huber scheme rejected.
    short_rows, short_cols : int64 arrays
        Rows and columns with fewer than k observed entries: the data alone cannot determine them.
    """

    U: FloatArray
    s: FloatArray
    V: FloatArray
    row_bias: FloatArray
    col_bias: FloatArray
    delta: float
    rmse: float
    holdout_index: IntArray
    holdout_rmse: float
    determined: bool | None
    tangent_gap: float
    outliers: IntArray
    short_rows: IntArray
    short_cols: IntArray

    def predict(self, rows: Any, cols: Any) -> FloatArray:
        """Completed entries at the given positions, broadcast against each other; the full matrix is never formed.

        Parameters
        ----------
        rows, cols : int array_like
            Indices.

        Returns
        -------
        float64 array of the broadcast shape
        """
        i, j = np.broadcast_arrays(_index(rows, len(self.U), "rows"), _index(cols, len(self.V), "cols"))
        flat_i, flat_j = i.ravel(), j.ravel()
        out = np.empty(len(flat_i))
        scaled = self.U * self.s
        for start in range(0, len(out), CHUNK):
            part = slice(start, start + CHUNK)
            out[part] = np.einsum("tk,tk->t", scaled[flat_i[part]], self.V[flat_j[part]])
        out += self.row_bias[flat_i] + self.col_bias[flat_j]
        return out.reshape(i.shape)


def _index(value: Any, size: int, name: str) -> IntArray:
    array = np.asarray(value)
    if array.dtype.kind not in "iu" and array.size:
        raise InvalidProblemError(f"{name} must be integers; got dtype {array.dtype}")
    array = array.astype(np.int64)
    if array.size and (int(array.min()) < 0 or int(array.max()) >= size):
        raise InvalidProblemError(f"{name} must lie in 0..{size - 1}; got {int(array.min())} to {int(array.max())}")
    return array


CompletionResult.__module__ = "solvers.completion"
DualCertificate.__module__ = "solvers.completion"
TrivialCertificate.__module__ = "solvers.completion"
