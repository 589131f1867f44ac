r"""Rigorous lower bounds on min f + phi, from any dual point.

For a linear model f(x) = sum_i w_i l_i(a_i^T x) and **every** theta where l*(-theta) is finite, Fenchel's inequality gives

    f(x) + phi(x)  >=  sum_i w_i (-l_i*(-theta_i)) - phi*(q) - sum_j e_j |x_j|,    q = A^T W theta,          (1)

where e_j >= 0 is how far q lies outside the domain of phi*. Losses and penalties are non-negative, so a minimiser has
phi(x) <= F for any attained F, which bounds |x_j| by a radius R_j; the last sum is charged as sum e_j R_j. A theta that
violates penalised coordinates is scaled down first, which costs less.

Quadratics have a certificate of their own, :mod:`solvers.bcd._quadratic_certificate`.

Every function returns the value and a bound e on its rounding error. A published bound is reduced by **three times** that error
and verification subtracts it once: the value published may lie e above the true one and a correct recomputation elsewhere e
below, less e again for its own proof, so that every recomputation re-establishes the claim. Nothing here is
used by the iterations except what they read from its answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.linalg

from solvers._core.arrays import Array, FloatArray, IntArray, to_host
from solvers._core.linalg import UNIT
from solvers.bcd._loss import LinearLoss
from solvers.bcd._losses import LeastSquares, Logistic, Softmax
from solvers.bcd._separable_term import SeparableTerm
from solvers.bcd._term import Term

__all__ = ["UNDERFLOW", "LinearCertifier", "LowerBound"]

# Unpenalised columns whose singular values are worth computing: entries times columns.
RADIUS_WORK = 2e9
# Below this, products may underflow and the relative error model fails.
UNDERFLOW = 1e-290
# The spacing of subnormal numbers.
SUBNORMAL = 2.0**-1074


@dataclass(frozen=True)
class LowerBound:
    """A value of (1) with a bound on its rounding error."""

    value: float
    error: float

    @property
    def published(self) -> float:
        """What a result claims."""
        return self.value - 3.0 * self.error

    @property
    def reestablished(self) -> float:
        """What verification proves."""
        return self.value - self.error


@dataclass(frozen=True)
class Evaluation:
    """The bound of a dual point, the point as scaled, and A^T W theta of it, for those who want to screen with it.

    ``beside`` is A^T W v of another vector that came along, where there was one.
    """

    bound: LowerBound
    theta: Array
    q: FloatArray
    scale: float
    beside: FloatArray | None = None


class LinearCertifier:
    """Evaluates (1) for one loss and penalty."""

    def __init__(self, loss: LinearLoss, term: Term) -> None:
        self.loss = loss
        self.term = term
        xp = loss.xp
        self._root = None if loss.weights is None else xp.sqrt(loss.weights)
        k = loss.n_outputs
        counts = np.maximum(loss.design.counts, 1.0)
        lengths = np.sqrt(loss.column_norms * (1 + 4 * UNIT * (counts + 8))) + UNDERFLOW**0.5
        self._lengths = lengths if k == 1 else np.repeat(lengths, k)
        # Rounding of a distribution's entries and of their sum, for duals that must sum to one.
        self._drift = (k + 8) * UNIT * math.sqrt(loss.total_weight) if isinstance(loss, Softmax) else 0.0
        relative = 1.01 * UNIT * lengths * (counts + (8 if loss.device is None else 24))
        self._relative_error = relative if k == 1 else np.repeat(relative, k)
        # W theta and a scaled theta may round below the range, each entry by SUBNORMAL at most.
        fallen = math.sqrt(loss.total_weight) * float(np.max(lengths))
        if loss.weights is not None:
            fallen += math.sqrt(loss.design.n) * (float(np.max(loss.design.squared_norms)) ** 0.5 + UNDERFLOW**0.5)
        self._floor = UNDERFLOW + 2 * SUBNORMAL * fallen

    # -- proposing -----------------------------------------------------------------------------------------------

    def propose(self, slopes: Array) -> tuple[Array, float, bool]:
        """A dual point near a multiple of the slopes that suits the unpenalised coordinates; nothing is claimed about it.

        Returns it, the multiple, and whether it is exactly that multiple of the slopes.
        """
        loss = self.loss
        theta = loss.project_dual(slopes)
        exact = True
        if math.isfinite(loss.residual_radius(1.0)):
            if self._free_basis is not None:
                theta, exact = self._orthogonal(theta, self._free_basis), False
            if isinstance(loss, LeastSquares) and self._cone:
                multiple = self._best_multiple(theta)
                return theta * multiple, multiple, exact
        elif isinstance(loss, Logistic) and loss.n_free:
            theta, exact = self._balanced(theta), False
        return theta, 1.0, exact

    def _orthogonal(self, theta: Array, basis: Array) -> Array:
        """Less its part along the unpenalised columns, scaled back into the domain of the loss's dual."""
        loss, xp = self.loss, self.loss.xp
        v = theta if self._root is None else self._root * theta
        for _ in range(2):
            v = v - basis @ (basis.T @ v)
        if self._root is not None:
            v = xp.where(self._root > 0, v / xp.where(self._root > 0, self._root, 1.0), 0.0 * v)
        most, allowed = float(xp.max(xp.abs(v))), float(xp.max(xp.abs(loss.project_dual(v))))
        return v * (allowed / most) if most > allowed > 0 else v

    @cached_property
    def _tiny(self) -> bool:
        """Whether some lam is so small that the floor of the error of q counts beside it."""
        lam = getattr(self.term, "lam", np.zeros(0))
        return bool(np.any((lam > 0) & (lam < 1e20 * self._floor)))

    @cached_property
    def _cone(self) -> bool:
        """Whether phi* is an indicator, so that multiples of a feasible dual point differ only in the loss."""
        return isinstance(self.term, SeparableTerm) and (
            self.term.plain
            or not (
                np.any(self.term.l2)
                or np.any(np.isfinite(self.term.upper))
                or np.any(np.isfinite(self.term.lower) & (self.term.lower != 0))
            )
        )

    def _best_multiple(self, theta: Array) -> float:
        """s that maximises the dual value b^T s theta - |s theta|^2 / 2; evaluation scales back into the domain."""
        loss = self.loss
        assert isinstance(loss, LeastSquares)
        square = float(loss.xp.sum(loss.weighted(theta * theta)))
        linear = float(loss.xp.sum(loss.weighted(loss.b * theta)))
        return linear / square if square > 0 and linear > 0 else 1.0

    def _balanced(self, theta: Array) -> Array:
        """Shrink the heavier class until the weighted sum of theta vanishes."""
        loss = self.loss
        assert isinstance(loss, Logistic)
        xp = loss.xp
        zero = xp.zeros_like(theta)
        up = float(xp.sum(loss.weighted(xp.where(theta > 0, theta, zero))))
        down = -float(xp.sum(loss.weighted(xp.where(theta < 0, theta, zero))))
        if not (up > 0 and down > 0):
            return zero
        return xp.where(theta > 0, theta * min(1.0, down / up), theta * min(1.0, up / down))

    # -- evaluating ----------------------------------------------------------------------------------------------

    def evaluate(
        self, theta: Array, level: Callable[[], float], *, margin: float = 1.0, along: Array | None = None
    ) -> Evaluation:
        """(1) for a dual point, given an attained objective F <= ``level()``, asked for only where radii are needed.

        Before a bound is published, a ``margin`` of 3 scales theta so far into the domain that a later recomputation of q,
        off by its error, does not have to scale again. The matrix is read once for theta and the vector ``along``.
        """
        loss, xp = self.loss, self.loss.xp
        theta = loss.project_dual(theta)
        beside = None
        if along is None:
            adjoint = to_host(loss.design.adjoint(loss.weighted(theta))).reshape(-1)
        else:
            adjoint, beside = (
                to_host(part) for part in loss.design.adjoint_pair(loss.weighted(theta), loss.weighted(along))
            )
        length = self._length(theta)
        error = self._q_error(length)
        scale = self.term.shrink(adjoint, margin * error)
        if scale < 1.0:
            theta, adjoint, length = scale * theta, scale * adjoint, scale * length
            error = np.maximum(scale * error, self._floor)
            if margin > 1.0 and self._tiny and self.term.shrink(adjoint, self._q_error(length)) < 1.0:
                # Where lam is of the size of underflow, a recomputation would have to scale again, and again.
                return Evaluation(self.trivial(), 0.0 * theta, adjoint, scale, beside)
        conjugate = self.term.conjugate(adjoint, error)
        values, sizes = loss.dual_terms(theta)
        total, size = float(xp.sum(loss.weighted(values))), float(xp.sum(loss.weighted(sizes)))
        charge, doubt = self._charge(conjugate.excess, error, level)
        rows = 64 if loss.device is None else 64 + loss.design.n
        # The last term: products of one row may underflow before the weight multiplies them.
        slack = UNIT * rows * (size + conjugate.magnitude) + doubt + 8 * SUBNORMAL * loss.total_weight
        value = total - conjugate.value - charge
        if not math.isfinite(value):
            return Evaluation(self.trivial(), 0.0 * theta, adjoint, scale, beside)
        # Below, sums no longer round relatively; a bound published keeps clear of where its recomputation is refused.
        if value - slack < (UNDERFLOW if margin == 1.0 else 4 * UNDERFLOW):
            return Evaluation(self.trivial(), theta, adjoint, scale, beside)
        return Evaluation(LowerBound(value, slack), theta, adjoint, scale, beside)

    @staticmethod
    def trivial() -> LowerBound:
        """Losses and penalties are non-negative."""
        return LowerBound(0.0, 0.0)

    def _length(self, theta: Array) -> float:
        """|sqrt(w) theta|, rounded up; the largest over outputs. Scaled, because squares may fall out of the range."""
        xp = self.loss.xp
        rooted = theta if self._root is None else (self._root if theta.ndim == 1 else self._root[:, None]) * theta
        most = float(xp.max(xp.abs(rooted)))
        if not 0.0 < most < math.inf:
            return most * math.sqrt(self.loss.design.n) + UNDERFLOW
        rooted = rooted / most
        total = float(xp.max(xp.sum(rooted * rooted, axis=0)))
        return most * math.sqrt(total) * (1 + 4 * UNIT * (self.loss.design.n + 8)) + UNDERFLOW

    def _q_error(self, length: float) -> FloatArray:
        """Rounding of A^T W theta, by Cauchy-Schwarz; room for one later scaling of theta."""
        error: FloatArray = self._relative_error * length + self._floor
        return error + 1.01 * self._drift * self._lengths if self._drift else error

    def _charge(self, excess: FloatArray, error: FloatArray, level: Callable[[], float]) -> tuple[float, float]:
        """The last sum of (1), and how much a recomputation of q may change it."""
        charged = excess > 0
        if not np.any(charged):
            return 0.0, 0.0
        attained = level()
        if not math.isfinite(attained):
            return math.inf, 0.0
        radius = self.radius(attained)[charged]
        charge = float(np.sum(excess[charged] * radius)) * (1 + 1e-12)
        return charge, 2.0 * float(np.sum(error[charged] * radius)) + 1e-9 * charge

    # -- radii ---------------------------------------------------------------------------------------------------

    def radius(self, level: float) -> FloatArray:
        """Bounds R_j on |x_j| at some minimiser, given an attained objective; inf where none is known."""
        level = max(level, 0.0)
        radius = self.term.radius(level)
        free = np.flatnonzero(np.isinf(radius))
        if len(free) == 0:
            return radius
        loss = self.loss
        tail = math.prod(loss.shape)
        reach = self._reach(radius, level)
        residual = loss.residual_radius(level)
        if math.isfinite(residual):
            b = to_host(loss.b)  # type: ignore[attr-defined]
            weights = np.ones(len(b)) if loss.weights is None else to_host(loss.weights)
            length = residual + float(np.linalg.norm(np.sqrt(weights) * b)) + reach
            radius[free] = self._inverse_lengths(free) * length * (1 + 1e-9)
        elif free[0] >= tail:
            radius[free] = loss.intercept_radius(level, reach) * (1 + 1e-9)
        return radius

    def _reach(self, radius: FloatArray, level: float) -> float:
        """Bound on |sqrt(w) A_1 x_1| and on |a_i^T x_1| over the coordinates with a radius."""
        bounded = np.isfinite(radius)
        plain = np.repeat(np.sqrt(self.loss.design.squared_norms), self.loss.n_outputs)
        lengths = np.maximum(self._lengths, plain)
        if isinstance(self.term, SeparableTerm):
            lam = self.term.lam
            by_lam = bounded & (lam > 0)
            reach = level * float(np.max(lengths[by_lam] / lam[by_lam], initial=0.0))
            bounded = bounded & ~by_lam
        else:
            reach = 0.0
        return (reach + float(np.sum(lengths[bounded] * radius[bounded]))) * (1 + 1e-9)

    def _inverse_lengths(self, free: IntArray) -> FloatArray:
        """r_j with |x_j| <= r_j |sqrt(w) A_0 x|; inf where the columns A_0 are dependent or too many."""
        if isinstance(self.term, SeparableTerm) and self._one_signed(free):
            # Non-negative columns and coordinates cannot cancel.
            return np.asarray(1.0 / np.maximum(self._lengths[free] * (1 - 1e-9), UNDERFLOW**0.5))
        return np.full(len(free), self._inverse_least_singular(free))

    def _one_signed(self, free: IntArray) -> bool:
        assert isinstance(self.term, SeparableTerm)
        if np.any(self.term.lower[free] < 0) or np.any(self._lengths[free] <= 1e12 * UNDERFLOW**0.5):
            return False
        matrix = self.loss.design.matrix
        if self.loss.device is not None:
            return bool(self.loss.xp.min(matrix) >= 0)
        values: Any = matrix.data if hasattr(matrix, "indptr") else matrix
        return bool(np.min(values, initial=0.0) >= 0)

    def _inverse_least_singular(self, free: IntArray) -> float:
        columns = self._free_columns(free)
        if columns is None:
            return math.inf
        values = np.linalg.svd(columns, compute_uv=False)
        least = float(values[-1]) - 64 * UNIT * sum(columns.shape) * float(values[0])
        return 1.0 / least if least > 0 else math.inf

    def _free_columns(self, free: IntArray) -> FloatArray | None:
        """sqrt(W) A_0 on the host, or None where too large."""
        design = self.loss.design
        if len(free) > design.n or float(design.n) * len(free) ** 2 > RADIUS_WORK:
            return None
        columns = to_host(design.columns(free))
        return columns if self._root is None else columns * to_host(self._root)[:, None]

    @cached_property
    def _free_basis(self) -> Array | None:
        """Orthonormal basis of the columns that no penalty and no bound touches."""
        if isinstance(self.term, SeparableTerm):
            free = self.term.free
        else:
            free = np.flatnonzero(np.isinf(self.term.radius(1.0)))
        if len(free) == 0:
            return None
        columns = self._free_columns(free)
        return None if columns is None else self.loss.to_device(scipy.linalg.orth(columns))
