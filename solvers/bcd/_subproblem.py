r"""One proximal Newton step on a working set W: minimise the model

    m(d) = g^T d + d^T A_W^T diag(h) A_W d / 2 + phi(x + d),    h = w l''(z),

by greedy coordinate descent, on the Gram matrix where rows of it are cheaper than columns of A and on columns otherwise. Two
accelerators: once the signs are stable, one Cholesky solve on the identified support (Gram matrices), and Anderson's
extrapolation of the last iterates (columns, and supports too large to factorise). For least squares the model is the loss.

The scores z of past epochs, extrapolated with the same coefficients, propose a dual point: the residual of coordinate descent
converges along a few directions, so its extrapolation is far closer to feasible than the last residual (Massias, Gramfort,
Salmon 2018).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from solvers._core.arrays import Array, FloatArray, IntArray, to_host
from solvers.bcd._design import DenseDesign
from solvers.bcd._gram import GRAM_SIZE, GramCache, weighted_gram
from solvers.bcd._kernels_numba import column_norms, column_products, gram_descent, principal, residual_descent
from solvers.bcd._loss import LinearLoss
from solvers.bcd._losses import LeastSquares
from solvers.bcd._separable_term import SeparableTerm

__all__ = ["Move", "Parts", "Subproblem", "extrapolation", "slopes_along"]

# Largest support that is finished by a Cholesky factorisation.
NEWTON_SIZE = 2500
NEWTON_ATTEMPTS = 8
# Halvings of Newton's step until it is dropped.
NEWTON_STEPS = 6
EPOCHS = 10
ROUNDS = 60
# Differences of iterates that Anderson's extrapolation combines.
ANDERSON = 5
# Relative rounding error of a sum of losses.
ROUNDING = 1e-13
# The model is solved to this share of the residual at its start.
ACCURACY = 0.05
# Epochs after which the descent is in its slow, linear phase, where extrapolated residuals beat the last one.
SLOW = 12
# Where the loss is flat, this much of its curvature bound keeps steps within reason.
FLAT = 1e-10
# A row of a Gram matrix streams; the entries of a sparse column do not.
STREAMING = 4.0
# An epoch on columns moves the coordinates whose step is above this share of the largest: to find a step takes as long as to
# make it, so hardly any is left for later.
COLUMN_BUCKET = 0.01


@dataclass
class Parts:
    """The separable penalty on a set of coordinates."""

    lam: FloatArray
    l2: FloatArray
    lower: FloatArray
    upper: FloatArray

    @classmethod
    def of(cls, term: SeparableTerm, index: IntArray) -> Parts:
        """Those of a term."""
        return cls(term.lam[index], term.l2[index], term.lower[index], term.upper[index])

    @property
    def arrays(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """In the kernels' order."""
        return (self.lam, self.l2, self.lower, self.upper)

    def value(self, x: FloatArray) -> float:
        """phi, inside the bounds."""
        return float(np.sum(self.lam * np.abs(x)) + 0.5 * np.sum(self.l2 * x * x))

    def change(self, x: FloatArray, fresh: FloatArray) -> float:
        """phi(fresh) - phi(x), from differences: both values may be far larger."""
        terms = self.lam * (np.abs(fresh) - np.abs(x)) + 0.5 * self.l2 * (fresh - x) * (fresh + x)
        return float(np.sum(terms))

    def moving(self, x: FloatArray) -> np.ndarray:
        """Coordinates at which phi is smooth."""
        return np.asarray((x > self.lower) & (x < self.upper) & ((x != 0.0) | (self.lam == 0.0)))

    def clip(self, x: FloatArray) -> FloatArray:
        """Into the bounds."""
        return np.asarray(np.clip(x, self.lower, self.upper))


@dataclass
class Move:
    """What a step on a working set did.

    Attributes
    ----------
    z : array
        The image of the new point.
    proposal : array or None
        Extrapolated scores, whose slopes are a dual point; None where there was nothing to extrapolate.
    moved : bool
        Whether anything changed.
    """

    z: Array
    proposal: Array | None
    moved: bool


