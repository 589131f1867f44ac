r"""The graph engine: sparse quadratics x^T Q x / 2 - c^T x with bounds or without, message passing inside.

    a forest, no bounds     leaf elimination: exact in one pass
    no bounds               an induced forest is eliminated exactly and the Schur complement of the rest is solved by
                            conjugate gradients, preconditioned by a second forest
    bounds                  projected over-relaxation finds the nodes held at a bound; the rest is then solved as above and
                            projected, which is kept if it is better

A :class:`GraphSolver` improves one point in steps, so that the caller can certify and stop in between.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import scipy.sparse

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.result import Status
from solvers.bcd._forest_kernels import eliminate, greedy_forest, projected_sor, schur_cg, sweep
from solvers.bcd._penalties import SeparableTerm
from solvers.bcd._problem import Composite, is_free
from solvers.bcd._quadratic import Quadratic
from solvers.bcd._run import Run

__all__ = ["GraphSolver", "SchurSystem", "solve_on_graph"]

# Conjugate gradient iterations and relaxation sweeps between two looks at the gap.
ITERATIONS = 40
SWEEPS = 20
LARGEST_OMEGA = 1.98


class _Factor:
    """Leaf elimination of an induced forest, renumbered in elimination order; other nodes of the list stand alone."""

    def __init__(self, graph: scipy.sparse.csr_array, nodes: IntArray, inside: IntArray) -> None:
        n = graph.shape[0]
        order, parent, degree = (np.empty(n, dtype=np.int64) for _ in range(3))
        weight, pivot = np.zeros(n), np.empty(n)
        count = eliminate(
            np.asarray(graph.data),
            graph.indices.astype(np.int64),
            graph.indptr.astype(np.int64),
            inside,
            order,
            parent,
            weight,
            pivot,
            degree,
        )
        alone = nodes[inside[nodes] == 0]
        self.order: IntArray = np.concatenate([order[:count], alone])
        place = np.full(n, -1, dtype=np.int64)
        place[self.order] = np.arange(len(self.order))
        pivot[alone] = graph.diagonal()[alone]
        parent[alone] = -1
        mine = parent[self.order]
        self.up: IntArray = np.where(mine >= 0, place[np.maximum(mine, 0)], -1)
        self.pivot: FloatArray = pivot[self.order]
        self.ratio: FloatArray = np.where(mine >= 0, weight[self.order] / self.pivot, 0.0)

    @property
    def sound(self) -> bool:
        """Whether every pivot is positive."""
        return bool(np.all(self.pivot > 0))


class SchurSystem:
    """Q x = c, one forest eliminated, the rest iterated; ``exact`` where nothing is left to iterate."""

    def __init__(self, graph: scipy.sparse.csr_array) -> None:
        n = graph.shape[0]
        self.graph = graph
        indices, indptr = graph.indices.astype(np.int64), graph.indptr.astype(np.int64)
        parent, stamp, inside = (np.empty(n, dtype=np.int64) for _ in range(3))
        # Natural order keeps neighbours together in memory.
        greedy_forest(np.arange(n), indices, indptr, parent, stamp, inside)
        self.first = _Factor(graph, np.flatnonzero(inside), inside)
        rest = np.flatnonzero(inside == 0)
        self.exact = len(rest) == 0
        self.sound = self.first.sound
        if self.exact or not self.sound:
            return
        second = np.empty(n, dtype=np.int64)
        greedy_forest(rest, indices, indptr, parent, stamp, second)
        self.second = _Factor(graph, rest, second)
        self.sound = self.second.sound
        upper = graph[self.first.order]
        lower = graph[self.second.order]
        self._across = _arrays(upper[:, self.second.order])
        self._down = _arrays(lower[:, self.first.order])
        self._own = _arrays(lower[:, self.second.order])
        self._state: tuple[FloatArray, FloatArray, FloatArray, float] | None = None

    def sibling(self) -> SchurSystem:
        """The same factors with a state of its own."""
        return copy.copy(self)

    def begin(self, x: FloatArray, c: FloatArray) -> None:
        """Start (or restart) the iteration at x."""
        self._c = c
        self._target = 0.0
        self._state = None
        self._x = x

    def step(self, iterations: int) -> FloatArray | None:
        """Some iterations; the point with the forest eliminated exactly, or None where Q is not definite."""
        first = self.first
        if self.exact:
            return self._solve_first(self._c - 0.0)
        second = self.second
        down = _matrix(self._down, (len(second.order), len(first.order)))
        if self._state is None:
            x = self._x[second.order].copy()
            own = _matrix(self._own, (len(x), len(x)))
            across = _matrix(self._across, (len(first.order), len(x)))
            inner = self._first_inverse(self._c[first.order] - across @ x)
            r = self._c[second.order] - own @ x - down @ inner
            self._state = (x, r, np.zeros_like(x), -1.0)
        x, r, p, rho = self._state
        rho = schur_cg(
            first.up, first.ratio, first.pivot, second.up, second.ratio, second.pivot,
            *self._down, *self._across, *self._own, x, r, p, rho, iterations, 0.0,
        )  # fmt: skip
        if rho < 0.0:
            return None
        self._state = (x, r, p, rho)
        across = _matrix(self._across, (len(first.order), len(x)))
        out = np.empty(self.graph.shape[0])
        out[second.order] = x
        out[first.order] = self._first_inverse(self._c[first.order] - across @ x)
        return out

    def _first_inverse(self, b: FloatArray) -> FloatArray:
        first, count = self.first, len(self.first.order)
        out = np.empty(count)
        sweep(np.arange(count), first.up, first.ratio, first.pivot, np.ascontiguousarray(b), np.empty(count), out)
        return out

    def _solve_first(self, b: FloatArray) -> FloatArray:
        """The whole matrix is a forest: solve, then correct once by the residual."""
        order = self.first.order
        out = np.zeros(len(b))
        for _ in range(2):
            out[order] += self._first_inverse((b - self.graph @ out)[order])
        return out


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
        self.c = loss.host_c - np.where(term.lower >= 0, term.lam, -term.lam)
        if np.any(term.l2):
            self.graph = scipy.sparse.csr_array(self.graph + scipy.sparse.diags_array(term.l2, format="csr"))
        self.diagonal = self.graph.diagonal()
        self._l2 = term.l2
        self._system: SchurSystem | None = None
        self._factors: SchurSystem | None = None
        self._begun = False
        self._omega = 1.0
        self._held: np.ndarray | None = None

    def share(self, other: GraphSolver) -> None:
        """Use the factors of a solver with the same Q."""
        if self.free and other.free and not np.any(self._l2) and not np.any(other._l2):
            if other._system is None:
                other._system = SchurSystem(other.graph)
            self._factors = other._system

    def step(self, x: FloatArray) -> FloatArray | None:
        """A better point; None where the matrix turns out not to be definite."""
        return self._free_step(x) if self.free else self._bounded_step(x)

    def _free_step(self, x: FloatArray) -> FloatArray | None:
        if self._system is None:
            self._system = SchurSystem(self.graph) if self._factors is None else self._factors.sibling()
        if not self._system.sound:
            return None
        if not self._begun:
            self._begun = True
            self._system.begin(x, self.c)
        return self._system.step(ITERATIONS)

    def _bounded_step(self, x: FloatArray) -> FloatArray | None:
        term = self.problem.term
        assert isinstance(term, SeparableTerm)
        if not np.all(self.diagonal > 0):
            return None
        x = x.copy()
        graph = self.graph
        previous, last = projected_sor(
            np.asarray(graph.data),
            graph.indices.astype(np.int64),
            graph.indptr.astype(np.int64),
            self.diagonal,
            self.c,
            np.asarray(term.lower),
            np.asarray(term.upper),
            x,
            self._omega,
            SWEEPS,
        )
        held = (x <= term.lower) | (x >= term.upper)
        if self._held is not None and np.array_equal(held, self._held) and not np.all(held):
            better = self._solve_free(x, held)
            if better is not None:
                x = better
        elif self._omega == 1.0 and previous > 0:
            # Gauss-Seidel contracts by the squared radius of Jacobi, which gives Young's optimal relaxation.
            rate = min(last / previous, 1.0 - 1e-8)
            self._omega = min(2.0 / (1.0 + math.sqrt(1.0 - rate)), LARGEST_OMEGA)
        self._held = held
        return x

    def _solve_free(self, x: FloatArray, held: np.ndarray) -> FloatArray | None:
        """Solve exactly on the nodes away from their bounds, project, keep if better."""
        nodes = np.flatnonzero(~held)
        rows = self.graph[nodes]
        part = scipy.sparse.csr_array(rows[:, nodes])
        rhs = self.c[nodes] - rows[:, np.flatnonzero(held)] @ x[held]
        system = SchurSystem(part)
        if not system.sound:
            return None
        system.begin(x[nodes], rhs)
        scale = float(np.linalg.norm(rhs)) or 1.0
        for _ in range(20):
            inner = system.step(ITERATIONS)
            if inner is None:
                return None
            if float(np.linalg.norm(rhs - part @ inner)) <= 1e-10 * scale:
                break
        trial = x.copy()
        trial[nodes] = inner
        trial = self.problem.term.project(trial)
        loss = self.problem.loss
        before, after = (self.problem.objective(point, loss.image(point)) for point in (x, trial))
        return trial if after <= before else None


def solve_on_graph(run: Run, x: FloatArray) -> None:
    """Step and certify until proved or stalled."""
    problem, monitor = run.problem, run.monitor
    solver = GraphSolver(problem)
    run.certify(x)
    while monitor.running():
        fresh = solver.step(x)
        if fresh is None:
            monitor.finish(
                Status.STALLED, "Q is not positive definite on these coordinates; use method='paper' or add l2"
            )
            break
        x = fresh
        residual = problem.kkt(x, problem.loss.image(x))
        run.certify(x)
        monitor.checkpoint(residual)
        if run.diverging():
            break
        if monitor.stalled(residual, 5):
            monitor.finish(Status.CONVERGED if residual <= 1e-9 * float(np.max(np.abs(solver.c))) else Status.STALLED)


def _arrays(matrix: scipy.sparse.csr_array) -> tuple[FloatArray, IntArray, IntArray]:
    rows = scipy.sparse.csr_array(matrix)
    return np.asarray(rows.data), rows.indices.astype(np.int64), rows.indptr.astype(np.int64)


def _matrix(arrays: tuple[FloatArray, IntArray, IntArray], shape: tuple[int, int]) -> scipy.sparse.csr_array:
    return scipy.sparse.csr_array(arrays, shape=shape, copy=False)
