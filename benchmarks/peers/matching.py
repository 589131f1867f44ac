"""Certified online matching: the linear program against HiGHS, and the quality and speed asked of certificates and
policies.

For the linear program the judge takes an x and prices from any solver, repairs x to feasibility, evaluates the
rigorous upper bound at the prices, and reports their relative gap. For certificates it takes what ``solvers.verify``
re-establishes, for policies on small instances exact values by dynamic programming, for the rest paired simulation. No
maintained Python package for online matching is known to compare the policies with.

    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/peers/matching.py [--quick]
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
from _compare import Judgement, Quality, Seconds, Solver, TimesLess, Workload, main

import solvers
from matching import (
    BayesianMatching,
    display_ads_instance,
    exact_policy_value,
    match_online,
    optimal_online_value,
    pivotal_sample,
    simulate,
    taxi_instance,
)
from matching._bounds import dual_bound
from matching._lp import feasible, sparse_program


def random_instance(n: int, n_times: int, n_types: int, degree: int, seed: int, kind: str = "edge") -> BayesianMatching:
    """Each type sees ``degree`` random nodes; lognormal weights by edge or by node, or ones."""
    import scipy.sparse

    rng = np.random.default_rng(seed)
    p = rng.random((n_times, n_types))
    if n_types > 1:
        p *= rng.uniform(0.5, 1.0, (n_times, 1)) / p.sum(axis=1, keepdims=True)
    rows = n_times * n_types
    nodes = np.concatenate([rng.choice(n, min(degree, n), replace=False) for _ in range(rows)])
    by_node = rng.lognormal(size=n)
    weights = {"edge": rng.lognormal(size=len(nodes)), "vertex": by_node[nodes], "unweighted": np.ones(len(nodes))}[
        kind
    ]
    start = np.arange(rows + 1) * min(degree, n)
    return BayesianMatching(p, scipy.sparse.csr_array((weights, nodes, start), shape=(rows, n)))


def small_instances(count: int, seed: int) -> list[BayesianMatching]:
    """2 to 5 nodes, 2 to 8 times; half with one type, half with 2 or 3; edge-, vertex- and unweighted in turn."""
    rng = np.random.default_rng(seed)
    found = []
    for trial in range(count):
        n, n_times = int(rng.integers(2, 6)), int(rng.integers(2, 9))
        n_types = 1 if trial % 2 else int(rng.integers(2, 4))
        p = rng.random((n_times, n_types))
        p = p if n_types == 1 else p * rng.uniform(0.5, 1.0, (n_times, 1)) / p.sum(axis=1, keepdims=True)
        shape = (n_times, n_types, n)
        w = (rng.lognormal(size=shape), np.broadcast_to(rng.lognormal(size=n), shape), np.ones(shape))[trial // 2 % 3]
        found.append(BayesianMatching(p, w * (rng.random(shape) < 0.8)))
    return found


def early_and_late(n: int, eps: float) -> BayesianMatching:
    """H(n, eps): n private arrivals of probability 1 - 1/n worth eps, then a sure one worth 1 to every node."""
    w = np.zeros((n + 1, n))
    w[np.arange(n), np.arange(n)] = eps
    w[n] = 1.0
    return BayesianMatching(np.append(np.full(n, 1.0 - 1.0 / n), 1.0), w)


def by_highs(instance: BayesianMatching) -> tuple[np.ndarray, np.ndarray]:
    """x and prices by HiGHS' interior-point method without crossover."""
    import highspy
    import scipy.sparse

    program = sparse_program(instance)
    matrix = scipy.sparse.vstack([program.A_ub, program.A_eq]).tocsc()
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = matrix.shape[1], matrix.shape[0]
    model.col_cost_ = program.c
    model.col_lower_, model.col_upper_ = program.bounds[:, 0].copy(), program.bounds[:, 1].copy()
    model.row_lower_ = np.r_[np.full(len(program.b_ub), -np.inf), program.b_eq]
    model.row_upper_ = np.r_[program.b_ub, program.b_eq]
    model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    model.a_matrix_.start_, model.a_matrix_.index_ = matrix.indptr, matrix.indices
    model.a_matrix_.value_ = matrix.data
    solver = highspy.Highs()
    for name, value in (("output_flag", False), ("solver", "ipm"), ("run_crossover", "off"), ("threads", 1)):
        solver.setOptionValue(name, value)
    solver.passModel(model)
    solver.run()
    solution = solver.getSolution()
    n_edges = len(instance.edges)
    duals = np.array(solution.row_dual)[n_edges : len(program.b_ub)]
    return np.array(solution.col_value)[:n_edges], -float(instance.edges.weight.max()) * duals


def by_us(instance: BayesianMatching) -> tuple[np.ndarray, np.ndarray]:
    """x and prices of the smoothed dual."""
    result = match_online(instance, method="greedy", tol=5e-4)
    edges = instance.edges
    rows = np.repeat(np.arange(instance.probabilities.size), np.diff(edges.start))
    return np.asarray(result.x.tocsr()[rows, edges.node]).ravel(), result.certificate.prices


