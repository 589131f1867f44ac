"""Certified k-means against CVXPY with SCS and Clarabel on the same relaxation, and against scikit-learn's own fit.

The judge knows the best clustering found for the data (scikit-learn from the planted centres) and asks of every answer one
thing: which lower bound on the k-means cost does it *prove*? For our results that is what ``solvers.verify`` re-establishes;
for a conic solver, the rigorous bound made from its multiplier of Z >= 0. Solver tolerances prove nothing by themselves.

    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/peers/clustering.py [--quick]
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from _compare import Judgement, Seconds, Solver, TimesLess, TimesOf, Workload, main
from sklearn.cluster import KMeans

import solvers
from clustering._ky_fan import multiplier_bound
from clustering._problem import kmeans_problem
from solvers._core.backend import choose_backend


@dataclass(frozen=True)
class Blobs:
    """Points, the labels of the best known clustering, and its cost."""

    X: np.ndarray
    n_clusters: int
    labels: np.ndarray
    cost: float
    seed: int


def gmm(n: int, p: int, n_clusters: int, factor: float, seed: int) -> Blobs:
    """Equal Gaussian clusters of unit variance, ``factor`` times the exact-recovery distance of Chen and Yang (2021) apart."""
    theta = math.sqrt(4.0 * (1.0 + math.sqrt(1.0 + n_clusters * p / (n * math.log(n)))) * math.log(n))
    centers = np.zeros((n_clusters, p))
    np.fill_diagonal(centers, factor * theta / math.sqrt(2.0))
    planted = np.repeat(np.arange(n_clusters), n // n_clusters)
    X = centers[planted] + np.random.default_rng(seed).standard_normal((len(planted), p))
    fit = KMeans(n_clusters, init=centers, n_init=1, tol=0.0, max_iter=1000).fit(X)
    labels = np.asarray(fit.labels_, dtype=np.int64)
    cost = sum(float(np.sum((X[labels == k] - X[labels == k].mean(axis=0)) ** 2)) for k in range(n_clusters))
    return Blobs(X, n_clusters, labels, cost, seed)


def proved_bound(data: Blobs, answer: Any) -> float:
    """What an answer proves: a verified result, or the multiplier of Z >= 0 in the rigorous bound."""
    if isinstance(answer, solvers.Result):
        problem = data.labels if answer.entry == "certify_kmeans" else data.n_clusters
        check = solvers.verify(answer, data.X, problem)
        return check.bound if check.ok else -math.inf
    host = choose_backend("clustering", "array", ("array",), X=data.X)
    return multiplier_bound(kmeans_problem(data.X, data.n_clusters, None, host), np.asarray(answer)).reestablished


def within(gap: float) -> Any:
    """Judge: the proved bound is within a relative ``gap`` of the best known cost."""

    def judge(data: Blobs, answer: Any) -> Judgement:
        if isinstance(answer, KMeans):
            return Judgement(math.inf, "proves nothing")
        proved = (data.cost - proved_bound(data, answer)) / data.cost
        return Judgement(proved, f"proved gap {proved:.1e}", proved <= gap)

    return judge


def near_relaxation(gap: float) -> Any:
    """Judge: the proved bound is within ``gap`` of the best bound that the relaxation proves here (loose relaxations)."""
    best: dict[int, float] = {}

    def judge(data: Blobs, answer: Any) -> Judgement:
        if data.seed not in best:
            long = solvers.kmeans_sdp(data.X, data.n_clusters, method="admm", tol=1e-9, max_iter=6000, rng=data.seed)
            best[data.seed] = proved_bound(data, long)
        short = (best[data.seed] - proved_bound(data, answer)) / best[data.seed]
        return Judgement(short, f"short of the relaxation by {short:.1e}", short <= gap)

    return judge


def relaxation(tol: float) -> Solver:
    """Our relaxation to a relative tolerance."""
    return Solver(
        f"kmeans_sdp tol {tol:g}",
        lambda d: solvers.kmeans_sdp(d.X, d.n_clusters, method="admm", tol=tol, rng=d.seed),
        prepare=lambda: solvers.warm_up("kmeans_sdp"),
    )


def certificate(tol: float) -> Solver:
    """Our certificate of given labels, to a relative gap."""
    return Solver(
        f"certify_kmeans tol {tol:g}",
        lambda d: solvers.certify_kmeans(d.X, d.labels, tol=tol),
        prepare=lambda: solvers.warm_up("certify_kmeans"),
    )


FIT = Solver("KMeans(n_init=5) fit", lambda d: KMeans(d.n_clusters, n_init=5, random_state=d.seed).fit(d.X))


def conic(solver: str, needs: str, seeds: int | None = None, **settings: Any) -> Solver:
    """The reference model solved by CVXPY; the answer is the multiplier of Z >= 0."""

    def run(data: Blobs) -> np.ndarray:
        model = solvers.reference_model("kmeans_sdp", data.X, data.n_clusters)
        model.solve(solver=solver, **settings)
        multiplier: np.ndarray = model.constraints[0].dual_value
        return multiplier

    return Solver(f"CVXPY+{needs}", run, needs=("cvxpy", needs), seeds=seeds)


def scs(eps: float) -> Solver:
    """SCS at one tolerance."""
    return conic("SCS", "scs", eps_abs=eps, eps_rel=eps)


CLARABEL = conic("CLARABEL", "clarabel", seeds=1)

WORKLOADS = (
    Workload(
        "gmm(52,10,4,1.0) relaxation to 1e-4",
        lambda seed: gmm(52, 10, 4, 1.0, seed),
        relaxation(1e-4),
        near_relaxation(1e-4),
        peers=(scs(1e-4), CLARABEL),
        quick=True,
        note="too close for a tight relaxation",
    ),
    Workload(
        "gmm(200,10,4,1.0) gap 1e-4",
        lambda seed: gmm(200, 10, 4, 1.0, seed),
        relaxation(1e-4),
        within(1e-4),
        peers=(scs(1e-4),),
        targets=(TimesLess("CVXPY+scs", 30.0),),
        quick=True,
    ),
    Workload(
        "gmm(200,10,4,1.0) gap 1e-6",
        lambda seed: gmm(200, 10, 4, 1.0, seed),
        relaxation(1e-6),
        within(1e-6),
        peers=(scs(1e-4),),
        targets=(TimesLess("CVXPY+scs", 17.0),),
    ),
    Workload(
        "gmm(100,10,4,1.0) relaxation to 1e-6",
        lambda seed: gmm(100, 10, 4, 1.0, seed),
        relaxation(1e-6),
        near_relaxation(1e-6),
        peers=(CLARABEL,),
        targets=(TimesLess("CVXPY+clarabel", 600.0),),
    ),
    Workload(
        "gmm(50000,20,4,1.0) certify to 1e-9",
        lambda seed: gmm(50_000, 20, 4, 1.0, seed),
        certificate(1e-9),
        within(1e-9),
        peers=(FIT,),
        targets=(TimesOf("KMeans(n_init=5) fit", 1.2),),
    ),
    Workload(
        "gmm(200000,20,4,1.0) certify to 1e-6",
        lambda seed: gmm(200_000, 20, 4, 1.0, seed),
        certificate(1e-6),
        within(1e-6),
        targets=(Seconds(1.0),),
    ),
)

if __name__ == "__main__":
    sys.exit(main("Certified k-means against its peers", WORKLOADS))
