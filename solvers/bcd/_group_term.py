r"""The group lasso's penalty, sum_g lam_g |x_g| over disjoint groups; phi* is the indicator of |q_g| <= lam_g."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.linalg import UNIT
from solvers.bcd._term import Conjugate, Term

__all__ = ["GroupTerm"]


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
