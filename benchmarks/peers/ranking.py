"""Best paths against elkai (LKH), OR-Tools CP-SAT and HiGHS with cuts.

The judge recomputes the score of every order from the data. Of our answers it asks in addition what ``solvers.verify``
re-establishes; LKH proves nothing. elkai is for academic, non-commercial use, and integer only: scores are scaled by 10^6.

Scores: U uniform; B = X W X^T with Gaussian X (n, 8), W; Y = X (S + 0.1 K) X^T with S the symmetric and K the skew part of
Gaussian matrices; E = minus Euclidean distances of uniform points in the square plus 0.05 times the difference in x.

    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/peers/ranking.py [--quick]

``TSPLIB_DATA`` may name a folder with ``atsp_instances.npz``, one array per instance.
"""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from _compare import Judgement, Quality, Seconds, Solver, TimesLess, TimesOf, Workload, main

import solvers
from solvers.ranking import read_tsplib


@dataclass(frozen=True)
class Paths:
    """Matrices of one kind, and how their paths are meant."""

    scores: list[np.ndarray]
    closed: bool = False
    maximize: bool = True

    @property
    def problem(self) -> dict[str, bool]:
        return {"closed": self.closed, "maximize": self.maximize}


def matrix(kind: str, n: int, seed: int) -> np.ndarray:
    """One score matrix of kind U, B, Y or E."""
    rng = np.random.default_rng([seed, n, ord(kind)])
    if kind == "U":
        return rng.random((n, n))
    if kind == "E":
        points = rng.random((n, 2))
        difference = points[:, None] - points
        return -np.hypot(difference[..., 0], difference[..., 1]) + 0.05 * difference[..., 0]
    X, W = rng.standard_normal((n, 8)), rng.standard_normal((8, 8))
    if kind == "B":
        return X @ W @ X.T
    K = rng.standard_normal((8, 8))
    return X @ (0.5 * (W + W.T) + 0.05 * (K - K.T)) @ X.T


def several(kind: str, n: int, count: int) -> Any:
    """``count`` matrices of a kind."""
    return lambda seed: Paths([matrix(kind, n, 1000 * seed + k) for k in range(count)])


def value(data: Paths, scores: np.ndarray, order: np.ndarray) -> float:
    """Score of an order."""
    total = float(np.sum(scores[order[:-1], order[1:]]))
    return total + float(scores[order[-1], order[0]]) if data.closed else total


