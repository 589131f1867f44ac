"""Sparse quadratics against SciPy, OSQP, pyamg and a projected SOR, at equal certified gaps.

Lattices: the judge bounds the minimum from every answer by our certificate, which knows nothing of who found it, and asks for
a certified gap of 1e-6 F(0), F being the energy of the labels (every edge towards a label counts at x = 0). Each iterative peer
runs at the loosest tolerance of a ladder that the judge accepts, found beforehand and untimed; the projected SOR also at the
best relaxation factor of a grid. Forests and single changes of a label are judged by residuals.

    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/peers/bcd_graphs.py [--quick] [--only TEXT]

First-call compilation is left out of every figure; ``--first-call`` measures it, with the memory of each workload, in fresh
processes with an empty cache.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import scipy.optimize
import scipy.sparse
import scipy.sparse.linalg
from _compare import Judgement, Solver, TimesLess, TimesOf, Workload, main

import solvers
from solvers import bcd
from solvers._core.jit import njit
from solvers.bcd._definiteness import propose_definiteness
from solvers.bcd._problem import composite

GAP = 1e-6
OMEGAS = (1.5, 1.6, 1.7, 1.75, 1.8, 1.85, 1.9, 1.93, 1.95, 1.97)


@dataclass
class System:
    """Q, c, a box or none, and F(0); tolerances of the solvers once found."""

    Q: Any
    c: np.ndarray
    box: tuple[float, float] | None = None
    at_zero: float = 1.0
    tolerances: dict[str, Any] = field(default_factory=dict)

    @property
    def penalty(self) -> Any:
        return None if self.box is None else bcd.Box(*self.box)

    def certified_gap(self, x: np.ndarray) -> float:
        """Gap of any answer, projected on the box, relative to F(0), by our certificate."""
        problem = composite(bcd.Quadratic(self.Q, self.c), self.penalty)
        x = np.array(problem.term.project(np.asarray(x, dtype=np.float64)))
        image = problem.loss.image(x)
        bound, _ = problem.bound_at(x, image, propose_definiteness(problem.loss))
        return (problem.objective(x, image) - bound.reestablished) / self.at_zero


@cache
def lattice(side: int, share: float, bounded: bool) -> System:
    """A square lattice of unit weights, some nodes labelled at random, unknowns kept."""
    rng = np.random.default_rng(0)
    n = side * side
    nodes = np.arange(n).reshape(side, side)
    rows = np.concatenate([nodes[:, :-1].ravel(), nodes[:-1].ravel()])
    columns = np.concatenate([nodes[:, 1:].ravel(), nodes[1:].ravel()])
    W = scipy.sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=(n, n)).tocsr()
    W = W + W.T
    known = rng.choice(n, int(share * n), replace=False)
    labels = rng.standard_normal(len(known))
    labels = labels + 0.5 if bounded else 10.0 * labels
    L = scipy.sparse.csr_array(scipy.sparse.diags_array(W.sum(axis=1)) - W)
    unknown = np.setdiff1d(np.arange(n), known)
    Q = scipy.sparse.csr_array(L[unknown][:, unknown])
    towards = W[unknown][:, known]
    box = (0.0, 1.0) if bounded else None
    return System(Q, towards @ labels, box, 0.5 * float(np.sum(towards @ (labels * labels))))


@cache
def random_tree(n: int, extra: int = 0) -> System:
    """A random recursive tree with log-normal weights, 1e-4 added to the diagonal, and a few more edges."""
    rng = np.random.default_rng(0)
    parents = np.array([rng.integers(0, i) for i in range(1, n)])
    weights = np.exp(rng.standard_normal(n - 1 + extra))
    heads, tails = np.concatenate([np.arange(1, n), rng.integers(0, n, extra)]), parents
    tails = np.concatenate([parents, rng.integers(0, n, extra)])
    W = scipy.sparse.coo_array((weights, (heads, tails)), shape=(n, n)).tocsr()
    W = scipy.sparse.csr_array(W + W.T)
    W.setdiag(0.0)
    W.eliminate_zeros()
    Q = scipy.sparse.csr_array(scipy.sparse.diags_array(W.sum(axis=1) + 1e-4) - W)
    return System(Q, rng.standard_normal(n))


@cache
def path(n: int) -> System:
    """The second difference matrix."""
    off = -np.ones(n - 1)
    Q = scipy.sparse.diags_array([off, np.full(n, 2.0), off], offsets=[-1, 0, 1], format="csr")
    return System(Q, np.random.default_rng(0).standard_normal(n))


# -- who solves ----------------------------------------------------------------------------------------------------


def ours(data: System) -> np.ndarray:
    # The gap of a result is relative to |fun|, the benchmark's to F(0): the ratio is known once a first run is done.
    if "ours" not in data.tolerances:
        fun = solvers.minimize_bcd(bcd.Quadratic(data.Q, data.c), data.penalty).fun
        data.tolerances["ours"] = 0.99 * GAP * data.at_zero / abs(fun)
    loss = bcd.Quadratic(data.Q, data.c)
    return np.asarray(solvers.minimize_bcd(loss, data.penalty, tol=data.tolerances["ours"]).x)


@njit()
def _sor(
    data: Any, indices: Any, indptr: Any, diagonal: Any, c: Any, omega: float, x: Any, tolerance: float, most: int
) -> int:
    """Projected successive over-relaxation on [0, 1] until the largest move is small."""
    for sweep in range(most):
        largest = 0.0
        for i in range(len(x)):
            total = c[i]
            for k in range(indptr[i], indptr[i + 1]):
                total -= data[k] * x[indices[k]]
            fresh = min(max(x[i] + omega * total / diagonal[i], 0.0), 1.0)
            largest = max(largest, abs(fresh - x[i]))
            x[i] = fresh
        if largest <= tolerance:
            return sweep
    return most


def relax(data: System, tolerance: float, omega: float = 0.0, most: int = 20_000) -> np.ndarray:
    x = np.zeros(len(data.c))
    omega = omega or data.tolerances["omega"]
    _sor(data.Q.data, data.Q.indices, data.Q.indptr, data.Q.diagonal(), data.c, omega, x, tolerance, most)
    return x


def by_lbfgs(data: System, tolerance: float) -> np.ndarray:
    assert data.box is not None

    def both(x: np.ndarray) -> tuple[float, np.ndarray]:
        image = data.Q @ x
        return 0.5 * float(x @ image) - float(data.c @ x), image - data.c

    options = {"maxiter": 20_000, "maxfun": 50_000, "ftol": 0.0, "gtol": tolerance}
    bounds = scipy.optimize.Bounds(*data.box)
    found = scipy.optimize.minimize(
        both, np.zeros(len(data.c)), jac=True, method="L-BFGS-B", bounds=bounds, options=options
    )
    return np.asarray(found.x)


def by_osqp(data: System, tolerance: float) -> np.ndarray:
    import osqp

    assert data.box is not None
    n = len(data.c)
    solver = osqp.OSQP()
    upper = scipy.sparse.csc_matrix(scipy.sparse.triu(data.Q))
    solver.setup(
        P=upper, q=-data.c, A=scipy.sparse.eye(n, format="csc"), l=np.full(n, data.box[0]), u=np.full(n, data.box[1]),
        eps_abs=tolerance, eps_rel=tolerance, verbose=False, max_iter=20_000,
    )  # fmt: skip
    return np.asarray(solver.solve().x)


def by_cg(data: System, tolerance: float) -> np.ndarray:
    return np.asarray(scipy.sparse.linalg.cg(data.Q, data.c, rtol=tolerance)[0])


def by_pyamg(data: System, tolerance: float) -> np.ndarray:
    import pyamg

    matrix = scipy.sparse.csr_matrix(data.Q)
    return np.asarray(pyamg.ruge_stuben_solver(matrix).solve(data.c, tol=tolerance, accel="cg"))


FINE = tuple(10.0 ** (-k / 4) for k in range(6, 33))
COARSE = (1e-4, 1e-5, 1e-6, 1e-7)
PEERS: dict[str, tuple[Callable[[System, float], np.ndarray], tuple[float, ...], tuple[str, ...]]] = {
    "L-BFGS-B": (by_lbfgs, COARSE, ()),
    "OSQP": (by_osqp, COARSE, ("osqp",)),
    "projected SOR": (relax, FINE, ()),
    "SciPy CG": (by_cg, FINE, ()),
    "pyamg": (by_pyamg, FINE, ("pyamg",)),
}


def calibrated(build: Callable[[], System], names: tuple[str, ...]) -> Callable[[int], System]:
    def data(seed: int) -> System:
        built = build()
        ours(built)
        if "projected SOR" in names and "omega" not in built.tolerances:
            # The factor with the least certified gap after sweeps enough for a good one.
            sweeps = int(40 / (1.0 - min(OMEGAS[-1], _good(built)) / 2.0) / 10)
            gaps = {omega: built.certified_gap(relax(built, 0.0, omega, sweeps)) for omega in OMEGAS}
            built.tolerances["omega"] = min(gaps, key=gaps.__getitem__)
        for name in names:
            run, ladder, _ = PEERS[name]
            for tolerance in ladder if name not in built.tolerances else ():
                built.tolerances[name] = tolerance
                try:
                    if built.certified_gap(run(built, tolerance)) <= GAP:
                        break
                except ImportError:
                    break
        return built

    return data


def _good(data: System) -> float:
    """About the best relaxation factor, to know how many sweeps tell the grid's apart."""
    from solvers.bcd._relaxation import first_omega

    return first_omega(data.Q.diagonal(), np.asarray(abs(data.Q).sum(axis=1)).ravel())