def two_sided(instance: BayesianMatching, answer: Any) -> Judgement:
    """Relative distance between the repaired x and the rigorous bound at the prices."""
    solution = feasible(instance, *answer)
    bound = dual_bound(instance, solution.prices).published_above
    gap = (bound - solution.value) / bound
    return Judgement(gap, f"two-sided gap {gap:.1e}", gap <= 5e-4)


def shortfall(instances: list[BayesianMatching], results: list[Any]) -> Judgement:
    """One less the median of what verification re-establishes below, over the bound it re-establishes above."""
    checks = [solvers.verify(result, instance) for result, instance in zip(results, instances, strict=True)]
    ratios = [c.fun / c.bound if c.bound > 0 else 1.0 for c in checks]
    words = f"proved / bound: median {np.median(ratios):.4f}, minimum {min(ratios):.4f}"
    return Judgement(1.0 - float(np.median(ratios)), words, all(c.ok for c in checks))


def worst_shortfall(scaling: str) -> Any:
    """One less the smallest ratio of the proved value to the bound."""

    def judge(instances: list[BayesianMatching], results: list[Any]) -> Judgement:
        checks = [solvers.verify(r, instance, scaling=scaling) for r, instance in zip(results, instances, strict=True)]
        worst = min(c.fun / c.bound for c in checks)
        return Judgement(1.0 - worst, f"proved / bound: minimum {worst:.4f}", all(c.ok for c in checks))

    return judge


def solve_all(**keywords: Any) -> Any:
    """Solver of a list of instances."""
    return lambda instances: [match_online(instance, **keywords) for instance in instances]


def pivotal_floor(instances: list[BayesianMatching], results: list[Any]) -> Judgement:
    """One less the smallest exact value over the linear program's value."""
    pairs = zip(instances, results, strict=True)
    worst = min(exact_policy_value(instance, r) / r.lp_value if r.lp_value > 0 else 1.0 for instance, r in pairs)
    return Judgement(1.0 - worst, f"value / LP: minimum {worst:.4f}")


def rollout_quality(instances: list[BayesianMatching], results: list[Any]) -> Judgement:
    """One less the smallest exact value over the best online policy's; refused if the median is below 0.999."""
    ratios = []
    for instance, result in zip(instances, results, strict=True):
        best = optimal_online_value(instance)
        ratios.append(exact_policy_value(instance, result) / best if best > 0 else 1.0)
    words = f"value / OPT_on: median {np.median(ratios):.5f}, minimum {min(ratios):.4f}"
    return Judgement(1.0 - min(ratios), words, float(np.median(ratios)) >= 0.999)


def against_rules(n_runs: int) -> Any:
    """How far the rollout is behind dual prices and greedy, in standard errors of the paired difference."""

    def judge(instance: BayesianMatching, result: Any) -> Judgement:
        rivals = {name: match_online(instance, method=name) for name in ("dual-price", "greedy")}
        rows = simulate(instance, {"rollout": result, **rivals}, n_runs, rng=1)[1:]
        behind = [
            float(row["difference"] / row["difference_error"]) if row["difference_error"] > 0 else 0.0 for row in rows
        ]
        lead = ", ".join(
            f"{-row['difference']:+.3g} ({-b:+.1f} s.e.) over {row['name']}"
            for row, b in zip(rows, behind, strict=True)
        )
        return Judgement(max(behind), lead)

    return judge


def steps(instance: BayesianMatching, n_runs: int) -> Any:
    """Simulation of a planned pivotal policy."""
    planned = match_online(instance, method="pivotal", scaling="none")

    def run(data: BayesianMatching) -> Any:
        return simulate(data, {"pivotal": planned}, n_runs, rng=1)

    return Solver("simulate", run, prepare=lambda: simulate(instance, {"pivotal": planned}, 1))


def nothing_to_judge(data: Any, answer: Any) -> Judgement:
    """Only the seconds count."""
    return Judgement(0.0, "")


def arrivals(instance: BayesianMatching) -> Solver:
    """One policy through all its arrivals, from Python."""
    planned = match_online(instance, method="pivotal", scaling="none")
    planned.policy(rng=0).arrive(0, 0)

    def run(data: BayesianMatching) -> int:
        policy = planned.policy(rng=0)
        return sum(policy.arrive(t, 0) >= 0 for t in range(data.n_times))

    return Solver("Policy.arrive", run)


def warm() -> None:
    """Compile."""
    solvers.warm_up("match_online")


