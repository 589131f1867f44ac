r"""The working-set engine: sparse problems, most coordinates of which never move.

Each outer iteration takes one full gradient, certifies, and chooses a working set W: the coordinates away from zero
(or from a bound) and the most promising others by the GSL-q score. On W it takes one proximal Newton step: the model

    g^T d + d^T A^T diag(h) A d / 2 + phi(x + d),    h = w l''(z),

is minimised by coordinate descent, on the Gram matrix where that fits and on columns otherwise, accelerated by Anderson
extrapolation; once the signs are stable one Cholesky solve on the identified support replaces the tail of the descent.
For least squares the model is the loss and one step on W is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.linalg

from solvers._core.arrays import Array, FloatArray, IntArray, to_host
from solvers._core.result import Status
from solvers.bcd import _kernels_array, _kernels_numba
from solvers.bcd._design import DenseDesign
from solvers.bcd._kernels_numba import column_norms, gram_descent, residual_descent
from solvers.bcd._loss import LinearLoss
from solvers.bcd._losses import LeastSquares
from solvers.bcd._penalties import SeparableTerm
from solvers.bcd._run import Run

__all__ = ["solve_working_sets"]

# Columns added at least, dense and sparse (whose columns are cheap); more once the support is larger.
GROWTH_DENSE, GROWTH_SPARSE = 100, 300
# Largest working set whose Gram matrix is formed.
GRAM_SIZE = 2500
# Largest support that is finished by a Cholesky factorisation.
NEWTON_SIZE = 2500
EPOCHS = 10
ROUNDS = 60
ANDERSON = 5
# Relative rounding error of a sum of losses.
ROUNDING = 1e-13


@dataclass
class _Parts:
    """The separable penalty on a set of coordinates."""

    lam: FloatArray
    l2: FloatArray
    lower: FloatArray
    upper: FloatArray

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


@dataclass
class _GramCache:
    """Columns of past working sets and their Gram matrix with the sample weights, extended by new columns only."""

    columns: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    gram: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    block: Array = None
    held: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))

    def extended(self, loss: LinearLoss, working: IntArray) -> IntArray:
        """Take in a working set; returns all columns held, its own or not: more columns do no harm."""
        xp = loss.xp
        if len(self.held) == 0:
            self.held = np.zeros(loss.design.p, dtype=bool)
        fresh = working[~self.held[working]]
        if len(self.columns) == 0 or len(self.columns) + len(fresh) > GRAM_SIZE:
            self.held[:] = False
            self.columns, self.block = working, loss.design.columns(working)
            self.gram = _product(loss, self.block, self.block)
        elif len(fresh):
            old, block = len(self.columns), loss.design.columns(fresh)
            wider = np.empty((old + len(fresh), old + len(fresh)))
            wider[:old, :old] = self.gram
            wider[old:, :old] = _product(loss, block, self.block)
            wider[:old, old:] = wider[old:, :old].T
            wider[old:, old:] = _product(loss, block, block)
            self.columns, self.gram = np.concatenate([self.columns, fresh]), wider
            self.block = xp.concat([self.block, block], axis=1)
        self.held[self.columns] = True
        return self.columns


def _weighted_gram(loss: LinearLoss, block: Array, h: Array) -> FloatArray:
    scaled = block * loss.xp.sqrt(h)[:, None]
    return to_host(scaled.T @ scaled)


def _product(loss: LinearLoss, left: Array, right: Array) -> FloatArray:
    weighted = left if loss.weights is None else left * loss.weights[:, None]
    return to_host(weighted.T @ right)


def solve_working_sets(run: Run, x: FloatArray) -> None:
    """Outer loop: certify, choose a working set, solve on it."""
    problem, monitor = run.problem, run.monitor
    loss, term = problem.loss, problem.term
    assert isinstance(loss, LinearLoss)
    assert isinstance(term, SeparableTerm)
    solver = _Inner(loss, term)
    score = np.empty(loss.size)
    z = loss.image(x)
    everyone = (term.lam, term.l2, term.lower, term.upper)
    size = GROWTH_DENSE if solver.dense else GROWTH_SPARSE
    kernels: Any = _kernels_numba if loss.device is None else _kernels_array
    g = run.certify_linear(x, z)
    while monitor.running():
        largest = kernels.violations(x, g, loss.lipschitz, *everyone, score)
        residual = math.sqrt(largest)
        if largest <= 1e-30 * problem.scale:
            monitor.finish(Status.CONVERGED)
            break
        resting = (x == term.lower) | (x == term.upper) | ((x == 0.0) & (term.lam > 0.0))
        held = np.flatnonzero(~resting)
        size = max(size, len(held))
        score[held] = np.inf
        working = _best(score, len(held) + size)
        z, moved = solver.solve(x, z, g, working, residual)
        if monitor.nit % 10 == 0:
            z = loss.image(x)
        g = run.certify_linear(x, z)
        monitor.checkpoint(residual)
        if not moved or monitor.stalled(monitor.gap if monitor.bound > 0 else residual, 10):
            monitor.finish(Status.STALLED)


def _best(score: FloatArray, count: int) -> IntArray:
    """Coordinates of the highest scores, all of them positive, ascending."""
    candidates = np.flatnonzero(score > 0.0)
    if len(candidates) > count:
        top = np.argpartition(-score[candidates], count - 1)[:count]
        candidates = np.sort(candidates[top])
    return candidates


class _Inner:
    """Proximal Newton on a working set."""

    def __init__(self, loss: LinearLoss, term: SeparableTerm) -> None:
        self.loss = loss
        self.term = term
        self.quadratic = isinstance(loss, LeastSquares)
        self.dense = isinstance(loss.design, DenseDesign)
        self.cache = _GramCache()
        self.cautious = False

    def solve(self, x: FloatArray, z: Array, g: FloatArray, working: IntArray, residual: float) -> tuple[Array, bool]:
        """One Newton step on the working set, in place on x; returns the new image and whether anything moved."""
        loss, term = self.loss, self.term
        gram_mode = self.dense and (len(working) <= GRAM_SIZE or loss.device is not None)
        if gram_mode and self.quadratic:
            working = self.cache.extended(loss, working)
        parts = _Parts(term.lam[working], term.l2[working], term.lower[working], term.upper[working])
        slope, start = g[working], x[working]
        block = None
        if gram_mode:
            block = self.cache.block if self.quadratic else loss.design.columns(working)
        for cautious in (self.cautious, True):
            h = None if self.quadratic else loss.weighted(self._curvature(z, cautious))
            if gram_mode:
                gram = self.cache.gram if h is None else _weighted_gram(loss, block, h)
                fresh = _gram_model(gram, slope, start, parts, 0.05 * residual)
                image = block @ loss.to_device(fresh - start)
            else:
                fresh, image = self._column_model(h, slope, start, working, parts, 0.05 * residual)
            d = fresh - start
            if self.quadratic:
                x[working] = fresh
                return z + image, bool(np.any(d))
            decrease = float(slope @ d) + parts.change(start, fresh)
            t, z_new = self._search(z, image, start, d, parts, decrease) if decrease < 0.0 else (0.0, z)
            # A flat loss (Huber far out) gives no Newton step; its bound always gives a descent step.
            self.cautious = not cautious and t < 1e-3
            if t > 0.0:
                x[working] = fresh if t == 1.0 else np.clip(start + t * d, parts.lower, parts.upper)
                return z_new, True
            if cautious:
                break
        return z, False

    def _curvature(self, z: Array, cautious: bool) -> Array:
        if cautious:
            return self.loss.curvature_bound * self.loss.xp.ones_like(z)
        return self.loss.curvature(z)

    def _search(
        self, z: Array, image: Array, start: FloatArray, d: FloatArray, parts: _Parts, decrease: float
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

    def _column_model(
        self, h: Array | None, g: FloatArray, start: FloatArray, working: IntArray, parts: _Parts, tolerance: float
    ) -> tuple[FloatArray, FloatArray]:
        """Coordinate descent on columns with Anderson extrapolation; returns x_W and A d."""
        loss = self.loss
        n = loss.design.n
        if h is None:
            h = np.ones(n) if loss.weights is None else np.asarray(loss.weights)
        h = np.ascontiguousarray(h)
        matrix = loss.design.kernel
        squares = np.empty(len(working))
        column_norms(matrix, working, h, squares)
        if not self.quadratic:
            # Where the loss is flat, its bound keeps steps within reason.
            squares = squares + 1e-10 * loss.lipschitz[working]
        x, u = start.copy(), np.zeros(n)
        history = [x.copy()]
        for _ in range(20 * ROUNDS):
            residual_descent(matrix, working, h, squares, g, u, x, *parts.arrays, 1, tolerance)
            history.append(x.copy())
            step = math.sqrt(float(np.max(squares * (history[-1] - history[-2]) ** 2)))
            if step <= tolerance:
                break
            if len(history) > ANDERSON + 1:
                trial = _extrapolate(history, parts)
                if trial is not None:
                    image = loss.design.times_block(working, trial - start)
                    here = float(g @ (x - start)) + 0.5 * float(np.sum(h * u * u)) + parts.change(start, x)
                    there = (
                        float(g @ (trial - start)) + 0.5 * float(np.sum(h * image * image)) + parts.change(start, trial)
                    )
                    if there < here:
                        x, u = trial, np.ascontiguousarray(image)
                history = [x.copy()]
        return x, u


def _gram_model(gram: FloatArray, g: FloatArray, start: FloatArray, parts: _Parts, tolerance: float) -> FloatArray:
    """Minimise the model on its Gram matrix: descent until signs are stable, then a solve on the support."""
    x, slope = start.copy(), g.copy()
    gram = np.ascontiguousarray(gram)
    previous = np.sign(x)
    attempts = 0
    for _ in range(ROUNDS):
        if gram_descent(gram, slope, x, *parts.arrays, EPOCHS, tolerance) < EPOCHS:
            break
        signs = np.sign(x)
        changed = int(np.count_nonzero(signs != previous))
        previous = signs
        moving = parts.moving(x)
        count = int(np.count_nonzero(moving))
        if changed <= max(2, count // 100) and 0 < count <= NEWTON_SIZE and attempts < 8:
            attempts += 1
            better = _newton_on_support(gram, slope, x, parts, moving)
            if better is not None:
                slope = slope + gram @ (better - x)
                x = better
                previous = np.sign(x)
    return x


def _newton_on_support(
    gram: FloatArray, slope: FloatArray, x: FloatArray, parts: _Parts, moving: np.ndarray
) -> FloatArray | None:
    """The minimiser with signs and held coordinates fixed, cut back to where signs last; None where no better."""
    index = np.flatnonzero(moving)
    hessian = gram[np.ix_(index, index)]
    ridge = parts.l2[index] + 1e-13 * float(np.trace(hessian)) / len(index)
    hessian[np.diag_indices(len(index))] += ridge
    rhs = -(slope[index] + parts.lam[index] * np.sign(x[index]) + parts.l2[index] * x[index])
    try:
        factor = scipy.linalg.cho_factor(hessian, lower=True, overwrite_a=True, check_finite=False)
    except scipy.linalg.LinAlgError:
        return None
    d = np.zeros_like(x)
    d[index] = scipy.linalg.cho_solve(factor, rhs, check_finite=False)
    full = x + d
    clipped = np.clip(np.where(full * x < 0.0, 0.0, full), parts.lower, parts.upper)
    best, value = None, 0.0
    for trial in (full, clipped):
        if np.any(trial < parts.lower) or np.any(trial > parts.upper):
            continue
        step = trial - x
        change = float(slope @ step) + 0.5 * float(step @ (gram @ step)) + parts.change(x, trial)
        if change < value:
            best, value = trial, change
    return best


def _extrapolate(history: list[FloatArray], parts: _Parts) -> FloatArray | None:
    """Anderson's combination of the last iterates, clipped; None where the differences are dependent."""
    points = np.array(history[-(ANDERSON + 1) :])
    differences = np.diff(points, axis=0)
    gram = differences @ differences.T
    gram[np.diag_indices(ANDERSON)] += 1e-12 * np.trace(gram)
    try:
        c = np.linalg.solve(gram, np.ones(ANDERSON))
    except np.linalg.LinAlgError:
        return None
    total = float(np.sum(c))
    if total == 0.0 or not math.isfinite(total):
        return None
    return np.asarray(np.clip((c / total) @ points[1:], parts.lower, parts.upper))
