r"""Rigorous lower bounds on min x^T Q x / 2 - c^T x + phi(x), from any point.

For every point u, with q = c - Q u = q' + v and q' in the domain of phi*,

    f(x) + phi(x)  >=  -u^T Q u / 2 - phi*(q') - v^T u - v^T Q^{-1} v / 2.                                    (1)

Where q' is a subgradient of phi at u, phi*(q') = q' u - phi(u), and only the last term separates (1) from F(u): the gap is
quadratic in the residual. Where u rests on a bound q' = q costs nothing. Near a bound the linear loss |q| times the distance to
it may be smaller; each coordinate chooses.

The inverse is bounded without a factorisation, by what a :class:`Definiteness` holds:

* a spanning forest, for diagonally dominant Q (:mod:`solvers.bcd._spanning_forest`);
* w > 0 with s = (2 diag Q - |Q|) w > 0: then |Q^{-1} v| <= max_j (|v_j| / s_j) w (comparison matrices, Ostrowski 1937);
* a proved least eigenvalue (:mod:`solvers.bcd._least_eigenvalue`, or all of them for small matrices).

Where Q is not known to be definite, radii of the bounds charge what lies outside the domain. Nothing here is used by the
iterations except what they read from its answers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.jit import njit
from solvers._core.linalg import UNIT
from solvers.bcd._certificate import SUBNORMAL, UNDERFLOW, LowerBound
from solvers.bcd._least_eigenvalue import balanced, least_eigenvalue_exceeds
from solvers.bcd._quadratic import Quadratic, compressed
from solvers.bcd._separable_term import SeparableTerm
from solvers.bcd._spanning_forest import SpanningForest, spanning_forest
from solvers.bcd._term import Term

__all__ = ["Definiteness", "QuadraticCertifier"]

# Terms added up before they join the total.
SUM_BLOCK = 512


class Definiteness(NamedTuple):
    """What may prove Q positive definite; nothing is assumed about it."""

    weights: FloatArray | None = None
    parents: IntArray | None = None
    least: float | None = None


class Plane(NamedTuple):
    """The parts of (1) at a point: q, its rounding error, -u^T Q u / 2, and the rounding error of that."""

    q: FloatArray
    error: FloatArray
    energy: float
    slack: float


class QuadraticCertifier:
    """Evaluates (1) for one quadratic and penalty."""

    def __init__(self, loss: Quadratic, term: Term) -> None:
        self.loss = loss
        self.term = term

    def evaluate(self, point: FloatArray, proof: Definiteness) -> LowerBound:
        """(1) at a point; -inf where nothing is proved."""
        loss = self.loss
        forest = self._forest(proof.parents)
        if forest is not None and isinstance(self.term, SeparableTerm):
            return self._by_forest(point, forest, self.term)
        image, most = loss.image_and_size(point)
        most = most + np.abs(loss.host_c)
        error = 1.01 * UNIT * (loss.row_counts + 8) * most + UNDERFLOW
        size = np.abs(point)
        energy = -0.5 * float(np.sum(point * image))
        slack = float(np.sum(size * error)) + 64 * UNIT * float(np.sum(size * most))
        plane = Plane(loss.host_c - image, error, energy, slack)
        sums = self.sound_weights(proof.weights)
        balance = self._balance(proof.least)
        if sums is None and balance is None and not loss.curvature > 0:
            return self._by_radius(point, plane)
        splits = self._splits(point, plane.q)
        bounds = [self._by_curvature(point, plane, q, balance, proof.weights, sums) for q in splits]
        if balance is not None and not loss.curvature > 0:
            bounds.append(self._by_radius(point, plane))
        return max(bounds, key=lambda bound: bound.published)

    # -- what bounds the inverse ---------------------------------------------------------------------------------

    def _forest(self, parents: IntArray | None) -> SpanningForest | None:
        """The checked forest, kept with the data: right-hand sides share it.

        What is kept is a copy: a certificate is the caller's, and may have been written to since it was checked.
        """
        loss = self.loss
        if parents is None or loss.sparse is None or parents.dtype != np.int64:
            return None
        checked, found = loss.proofs.get("forest", (None, None))
        if checked is None or not np.array_equal(checked, parents):
            checked = parents.copy()
            found = spanning_forest(loss.graph, checked)
            loss.proofs["forest"] = checked, found
        assert found is None or isinstance(found, SpanningForest)
        return found

    def _balance(self, least: float | None) -> FloatArray | None:
        """h > 0 with Q >= diag(h)^2, where it is proved that the balanced Q has no eigenvalue below ``least``; kept with Q."""
        loss = self.loss
        if not isinstance(least, float) or loss.dense is None or loss.device is not None:
            return None
        balance: FloatArray | None
        checked, balance = loss.proofs.get("least", (math.nan, None))
        if checked != least:
            matrix, units = balanced(loss.dense)
            holds = least_eigenvalue_exceeds(matrix, least)
            balance = units * (math.sqrt(least) * (1.0 - 4.0 * UNIT)) if holds else None
            loss.proofs["least"] = least, balance
        return balance

    def sound_weights(self, weights: FloatArray | None) -> FloatArray | None:
        """s = (2 diag Q - |Q|) w, rounded down, if w and s are positive."""
        if weights is None or not np.isfinite(weights).all() or np.any(weights <= 0):
            return None
        loss = self.loss
        image = loss.image_and_size(weights)[1]
        slack = 2 * UNIT * (loss.row_counts + 8) * (image + 2.0 * loss.lipschitz * weights) + UNDERFLOW
        sums = 2.0 * loss.lipschitz * weights - image - slack
        return sums if np.all(sums > 0) else None

    # -- the cases -----------------------------------------------------------------------------------------------

    def _splits(self, point: FloatArray, q: FloatArray) -> list[FloatArray]:
        """Candidates for q': nearest to q, and subgradients wherever that is cheaper coordinate by coordinate."""
        term = self.term
        nearest = term.nearest_dual(q)
        if not isinstance(term, SeparableTerm) or term.smooth:
            return [nearest]
        mixed = np.empty_like(nearest)
        _subgradients(
            point,
            q,
            nearest,
            self.loss.lipschitz,
            term.lam,
            term.l2,
            np.asarray(term.lower),
            np.asarray(term.upper),
            mixed,
        )
        return [mixed, nearest]

    def _by_forest(self, point: FloatArray, forest: SpanningForest, term: SeparableTerm) -> LowerBound:
        """(1) in one pass over the rows, then one over the forest."""
        loss = self.loss
        assert loss.sparse is not None
        v, doubt = np.empty(loss.size), np.empty(loss.size)
        parts = (loss.lipschitz, term.lam, term.l2, np.asarray(term.lower), np.asarray(term.upper))
        best = LowerBound(-math.inf, 0.0)
        for mixed in (True, False):
            value, slack, linear = _split(
                *compressed(loss.sparse), loss.host_c, np.asarray(point), *parts, mixed, v, doubt
            )
            charge, rounding = forest.charge(v, doubt)
            value -= charge * (1 + 1e-12)
            bound = LowerBound(value, slack + 2.0 * rounding) if math.isfinite(value) else LowerBound(-math.inf, 0.0)
            best = max(best, bound, key=lambda bound: bound.published)
            # Only where the forest charges more than distances to the bounds would is the other split worth a look.
            if not charge > linear:
                break
        return best

    def _by_curvature(
        self,
        point: FloatArray,
        plane: Plane,
        inside: FloatArray,
        balance: FloatArray | None,
        weights: FloatArray | None,
        sums: FloatArray | None,
    ) -> LowerBound:
        """(1); the rounding of q is part of v."""
        exact = self.term.conjugate(inside, np.zeros_like(inside))
        v = plane.q - inside
        doubt = plane.error + exact.excess + 2 * UNIT * np.abs(v)
        size = np.abs(v) + doubt
        charge = math.inf
        if sums is not None:
            assert weights is not None
            charge = min(charge, 0.5 * float(np.sum(size * (weights * float(np.max(size / sums))))))
        if self.loss.curvature > 0:
            charge = min(charge, 0.5 * float(np.sum(size * (size / self.loss.curvature))))
        if balance is not None:
            charge = min(charge, 0.5 * float(np.sum((size / balance) ** 2)))
        # Divided before they are squared: small residuals over a small Q need not be a small charge.
        charge += 8 * SUBNORMAL * len(size)
        value = plane.energy - exact.value - float(np.sum(v * point)) - charge * (1 + 1e-12)
        if not math.isfinite(value):
            return LowerBound(-math.inf, 0.0)
        distance = np.abs(point)
        slack = plane.slack + 64 * UNIT * (exact.magnitude + float(np.sum(size * distance)))
        return LowerBound(value, slack + float(np.sum(doubt * distance)))

    def _by_radius(self, point: FloatArray, plane: Plane) -> LowerBound:
        """(1) without curvature: what lies outside the domain is charged by radii."""
        conjugate = self.term.conjugate(plane.q, plane.error)
        radius = self._radius()
        charged = conjugate.excess > 0
        charge = float(np.sum(conjugate.excess[charged] * radius[charged])) if np.any(charged) else 0.0
        if self.loss.curvature < 0:
            charge += 0.5 * -self.loss.curvature * float(np.sum((radius + np.abs(point)) ** 2))
        value = plane.energy - conjugate.value - charge * (1 + 1e-12)
        if not math.isfinite(value):
            return LowerBound(-math.inf, 0.0)
        return LowerBound(value, plane.slack + 64 * UNIT * (conjugate.magnitude + charge))

    def _radius(self) -> FloatArray:
        """|x_j| of any feasible point: only bounds count, since f may be negative."""
        if isinstance(self.term, SeparableTerm):
            return np.maximum(np.abs(self.term.lower), np.abs(self.term.upper))
        return np.full(self.term.size, np.inf)


