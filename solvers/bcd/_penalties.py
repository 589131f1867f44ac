r"""Penalties phi: L1, elastic net, box, non-negativity, groups.

A public penalty knows its parameters; ``term(shape, n_free)`` lays it out along the coordinates of a loss, intercepts free.
:class:`Term` lists what engines and certificate ask. The first four penalties are one family,

    phi_j(x) = lam_j |x| + l2_j x^2 / 2   for lower_j <= x <= upper_j,

so compiled code knows only :class:`SeparableTerm`. A penalty of one's own is a subclass of :class:`Penalty` whose ``term``
returns a :class:`Term`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from solvers._core.arrays import FloatArray, IntArray, freeze, kind_of
from solvers._core.errors import BackendError, InvalidProblemError
from solvers._core.linalg import UNIT

__all__ = [
    "L1",
    "Box",
    "Conjugate",
    "ElasticNet",
    "GroupL2",
    "GroupTerm",
    "NonNegative",
    "Penalty",
    "SeparableTerm",
    "Term",
    "free_term",
]


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


@dataclass(frozen=True)
class SeparableTerm(Term):
    """lam |x| + l2 x^2 / 2 on [lower, upper], coordinate by coordinate; arrays of (size,)."""

    lam: FloatArray
    l2: FloatArray
    lower: FloatArray
    upper: FloatArray

    @property
    def size(self) -> int:  # type: ignore[override]
        """Number of coordinates."""
        return len(self.lam)

    @property
    def smooth(self) -> bool:
        """Whether the term vanishes."""
        return not (
            np.any(self.lam) or np.any(self.l2) or np.isfinite(self.lower).any() or np.isfinite(self.upper).any()
        )

    @cached_property
    def free(self) -> IntArray:
        """Coordinates that neither a penalty nor a bound touches."""
        index: IntArray = np.flatnonzero(self.lam == 0)
        held = (self.l2[index] != 0) | np.isfinite(self.lower[index]) | np.isfinite(self.upper[index])
        return np.asarray(index[~held])

    @property
    def bounded(self) -> bool:
        """Whether every coordinate has a radius."""
        return self._plain or super().bounded

    @cached_property
    def _plain(self) -> bool:
        """Whether the term is a positive multiple of |x_j| everywhere."""
        return bool(
            np.min(self.lam, initial=1.0) > 0.0
            and not np.any(self.l2)
            and np.max(self.lower, initial=-np.inf) == -np.inf
            and np.min(self.upper, initial=np.inf) == np.inf
        )

    @cached_property
    def _allows_zero(self) -> bool:
        return self._plain or bool(np.all((self.lower <= 0.0) & (self.upper >= 0.0)))

    @cached_property
    def _open(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Where a slope above lam (below -lam) leaves the domain of phi*; None if both hold everywhere."""
        if self._plain:
            return None
        scalable = (self.l2 == 0) & (self.lam > 0)
        up, down = np.isinf(self.upper) & scalable, np.isinf(self.lower) & scalable
        return None if bool(np.all(up & down)) else (up, down)

    def value(self, x: FloatArray) -> float:
        """Sum of the coordinates' values."""
        if self._plain:
            return float(np.sum(self.lam * np.abs(x)))
        if np.any(x < self.lower) or np.any(x > self.upper):
            return math.inf
        return float(np.sum(self.lam * np.abs(x)) + 0.5 * np.sum(self.l2 * x * x))

    def start(self) -> FloatArray:
        """Zero, clipped."""
        return np.clip(np.zeros(self.size), self.lower, self.upper)

    def project(self, x: FloatArray) -> FloatArray:
        """Clip."""
        return np.asarray(np.clip(x, self.lower, self.upper))

    def prox(self, v: FloatArray, curvature: FloatArray, block: IntArray) -> FloatArray:
        """Soft threshold, shrink, clip."""
        lam, l2 = self.lam[block], self.l2[block]
        pulled = np.sign(v) * np.maximum(np.abs(v) * curvature - lam, 0.0)
        return np.asarray(np.clip(pulled / (curvature + l2), self.lower[block], self.upper[block]))

    def block_value(self, x: FloatArray, block: IntArray) -> FloatArray:
        """Value of each coordinate, x being the block's values."""
        return np.asarray(self.lam[block] * np.abs(x) + 0.5 * self.l2[block] * x * x)

    def distance(self, x: FloatArray, g: FloatArray) -> FloatArray:
        """Distance of -g from the subdifferential."""
        if self._plain:
            return np.asarray(
                np.where(x == 0.0, np.maximum(np.abs(g) - self.lam, 0.0), np.abs(g + self.lam * np.sign(x)))
            )
        total = g + self.l2 * x
        low = np.where(x > 0, total + self.lam, total - self.lam)
        high = np.where(x < 0, total - self.lam, total + self.lam)
        low = np.where(x <= self.lower, -np.inf, low)
        high = np.where(x >= self.upper, np.inf, high)
        # 0 must lie in [low, high]: the range of g + s over subgradients s.
        return np.asarray(np.maximum(np.maximum(low, -high), 0.0))

    def nearest_dual(self, q: FloatArray) -> FloatArray:
        """Clip at lam on open sides."""
        flat = self.l2 == 0
        low = np.where(flat & np.isinf(self.lower), -self.lam, -np.inf)
        return np.asarray(np.clip(q, low, np.where(flat & np.isinf(self.upper), self.lam, np.inf)))

    def _one_conjugate(self, q: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """phi* at the nearest point of its domain, the distance from there, and the size of the products added up."""
        flat = self.l2 == 0
        inside = self.nearest_dual(q)
        slope = np.sign(inside) * np.maximum(np.abs(inside) - self.lam, 0.0)
        peak = np.clip(slope / np.where(flat, 1.0, self.l2), self.lower, self.upper)
        curved = inside * peak - self.lam * np.abs(peak) - 0.5 * self.l2 * peak * peak
        # Without curvature the maximum is at an end or at the point nearest zero.
        best, size = np.full(len(q), -np.inf), (np.abs(inside) + self.lam) * np.abs(peak)
        for end in (np.clip(0.0, self.lower, self.upper), self.lower, self.upper):
            at = np.where(np.isfinite(end), end, 0.0)
            best = np.maximum(best, np.where(np.isfinite(end), inside * at - self.lam * np.abs(at), -np.inf))
            size = np.maximum(size, (np.abs(inside) + self.lam) * np.abs(at))
        return np.where(flat, best, curved), np.abs(q - inside), size

    def conjugate(self, q: FloatArray, error: FloatArray) -> Conjugate:
        """phi* is convex, so its maximum over an interval is at an end; it is 0 where |q| <= lam and 0 is allowed."""
        if self._allows_zero and bool(np.all(np.abs(q) + error <= self.lam)):
            return Conjugate(0.0, 0.0, np.zeros(len(q)))
        below, excess_below, size_below = self._one_conjugate(q - error)
        above, excess_above, size_above = self._one_conjugate(q + error)
        # Values and excesses are maximised separately, which only enlarges their sum.
        size = float(np.sum(np.maximum(size_below, size_above)))
        return Conjugate(float(np.sum(np.maximum(below, above))), size, np.maximum(excess_below, excess_above))

    def shrink(self, q: FloatArray, error: FloatArray) -> float:
        """min lam_j / |q_j| over coordinates with an open side."""
        if self._plain:
            worst = float(np.max((np.abs(q) + error) / self.lam, initial=0.0))
            return 1.0 if worst <= 1.0 else (1.0 - 8 * UNIT) / worst
        if self._open is None:
            most = np.abs(q) + error
        else:
            up, down = self._open
            most = np.maximum(np.where(up, q + error, 0.0), np.where(down, error - q, 0.0))
        over = most > self.lam
        if not np.any(over):
            return 1.0
        return float(np.min(self.lam[over] / most[over])) * (1.0 - 8 * UNIT)

    def radius(self, level: float) -> FloatArray:
        """The least of what each part allows."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            by_lam = np.where(self.lam > 0, level / self.lam, np.inf)
            by_l2 = np.where(self.l2 > 0, np.sqrt(2.0 * level / self.l2), np.inf)
        by_ends = np.maximum(np.abs(self.lower), np.abs(self.upper))
        return np.asarray(np.minimum(np.minimum(by_lam, by_l2), by_ends))

    def pieces(self) -> list[IntArray]:
        """Every coordinate alone."""
        return [np.array([j]) for j in range(self.size)]


@dataclass(frozen=True)
class GroupTerm(Term):
    """sum_g lam_g |x_g|, over ``members``; coordinates in no group are free.

    ``group`` (size,) numbers the groups, -1 for free coordinates.
    """

    members: tuple[IntArray, ...]
    lam: FloatArray
    group: IntArray

    @property
    def size(self) -> int:  # type: ignore[override]
        """Number of coordinates."""
        return len(self.group)

    def _norms(self, v: FloatArray) -> FloatArray:
        held = self.group >= 0
        group, size = self.group[held], np.abs(v[held])
        most = np.zeros(len(self.members))
        np.maximum.at(most, group, size)
        # Powers of two are exact: squares neither overflow nor vanish.
        unit = np.ldexp(1.0, np.clip(np.frexp(most)[1], -1000, 1000))
        norms: FloatArray = unit * np.sqrt(np.bincount(group, weights=(size / unit[group]) ** 2, minlength=len(most)))
        return norms

    def _of(self, per_group: FloatArray, free: float) -> FloatArray:
        if len(per_group) == 0:
            return np.full(len(self.group), free)
        return np.where(self.group >= 0, per_group[np.maximum(self.group, 0)], free)

    def value(self, x: FloatArray) -> float:
        """Weighted sum of norms."""
        return float(np.sum(self.lam * self._norms(x)))

    def start(self) -> FloatArray:
        """Zero."""
        return np.zeros(self.size)

    def project(self, x: FloatArray) -> FloatArray:
        """Everywhere allowed."""
        return x

    def prox(self, v: FloatArray, curvature: FloatArray, block: IntArray) -> FloatArray:
        """Shrink each group's norm; curvature is the group's largest (one number per group is needed)."""
        out = np.array(v)
        mine = self.group[block]
        for g in np.unique(mine[mine >= 0]):
            at = np.flatnonzero(mine == g)
            norm = float(np.linalg.norm(v[at]))
            scale = self.lam[g] / float(np.max(curvature[at]))
            out[at] *= max(0.0, 1.0 - scale / norm) if norm > 0 else 0.0
        return out

    def block_value(self, x: FloatArray, block: IntArray) -> FloatArray:
        """Each group's value at its first coordinate of the block, zero elsewhere."""
        out = np.zeros(len(block))
        mine = self.group[block]
        for g in np.unique(mine[mine >= 0]):
            at = np.flatnonzero(mine == g)
            out[at[0]] = self.lam[g] * float(np.linalg.norm(x[at]))
        return out

    def distance(self, x: FloatArray, g: FloatArray) -> FloatArray:
        """|g_G + lam x_G/|x_G|| for groups away from zero, (|g_G| - lam)_+ at zero; spread over the group."""
        norms = self._norms(x)
        out = np.abs(g)
        for k, at in enumerate(self.members):
            if norms[k] > 0:
                out[at] = np.abs(g[at] + self.lam[k] * x[at] / norms[k])
            else:
                size = float(np.linalg.norm(g[at]))
                out[at] = np.abs(g[at]) * (max(0.0, size - self.lam[k]) / size if size > 0 else 0.0)
        return out

    def conjugate(self, q: FloatArray, error: FloatArray) -> Conjugate:
        """Zero inside the balls |q_g| <= lam_g; the excess of a group is charged on each of its coordinates."""
        most = self._norms(np.abs(q) + error) * (1.0 + 4 * UNIT * (len(q) + 4))
        excess = self._of(np.maximum(most - self.lam, 0.0), 0.0)
        return Conjugate(0.0, 0.0, np.where(self.group >= 0, excess, np.abs(q) + error))

    def nearest_dual(self, q: FloatArray) -> FloatArray:
        """Radial projection on the balls, rounded inwards; zero for free coordinates."""
        norms = self._norms(q) * (1.0 + 4 * UNIT * (len(q) + 4))
        factors = np.where(norms > self.lam, self.lam / np.where(norms > 0, norms, 1.0), 1.0)
        return q * self._of(factors, 0.0)

    def shrink(self, q: FloatArray, error: FloatArray) -> float:
        """min lam_g / |q_g|."""
        most = self._norms(np.abs(q) + error) * (1.0 + 4 * UNIT * (len(q) + 4))
        over = (most > self.lam) & (self.lam > 0)
        return float(np.min(self.lam[over] / most[over])) * (1.0 - 8 * UNIT) if np.any(over) else 1.0

    def radius(self, level: float) -> FloatArray:
        """level / lam_g."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return self._of(np.where(self.lam > 0, level / self.lam, np.inf), math.inf)

    def pieces(self) -> list[IntArray]:
        """The groups, then free coordinates one by one."""
        return [
            *(member for member in self.members if len(member)),
            *(np.array([j]) for j in np.flatnonzero(self.group < 0)),
        ]


class Penalty(ABC):
    """A convex function of x whose ``term`` lays it out along the coordinates of a loss."""

    @abstractmethod
    def term(self, shape: tuple[int, ...], n_free: int) -> Term:
        """The penalty of an x of this shape, followed by ``n_free`` free coordinates."""


def free_term(size: int) -> SeparableTerm:
    """No penalty."""
    zeros = np.zeros(size)
    return SeparableTerm(zeros, zeros, np.full(size, -np.inf), np.full(size, np.inf))


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
    return np.concatenate([laid, np.full(n_free, free)])


for _public in (Box, ElasticNet, GroupL2, L1, NonNegative, Penalty):
    _public.__module__ = "solvers.bcd"
