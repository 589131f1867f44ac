r"""How a chosen block moves, and the decrease each update guarantees.

lipschitz        prox step with L_b                               F falls by >= -V_b (no penalty: |g_b|^2 / (2 L_b))
line-search      the same with an L found by doubling             the same with that L
hessian          minimises the model with H_b                     >= its model decrease (>= g_b^T H_b^{-1} g_b / 2)
newton           minimises the model with the block's Hessian,    Armijo
                 then backtracks
exact            minimises over the block                         the most any step on b can
two-metric       bounds: Newton on free coordinates, scaled       Armijo along the projected arc
                 gradient on those held at a bound
message-passing  exact on a forest block of a quadratic, in       exact (with bounds: Armijo)
                 linear time
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from solvers._core.arrays import Array, FloatArray, IntArray
from solvers.bcd._forest_kernels import forest_direction
from solvers.bcd._kernels_numba import gram_descent
from solvers.bcd._problem import Composite, is_free
from solvers.bcd._quadratic import Quadratic
from solvers.bcd._rules import solve_psd
from solvers.bcd._separable_term import SeparableTerm

__all__ = ["UPDATES", "Updater"]

UPDATES = ("lipschitz", "line-search", "hessian", "newton", "exact", "two-metric", "message-passing")

ARMIJO = 1e-4
BACKTRACKS = 60
# Blocks up to this size get their exact largest eigenvalue as L_b.
EIGEN_SIZE = 600
INNER_EPOCHS = 2000
EXACT_STEPS = 50


@dataclass
class Updater:
    """Moves blocks of one problem; x and z change in place and by replacement.

    Attributes
    ----------
    problem : Composite
    x, z : arrays
        The point and its image.
    """

    problem: Composite
    x: FloatArray
    z: Array
    _estimates: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        self._estimates = np.full(self.problem.loss.size, 1.0)

    # -- the updates ---------------------------------------------------------------------------------------------

    def update(self, name: str, block: IntArray, g: FloatArray, hessian: FloatArray | None = None) -> None:
        """Move the block; ``g`` is its gradient and ``hessian``, where given, its bound H_b."""
        step = getattr(self, f"_{name.replace('-', '_')}")
        step(block, g, hessian)

    def refresh(self) -> None:
        """Recompute the image, which drifts by rounding."""
        self.z = self.problem.loss.image(self.x)

    def block_constant(self, block: IntArray, hessian: FloatArray | None = None) -> float:
        """L_b: the largest eigenvalue of H_b, or a bound on it."""
        loss = self.problem.loss
        if len(block) == 1:
            return float(loss.lipschitz[block[0]])
        if len(block) <= EIGEN_SIZE:
            bound = loss.block_bound(block) if hessian is None else hessian
            return float(np.linalg.eigvalsh(bound)[-1]) * (1 + 1e-10)
        return min(float(np.sum(loss.lipschitz[block])), float(np.max(loss.row_sums[block])))

    def _prox_step(self, block: IntArray, g: FloatArray, constant: float) -> tuple[FloatArray, float]:
        """The prox step with scalar curvature and its model decrease V <= 0."""
        term, x = self.problem.term, self.x[block]
        curvature = np.full(len(block), constant)
        p = term.prox(x - g / constant, curvature, block) - x
        change = float(np.sum(term.block_value(x + p, block) - term.block_value(x, block)))
        return p, float(g @ p) + 0.5 * constant * float(p @ p) + change

    def _lipschitz(self, block: IntArray, g: FloatArray, hessian: FloatArray | None) -> None:
        constant = self.block_constant(block, hessian)
        if constant > 0:
            self._move(block, self._prox_step(block, g, constant)[0])
        else:
            self._flat(block, g)

    def _flat(self, block: IntArray, g: FloatArray) -> None:
        """f is linear (constant, being bounded below) along the block: minimise the penalty."""
        curvature = np.full(len(block), np.finfo(float).tiny ** 0.5)
        self._move(block, self.problem.term.prox(self.x[block], curvature, block) - self.x[block])

    def _line_search(self, block: IntArray, g: FloatArray, hessian: FloatArray | None) -> None:
        # Half the last accepted value, so that estimates can fall as well as grow.
        constant = max(0.5 * float(np.max(self._estimates[block])), 1e-12)
        before = self.problem.objective(self.x, self.z)
        slack = 4 * np.finfo(float).eps * abs(before)
        for _ in range(200):
            p, change = self._prox_step(block, g, constant)
            z = self.problem.loss.moved(self.z, block, p)
            fresh = self.x.copy()
            fresh[block] += p
            if self.problem.objective(fresh, z) <= before + change + slack:
                self.x, self.z = fresh, z
                break
            constant *= 2.0
        self._estimates[block] = constant

    def _hessian(self, block: IntArray, g: FloatArray, hessian: FloatArray | None) -> None:
        bound = self.problem.loss.block_bound(block) if hessian is None else hessian
        self._move(block, self.model_step(block, g, bound))

    def _newton(self, block: IntArray, g: FloatArray, hessian: FloatArray | None) -> None:
        self._damped_newton(block, g)

    def _exact(self, block: IntArray, g: FloatArray, hessian: FloatArray | None) -> None:
        steps = 1 if isinstance(self.problem.loss, Quadratic) else EXACT_STEPS
        for _ in range(steps):
            if not self._damped_newton(block, g):
                break
            g = self.problem.loss.block_gradient(self.z, block)

    def _damped_newton(self, block: IntArray, g: FloatArray) -> bool:
        """One Newton step on the block with backtracking; False where it makes no progress."""
        loss, term = self.problem.loss, self.problem.term
        curved = loss.block_hessian(self.z, block)
        # Where the loss is nearly flat the bound keeps the step within reason.
        curved = curved + 1e-10 * np.diag(loss.lipschitz[block])
        p = self.model_step(block, g, curved)
        x = self.x[block]
        slope = float(g @ p) + float(np.sum(term.block_value(x + p, block) - term.block_value(x, block)))
        if not slope < 0:
            return False
        before = self.problem.objective(self.x, self.z)
        t = 1.0
        for _ in range(BACKTRACKS):
            fresh = self.x.copy()
            fresh[block] = term.project(self._spread(x + t * p, block))[block]
            z = loss.moved(self.z, block, fresh[block] - x)
            if self.problem.objective(fresh, z) <= before + ARMIJO * t * slope:
                self.x, self.z = fresh, z
                return -slope > 1e-15 * max(abs(before), self.problem.scale * 1e-6)
            t *= 0.5
        return False

    def _two_metric(self, block: IntArray, g: FloatArray, hessian: FloatArray | None) -> None:
        loss, term = self.problem.loss, self.problem.term
        assert isinstance(term, SeparableTerm)
        slope = self._bounded_slope(block, g)
        active = self._held(block, slope)
        curved = loss.block_hessian(self.z, block) + 1e-10 * np.diag(loss.lipschitz[block])
        curved = curved + np.diag(term.l2[block])
        p = -slope / np.maximum(self.problem.loss.lipschitz[block] * max(int(active.sum()), 1), 1e-300)
        free = ~active
        p[free] = -solve_psd(curved[np.ix_(free, free)], slope[free])
        self._project_search(block, slope, p, free)

    def _message_passing(self, block: IntArray, g: FloatArray, hessian: FloatArray | None) -> None:
        term = self.problem.term
        if is_free(term):
            d = self._forest_step(block, g)
            self._move(block, d)
            loss = self.problem.loss
            assert isinstance(loss, Quadratic)
            self.z[block] = loss.host_c[block]
            return
        slope = self._bounded_slope(block, g)
        active = self._held(block, slope)
        p = -slope / np.maximum(self.problem.loss.lipschitz[block] * max(int(active.sum()), 1), 1e-300)
        p[~active] = self._forest_step(block[~active], slope[~active])
        self._project_search(block, slope, p, ~active)

    # -- helpers -------------------------------------------------------------------------------------------------

    def model_step(self, block: IntArray, g: FloatArray, hessian: FloatArray) -> FloatArray:
        """argmin_d g^T d + d^T H d / 2 + phi_b(x_b + d)."""
        term, x = self.problem.term, self.x[block]
        if isinstance(term, SeparableTerm):
            if is_free(term):
                return -solve_psd(hessian, g)
            return self._separable_model_step(term, block, g, hessian)
        return self._prox_model_step(block, x, g, hessian)

    def _separable_model_step(
        self, term: SeparableTerm, block: IntArray, g: FloatArray, hessian: FloatArray
    ) -> FloatArray:
        """Coordinate descent, finished by one exact solve on the coordinates that ended away from kinks."""
        x = self.x[block]
        parts = (term.lam[block], term.l2[block], term.lower[block], term.upper[block])
        u, slope = x.copy(), g.copy()
        size = math.sqrt(float(np.max(np.abs(np.diagonal(hessian)), initial=0.0)))
        tolerance = 1e-12 * size * max(float(np.max(np.abs(x), initial=0.0)), 1e-12)
        gram_descent(np.ascontiguousarray(hessian), slope, u, *parts, INNER_EPOCHS, tolerance)
        moving = (u > parts[2]) & (u < parts[3]) & ((u != 0) | (parts[0] == 0)) & (np.diagonal(hessian) > 0)
        best, value = u - x, self._model_value(term, block, g, hessian, u - x)
        if np.any(moving):
            d = u - x
            rhs = (g + hessian @ d + parts[0] * np.sign(u) + parts[1] * u)[moving]
            finished = u.copy()
            finished[moving] -= solve_psd((hessian + np.diag(parts[1]))[np.ix_(moving, moving)], rhs)
            # Signs must not change: there the kink of |x| would be ignored.
            finished = np.where(finished * u < 0, 0.0, np.clip(finished, parts[2], parts[3]))
            if self._model_value(term, block, g, hessian, finished - x) < value:
                best = finished - x
        return best

    def _model_value(
        self, term: SeparableTerm, block: IntArray, g: FloatArray, hessian: FloatArray, d: FloatArray
    ) -> float:
        x = self.x[block]
        change = float(np.sum(term.block_value(x + d, block) - term.block_value(x, block)))
        return float(g @ d) + 0.5 * float(d @ (hessian @ d)) + change

    def _prox_model_step(self, block: IntArray, x: FloatArray, g: FloatArray, hessian: FloatArray) -> FloatArray:
        """Accelerated prox gradient on the model, restarted where the momentum turns uphill."""
        term = self.problem.term
        constant = max(float(np.linalg.eigvalsh(hessian)[-1]) * (1 + 1e-10), 1e-300)
        curvature = np.full(len(block), constant)
        d = momentum = np.zeros_like(x)
        t = 1.0
        for _ in range(INNER_EPOCHS):
            slope = g + hessian @ momentum
            fresh = term.prox(x + momentum - slope / constant, curvature, block) - x
            if float((momentum - fresh) @ (fresh - d)) > 0:
                t = 1.0
            after = 0.5 * (1.0 + math.sqrt(1.0 + 4.0 * t * t))
            moved = float(np.max(np.abs(fresh - d), initial=0.0))
            momentum = fresh + ((t - 1.0) / after) * (fresh - d)
            d, t = fresh, after
            if moved <= 1e-12 * float(np.max(np.abs(x + d), initial=0.0)):
                break
        return d

    def _move(self, block: IntArray, d: FloatArray) -> None:
        self.z = self.problem.loss.moved(self.z, block, d)
        # x + (u - x) may round to just outside a bound that u meets.
        self.x = np.array(self.problem.term.project(self._spread(self.x[block] + d, block)))

    def _spread(self, values: FloatArray, block: IntArray) -> FloatArray:
        full = self.x.copy()
        full[block] = values
        return full

    def _bounded_slope(self, block: IntArray, g: FloatArray) -> FloatArray:
        """Gradient including the penalty, smooth between the bounds."""
        term = self.problem.term
        assert isinstance(term, SeparableTerm)
        return np.asarray(g + term.lam[block] + term.l2[block] * self.x[block])

    def _held(self, block: IntArray, slope: FloatArray) -> np.ndarray:
        """Coordinates near a bound towards which the gradient pushes; near shrinks with the residual (Bertsekas 1982)."""
        term, x = self.problem.term, self.x[block]
        assert isinstance(term, SeparableTerm)
        lower, upper = term.lower[block], term.upper[block]
        scale = np.maximum(self.problem.loss.lipschitz[block], 1e-300)
        residual = float(np.max(np.abs(x - np.clip(x - slope / scale, lower, upper)), initial=0.0))
        near = min(1e-4, residual)
        return ((x <= lower + near) & (slope > 0)) | ((x >= upper - near) & (slope < 0))

    def _project_search(self, block: IntArray, slope: FloatArray, p: FloatArray, free: np.ndarray) -> None:
        """Backtrack along Proj(x + t p); the decrease asked for is Bertsekas's, in the metric of each part."""
        problem = self.problem
        x = self.x[block]
        before = problem.objective(self.x, self.z)
        newton = -float(slope[free] @ p[free])
        t = 1.0
        for _ in range(BACKTRACKS):
            fresh = problem.term.project(self._spread(x + t * p, block))
            d = fresh[block] - x
            asked = ARMIJO * (t * newton - float(slope[~free] @ d[~free]))
            z = problem.loss.moved(self.z, block, d)
            if problem.objective(fresh, z) <= before - asked:
                self.x, self.z = fresh, z
                return
            t *= 0.5

    def _forest_step(self, block: IntArray, g: FloatArray) -> FloatArray:
        """-A_bb^{-1} g_b by leaf elimination, with the penalty's squares on the diagonal."""
        loss = self.problem.loss
        assert isinstance(loss, Quadratic)
        n = loss.size
        inside = np.zeros(n, dtype=np.int64)
        inside[block] = 1
        full, d = np.zeros(n), np.zeros(n)
        full[block] = g
        graph = loss.graph
        work = [np.empty(n, dtype=np.int64) for _ in range(3)]
        floats = [np.empty(n) for _ in range(2)]
        indices, indptr = graph.indices.astype(np.int64), graph.indptr.astype(np.int64)
        forest_direction(
            np.asarray(graph.data), indices, indptr, inside, full, d, work[0], work[1], floats[0], floats[1], work[2]
        )
        return d[block]
