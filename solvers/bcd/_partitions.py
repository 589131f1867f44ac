"""Which blocks of coordinates there are: the fixed partitions, and the graph colourings and forests of sparse quadratics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import scipy.sparse

from solvers._core.arrays import FloatArray, IntArray, dimensions
from solvers._core.errors import InvalidProblemError
from solvers.bcd._forest_kernels import greedy_forest

__all__ = ["PARTITIONS", "explicit_blocks", "fixed_blocks", "forest_partition", "red_black"]

PARTITIONS = ("order", "sorted", "average", "variable", "red-black", "forest-partition", "greedy-forest")


def fixed_blocks(name: str, lipschitz: FloatArray, size: int, pieces: Sequence[IntArray]) -> list[IntArray]:
    """Chunks of about ``size`` coordinates, never splitting a piece (a group of the penalty).

    ``"order"`` keeps the natural order, ``"sorted"`` puts like curvature with like, ``"average"`` interleaves small and large
    so that blocks have similar mean curvature. The last block may be smaller.
    """
    constants = np.array([float(np.max(lipschitz[piece])) for piece in pieces])
    order = np.arange(len(pieces))
    if name == "sorted":
        order = np.argsort(constants, kind="stable")
    elif name == "average":
        ascending = np.argsort(constants, kind="stable")
        order = np.empty_like(ascending)
        half = (len(ascending) + 1) // 2
        order[0::2] = ascending[:half]
        order[1::2] = ascending[half:][::-1]
    blocks: list[IntArray] = []
    current: list[IntArray] = []
    held = 0
    for k in map(int, order):
        current.append(pieces[k])
        held += len(pieces[k])
        if held >= size:
            blocks.append(np.concatenate(current))
            current, held = [], 0
    if current:
        blocks.append(np.concatenate(current))
    return blocks


def explicit_blocks(value: Any, size: int, pieces: Sequence[IntArray]) -> list[IntArray]:
    """Check a caller's list of index arrays: disjoint, covering all coordinates, splitting no group."""
    blocks = []
    seen = np.full(size, -1, dtype=np.int64)
    if not isinstance(value, Iterable):
        raise TypeError(f"blocks must be a name or a list of index arrays; got {value!r}")
    for k, block in enumerate(value):
        index = np.asarray(block) if dimensions(block) == 1 else np.empty(0)
        if index.ndim != 1 or len(index) == 0 or index.dtype.kind not in "iu":
            raise InvalidProblemError(f"blocks[{k}] must be a non-empty array of integers; got {block!r}")
        if int(index.min()) < 0 or int(index.max()) >= size:
            raise InvalidProblemError(
                f"blocks[{k}] must index {size} coordinates; got {int(index.min())} to {int(index.max())}"
            )
        if np.any(seen[index] >= 0) or len(np.unique(index)) < len(index):
            raise InvalidProblemError(f"blocks must be disjoint; blocks[{k}] repeats a coordinate")
        seen[index] = k
        blocks.append(index.astype(np.int64))
    if np.any(seen < 0):
        raise InvalidProblemError(f"blocks must cover every coordinate; {int(np.argmax(seen < 0))} is in none")
    for piece in pieces:
        if len(np.unique(seen[piece])) > 1:
            raise InvalidProblemError(
                f"blocks must not split a group of the penalty; coordinate {int(piece[0])}'s is split"
            )
    return blocks


def red_black(graph: scipy.sparse.csr_array, lipschitz: FloatArray) -> list[IntArray]:
    """Colour classes without inner edges: nodes by descending L_i get the least used admissible colour."""
    n = graph.shape[0]
    colour = np.full(n, -1, dtype=np.int64)
    used: list[int] = []
    indptr, indices = graph.indptr, graph.indices
    # Breadth-first within components keeps bipartite graphs at two colours.
    for seed in np.argsort(-lipschitz, kind="stable"):
        if colour[seed] >= 0:
            continue
        queue = [int(seed)]
        colour[seed] = -2
        for i in queue:
            near = indices[indptr[i] : indptr[i + 1]]
            taken = {int(colour[j]) for j in near if colour[j] >= 0}
            free = [k for k in range(len(used)) if k not in taken]
            if free:
                chosen = min(free, key=used.__getitem__)
            else:
                chosen = len(used)
                used.append(0)
            colour[i] = chosen
            used[chosen] += 1
            for j in near:
                if colour[j] == -1:
                    colour[j] = -2
                    queue.append(int(j))
    return [np.flatnonzero(colour == k) for k in range(len(used))]


def forest_partition(graph: scipy.sparse.csr_array, priority: FloatArray) -> list[IntArray]:
    """Few induced forests that cover the graph: each is grown greedily from the nodes left, by descending priority."""
    n = graph.shape[0]
    indices, indptr = graph.indices.astype(np.int64), graph.indptr.astype(np.int64)
    left = np.argsort(-priority, kind="stable")
    parent, stamp, inside = (np.empty(n, dtype=np.int64) for _ in range(3))
    blocks = []
    while len(left):
        greedy_forest(left, indices, indptr, parent, stamp, inside)
        blocks.append(np.flatnonzero(inside))
        left = left[inside[left] == 0]
    return blocks
