"""Proved shortest tours of three TSPLIB instances, and a proved ranking of noisy adjacency scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from ranking._rank_tsp import rank_tsp
from ranking._tsplib import read_tsplib
from solvers._core.result import Result
from solvers._demo import DemoProblem, DemoTable

__all__ = ["table"]


def table() -> DemoTable:
    """br17 and ftv33, and ry48p, which is nearly symmetric: all are proved optimal."""
    from importlib.resources import files

    problems = [
        _problem(name, read_tsplib(str(files("solvers") / "_data" / f"{name}.atsp")), closed=True, maximize=False)
        for name in ("br17", "ftv33", "ry48p")
    ]
    ranks = np.random.default_rng(20260104).permutation(30)
    noise = 0.15 * np.random.default_rng(20260105).standard_normal((30, 30))
    scores = np.exp(-np.abs(ranks - ranks[:, None] - 1) / 3) + noise
    problems.append(_problem("successors", scores, closed=False, maximize=True))
    return DemoTable(
        title="Best paths (rank_tsp): length of the tour (score of the path), and a proved bound on every other",
        size_columns=("n",),
        objective="length or score",
        problems=problems,
    )


def _problem(name: str, scores: Any, *, closed: bool, maximize: bool) -> DemoProblem:
    def solve() -> Result:
        return rank_tsp(scores, closed=closed, maximize=maximize, rng=20260104)

    def draw(result: Result, ax: Any) -> None:
        order = result["order"]
        picture = np.array(scores, dtype=float)[np.ix_(order, order)]
        np.fill_diagonal(picture, np.nan)
        image = ax.imshow(picture, cmap="viridis", vmax=np.nanquantile(picture, 0.98))
        ax.figure.colorbar(image, label="distance" if not maximize else "score")
        ax.set_title(f"{name}, rows and columns in best order: {result.fun:.6g}, bound {result.bound:.6g}")
        ax.set_xlabel("position of the successor")
        ax.set_ylabel("position")

    return DemoProblem(name, (len(scores),), solve, draw)
