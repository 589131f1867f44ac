"""Reading the data argument: what was observed, where, and with which weights; and what of it is held out."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse

from solvers._core.arrays import FloatArray, IntArray, as_float_array, freeze, kind_of, to_host
from solvers._core.errors import BackendError, InvalidProblemError
from solvers._core.options import check_choice, check_integer, check_number

__all__ = ["Observations", "checked_holdout", "data_at_home", "read_observations", "split_holdout"]

TOO_LARGE = 2**31 - 1
DENSE = "an (m, n) array, NaN where unseen, or a tuple (rows, cols, values, shape),"

Int32Array = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Observations:
    """Observed entries sorted by row, then column, each once.

    Attributes
    ----------
    shape : (m, n)
    indptr : (m + 1,) int64
    rows, cols : (N,) int32
    values, weights : (N,) float64
        Weights are positive; ``weighted`` says whether any differs from one.
    """

    shape: tuple[int, int]
    indptr: IntArray
    rows: Int32Array
    cols: Int32Array
    values: FloatArray
    weights: FloatArray
    weighted: bool

    @property
    def size(self) -> int:
        """Number of observed entries."""
        return len(self.values)

    @cached_property
    def row_counts(self) -> IntArray:
        """Observed entries per row."""
        return np.diff(self.indptr)

    @cached_property
    def col_counts(self) -> IntArray:
        """Observed entries per column."""
        return np.bincount(self.cols, minlength=self.shape[1]).astype(np.int64)

    def matrix(self, data: FloatArray) -> scipy.sparse.csr_array:
        """The sparse matrix with ``data`` at the observed positions."""
        return scipy.sparse.csr_array((data, self.cols, self.indptr), shape=self.shape)

    def keep(self, chosen: npt.NDArray[np.bool_]) -> Observations:
        """The observations where ``chosen`` holds."""
        return _assemble(
            self.shape, self.rows[chosen], self.cols[chosen], self.values[chosen], self.weights[chosen], self.weighted
        )


def data_at_home(A: Any, weights: Any) -> tuple[Any, Any]:
    """The data argument and the weights with device arrays copied to the host."""
    here = tuple(_home(part) for part in A) if isinstance(A, tuple) else _home(A)
    return here, _home(weights)


def _home(value: Any) -> Any:
    return to_host(value) if kind_of(value) in ("cupy", "array-api") else value


def read_observations(A: Any, weights: Any, duplicates: str, *, may_be_empty: bool = False) -> Observations:
    """Read the data argument: scipy.sparse, (rows, cols, values, shape), or a dense array with NaN where unseen."""
    check_choice("duplicates", duplicates, ("error", "mean"))
    kind = kind_of(A)
    if kind == "sparse":
        shape, rows, cols, values, given = _from_sparse(A, weights)
    elif isinstance(A, tuple) and len(A) == 4:
        shape, rows, cols, values = _from_triplets(A)
        given = None if weights is None else _entry_weights(weights, len(values))
    elif isinstance(A, tuple):
        raise InvalidProblemError(f"A as a tuple must be (rows, cols, values, shape); got {len(A)} parts")
    else:
        shape, rows, cols, values, given = _from_dense(A, weights)
    if max(shape) > TOO_LARGE:
        raise InvalidProblemError(f"A may have at most {TOO_LARGE} rows and columns; got shape {shape}")
    if len(values) == 0 and not may_be_empty:
        raise InvalidProblemError(f"A must have at least one observed entry; got none in shape {shape}")
    weighted = given is not None
    used = np.ones(len(values)) if given is None else given
    if weighted:
        if float(np.min(used)) < 0:
            raise InvalidProblemError(f"weights must be non-negative; got {float(np.min(used))!r}")
        if not np.any(used > 0):
            raise InvalidProblemError("weights must not all be zero")
        kept = used > 0
        rows, cols, values, used = rows[kept], cols[kept], values[kept], used[kept]
    rows, cols, values, used = _in_order(rows, cols, values, used)
    repeated = (rows[1:] == rows[:-1]) & (cols[1:] == cols[:-1])
    if repeated.any():
        if duplicates == "error":
            first = int(np.flatnonzero(repeated)[0])
            raise InvalidProblemError(
                f"A has {int(repeated.sum())} duplicate entries, the first at row {int(rows[first])}, column "
                f"{int(cols[first])}; pass duplicates='mean' to average them"
            )
        group = np.concatenate([[0], np.cumsum(~repeated)])
        total = np.bincount(group, weights=used)
        first_of = np.concatenate([[True], ~repeated])
        values = np.bincount(group, weights=used * values) / total
        rows, cols, weighted = rows[first_of], cols[first_of], True
        used = total.astype(np.float64)
    return _assemble(shape, rows.astype(np.int32), cols.astype(np.int32), values, used, weighted)


def split_holdout(
    observed: Observations, holdout: Any, rng: np.random.Generator, chosen: Any = None
) -> tuple[Observations, Observations]:
    """Separate a random fraction of the entries, or those at the (row, column) pairs ``chosen``."""
    count = checked_holdout(observed.size, holdout)
    out = np.zeros(observed.size, dtype=bool)
    if chosen is None:
        if count:
            out[rng.choice(observed.size, count, replace=False)] = True
    else:
        n = observed.shape[1]
        keys = observed.rows.astype(np.int64) * n + observed.cols
        pairs = np.asarray(chosen)
        if pairs.dtype.kind not in "iu" or pairs.ndim != 2 or pairs.shape[1] != 2:
            raise InvalidProblemError("holdout_index must hold pairs of integers")
        if pairs.size and (pairs.min() < 0 or pairs[:, 1].max() >= n):
            raise InvalidProblemError("holdout_index lies outside the matrix")
        pairs = pairs.astype(np.int64)
        wanted = pairs[:, 0] * n + pairs[:, 1]
        position = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        if len(np.unique(wanted)) != count or not np.array_equal(keys[position], wanted):
            raise InvalidProblemError(
                f"holdout_index must name {count} distinct observed entries, for holdout={holdout!r}; it has {len(pairs)}"
            )
        out[position] = True
    return (observed, observed.keep(out)) if not count else (observed.keep(~out), observed.keep(out))


def checked_holdout(size: int, holdout: Any) -> int:
    """Number of entries to hold out, at least one where a share is asked for, after validation."""
    share = check_number("holdout", holdout, low=0.0)
    if share >= 1.0:
        raise ValueError(f"holdout must be a fraction below 1; got {holdout!r}")
    count = max(1, round(share * size)) if share > 0 else 0
    if share > 0 and count >= size:
        raise InvalidProblemError(f"holdout={holdout!r} leaves none of the {size} observed entries to fit")
    return count


def _from_sparse(A: Any, weights: Any) -> tuple[tuple[int, int], IntArray, IntArray, FloatArray, FloatArray | None]:
    if A.ndim != 2:
        raise InvalidProblemError(f"A must have two dimensions; got a sparse array of shape {A.shape}")
    triplets = A.tocoo(copy=False)
    values = _plain_floats(triplets.data, "A")
    rows, cols = np.asarray(triplets.row), np.asarray(triplets.col)
    given = None
    if weights is not None and kind_of(weights) == "sparse":
        w = weights.tocoo(copy=False)
        if w.shape != A.shape or not (np.array_equal(w.row, rows) and np.array_equal(w.col, cols)):
            raise InvalidProblemError("sparse weights must have the same stored positions as A, in the same order")
        given = _plain_floats(w.data, "weights")
    elif weights is not None:
        array = _plain_floats(weights, "weights")
        given = array[rows, cols] if array.shape == A.shape else _entry_weights(array, len(values))
    return (int(A.shape[0]), int(A.shape[1])), rows, cols, values, given


def _from_triplets(A: Sequence[Any]) -> tuple[tuple[int, int], IntArray, IntArray, FloatArray]:
    rows, cols = _indices(A[0], "rows"), _indices(A[1], "cols")
    values = _plain_floats(A[2], "values")
    m, n = _shape(A[3])
    if not len(rows) == len(cols) == values.size or values.ndim != 1:
        raise InvalidProblemError(
            f"rows, cols and values must have one length; got {len(rows)}, {len(cols)} and shape {values.shape}"
        )
    for name, index, size in (("rows", rows, m), ("cols", cols, n)):
        if len(index) and (int(index.min()) < 0 or int(index.max()) >= size):
            raise InvalidProblemError(
                f"{name} must lie in 0..{size - 1}; got values from {int(index.min())} to {int(index.max())}"
            )
    return (m, n), rows, cols, values


def _from_dense(A: Any, weights: Any) -> tuple[tuple[int, int], IntArray, IntArray, FloatArray, FloatArray | None]:
    if isinstance(A, (str, PathLike)):
        raise InvalidProblemError(f"A must be data; got the path {A!r}: StoredMatrix(path) opens a folder of entries")
    dense = np.asarray(as_float_array(_on_host(A, "A"), "A", ndim=2, finite=False, expected=DENSE))
    if np.isinf(dense).any():
        raise InvalidProblemError(f"A must be finite or NaN; got {int(np.isinf(dense).sum())} infinite entries")
    rows, cols = (index.astype(np.int64, copy=False) for index in np.nonzero(~np.isnan(dense)))
    given = None
    if weights is not None:
        array = np.asarray(
            as_float_array(
                _on_host(weights, "weights"), "weights", ndim=2, finite=False, expected=f"a {dense.shape} array"
            )
        )
        if array.shape != dense.shape:
            raise InvalidProblemError(f"weights must have the shape of A, {dense.shape}; got {array.shape}")
        given = _finite(array[rows, cols], "weights")
    return (dense.shape[0], dense.shape[1]), rows, cols, dense[rows, cols], given


def _shape(value: Any) -> tuple[int, int]:
    try:
        m, n = (check_integer("shape", size, low=1, high=TOO_LARGE) for size in value)
    except (TypeError, ValueError):
        raise InvalidProblemError(
            f"shape must be two integers from 1 to {TOO_LARGE}; got {reprlib.repr(value)}"
        ) from None
    return m, n


def _array(value: Any, name: str) -> npt.NDArray[Any]:
    try:
        return np.asarray(_on_host(value, name))
    except ValueError:
        raise InvalidProblemError(f"{name} must be one array of numbers; got a ragged sequence") from None


def _indices(value: Any, name: str) -> IntArray:
    array = _array(value, name)
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        hint = " (pandas.factorize numbers labels)" if array.dtype.kind in "OUST" else ""
        raise InvalidProblemError(
            f"{name} must be a vector of integers; got shape {array.shape}, dtype {array.dtype}{hint}"
        )
    return array.astype(np.int64, copy=False)


def _entry_weights(value: Any, count: int) -> FloatArray:
    array = _plain_floats(value, "weights")
    if array.shape != (count,):
        raise InvalidProblemError(
            f"weights must have one value per observed entry, ({count},); got shape {array.shape}"
        )
    return array


def _plain_floats(value: Any, name: str) -> FloatArray:
    array = _array(value, name)
    if array.dtype.kind not in "bifu":
        raise InvalidProblemError(f"{name} must hold real numbers; got dtype {array.dtype}")
    return _finite(array.astype(np.float64, copy=False), name)


def _on_host(value: Any, name: str) -> Any:
    """The value, refused where it lives elsewhere: nothing is copied between devices silently."""
    kind = kind_of(value)
    if kind in ("cupy", "array-api"):
        hint = "call .get() first" if kind == "cupy" else "convert to NumPy first"
        raise BackendError(f"{name} is a {kind} array; completion runs on NumPy and scipy.sparse data: {hint}")
    return value


def _finite(array: FloatArray, name: str) -> FloatArray:
    bad = array.size - int(np.isfinite(array).sum())
    if bad:
        hint = "; leave unseen entries out" if name != "weights" else ""
        raise InvalidProblemError(f"{name} must be finite; got {bad} entries that are NaN or infinite{hint}")
    return array


def _in_order(
    rows: IntArray, cols: IntArray, values: FloatArray, weights: FloatArray
) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
    ahead = (rows[1:] > rows[:-1]) | ((rows[1:] == rows[:-1]) & (cols[1:] >= cols[:-1]))
    if ahead.all():
        return rows, cols, values, weights
    # One key of 62 bits sorts several times faster than two.
    order = np.argsort(rows.astype(np.int64) * (int(cols.max()) + 1) + cols)
    return rows[order], cols[order], values[order], weights[order]


def _assemble(
    shape: tuple[int, int], rows: Int32Array, cols: Int32Array, values: FloatArray, weights: FloatArray, weighted: bool
) -> Observations:
    indptr = np.zeros(shape[0] + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=shape[0]), out=indptr[1:])
    return Observations(
        shape,
        freeze(indptr),
        freeze(np.ascontiguousarray(rows)),
        freeze(np.ascontiguousarray(cols)),
        freeze(np.ascontiguousarray(values)),
        freeze(np.ascontiguousarray(weights)),
        weighted,
    )
