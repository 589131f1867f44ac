r"""The graph engine: sparse quadratics x^T Q x / 2 - c^T x with bounds or without, message passing inside.

    few changes             from a start where few gradients stand out, only their surroundings move
    a forest, no bounds     leaf elimination: exact in one pass
    near-forest, no bounds  trees and chains are eliminated exactly, then the core
    no bounds               one colour of a bipartite graph, or an induced forest, is eliminated exactly, and the Schur
                            complement of the rest is solved by conjugate gradients
    bounds                  projected over-relaxation finds the nodes held at a bound; the rest is then solved as above and
                            projected, which is kept if it is better

A :class:`GraphSolver` improves one point in steps, so that the caller can certify and stop in between.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse

from solvers._core.arrays import FloatArray
from solvers._core.result import Status
from solvers.bcd._box_cg import solve_by_cg
from solvers.bcd._local import LocalDescent
from solvers.bcd._peel import FreeSystem
from solvers.bcd._problem import Composite, is_free
from solvers.bcd._quadratic import Quadratic
from solvers.bcd._relaxation import ColouredRelaxation, first_omega
from solvers.bcd._run import Run, shrink_wanted
from solvers.bcd._separable_term import SeparableTerm

__all__ = ["GraphSolver", "solve_on_graph"]

# Iterations between two looks at the gap: at most so many, and fewer where one takes long.
MOST_ITERATIONS = 400
ENTRIES_PER_STEP = 2e8
# More sweeps than this to go: solving for the nodes away from their bounds is cheaper.
SWEEPS_WORTH_A_SOLVE = 60
FREE_RESIDUAL = 1e-10
# Local descent starts where at most this share of the nodes stands out, and may take this many steps per node.
FEW = 0.05
LOCAL_BUDGET = 1.0
LOCAL_SHRINK = 1e-2
# By how many tolerances squared residuals (moves of sweeps) shrink before the first look at the gap.
FIRST_FREE, FIRST_BOUNDED = 0.08, 3.0


class GraphSolver:
    """Improves points of one quadratic with bounds or without; state is kept between steps."""

    def __init__(self, problem: Composite) -> None:
        loss, term = problem.loss, problem.term
        assert isinstance(loss, Quadratic)
        assert isinstance(term, SeparableTerm)
        self.problem = problem
        self.graph = loss.graph
        self.free = is_free(term)
        # Between one-sided bounds the penalty is linear plus a square: part of the quadratic.
        self.c = loss.host_c if self.free else loss.host_c - np.where(term.lower >= 0, term.lam, -term.lam)
        self._squares = bool(np.any(term.l2))
        self.diagonal, self._row_sums = loss.lipschitz, loss.row_sums
        if self._squares:
            self.graph = scipy.sparse.csr_array(self.graph + scipy.sparse.diags_array(term.l2, format="csr"))
            self.diagonal, self._row_sums = self.diagonal + term.l2, self._row_sums + term.l2
        self.lower, self.upper = np.asarray(term.lower), np.asarray(term.upper)
        self._factors: FreeSystem | None = None
        self._system: FreeSystem | None = None
        self._relaxation: ColouredRelaxation | None = None
        self._local: LocalDescent | None = None
        self._threshold = 0.0
        self._held: np.ndarray | None = None
        self._iterations = int(min(MOST_ITERATIONS, max(20.0, ENTRIES_PER_STEP / max(self.graph.nnz, 1))))

    @property
    def first_shrink(self) -> float:
        """For :func:`shrink_wanted`."""
        return FIRST_FREE if self.free else FIRST_BOUNDED

    def share(self, other: GraphSolver) -> None:
        """Use the factors of a solver with the same Q."""
        if self.free and other.free:
            if other._factors is None:
                other._factors = FreeSystem(other.graph)
            self._factors = other._factors

    def step(self, x: FloatArray, shrink: float) -> FloatArray | None:
        """A point whose squared residual is smaller by about the factor; None where the matrix is not definite."""
        if not np.all(self.diagonal > 0):
            return None
        moved = self._local_step(x, shrink)
        if moved is not None:
            return moved
        return self._free_step(x, shrink) if self.free else self._bounded_step(x, shrink)

    def prepare(self, x: FloatArray) -> None:
        """Before the first step from a start that somebody gave: if few gradients stand out, descend around them."""
        if not np.all(self.diagonal > 0):
            return
        g = self.graph @ x - self.c
        local = LocalDescent(self.graph, self.diagonal, self.lower, self.upper, x.copy(), g)
        self._threshold = LOCAL_SHRINK * float(np.max(np.abs(g), initial=0.0))
        if 0 < len(local.outstanding(self._threshold)) <= FEW * len(x):
            self._local = local

    def _local_step(self, x: FloatArray, shrink: float) -> FloatArray | None:
        """Descend around the nodes that stand out; None once that is no local matter any more."""
        local = self._local
        if local is None:
            return None
        self._threshold *= math.sqrt(max(shrink, LOCAL_SHRINK))
        nodes = local.outstanding(self._threshold)
        few = len(nodes) <= FEW * len(x)
        if not few or local.descend(nodes, self._threshold, int(LOCAL_BUDGET * len(x)) + 100)[0] < 0:
            self._local = None
        return local.x.copy() if few else None

    def _free_step(self, x: FloatArray, shrink: float) -> FloatArray | None:
        if self._system is None:
            self._system = FreeSystem(self.graph) if self._factors is None else self._factors.sibling()
            if self._system.sound:
                self._system.begin(x, self.c)
        return self._system.step(self._iterations, shrink) if self._system.sound else None

    def _bounded_step(self, x: FloatArray, shrink: float) -> FloatArray:
        if self._relaxation is None:
            omega = first_omega(self.diagonal, self._row_sums)
            self._relaxation = ColouredRelaxation(self.graph, self.diagonal, self.c, self.lower, self.upper, omega)
            self._relaxation.begin(x)
        relaxation = self._relaxation
        # Squared moves fall by about (omega - 1)^2 a sweep.
        to_go = math.log(shrink) / (2.0 * math.log(max(relaxation.omega - 1.0, 0.1)))
        held = (x <= self.lower) | (x >= self.upper)
        if to_go > SWEEPS_WORTH_A_SOLVE and self._held is not None and np.array_equal(held, self._held):
            better = self._solve_free(x, held)
            if better is not None:
                x = better
                relaxation.begin(x)
        self._held = held
        return relaxation.step(self._iterations, shrink)

    def _solve_free(self, x: FloatArray, held: np.ndarray) -> FloatArray | None:
        """Solve on the nodes away from their bounds, project, keep if better."""
        nodes = np.flatnonzero(~held)
        if len(nodes) == 0:
            return None
        rows = self.graph[nodes]
        part = scipy.sparse.csr_array(rows[:, nodes])
        rhs = self.c[nodes] - rows[:, np.flatnonzero(held)] @ x[held]
        system = FreeSystem(part)
        if not system.sound:
            return None
        inner: FloatArray | None = x[nodes]
        system.begin(x[nodes], rhs)
        scale = float(np.linalg.norm(rhs))
        for _ in range(1 if system.exact else 20):
            inner = system.step(self._iterations, 1e-4)
            if inner is None:
                return None
            if float(np.linalg.norm(rhs - part @ inner)) <= FREE_RESIDUAL * scale:
                break
        trial = x.copy()
        trial[nodes] = inner
        trial = self.problem.term.project(trial)
        loss = self.problem.loss
        before, after = (self.problem.objective(point, loss.image(point)) for point in (x, trial))
        return trial if after < before else None


def solve_on_graph(run: Run, x: FloatArray, *, given: bool) -> None:
    """Step and certify until proved or stalled; ``given`` where x is somebody's start.

    A matrix that turns out not to be definite is left to conjugate gradients, which need no factors and notice where there is
    no minimum.
    """
    problem, monitor = run.problem, run.monitor
    solver = GraphSolver(problem)
    run.offer(x)
    if given:
        run.certify(x)
        solver.prepare(x)
    while monitor.running():
        fresh = solver.step(x, shrink_wanted(monitor, solver.first_shrink))
        if fresh is None:
            solve_by_cg(run, x)
            return
        x = fresh
        run.certify(x)
        if monitor.status is not None:
            monitor.checkpoint()
            break
        residual = problem.kkt(x, problem.loss.image(x))
        monitor.checkpoint(residual)
        if run.diverging():
            break
        if monitor.stalled(residual, 5):
            if math.isinf(monitor.bound):
                solve_by_cg(run, x)
                return
            monitor.finish(Status.CONVERGED if residual <= 1e-9 * float(np.max(np.abs(solver.c))) else Status.STALLED)
    if monitor.certificate is None:
        run.certify(x)