@njit()
def _subgradient(
    u: float, q: float, nearest: float, diagonal: float, lam: float, l2: float, lower: float, upper: float
) -> tuple[float, float]:
    """q' = phi'(u) where the way to the bound (or kink) that q pushes towards is longer than a Newton step; its linear loss.

    Elsewhere q' is the point of the domain nearest to q, and the second number is zero.
    """
    if not lower < u < upper or (lam > 0.0 and u == 0.0):
        return nearest, 0.0
    slope = l2 * u
    if lam > 0.0:
        slope += lam if u > 0.0 else -lam
    push = q - slope
    room = upper - u if push > 0.0 else u - lower
    if lam > 0.0 and (push > 0.0) != (u > 0.0):
        room = min(room, abs(u))
    if abs(push) < diagonal * room:
        return slope, abs(push) * room
    return nearest, 0.0


@njit()
def _subgradients(
    u: FloatArray,
    q: FloatArray,
    nearest: FloatArray,
    diagonal: FloatArray,
    lam: FloatArray,
    l2: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    out: FloatArray,
) -> None:
    for i in range(len(u)):
        out[i], _ = _subgradient(u[i], q[i], nearest[i], diagonal[i], lam[i], l2[i], lower[i], upper[i])


@njit()
def _conjugate(s: float, lam: float, l2: float, lower: float, upper: float) -> tuple[float, float]:
    """sup of s x - lam |x| - l2 x^2 / 2 between the bounds, s being in the domain, and the size of the products added."""
    if l2 > 0.0:
        slope = max(abs(s) - lam, 0.0)
        peak = min(max((slope if s > 0.0 else -slope) / l2, lower), upper)
        return s * peak - lam * abs(peak) - 0.5 * l2 * peak * peak, (abs(s) + lam) * abs(peak)
    # A convex function of x is largest at an end or at the point nearest zero.
    at = min(max(0.0, lower), upper)
    best, size = s * at - lam * abs(at), (abs(s) + lam) * abs(at)
    if np.isfinite(lower):
        best, size = max(best, s * lower - lam * abs(lower)), max(size, (abs(s) + lam) * abs(lower))
    if np.isfinite(upper):
        best, size = max(best, s * upper - lam * abs(upper)), max(size, (abs(s) + lam) * abs(upper))
    return best, size


