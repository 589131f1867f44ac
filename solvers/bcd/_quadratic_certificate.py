r"""Rigorous lower bounds on min x^T Q x / 2 - c^T x + phi(x), from any point.

For every point u, with q = c - Q u = q' + v and q' in the domain of phi*,

    f(x) + phi(x)  >=  -u^T Q u / 2 - phi*(q') - v^T u - v^T Q^{-1} v / 2.                                    (1)

Where q' is a subgradient of phi at u, phi*(q') = q' u - phi(u), and only the last term separates (1) from F(u): the gap is
quadratic in the residual. Where u rests on a bound q' = q costs nothing. Near a bound the linear loss |q| times the distance to
it may be smaller; each coordinate chooses.

The inverse is bounded without a factorisation, by what a :class:`Definiteness` holds:

* a spanning forest, for diagonally dominant Q (:mod:`solvers.bcd._spanning_forest`);
* w > 0 with s = (2 diag Q - |Q|) w > 0: then |Q^{-1} v| <= max_j (|v_j| / s_j) w (comparison matrices, Ostrowski 1937);
* a proved least eigenvalue.

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
from solvers.bcd._certificate import UNDERFLOW, LowerBound
from solvers.bcd._penalties import SeparableTerm, Term
from solvers.bcd._quadratic import Quadratic, compressed
from solvers.bcd._spanning_forest import SpanningForest, spanning_forest

__all__ = ["Definiteness", "QuadraticCertifier"]

# Terms added up before they join the total.
SUM_BLOCK = 512


class Definiteness(NamedTuple):
    """What may prove Q positive definite; nothing is assumed about either."""

    weights: FloatArray | None = None
    parents: IntArray | None = None


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
        self._smooth = isinstance(term, SeparableTerm) and term.smooth

    def evaluate(self, point: FloatArray, proof: Definiteness) -> LowerBound:
        """(1) at a point; -inf where nothing is proved."""
        loss = self.loss
        forest = self._forest(proof.parents)
        if forest is not None and self._smooth:
            return self._by_forest(point, forest)
        image, most = loss.image_and_size(point)
        most = most + np.abs(loss.host_c)
        error = 1.01 * UNIT * (loss.row_counts + 8) * most + UNDERFLOW
        size = np.abs(point)
        energy = -0.5 * float(np.sum(point * image))
        slack = float(np.sum(size * error)) + 64 * UNIT * float(np.sum(size * most))
        plane = Plane(loss.host_c - image, error, energy, slack)
        sums = self.sound_weights(proof.weights)
        if forest is None and sums is None and not loss.curvature > 0:
            return self._by_radius(point, plane)
        bounds = [
            self._by_curvature(point, plane, split, forest, proof.weights, sums)
            for split in self._splits(point, plane.q)
        ]
        return max(bounds, key=lambda bound: bound.published)

    # -- what bounds the inverse ---------------------------------------------------------------------------------

    def _forest(self, parents: IntArray | None) -> SpanningForest | None:
        """The checked forest, kept with the data: right-hand sides share it."""
        loss = self.loss
        if parents is None or loss.sparse is None:
            return None
        if loss.proofs.get("parents") is not parents:
            loss.proofs["forest"] = spanning_forest(loss.graph, parents)
            loss.proofs["parents"] = parents
        found = loss.proofs["forest"]
        assert found is None or isinstance(found, SpanningForest)
        return found

    def sound_weights(self, weights: FloatArray | None) -> FloatArray | None:
        """s = (2 diag Q - |Q|) w, rounded down, if w and s are positive."""
        if weights is None or not np.isfinite(weights).all() or np.any(weights <= 0):
            return None
        loss = self.loss
        image = loss.image_and_size(weights)[1]
        slack = 2 * UNIT * (loss.row_counts + 8) * (image + 2.0 * loss.lipschitz * weights) + UNDERFLOW
        sums = 2.0 * loss.lipschitz * weights - image - slack
        return sums if np.all(sums > 0) else None

    # -- the two cases -------------------------------------------------------------------------------------------

    def _splits(self, point: FloatArray, q: FloatArray) -> list[FloatArray]:
        """Candidates for q': nearest to q, and subgradients wherever that is cheaper coordinate by coordinate."""
        term = self.term
        nearest = term.nearest_dual(q)
        if not isinstance(term, SeparableTerm) or self._smooth:
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

    def _by_forest(self, point: FloatArray, forest: SpanningForest) -> LowerBound:
        """(1) without a penalty: q' = 0, and all of it in one pass."""
        loss = self.loss
        v, doubt = np.empty(loss.size), np.empty(loss.size)
        assert loss.sparse is not None
        value, slack = _residual(*compressed(loss.sparse), loss.host_c, np.asarray(point), v, doubt)
        charge, rounding = forest.charge(v, doubt)
        value -= charge * (1 + 1e-12)
        return LowerBound(value, slack + 2.0 * rounding) if math.isfinite(value) else LowerBound(-math.inf, 0.0)

    def _by_curvature(
        self,
        point: FloatArray,
        plane: Plane,
        inside: FloatArray,
        forest: SpanningForest | None,
        weights: FloatArray | None,
        sums: FloatArray | None,
    ) -> LowerBound:
        """(1); the rounding of q is part of v."""
        exact = self.term.conjugate(inside, np.zeros_like(inside))
        v = plane.q - inside
        doubt = plane.error + exact.excess + 2 * UNIT * np.abs(v)
        size = np.abs(v) + doubt
        charge, rounding = math.inf, 0.0
        if forest is not None:
            charge, rounding = forest.charge(v, doubt)
        if sums is not None:
            assert weights is not None
            charge = min(charge, 0.5 * float(np.sum(size * weights)) * float(np.max(size / sums)))
        if self.loss.curvature > 0:
            charge = min(charge, 0.5 * float(np.sum(size * size)) / self.loss.curvature)
        value = plane.energy - exact.value - float(np.sum(v * point)) - charge * (1 + 1e-12)
        if not math.isfinite(value):
            return LowerBound(-math.inf, 0.0)
        distance = np.abs(point)
        slack = (
            plane.slack + 2.0 * min(rounding, charge) + 64 * UNIT * (exact.magnitude + float(np.sum(size * distance)))
        )
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
    """q' = phi'(u) where the distance to the bound (or kink) that q pushes towards exceeds that of a Newton step."""
    for i in range(len(u)):
        out[i] = nearest[i]
        if not lower[i] < u[i] < upper[i] or (lam[i] > 0.0 and u[i] == 0.0):
            continue
        slope = l2[i] * u[i]
        if lam[i] > 0.0:
            slope += lam[i] if u[i] > 0.0 else -lam[i]
        push = q[i] - slope
        room = upper[i] - u[i] if push > 0.0 else u[i] - lower[i]
        if lam[i] > 0.0 and (push > 0.0) != (u[i] > 0.0):
            room = min(room, abs(u[i]))
        if abs(push) < diagonal[i] * room:
            out[i] = slope


@njit()
def _residual(
    data: FloatArray,
    indices: IntArray,
    indptr: IntArray,
    c: FloatArray,
    u: FloatArray,
    v: FloatArray,
    doubt: FloatArray,
) -> tuple[float, float]:
    """v = c - Q u with its error; -u^T Q u / 2 - v^T u and a bound on its rounding error."""
    n = len(u)
    value = slack = 0.0
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
            v[i] = c[i] - image
            doubt[i] = error + 2 * UNIT * abs(v[i])
            size = abs(u[i])
            block -= (0.5 * image + v[i]) * u[i]
            slack += size * (2.0 * error + doubt[i]) + 4 * UNIT * size * (abs(image) + abs(v[i])) + UNIT * abs(block)
        value += block
        slack += UNIT * abs(value)
    return value, slack * (1 + 4 * UNIT * n)
