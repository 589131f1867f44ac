r"""The completion problem as data: what was observed, with which weights, and in which coordinates.

With observed set Omega, loss rho and nuclear norm the problem is

    min over X of rank at most k:   sum_Omega w_ij rho(X_ij - A_ij) + reg * || D^{1/2} X E^{1/2} ||_*

with D = E = I (``reg_scaling="plain"``) or the diagonal matrices of row and column counts ("count"). In the *scaled*
coordinates X~ = D^{1/2} X E^{1/2} the second is an instance of the first: the entries become A_ij sqrt(d_i e_j), the
weights w_ij / (d_i e_j) and a Huber threshold delta sqrt(d_i e_j).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse

from solvers._core.arrays import FloatArray, IntArray, as_float_array, freeze, kind_of, to_host
from solvers._core.errors import BackendError, InvalidProblemError
from solvers._core.options import check_choice, check_integer, check_number

__all__ = [
    "CompletionProblem",
    "Observations",
    "completion_problem",
    "data_at_home",
    "read_observations",
    "split_holdout",
]

# Ridge of the two-way effects, in entries of average weight: a row with this many entries gets half its mean deviation.
BIAS_SHRINKAGE = 5.0
BIAS_SWEEPS = 100
# Median absolute deviation of a normal law, in standard deviations.
MAD_TO_SIGMA = 1.4826
TOO_LARGE = 2**31 - 1
# Largest absolute entry, and reciprocal of the smallest such: sums of products of four such numbers stay finite.
EXTREME = 1e70

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


@dataclass(frozen=True)
class CompletionProblem:
    """Everything that defines the objective, in the caller's units.

    Attributes
    ----------
    observed : Observations
        The entries that are fitted (those held out are not among them), with the caller's values.
    held : Observations
        The entries that were held out; may be empty.
    targets : (N,) float64
        Observed values less the biases.
    rank : int
    reg : float
    row_scale, col_scale : (m,), (n,) float64
        Square roots of D and E; ones for the plain norm, 0 for empty rows and columns under "count".
    loss : {"l2", "huber"}
    delta : float or None
        Huber threshold; None where the run chooses it.
    row_bias, col_bias : (m,), (n,) float64
    """

    observed: Observations
    held: Observations
    targets: FloatArray
    rank: int
    reg: float
    row_scale: FloatArray
    col_scale: FloatArray
    loss: str
    delta: float | None
    row_bias: FloatArray
    col_bias: FloatArray
    counted: bool = field(default=False)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.observed.shape

    @property
    def size(self) -> int:
        """Number of fitted entries."""
        return self.observed.size

    @property
    def row_counts(self) -> IntArray:
        """Fitted entries per row."""
        return self.observed.row_counts

    @property
    def col_counts(self) -> IntArray:
        """Fitted entries per column."""
        return self.observed.col_counts

    @property
    def typical(self) -> float:
        """Root mean square of the targets; a median where outliers are expected."""
        return math.sqrt(float(np.mean(self.targets**2))) if self.loss == "l2" else self.spread

    @property
    def largest(self) -> float:
        """Greatest absolute value among the entries."""
        return float(np.max(np.abs(self.observed.values)))

    @cached_property
    def entry_scale(self) -> FloatArray:
        """sqrt(d_i e_j) of each observed entry."""
        return self.row_scale[self.observed.rows] * self.col_scale[self.observed.cols]

    @cached_property
    def spread(self) -> float:
        """1.4826 times the median absolute target: a scale that outliers do not move."""
        spread = MAD_TO_SIGMA * float(np.median(np.abs(self.targets)))
        return spread if spread > 0 else float(np.max(np.abs(self.targets), initial=0.0)) or 1.0

    def size_of(self, delta: float) -> float:
        """The objective at X = 0, the documented size of the problem."""
        return float(np.sum(self.observed.weights * self.rho(self.targets, delta)))

    def rho(self, residual: FloatArray, delta: float) -> FloatArray:
        """Loss of each residual."""
        if self.loss == "l2":
            return 0.5 * residual * residual
        size = np.abs(residual)
        return np.where(size <= delta, 0.5 * size * size, delta * (size - 0.5 * delta))

    def clipped(self, residual: FloatArray, delta: float) -> FloatArray:
        """Derivative of the loss at each residual."""
        return residual if self.loss == "l2" else np.clip(residual, -delta, delta)


def completion_problem(
    observed: Observations,
    held: Observations,
    rank: int,
    *,
    reg: float,
    reg_scaling: str,
    loss: str,
    delta: Any,
    biases: bool,
) -> CompletionProblem:
    """Validate the problem options and fit the biases."""
    m, n = observed.shape
    rank = check_integer("rank", rank, low=1)
    if rank > min(m, n):
        raise InvalidProblemError(f"rank must be at most min(m, n) = {min(m, n)} for a {m} x {n} matrix; got {rank}")
    reg = check_number("reg", reg, low=0.0)
    check_choice("reg_scaling", reg_scaling, ("plain", "count"))
    check_choice("loss", loss, ("l2", "huber"))
    if not isinstance(biases, (bool, np.bool_)):
        raise TypeError(f"biases must be True or False; got {biases!r}")
    if isinstance(delta, str):
        check_choice("delta", delta, ("auto",))
        threshold = None if loss == "huber" else math.inf
    else:
        if loss == "l2":
            raise InvalidProblemError(f"delta belongs to loss='huber'; got delta={delta!r} with loss='l2'")
        threshold = check_number("delta", delta, low=0.0, strict=True)
    counted = reg_scaling == "count" and reg > 0
    refuse_extreme(float(np.max(np.abs(observed.values))), float(np.max(observed.weights)))
    row_bias, col_bias = _two_way_effects(observed, robust=loss == "huber") if biases else (np.zeros(m), np.zeros(n))
    return CompletionProblem(
        observed=observed,
        held=held,
        targets=observed.values - row_bias[observed.rows] - col_bias[observed.cols],
        rank=rank,
        reg=reg,
        row_scale=np.sqrt(observed.row_counts.astype(np.float64)) if counted else np.ones(m),
        col_scale=np.sqrt(observed.col_counts.astype(np.float64)) if counted else np.ones(n),
        loss=loss,
        delta=threshold,
        row_bias=row_bias,
        col_bias=col_bias,
        counted=counted,
    )


def data_at_home(A: Any, weights: Any) -> tuple[Any, Any]:
    """The data argument and the weights with device arrays copied to the host."""
    here = tuple(_home(part) for part in A) if isinstance(A, tuple) else _home(A)
    return here, _home(weights)


def _home(value: Any) -> Any:
    return to_host(value) if kind_of(value) in ("cupy", "array-api") else value


def refuse_extreme(largest: float, heaviest: float) -> None:
    """The objective sums squares: outside this range they overflow, or lose the data to underflow."""
    for name, size in (("A", largest), ("weights", math.sqrt(heaviest)), ("weighted A", largest * math.sqrt(heaviest))):
        if size and not 1.0 / EXTREME <= size <= EXTREME:
            raise InvalidProblemError(
                f"{name} is out of range: squares of {size:.3g} leave the range of float64; divide A by a number near "
                f"its largest entry, {largest:.3g} (a factor c in A scales fun by c^2 and reg by c)"
            )


def read_observations(A: Any, weights: Any, duplicates: str) -> Observations:
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
    if len(values) == 0:
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
    share = check_number("holdout", holdout, low=0.0)
    if share >= 1.0:
        raise ValueError(f"holdout must be a fraction below 1; got {holdout!r}")
    count = holdout_count(observed.size, share)
    if share > 0 and count >= observed.size:
        raise InvalidProblemError(f"holdout={holdout!r} leaves none of the {observed.size} observed entries to fit")
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
            raise InvalidProblemError(f"holdout_index must name {count} distinct observed entries")
        out[position] = True
    return (observed, observed.keep(out)) if not count else (observed.keep(~out), observed.keep(out))


def holdout_count(size: int, share: float) -> int:
    """Number of entries held out; at least one where a share is asked for."""
    return max(1, round(share * size)) if share > 0 else 0


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
    try:
        m, n = (check_integer("shape", int(size), low=1) for size in A[3])
    except TypeError:
        raise InvalidProblemError(f"shape must be two positive integers; got {A[3]!r}") from None
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
    dense = np.asarray(
        as_float_array(_on_host(A, "A"), "A", ndim=2, finite=False, expected="an (m, n) array, NaN where unseen,")
    )
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


def _indices(value: Any, name: str) -> IntArray:
    array = np.asarray(_on_host(value, name))
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        raise InvalidProblemError(f"{name} must be a vector of integers; got shape {array.shape}, dtype {array.dtype}")
    return array.astype(np.int64, copy=False)


def _entry_weights(value: Any, count: int) -> FloatArray:
    array = _plain_floats(value, "weights")
    if array.shape != (count,):
        raise InvalidProblemError(
            f"weights must have one value per observed entry, ({count},); got shape {array.shape}"
        )
    return array


def _plain_floats(value: Any, name: str) -> FloatArray:
    array = np.asarray(_on_host(value, name))
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


def _two_way_effects(observed: Observations, *, robust: bool) -> tuple[FloatArray, FloatArray]:
    """Ridge-shrunk row and column effects by least squares; the overall mean is part of the row effects."""
    values, weights = observed.values, observed.weights
    if robust:
        middle = float(np.median(values))
        width = 3.0 * MAD_TO_SIGMA * float(np.median(np.abs(values - middle)))
        values = np.clip(values, middle - width, middle + width)
    ridge = BIAS_SHRINKAGE * float(np.mean(weights))
    mean = float(np.sum(weights * values) / np.sum(weights))
    matrix, centred = observed.matrix(weights), observed.matrix(weights * (values - mean))
    row_total, col_total = (np.asarray(matrix.sum(axis=axis), dtype=np.float64) + ridge for axis in (1, 0))
    row_sum, col_sum = (np.asarray(centred.sum(axis=axis), dtype=np.float64) for axis in (1, 0))
    row, col = shrunk_effects(lambda v: matrix @ v, lambda u: matrix.T @ u, row_total, col_total, row_sum, col_sum)
    return row + mean, col


def shrunk_effects(
    forward: Callable[[FloatArray], FloatArray],
    backward: Callable[[FloatArray], FloatArray],
    row_total: FloatArray,
    col_total: FloatArray,
    row_sum: FloatArray,
    col_sum: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Effects r, c with diag(row_total) r + W c = row_sum and Wᵀ r + diag(col_total) c = col_sum; W by its products."""
    # Row effects eliminated; conjugate gradients, preconditioned by the diagonal, on what is left of the column effects.
    col = np.zeros(len(col_sum))
    residual = col_sum - backward(row_sum / row_total)
    goal = 1e-14 * float(np.linalg.norm(residual))
    step = residual / col_total
    slope = float(residual @ step)
    for _ in range(BIAS_SWEEPS):
        if not float(np.linalg.norm(residual)) > goal:
            break
        image = col_total * step - backward(forward(step) / row_total)
        length = slope / float(step @ image)
        col += length * step
        residual -= length * image
        fresh = residual / col_total
        slope, previous = float(residual @ fresh), slope
        step = fresh + (slope / previous) * step
    return (row_sum - forward(col)) / row_total, col
