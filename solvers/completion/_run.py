"""One run of the completion: how factors become answers, bounds and a verdict."""

from __future__ import annotations

import math
import reprlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg

from solvers._core.arrays import FloatArray, IntArray, kind_of, to_host
from solvers._core.backend import Backend
from solvers._core.errors import InvalidProblemError
from solvers._core.monitor import Monitor
from solvers._core.options import Common
from solvers._core.result import Status
from solvers.completion._array_entries import ArrayEntries
from solvers.completion._certificate import (
    CHECKED_FAILURE,
    PUBLISHED_FAILURE,
    DualBound,
    DualCertificate,
    TrivialCertificate,
    affords_dense,
    dual_bound,
    entry_residuals,
    objective,
)
from solvers.completion._problem import CompletionProblem
from solvers.completion._result import ARRAYS, CompletionResult, fails_held_out
from solvers.completion._sweeps import Factors, Orientation, Workspace
from solvers.completion._uniqueness import FITTED, Determination, affordable, at_answer, by_counting, tangent_gap

__all__ = ["Run", "Settings"]

TOO_LATE = "no time was left to examine the tangent system"
LIMITS = (Status.MAX_ITER, Status.TIME_LIMIT, Status.CALLBACK_STOP)


@dataclass(frozen=True)
class Settings:
    """Options of every method: precision of the sweeps, sweeps per rank of the continuation, and the analysed form.

    ``stage_sweeps`` is 1 with a penalty, where every way through the ranks leads to the same optimum, and 3 without.

    ``certify`` says whether dual bounds are computed; without them a penalised run ends where sweeps stop improving.

    ``theory`` runs the algorithm of the theorems on ``rounds`` pairs of fresh samples, the start clipped for the
    incoherence mu, and every row solved to the relative accuracy ``inner_tol``.
    """

    precision: str = "double"
    stage_sweeps: int | None = None
    certify: bool = True
    theory: bool = False
    rounds: int = 10
    incoherence: float = 3.0
    inner_tol: float = 1e-10


