"""Certified k-means on four classical data sets."""

from __future__ import annotations

from typing import Any

import numpy as np

from clustering._kmeans_sdp import kmeans_sdp
from solvers._core.result import Result
from solvers._demo import DemoProblem, DemoTable
from solvers._examples import load_example

__all__ = ["table"]

# Seconds per problem: on an idle core only glass needs more to close its last ten-thousandth.
TIME_LIMIT = 12.0
PROBLEMS = (
    ("ruspini", 4, "auto", 1e-6),
    ("iris", 3, "exact", 1e-4),
    ("seeds", 3, "exact", 1e-4),
    ("glass", 6, "exact", 3e-4),
)


def table() -> DemoTable:
    """ruspini is proved optimal by the dual point of its labels, the others by branch and bound, time permitting."""
    return DemoTable(
        title="Certified k-means (kmeans_sdp): cost, and a proved lower bound on the cost of every clustering",
        size_columns=("n", "K"),
        objective="cost",
        problems=[_problem(*problem) for problem in PROBLEMS],
    )


def _problem(name: str, n_clusters: int, method: str, tol: float) -> DemoProblem:
    data = load_example(name).data

    def solve() -> Result:
        return kmeans_sdp(data, n_clusters, method=method, tol=tol, time_limit=TIME_LIMIT, rng=20260104)

    def draw(result: Result, ax: Any) -> None:
        centred = data - data.mean(axis=0)
        axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
        plane, centers = centred @ axes.T, (result["centers"] - data.mean(axis=0)) @ axes.T
        ax.scatter(plane[:, 0], plane[:, 1], c=result["labels"], cmap="tab10", s=12)
        ax.scatter(centers[:, 0], centers[:, 1], marker="x", c="black", s=60)
        ax.set_title(f"{name}, K = {n_clusters}: cost {result.fun:.6g}, no clustering below {result.bound:.6g}")
        ax.set_xlabel("first principal axis")
        ax.set_ylabel("second principal axis")

    return DemoProblem(name, (len(data), n_clusters), solve, draw)