@dataclass
class _Solution:
    """A minimiser of the model, A d, and A d of the extrapolated epochs or None."""

    x: FloatArray
    image: Array
    proposal: Array | None


class Subproblem:
    """Proximal Newton steps on working sets of one loss and penalty."""

    def __init__(self, loss: LinearLoss, term: SeparableTerm) -> None:
        self.loss = loss
        self.term = term
        self.quadratic = isinstance(loss, LeastSquares)
        self.cache = GramCache(loss)
        self.cautious = False

    def solve(self, x: FloatArray, z: Array, g: FloatArray | None, working: IntArray, residual: float) -> Move:
        """One Newton step on the working set, in place on x; ``g`` is the gradient of the loss, or None where unknown."""
        loss = self.loss
        tolerance = ACCURACY * residual
        on_gram = self._prefers_gram(working)
        if self.quadratic and on_gram:
            working = self.cache.take(working)
        slope = -slopes_along(loss, loss.slopes(z), working) if g is None else g[working]
        parts, start = Parts.of(self.term, working), x[working]
        if self.quadratic:
            solution = self._solved(None, slope, start, working, parts, tolerance, on_gram)
            x[working] = solution.x
            proposal = None if solution.proposal is None else z + solution.proposal
            return Move(z + solution.image, proposal, bool(np.any(solution.x != start)))
        for cautious in (self.cautious, True):
            h = loss.weighted(self._curvature(z, cautious))
            solution = self._solved(h, slope, start, working, parts, tolerance, on_gram)
            d = solution.x - start
            decrease = float(slope @ d) + parts.change(start, solution.x)
            t, z_new = self._search(z, solution.image, start, d, parts, decrease) if decrease < 0.0 else (0.0, z)
            # A flat loss (Huber far out) gives no Newton step; its bound always gives a descent step.
            self.cautious = not cautious and t < 1e-3
            if t > 0.0:
                x[working] = solution.x if t == 1.0 else parts.clip(start + t * d)
                proposal = z + solution.proposal if t == 1.0 and solution.proposal is not None else None
                return Move(z_new, proposal, True)
            if cautious:
                break
        return Move(z, None, False)

    def _prefers_gram(self, working: IntArray) -> bool:
        design = self.loss.design
        if isinstance(design, DenseDesign):
            return len(working) <= GRAM_SIZE or design.device is not None
        return len(working) <= GRAM_SIZE and len(working) ** 2 <= STREAMING * float(np.sum(design.counts[working]))

    def _solved(
        self,
        h: Array | None,
        g: FloatArray,
        start: FloatArray,
        working: IntArray,
        parts: Parts,
        tolerance: float,
        on_gram: bool,
    ) -> _Solution:
        if not on_gram:
            return self._on_columns(h, g, start, working, parts, tolerance)
        loss = self.loss
        gram, block = self.cache.gram, None
        if h is not None:
            block = loss.design.columns(working) if isinstance(loss.design, DenseDesign) else None
            gram = weighted_gram(loss, working, h, block)
            gram[np.diag_indices(len(gram))] += FLAT * loss.lipschitz[working]
        fresh, ahead = _on_gram(gram, g, start, parts, tolerance)
        if h is None:
            block = self.cache.block
            image = block @ loss.to_device(fresh - start)
            return _Solution(fresh, image, None if ahead is None else block @ loss.to_device(ahead - start))
        step = loss.to_device(fresh - start)
        image = loss.design.times_block(working, step) if block is None else block @ step
        return _Solution(fresh, image, None)

    def _curvature(self, z: Array, cautious: bool) -> Array:
        if cautious:
            return self.loss.curvature_bound * self.loss.xp.ones_like(z)
        return self.loss.curvature(z)

    def _search(
        self, z: Array, image: Array, start: FloatArray, d: FloatArray, parts: Parts, decrease: float
    ) -> tuple[float, Array]:
        """Armijo steps along the model's minimiser; the image of the step makes each trial O(n)."""
        loss = self.loss

        def value(scores: Array, point: FloatArray) -> float:
            return float(loss.xp.sum(loss.weighted(loss.terms(scores)))) + parts.value(point)

        before = value(z, start)
        # Predicted decreases below the rounding of the sum cannot be seen in it; there Newton's step is trusted.
        noise = ROUNDING * abs(before)
        t = 1.0
        for _ in range(40):
            trial = z + t * image
            if value(trial, start + t * d) <= before + 1e-4 * t * decrease + noise:
                return t, trial
            t *= 0.5
        return 0.0, z

    def _on_columns(
        self, h: Array | None, g: FloatArray, start: FloatArray, working: IntArray, parts: Parts, tolerance: float
    ) -> _Solution:
        """Descent on columns; every ANDERSON + 1 epochs their images are extrapolated, x with the same coefficients."""
        loss = self.loss
        n = loss.design.n
        matrix = loss.design.kernel
        if h is None:
            h = loss.weights
            squares = loss.lipschitz[working]
        else:
            h = np.ascontiguousarray(h)
            squares = np.empty(len(working))
            column_norms(matrix, working, h, squares)
            squares += FLAT * loss.lipschitz[working]
        x, u = start.copy(), np.zeros(n)
        v = u if h is None else np.zeros(n)
        points, images = np.empty((ANDERSON + 2, len(x))), np.empty((ANDERSON + 2, n))
        points[0], images[0], kept = x, u, 1
        threshold, ahead = 0.0, None
        for epoch in range(20 * ROUNDS):
            largest = residual_descent(matrix, working, h, squares, g, u, v, x, *parts.arrays, threshold)
            points[kept], images[kept] = x, u
            kept += 1
            threshold = COLUMN_BUCKET * largest
            if largest > tolerance and kept <= ANDERSON + 1:
                continue
            combined = extrapolation(images[:kept], h)
            past = slice(kept - (0 if combined is None else len(combined)), kept)
            if combined is not None and epoch >= SLOW:
                ahead = combined @ images[past]
            if largest <= tolerance:
                break
            if combined is not None:
                mixed, image = combined @ points[past], combined @ images[past]
                trial = parts.clip(mixed)
                if np.any(trial != mixed):
                    image = loss.design.times_block(working, trial - start)
                here = float(g @ (x - start)) + 0.5 * _square(u, h) + parts.change(start, x)
                there = float(g @ (trial - start)) + 0.5 * _square(image, h) + parts.change(start, trial)
                if there < here:
                    x, u = trial, np.ascontiguousarray(image)
                    v = u if h is None else h * u
            points[0], images[0], kept = x, u, 1
        return _Solution(x, u, ahead)


