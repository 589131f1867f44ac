r"""Penalties phi: L1, elastic net, box, non-negativity, groups.

A public penalty knows its parameters; ``term(shape, n_free)`` lays it out along the coordinates of a loss, intercepts free, as
a :class:`Term`. The first four are one family, :class:`SeparableTerm`, the only one that compiled code knows. A penalty of
one's own is a subclass of :class:`Penalty` whose ``term`` returns a :class:`Term`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from solvers._core.arrays import FloatArray, IntArray, freeze, kind_of
from solvers._core.errors import BackendError, InvalidProblemError
from solvers.bcd._group_term import GroupTerm
from solvers.bcd._separable_term import SeparableTerm, free_term
from solvers.bcd._term import Term

__all__ = ["L1", "Box", "ElasticNet", "GroupL2", "NonNegative", "Penalty"]


class Penalty(ABC):
    """A convex function of x whose ``term`` lays it out along the coordinates of a loss."""

    @abstractmethod
    def term(self, shape: tuple[int, ...], n_free: int) -> Term:
        """The penalty of an x of this shape, followed by ``n_free`` free coordinates."""


class L1(Penalty):
    """``sum_j lam_j |x_j|``.

    Parameters
    ----------
    lam : float or array_like of x's shape
        Non-negative; zero leaves a coordinate unpenalised.
    """

    def __init__(self, lam: Any) -> None:
        self.lam = _parameter(lam, "lam", low=0.0)

    def term(self, shape: tuple[int, ...], n_free: int) -> SeparableTerm:
        """Along the coordinates."""
        free = free_term(math.prod(shape) + n_free)
        return SeparableTerm(_along(self.lam, "lam", shape, n_free, 0.0), free.l2, free.lower, free.upper)


class ElasticNet(Penalty):
    """``sum_j lam_j |x_j| + l2_j x_j^2 / 2``.

    Parameters
    ----------
    lam, l2 : float or array_like of x's shape
        Non-negative.
    """

    def __init__(self, lam: Any, l2: Any) -> None:
        self.lam, self.l2 = _parameter(lam, "lam", low=0.0), _parameter(l2, "l2", low=0.0)

    def term(self, shape: tuple[int, ...], n_free: int) -> SeparableTerm:
        """Along the coordinates."""
        free = free_term(math.prod(shape) + n_free)
        lam = _along(self.lam, "lam", shape, n_free, 0.0)
        return SeparableTerm(lam, _along(self.l2, "l2", shape, n_free, 0.0), free.lower, free.upper)


class Box(Penalty):
    """The indicator of lower <= x <= upper.

    Parameters
    ----------
    lower, upper : float or array_like of x's shape
        -inf and +inf leave a side open.
    """

    def __init__(self, lower: Any, upper: Any) -> None:
        self.lower = _parameter(lower, "lower", finite=False)
        self.upper = _parameter(upper, "upper", finite=False)
        try:
            crossed = np.asarray(self.lower > self.upper) | (self.lower == np.inf) | (self.upper == -np.inf)
        except ValueError:
            raise InvalidProblemError(
                f"lower and upper must have one shape; got {self.lower.shape} and {self.upper.shape}"
            ) from None
        if np.any(crossed):
            raise InvalidProblemError(
                f"Box must be non-empty: lower <= upper; violated by {int(np.sum(crossed))} coordinates"
            )

    def term(self, shape: tuple[int, ...], n_free: int) -> SeparableTerm:
        """Along the coordinates."""
        zeros = np.zeros(math.prod(shape) + n_free)
        lower = _along(self.lower, "lower", shape, n_free, -np.inf)
        return SeparableTerm(zeros, zeros, lower, _along(self.upper, "upper", shape, n_free, np.inf))


class NonNegative(Penalty):
    """lam_j x_j for x >= 0.

    Parameters
    ----------
    lam : float or array_like of x's shape
        Non-negative, 0 by default: the constraint alone.
    """

    def __init__(self, lam: Any = 0.0) -> None:
        self.lam = _parameter(lam, "lam", low=0.0)

    def term(self, shape: tuple[int, ...], n_free: int) -> SeparableTerm:
        """Along the coordinates."""
        free = free_term(math.prod(shape) + n_free)
        lower = np.concatenate([np.zeros(math.prod(shape)), np.full(n_free, -np.inf)])
        return SeparableTerm(_along(self.lam, "lam", shape, n_free, 0.0), free.l2, lower, free.upper)


class GroupL2(Penalty):
    """``sum_g lam_g |x_g|``, the group lasso.

    Parameters
    ----------
    groups : (p,) integers, or a list of index arrays
        Group number of each coordinate of the flattened x (-1 for none), or the members of each group, disjoint.
    lam : float or (number of groups,) array_like
        Non-negative.
    """

    def __init__(self, groups: Any, lam: Any) -> None:
        self.lam = _parameter(lam, "lam", low=0.0)
        self.labels: IntArray | None = None
        self.members: tuple[IntArray, ...] | None = None
        if isinstance(groups, (list, tuple)) and len(groups) and not np.isscalar(groups[0]):
            self.members = tuple(_indices(group, "groups") for group in groups)
        else:
            self.labels = _indices(groups, "groups")

    def term(self, shape: tuple[int, ...], n_free: int) -> GroupTerm:
        """Along the coordinates."""
        size = math.prod(shape)
        group = np.full(size + n_free, -1, dtype=np.int64)
        if self.labels is not None:
            if len(self.labels) != size:
                raise InvalidProblemError(
                    f"groups must have one number per coordinate ({size}); got {len(self.labels)}"
                )
            group[:size] = self.labels
            members = tuple(np.flatnonzero(group == k) for k in range(int(np.max(group)) + 1))
        else:
            assert self.members is not None
            members = self.members
            for k, member in enumerate(members):
                if np.any(member < 0) or np.any(member >= size):
                    raise InvalidProblemError(f"groups[{k}] must index {size} coordinates")
                if np.any(group[member] >= 0) or len(np.unique(member)) < len(member):
                    raise InvalidProblemError(f"groups must be disjoint; groups[{k}] repeats a coordinate")
                group[member] = k
        if self.lam.ndim and self.lam.shape != (len(members),):
            raise InvalidProblemError(f"lam must be a number or ({len(members)},); got shape {self.lam.shape}")
        return GroupTerm(members, np.broadcast_to(self.lam, (len(members),)).astype(np.float64), group)


def _indices(value: Any, name: str) -> IntArray:
    array = np.asarray(value)
    if array.ndim != 1 or array.dtype.kind not in "iu" or (len(array) and int(np.min(array)) < -1):
        raise InvalidProblemError(f"{name} must hold integers >= -1; got shape {array.shape}, dtype {array.dtype}")
    return array.astype(np.int64)


def _parameter(value: Any, name: str, *, low: float = -math.inf, finite: bool = True) -> FloatArray:
    """A number or array of numbers, checked."""
    what = f"{name} must be a number or an array of numbers" + (f" >= {low:g}" if math.isfinite(low) else "")
    if not np.isscalar(value) and kind_of(value) != "numpy":
        raise BackendError(f"{what}; got a {kind_of(value)} array: penalties live on the host")
    try:
        array = np.asarray(value)
    except ValueError:
        raise InvalidProblemError(f"{what}; got a ragged sequence") from None
    if array.dtype.kind not in "bifu":
        raise InvalidProblemError(f"{what}; got dtype {array.dtype}")
    array = array.astype(np.float64)
    if np.any(np.isnan(array)) or (finite and not np.isfinite(array).all()):
        raise InvalidProblemError(f"{what}; got NaN or infinite entries")
    if np.any(array < low):
        raise InvalidProblemError(f"{what}; got {float(np.min(array))!r}")
    return freeze(array)


def _along(value: FloatArray, name: str, shape: tuple[int, ...], n_free: int, free: float) -> FloatArray:
    """A parameter along the flat coordinates, ``free`` for the intercepts."""
    if value.ndim == 0:
        laid = np.full(math.prod(shape), float(value))
    elif value.shape == shape:
        laid = value.reshape(-1)
    else:
        raise InvalidProblemError(f"{name} must be a number or have the shape of x, {shape}; got {value.shape}")
    return np.concatenate([laid, np.full(n_free, free)]) if n_free else np.array(laid)


for _public in (Box, ElasticNet, GroupL2, L1, NonNegative, Penalty):
    _public.__module__ = "solvers.bcd"
