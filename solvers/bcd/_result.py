"""The family's Result and the certificates of its bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.result import Result

__all__ = ["BCDResult", "Certificate", "DualCertificate", "PointCertificate"]


@dataclass(frozen=True)
class DualCertificate:
    """A Fenchel dual point of a linear model; see :mod:`solvers.bcd._certificate`.

    Attributes
    ----------
    theta : (n,) or (n, K) float64
        One number per row (and class): the negative slope of the loss that supports it from below.
    """

    theta: FloatArray
    kind: Literal["dual"] = "dual"


@dataclass(frozen=True)
class PointCertificate:
    """A point whose supporting plane bounds a quadratic from below.

    Attributes
    ----------
    point : (size,) float64
        Where the plane touches.
    weights : (size,) float64 or None
        w > 0 with ``(2 diag(Q) - |Q|) w > 0``, which proves that Q is positive definite and bounds its inverse.
    parents : (size,) int64 or None
        A spanning forest of the graph of Q (-1 at roots), which proves the same for diagonally dominant Q, more sharply.
    least : float or None
        A number that no eigenvalue of a dense Q, balanced by powers of two, is below, which one Cholesky factorisation proves.
    """

    point: FloatArray
    weights: FloatArray | None = None
    parents: IntArray | None = None
    least: float | None = None
    kind: Literal["point"] = "point"


Certificate = DualCertificate | PointCertificate


class BCDResult(Result):
    """A minimiser with a proved bound on the minimum.

    Besides the fields of :class:`solvers.Result`; arrays of x are of the kind and on the device of the loss's data, those of
    the certificate are NumPy's:

    Attributes
    ----------
    support : (k,) int64
        Flat indices of the non-zero entries of ``x``, ascending.
    intercept : float or (K,) float64
        The unpenalised constant, 0.0 where none is fitted.
    kkt : float
        Largest distance of the negative gradient from the subdifferential of the penalty, 0 at a minimum;
        :func:`solvers.verify` recomputes it and refuses a smaller one (where the squares of the data fit into float64).
    """

    support: Any
    intercept: Any
    kkt: float


for _public in (BCDResult, DualCertificate, PointCertificate):
    _public.__module__ = "solvers.bcd"