def slopes_along(loss: LinearLoss, slopes: Array, working: IntArray) -> FloatArray:
    """A_W^T W slopes, on the host."""
    if loss.device is not None or isinstance(loss.design, DenseDesign):
        return to_host(loss.design.adjoint_block(working, loss.weighted(slopes)))
    out = np.empty(len(working))
    column_products(loss.design.kernel, working, loss.weights, slopes, out)
    return out


def _square(u: FloatArray, h: FloatArray | None) -> float:
    """sum_i h_i u_i^2; h None stands for ones."""
    return float(u @ u) if h is None else float(u @ (h * u))


def extrapolation(points: list[FloatArray] | FloatArray, weights: FloatArray | None = None) -> FloatArray | None:
    """Anderson's coefficients c, summing to one, of the last points: those that minimise ``|sum c_k (p_k - p_{k-1})|``.

    None where there are fewer than two differences or they are dependent.
    """
    if len(points) < 3:
        return None
    differences = np.diff(np.array(points[-(ANDERSON + 1) :]), axis=0)
    products = (differences if weights is None else differences * weights) @ differences.T
    total = float(np.trace(products))
    if not 0.0 < total < math.inf:
        return None
    products[np.diag_indices(len(products))] += 1e-12 * total
    try:
        c = np.linalg.solve(products, np.ones(len(products)))
    except np.linalg.LinAlgError:
        return None
    scale = float(np.sum(c))
    return np.asarray(c / scale) if scale != 0.0 and math.isfinite(scale) else None


