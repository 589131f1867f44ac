"""A dask array as a matrix in blocks: rows of chunks and columns of chunks, each held by a worker.

The array is read once: every worker that holds a row of chunks makes one compressed block of it, and every column of chunks
likewise, so that the entries are in the cluster's memory twice and never travel again. Per half sweep the fixed factor is
broadcast, improved rows are factored where they are, k x k triangles come back (TSQR), and then the orthonormal rows.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse

from solvers._core.arrays import IntArray
from solvers._core.errors import InvalidProblemError
from solvers._core.optional import require
from solvers.completion import _blocks as tasks
from solvers.completion._blocks import Block, BlockedMatrix

__all__ = ["DaskMatrix"]


class DaskMatrix(BlockedMatrix):
    """Blocks on the workers of the current client.

    Parameters
    ----------
    A : dask.array.Array
        Two-dimensional; chunks are scipy.sparse (stored zeros are data) or dense with NaN where nothing was seen.
    """

    remote = True

    def __init__(self, A: Any) -> None:
        distributed = require("distributed", why="a dask array as the data of complete_matrix", extra="dask")
        dask = require("dask", why="a dask array as the data of complete_matrix", extra="dask")
        if not (hasattr(A, "to_delayed") and hasattr(A, "chunks")) or A.ndim != 2:
            raise InvalidProblemError(f"A must be a two-dimensional dask array; got {type(A).__name__}")
        if np.isnan(np.array([size for sizes in A.chunks for size in sizes], dtype=float)).any():
            raise InvalidProblemError("A must have chunks of known sizes; call compute_chunk_sizes() first")
        try:
            self._client = distributed.get_client()
        except ValueError:
            raise InvalidProblemError(
                "a dask array needs a running cluster: make a distributed.Client first (Client() starts one here)"
            ) from None
        self.shape = (int(A.shape[0]), int(A.shape[1]))
        self.dtype = np.dtype(np.float32 if A.dtype == np.float32 else np.float64)
        edges = [np.concatenate([[0], np.cumsum(sizes)]).astype(int).tolist() for sizes in A.chunks]
        self._ranges = tuple(list(itertools.pairwise(edge)) for edge in edges)
        chunks = A.to_delayed()
        sides = ((chunks, self._ranges[0], self._ranges[1]), (chunks.T, self._ranges[1], self._ranges[0]))
        self._blocks = tuple(
            self._client.compute(
                [
                    dask.delayed(_assembled)(list(line), own, across, bool(columns), self.dtype)
                    for line, own in zip(lines, ranges, strict=True)
                ]
            )
            for columns, (lines, ranges, across) in enumerate(sides)
        )
        self._counts = tuple(
            np.concatenate(list(self.run(_lengths, None, (), columns=columns))) for columns in (False, True)
        )
        self.size = int(self._counts[0].sum())
        if self.size == 0:
            raise InvalidProblemError(f"A must have at least one observed entry; got none in shape {self.shape}")

    def counts(self, *, columns: bool = False) -> IntArray:
        """Entries of every row (or column)."""
        return self._counts[columns]

    def weighted_by(self, weights: Self) -> Self:
        """The matrix with the values of another one of the same positions and chunks as weights."""
        if weights._ranges != self._ranges:
            raise InvalidProblemError("weights must have the chunks of A")
        other = copy.copy(self)
        pairs = zip(self._blocks, weights._blocks, strict=True)
        other._blocks = tuple(self._client.map(tasks.weighted, own, theirs, pure=False) for own, theirs in pairs)
        other.weighted = True
        return other

    def without(self, keys: IntArray) -> Self:
        """The matrix without the entries row * n + column named by sorted keys."""
        m, n = self.shape
        other = copy.copy(self)
        held = keys, np.sort(keys % n * m + keys // n)
        parts = (
            [own[slice(*np.searchsorted(own, (start * width, stop * width)))] for start, stop in ranges]
            for own, ranges, width in zip(held, self._ranges, (n, m), strict=True)
        )
        other._blocks = tuple(
            self._client.map(tasks.without, blocks, part, pure=False)
            for blocks, part in zip(self._blocks, parts, strict=True)
        )
        gone = np.bincount(keys // n, minlength=m), np.bincount(keys % n, minlength=n)
        other._counts = tuple(counts - lost for counts, lost in zip(self._counts, gone, strict=True))
        other.size = self.size - len(keys)
        return other

    def ranges(self, *, columns: bool = False) -> list[tuple[int, int]]:
        """Rows (or columns) of each block."""
        return self._ranges[columns]

    def run(
        self, task: Callable[..., Any], parts: Sequence[Any] | None, shared: tuple[Any, ...], *, columns: bool = False
    ) -> Iterator[Any]:
        """``task(block, part, *shared)`` on the workers; results travel here."""
        results: list[Any] = self._client.gather(self.keep(task, parts, shared, columns=columns))
        return iter(results)

    def keep(
        self, task: Callable[..., Any], parts: Sequence[Any] | None, shared: tuple[Any, ...], *, columns: bool = False
    ) -> Sequence[Any]:
        """As ``run``, with the results left on the workers."""
        blocks = self._blocks[columns]
        # Lists and tuples would be scattered item by item.
        [everywhere] = self._client.scatter([_Shared(shared)], broadcast=True, hash=False) if shared else [_Shared(())]
        return [
            self._client.submit(_call, task, block, part, everywhere, pure=False)
            for block, part in zip(blocks, parts or [None] * len(blocks), strict=True)
        ]


class _Shared:
    """Arguments that go to every worker."""

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        self.arguments = arguments


def _call(task: Callable[..., Any], block: Block, part: Any, shared: _Shared) -> Any:
    return task(block, part, *shared.arguments)


def _lengths(block: Block, _: None) -> IntArray:
    return np.diff(block.indptr)


def _assembled(
    line: list[Any], own: tuple[int, int], across: list[tuple[int, int]], columns: bool, dtype: npt.DTypeLike
) -> Block:
    """One row (or column) of chunks as a compressed block."""
    parts = [_sparse(chunk.T if columns else chunk, dtype) for chunk in line]
    rows = np.concatenate([part.row for part in parts])
    cols = np.concatenate([part.col.astype(np.int64) + start for part, (start, _) in zip(parts, across, strict=True)])
    values = np.concatenate([part.data for part in parts])
    order = np.lexsort((cols, rows))
    rows, cols, values = rows[order], cols[order], values[order]
    repeated = (np.diff(rows) == 0) & (np.diff(cols) == 0)
    if repeated.any():
        raise InvalidProblemError(f"A has {int(repeated.sum())} duplicate entries in one block; average them first")
    indptr = np.zeros(own[1] - own[0] + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=own[1] - own[0]), out=indptr[1:])
    return Block(own[0], own[1], across[-1][1], indptr, cols.astype(np.int32), values)


def _sparse(chunk: Any, dtype: npt.DTypeLike) -> Any:
    """Triplets of one chunk."""
    part: Any
    if scipy.sparse.issparse(chunk):
        part = chunk.tocoo()  # type: ignore[attr-defined]
        values = part.data
    else:
        dense = np.asarray(chunk)
        if dense.dtype.kind not in "bifu":
            raise InvalidProblemError(f"A must hold real numbers; got chunks of dtype {dense.dtype}")
        seen = np.nonzero(~np.isnan(dense.astype(np.float64)))
        values = dense[seen]
        part = scipy.sparse.coo_array((values, seen), shape=dense.shape)
    if values.dtype.kind not in "bifu":
        raise InvalidProblemError(f"A must hold real numbers; got chunks of dtype {values.dtype}")
    if not np.isfinite(values).all():
        raise InvalidProblemError(f"A must be finite where it is seen; got {int((~np.isfinite(values)).sum())} entries")
    return part.astype(dtype)
