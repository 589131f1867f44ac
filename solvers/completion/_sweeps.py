r"""Alternating half sweeps in the basis in which their conditioning is visible.

The iterate is X~ = U diag(s) Vᵀ with orthonormal U, V (scaled coordinates of :mod:`solvers.completion._problem`).
For the rows, X = U diag(s) is improved with V fixed:

    min_X  1/2 sum w_ij (a_ij - x_i^T v_j)^2 + reg/2 sum_il x_il^2 / s_l,

whose penalty bounds the nuclear norm from above and touches it at the current X; then X = U' diag(s') Wᵀ and V' = V
W. The columns of the start are orthogonal with lengths s, so a gradient measured in units of 1/s weighs every
singular direction alike: an ordinary gradient norm would not see the smallest ones until the others have converged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.sparse

from solvers._core.arrays import FloatArray
from solvers.completion import _kernels_numba as kernels
from solvers.completion._gradient import EntryGradient, Gradient, length_moments
from solvers.completion._problem import CompletionProblem

__all__ = [
    "Entries",
    "Factors",
    "Orientation",
    "SweepRule",
    "Workspace",
    "balanced",
    "chosen_modes",
    "half_sweep",
    "improve_rows",
    "sweep",
]

# Singular values are floored at this share of the largest wherever they divide.
FLOOR = 1e-14
# Largest entry, and reciprocal of it, of which sums of squares stay in the range of float32.
SQUARABLE = 1e12
# Share of the largest squared singular value, in roundings, above which a basis from the Gram matrix is nearly orthonormal.
NEARLY = 1e3
# Conjugate gradient steps of one row at most.
MAX_STEPS = 60
# Rows of a leverage sample per unknown: conjugate gradients then contract by one half.
SKETCH_FACTOR = 4
# Operations of one conjugate gradient step, of a Gram matrix and of its factor, per entry and power of the rank, in the
# time of a multiplication of a matrix product (measured from rank 10 to 100): they run at different speeds.
STEP_COST, GRAM_COST, FACTOR_COST = 5.0, 1.0, 2.0
# Condition of the mean Gram matrix of the rows from which it is worth while as a preconditioner of all of them.
ANISOTROPY = 2.0


@dataclass(frozen=True)
class Factors:
    """U diag(s) Vᵀ in scaled coordinates; orthonormal to working accuracy, s descending.

    U and V are arrays of the kind that the sweeps work on.
    """

    U: Any
    s: FloatArray
    V: Any

    @property
    def rank(self) -> int:
        """Number of columns."""
        return len(self.s)

    def leading(self, count: int) -> Factors:
        """The first columns."""
        return Factors(_first_columns(self.U, count), self.s[:count], _first_columns(self.V, count))


def _first_columns(array: Any, count: int) -> Any:
    part = array[:, :count]
    return np.ascontiguousarray(part) if isinstance(part, np.ndarray) else part


@dataclass
class Orientation:
    """Compressed rows (or columns): positions, values and weights in the working precision."""

    indptr: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int32]
    values: npt.NDArray[Any]
    weights: npt.NDArray[Any]
    #: Total weight of each column (or row, if these are columns).
    popularity: FloatArray | None = None
    #: The rank and rule that solvers of the rows were last chosen for, and these; most sweeps ask for the same again.
    chosen: tuple[int, SweepRule, npt.NDArray[np.int8]] | None = None

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Entries per row."""
        return np.diff(self.indptr)

    @cached_property
    def lengths(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp]]:
        """Numbers of entries that rows have, and which of them each row has."""
        distinct, inverse = np.unique(self.counts, return_inverse=True)
        return distinct, inverse


@dataclass(frozen=True)
class SweepRule:
    """How rows are solved: "auto", "exact" or "sketch"; and the relative accuracy ``eta`` asked of inexact ones."""

    inner: str = "auto"
    eta: float = 0.1
    max_steps: int = MAX_STEPS


