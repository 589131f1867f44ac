r"""Penalties that are sums over coordinates, one family:

    phi_j(x) = lam_j |x| + l2_j x^2 / 2   for lower_j <= x <= upper_j.

Where l2_j = 0 and a side is open, phi_j* is infinite beyond lam_j on that side; everywhere else it is finite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.jit import njit
from solvers._core.linalg import UNIT
from solvers.bcd._term import Conjugate, Term

__all__ = ["SeparableTerm", "free_term"]


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
        return self.plain or super().bounded

    @cached_property
    def plain(self) -> bool:
        """Whether the term is a positive multiple of |x_j| everywhere."""
        return bool(
            np.min(self.lam, initial=1.0) > 0.0
            and not np.any(self.l2)
            and np.max(self.lower, initial=-np.inf) == -np.inf
            and np.min(self.upper, initial=np.inf) == np.inf
        )

    @cached_property
    def _allows_zero(self) -> bool:
        return self.plain or bool(np.all((self.lower <= 0.0) & (self.upper >= 0.0)))

    @cached_property
    def _open(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Where a slope above lam (below -lam) leaves the domain of phi*; None if both hold everywhere."""
        if self.plain:
            return None
        scalable = (self.l2 == 0) & (self.lam > 0)
        up, down = np.isinf(self.upper) & scalable, np.isinf(self.lower) & scalable
        return None if bool(np.all(up & down)) else (up, down)

    def value(self, x: FloatArray) -> float:
        """Sum of the coordinates' values."""
        if self.plain:
            support = np.flatnonzero(x)
            return float(np.sum(self.lam[support] * np.abs(x[support])))
        if np.any(x < self.lower) or np.any(x > self.upper):
            return math.inf
        return float(np.sum(self.lam * np.abs(x)) + 0.5 * np.sum(self.l2 * x * x))

    def start(self) -> FloatArray:
        """Zero, clipped."""
        return np.zeros(self.size) if self.plain else np.clip(np.zeros(self.size), self.lower, self.upper)

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
        if self.plain:
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
        if self._allows_zero and _all_inside(q, error, self.lam):
            return Conjugate(0.0, 0.0, np.zeros(len(q)))
        below, excess_below, size_below = self._one_conjugate(q - error)
        above, excess_above, size_above = self._one_conjugate(q + error)
        # Values and excesses are maximised separately, which only enlarges their sum.
        size = float(np.sum(np.maximum(size_below, size_above)))
        return Conjugate(float(np.sum(np.maximum(below, above))), size, np.maximum(excess_below, excess_above))

    def shrink(self, q: FloatArray, error: FloatArray) -> float:
        """min lam_j / |q_j| over coordinates with an open side."""
        if self.plain:
            worst = _largest_share(q, error, self.lam)
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


def free_term(size: int) -> SeparableTerm:
    """No penalty."""
    zeros = np.zeros(size)
    return SeparableTerm(zeros, zeros, np.full(size, -np.inf), np.full(size, np.inf))


@njit()
def _all_inside(q: FloatArray, error: FloatArray, lam: FloatArray) -> bool:
    """Whether |q| + error <= lam everywhere."""
    for j in range(len(q)):  # noqa: SIM110
        if not abs(q[j]) + error[j] <= lam[j]:
            return False
    return True


@njit()
def _largest_share(q: FloatArray, error: FloatArray, lam: FloatArray) -> float:
    """The largest (|q| + error) / lam for positive lam; inf where one is no number."""
    largest = 0.0
    for j in range(len(q)):
        most = abs(q[j]) + error[j]
        if not most <= largest * lam[j]:
            largest = most / lam[j]
            if not largest < np.inf:
                return np.inf
    return largest
