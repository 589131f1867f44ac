r"""What a loss is: a smooth convex f whose gradient blocks, curvature and dual are cheap.

:class:`Loss` lists what the engines and the certificate ask of any loss. :class:`LinearLoss` derives all of it for

    f(x) = sum_i w_i l_i(z_i),    z = A x + intercept,

from a handful of scalar functions, so a new loss of this form is a subclass with six short methods.

Coordinates are numbered along the flattened x, with the intercept's coordinates (one per output) appended.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np

from solvers._core.arrays import Array, FloatArray, IntArray, as_float_array, kind_of, to_host
from solvers._core.errors import BackendError, InvalidProblemError
from solvers._core.linalg import UNIT
from solvers.bcd._design import BAND, Design, design_matrix

__all__ = ["LinearLoss", "Loss"]


class Loss(ABC):
    """A smooth convex function of d = ``size`` coordinates.

    Attributes
    ----------
    shape : tuple of int
        Shape of the caller's x.
    n_free : int
        Intercept coordinates behind those of x.
    size : int
        All coordinates.
    """

    shape: tuple[int, ...]
    n_free: int = 0

    @property
    def size(self) -> int:
        """Number of coordinates, the intercept's included."""
        return math.prod(self.shape) + self.n_free

    @abstractmethod
    def image(self, x: FloatArray) -> Array:
        """The linear image of x that all other functions share: A x, or Q x."""

    @abstractmethod
    def value(self, x: FloatArray, z: Array) -> float:
        """f(x), with z the image of x."""

    @abstractmethod
    def value_error(self, x: FloatArray, z: Array) -> float:
        """Bound on the rounding error of ``value(x, image(x))``."""

    @abstractmethod
    def gradient(self, z: Array) -> FloatArray:
        """All partial derivatives, on the host."""

    @abstractmethod
    def moved(self, z: Array, block: IntArray, d: FloatArray) -> Array:
        """The image after x_b += d."""

    @abstractmethod
    def block_gradient(self, z: Array, block: IntArray) -> FloatArray:
        """Partial derivatives of a block."""

    @abstractmethod
    def block_hessian(self, z: Array, block: IntArray) -> FloatArray:
        """Second derivatives of a block at z."""

    @abstractmethod
    def block_bound(self, block: IntArray) -> FloatArray:
        """A matrix H_b above every Hessian of the block."""

    @property
    @abstractmethod
    def lipschitz(self) -> FloatArray:
        """L_i >= second derivative along coordinate i, everywhere."""

    @property
    @abstractmethod
    def row_sums(self) -> FloatArray:
        """sum_j |H_ij| of the Hessian bound: by Gershgorin, diag(row_sums) is above H."""


