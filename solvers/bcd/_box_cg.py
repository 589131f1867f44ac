r"""Conjugate gradients between bounds, in plain array code: dense quadratics on any device, and singular sparse ones.

min x^T Q x / 2 - c^T x over l <= x <= u by modified proportioning with reduced gradient projections (Dostal, Optimal Quadratic
Programming Algorithms, 2009, algorithm 5.8), in variables scaled by the square root of the diagonal. Conjugate gradients run on
the coordinates away from their bounds. A step that would leave the box stops at its face and is followed by a projected
gradient step, which may add many coordinates to those held; where the held ones pull more than the others, they are released.
Without bounds this is Jacobi-preconditioned conjugate gradients.

Products with Q, and all vectors, stay where Q lives. Only scalars are read.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import scipy.sparse

from solvers._core.arrays import Array, FloatArray, to_host
from solvers._core.monitor import Monitor
from solvers._core.result import Status
from solvers.bcd._device_matrix import DeviceMatrix
from solvers.bcd._problem import Composite
from solvers.bcd._quadratic import Quadratic
from solvers.bcd._run import Run, shrink_wanted
from solvers.bcd._separable_term import SeparableTerm

__all__ = ["BoxCG", "solve_by_cg"]

# Most iterations between two looks at the gap.
ITERATIONS = 200
# Curvature along a direction below this share of the largest is taken for none, unless the gradient has vanished, too.
FLAT = 1e-13
VANISHED = 1e-10
# Diagonal entries whose reciprocal roots would leave float64's range in products.
LEAST_CURVATURE = 1e-200
# Held coordinates are released where their pull exceeds this multiple of the others' gradient.
PROPORTION = 1.0


class BoxCG:
    """State of one run.

    Attributes
    ----------
    unbounded : bool
        Whether a direction without curvature was found, along which F falls for ever.
    """

    def __init__(self, problem: Composite, x: FloatArray) -> None:
        loss, term = problem.loss, problem.term
        assert isinstance(loss, Quadratic)
        assert isinstance(term, SeparableTerm)
        self.xp: ModuleType = loss.xp
        self._matrix, self._device = loss.matrix, loss.device
        xp = self.xp
        self._l2 = self._there(term.l2)
        diagonal = self._there(loss.lipschitz) + self._l2
        self._scale, rows = self._scaling(diagonal)
        linear = self._there(term.lam)
        c = self._there(loss.host_c) - xp.where(self._there(term.lower) >= 0, linear, -linear)
        self._c = c * self._scale
        self._lower, self._upper = self._there(term.lower) / self._scale, self._there(term.upper) / self._scale
        self._y = self._there(x) / self._scale
        sizes = self._there(loss.row_sums) + self._l2
        # Gershgorin's discs of the scaled matrix, and of D^{-1} Q, which has the same eigenvalues.
        discs = min(float(xp.max(rows)), float(xp.max(sizes * self._scale * self._scale)))
        self._step = 1.0 / max(discs, FLAT)
        self._g = self._product(self._y) - self._c
        self._p: Array = None
        self._size = math.sqrt(float(xp.sum(self._c * self._c))) or 1.0
        self.unbounded = False

    def _there(self, values: FloatArray) -> Array:
        return self.xp.asarray(values) if self._device is None else self.xp.asarray(values, device=self._device)

    def _scaling(self, diagonal: Array) -> tuple[Array, Array]:
        """One over the roots of the diagonal, and the sums of the absolute rows of the matrix that it scales.

        Flat coordinates keep the scale of the others: those without curvature, and those whose curvature is rounding, as
        their rows show, which no semidefinite matrix scaled to a unit diagonal can have.
        """
        xp = self.xp
        size = int(diagonal.shape[0])
        most = float(xp.max(diagonal)) or 1.0
        flat = diagonal <= LEAST_CURVATURE
        for _ in range(2):
            scale = 1.0 / xp.sqrt(xp.where(flat, xp.full_like(diagonal, most), diagonal))
            rows = scale * (self._absolute(scale) + self._l2 * scale)
            flat = flat | ~(rows <= 2.0 * size)
        return scale, rows

    def _absolute(self, x: Array) -> Array:
        """|Q| x."""
        matrix = self._matrix
        if isinstance(matrix, DeviceMatrix):
            return matrix.absolute_product(x)
        sizes: Any = abs(matrix) if scipy.sparse.issparse(matrix) else self.xp.abs(matrix)  # type: ignore[arg-type]
        return sizes @ x

    def _product(self, y: Array) -> Array:
        x = y * self._scale
        return self._scale * (self._matrix @ x + self._l2 * x)

    def point(self) -> FloatArray:
        """The current x on the host, inside the box up to rounding."""
        return to_host(self._y * self._scale)

    def step(self, iterations: int, shrink: float, monitor: Monitor) -> None:
        """Iterate until the squared projected gradient has fallen by the factor, or time is over."""
        xp = self.xp
        first = -1.0
        for _ in range(iterations):
            if monitor.out_of_time():
                return
            inside = (self._y > self._lower) & (self._y < self._upper)
            zero = xp.zeros_like(self._g)
            free = xp.where(inside, self._g, zero)
            at_lower, at_upper = self._y <= self._lower, self._y >= self._upper
            held = xp.where(at_lower, xp.minimum(self._g, zero), zero) + xp.where(
                at_upper, xp.maximum(self._g, zero), zero
            )
            held = xp.where(at_lower & at_upper, zero, held)
            free_size, held_size = float(xp.sum(free * free)), float(xp.sum(held * held))
            residual = free_size + held_size
            first = residual if first < 0 else first
            if residual <= shrink * first or residual <= (1e-16 * self._size) ** 2 or self.unbounded:
                return
            if held_size <= PROPORTION**2 * free_size:
                self._p = free if self._p is None else self._p
                self._conjugate_step(free, inside)
            else:
                self._line_step(held)
                self._p = None

    def _conjugate_step(self, free: Array, inside: Array) -> None:
        """One conjugate gradient step on the free coordinates, or to the face and a projected gradient step."""
        xp = self.xp
        p = self._p
        image = self._product(p)
        curvature, slope = float(xp.sum(p * image)), float(xp.sum(self._g * p))
        reach = self._reach(p)
        length = self._length(p, curvature, slope)
        if math.isinf(length) and math.isinf(reach):
            self.unbounded = True
            return
        if length <= reach:
            self._y = self._y - length * p
            self._g = self._g - length * image
            kept = xp.where(inside, self._g, xp.zeros_like(self._g))
            self._p = kept - (float(xp.sum(kept * image)) / curvature) * p if curvature > 0 else None
            return
        y = xp.clip(self._y - reach * p, self._lower, self._upper)
        g = self._g - reach * image
        self._y = xp.clip(y - self._step * xp.where(inside, g, xp.zeros_like(g)), self._lower, self._upper)
        self._g = self._product(self._y) - self._c
        self._p = None

    def _line_step(self, p: Array) -> None:
        """Minimise along the pull of the held coordinates, as far as the box allows."""
        xp = self.xp
        image = self._product(p)
        length = self._length(p, float(xp.sum(p * image)), float(xp.sum(self._g * p)))
        reach = self._reach(p)
        if math.isinf(length) and math.isinf(reach):
            self.unbounded = True
            return
        self._y = xp.clip(self._y - min(length, reach) * p, self._lower, self._upper)
        self._g = self._product(self._y) - self._c

    def _length(self, p: Array, curvature: float, slope: float) -> float:
        """Distance to the minimum along -p; infinite where there is no curvature but a slope."""
        size = float(self.xp.sum(p * p))
        if curvature > FLAT * size:
            return slope / curvature
        return math.inf if slope > VANISHED * self._size * math.sqrt(size) else 0.0

    def _reach(self, p: Array) -> float:
        """How far -p may be followed inside the box."""
        xp = self.xp
        safe, endless = xp.where(p == 0, xp.ones_like(p), p), xp.full_like(p, math.inf)
        room = xp.where(p > 0, (self._y - self._lower) / safe, xp.where(p < 0, (self._y - self._upper) / safe, endless))
        return max(float(xp.min(room)), 0.0)


def solve_by_cg(run: Run, x: FloatArray) -> None:
    """Step and certify until proved, stalled or without a minimum."""
    problem, monitor = run.problem, run.monitor
    run.certify(x)
    solver = BoxCG(problem, x)
    while monitor.running():
        solver.step(ITERATIONS, shrink_wanted(monitor), monitor)
        x = problem.term.project(solver.point())
        run.certify(x)
        residual = problem.kkt(x, problem.loss.image(x)) if monitor.status is None else math.nan
        monitor.checkpoint(residual)
        if solver.unbounded:
            # Curvature that vanishes in the rounding of a direction may still be proved.
            monitor.finish(Status.UNBOUNDED if math.isinf(monitor.bound) else Status.STALLED)
        elif monitor.stalled(residual, 5):
            _settle(monitor, residual, problem)


def _settle(monitor: Monitor, residual: float, problem: Composite) -> None:
    loss = problem.loss
    assert isinstance(loss, Quadratic)
    small = residual <= 1e-9 * float(abs(loss.host_c).max())
    monitor.finish(Status.CONVERGED if small else Status.STALLED)
