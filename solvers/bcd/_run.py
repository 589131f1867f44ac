"""One run of a method: the problem, the monitor, and how points become answers and proofs."""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse

from solvers._core.arrays import Array, FloatArray
from solvers._core.monitor import Monitor
from solvers._core.options import Common
from solvers._core.result import Status
from solvers.bcd._loss import LinearLoss
from solvers.bcd._penalties import SeparableTerm
from solvers.bcd._problem import Composite, DualView
from solvers.bcd._quadratic import Quadratic
from solvers.bcd._result import BCDResult

__all__ = ["Run", "comparison_weights"]

# f below minus this many times the size of the problem is taken as a sign that it has no minimum.
RUNAWAY = 1e12


class Run:
    """State that the engines share.

    Attributes
    ----------
    problem : Composite
    monitor : Monitor
        Its ``x`` is the best point, flat, intercepts last.
    weights : (size,) array or None
        Proof of definiteness for quadratics, see :mod:`solvers.bcd._certificate`.
    latest : float
        Objective of the point certified last.
    """

    def __init__(self, problem: Composite, common: Common, *, method: str, max_iter: int, backend: str) -> None:
        self.problem = problem
        self.weights: FloatArray | None = None
        self.latest = math.inf
        # The best point and the gradient there, where a certificate gave it.
        self._gradient: tuple[FloatArray, FloatArray] | None = None
        self._weights_known = False
        x = problem.term.start()
        z = problem.loss.image(x)
        # Any x with a lower objective carries no larger rounding error than a few times the start's.
        slack = 4 * problem.objective_error(x, z) + 1e-12 * problem.scale
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

    def certify_linear(self, x: FloatArray, z: Array, proposal: Array | None = None) -> DualView:
        """Offer a point and the bound of the dual point of its scores (or of a proposal); returns what its product shows."""
        fun = self.latest = self.problem.objective(x, z)
        if math.isnan(fun):
            self.monitor.finish(Status.NUMERICAL_ERROR)
        bound, certificate, view = self.problem.linear_bound(x, z, proposal)
        point = x.copy()
        if self.monitor.incumbent(point, fun):
            self._gradient = (point, view.gradient) if view.exact and proposal is None else None
        self.monitor.prove(bound.published, certificate)
        return view

    def settle(self) -> None:
        """Hold the bound against the final point where it rests on radii, which depend on the objective attained.

        A later point may have a lower objective and a larger rounding error than the one that the bound was found at.
        """
        problem, monitor = self.problem, self.monitor
        if not isinstance(problem.loss, LinearLoss) or problem.term.bounded:
            return
        final = problem.rebound(monitor.certificate, monitor.x, problem.loss.image(monitor.x))
        if final.reestablished < monitor.bound:
            monitor.bound = max(final.published, 0.0)
            if monitor.status is Status.OPTIMAL and monitor.gap > monitor.common.tol:
                monitor.status = Status.CONVERGED

    def definiteness(self) -> FloatArray | None:
        """w > 0 that proves a quadratic positive definite, computed once and only where it is needed."""
        if not self._weights_known:
            self._weights_known = True
            loss, term = self.problem.loss, self.problem.term
            # Finite bounds on every coordinate already bound what a plane may miss.
            boxed = isinstance(term, SeparableTerm) and bool(np.all(np.isfinite(term.lower) & np.isfinite(term.upper)))
            if isinstance(loss, Quadratic) and loss.sparse is not None and not boxed and not loss.curvature > 0:
                self.weights = comparison_weights(loss)
        return self.weights

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
        x = flat[:count].reshape(loss.shape)
        tail = flat[count:]
        intercept = 0.0 if len(tail) == 0 else float(tail[0]) if len(tail) == 1 else tail.copy()
        fields = monitor.fields() | {"x": x.copy()}
        if self._gradient is not None and self._gradient[0] is flat:
            kkt = float(np.max(self.problem.term.distance(flat, self._gradient[1])))
        else:
            kkt = self.problem.kkt(flat, loss.image(flat))
        return BCDResult(**fields, support=np.flatnonzero(flat[:count]), intercept=intercept, kkt=kkt)


def comparison_weights(loss: Quadratic) -> FloatArray | None:
    """About (2 diag Q - |Q|)^{-1} 1 by conjugate gradients; the certificate checks what comes out."""
    graph, diagonal = loss.graph, loss.lipschitz
    if np.any(diagonal <= 0):
        return None
    negated = scipy.sparse.csr_array((-np.abs(graph.data), graph.indices, graph.indptr), shape=graph.shape)
    comparison = negated + scipy.sparse.diags_array(2.0 * diagonal, format="csr")
    return _positive_solution(comparison, diagonal)


def _positive_solution(matrix: scipy.sparse.csr_array, diagonal: FloatArray) -> FloatArray | None:
    """w > 0 with M w > 0, by Jacobi-preconditioned conjugate gradients on M w = 1; None where M is not definite."""
    w = np.zeros(len(diagonal))
    r = np.ones(len(diagonal))
    y = r / diagonal
    p, rho = y.copy(), float(r @ y)
    for _ in range(4 * len(diagonal) + 20):
        image = matrix @ p
        curvature = float(p @ image)
        if not curvature > 0:
            return None
        w += (rho / curvature) * p
        r -= (rho / curvature) * image
        # M w = 1 - r is positive where the residual stays below one.
        if np.max(r) < 0.9 and np.all(w > 0) and np.all(matrix @ w > 0):
            return w
        y = r / diagonal
        rho, before = float(r @ y), rho
        if rho <= 1e-30 * len(diagonal):
            return w if np.all(w > 0) and np.all(matrix @ w > 0) else None
        p = y + (rho / before) * p
    return None
