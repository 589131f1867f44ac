"""Compile the family's kernels on a tiny problem."""

from __future__ import annotations

import numpy as np

from matching._instance import BayesianMatching
from matching._match_online import match_online as run_match_online
from matching._pivotal import local_pivotal_sample, pivotal_sample
from matching._simulate import simulate

__all__ = ["match_online"]


def match_online() -> None:
    """Every method, both ways to solve the linear program, and the policies."""
    weights = np.array([[[1.0, 2.0], [0.5, 0.0]], [[3.0, 1.0], [1.0, 1.0]]])
    instance = BayesianMatching([[0.5, 0.25], [0.5, 0.5]], weights)
    results = {name: run_match_online(instance, method=name, tol=0.0) for name in ("pivotal", "independent", "greedy")}
    for exact in (True, False):
        results[f"rollout {exact}"] = run_match_online(instance, method="rollout", tol=0.0, options={"exact": exact})
    for result in results.values():
        result.policy(rng=0).arrive(0, 0)
    simulate(instance, results, 2, rng=0)
    pivotal_sample([0.5, 0.5], rng=0)
    local_pivotal_sample([0.5, 0.5], [[0.0], [1.0]], rng=0)