def peers(*names: str) -> tuple[Solver, ...]:
    return tuple(
        Solver(
            name,
            lambda data, name=name: PEERS[name][0](data, data.tolerances[name]),
            needs=PEERS[name][2],
            seeds=1 if name in ("L-BFGS-B", "OSQP") else None,
        )
        for name in names
    )


# -- who judges ----------------------------------------------------------------------------------------------------


def judge_gap(data: System, x: np.ndarray) -> Judgement:
    gap = data.certified_gap(x)
    return Judgement(gap, f"certified gap {gap:.1e} F(0)", gap <= GAP)


def judge_system(tolerance: float) -> Callable[[System, np.ndarray], Judgement]:
    def judge(data: System, x: np.ndarray) -> Judgement:
        residual = float(np.linalg.norm(data.Q @ x - data.c) / np.linalg.norm(data.c))
        return Judgement(residual, f"residual {residual:.1e}", residual <= tolerance)

    return judge


def judge_path(data: System, x: np.ndarray) -> Judgement:
    """Backward error: x is of the order of n^(3/2), so |Q x - c| / |c| is limited by rounding of x alone."""
    residual = float(np.linalg.norm(data.Q @ x - data.c) / (np.linalg.norm(data.c) + 4.0 * np.linalg.norm(x)))
    return Judgement(residual, f"backward error {residual:.1e}", residual <= 1e-10)


