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
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.linalg

from solvers._core.arrays import FloatArray
from solvers.completion import _kernels_numba as kernels
from solvers.completion._problem import CompletionProblem

__all__ = ["Factors", "Orientation", "SweepRule", "Workspace", "balanced", "sweep"]

# Singular values are floored at this share of the largest wherever they divide.
FLOOR = 1e-14
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
    """U diag(s) Vᵀ in scaled coordinates; orthonormal to working accuracy, s descending."""

    U: npt.NDArray[Any]
    s: FloatArray
    V: npt.NDArray[Any]

    @property
    def rank(self) -> int:
        """Number of columns."""
        return len(self.s)


@dataclass
class Orientation:
    """Compressed rows (or columns): positions, values and weights in the working precision."""

    indptr: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int32]
    values: npt.NDArray[Any]
    weights: npt.NDArray[Any]
    #: Total weight of each column (or row, if these are columns).
    popularity: FloatArray | None = None

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Entries per row."""
        return np.diff(self.indptr)


@dataclass(frozen=True)
class SweepRule:
    """How rows are solved: "auto", "exact" or "sketch"; and the relative accuracy ``eta`` asked of inexact ones."""

    inner: str = "auto"
    eta: float = 0.1
    max_steps: int = MAX_STEPS


class Workspace:
    """The observed entries by rows and by columns, in scaled coordinates and working precision."""

    def __init__(self, problem: CompletionProblem, dtype: npt.DTypeLike = np.float64) -> None:
        observed = problem.observed
        m, n = problem.shape
        self.dtype = np.dtype(dtype)
        self.shape = (m, n)
        self.reg = problem.reg
        self.scale = problem.entry_scale if problem.counted else None
        values = problem.targets if self.scale is None else problem.targets * self.scale
        self.base_weights = observed.weights if self.scale is None else observed.weights / self.scale**2
        plain = not observed.weighted and self.scale is None
        #: Position of each entry of the column orientation in the row orientation.
        self.order = np.argsort(observed.cols, kind="stable")
        col_ptr = np.zeros(n + 1, dtype=np.int64)
        np.cumsum(np.bincount(observed.cols, minlength=n), out=col_ptr[1:])
        values = values.astype(self.dtype)
        nothing = np.empty(0, dtype=self.dtype)
        self.rows = Orientation(observed.indptr, observed.cols, values, nothing)
        self.cols = Orientation(col_ptr, observed.rows[self.order], values[self.order], nothing)
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


def sweep(work: Workspace, factors: Factors, rule: SweepRule) -> tuple[Factors, float]:
    """Rows, then columns; returns the factors and 1/2 sum w r² + reg sum s there."""
    factors, _ = half_sweep(work, factors, rule)
    return half_sweep(work, factors, rule, columns=True)


def half_sweep(work: Workspace, factors: Factors, rule: SweepRule, *, columns: bool = False) -> tuple[Factors, float]:
    """Solve one side with the other fixed; returns the factors and the objective there."""
    side = work.cols if columns else work.rows
    moving, fixed = (factors.V, factors.U) if columns else (factors.U, factors.V)
    top = float(factors.s[0]) if factors.rank else 0.0
    if top <= 0.0:
        weights = side.weights if len(side.weights) else 1.0
        return factors, 0.5 * float(np.sum(np.multiply(weights, side.values, dtype=np.float64) * side.values))
    lengths = np.maximum(factors.s, FLOOR * top)
    with np.errstate(over="ignore"):
        penalty = np.minimum(work.reg / lengths, 1e-6 * float(np.finfo(work.dtype).max)).astype(work.dtype)
    x = np.ascontiguousarray(moving * factors.s.astype(work.dtype))
    losses = np.empty(len(x))
    work.seed += 1
    modes = _modes(side, fixed, rule)
    shared = np.empty((0, 0), dtype=work.dtype)
    if rule.inner == "auto" and (modes == kernels.BY_CG).any():
        shared = _shared_factor(side, fixed, penalty)
    kernels.solve_rows(
        side.indptr, side.indices, side.values, side.weights, fixed, penalty, (top / lengths).astype(work.dtype),
        modes, shared, rule.eta, rule.max_steps, SKETCH_FACTOR * factors.rank + 1, work.seed, x, losses,
    )  # fmt: skip
    fresh = balanced(fixed, x) if columns else balanced(x, fixed)
    return fresh, 0.5 * float(np.sum(losses)) + work.reg * float(np.sum(fresh.s))


def balanced(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> Factors:
    """U diag(s) Vᵀ of left rightᵀ, where one of the two has orthonormal columns (it keeps its span)."""
    moves_left = abs(float(np.sum(right[:, 0] * right[:, 0], dtype=np.float64)) - 1.0) < 1e-3
    x, q = (left, right) if moves_left else (right, left)
    basis, s, turn = _orthogonal(x)
    q = np.ascontiguousarray(q @ turn)
    return Factors(basis, s, q) if moves_left else Factors(q, s, basis)


def _orthogonal(x: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], FloatArray, npt.NDArray[Any]]:
    """X = basis diag(s) turnᵀ. By the Gram matrix while the squared condition number leaves enough digits."""
    k = x.shape[1]
    scale = float(np.max(np.abs(x))) or 1.0
    unit = float(np.finfo(x.dtype).eps)
    gram = (x / x.dtype.type(scale)).T @ (x / x.dtype.type(scale))
    squares, turn = np.linalg.eigh(gram.astype(np.float64))
    if squares[0] > max(1e-4, 1e4 * unit) * squares[-1]:
        s = np.sqrt(squares[::-1])
        turn = np.ascontiguousarray(turn[:, ::-1]).astype(x.dtype)
        return np.ascontiguousarray((x @ turn) / (s * scale).astype(x.dtype)), s * scale, turn
    q, r = np.linalg.qr(x)
    u, s, vt = scipy.linalg.svd(r.astype(np.float64), check_finite=False)
    basis = np.ascontiguousarray(q @ u.astype(x.dtype))
    return basis[:, :k], s, np.ascontiguousarray(vt.T).astype(x.dtype)


def _modes(side: Orientation, fixed: npt.NDArray[Any], rule: SweepRule) -> npt.NDArray[np.int8]:
    """The cheapest solver of each row by operation counts; never by the clock.

    Conjugate gradients contract by sqrt(k / d) per step (Marchenko and Pastur), with d the effective number of entries:
    weights or leverages that differ make a row behave like a shorter one. After a leverage sample of s rows they
    contract by sqrt(k / s). The square of a Gaussian row of Q has itself a relative variance of 2 / k.
    """
    k = fixed.shape[1]
    counts = side.counts
    sample = SKETCH_FACTOR * k
    if rule.inner == "exact":
        modes = np.full(len(counts), kernels.BY_GRAM, dtype=np.int8)
    elif rule.inner == "sketch":
        modes = np.where(counts > sample, kernels.BY_SKETCH, kernels.BY_GRAM)
    else:
        accuracy = math.log(2.0 / rule.eta)
        by_gram = GRAM_COST * counts * k * k + FACTOR_COST * k**3
        sampling = GRAM_COST * sample * k * k + FACTOR_COST * k**3 + 2.0 * counts * k
        steps = accuracy / (0.5 * math.log(SKETCH_FACTOR))
        by_sketch = np.where(counts > 2 * sample, sampling + steps * (STEP_COST * counts * k + 2.0 * k * k), math.inf)
        by_cg = accuracy / (0.5 * np.log(np.maximum(counts / k, 1.1))) * STEP_COST * counts * k
        if (by_cg < by_gram).any():
            norms = np.einsum("jl,jl->j", fixed, fixed)
            effective = kernels.effective_counts(side.indptr, side.indices, side.weights, norms) * (1.0 + 2.0 / k)
            ratio = np.minimum(effective, counts) / k
            by_cg = accuracy / (0.5 * np.log(np.maximum(ratio, 1.1))) * STEP_COST * counts * k
        modes = np.argmin(np.stack([by_gram, by_cg, by_sketch]), axis=0)
    return np.where(counts < k, kernels.BY_DUAL, modes).astype(np.int8)


def _shared_factor(side: Orientation, fixed: npt.NDArray[Any], penalty: npt.NDArray[Any]) -> npt.NDArray[Any]:
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
