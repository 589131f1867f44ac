"""One composite problem min f + phi, after validation, and how its bound is obtained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from solvers._core.arrays import Array, FloatArray, to_host
from solvers._core.errors import InvalidProblemError
from solvers._core.jit import njit
from solvers.bcd._certificate import LinearCertifier, LowerBound
from solvers.bcd._loss import LinearLoss, Loss
from solvers.bcd._penalties import Penalty
from solvers.bcd._quadratic import Quadratic
from solvers.bcd._quadratic_certificate import Definiteness, QuadraticCertifier
from solvers.bcd._result import Certificate, DualCertificate, PointCertificate
from solvers.bcd._separable_term import SeparableTerm, free_term
from solvers.bcd._term import Term

__all__ = ["Composite", "DualView", "composite", "is_free"]


LEVEL_MARGIN = 4.0
# Of the columns of A, for their squares and products with scores to stay in float64.
LARGEST_NORM = 1e120


@dataclass(frozen=True)
class DualView:
    """What the product with a dual point theta shows to those who choose coordinates.

    Attributes
    ----------
    value : float
        The dual value.
    q : (size,) array
        A^T W theta.
    gradient : (size,) array
        Minus A^T W theta before it was scaled into its domain: the gradient at the scores, or near it.
    exact : bool
        Whether it is the gradient at the scores.
    """

    value: float
    q: FloatArray
    gradient: FloatArray
    exact: bool

    @classmethod
    def of(cls, value: float, q: FloatArray, factor: float, exact: bool) -> DualView:
        """For a theta that is (``exact``) or neighbours ``factor`` times the slopes."""
        return cls(value, q, q / -factor if factor > 0.0 else -q, exact and factor > 0.0)


class Composite:
    """F = f + phi over flat coordinates, intercepts last.

    Attributes
    ----------
    loss : Loss
    term : Term
        The penalty along the coordinates.
    scale : float
        Size of the problem for relative gaps: |F| at the penalty's start (zero, clipped).
    start_value, start_error : float
        F there and a bound on its rounding error.
    """

    def __init__(self, loss: Loss, term: Term) -> None:
        self.loss = loss
        self.term = term
        self.start_value = self.start_error = 0.0
        start = term.start()
        if not isinstance(loss, Quadratic) or np.any(start):
            with np.errstate(over="ignore", invalid="ignore"):
                z = loss.image(start)
                self.start_value, self.start_error = self.objective(start, z), self.objective_error(start, z)
            if not math.isfinite(self.start_value + self.start_error):
                raise InvalidProblemError(
                    f"the objective must be finite at the start (zero, within bounds); got {self.start_value!r}: "
                    "rescale the targets or the weights"
                )
        self.scale = abs(self.start_value) or 1.0

    def objective(self, x: FloatArray, z: Array) -> float:
        """F(x), with z the image of x."""
        return self.loss.value(x, z) + self.term.value(x)

    def objective_error(self, x: FloatArray, z: Array) -> float:
        """Bound on the rounding error of ``objective``."""
        return self.loss.value_error(x, z) + 256 * np.finfo(float).eps * abs(self.term.value(x))

    def kkt(self, x: FloatArray, z: Array) -> float:
        """Largest distance of the negative gradient from the subdifferential."""
        gradient, term = self.loss.gradient(z), self.term
        if isinstance(self.loss, Quadratic) and isinstance(term, SeparableTerm):
            return _largest_distance(x, gradient, term.lam, term.l2, np.asarray(term.lower), np.asarray(term.upper))
        return float(np.max(term.distance(x, gradient)))

    def kkt_error(self, x: FloatArray) -> float:
        """Bound on the rounding error of ``kkt``, by Cauchy's inequality for the columns of A, |a_j| = sqrt(L_j).

        Infinite where squares of the columns or of the data may leave float64's range.
        """
        loss = self.loss
        norms = np.sqrt(loss.lipschitz)
        if isinstance(loss, LinearLoss) and not abs(self.start_value) > 1.0 / LARGEST_NORM**2:
            return math.inf
        if not 1.0 / LARGEST_NORM < float(np.max(norms, initial=0.0)) < LARGEST_NORM:
            return math.inf
        size = float(norms @ (np.abs(x) + np.abs(self.term.start()))) + 2.0 * math.sqrt(2.0 * abs(self.start_value))
        direct = float(np.max(np.abs(loss.host_c), initial=0.0)) if isinstance(loss, Quadratic) else 0.0
        terms = loss.size + (loss.design.n if isinstance(loss, LinearLoss) else 0) + 64
        return 64 * np.finfo(float).eps * terms * (float(np.max(norms, initial=0.0)) * size + direct)

    @cached_property
    def _linear(self) -> LinearCertifier:
        assert isinstance(self.loss, LinearLoss)
        return LinearCertifier(self.loss, self.term)

    @cached_property
    def _quadratic(self) -> QuadraticCertifier:
        assert isinstance(self.loss, Quadratic)
        return QuadraticCertifier(self.loss, self.term)

    def level(self, x: FloatArray, z: Array, *, margin: float = 1.0) -> float:
        """An objective that is attained in exact arithmetic: at x, rounding included, or at the start.

        Bounds are published with a ``margin``, because the final point may round worse than the one they were found at.
        """
        return min(margin * (self.objective(x, z) + self.objective_error(x, z)), self.start_value + self.start_error)

    def bound_at(
        self, x: FloatArray, z: Array, proof: Definiteness | None = None, theta: Array | None = None
    ) -> tuple[LowerBound, Certificate | None]:
        """The bound of the dual point that x suggests (or of ``theta``)."""
        if isinstance(self.loss, Quadratic):
            proof = proof or Definiteness()
            return self._quadratic.evaluate(x, proof), PointCertificate(
                x.copy(), proof.weights, proof.parents, proof.least
            )
        if isinstance(self.loss, LinearLoss):
            proposed, _, _ = self._linear.propose(self.loss.slopes(z) if theta is None else theta)
            evaluation = self._linear.evaluate(proposed, lambda: self.level(x, z, margin=LEVEL_MARGIN), margin=3.0)
            return evaluation.bound, DualCertificate(np.array(to_host(evaluation.theta)))
        return LowerBound(-math.inf, 0.0), None

    def linear_bound(
        self, x: FloatArray, z: Array, proposal: Array | None = None, *, gradient: bool = False
    ) -> tuple[LowerBound, Certificate, DualView, FloatArray | None]:
        """The bound of the dual point of the scores z (or ``proposal``), its certificate, and what its product shows.

        The gradient at z, too, where it is asked for beside a proposal of one output.
        """
        assert isinstance(self.loss, LinearLoss)
        slopes = self.loss.slopes(z if proposal is None else proposal)
        proposed, multiple, exact = self._linear.propose(slopes)
        along = self.loss.slopes(z) if gradient and proposal is not None and self.loss.n_outputs == 1 else None
        evaluation = self._linear.evaluate(
            proposed, lambda: self.level(x, z, margin=LEVEL_MARGIN), margin=3.0, along=along
        )
        certificate = DualCertificate(np.array(to_host(evaluation.theta)))
        beside = None if evaluation.beside is None else -evaluation.beside
        view = DualView.of(evaluation.bound.reestablished, evaluation.q, evaluation.scale * multiple, exact)
        return evaluation.bound, certificate, view, beside

    def proposed_dual(self, slopes: Array) -> tuple[Array, float, bool]:
        """The dual point that the slopes suggest, near which multiple of them it lies, and whether it is that multiple."""
        assert isinstance(self.loss, LinearLoss)
        return self._linear.propose(slopes)

    def rebound(self, certificate: Any, x: FloatArray, z: Array) -> LowerBound:
        """The bound of a stored certificate; -inf (0 for linear models) where it is malformed."""
        if isinstance(self.loss, Quadratic):
            if not isinstance(certificate, PointCertificate):
                return LowerBound(-math.inf, 0.0)
            point = np.asarray(certificate.point)
            weights = None if certificate.weights is None else np.asarray(certificate.weights)
            if point.shape != (self.loss.size,) or point.dtype != np.float64 or not np.isfinite(point).all():
                return LowerBound(-math.inf, 0.0)
            if weights is not None and (weights.shape != point.shape or weights.dtype != np.float64):
                weights = None
            parents = None if certificate.parents is None else np.asarray(certificate.parents)
            return self._quadratic.evaluate(point, Definiteness(weights, parents, certificate.least))
        if isinstance(self.loss, LinearLoss):
            if isinstance(certificate, DualCertificate):
                theta = np.asarray(certificate.theta)
                shape = (self.loss.design.n,) if self.loss.n_outputs == 1 else (self.loss.design.n, self.loss.n_outputs)
                if theta.shape == shape and theta.dtype == np.float64 and np.isfinite(theta).all():
                    return self._linear.evaluate(self.loss.to_device(theta), lambda: self.level(x, z)).bound
            return LowerBound(0.0, 0.0)
        return LowerBound(-math.inf, 0.0)


def composite(loss: Any, penalty: Any = None) -> Composite:
    """Validate the problem arguments of ``minimize_bcd``."""
    if not isinstance(loss, Loss):
        raise TypeError(
            "loss must be a loss of solvers.bcd (LeastSquares, Logistic, Softmax, Huber, Quadratic) or a subclass of "
            f"bcd.Loss; got {type(loss).__name__}"
        )
    if penalty is not None and not isinstance(penalty, Penalty):
        raise TypeError(
            "penalty must be None, a penalty of solvers.bcd (L1, ElasticNet, Box, NonNegative, GroupL2) or a subclass of "
            f"bcd.Penalty; got {type(penalty).__name__}"
        )
    term = free_term(loss.size) if penalty is None else penalty.term(loss.shape, loss.n_free)
    if not isinstance(term, Term):
        raise TypeError(
            f"{type(penalty).__name__}.term must return the term of a penalty of solvers.bcd, as "
            f"bcd.L1(lam).term(shape, n_free); got {type(term).__name__}"
        )
    if term.size != loss.size:
        raise InvalidProblemError(f"the penalty has {term.size} coordinates and the loss {loss.size}")
    return Composite(loss, term)


def is_free(term: Term) -> bool:
    """Whether the penalty vanishes."""
    return isinstance(term, SeparableTerm) and term.smooth


@njit()
def _largest_distance(
    x: FloatArray, g: FloatArray, lam: FloatArray, l2: FloatArray, lower: FloatArray, upper: FloatArray
) -> float:
    """``SeparableTerm.distance``, its largest entry, in one pass: graphs are large and have little else to do."""
    largest = 0.0
    for i in range(len(x)):
        total = g[i] + l2[i] * x[i]
        low = total + lam[i] if x[i] > 0.0 else total - lam[i]
        high = total - lam[i] if x[i] < 0.0 else total + lam[i]
        # 0 must lie in [low, high]; at a bound one side is open.
        if x[i] > lower[i]:
            largest = max(largest, low)
        if x[i] < upper[i]:
            largest = max(largest, -high)
    return largest
