r"""Bilinear scores of ordered pairs, A = E W E^T, for whole batches of groups and on any array backend.

One matrix W treats all rows alike, so that the scores of a permuted group are the permuted scores. The two-matrix form
of the original model reads the order in which rows are presented: W_0 where the row stands before the column, W_1
elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from solvers._core.arrays import Array, FloatArray, as_float_array, kind_of, namespace_of
from solvers._core.errors import BackendError, InvalidProblemError

__all__ = ["bilinear_scores", "pull_back", "score_matrices"]


def bilinear_scores(embeddings: Any, matrix: Any) -> Array:
    r"""Scores :math:`A_{ij} = e_i^T W e_j` of every ordered pair of rows, for one group or a batch of them.

    Parameters
    ----------
    embeddings : (n, d) or (B, n, d) array
        Rows e_i of a group, or of B groups of equal (padded) size. NumPy, CuPy or another array-API kind.
    matrix : (d, d) or (2, d, d) array
        W, of the same kind; two matrices serve the pairs above the diagonal and the others, which makes scores depend
        on the order in which rows are presented.

    Returns
    -------
    (n, n) or (B, n, n) array of float64
        Of the input's kind and on its device: input for :func:`solvers.rank_tsp` and :func:`solvers.rank_tsp_batch`.

    Raises
    ------
    InvalidProblemError
        Shapes that do not fit, NaN or infinite entries.

    Notes
    -----
    *Complexity.* O(B n d (n + d)) in two batched matrix products. The rank of A is at most d.

    Examples
    --------
    >>> import numpy as np
    >>> from solvers.ranking import bilinear_scores
    >>> bilinear_scores(np.array([[1.0, 0.0], [2.0, 1.0]]), np.array([[0.0, 1.0], [0.0, 0.0]]))
    array([[0., 1.],
           [0., 2.]])
    """
    if kind_of(embeddings) != kind_of(matrix):
        raise BackendError(
            f"embeddings and matrix must be arrays of one kind; got {kind_of(embeddings)} and {kind_of(matrix)}"
        )
    dimensions = [getattr(value, "ndim", 2) for value in (embeddings, matrix)]
    e = as_float_array(
        embeddings, "embeddings", ndim=min(max(dimensions[0], 2), 3), expected="(n, d) or (B, n, d) rows"
    )
    w = as_float_array(matrix, "matrix", ndim=min(max(dimensions[1], 2), 3), expected="a (d, d) or (2, d, d) array")
    d = e.shape[-1]
    if w.shape not in ((d, d), (2, d, d)):
        raise InvalidProblemError(f"matrix must be of shape ({d}, {d}) or (2, {d}, {d}); got {tuple(w.shape)}")
    return score_matrices(e, w)


def score_matrices(e: Array, w: Array) -> Array:
    """``bilinear_scores`` of arrays that are known to fit."""
    xp = namespace_of(e)
    right = xp.matrix_transpose(e)
    if w.ndim == 2:
        return (e @ w) @ right
    return xp.triu((e @ w[0, :, :]) @ right, k=1) + xp.tril((e @ w[1, :, :]) @ right)


def pull_back(e: FloatArray, derivative: FloatArray, two: bool) -> FloatArray:
    """Derivative in W of a function of the scores with derivative D (..., m, m): the sum of E^T D E over the groups."""
    parts = (np.triu(derivative, 1), np.tril(derivative)) if two else (derivative,)
    flat = e.reshape(-1, e.shape[-1])
    pulled = [flat.T @ (part @ e).reshape(flat.shape) for part in parts]
    return np.stack(pulled) if two else pulled[0]
