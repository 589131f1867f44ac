"""A diagnostic that tells scores of neighbours, made for paths, from scores of precedence, made for Borda counts."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

from ranking._precedence import precedence_scores
from ranking._precedence_numba import adjacency_fit, precedence_fit
from ranking._rank_tsp import rank_tsp
from solvers._core.arrays import freeze
from solvers._core.errors import SolverWarning

__all__ = ["ScoreKind", "score_kind"]

# Share of the variance that a profile must explain, and its lead over the other, for a verdict.
EXPLAINED = 0.35
LEAD = 0.1


@dataclass(frozen=True)
class ScoreKind:
    """Which decoder scores are made for.

    Attributes
    ----------
    kind : {"adjacency", "precedence", "unclear"}
    adjacency, precedence : float
        Shares of the variance of the scores explained by the rank distance: any profile along the best path (adjusted for
        its freedom), and a slope or step along the Borda order. A random matrix has both near 0 (small n: up to 0.3).
    """

    kind: Literal["adjacency", "precedence", "unclear"]
    adjacency: float
    precedence: float


ScoreKind.__module__ = "ranking"


def score_kind(scores: Any) -> ScoreKind:
    """Tell adjacency scores, made for :func:`rank_tsp`, from precedence scores, made for :func:`rank_borda`.

    Parameters
    ----------
    scores : (n, n) array_like or networkx.DiGraph
        Finite; the diagonal is ignored.

    Returns
    -------
    ScoreKind

    Notes
    -----
    Scores of either kind are roughly a function of the rank distance j - i in the order that they were made for: a peak at
    distance 1 for adjacency, a step or slope for precedence. The function compares the variance that each explains. Fewer
    than 8 items are always "unclear".

    Examples
    --------
    >>> import numpy as np
    >>> from solvers.ranking import score_kind
    >>> u = np.linspace(0, 3, 20)
    >>> score_kind(1 / (1 + np.exp(u[:, None] - u))).kind
    'precedence'
    """
    matrix, _ = precedence_scores(scores)
    if len(matrix) < 8:
        return ScoreKind("unclear", 0.0, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SolverWarning)
        path = rank_tsp(matrix, rng=0).order
    assert path is not None
    matrix = freeze(matrix)
    adjacency, precedence = adjacency_fit(matrix, path), precedence_fit(matrix)
    kind: Literal["adjacency", "precedence", "unclear"] = "unclear"
    if max(adjacency, precedence) >= EXPLAINED and abs(adjacency - precedence) >= LEAD:
        kind = "adjacency" if adjacency > precedence else "precedence"
    return ScoreKind(kind, float(adjacency), float(precedence))