# -- one label changed ---------------------------------------------------------------------------------------------


@dataclass
class Change:
    """A solved lattice, a solver's state of it, and one entry of c to be changed."""

    Q: Any
    c: np.ndarray
    x: np.ndarray
    state: bcd.IncrementalQuadratic
    node: int


@cache
def _solved(side: int, share: float) -> np.ndarray:
    data = lattice(side, share, False)
    return np.asarray(scipy.sparse.linalg.cg(data.Q, data.c, rtol=1e-10)[0])


def one_change(seed: int) -> Change:
    """A neighbour of a label, which is drawn again from the law of the labels."""
    data, x = lattice(512, 0.04, False), _solved(512, 0.04)
    rng = np.random.default_rng(seed)
    node = int(rng.choice(np.flatnonzero(data.c)))
    c = data.c.copy()
    c[node] = 10.0 * rng.standard_normal()
    state = bcd.IncrementalQuadratic(bcd.Quadratic(data.Q, data.c), x, tol=1e-4)
    return Change(data.Q, c, x, state, node)


def update(data: Change) -> np.ndarray:
    data.state.update([data.node], [data.c[data.node]])
    return data.state.x


def judge_change(data: Change, x: np.ndarray) -> Judgement:
    return judge_system(1e-4 * (1 + 1e-9))(data, x)  # type: ignore[arg-type]


# -- the table -----------------------------------------------------------------------------------------------------


def _warm() -> None:
    solvers.warm_up("minimize_bcd")


