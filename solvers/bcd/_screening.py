r"""Gap-safe screening: coordinates that a dual point proves to rest are left out of products and scores.

Losses have l'' <= kappa, so the dual function is strongly concave: with theta* the best dual point and G = F(x) - D(theta),

    sum_i w_i (theta_i - theta*_i)^2  <=  2 kappa G,
    hence  |q_j - q*_j|  <=  sqrt(2 G L_j),    q = A^T W theta,  L_j = kappa sum_i w_i a_ij^2,

and q*_j is a subgradient of phi_j at every minimiser. Where all of that interval lies inside the subdifferential at a kink or
an end of phi_j, x_j stays there in every minimiser (Fercoq, Gramfort, Salmon 2015; Ndiaye et al. 2017).

The estimates here steer the iteration and are not proofs: certificates always take products with every column.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np

from solvers._core.arrays import Array, FloatArray, IntArray, to_host
from solvers.bcd import _kernels_array, _kernels_numba
from solvers.bcd._loss import LinearLoss
from solvers.bcd._problem import Composite, DualView
from solvers.bcd._separable_term import SeparableTerm

__all__ = ["Face"]

# Products use a copy of the columns left once they are fewer than this share of the columns multiplied so far.
COMPACT = 0.5
# Gaps are computed from sums whose rounding is far below this.
ROUNDING = 1e-11


class Face:
    """The coordinates of a linear model not yet screened out.

    Attributes
    ----------
    alive : (size,) bool
    screens : bool
        Whether ``screen`` does anything.
    """

    def __init__(self, problem: Composite, *, screens: bool = True) -> None:
        assert isinstance(problem.loss, LinearLoss)
        assert isinstance(problem.term, SeparableTerm)
        self.problem = problem
        self.loss: LinearLoss = problem.loss
        self.term: SeparableTerm = problem.term
        self.kernels: Any = _kernels_numba if self.loss.device is None else _kernels_array
        self.screens = screens
        self.alive = np.ones(self.loss.size, dtype=bool)
        self._columns: IntArray | None = None
        self._design = self.loss.design
        self._term = self.term

    @property
    def whole(self) -> bool:
        """Whether products still take every column."""
        return self._columns is None

    @property
    def full(self) -> bool:
        """Whether no coordinate has been screened out."""
        return bool(np.all(self.alive))

    @cached_property
    def _curvature(self) -> tuple[float, float]:
        positive = self.loss.lipschitz[self.loss.lipschitz > 0]
        return (float(np.min(positive)), float(np.max(self.term.lam))) if len(positive) else (0.0, 0.0)

    def estimate(self, scores: Array) -> DualView:
        """The dual point that the scores suggest, without slack and from products with the face's columns only.

        Off the face q and the gradient are zero, so such coordinates seem to rest.
        """
        loss = self.loss
        theta, multiple, exact = self.problem.proposed_dual(loss.slopes(scores))
        q = to_host(self._design.adjoint(loss.weighted(theta)))
        none = np.zeros(len(q))
        scale = self._term.shrink(q, none)
        values, _ = loss.dual_terms(scale * theta)
        value = float(loss.xp.sum(loss.weighted(values))) - self._term.conjugate(scale * q, none).value
        if self._columns is not None:
            full = np.zeros(loss.size)
            full[self._columns] = q
            q = full
        return DualView.of(value, scale * q, scale * multiple, exact)

    def screen(self, x: FloatArray, q: FloatArray, gap: float) -> None:
        """Strike out what a dual point with this (absolute) gap proves to rest at x."""
        gap = max(gap, 0.0) + ROUNDING * self.problem.scale
        least, most = self._curvature
        if not self.screens or not math.isfinite(gap) or 2.0 * gap * least >= most * most:
            return
        term = self.term
        left = self.kernels.screened(
            x, q, math.sqrt(2.0 * gap), self.loss.lipschitz, term.lam, term.l2, term.lower, term.upper, self.alive
        )
        if left < COMPACT * self._design.p:
            self._compact(x)

    def _compact(self, x: FloatArray) -> None:
        """Copy the columns left; coordinates at rest away from zero stay, because their images count."""
        columns = np.flatnonzero(self.alive | (x != 0.0))
        if 0 < len(columns) < COMPACT * self._design.p:
            self._columns = columns
            self._design = self.loss.design.restricted(columns)
            term = self.term
            self._term = SeparableTerm(term.lam[columns], term.l2[columns], term.lower[columns], term.upper[columns])
