"""One run of a method: the problem, the monitor, and how points become answers and proofs."""

from __future__ import annotations

import math

import numpy as np

from solvers._core.arrays import Array, FloatArray
from solvers._core.monitor import Monitor
from solvers._core.options import Common
from solvers._core.result import Status
from solvers.bcd._definiteness import needs_factors, propose_definiteness, seconds_of_factors
from solvers.bcd._loss import LinearLoss
from solvers.bcd._problem import Composite, DualView
from solvers.bcd._quadratic import Quadratic
from solvers.bcd._quadratic_certificate import Definiteness
from solvers.bcd._result import BCDResult

__all__ = ["Run", "shrink_wanted"]

# f below minus this many times the size of the problem is taken as a sign that it has no minimum.
RUNAWAY = 1e12
# The squared residual falls at most this far between two looks at the gap.
LEAST_SHRINK = 1e-8


class Run:
    """State that the engines share.

    Attributes
    ----------
    problem : Composite
    monitor : Monitor
        Its ``x`` is the best point, flat, intercepts last.
    latest : float
        Objective of the point certified last.
    """

    def __init__(self, problem: Composite, common: Common, *, method: str, max_iter: int, backend: str) -> None:
        self.problem = problem
        self._proof: Definiteness | None = None
        self.latest = math.inf
        # The best point and the gradient there, where a certificate gave it.
        self._gradient: tuple[FloatArray, FloatArray] | None = None
        # Any x with a lower objective carries no larger rounding error than a few times the start's.
        slack = 4 * problem.start_error + 1e-12 * problem.scale
        self.monitor = Monitor(
            common,
            sense="min",
            scale=problem.scale,
            max_iter=max_iter,
            fun_slack=slack,
            package=self._package,
            method=method,
            backend=backend,
        )

    def open(self, x: FloatArray) -> None:
        """Something valid from the first moment."""
        self.certify(x)

    def offer(self, x: FloatArray) -> None:
        """A point without a bound: one that is about to be improved by a cheap step."""
        fun = self.problem.objective(x, self.problem.loss.image(x)) if np.any(x) else self.problem.start_value
        self.monitor.incumbent(x.copy(), fun)

    def certify(self, x: FloatArray, theta: Array | None = None) -> None:
        """Offer a point and the bound of its dual point (or of ``theta``)."""
        z = self.problem.loss.image(x)
        fun = self.problem.objective(x, z)
        if math.isnan(fun):
            self.monitor.finish(Status.NUMERICAL_ERROR)
            return
        self.monitor.incumbent(x.copy(), fun)
        bound, certificate = self.problem.bound_at(x, z, self.definiteness(), theta)
        if certificate is not None:
            self.monitor.prove(bound.published, certificate)

    def certify_linear(self, x: FloatArray, z: Array, proposal: Array | None = None, *, last: bool = False) -> DualView:
        """Offer a point and the bound of the dual point of its scores (or of a proposal); returns what its product shows.

        ``last`` says that the run is likely to end here: then the result's gradient is found in the same pass.
        """
        fun = self.latest = self.problem.objective(x, z)
        if math.isnan(fun):
            self.monitor.finish(Status.NUMERICAL_ERROR)
        bound, certificate, view, gradient = self.problem.linear_bound(x, z, proposal, gradient=last)
        if proposal is None and view.exact:
            gradient = view.gradient
        point = x.copy()
        if self.monitor.incumbent(point, fun):
            self._gradient = None if gradient is None else (point, gradient)
        self.monitor.prove(bound.published, certificate)
        return view

    def settle(self) -> None:
        """Recompute the objective of the final point, and hold the bound against it where it rests on radii.

        Scores are carried along with the steps and drift. Radii depend on the objective attained: a later point may have a
        lower objective and a larger rounding error than the one that the bound was found at.
        """
        problem, monitor = self.problem, self.monitor
        if not isinstance(problem.loss, LinearLoss):
            return
        z = problem.loss.image(monitor.x)
        monitor.fun = problem.objective(monitor.x, z)
        if not problem.term.bounded:
            final = problem.rebound(monitor.certificate, monitor.x, z)
            if final.reestablished < monitor.bound:
                monitor.bound = max(final.published, 0.0)
        if monitor.status is Status.OPTIMAL and monitor.gap > monitor.common.tol:
            monitor.status = Status.CONVERGED

    def definiteness(self) -> Definiteness:
        """What proves a quadratic positive definite, found once."""
        if self._proof is None:
            loss = self.problem.loss
            self._proof = Definiteness()
            if isinstance(loss, Quadratic) and self._affords_proof(loss):
                self._proof = propose_definiteness(loss)
        return self._proof

    def _affords_proof(self, loss: Quadratic) -> bool:
        return not needs_factors(loss) or self.monitor.affords(seconds_of_factors(loss))

    def diverging(self) -> bool:
        """End the run as UNBOUNDED where the objective runs away and nothing is proved."""
        monitor = self.monitor
        if math.isinf(monitor.bound) and monitor.fun < -RUNAWAY * self.problem.scale:
            monitor.finish(Status.UNBOUNDED)
            return True
        return False

    def _package(self, monitor: Monitor) -> BCDResult:
        loss = self.problem.loss
        flat: FloatArray = monitor.x
        count = math.prod(loss.shape)
        tail = flat[count:]
        intercept = 0.0 if len(tail) == 0 else float(tail[0]) if len(tail) == 1 else self._home(tail.copy())
        fields = monitor.fields() | {"x": self._home(flat[:count].reshape(loss.shape).copy())}
        if self._gradient is not None and self._gradient[0] is flat:
            kkt = float(np.max(self.problem.term.distance(flat, self._gradient[1])))
        else:
            kkt = self.problem.kkt(flat, loss.image(flat))
        return BCDResult(**fields, support=self._home(np.flatnonzero(flat[:count])), intercept=intercept, kkt=kkt)

    def _home(self, values: np.ndarray) -> Array:
        """A host array in the kind and on the device of the loss's data."""
        device = getattr(self.problem.loss, "device", None)
        return values if device is None else self.problem.loss.xp.asarray(values, device=device)  # type: ignore[attr-defined]


def shrink_wanted(monitor: Monitor, first: float = 0.1) -> float:
    """By how much the squared residual, which the gap follows, should fall before the next look.

    ``first`` multiplies the tolerance while no gap says how the residual compares.
    """
    gap, tol = monitor.gap, monitor.common.tol
    wanted = 0.3 * tol / gap if gap < 1.0 else first * tol
    return min(max(wanted, LEAST_SHRINK), 0.3)
