"""The one place that decides when a run ends, and that remembers the best of it."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from solvers._core.errors import CertificateError
from solvers._core.jit import compile_seconds
from solvers._core.options import Common
from solvers._core.result import History, Result, Sense, Status, relative_gap

__all__ = ["Monitor"]

# A residual that has not fallen by this fraction within the patience of ``stalled`` makes no progress.
STALL_PROGRESS = 1e-3
# Instead of the advice of CONVERGED where the bound is infinite or the trivial 0.
UNPROVED = "The method met its own test; its bound proves next to nothing about the objective."

COLUMNS = ("nit", "time", "fun", "bound", "gap", "residual")


class Monitor:
    """Keeps the best answer and the best proof of a run, and answers "go on?".

    Parameters
    ----------
    common : Common
        The validated shared keywords.
    sense : {"min", "max"}
    scale : float
        Size of the problem, for gaps of objectives near zero.
    max_iter : int
        The method's documented limit, used where the caller gave none.
    fun_slack : float
        Bound on the rounding error of a recomputed objective.
    method, backend : str
        What runs, for the result.
    package : callable
        Turns this monitor into the family's Result; used for the callback and at the end.
    """

    def __init__(
        self,
        common: Common,
        *,
        sense: Sense,
        scale: float,
        max_iter: int,
        package: Callable[[Monitor], Result],
        method: str,
        backend: str,
        fun_slack: float = 0.0,
    ) -> None:
        self.common = common
        self.sense: Sense = sense
        self.scale = scale
        self.max_iter = common.max_iter if common.max_iter is not None else max_iter
        self.fun_slack = fun_slack
        self.method = method
        self.backend = backend
        self.nit = 0
        self.x: Any = None
        self.fun = math.inf if sense == "min" else -math.inf
        self.bound = -self.fun
        self.certificate: Any = None
        self.status: Status | None = None
        self._message = ""
        self._package = package
        self._compiled_before = compile_seconds()
        self._rows: list[tuple[float, ...]] = []
        self._residual_best = math.inf
        self._residual_nit = 0
        self._header_printed = False

    # -- what a method reports ---------------------------------------------------------------------------------

    def incumbent(self, x: Any, fun: float) -> bool:
        """Offer an answer with its recomputed objective; True if it is the best so far."""
        better = self.x is None or (fun < self.fun if self.sense == "min" else fun > self.fun)
        if better:
            self.x, self.fun = x, fun
            self._settle()
        return better

    def prove(self, bound: float, certificate: Any) -> bool:
        """Offer a rigorous bound with its certificate; True if it is the strongest so far."""
        better = self.certificate is None or (bound > self.bound if self.sense == "min" else bound < self.bound)
        if better:
            self.bound, self.certificate = bound, certificate
            self._settle()
        return better

    def checkpoint(self, residual: float = math.nan) -> None:
        """Record progress, print a row, ask the callback."""
        row = (float(self.nit), self.time, self.fun, self.bound, self.gap, residual)
        if self.common.history:
            self._rows.append(row)
        if self.common.verbose == 2:
            self._print_row(row)
        if self.common.callback is not None and self.x is not None:
            try:
                stop = bool(self.common.callback(self._package(self)))
            except StopIteration:
                stop = True
            if stop:
                self.finish(Status.CALLBACK_STOP)

    def finish(self, status: Status, message: str = "") -> None:
        """End the run; the first reason given stands."""
        if self.status is None:
            self.status, self._message = status, message

    # -- what a method asks ------------------------------------------------------------------------------------

    def running(self) -> bool:
        """Whether to do another iteration; counts it."""
        if self.status is None and self.out_of_time():
            self.finish(Status.TIME_LIMIT)
        if self.status is None and self.nit >= self.max_iter:
            self.finish(Status.MAX_ITER)
        if self.status is not None:
            return False
        self.nit += 1
        return True

    def due(self, every: int, seconds: float = 0.0) -> bool:
        """Whether this iteration should pay for a certificate predicted to cost ``seconds``."""
        return (self.nit % every == 0 or self.nit == self.max_iter) and self.affords(seconds)

    def stalled(self, residual: float, patience: int) -> bool:
        """Whether the residual made no progress during the last ``patience`` iterations."""
        if residual < (1.0 - STALL_PROGRESS) * self._residual_best:
            self._residual_best, self._residual_nit = residual, self.nit
        return self.nit - self._residual_nit >= patience

    def out_of_time(self) -> bool:
        """Whether the time limit has passed."""
        return self.remaining <= 0.0

    def affords(self, seconds: float) -> bool:
        """Whether work predicted to take ``seconds`` fits into the time left."""
        return seconds < self.remaining

    @property
    def time(self) -> float:
        """Seconds since the call, compilation excluded."""
        compiling = compile_seconds() - self._compiled_before
        return max(0.0, time.perf_counter() - self.common.started - compiling)

    @property
    def remaining(self) -> float:
        """Seconds left."""
        return math.inf if self.common.time_limit is None else self.common.time_limit - self.time

    @property
    def gap(self) -> float:
        """Relative gap of the best answer and the best bound."""
        return max(0.0, relative_gap(self.fun, self._honest_bound(), self.sense, self.scale))

    # -- the end -----------------------------------------------------------------------------------------------

    def result(self) -> Result:
        """The family's Result of the finished run; prints the summary line of ``verbose=1``."""
        result = self._package(self)
        if self.common.verbose:
            self._print_summary(result)
        return result

    def fields(self) -> dict[str, Any]:
        """The common fields of the Result."""
        bound = self._honest_bound()
        gap = max(0.0, relative_gap(self.fun, bound, self.sense, self.scale))
        status = Status.OPTIMAL if self.x is not None and gap <= self.common.tol else self.status
        if status is None:
            status, message = Status.MAX_ITER, "in progress"
        else:
            message = self._message if self._message and status is self.status else status.advice
            if gap >= 1.0 and message == Status.CONVERGED.advice:
                message = UNPROVED
        return {
            "entry": self.common.entry,
            "x": self.x,
            "fun": float(self.fun),
            "bound": float(bound),
            "gap": float(gap),
            "sense": self.sense,
            "status": status,
            "success": status.success,
            "message": message,
            "nit": self.nit,
            "time": self.time,
            "backend": self.backend,
            "method": self.method,
            "certificate": self.certificate,
            "history": self._history(),
            "scale": float(self.scale),
            "tol": self.common.tol,
        }

    def _honest_bound(self) -> float:
        """The bound, which rounding of ``fun`` may place past it by no more than ``fun_slack``."""
        past = self.bound - self.fun if self.sense == "min" else self.fun - self.bound
        if self.x is None or not past > 0:
            return self.bound
        if past > self.fun_slack:
            raise CertificateError(
                f"{self.common.entry}: the bound {self.bound!r} contradicts the attained objective {self.fun!r}; "
                "this is a bug, please report it with the data"
            )
        return self.fun

    def _settle(self) -> None:
        if self.x is not None and self.gap <= self.common.tol:
            self.finish(Status.OPTIMAL)

    def _history(self) -> History | None:
        if not self.common.history:
            return None
        table = np.array(self._rows, dtype=np.float64).reshape(-1, len(COLUMNS))
        return History(*(np.ascontiguousarray(column) for column in table.T))

    def _print_row(self, row: tuple[float, ...]) -> None:
        if not self._header_printed:
            self._header_printed = True
            print("  ".join(f"{name:>12}" for name in COLUMNS), file=sys.stderr)
        print("  ".join([f"{row[0]:12.0f}", f"{row[1]:12.3f}", *(f"{v:12.5g}" for v in row[2:])]), file=sys.stderr)

    def _print_summary(self, result: Result) -> None:
        print(
            f"{result.entry}({result.method}, {result.backend}): {result.status.name} after {result.nit} iterations, "
            f"{result.time:.3f} s; fun {result.fun:.10g}, bound {result.bound:.10g}, gap {result.gap:.2e}",
            file=sys.stderr,
        )