def workloads() -> list[Workload]:
    factors = cache(lambda n: bcd.ForestFactor(random_tree(n).Q))
    splu = Solver("SciPy spsolve", lambda d: scipy.sparse.linalg.spsolve(d.Q.tocsc(), d.c))
    boxed = ("L-BFGS-B", "OSQP", "projected SOR")
    half = Solver("half of it", lambda d: bcd.solve_forest(path(500_000).Q, path(500_000).c))
    banded = Solver(
        "SciPy solveh_banded",
        lambda d: scipy.linalg.solveh_banded(
            np.stack([np.full(len(d.c), -1.0), np.full(len(d.c), 2.0)]), d.c, check_finite=False
        ),
    )
    return [
        Workload(
            name="forest-cold-200000",
            data=lambda seed: random_tree(200_000),
            ours=Solver("solve_forest", lambda d: bcd.solve_forest(d.Q, d.c), prepare=lambda: factors(200_000)),
            peers=(splu,),
            judge=judge_system(1e-10),
            targets=(TimesOf("SciPy spsolve", 0.15),),
            seeds=(0, 1, 2, 3, 4, 5, 6),
            quick=True,
        ),
        Workload(
            name="forest-new-right-hand-side-200000",
            data=lambda seed: random_tree(200_000),
            ours=Solver("ForestFactor.solve", lambda d: factors(200_000).solve(d.c), prepare=lambda: factors(200_000)),
            peers=(splu,),
            judge=judge_system(1e-10),
            targets=(TimesOf("SciPy spsolve", 0.02),),
            seeds=(0, 1, 2, 3, 4, 5, 6),
            quick=True,
        ),
        Workload(
            name="path-1000000",
            data=lambda seed: path(1_000_000),
            ours=Solver("solve_forest", lambda d: bcd.solve_forest(d.Q, d.c), prepare=lambda: path(500_000)),
            peers=(half, banded),
            judge=judge_path_of,
            targets=(TimesOf("half of it", 2.4),),
            seeds=(0, 1, 2, 3, 4),
            note="linear time; both sizes exceed the caches",
        ),
        Workload(
            name="near-forest-200000",
            data=lambda seed: random_tree(200_000, 200),
            ours=Solver("minimize_bcd", near_forest, prepare=_warm),
            peers=(splu,),
            judge=judge_system(1e-8),
            note="200 edges more than a tree",
        ),
        *(
            Workload(
                name=f"bounded-lattice-{side}-{share:g}",
                data=calibrated(lambda side=side, share=share: lattice(side, share, True), boxed),
                ours=Solver("minimize_bcd", ours, prepare=_warm),
                peers=peers(*boxed),
                judge=judge_gap,
                targets=(TimesLess("L-BFGS-B", 15.0), TimesLess("OSQP", 10.0), TimesOf("projected SOR", 1.0)),
                seeds=(0, 1, 2, 3, 4),
                quick=side == 256,
            )
            for side, share in ((256, 0.04), (256, 0.002), (512, 0.04), (512, 0.002))
        ),
        Workload(
            name="free-lattice-512-0.04",
            data=calibrated(lambda: lattice(512, 0.04, False), ("SciPy CG",)),
            ours=Solver("minimize_bcd", ours, prepare=_warm),
            peers=peers("SciPy CG"),
            judge=judge_gap,
            targets=(TimesOf("SciPy CG", 0.6),),
            seeds=(0, 1, 2, 3, 4),
        ),
        Workload(
            name="free-lattice-512-0.001",
            data=calibrated(lambda: lattice(512, 0.001, False), ("SciPy CG", "pyamg")),
            ours=Solver("minimize_bcd", ours, prepare=_warm),
            peers=peers("SciPy CG", "pyamg"),
            judge=judge_gap,
            targets=(TimesOf("pyamg", 1.0),),
        ),
        Workload(
            name="one-label-512-0.04",
            data=one_change,
            ours=Solver("IncrementalQuadratic", update, prepare=lambda: update(one_change(99))),
            peers=(Solver("warm SciPy CG", lambda d: scipy.sparse.linalg.cg(d.Q, d.c, x0=d.x, rtol=1e-4)[0]),),
            judge=judge_change,
            targets=(TimesOf("warm SciPy CG", 0.02),),
            seeds=tuple(range(15)),
            quick=True,
        ),
    ]


def judge_path_of(data: System, x: np.ndarray) -> Judgement:
    return judge_path(path(len(x)), x)


def near_forest(data: System) -> np.ndarray:
    return np.asarray(solvers.minimize_bcd(bcd.Quadratic(data.Q, data.c), tol=1e-9).x)


# -- compilation and memory ----------------------------------------------------------------------------------------


def first_call(name: str) -> None:
    """Seconds of the first and the second call of one workload in this process, and its peak memory."""
    workload = next(w for w in workloads() if w.name == name)
    data = {
        "forest": lambda: random_tree(200_000),
        "path": lambda: path(1_000_000),
        "near": lambda: random_tree(200_000, 200),
        "one": lambda: one_change(0),
    }.get(name.split("-")[0])
    system = data() if data else lattice(int(name.split("-")[2]), float(name.split("-")[3]), name.startswith("bounded"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(2):
        began = time.process_time()
        if data is None:
            solvers.minimize_bcd(bcd.Quadratic(system.Q, system.c), system.penalty)
        else:
            workload.ours.run(system)
        seconds.append(time.process_time() - began)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"  {name:<36}{seconds[0]:>8.2f}{seconds[1]:>9.3f}{(after - before) / 1024:>12.0f}", flush=True)


def first_calls() -> None:
    print(f"  {'workload':<36}{'first':>8}{'second':>9}{'MiB beyond the data':>22}")
    for workload in workloads():
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
            subprocess.run([sys.executable, __file__, "--first-call-of", workload.name], env=environment, check=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if sys.argv[1:2] == ["--first-call-of"]:
        first_call(sys.argv[2])
    elif sys.argv[1:] == ["--first-call"]:
        first_calls()
    else:
        sys.exit(main("Sparse quadratics on graphs", workloads()))