class Run:
    """State that the phases of a method share.

    Attributes
    ----------
    problem : CompletionProblem
    work : Workspace
    monitor : Monitor
        Its ``x`` is the best iterate as :class:`Factors` in scaled coordinates.
    delta : float
        Huber threshold in force; inf for least squares.
    disputed : str
        Why the outliers found need not be the right ones; empty where nothing speaks against them.
    """

    def __init__(
        self, problem: CompletionProblem, common: Common, settings: Settings, max_iter: int, work: Any = None
    ) -> None:
        self.problem = problem
        self.settings = settings
        self.work = work or Workspace(problem, np.float32 if settings.precision == "single" else np.float64)
        self.device: Backend | None = None
        self.delta = problem.delta if problem.delta is not None else problem.spread
        self.determination = Determination(None, "the run has not ended")
        self.disputed = ""
        self._finished = False
        self.rng = common.rng
        self.monitor = Monitor(
            common,
            sense="min",
            scale=problem.size_of(self.delta),
            max_iter=max_iter,
            package=self._package,
            method="altmin" if common.method == "auto" else common.method,
            backend="numba",
        )
        self.monitor.fun_slack = 1e-11 * self.monitor.scale

    def on_device(self, backend: Backend) -> None:
        """Sweep where the backend's arrays are, and answer in its kind of array."""
        self.work = ArrayEntries(self.problem, self.work.dtype, backend)
        self.device = backend
        self.monitor.backend = backend.name

    @property
    def exact_objective(self) -> bool:
        """Whether the sums that sweeps return are accurate enough to be the objective."""
        return self.work.dtype == np.float64

    def nothing(self) -> Factors:
        """The zero matrix."""
        m, n = self.problem.shape
        return Factors(self.work.take(np.zeros((m, 0))), np.zeros(0), self.work.take(np.zeros((n, 0))))

    def open(self, start: Factors) -> None:
        """Something valid from the first moment: the zero matrix, its bound, and the caller's start."""
        self.offer(self.nothing())
        self.monitor.prove(0.0, TrivialCertificate())
        # Where its norm is dear, the zero matrix is examined once nothing is worth adding to it.
        if affords_dense(self.problem.shape):
            self.certify(self.nothing())
        if start.rank:
            self.offer(start)

    def change_delta(self, delta: float) -> None:
        """State the problem at another Huber threshold; answers and bounds at the former one count no longer."""
        self.delta = delta
        monitor = self.monitor
        monitor.scale = self.problem.size_of(delta)
        monitor.fun_slack = 1e-11 * monitor.scale
        monitor.x, monitor.certificate, monitor.fun, monitor.bound = None, None, math.inf, -math.inf
        if monitor.status is Status.OPTIMAL:
            monitor.status = None
        monitor.prove(0.0, TrivialCertificate())
        self.offer(self.nothing())

    def offer(self, factors: Factors, fun: float | None = None) -> None:
        """Offer factors as the answer; their objective is recomputed unless given to full accuracy."""
        if fun is None or not self.exact_objective:
            left, right = self.plain(factors)
            fun = self.objective(left, right)[0]
        self.monitor.incumbent(factors, fun)

    def certify(self, factors: Factors) -> None:
        """The dual bound at these factors."""
        if self.problem.reg == 0.0 or not self.settings.certify:
            return
        left, right = self.plain(factors)
        bound = self.bound(left, right)
        failure = 0.0 if bound.norm == "dense" else max(PUBLISHED_FAILURE, CHECKED_FAILURE)
        self.monitor.prove(bound.published, DualCertificate(left, right, self.delta, bound.norm, failure, bound.steps))

    def objective(self, left: FloatArray, right: FloatArray) -> tuple[float, float]:
        """The objective at left rightᵀ and a bound on its rounding error."""
        return objective(self.problem, left, right, self.delta)

    def bound(self, left: FloatArray, right: FloatArray) -> DualBound:
        """The dual bound at the residual of left rightᵀ."""
        return dual_bound(self.problem, left, right, self.delta, checking=False)

    def misfit(self, left: FloatArray, right: FloatArray) -> tuple[float, IntArray]:
        """Weighted root mean square residual of the entries but for outliers, and the positions of those."""
        observed = self.problem.observed
        residual = entry_residuals(self.problem, left, right)
        gone = self.problem.outlying(residual, self.delta)
        weights = observed.weights * ~gone
        outliers = np.column_stack([observed.rows[gone], observed.cols[gone]]).astype(np.int64)
        return math.sqrt(float(np.sum(weights * residual**2)) / float(np.sum(weights))), outliers

    def held_out(self) -> tuple[IntArray, FloatArray]:
        """Positions and values of the entries that were held out."""
        held = self.problem.held
        return np.column_stack([held.rows, held.cols]).astype(np.int64), held.values

    def structure(self) -> Orientation:
        """Positions of the entries but for outliers, by rows."""
        observed = self.problem.observed
        if self.problem.capped:
            residual = entry_residuals(self.problem, *self.plain(self.monitor.x))
            observed = observed.keep(~self.problem.outlying(residual, self.delta))
        return Orientation(observed.indptr, observed.cols, np.empty(0), np.empty(0))

    def plain(self, factors: Factors) -> tuple[FloatArray, FloatArray]:
        """Left and right factors of X in the caller's coordinates."""
        with np.errstate(divide="ignore"):
            rows = np.where(self.problem.row_scale > 0, 1.0 / self.problem.row_scale, 0.0)
            cols = np.where(self.problem.col_scale > 0, 1.0 / self.problem.col_scale, 0.0)
        U, V = (self.work.host(part).astype(np.float64) for part in (factors.U, factors.V))
        return np.ascontiguousarray(U * factors.s * rows[:, None]), np.ascontiguousarray(V * cols[:, None])

    def start_from(self, x0: object) -> Factors:
        """Factors of an earlier result, or of (U, s, V) or (U, V); none for None."""
        if x0 is None:
            return self.nothing()
        parts = x0.x if isinstance(x0, CompletionResult) else x0
        m, n = self.problem.shape
        if not isinstance(parts, (tuple, list)) or len(parts) not in (2, 3):
            raise InvalidProblemError(f"x0 must be a CompletionResult, (U, s, V) or (U, V); got {type(x0).__name__}")
        left, right = (_real_numbers(part, "factors") for part in (parts[0], parts[-1]))
        if left.ndim != 2 or right.ndim != 2 or (len(left), len(right)) != (m, n) or left.shape[1] != right.shape[1]:
            raise InvalidProblemError(
                f"x0 must have factors of shapes ({m}, r) and ({n}, r); got {left.shape}, {right.shape}"
            )
        if len(parts) == 3:
            lengths = _real_numbers(parts[1], "singular values")
            if lengths.shape != (left.shape[1],):
                raise InvalidProblemError(f"x0 must have {left.shape[1]} singular values; got shape {lengths.shape}")
            left = left * lengths
        if not (np.isfinite(left).all() and np.isfinite(right).all()):
            raise InvalidProblemError("x0 must be finite")
        U, s, V = _canonical(self.problem.row_scale[:, None] * left, self.problem.col_scale[:, None] * right)
        kept = min(self.problem.rank, int(np.sum(s > 1e-14 * max(s[0], np.finfo(float).tiny))) if len(s) else 0)
        return Factors(self.work.take(U[:, :kept]), s[:kept], self.work.take(V[:, :kept]))

    def conclude(self) -> CompletionResult:
        """Examine uniqueness where nothing else speaks for the answer, and package."""
        if self.problem.reg == 0.0:
            self.determination = self._examined()
        else:
            self.determination = Determination(None, "with a penalty the gap speaks for the answer")
        self._finished = True
        result = self.monitor.result()
        assert isinstance(result, CompletionResult)
        return result

    def _examined(self) -> Determination:
        rank, size, shape = self.problem.rank, self.problem.size, self.problem.shape
        counted = by_counting(shape, self.problem.row_counts, self.problem.col_counts, rank)
        if counted is not None:
            return counted
        if not affordable(shape, size, rank):
            return Determination(None, "the tangent system is too large to be examined")
        if not self.monitor.affords(3e-8 * size * rank * 40):
            return Determination(None, TOO_LATE)
        side = self.structure()
        counted = by_counting(shape, side.counts, np.bincount(side.indices, minlength=shape[1]), rank)
        if counted is not None:
            return counted
        factors: Factors = self.monitor.x
        fits = self.misfit(*self.plain(factors))[0] <= FITTED * self.problem.typical
        gap = 0.0
        if factors.rank == rank and factors.s[-1] > 1e-12 * factors.s[0]:
            at_home = Factors(self.work.host(factors.U), factors.s, self.work.host(factors.V))
            gap = tangent_gap(side, at_home, np.random.default_rng(0))
        elif self.monitor.status in LIMITS and not fits:
            return Determination(None, "the run ended before it reached its rank")
        stationary = self.monitor.status in (Status.OPTIMAL, Status.CONVERGED)
        return at_answer(gap, fits=fits, stationary=stationary)

    def _package(self, monitor: Monitor) -> CompletionResult:
        problem = self.problem
        left, right = self.plain(monitor.x)
        U, s, V = _padded(*_canonical(left, right), problem.rank)
        monitor.fun, error = self.objective(U * s, V)
        monitor.fun_slack = max(monitor.fun_slack, error)
        rmse, outliers = self.misfit(U * s, V)
        held, truth = self.held_out()
        fields = monitor.fields() | {"x": (U, s, V)}
        result = CompletionResult(
            **fields,
            U=U,
            s=s,
            V=V,
            row_bias=problem.row_bias,
            col_bias=problem.col_bias,
            row_shrinkage=problem.row_shrinkage,
            delta=self.delta,
            rmse=rmse,
            holdout_index=held,
            holdout_rmse=math.nan,
            determined=self.determination.claim,
            determination=self.determination.reason,
            tangent_gap=self.determination.gap,
            outliers=outliers,
            short_rows=_short(problem.row_counts, problem.rank),
            short_cols=_short(problem.col_counts, problem.rank),
        )
        if len(held):
            misses = truth - result.predict(held[:, 0], held[:, 1])
            result["holdout_rmse"] = math.sqrt(float(np.mean(misses**2)))
        if self._finished:
            self._judge(result)
        if self.device is not None and not self.device.copies_home:
            for name in ARRAYS:
                result[name] = self.device.take(result[name])
            result["x"] = result.U, result.s, result.V
        return result

    def _judge(self, result: CompletionResult) -> None:
        """A good fit that the data do not determine is no completion: the status says so."""
        problem = self.problem
        reason, verdict = "", self.determination
        if verdict.claim is False:
            reason = f"The observed entries do not determine a completion of this rank ({verdict.reason})"
        elif not verdict.unique:
            reason = f"Other matrices of this rank agree with the answer at every observed entry ({verdict.reason})"
        elif problem.reg == 0.0 and fails_held_out(problem, result):
            reason = f"The fit does not carry over: held-out RMSE {result.holdout_rmse:.3g}, fitted {result.rmse:.3g}"
        elif self.disputed:
            reason = self.disputed
        if verdict.reason == TOO_LATE and result.success:
            result["status"], result["success"] = Status.TIME_LIMIT, False
            result["message"] = "The time limit left no time to examine whether the data determine the answer."
        if reason and result.status in (Status.TIME_LIMIT, Status.CALLBACK_STOP):
            result["message"] = f"{result.message} {reason}."
        elif reason:
            # More sweeps would not help: the iteration limit is no longer the point.
            result["status"] = Status.STALLED
            result["success"] = False
            result["message"] = reason + "; lower the rank, or add reg or observations."