@njit()
def _split(
    data: FloatArray,
    indices: IntArray,
    indptr: IntArray,
    c: FloatArray,
    u: FloatArray,
    diagonal: FloatArray,
    lam: FloatArray,
    l2: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    mixed: bool,
    v: FloatArray,
    doubt: FloatArray,
) -> tuple[float, float, float]:
    """c - Q u = q' + v with the error of v; -u^T Q u / 2 - phi*(q') - v^T u, a bound on its rounding error, linear losses."""
    n = len(u)
    value = slack = linear = 0.0
    for start in range(0, n, SUM_BLOCK):
        # Running errors of a sum of block sums stay far below those of one long sum.
        block = 0.0
        for i in range(start, min(start + SUM_BLOCK, n)):
            image = most = 0.0
            for k in range(indptr[i], indptr[i + 1]):
                part = data[k] * u[indices[k]]
                image += part
                most += abs(part)
            most += abs(c[i])
            error = 1.01 * UNIT * (indptr[i + 1] - indptr[i] + 8) * most + UNDERFLOW
            q = c[i] - image
            inside = q
            if l2[i] == 0.0 and upper[i] == np.inf:
                inside = min(inside, lam[i])
            if l2[i] == 0.0 and lower[i] == -np.inf:
                inside = max(inside, -lam[i])
            if mixed:
                inside, lost = _subgradient(u[i], q, inside, diagonal[i], lam[i], l2[i], lower[i], upper[i])
                linear += lost
            conjugate, extent = _conjugate(inside, lam[i], l2[i], lower[i], upper[i])
            v[i] = q - inside
            doubt[i] = error + 2 * UNIT * abs(v[i])
            size = abs(u[i])
            block -= (0.5 * image + v[i]) * u[i] + conjugate
            slack += size * (2.0 * error + doubt[i]) + UNIT * abs(block)
            slack += 6 * UNIT * (size * (abs(image) + abs(v[i])) + extent + abs(conjugate))
        value += block
        slack += UNIT * abs(value)
    return value, slack * (1 + 4 * UNIT * n), linear
