"""The family's Result."""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np

from solvers._core.arrays import Array, IntArray, kind_of, namespace_of, to_host
from solvers._core.errors import InvalidProblemError
from solvers._core.result import Result
from solvers.completion._certificate import DualCertificate, TrivialCertificate

__all__ = ["ARRAYS", "CompletionResult", "at_home", "fails_held_out"]

CHUNK = 1 << 16
# The held-out error may exceed that of the fit by this factor before the fit is called one of the mask.
HELD_OUT_FACTOR = 10.0
# Fields in the caller's kind of array.
ARRAYS = ("U", "s", "V", "row_bias", "col_bias")


class CompletionResult(Result):
    """A completed matrix, A ~ U diag(s) Vᵀ plus biases, with a proved bound.

    Besides the fields of :class:`solvers.Result` (``x`` is the tuple (U, s, V)):

    Attributes
    ----------
    U, s, V : (m, k), (k,), (n, k) float64
        Orthonormal columns, s descending; these and the biases are arrays of the kind that was given.
    row_bias, col_bias : (m,), (n,) float64
        Effects that were fitted first and added to every prediction; zeros without ``biases``.
    row_shrinkage : float
        Weight with which row effects are pulled to their mean: that of a row of weight w is its mean deviation times
        w / (w + row_shrinkage). 0 without ``biases``.
    delta : float
        Huber threshold at which ``fun`` is taken; inf for least squares.
    rmse : float
        Weighted root mean square residual of the fitted entries; with outliers rejected, of those kept.
    holdout_index : (h, 2) int64
        Row and column of the entries that were held out.
    holdout_rmse : float
        Root mean square error there; NaN where none was held out.
    determined : bool or None
        True: the answer is locally the only matrix of its rank that agrees with it at the observed entries. False: the
        data do not determine a completion of this rank, by counting, or because others lie arbitrarily near an
        answer that fits them. None: neither was established.
    determination : str
        What ``determined`` rests on, or why it is None (``reg > 0``, where the certificate speaks; too large; an
        answer that does not fit the data and has others near it, which says nothing of the data).
    tangent_gap : float
        Relative smallest eigenvalue of the reduced tangent system at the answer; NaN where not computed. A diagnostic:
        :func:`solvers.verify` re-establishes ``determined`` by itself.
    outliers : (t, 2) int64
        Row and column of the entries whose residual is above 4 ``delta``, where the loss is capped: with
        ``loss="huber"``, ``delta="auto"`` and no penalty. Empty otherwise.
    short_rows, short_cols : int64 arrays
        Rows and columns with fewer than k observed entries: the data alone cannot determine them.
    """

    U: Array
    s: Array
    V: Array
    row_bias: Array
    col_bias: Array
    row_shrinkage: float
    delta: float
    rmse: float
    holdout_index: IntArray
    holdout_rmse: float
    determined: bool | None
    determination: str
    tangent_gap: float
    outliers: IntArray
    short_rows: IntArray
    short_cols: IntArray

    def predict(self, rows: Any, cols: Any) -> Array:
        """Completed entries at the given positions, broadcast against each other; the full matrix is never formed.

        Parameters
        ----------
        rows, cols : int array_like
            Indices.

        Returns
        -------
        float64 array of the broadcast shape
        """
        m, n = self.U.shape[0], self.V.shape[0]
        i, j = np.broadcast_arrays(_index(rows, m, "rows"), _index(cols, n, "cols"))
        xp, device = namespace_of(self.U), array_api_compat.device(self.U)
        flat_i, flat_j = (xp.asarray(index.ravel(), device=device) for index in (i, j))
        scaled = self.U * self.s
        parts = []
        for start in range(0, max(i.size, 1), CHUNK):
            end = min(start + CHUNK, i.size)
            at, to = flat_i[start:end], flat_j[start:end]
            product = xp.sum(xp.take(scaled, at, axis=0) * xp.take(self.V, to, axis=0), axis=1)
            parts.append(product + xp.take(self.row_bias, at) + xp.take(self.col_bias, to))
        return xp.reshape(xp.concat(parts), i.shape)


def fails_held_out(problem: Any, result: CompletionResult) -> bool:
    """Whether the held-out error is out of proportion to the fit; never where nothing was held out."""
    return bool(result.holdout_rmse > HELD_OUT_FACTOR * max(result.rmse, result.tol * problem.typical))


def at_home(result: CompletionResult) -> CompletionResult:
    """The result with its arrays on the host; itself where they are there."""
    if kind_of(result.U) == "numpy":
        return result
    copied = CompletionResult(result)
    for name in ARRAYS:
        copied[name] = to_host(result[name])
    copied["x"] = copied.U, copied.s, copied.V
    return copied


def _index(value: Any, size: int, name: str) -> IntArray:
    array = np.asarray(to_host(value))
    if array.dtype.kind not in "iu" and array.size:
        raise InvalidProblemError(f"{name} must be integers, positions and no labels; got dtype {array.dtype}")
    array = array.astype(np.int64)
    if array.size and (int(array.min()) < 0 or int(array.max()) >= size):
        raise InvalidProblemError(f"{name} must lie in 0..{size - 1}; got {int(array.min())} to {int(array.max())}")
    return array


CompletionResult.__module__ = "solvers.completion"
DualCertificate.__module__ = "solvers.completion"
TrivialCertificate.__module__ = "solvers.completion"