def _on_gram(
    gram: FloatArray, g: FloatArray, start: FloatArray, parts: Parts, tolerance: float
) -> tuple[FloatArray, FloatArray | None]:
    """Minimise the model on its Gram matrix; returns the point, and an extrapolated one unless Newton ended the run."""
    x, slope = start.copy(), g.copy()
    previous = np.sign(x)
    attempts = 0
    points = [x.copy()]
    for _ in range(ROUNDS):
        if gram_descent(gram, slope, x, *parts.arrays, EPOCHS, tolerance) < EPOCHS:
            break
        signs = np.sign(x)
        changed = int(np.count_nonzero(signs != previous))
        previous = signs
        index = np.flatnonzero(parts.moving(x))
        points.append(x.copy())
        if len(index) <= NEWTON_SIZE and attempts < NEWTON_ATTEMPTS:
            if changed <= max(2, len(index) // 100) and len(index):
                attempts += 1
                better = _newton_on_support(gram, slope, x, parts, index)
                if better is not None:
                    slope, x = _moved(gram, slope, x, better)
                    previous = np.sign(x)
                points = [x.copy()]
        elif len(points) > ANDERSON + 1:
            combined = extrapolation(points)
            if combined is not None:
                trial = parts.clip(combined @ np.array(points[-len(combined) :]))
                fresh, _ = _moved(gram, slope, x, trial)
                step = trial - x
                if 0.5 * float((slope + fresh) @ step) + parts.change(x, trial) < 0.0:
                    slope, x = fresh, trial
            points = [x.copy()]
    combined = extrapolation(points)
    return x, None if combined is None else combined @ np.array(points[-len(combined) :])


def _moved(gram: FloatArray, slope: FloatArray, x: FloatArray, fresh: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The model's gradient at another point, and the point."""
    step = fresh - x
    index = np.flatnonzero(step)
    return slope + step[index] @ gram[index, : len(x)], fresh


def _newton_on_support(
    gram: FloatArray, slope: FloatArray, x: FloatArray, parts: Parts, index: IntArray
) -> FloatArray | None:
    """The best point on the way to the minimiser with signs and held coordinates fixed; None where none is better.

    Coordinates stop where their sign would change or a bound is passed; shorter steps stop fewer of them.
    """
    hessian = np.empty((len(index), len(index)))
    principal(gram, index, hessian)
    diagonal = np.diagonal(hessian).copy()
    at = x[index]
    some = Parts(parts.lam[index], parts.l2[index], parts.lower[index], parts.upper[index])
    rhs = -(slope[index] + some.lam * np.sign(at) + some.l2 * at)
    hessian[np.diag_indices(len(index))] += some.l2 + 1e-13 * float(np.mean(diagonal))
    try:
        # The transpose is a Fortran view: the factor overwrites one triangle and leaves the other.
        factor = scipy.linalg.cho_factor(hessian.T, lower=True, overwrite_a=True, check_finite=False)
    except scipy.linalg.LinAlgError:
        return None
    d = scipy.linalg.cho_solve(factor, rhs, check_finite=False)
    restored = diagonal - np.diagonal(factor[0])
    best, value = None, 0.0
    t = 1.0
    for _ in range(NEWTON_STEPS):
        trial = some.clip(np.where((at + t * d) * at < 0.0, 0.0, at + t * d))
        step = trial - at
        image = scipy.linalg.blas.dsymv(1.0, factor[0], step, lower=0) + restored * step
        change = float(slope[index] @ step) + 0.5 * float(step @ image) + some.change(at, trial)
        if change < value:
            best, value = trial, change
        elif best is not None:
            break
        t *= 0.5
    if best is None:
        return None
    full = x.copy()
    full[index] = best
    return full