class Entries(Protocol):
    """What the loop asks of the observed entries, wherever they are: in memory, on a device, in files, on workers."""

    dtype: np.dtype[Any]
    shape: tuple[int, int]
    reg: float

    def improved(
        self, factors: Factors, penalty: FloatArray, inverse_scale: FloatArray, rule: SweepRule, *, columns: bool
    ) -> tuple[Factors, float]:
        """Rows (or columns) solved with the other factor fixed and balanced, and sum w r² there."""

    def fit_of_zero(self) -> float:
        """1/2 sum w a² over the entries."""

    def gradient(self, factors: Factors, given: FloatArray | None = None) -> Gradient:
        """The matrix w r at the factors (or ``given``, one value per entry) as an operator."""

    def length_moments(self, factors: Factors) -> tuple[FloatArray, FloatArray]:
        """Quadratic and linear term of the fit as a function of s, (k, k) and (k,)."""

    def host(self, factor: Any) -> npt.NDArray[Any]:
        """A factor as a NumPy array."""

    def take(self, factor: npt.NDArray[Any]) -> Any:
        """A NumPy array as a factor."""


class Workspace:
    """The observed entries by rows and by columns, in scaled coordinates and working precision."""

    def __init__(self, problem: CompletionProblem, dtype: npt.DTypeLike = np.float64) -> None:
        observed = problem.observed
        m, n = problem.shape
        self.observed = observed
        self.dtype = np.dtype(dtype)
        self.shape = (m, n)
        self.reg = problem.reg
        self.scale = problem.entry_scale if problem.counted else None
        values = problem.targets if self.scale is None else problem.targets * self.scale
        self.base_weights = observed.weights if self.scale is None else observed.weights / self.scale**2
        plain = not observed.weighted and self.scale is None
        numbers = scipy.sparse.csr_array((np.arange(observed.size), observed.cols, observed.indptr), shape=(m, n))
        by_columns = numbers.tocsc()
        #: Position of each entry of the column orientation in the row orientation.
        self.order = by_columns.data
        row_of, col_ptr = by_columns.indices.astype(np.int32, copy=False), by_columns.indptr.astype(np.int64)
        values = values.astype(self.dtype)
        nothing = np.empty(0, dtype=self.dtype)
        self.rows = Orientation(observed.indptr, observed.cols, values, nothing)
        self.cols = Orientation(col_ptr, row_of, values[self.order], nothing)
        self.seed = 0
        self.uniform = plain
        if not plain:
            self.reweight(self.base_weights)

    def reweight(self, weights: FloatArray | None) -> None:
        """Use other weights from now on (None: those of the problem)."""
        if weights is None:
            weights = np.empty(0) if self.uniform else self.base_weights
        self.rows.weights = weights.astype(self.dtype)
        self.rows.popularity = self.cols.popularity = None
        self.cols.weights = self.rows.weights[self.order] if len(weights) else self.rows.weights

    def residuals(self, factors: Factors) -> npt.NDArray[Any]:
        """Scaled residuals of the observed entries, in row order."""
        out = np.empty_like(self.rows.values)
        left = np.ascontiguousarray(factors.U * factors.s.astype(self.dtype))
        kernels.residuals(self.rows.indptr, self.rows.indices, self.rows.values, left, factors.V, out)
        return out

    def improved(
        self, factors: Factors, penalty: FloatArray, inverse_scale: FloatArray, rule: SweepRule, *, columns: bool
    ) -> tuple[Factors, float]:
        """Rows (or columns) solved with the other factor fixed and balanced, and sum w r² there."""
        side = self.cols if columns else self.rows
        moving, fixed = (factors.V, factors.U) if columns else (factors.U, factors.V)
        x = np.ascontiguousarray(moving * factors.s.astype(self.dtype))
        self.seed += 1
        losses = improve_rows(side, fixed, penalty, inverse_scale, rule, self.seed, x)
        return balanced(fixed, x) if columns else balanced(x, fixed), float(np.sum(losses))

    def fit_of_zero(self) -> float:
        """1/2 sum w a² over the entries."""
        weights = self.rows.weights if len(self.rows.weights) else 1.0
        return 0.5 * float(np.sum(np.multiply(weights, self.rows.values, dtype=np.float64) * self.rows.values))

    def gradient(self, factors: Factors, given: FloatArray | None = None) -> EntryGradient:
        """The matrix w r at the factors (or ``given``, one value per entry) as an operator."""
        weights = self.rows.weights.astype(np.float64) if len(self.rows.weights) else None
        if given is None:
            residual = self.residuals(factors).astype(np.float64)
            given = residual if weights is None else weights * residual
        return EntryGradient(self.observed, given, weights, (self.order, self.cols.indices, self.cols.indptr))

    def length_moments(self, factors: Factors) -> tuple[FloatArray, FloatArray]:
        """Quadratic and linear term of the fit as a function of s, (k, k) and (k,)."""
        side = self.rows
        return length_moments(self.observed, side.values, side.weights, self.host(factors.U), self.host(factors.V))

    def host(self, factor: Any) -> npt.NDArray[Any]:
        """A factor as a NumPy array."""
        return np.asarray(factor)

    def take(self, factor: npt.NDArray[Any]) -> Any:
        """A NumPy array as a factor."""
        return np.ascontiguousarray(factor, dtype=self.dtype)