def ours(method: str = "auto", **keywords: Any) -> Solver:
    """Every matrix by itself."""

    def run(data: Paths) -> list[Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", solvers.SolverWarning)
            return [solvers.rank_tsp(s, method=method, rng=0, **data.problem, **keywords) for s in data.scores]

    return Solver(f"rank_tsp {method}", run, prepare=lambda: solvers.warm_up("rank_tsp"))


def elkai(runs: int = 1) -> Solver:
    """LKH on integers; a dummy node with free arcs opens the path."""

    def run(data: Paths) -> list[np.ndarray]:
        import elkai as lkh

        orders = []
        for scores in data.scores:
            n = len(scores)
            costs = (np.max(scores) - scores) if data.maximize else scores - np.min(scores)
            factor = (
                1.0 if data.closed and np.all(scores == np.round(scores)) else 1e6 / max(float(np.max(costs)), 1e-300)
            )
            size = n if data.closed else n + 1
            whole = np.zeros((size, size), dtype=np.int64)
            whole[:n, :n] = np.round(costs * factor)
            np.fill_diagonal(whole, 0)
            tour = np.array(lkh.DistanceMatrix(whole.tolist()).solve_tsp(runs=runs)[:-1])
            if not data.closed:
                tour = np.roll(tour, -int(np.flatnonzero(tour == n)[0]))[1:]
            orders.append(tour)
        return orders

    return Solver(f"elkai runs={runs}", run, needs=("elkai",))


def cp_sat() -> Solver:
    """OR-Tools' circuit constraint on scores in millionths."""

    def run(data: Paths) -> list[np.ndarray]:
        from ortools.sat.python import cp_model

        orders = []
        for scores in data.scores:
            n = len(scores)
            model = cp_model.CpModel()
            arcs = [(i, j, model.new_bool_var("")) for i in range(n + 1) for j in range(n + 1) if i != j]
            model.add_circuit(arcs)
            model.maximize(sum(round(1e6 * scores[i, j]) * x for i, j, x in arcs if i < n and j < n))
            solver = cp_model.CpSolver()
            solver.parameters.num_workers = 1
            solver.solve(model)
            after = {i: j for i, j, x in arcs if solver.boolean_value(x)}
            order = [after[n]]
            while after[order[-1]] != n:
                order.append(after[order[-1]])
            orders.append(np.array(order))
        return orders

    return Solver("CP-SAT", run, needs=("ortools",), seeds=1)


def highs() -> Solver:
    """Assignments by HiGHS (``scipy.optimize.milp``), solved again with a cut for every subtour until none is left."""

    def run(data: Paths) -> list[np.ndarray]:
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array

        orders = []
        for scores in data.scores:
            n = len(scores)
            m = n + 1
            costs = np.zeros((m, m))
            costs[:n, :n] = -scores
            upper = np.ones((m, m)) - np.eye(m)
            arcs, node = np.arange(m * m), np.repeat(np.arange(m), m)
            ones = np.ones(m * m)
            degrees = [csr_array((ones, (ends, arcs)), shape=(m, m * m)) for ends in (node, np.tile(np.arange(m), m))]
            constraints = [LinearConstraint(degree, 1, 1) for degree in degrees]
            while True:
                found = milp(costs.ravel(), integrality=ones, bounds=Bounds(0, upper.ravel()), constraints=constraints)
                after = found.x.reshape(m, m).argmax(axis=1)
                cycles = []
                left = set(range(m))
                while left:
                    cycle = [min(left)]
                    while after[cycle[-1]] != cycle[0]:
                        cycle.append(int(after[cycle[-1]]))
                    left -= set(cycle)
                    cycles.append(cycle)
                if len(cycles) == 1:
                    break
                for cycle in cycles:
                    inside = np.zeros((m, m))
                    inside[np.ix_(cycle, cycle)] = 1.0
                    constraints.append(LinearConstraint(csr_array(inside.reshape(1, -1)), -np.inf, len(cycle) - 1))
            order = [int(after[n])]
            while after[order[-1]] != n:
                order.append(int(after[order[-1]]))
            orders.append(np.array(order))
        return orders

    return Solver("HiGHS with cuts", run, seeds=1)


def proved_gaps(*, median: float, most: float) -> Any:
    """Judge: the gaps that ``solvers.verify`` re-establishes; half of them at most ``median``."""

    def judge(data: Paths, answer: Any) -> Judgement:
        checks = [
            solvers.verify(found, scores, **data.problem) for scores, found in zip(data.scores, answer, strict=True)
        ]
        gaps = [check.gap if check.ok else np.inf for check in checks]
        words = f"proved gap median {100 * np.median(gaps):.4f} %, max {100 * np.max(gaps):.4f} %"
        return Judgement(float(np.median(gaps)), words, bool(np.median(gaps) <= median and np.max(gaps) <= most))

    return judge


def judged(*, proved: float | None = None, shortfall: float = np.inf) -> Any:
    """Judge: mean shortfall from the best known value; ours must be proved to ``proved`` and be within ``shortfall`` (%)."""
    best: dict[tuple[int, int], float] = {}

    def judge(data: Paths, answer: Any) -> Judgement:
        short, gaps = [], []
        for k, (scores, found) in enumerate(zip(data.scores, answer, strict=True)):
            mine = isinstance(found, solvers.Result)
            order = np.asarray(found.order if mine else found)
            sign = 1.0 if data.maximize else -1.0
            key = (hash(scores.tobytes()), k)
            if key not in best:
                longer = solvers.rank_tsp(scores, method="exact", time_limit=2.0, tol=1e-9, rng=1, **data.problem)
                best[key] = sign * longer.fun
            best[key] = max(best[key], sign * value(data, scores, order))
            short.append(100.0 * (best[key] - sign * value(data, scores, order)) / abs(best[key]))
            if mine:
                check = solvers.verify(found, scores, **data.problem)
                gaps.append(check.gap if check.ok else np.inf)
        words = f"short of the best by {np.mean(short):.4f} %"
        if gaps:
            words += f"; proved gap median {100 * np.median(gaps):.4f} %, max {100 * np.max(gaps):.4f} %"
        accepted = not gaps or (np.mean(short) <= shortfall and (proved is None or max(gaps) <= proved))
        return Judgement(float(np.mean(short)), words, bool(accepted))

    return judge


def batch(kind: str, rate: float) -> Workload:
    """4000 groups of 10."""

    def run(data: Paths) -> Any:
        return solvers.rank_tsp_batch(np.stack(data.scores), rng=0)

    def judge(data: Paths, answer: Any) -> Judgement:
        checked = solvers.verify(answer, np.stack(data.scores))
        return Judgement(checked.gap, f"largest proved gap {checked.gap:.1e}", checked.ok and checked.gap <= 1e-6)

    return Workload(
        f"batch of n=10, {kind}", several(kind, 10, 4000),
        Solver("rank_tsp_batch", run, prepare=lambda: solvers.warm_up("rank_tsp_batch")), judge,
        targets=(Seconds(4000 / rate),), quick=kind == "U", note=f"4000 groups; {rate:g} groups/s",
    )  # fmt: skip


def instance(name: str) -> Any:
    """The data of an ATSP instance: shipped, or from the folder that ``TSPLIB_DATA`` names."""

    def data(seed: int) -> Paths:
        if name in SHIPPED:
            return Paths([read_tsplib(str(files("solvers") / "_data" / f"{name}.atsp"))], closed=True, maximize=False)
        with np.load(os.path.join(os.environ["TSPLIB_DATA"], "atsp_instances.npz")) as stored:
            return Paths([stored[name].astype(np.float64)], closed=True, maximize=False)

    return data


def tsplib(name: str) -> Workload:
    """Time to the best known tour."""
    # In p43, arcs of 0 and of 5160 meet, and 0.02 % is one unit.
    return Workload(
        f"TSPLIB {name}", instance(name), ours(), judged(shortfall=0.02 if name == "p43" else 0.0), peers=(elkai(),),
        targets=(TimesLess("elkai runs=1", 4.0),), quick=name == "ftv33",
    )  # fmt: skip


def tsplib_proof(name: str) -> Workload:
    """What branch and bound proves in ten seconds, with room for its certificate."""
    return Workload(
        f"proof of TSPLIB {name}",
        instance(name),
        ours("exact", time_limit=10.0, options={"certificate_bytes": 1 << 32}),
        judged(shortfall=0.0),
        seeds=(0,),
    )


def bounds(kind: str, n: int) -> Workload:
    """Bounds of near-symmetric scores within 5 ms each."""
    return Workload(
        f"bound n={n} {kind}, 20 matrices", several(kind, n, 20), ours("heuristic"),
        proved_gaps(median=2e-3, most=1.5e-2), targets=(Seconds(20 * 5e-3),),
    )  # fmt: skip


def large(name: str, n: int, matrix: Any, gap: float, limit: float) -> Workload:
    """Thousands of items: the certified gap."""

    def run(data: Any) -> Any:
        return solvers.rank_tsp(data, rng=0)

    def prepare() -> None:
        run(matrix(2001, 0))

    def judge(data: Any, answer: Any) -> Judgement:
        check = solvers.verify(answer, data)
        return Judgement(check.gap, f"proved gap {check.gap:.1e}", check.ok and check.gap <= gap)

    return Workload(
        name, lambda seed: matrix(n, seed), Solver("rank_tsp", run, prepare=prepare), judge, targets=(Seconds(limit),),
        seeds=(0,),
    )  # fmt: skip


def preferences(kind: str, n: int, seed: int) -> np.ndarray:
    """Precedence scores: uniform, a tournament with one upset in ten, or flows between sectors of lognormal sizes."""
    rng = np.random.default_rng([seed, n])
    if kind == "uniform":
        return rng.random((n, n))
    if kind == "tournament":
        place = rng.permutation(n)
        upper = np.triu((place[:, None] < place) ^ (rng.random((n, n)) < 0.1), 1)
        return np.where(np.tri(n, dtype=bool), ~upper.T, upper) * (1.0 - np.eye(n))
    sizes = np.exp(rng.standard_normal((2, n)))
    flows = 100.0 * sizes[0][:, None] * sizes[1] * np.exp(1.5 * rng.standard_normal((n, n)))
    return np.floor(flows * (rng.random((n, n)) < 0.6))


def linear(kind: str, n: int, gap: float) -> Workload:
    """Linear ordering: the certified gap, beside that of packed cycles alone."""

    def solver(name: str, method: str) -> Solver:
        return Solver(
            name, lambda data: solvers.rank_linear(data, method=method, rng=0),
            prepare=lambda: solvers.warm_up("rank_linear"),
        )  # fmt: skip

    def judge(data: Any, answer: Any) -> Judgement:
        check = solvers.verify(answer, data)
        ours = answer.method == "auto"
        return Judgement(check.gap, f"proved gap {check.gap:.1e}", check.ok and (not ours or check.gap <= gap))

    return Workload(
        f"linear order n={n} {kind}", lambda seed: preferences(kind, n, seed), solver("rank_linear", "auto"), judge,
        peers=(solver("packed cycles", "insertion"),),
    )  # fmt: skip


def bilinear_factors(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """X W and X: scores of kind B, never written down."""
    rng = np.random.default_rng(seed)
    X, W = rng.standard_normal((n, 8)), rng.standard_normal((8, 8))
    return X @ W, X


SHIPPED = ("br17", "ftv33", "ry48p")
# The shipped instances, and those that TSPLIB_DATA adds; the family rbg is solved by its assignment.
INSTANCES = (
    *SHIPPED,
    *(("ft53", "ftv35", "ftv47", "ftv64", "ftv70", "ftv170", "kro124p", "p43", "rbg323", "rbg358", "rbg443")
      if "TSPLIB_DATA" in os.environ else ()),
)  # fmt: skip

WORKLOADS = (
    *(
        Workload(
            f"n={n} {kind}, {count} matrices, certified", several(kind, n, count), ours(), judged(proved=1e-6),
            peers=(elkai(), cp_sat(), highs()) if n == 30 else (elkai(),),
            targets=(
                Seconds(count * limit), TimesLess("elkai runs=1", 50.0),
                *((TimesLess("CP-SAT", 500.0), TimesLess("HiGHS with cuts", 3000.0)) if n == 30 else ()),
            ),
            quick=n == 30,
        )
        for n, count, limit in ((30, 20, 0.15e-3), (100, 10, 2e-3), (200, 5, 6e-3)) for kind in "UB"
    ),
    *(batch(kind, rate) for kind, rate in (("U", 1e5), ("B", 1e5), ("Y", 3e4), ("E", 1.5e4))),
    *(tsplib(name) for name in INSTANCES),
    *(tsplib_proof(name) for name in INSTANCES),
    *(
        Workload(
            f"near-symmetric n={n} {kind}, 10 matrices", several(kind, n, 10), ours(), judged(proved=1.5e-2),
            peers=(elkai(),), targets=(Quality(0.01), TimesOf("elkai runs=1", 1.0)),
        )
        for n in (30, 50) for kind in "YE"
    ),
    *(bounds(kind, n) for n in (30, 50) for kind in "YE"),
    Workload("n=4000 uniform", several("U", 4000, 1), ours(tol=1e-5), judged(proved=1e-5), targets=(Seconds(2.0),), seeds=(0,)),
    large("n=10000 uniform", 10000, lambda n, seed: matrix("U", n, seed), 1e-5, 20.0),
    large("n=20000 uniform", 20000, lambda n, seed: matrix("U", n, seed), 1e-5, 60.0),
    large("factors n=20000, d=8", 20000, bilinear_factors, 2e-4, 20.0),
    large("factors n=100000, d=8", 100000, bilinear_factors, 1e-4, 400.0),
    *(
        linear(kind, n, gap)
        for kind, gap in (("uniform", 0.1), ("tournament", 1e-3), ("flows", 1e-2)) for n in (50, 100, 200)
    ),
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main("Best paths against their peers", WORKLOADS))