HIGHS = Solver("HiGHS IPM", by_highs, needs=("highspy",))
HIGHS_ONCE = Solver("HiGHS IPM", by_highs, needs=("highspy",), seeds=1)
MULTI, BERNOULLI = random_instance(200, 400, 5, 10, 0), random_instance(200, 400, 1, 10, 0)
WIDE = random_instance(1000, 2000, 1, 50, 0)
FAMILY = [early_and_late(n, eps) for n in (3, 5, 8, 20, 50) for eps in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)]
SMALL = 600

WORKLOADS = (
    Workload(
        "LP n=200 T=400 K=5, 20k edges",
        lambda seed: random_instance(200, 400, 5, 10, seed),
        Solver("smoothed dual", by_us, prepare=warm),
        two_sided,
        peers=(HIGHS,),
        targets=(TimesLess("HiGHS IPM", 10.0), Quality(5e-4)),
        quick=True,
    ),
    Workload(
        "LP n=1000 T=2000 K=5, 100k edges",
        lambda seed: random_instance(1000, 2000, 5, 10, seed),
        Solver("smoothed dual", by_us, prepare=warm),
        two_sided,
        peers=(HIGHS_ONCE,),
        targets=(TimesLess("HiGHS IPM", 10.0), Quality(5e-4)),
    ),
    Workload(
        "certificates, 600 small instances",
        lambda seed: small_instances(SMALL, seed),
        Solver("match_online", solve_all(method="pivotal"), prepare=warm),
        shortfall,
        targets=(Quality(0.03),),
        seeds=(0,),
        quick=True,
    ),
    Workload(
        "certificates, H(n, eps), ascended",
        lambda seed: FAMILY,
        Solver("match_online", solve_all(), prepare=warm),
        worst_shortfall("auto"),
        targets=(Quality(0.05),),
        seeds=(0,),
        quick=True,
    ),
    *(
        Workload(
            f"certificates, H(n, eps), {scaling} scaling",
            lambda seed: FAMILY,
            Solver("match_online", solve_all(method="pivotal", scaling=scaling), prepare=warm),
            worst_shortfall(scaling),
            targets=(Quality(0.30),),
            seeds=(0,),
            quick=True,
        )
        for scaling in ("two-step", "cubic")
    ),
    Workload(
        "policies, 600 small instances: pivotal",
        lambda seed: small_instances(SMALL, seed),
        Solver("pivotal", solve_all(method="pivotal"), prepare=warm),
        pivotal_floor,
        targets=(Quality(0.20),),
        seeds=(0,),
    ),
    *(
        Workload(
            f"policies, 600 small instances: rollout{words}",
            lambda seed: small_instances(SMALL, seed),
            Solver("rollout", solve_all(method="rollout", options={"exact": exact}), prepare=warm),
            rollout_quality,
            targets=(Quality(0.05),),
            seeds=(0,),
        )
        for exact, words in ((True, ""), (False, " without the dynamic program"))
    ),
    *(
        Workload(
            f"rollout against dual prices and greedy: {name}",
            lambda seed, make=make: make(),
            Solver("rollout", lambda data: match_online(data, method="rollout"), prepare=warm),
            against_rules(n_runs),
            targets=(Quality(2.0),),
            seeds=(0,),
            note="target in standard errors of the paired difference",
        )
        for name, make, n_runs in (
            ("taxi", lambda: taxi_instance().instance, 300),
            ("advertising", lambda: display_ads_instance(rng=0), 100),
            ("advertising, small", lambda: display_ads_instance(8, 5, 60, rng=1), 1000),
            *(
                (f"random {kind} K={k}", lambda kind=kind, k=k: random_instance(40, 80, k, 6, 0, kind), 500)
                for kind in ("edge", "vertex", "unweighted")
                for k in (1, 5)
            ),
        )
    ),
    Workload(
        "simulation, 3e6 multi-type steps",
        lambda seed: MULTI,
        steps(MULTI, 7500),
        nothing_to_judge,
        targets=(Seconds(1.0),),
        quick=True,
    ),
    Workload(
        "simulation, 1.2e7 Bernoulli steps",
        lambda seed: BERNOULLI,
        steps(BERNOULLI, 30_000),
        nothing_to_judge,
        targets=(Seconds(1.0),),
        quick=True,
    ),
    Workload(
        "pivotal sampling, 1e7 units",
        lambda seed: np.random.default_rng(seed).random(10_000_000),
        Solver("pivotal_sample", lambda p: pivotal_sample(p, rng=1), prepare=warm),
        lambda p, taken: Judgement(
            0.0, f"count off by {abs(taken.sum() - math.fsum(p)):.2f}", abs(taken.sum() - p.sum()) < 1.5
        ),
        targets=(Seconds(0.2),),
        quick=True,
    ),
    Workload(
        "2000 calls of arrive, n=1000, degree 50",
        lambda seed: WIDE,
        arrivals(WIDE),
        nothing_to_judge,
        targets=(Seconds(0.02),),
        quick=True,
        note="10 microseconds a call",
    ),
)

if __name__ == "__main__":
    sys.exit(main("Certified online matching: targets and peers", WORKLOADS))
