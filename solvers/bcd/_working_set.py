r"""The working-set engine: sparse problems, most coordinates of which never move.

Each outer iteration takes the gradient, screens out what the duality gap proves to rest, and chooses a working set W: the
coordinates away from zero (or from a bound) and the most promising others by the GSL-q score. A proximal Newton step on W
(:mod:`solvers.bcd._subproblem`) gives the next point and, by extrapolation, the next dual point.

Certificates are dear: until the estimated gap is small enough the iteration looks at estimates only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from solvers._core.arrays import Array, FloatArray, IntArray
from solvers._core.result import Status, relative_gap
from solvers.bcd._design import DenseDesign
from solvers.bcd._loss import LinearLoss
from solvers.bcd._problem import DualView
from solvers.bcd._run import Run
from solvers.bcd._screening import Face
from solvers.bcd._separable_term import SeparableTerm
from solvers.bcd._subproblem import Parts, Subproblem, slopes_along

__all__ = ["solve_working_sets"]

# Columns added at least; for larger supports half of them where columns are dense and fill Gram matrices, as many again where
# they are sparse and cheap beside a product with all of them: a hundredth of those, visited in dozens of epochs, costs about as
# much.
GROWTH_DENSE, GROWTH_SPARSE, SHARE_SPARSE = 100, 300, 0.01
# The images of points are recomputed, and a certificate taken, every so many outer iterations.
REFRESH = 10


@dataclass
class _View:
    """What is known at a point.

    Attributes
    ----------
    ranking : (size,) array
        Gradient of the loss at the dual point's scores, zero for coordinates screened out: which coordinates matter.
    gradient : (size,) array or None
        Gradient of the loss at the point itself, where it is known for every coordinate.
    gap : float
        Relative gap.
    certified : bool
        Whether the gap is proved, or an estimate.
    proposed : bool
        Whether the dual point is an extrapolated one.
    """

    ranking: FloatArray
    gradient: FloatArray | None
    gap: float
    certified: bool
    proposed: bool


def solve_working_sets(run: Run, x: FloatArray) -> None:
    """Outer loop: look at the point, choose a working set, step on it."""
    problem, monitor = run.problem, run.monitor
    loss, term = problem.loss, problem.term
    assert isinstance(loss, LinearLoss)
    assert isinstance(term, SeparableTerm)
    face, subproblem = Face(problem), Subproblem(loss, term)
    score = np.empty(loss.size)
    z = loss.image(x)
    dense = isinstance(loss.design, DenseDesign)
    size = GROWTH_DENSE if dense else max(GROWTH_SPARSE, int(SHARE_SPARSE * loss.design.p))
    # At the start the certificate makes the first bound; later views certify when that may end the run.
    view = _certified(run, face, x, z, None)
    before = math.inf
    while monitor.running():
        largest = face.kernels.violations(
            x, view.ranking, loss.lipschitz, term.lam, term.l2, term.lower, term.upper, score
        )
        residual = math.sqrt(largest)
        if largest <= 1e-30 * problem.scale:
            if view.proposed:
                # Nothing violates an extrapolated gradient; that of the point itself decides.
                view = _certified(run, face, x, z, None)
                continue
            monitor.finish(Status.CONVERGED)
            break
        score[~face.alive] = 0.0
        resting = (x == term.lower) | (x == term.upper) | ((x == 0.0) & (term.lam > 0.0))
        held = np.flatnonzero(~resting)
        size = max(size, len(held) // 2 if dense else len(held))
        score[held] = np.inf
        working = _best(score, len(held) + size)
        move = subproblem.solve(x, z, view.gradient, working, residual)
        refreshed = monitor.nit % REFRESH == 0
        z = loss.image(x) if refreshed else move.z
        proposal = _better_proposal(run, move.z, move.proposal, working)
        expected = view.gap * min(1.0, view.gap / before) if before > 0 else 0.0
        before = view.gap
        watched = monitor.common.history or monitor.common.verbose == 2 or monitor.common.callback is not None
        last = expected <= monitor.common.tol
        if refreshed or watched or last or face.whole:
            # As long as products take every column, a certificate costs no more than an estimate.
            view = _certified(run, face, x, z, proposal, last=last)
        else:
            view = _estimated(run, face, x, z, proposal)
            if view.gap <= monitor.common.tol:
                view = _certified(run, face, x, z, proposal, last=True)
        monitor.checkpoint(residual)
        if not move.moved or monitor.stalled(view.gap if monitor.bound > 0 else residual, 10):
            # Rounding may have screened out too much; without it the same standstill is the end.
            if face.full:
                monitor.finish(Status.STALLED)
            face = Face(problem, screens=False)
            view = _certified(run, face, x, z, None)
    if not view.certified:
        _certified(run, face, x, z, None)


def _certified(run: Run, face: Face, x: FloatArray, z: Array, proposal: Array | None, *, last: bool = False) -> _View:
    """A view with a certificate, which the monitor gets."""
    seen = run.certify_linear(x, z, proposal, last=last)
    face.screen(x, seen.q, run.latest - seen.value)
    return _view(run, seen, z, proposal, seen.exact, run.monitor.gap, certified=True)


def _estimated(run: Run, face: Face, x: FloatArray, z: Array, proposal: Array | None) -> _View:
    """A view without a certificate, from products with the columns that are left."""
    problem = run.problem
    whole = face.whole
    seen = face.estimate(z if proposal is None else proposal)
    fun = problem.objective(x, z)
    face.screen(x, seen.q, fun - seen.value)
    gap = relative_gap(fun, seen.value, "min", problem.scale)
    return _view(run, seen, z, proposal, seen.exact and whole, gap, certified=False)


def _view(
    run: Run, seen: DualView, z: Array, proposal: Array | None, exact: bool, gap: float, *, certified: bool
) -> _View:
    """What a dual point shows; where it was bent to suit unpenalised coordinates, the gradient takes a product of its own."""
    loss = run.problem.loss
    assert isinstance(loss, LinearLoss)
    if not seen.exact:
        gradient = loss.gradient(z)
        return _View(gradient, gradient, gap, certified, False)
    gradient = seen.gradient
    return _View(gradient, gradient if exact and proposal is None else None, gap, certified, proposal is not None)


def _better_proposal(run: Run, z: Array, proposal: Array | None, working: IntArray) -> Array | None:
    """The extrapolated scores, if their dual point is better on the working set than that of z."""
    if proposal is None:
        return None
    loss, term = run.problem.loss, run.problem.term
    assert isinstance(loss, LinearLoss)
    assert isinstance(term, SeparableTerm)
    parts = Parts.of(term, working)
    some = SeparableTerm(*parts.arrays)
    none = np.zeros(len(working))
    values = []
    for scores in (z, proposal):
        theta = loss.project_dual(loss.slopes(scores))
        q = slopes_along(loss, loss.slopes(scores), working)
        scale = some.shrink(q, none)
        dual, _ = loss.dual_terms(scale * theta)
        values.append(float(loss.xp.sum(loss.weighted(dual))) - some.conjugate(scale * q, none).value)
    return proposal if values[1] > values[0] else None


def _best(score: FloatArray, count: int) -> IntArray:
    """Coordinates of the highest scores, all of them positive, ascending."""
    candidates = np.flatnonzero(score > 0.0)
    if len(candidates) > count:
        top = np.argpartition(-score[candidates], count - 1)[:count]
        candidates = np.sort(candidates[top])
    return candidates
