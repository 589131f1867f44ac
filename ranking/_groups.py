"""Rows of a table as groups (queries, days), given by qid or by sizes; targets of a group as arcs between ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.errors import InvalidProblemError

__all__ = ["MARGINS", "TIES", "WEIGHTS", "Target", "group_rows", "group_shares", "target_arcs", "target_of"]

WEIGHTS = ("uniform", "successor_rank", "top", "dcg")
MARGINS = ("edge", "rank")
TIES = ("average", "random", "base")


@dataclass(frozen=True)
class Target:
    """What training asks of a group of m nodes.

    Attributes
    ----------
    arcs : (m, m) float64
        Arcs of the true order, averaged over orders that the relevance does not tell apart.
    row_weight : (m,) float64
        Weight of the row of each node in the local loss, of mean 1.
    charge : (m, m) float64
        Charge of each arc in the global loss, 0 for target arcs.
    depot : bool
        Whether the last node is the depot and the path a cycle.
    """

    arcs: FloatArray
    row_weight: FloatArray
    charge: FloatArray
    depot: bool


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


def group_shares(rows: list[IntArray], sample_weight: Any) -> FloatArray:
    """Share of each group in the mean loss: the mean of its rows' weights, scaled to sum 1 over the groups."""
    if sample_weight is None:
        return np.full(len(rows), 1.0 / len(rows))
    weights = np.asarray(sample_weight, dtype=np.float64)
    n_rows = sum(map(len, rows))
    if weights.ndim == 0:
        weights = np.full(n_rows, float(weights))
    if weights.shape != (n_rows,) or not np.isfinite(weights).all() or weights.min() < 0 or weights.max() == 0:
        raise InvalidProblemError(
            f"sample_weight must be {n_rows} non-negative numbers, not all zero; got shape {weights.shape}"
        )
    means: FloatArray = np.array([weights[r].mean() for r in rows])
    shares: FloatArray = means / np.sum(means)
    return shares


def target_of(
    y: FloatArray,
    *,
    depot: bool,
    weights: str = "uniform",
    margin: str = "edge",
    ties: FloatArray | None = None,
) -> Target:
    """Target of a group of relevance y; ``ties`` (n,), higher first, orders rows of equal relevance."""
    if ties is not None:
        places = np.unique(np.column_stack([y, ties]), axis=0, return_inverse=True)[1]
        y = places.reshape(-1).astype(np.float64)
    arcs, ranks = target_arcs(y, depot)
    n = len(y)
    if weights == "uniform":
        importance = np.ones(len(ranks))
    elif weights == "successor_rank":
        importance = ranks + 1.0
    elif weights == "top":
        importance = n - ranks + 1.0
    else:
        importance = 1.0 / np.log2(ranks + 2.0)
    charge = np.where(arcs > 0, 0.0, 1.0)
    if margin == "rank":
        # The depot precedes rank 1 and follows rank n.
        heads = np.where(np.arange(len(ranks)) == n, n + 1.0, ranks)
        charge = np.where(arcs > 0, 0.0, np.abs(heads[None, :] - ranks[:, None] - 1.0))
    np.fill_diagonal(charge, 0.0)
    return Target(arcs, importance / importance.mean(), charge, depot)


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
