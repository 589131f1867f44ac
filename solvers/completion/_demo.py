"""Completion of ratings, of a picture with outliers, and of data that do not suffice."""

from __future__ import annotations

from typing import Any

import numpy as np

from solvers._core.result import Result
from solvers._demo import DemoProblem, DemoTable
from solvers._examples import load_example
from solvers.completion._complete_matrix import complete_matrix
from solvers.completion._result import CompletionResult

__all__ = ["table"]


def table() -> DemoTable:
    """The ratings are solved to proved optimality; the last data set is one that no method could complete."""
    return DemoTable(
        title="Matrix completion (complete_matrix): data fit plus penalty, and a proved bound on that of every matrix",
        size_columns=("m", "n", "entries", "rank"),
        objective="objective",
        problems=[_ratings(), _flowers(), _too_few()],
    )


def _ratings() -> DemoProblem:
    ratings = load_example("movietweetings").data
    users, films = ratings[:, 0].astype(np.int64), ratings[:, 1].astype(np.int64)
    shape = int(users.max()) + 1, int(films.max()) + 1
    triplets = users, films, ratings[:, 2], shape

    def solve() -> Result:
        return complete_matrix(triplets, 30, reg=12.0, biases=True, holdout=0.1, rng=20260113)

    def draw(result: Result, ax: Any) -> None:
        held = result["holdout_index"]
        seen = {(u, f): r for u, f, r in zip(users, films, ratings[:, 2], strict=True)}
        truth = [seen[int(u), int(f)] for u, f in held]
        spread = np.random.default_rng(0).uniform(-0.3, 0.3, len(truth))
        assert isinstance(result, CompletionResult)
        ax.plot(np.add(truth, spread), result.predict(held[:, 0], held[:, 1]), ".")
        ax.set_xlabel("held-out rating (spread sideways)")
        ax.set_ylabel("prediction")
        ax.set_title(f"held-out RMSE {result['holdout_rmse']:.3f}")

    return DemoProblem("movietweetings", (*shape, len(users), 30), solve, draw)


def _flowers() -> DemoProblem:
    data = load_example("iris").data
    rng = np.random.default_rng(20260114)
    spoilt = data.copy()
    spoilt[rng.random(data.shape) < 0.2] = np.nan
    wrong = np.flatnonzero(~np.isnan(spoilt).ravel())[::40]
    spoilt.flat[wrong] += 30.0

    def solve() -> Result:
        return complete_matrix(spoilt, 4, loss="huber", delta=0.3, reg=0.5, rng=20260115)

    return DemoProblem("iris_spoilt", (*data.shape, int((~np.isnan(spoilt)).sum()), 4), solve)


def _too_few() -> DemoProblem:
    rng = np.random.default_rng(20260116)
    full = rng.standard_normal((60, 3)) @ rng.standard_normal((3, 50))
    seen = np.where(rng.random(full.shape) < 0.11, full, np.nan)

    def solve() -> Result:
        return complete_matrix(seen, 3, max_iter=200, rng=20260117)

    return DemoProblem("too_few_entries", (*full.shape, int((~np.isnan(seen)).sum()), 3), solve)
