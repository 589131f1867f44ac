"""Rows of a table as groups (queries, days), given by qid or by sizes; targets of a group as arcs between ranks."""

from __future__ import annotations

from typing import Any

import numpy as np

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.errors import InvalidProblemError

__all__ = ["group_rows", "group_weights", "target_arcs"]


def group_rows(n_rows: int, qid: Any, group: Any) -> list[IntArray]:
    """Row numbers of each group, in ascending order of qid; rows of a group need not stand together.

    ``group`` (sizes of consecutive groups) and ``qid`` (one value per row) exclude each other, as in XGBoost.
    """
    if (qid is None) == (group is None):
        raise InvalidProblemError(
            "exactly one of qid (a group number per row) and group (group sizes) must be given; "
            f"got {'neither' if qid is None else 'both'}"
        )
    if group is not None:
        sizes = np.asarray(group)
        if sizes.ndim != 1 or sizes.dtype.kind not in "iu" or len(sizes) == 0 or sizes.min() < 1:
            raise InvalidProblemError(f"group must be positive integer sizes; got {group!r}")
        if int(sizes.sum()) != n_rows:
            raise InvalidProblemError(f"group sizes must sum to the number of rows {n_rows}; got {int(sizes.sum())}")
        return np.split(np.arange(n_rows), np.cumsum(sizes)[:-1])
    labels = np.asarray(qid)
    if labels.shape != (n_rows,):
        raise InvalidProblemError(f"qid must be one value per row ({n_rows}); got shape {labels.shape}")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise InvalidProblemError("qid must not hold NaN or infinite values")
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return np.split(np.argsort(inverse, kind="stable"), np.cumsum(counts)[:-1])


def group_weights(rows: list[IntArray], sample_weight: Any) -> FloatArray:
    """Weight of each group: the mean of its rows' weights."""
    if sample_weight is None:
        return np.ones(len(rows))
    weights = np.asarray(sample_weight, dtype=np.float64)
    n_rows = sum(map(len, rows))
    if weights.shape != (n_rows,) or not np.isfinite(weights).all() or weights.min() < 0 or weights.max() == 0:
        raise InvalidProblemError(
            f"sample_weight must be {n_rows} non-negative numbers, not all zero; got shape {weights.shape}"
        )
    return np.array([weights[r].mean() for r in rows])


def target_arcs(y: FloatArray, depot: bool) -> tuple[FloatArray, FloatArray]:
    """Arcs (m, m) of the orders consistent with the relevance y, averaged over ties, and the mean rank of each node.

    With blocks of equal relevance of sizes s_1, ..., s_K, best first, an item has 1/s_k on each other item of its block
    and 1/(s_k s_(k+1)) on each of the next; a depot (last row, rank 0) leads to the first block and follows the last.
    With a depot all rows and columns sum to 1.
    """
    n = len(y)
    values, block, sizes = np.unique(-y, return_inverse=True, return_counts=True)
    size = sizes[block].astype(np.float64)
    same = block[:, None] == block
    follows = block[None, :] == block[:, None] + 1
    m = n + depot
    arcs = np.zeros((m, m))
    arcs[:n, :n] = np.where(same, 1.0 / size[:, None], 0.0) + np.where(follows, 1.0 / np.outer(size, size), 0.0)
    arcs[np.arange(n), np.arange(n)] = 0.0
    if depot:
        arcs[n, :n] = np.where(block == 0, 1.0 / size, 0.0)
        arcs[:n, n] = np.where(block == len(values) - 1, 1.0 / size, 0.0)
    ends = np.cumsum(sizes)
    ranks = (ends - 0.5 * (sizes - 1))[block]
    return arcs, np.append(ranks, 0.0) if depot else ranks