class LinearLoss(Loss):
    """sum_i w_i l_i(z_i) with z = A x + intercept.

    A subclass passes the three parameters on, sets ``shape``, ``n_free`` (1 with an intercept) and ``curvature_bound`` (a
    number above every l''), and gives ``terms``, ``slopes``, ``curvature``,
    ``project_dual``, ``dual_terms`` and, if it can, ``residual_radius`` and ``intercept_radius``.

    Parameters
    ----------
    A : (n, p) array_like or scipy.sparse
    sample_weight : (n,) array_like, optional
        Non-negative; ones by default.
    fit_intercept : bool
        Add an unpenalised constant to every score.
    """

    curvature_bound: float = 1.0
    # A number above every |l'|, if there is one: it keeps the rounding of scores far out from passing for a rounding of f.
    steepest: float = math.inf
    n_outputs: int = 1

    def __init__(self, A: Any, sample_weight: Any, fit_intercept: bool) -> None:
        if not isinstance(fit_intercept, (bool, np.bool_)):
            raise TypeError(f"fit_intercept must be True or False; got {fit_intercept!r}")
        self.kind = kind_of(A)
        self.plain = design_matrix(A)
        self.fit_intercept = bool(fit_intercept)
        self.design: Design = self.plain.with_ones() if fit_intercept else self.plain
        self.device = self.plain.device
        self.weights: Array | None = None
        if sample_weight is not None:
            self.weights = self._per_row(sample_weight, "sample_weight", "(n,) non-negative weights")
            smallest, total = float(self.xp.min(self.weights)), float(self.xp.sum(self.weights))
            if smallest < 0:
                raise InvalidProblemError(f"sample_weight must be non-negative; got {smallest!r}")
            if not 0 < total < math.inf:
                raise InvalidProblemError("sample_weight must not be zero everywhere, and have a finite sum")

    @property
    def xp(self) -> ModuleType:
        """Array namespace of the data; not stored, so that problems pickle."""
        return self.plain.xp

    def _per_row(self, value: Any, name: str, expected: str) -> Array:
        """A vector with one entry per row of A, of the same array kind."""
        kinds = {"sparse": "numpy"}.get(self.kind, self.kind)
        if kind_of(value) != kinds:
            raise BackendError(f"{name} is a {kind_of(value)} array and A is {self.kind}; convert one explicitly")
        vector = as_float_array(value, name, ndim=1, expected=expected)
        if vector.shape[0] != self.plain.n:
            raise InvalidProblemError(
                f"{name} must have one entry per row of A ({self.plain.n}); got {vector.shape[0]}"
            )
        return vector

    # -- scalar functions of the subclass ------------------------------------------------------------------------

    @abstractmethod
    def terms(self, z: Array) -> Array:
        """l_i(z_i), (n,). Losses are non-negative."""

    @abstractmethod
    def slopes(self, z: Array) -> Array:
        """-l'(z): the dual point of the scores, shape of z."""

    @abstractmethod
    def curvature(self, z: Array) -> Array:
        """l''(z), (n,)."""

    @abstractmethod
    def project_dual(self, theta: Array) -> Array:
        """The nearest point where l*(-theta) is finite; exact in floating point, star-shaped around 0."""

    @abstractmethod
    def dual_terms(self, theta: Array) -> tuple[Array, Array]:
        """-l*(-theta) (n,), and magnitudes (n,) of which a few roundings bound the error of each."""

    def residual_radius(self, level: float) -> float:
        """Bound on ``|sqrt(w) (b - z)|`` wherever f <= level, for losses that measure a residual; inf otherwise."""
        return math.inf

    def intercept_radius(self, level: float, reach: float) -> float:
        """Bound on the intercepts of some minimiser with f <= level, if ``|a_i^T x| <= reach``; inf where unknown."""
        return math.inf

    # -- products ------------------------------------------------------------------------------------------------

    def weighted(self, v: Array) -> Array:
        """W v."""
        if self.weights is None:
            return v
        return (self.weights if v.ndim == 1 else self.weights[:, None]) * v

    @property
    def total_weight(self) -> float:
        """sum_i w_i."""
        return float(self.design.n) if self.weights is None else float(self.xp.sum(self.weights))

    def to_device(self, x: FloatArray) -> Array:
        """A host vector where the data live."""
        return x if self.device is None else self.xp.asarray(x, device=self.device)

    def matrix(self, x: FloatArray) -> FloatArray:
        """Flat coordinates as A's right factor: (p,) or (p, n_outputs)."""
        return x if self.n_outputs == 1 else x.reshape(self.design.p, self.n_outputs)

    def image(self, x: FloatArray) -> Array:
        """The scores z."""
        support = np.flatnonzero(x if self.n_outputs == 1 else np.any(self.matrix(x) != 0, axis=1))
        if 4 * len(support) < self.design.p:
            return self.design.times_block(support, self.to_device(self.matrix(x)[support]))
        return self.design.times(self.to_device(self.matrix(x)))

    def value(self, x: FloatArray, z: Array) -> float:
        """f."""
        return float(self.xp.sum(self.weighted(self.terms(z))))

    def value_error(self, x: FloatArray, z: Array) -> float:
        """Rounding of the scores, carried by the slopes, and of the sum."""
        slopes = np.abs(to_host(self.weighted(self.slopes(z))))
        if slopes.ndim == 2:
            slopes = np.max(slopes, axis=1)
        matrix = np.abs(self.matrix(x))
        lengths = matrix if matrix.ndim == 1 else np.max(matrix, axis=1)
        used = int(np.count_nonzero(lengths)) + 4
        drift = 0.0
        if used > 4:
            # Of the two bounds on |a_i| |x| the second is finite where columns of very different lengths make up for x.
            by_rows = self.design.row_norms * float(np.linalg.norm(matrix))
            moves = 2 * used * UNIT * np.fmin(by_rows, float(np.sqrt(self.design.squared_norms) @ lengths))
            heavy = np.ones(len(moves)) if self.weights is None else to_host(self.weights)
            slopes = slopes + heavy * self.curvature_bound * moves
            if math.isfinite(self.steepest):
                slopes = np.minimum(slopes, heavy * self.steepest)
            drift = float(np.sum(slopes * moves))
        rows = 64 + (0 if self.device is None else self.design.n)
        return 2 * rows * UNIT * self.value(x, z) + 2 * drift + 8 * 2.0**-1074 * self.total_weight

    def gradient(self, z: Array) -> FloatArray:
        """-A^T W slopes, flat."""
        return -to_host(self.design.adjoint(self.weighted(self.slopes(z)))).reshape(-1)

    def moved(self, z: Array, block: IntArray, d: FloatArray) -> Array:
        """z + A_b d."""
        if self.n_outputs == 1:
            return z + self.design.times_block(block, self.to_device(d))
        rows, inverse = np.unique(block // self.n_outputs, return_inverse=True)
        step = np.zeros((len(rows), self.n_outputs))
        step[inverse, block % self.n_outputs] = d
        return z + self.design.times_block(rows, self.to_device(step))

    def block_gradient(self, z: Array, block: IntArray) -> FloatArray:
        """-A_b^T W slopes."""
        v = self.weighted(self.slopes(z))
        if self.n_outputs == 1:
            return -to_host(self.design.adjoint_block(block, v))
        rows, inverse = np.unique(block // self.n_outputs, return_inverse=True)
        return -to_host(self.design.adjoint_block(rows, v))[inverse, block % self.n_outputs]

    def block_hessian(self, z: Array, block: IntArray) -> FloatArray:
        """A_b^T diag(w l'') A_b."""
        return self.design.gram(block, self.weighted(self.curvature(z)))

    def block_bound(self, block: IntArray) -> FloatArray:
        """curvature_bound A_b^T W A_b."""
        return self.curvature_bound * self.design.gram(block, self.weights)

    @cached_property
    def column_norms(self) -> FloatArray:
        """Weighted squared norms of A's columns."""
        if self.weights is None:
            return self.design.squared_norms
        return self.design.scaled_rows(self.xp.sqrt(self.weights)).squared_norms

    @cached_property
    def lipschitz(self) -> FloatArray:
        """curvature_bound |a_j|^2."""
        return self.curvature_bound * self.column_norms

    @cached_property
    def row_sums(self) -> FloatArray:
        """curvature_bound sum_k |a_j^T W a_k|."""
        return self.curvature_bound * self._gram_row_sums()

    def _gram_row_sums(self) -> FloatArray:
        p = self.design.p
        everyone = np.arange(p)
        bands = [
            np.sum(np.abs(self.design.cross(everyone[start : start + BAND], everyone, self.weights)), axis=1)
            for start in range(0, p, BAND)
        ]
        return np.concatenate(bands)


for _public in (LinearLoss, Loss):
    _public.__module__ = "solvers.bcd"
