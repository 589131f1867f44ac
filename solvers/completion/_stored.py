"""``StoredMatrix``: observed entries in files, by rows and by columns, for data larger than memory.

A sweep is two sequential passes: once over the rows' files, once over the columns'. One block at a time is in memory; the
system is told which one comes next and reads ahead. Offsets are 64 bits wide, positions 32, so that there may be more than
2^31 entries, but not that many rows or columns.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse

from solvers._core.arrays import IntArray
from solvers._core.errors import InvalidProblemError
from solvers._core.options import check_integer
from solvers.completion import _blocks as tasks
from solvers.completion._blocks import Block, BlockedMatrix

__all__ = ["StoredMatrix"]

BLOCK_BYTES = 1 << 26
HEADER, SIDES = "matrix.json", ("rows", "columns")
LARGEST_SIDE = 2**31 - 1


class StoredMatrix(BlockedMatrix):
    """Observed entries in a folder of plain binary files.

    Parameters
    ----------
    folder : path
        As :meth:`write` left it.
    block_bytes : int
        Size of one block of positions and values. A sweep holds the factors and at most two blocks; weights and held-out
        entries need up to three more.

    Attributes
    ----------
    shape : (m, n)
    size : int
        Number of entries.
    dtype : dtype
        Of the values, float32 or float64.

    See Also
    --------
    solvers.complete_matrix : takes it in the place of the matrix.

    Notes
    -----
    Of each side ("rows", "columns") there are three files: ``.indptr`` (int64), ``.indices`` (int32) and ``.values``,
    the compressed sparse row form of the matrix and of its transpose, without headers.

    Examples
    --------
    >>> import tempfile, numpy as np, scipy.sparse, solvers
    >>> from solvers.completion import StoredMatrix
    >>> A = scipy.sparse.csr_array(np.outer([1.0, 2.0, 3.0], [1.0, 2.0, 4.0]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     stored = StoredMatrix.write(folder, A)
    ...     solvers.complete_matrix(stored, 1, tol=1e-12, rng=0).predict([2], [2]).round(6)
    array([12.])
    """

    def __init__(self, folder: str | os.PathLike[str], *, block_bytes: int = BLOCK_BYTES) -> None:
        self.folder = Path(folder)
        check_integer("block_bytes", block_bytes, low=1)
        try:
            header = json.loads((self.folder / HEADER).read_text(encoding="ascii"))
        except FileNotFoundError:
            raise InvalidProblemError(f"folder must hold {HEADER}, as StoredMatrix.write leaves it: {folder}") from None
        self.shape = (int(header["shape"][0]), int(header["shape"][1]))
        self.size = int(header["size"])
        self.dtype = np.dtype(header["dtype"])
        self._pointers = tuple(np.fromfile(self._path(side, "indptr"), dtype=np.int64) for side in SIDES)
        for side, indptr, length in zip(SIDES, self._pointers, self.shape, strict=True):
            sizes = [self._path(side, kind).stat().st_size for kind in ("indices", "values")]
            if len(indptr) != length + 1 or sizes != [4 * self.size, self.dtype.itemsize * self.size]:
                raise InvalidProblemError(f"the files of side {side!r} do not hold {self.size} entries of {self.shape}")
        per_block = max(1, block_bytes // (4 + self.dtype.itemsize))
        self._ranges = tuple(_cut(indptr, per_block) for indptr in self._pointers)
        sides = zip(self._pointers, self._ranges, strict=True)
        self._largest = max(int(indptr[stop] - indptr[start]) for indptr, ranges in sides for start, stop in ranges)
        self._buffers: dict[str, npt.NDArray[Any]] = {}
        self._weights: StoredMatrix | None = None
        self._held: tuple[IntArray, ...] = ()
        self._counts = tuple(np.diff(indptr) for indptr in self._pointers)

    def __repr__(self) -> str:
        m, n = self.shape
        return f"<StoredMatrix {str(self.folder)!r}: {m} x {n}, {self.size} entries, {self.dtype}>"

    @classmethod
    def write(
        cls,
        folder: str | os.PathLike[str],
        A: Any,
        *,
        n_columns: int | None = None,
        dtype: npt.DTypeLike = np.float64,
        block_bytes: int = BLOCK_BYTES,
    ) -> Self:
        """Write a matrix to a folder, block by block, and open it.

        Parameters
        ----------
        folder : path
            Made where it is missing.
        A : scipy.sparse CSR array, or an iterable of them
            The matrix -- its arrays may be memory maps -- or consecutive blocks of its rows. Stored zeros are data.
        n_columns : int, optional
            Columns of the matrix; those of the first block by default.
        dtype : float32 or float64
            Of the values in the files.
        block_bytes : int
            Memory to use; the transpose is sorted in pieces of this size.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        dtype = np.dtype(dtype)
        if dtype not in (np.float32, np.float64):
            raise InvalidProblemError(f"dtype must be float32 or float64; got {dtype}")
        step = max(1, check_integer("block_bytes", block_bytes, low=1) // (8 + dtype.itemsize))
        blocks: Iterator[Any] = iter([A] if scipy.sparse.issparse(A) else A)
        with _Writer(folder, "rows", dtype) as rows:
            for block in blocks:
                if getattr(block, "format", None) != "csr":
                    raise InvalidProblemError(
                        f"A must be scipy.sparse CSR, or consecutive CSR blocks of rows; got {type(block).__name__} "
                        "(tocsr() of a scipy.sparse matrix converts)"
                    )
                n_columns = block.shape[1] if n_columns is None else n_columns
                for piece in _pieces(block, step):
                    rows.append(*_checked(piece, n_columns, rows.length, dtype))
        if n_columns is None or rows.size == 0:
            raise InvalidProblemError("A must have at least one observed entry; got none")
        if max(rows.length, n_columns) > LARGEST_SIDE:
            raise InvalidProblemError(f"A may have at most {LARGEST_SIDE} rows and columns")
        header = {"shape": [rows.length, int(n_columns)], "size": rows.size, "dtype": dtype.name}
        _transpose(folder, rows.indptr, int(n_columns), dtype, step)
        (folder / HEADER).write_text(json.dumps(header), encoding="ascii")
        return cls(folder, block_bytes=block_bytes)

    def counts(self, *, columns: bool = False) -> IntArray:
        """Entries of every row (or column)."""
        return self._counts[columns]

    def weighted_by(self, weights: Self) -> Self:
        """The matrix with the values of another one of the same positions as weights."""
        for columns, indptr in enumerate(self._pointers):
            if not np.array_equal(indptr, weights._pointers[columns]):
                raise InvalidProblemError("weights must have the positions of A; rows or columns differ in length")
        other = copy.copy(self)
        other._weights, other.weighted = weights._in_ranges(self._ranges), True
        # One pass finds whatever is wrong before any work.
        for columns in (False, True):
            for _ in other._blocks(columns):
                pass
        return other

    def without(self, keys: IntArray) -> Self:
        """The matrix without the entries row * n + column named by sorted keys."""
        m, n = self.shape
        other = copy.copy(self)
        other._held = keys, np.sort(keys % n * m + keys // n)
        gone = np.bincount(keys // n, minlength=m), np.bincount(keys % n, minlength=n)
        other._counts = tuple(counts - lost for counts, lost in zip(self._counts, gone, strict=True))
        other.size = self.size - len(keys)
        return other

    def _in_ranges(self, ranges: tuple[list[tuple[int, int]], ...]) -> Self:
        """The matrix in other blocks, with buffers of its own."""
        other = copy.copy(self)
        other._ranges, other._buffers = ranges, {}
        sides = zip(self._pointers, ranges, strict=True)
        other._largest = max(int(indptr[stop] - indptr[start]) for indptr, side in sides for start, stop in side)
        return other

    def ranges(self, *, columns: bool = False) -> list[tuple[int, int]]:
        """Rows (or columns) of each block."""
        return self._ranges[columns]

    def run(
        self, task: Callable[..., Any], parts: Sequence[Any] | None, shared: tuple[Any, ...], *, columns: bool = False
    ) -> Iterator[Any]:
        """``task(block, part, *shared)`` for one block after the other."""
        for position, block in enumerate(self._blocks(columns)):
            part = None if parts is None else parts[position]
            yield task(block, part() if callable(part) else part, *shared)

    def keep(
        self, task: Callable[..., Any], parts: Sequence[Any] | None, shared: tuple[Any, ...], *, columns: bool = False
    ) -> Sequence[Any]:
        """Results (arrays) in temporary files beside the matrix, which go when the last of them is forgotten."""
        scratch = _Scratch(self.folder)
        results = self.run(task, parts, shared, columns=columns)
        return [_Kept(scratch, f"{position}.npy", result) for position, result in enumerate(results)]

    def block(self, position: int, *, columns: bool = False) -> Block:
        """One block of rows (or columns); its arrays are used again for the next one that is read."""
        with self._open(columns) as files:
            return self._finished(self._load(position, columns, files), position, columns)

    def _finished(self, block: Block, position: int, columns: bool) -> Block:
        """A block as it is in the files, with its weights and without what is held out."""
        if self._weights is not None:
            block = tasks.weighted(block, self._weights.block(position, columns=columns))
        return tasks.without(block, self._held[columns]) if self._held else block

    def _blocks(self, columns: bool) -> Iterator[Block]:
        """Blocks one after the other, each read while the system fetches the next."""
        indptr, ranges = self._pointers[columns], self._ranges[columns]
        try:
            with self._open(columns) as files:
                for position in range(len(ranges)):
                    if position + 1 < len(ranges):
                        ahead = [int(indptr[row]) for row in ranges[position + 1]]
                        for file, dtype in files:
                            _read_ahead(file, dtype.itemsize, ahead)
                    yield self._finished(self._load(position, columns, files), position, columns)
        finally:
            # What is done with the factors between two passes has the room of the blocks.
            for matrix in (self, self._weights):
                if matrix is not None:
                    matrix._buffers.clear()

    @contextlib.contextmanager
    def _open(self, columns: bool) -> Iterator[list[tuple[Any, np.dtype[Any]]]]:
        """Files of positions and values, with the types of their items."""
        paths = (self._path(SIDES[columns], kind) for kind in ("indices", "values"))
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(open(path, "rb", 0)) for path in paths]
            yield list(zip(files, (np.dtype(np.int32), self.dtype), strict=True))

    def _load(self, position: int, columns: bool, files: list[tuple[Any, np.dtype[Any]]]) -> Block:
        indptr, (start, stop) = self._pointers[columns], self._ranges[columns][position]
        first, last = int(indptr[start]), int(indptr[stop])
        indices, values = (self._read(file, dtype, first, last) for file, dtype in files)
        return Block(start, stop, self.shape[not columns], indptr[start : stop + 1] - first, indices, values)

    def _read(self, file: Any, dtype: np.dtype[Any], first: int, last: int) -> npt.NDArray[Any]:
        """Entries first..last of a file, in a buffer that the next block uses again."""
        name = "indices" if dtype == np.int32 else "values"
        buffer = self._buffers.get(name)
        if buffer is None:
            buffer = self._buffers[name] = np.empty(self._largest, dtype=dtype)
        part = buffer[: last - first]
        file.seek(first * dtype.itemsize)
        view, done = part.view(np.uint8).data, 0
        while done < len(view):
            count = file.readinto(view[done:])
            if not count:
                raise InvalidProblemError(f"{file.name} ends before its last entry")
            done += count
        return part

    def _path(self, side: str, kind: str) -> Path:
        return self.folder / f"{side}.{kind}"


class _Scratch:
    """A folder for temporary files, removed when nothing refers to it any more."""

    def __init__(self, folder: Path) -> None:
        self.path = Path(tempfile.mkdtemp(dir=folder, prefix="scratch-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


class _Kept:
    """An array in a temporary file, read when called."""

    def __init__(self, scratch: _Scratch, name: str, array: npt.NDArray[Any]) -> None:
        self._scratch, self._name = scratch, name
        np.save(scratch.path / name, array)

    def __call__(self) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = np.load(self._scratch.path / self._name)
        return array


class _Writer:
    """Appends compressed rows to the files of one side."""

    def __init__(self, folder: Path, side: str, dtype: np.dtype[Any]) -> None:
        self._paths = {kind: folder / f"{side}.{kind}" for kind in ("indptr", "indices", "values")}
        self._dtype = dtype
        self._counts: list[IntArray] = []
        self.length = self.size = 0

    def __enter__(self) -> Self:
        self._files = {kind: open(self._paths[kind], "wb") for kind in ("indices", "values")}  # noqa: SIM115
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()
        self.indptr = np.zeros(self.length + 1, dtype=np.int64)
        np.cumsum(np.concatenate([np.zeros(0, dtype=np.int64), *self._counts]), out=self.indptr[1:])
        self.indptr.tofile(self._paths["indptr"])

    def append(self, counts: IntArray, indices: npt.NDArray[Any], values: npt.NDArray[Any]) -> None:
        """More rows of the given numbers of entries."""
        indices.astype(np.int32).tofile(self._files["indices"])
        values.astype(self._dtype).tofile(self._files["values"])
        self._counts.append(counts.astype(np.int64))
        self.length += len(counts)
        self.size += len(indices)


def _cut(indptr: IntArray, per_block: int) -> list[tuple[int, int]]:
    """Consecutive rows of at most so many entries together; a longer row is a block of its own."""
    ranges, start = [], 0
    while start < len(indptr) - 1:
        stop = int(np.searchsorted(indptr, indptr[start] + per_block, side="right")) - 1
        stop = min(max(stop, start + 1), len(indptr) - 1)
        ranges.append((start, stop))
        start = stop
    return ranges


def _pieces(block: Any, step: int) -> Iterator[tuple[Any, IntArray]]:
    """A CSR block and the rows of it that are handled at a time."""
    for start, stop in _cut(np.asarray(block.indptr, dtype=np.int64), step):
        yield block, np.array([start, stop])


def _checked(
    piece: tuple[Any, IntArray], n_columns: int, before: int, dtype: np.dtype[Any]
) -> tuple[IntArray, npt.NDArray[Any], npt.NDArray[Any]]:
    """Counts, sorted positions and values of some rows of a CSR matrix, refused where they have no meaning."""
    block, (start, stop) = piece
    pointers = np.asarray(block.indptr[start : stop + 1], dtype=np.int64)
    part = slice(int(pointers[0]), int(pointers[-1]))
    indices, values = np.asarray(block.indices[part], dtype=np.int64), np.asarray(block.data[part])
    if block.shape[1] != n_columns:
        raise InvalidProblemError(f"blocks of rows must have {n_columns} columns; got shape {block.shape}")
    if values.dtype.kind not in "bifu":
        raise InvalidProblemError(f"A must hold real numbers; got dtype {values.dtype}")
    if not np.isfinite(values).all():
        raise InvalidProblemError(f"A must be finite; got {int((~np.isfinite(values)).sum())} entries that are not")
    if len(indices) and (int(indices.min()) < 0 or int(indices.max()) >= n_columns):
        raise InvalidProblemError(f"column indices must lie in 0..{n_columns - 1}; got {int(indices.max())}")
    counts = np.diff(pointers)
    rows = np.repeat(np.arange(len(counts)), counts)
    ahead = (np.diff(indices) > 0) | (np.diff(rows) > 0)
    if not ahead.all():
        order = np.lexsort((indices, rows))
        indices, values = indices[order], values[order]
        repeated = (np.diff(indices) == 0) & (np.diff(rows) == 0)
        if repeated.any():
            first = int(np.flatnonzero(repeated)[0])
            raise InvalidProblemError(
                f"A has {int(repeated.sum())} duplicate entries in these rows, the first at row "
                f"{before + int(rows[first])}, column {int(indices[first])}; sum or average them before writing"
            )
    return counts, indices, values.astype(dtype)


def _transpose(folder: Path, indptr: IntArray, n_columns: int, dtype: np.dtype[Any], step: int) -> None:
    """The files of the columns from those of the rows: entries go to buckets of columns, and each is sorted on its own.

    Two passes; every entry is read twice and written twice, in order.
    """
    ranges = _cut(indptr, step)
    counts = np.zeros(n_columns, dtype=np.int64)
    files = [
        np.memmap(folder / f"rows.{kind}", dtype=t, mode="r") for kind, t in (("indices", np.int32), ("values", dtype))
    ]
    for start, stop in ranges:
        counts += np.bincount(files[0][int(indptr[start]) : int(indptr[stop])], minlength=n_columns)
    buckets = _cut(np.concatenate([[0], np.cumsum(counts)]), step)
    edges = np.array([stop for _, stop in buckets])
    record = np.dtype([("column", np.int32), ("row", np.int32), ("value", dtype)])
    with tempfile.TemporaryDirectory(dir=folder, prefix="scratch-") as scratch:
        paths = [Path(scratch) / str(position) for position in range(len(buckets))]
        for path in paths:
            path.touch()
        for start, stop in ranges:
            part = slice(int(indptr[start]), int(indptr[stop]))
            entries = np.empty(part.stop - part.start, dtype=record)
            entries["column"], entries["value"] = files[0][part], files[1][part]
            entries["row"] = np.repeat(np.arange(start, stop), np.diff(indptr[start : stop + 1]))
            bucket = np.searchsorted(edges, entries["column"], side="right")
            order = np.argsort(bucket, kind="stable")
            limits = np.searchsorted(bucket[order], np.arange(len(buckets) + 1))
            for position in np.unique(bucket).tolist():
                with open(paths[position], "ab") as out:
                    entries[order[limits[position] : limits[position + 1]]].tofile(out)
        with _Writer(folder, "columns", dtype) as columns:
            for (start, stop), path in zip(buckets, paths, strict=True):
                entries = np.fromfile(path, dtype=record)
                order = np.argsort(entries["column"], kind="stable")
                columns.append(counts[start:stop], entries["row"][order], entries["value"][order])


def _read_ahead(file: Any, itemsize: int, entries: Iterable[int]) -> None:
    """Tell the system which part of a file comes next."""
    if hasattr(os, "posix_fadvise"):
        first, last = (itemsize * entry for entry in entries)
        os.posix_fadvise(file.fileno(), first, last - first, os.POSIX_FADV_WILLNEED)


StoredMatrix.__module__ = "solvers.completion"