def sweep(work: Entries, factors: Factors, rule: SweepRule) -> tuple[Factors, float]:
    """Rows, then columns; returns the factors and 1/2 sum w r² + reg sum s there."""
    factors, _ = half_sweep(work, factors, rule)
    return half_sweep(work, factors, rule, columns=True)


def improve_rows(
    side: Orientation, fixed: npt.NDArray[Any], penalty: FloatArray, inverse_scale: FloatArray, rule: SweepRule,
    seed: int, x: npt.NDArray[Any], shared: npt.NDArray[Any] | None = None,
) -> FloatArray:  # fmt: skip
    """Improve every row of ``x`` in place, with the fixed factor orthonormal; returns sum w r² of each row.

    ``shared`` preconditions conjugate gradients; it is made from the side's own rows where it is not given.
    """
    dtype, k = fixed.dtype, fixed.shape[1]
    losses = np.empty(len(x))
    modes = _modes(side, fixed, rule)
    diagonal = penalty.astype(dtype)
    if shared is None:
        shared = np.empty((0, 0), dtype=dtype)
        if rule.inner == "auto" and (modes == kernels.BY_CG).any():
            shared = shared_factor(side, fixed, diagonal)
    kernels.solve_rows(
        side.indptr, side.indices, side.values, side.weights, fixed, diagonal, inverse_scale.astype(dtype), modes,
        shared, rule.eta, rule.max_steps, SKETCH_FACTOR * k + 1, seed, x, losses,
    )  # fmt: skip
    return losses


def half_sweep(work: Entries, factors: Factors, rule: SweepRule, *, columns: bool = False) -> tuple[Factors, float]:
    """Solve one side with the other fixed; returns the factors and the objective there."""
    top = float(factors.s[0]) if factors.rank else 0.0
    if top <= 0.0:
        return factors, work.fit_of_zero()
    lengths = np.maximum(factors.s, FLOOR * top)
    with np.errstate(over="ignore"):
        penalty = np.minimum(work.reg / lengths, 1e-6 * float(np.finfo(work.dtype).max))
    fresh, loss = work.improved(factors, penalty, top / lengths, rule, columns=columns)
    return fresh, 0.5 * loss + work.reg * float(np.sum(fresh.s))


def balanced(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> Factors:
    """U diag(s) Vᵀ of left rightᵀ, where one of the two has orthonormal columns (it keeps its span)."""
    moves_left = abs(float(np.sum(right[:, 0] * right[:, 0], dtype=np.float64)) - 1.0) < 1e-3
    x, q = (left, right) if moves_left else (right, left)
    basis, s, turn = _orthogonal(x)
    q = np.ascontiguousarray(q @ turn)
    return Factors(basis, s, q) if moves_left else Factors(q, s, basis)


def _orthogonal(x: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], FloatArray, npt.NDArray[Any]]:
    """X = basis diag(s) turnᵀ. By the Gram matrix while the squared condition number leaves enough digits; where it
    leaves a few the basis is nearly orthonormal, and once more makes it so (Yamamoto et al. 2015).
    """
    k = x.shape[1]
    scale = max(float(np.max(x)), -float(np.min(x))) or 1.0
    unit = float(np.finfo(x.dtype).eps)
    if 1.0 / SQUARABLE < scale < SQUARABLE:
        gram = (x.T @ x).astype(np.float64)
    else:
        scaled = x / x.dtype.type(scale)
        gram = (scaled.T @ scaled).astype(np.float64) * scale * scale
    squares, turn = np.linalg.eigh(gram)
    if squares[0] > max(1e-4, 1e4 * unit) * squares[-1]:
        s = np.sqrt(squares[::-1])
        turn = np.ascontiguousarray(turn[:, ::-1]).astype(x.dtype)
        basis = x @ turn
        basis /= s.astype(x.dtype)
        return basis, s, turn
    if squares[0] > NEARLY * unit * squares[-1] and 1.0 / SQUARABLE < scale < SQUARABLE:
        s = np.sqrt(squares[::-1])
        first = x @ (turn[:, ::-1] / s).astype(x.dtype)
        lower = np.linalg.cholesky((first.T @ first).astype(np.float64))
        u, s, vt = np.linalg.svd(lower.T @ (turn[:, ::-1] * s).T)
        basis = first @ np.linalg.solve(lower.T, u).astype(x.dtype)
        return basis, s, np.ascontiguousarray(vt.T).astype(x.dtype)
    q, r = np.linalg.qr(x)
    u, s, vt = scipy.linalg.svd(r.astype(np.float64), check_finite=False)
    basis = np.ascontiguousarray(q @ u.astype(x.dtype))
    return basis[:, :k], s, np.ascontiguousarray(vt.T).astype(x.dtype)