def _real_numbers(value: Any, what: str) -> FloatArray:
    """A part of x0 on the host."""
    expected = f"x0 must have {what} in one array of real numbers in the range of float64"
    if kind_of(value) == "sparse":
        raise InvalidProblemError(f"{expected}; got a {type(value).__name__}")
    try:
        array = np.asarray(to_host(value))
        if array.dtype.kind in "biufO":
            return array.astype(np.float64)
    except (OverflowError, TypeError, ValueError) as error:
        raise InvalidProblemError(f"{expected}; got {reprlib.repr(value)} ({error})") from None
    raise InvalidProblemError(f"{expected}; got dtype {array.dtype}")


def _canonical(left: FloatArray, right: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Singular value decomposition of left rightᵀ; the largest entry of each column of U is positive."""
    if left.shape[1] == 0:
        return left, np.zeros(0), right
    q1, r1 = np.linalg.qr(left)
    q2, r2 = np.linalg.qr(right)
    u, s, vt = scipy.linalg.svd(r1 @ r2.T, check_finite=False)
    k = len(s)
    U, V = q1 @ u[:, :k], q2 @ vt.T[:, :k]
    sign = np.where(np.take_along_axis(U, np.argmax(np.abs(U), axis=0)[None, :], axis=0)[0] < 0, -1.0, 1.0)
    return np.ascontiguousarray(U * sign), s, np.ascontiguousarray(V * sign)


def _padded(U: FloatArray, s: FloatArray, V: FloatArray, rank: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Orthonormal columns added to reach the rank, with singular values zero."""
    missing = rank - len(s)
    if missing <= 0:
        return U, s, V
    return _extended(U, missing), np.concatenate([s, np.zeros(missing)]), _extended(V, missing)


def _extended(basis: FloatArray, missing: int) -> FloatArray:
    fresh = np.random.default_rng(0).standard_normal((len(basis), missing))
    for _ in range(2):
        fresh = np.linalg.qr(fresh - basis @ (basis.T @ fresh))[0]
    return np.hstack([basis, fresh])


def _short(counts: IntArray, rank: int) -> IntArray:
    return np.flatnonzero(counts < rank).astype(np.int64)
