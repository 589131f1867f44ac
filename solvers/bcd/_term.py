r"""What engines and certificate ask of a penalty phi that is laid out along the coordinates of a loss.

The certificate needs the conjugate phi*(q) = max_x q^T x - phi(x), with q known up to an error, and where it is infinite either
a factor that scales q into its domain or bounds on |x_j|.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from solvers._core.arrays import FloatArray, IntArray

__all__ = ["Conjugate", "Term"]


@dataclass(frozen=True)
class Conjugate:
    """phi*(q) for a q known up to an error, split by what can be said.

    Attributes
    ----------
    value : float
        Upper bound of the finite part: the sum over coordinates (or groups) where the conjugate is finite.
    magnitude : float
        Sum of the absolute products added up in ``value``; a few roundings of it bound the error.
    excess : (size,) array
        How far q may lie outside the domain in each coordinate, >= 0; multiplied by a bound on |x_j| it completes the value.
    """

    value: float
    magnitude: float
    excess: FloatArray


class Term(ABC):
    """A penalty laid out along ``size`` coordinates."""

    size: int

    @abstractmethod
    def value(self, x: FloatArray) -> float:
        """phi(x); inf outside its domain."""

    @abstractmethod
    def start(self) -> FloatArray:
        """A point of the domain, zero where zero is allowed."""

    @abstractmethod
    def project(self, x: FloatArray) -> FloatArray:
        """The nearest point of the domain."""

    @abstractmethod
    def prox(self, v: FloatArray, curvature: FloatArray, block: IntArray) -> FloatArray:
        """argmin over u of phi_b(u) + sum_i curvature_i (u_i - v_i)^2 / 2."""

    @abstractmethod
    def block_value(self, x: FloatArray, block: IntArray) -> FloatArray:
        """phi of each coordinate of the block, or of each group (then blocks are unions of groups)."""

    @abstractmethod
    def distance(self, x: FloatArray, g: FloatArray) -> FloatArray:
        """min over subgradients s of |g_i + s_i|, per coordinate; for groups their common share."""

    @abstractmethod
    def conjugate(self, q: FloatArray, error: FloatArray) -> Conjugate:
        """An upper bound of phi* over all q' with |q' - q| <= error."""

    @abstractmethod
    def nearest_dual(self, q: FloatArray) -> FloatArray:
        """The nearest point of the domain of phi*."""

    @abstractmethod
    def shrink(self, q: FloatArray, error: FloatArray) -> float:
        """The largest s in [0, 1] that brings s q' into the domain of phi*, as far as scaling can."""

    @abstractmethod
    def radius(self, level: float) -> FloatArray:
        """Bounds on |x_j| wherever phi(x) <= level."""

    @abstractmethod
    def pieces(self) -> list[IntArray]:
        """Sets of coordinates that a block must not split."""

    @property
    def bounded(self) -> bool:
        """Whether every coordinate has a radius."""
        return bool(np.all(np.isfinite(self.radius(1.0))))
