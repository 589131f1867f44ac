"""Pairs of points that must, or must not, share a cluster: validation, contraction, and what is left to decide.

Points that must be together become one *supernode*: their total weight at their weighted mean, plus the constant cost
within. A clustering of the supernodes that separates the cannot-link pairs is a clustering of the points that respects
all pairs, and costs the constant more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from clustering._problem import KMeansProblem, contracted
from solvers._core.arrays import FloatArray, IntArray
from solvers._core.errors import InvalidProblemError

__all__ = ["NO_LINKS", "Links", "as_pairs"]

Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Links:
    """Pairs (i, j) of rows that must share a cluster, and pairs that must not."""

    must: Pairs = ()
    cannot: Pairs = ()

    def with_pair(self, pair: tuple[int, int], together: bool) -> Links:
        """One more decision."""
        return Links((*self.must, pair), self.cannot) if together else Links(self.must, (*self.cannot, pair))

    def supernodes(self, n: int) -> IntArray:
        """The supernode of each row, numbered in the order of their first rows."""
        parent = np.arange(n)

        def root(i: int) -> int:
            while parent[i] != i:
                parent[i] = parent[parent[i]]
                i = int(parent[i])
            return i

        for i, j in self.must:
            a, b = root(i), root(j)
            parent[max(a, b)] = min(a, b)
        roots = np.array([root(i) for i in range(n)], dtype=np.int64)
        return np.unique(roots, return_inverse=True)[1].astype(np.int64).reshape(n)

    def conflicts(self, supernodes: IntArray) -> np.ndarray:
        """(s, s) bool: pairs of supernodes that must not share a cluster; on the diagonal, contradictions."""
        size = int(supernodes.max()) + 1
        table = np.zeros((size, size), dtype=np.bool_)
        for i, j in self.cannot:
            table[supernodes[i], supernodes[j]] = table[supernodes[j], supernodes[i]] = True
        return table

    def respected_by(self, labels: IntArray) -> bool:
        """Whether a labelling of the rows respects every pair."""
        return all(labels[i] == labels[j] for i, j in self.must) and all(labels[i] != labels[j] for i, j in self.cannot)

    def contract(self, problem: KMeansProblem) -> tuple[KMeansProblem, IntArray, np.ndarray, float]:
        """The problem of the supernodes, the supernode of each row, their conflicts, and the constant within."""
        supernodes = self.supernodes(problem.n)
        smaller, constant = contracted(problem, supernodes)
        return smaller, supernodes, self.conflicts(supernodes), constant


NO_LINKS = Links()


def as_pairs(value: Any, name: str, problem: KMeansProblem) -> Pairs:
    """Validate pairs of row numbers; rows of weight 0 drop out, as their labels follow from the centres."""
    if value is None:
        return ()
    what = f"options[{name!r}] must be pairs of different row numbers below {problem.n_rows}"
    try:
        pairs = np.asarray(value)
    except ValueError:
        raise InvalidProblemError(f"{what}; got a ragged sequence") from None
    if pairs.size == 0:
        return ()
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise InvalidProblemError(f"{what}; got shape {pairs.shape} and dtype {pairs.dtype}")
    if pairs.min() < 0 or pairs.max() >= problem.n_rows:
        raise InvalidProblemError(f"{what}; got {pairs.min()} to {pairs.max()}")
    if (pairs[:, 0] == pairs[:, 1]).any():
        raise InvalidProblemError(f"{what}; got a row paired with itself")
    if problem.kept is not None:
        position = np.full(problem.n_rows, -1)
        position[problem.kept] = np.arange(problem.n)
        pairs = position[pairs]
        pairs = pairs[(pairs >= 0).all(axis=1)]
    return tuple((int(min(i, j)), int(max(i, j))) for i, j in pairs)


def membership(weights: FloatArray, labels: IntArray, n_clusters: int) -> FloatArray:
    """The relaxation's matrix of a labelling: sqrt(w_i w_j) / (weight of the cluster) within clusters."""
    totals = np.bincount(labels, weights=weights, minlength=n_clusters)
    roots = np.sqrt(weights)
    same = labels[:, None] == labels
    return np.where(same, roots[:, None] * roots / totals[labels], 0.0)