def _modes(side: Orientation, fixed: npt.NDArray[Any], rule: SweepRule) -> npt.NDArray[np.int8]:
    k = fixed.shape[1]
    if side.chosen is None or side.chosen[:2] != (k, rule):
        distinct, which = side.lengths
        side.chosen = k, rule, chosen_modes(distinct, k, rule)[which]
    modes = side.chosen[2]
    if rule.inner != "auto" or not (modes == kernels.BY_CG).any():
        # Uneven leverages make steps dearer only.
        return modes
    norms = np.einsum("jl,jl->j", fixed, fixed)
    # The square of a Gaussian row has itself a relative variance of 2 / k.
    effective = kernels.effective_counts(side.indptr, side.indices, side.weights, norms) * (1.0 + 2.0 / k)
    return chosen_modes(side.counts, k, rule, np.minimum(effective, side.counts))


def chosen_modes(
    counts: npt.NDArray[np.int64], k: int, rule: SweepRule, effective: FloatArray | None = None
) -> npt.NDArray[np.int8]:
    """The cheapest solver of each row by operation counts; never by the clock.

    Conjugate gradients contract by sqrt(k / d) per step (Marchenko and Pastur), with d the effective number of entries:
    weights or leverages that differ make a row behave like a shorter one. After a leverage sample of s rows they
    contract by sqrt(k / s).
    """
    sample = SKETCH_FACTOR * k
    if rule.inner == "exact":
        modes = np.full(len(counts), kernels.BY_GRAM, dtype=np.int8)
    elif rule.inner == "sketch":
        modes = np.where(counts > sample, kernels.BY_SKETCH, kernels.BY_GRAM)
    else:
        accuracy = math.log(2.0 / rule.eta)
        ratio = np.maximum((counts if effective is None else effective) / k, 1.1)
        by_cg = accuracy / (0.5 * np.log(ratio)) * STEP_COST * counts * k
        by_gram = GRAM_COST * counts * k * k + FACTOR_COST * k**3
        steps = accuracy / (0.5 * math.log(SKETCH_FACTOR))
        by_sketch = GRAM_COST * sample * k * k + FACTOR_COST * k**3 + 2.0 * counts * k
        by_sketch = by_sketch + steps * (STEP_COST * counts * k + 2.0 * k * k)
        by_sketch = np.where(counts > 2 * sample, by_sketch, math.inf)
        modes = np.argmin(np.stack([by_gram, by_cg, by_sketch]), axis=0)
    return np.where(counts < k, kernels.BY_DUAL, modes).astype(np.int8)


def shared_factor(side: Orientation, fixed: npt.NDArray[Any], penalty: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Factor of the rows' mean Gram matrix, where popular columns turn it away from a multiple of the identity.

    In exact arithmetic this is the basis in which Q would be orthonormal were every column weighted by its popularity.
    """
    if side.popularity is None:
        weights = side.weights.astype(np.float64) if len(side.weights) else None
        side.popularity = np.bincount(side.indices, weights=weights, minlength=len(fixed)).astype(np.float64)
    mean = (fixed * (side.popularity / max(int(np.sum(side.counts > 0)), 1)).astype(fixed.dtype)[:, None]).T @ fixed
    mean = mean.astype(np.float64) + np.diag(penalty.astype(np.float64))
    eigenvalues = np.linalg.eigvalsh(mean)
    if not eigenvalues[-1] > ANISOTROPY * eigenvalues[0] > 0.0:
        return np.empty((0, 0), dtype=fixed.dtype)
    factor = np.linalg.cholesky(mean)
    np.fill_diagonal(factor, 1.0 / np.diag(factor))
    return np.ascontiguousarray(factor, dtype=fixed.dtype)
