r"""Scores that say "anywhere before": Borda counts, linear ordering, and a diagnostic that tells them from path scores.

A *precedence* score s_ij values i before j at any distance; the order should maximise

    sum over i before j of s_ij  <=  sum over pairs of max(s_ij, s_ji)  -  any packing of preference cycles,       (1)

since with w_ij = s_ij - s_ji > 0 on the preferred arcs, an order loses w on every arc it violates and violates one arc
of each cycle: weights y_C >= 0 on three-cycles with sum over cycles through an arc <= w prove a loss of at least sum
y_C. An *adjacency* score values i immediately before j; that is what :func:`ranking.rank_tsp` maximises.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ranking._precedence_numba import insertion_search, pack_cycles, profile_fits
from ranking._problem import read_scores
from solvers._core.arrays import FloatArray, IntArray, freeze
from solvers._core.errors import InvalidProblemError, SolverWarning
from solvers._core.linalg import UNIT
from solvers._core.options import check_integer
from solvers._core.random import RNG, generator
from solvers._core.result import relative_gap

__all__ = ["PrecedenceRanking", "ScoreKind", "rank_borda", "rank_linear", "score_kind"]

# Share of the variance that a profile must explain, and its lead over the other, for a verdict.
EXPLAINED = 0.35
LEAD = 0.1


@dataclass(frozen=True)
class PrecedenceRanking:
    """An order for precedence scores with a bound on every order.

    Attributes
    ----------
    order, rank : (n,) int64
        Items, best first, and the inverse permutation.
    fun : float
        Sum of ``scores[i, j]`` over i before j.
    bound : float
        No order has a greater sum.
    gap : float
        Relative distance of the two.
    """

    order: IntArray
    rank: IntArray
    fun: float
    bound: float
    gap: float


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


PrecedenceRanking.__module__ = ScoreKind.__module__ = "ranking"


def rank_borda(scores: Any) -> PrecedenceRanking:
    """Order items by row sum less column sum, the decoder for precedence scores; with a bound on every order.

    Parameters
    ----------
    scores : (n, n) array_like or networkx.DiGraph
        ``scores[i, j]``: how much i belongs before j, at any distance. Finite; the diagonal is ignored; absent edges
        are 0.

    Returns
    -------
    PrecedenceRanking
        ``order``, ``rank``, ``fun``, ``bound``, ``gap``; without a certificate, so :func:`solvers.verify` does not take it.

    Notes
    -----
    *Guarantee.* ``bound`` holds for every order, rounding included. *Complexity.* O(n^2) and O(n^3) for the bound.

    References
    ----------
    J.-C. de Borda, Mémoire sur les élections au scrutin, 1781.

    Examples
    --------
    >>> import numpy as np
    >>> from solvers.ranking import rank_borda
    >>> u = np.array([0.1, 0.9, 0.5])
    >>> rank_borda(u[:, None] - u).order.tolist()
    [1, 2, 0]
    """
    matrix = _precedence_scores(scores)
    return _packaged(matrix, _borda_order(matrix))


def rank_linear(scores: Any, *, n_starts: int = 10, rng: RNG = None) -> PrecedenceRanking:
    """Linear ordering: the order of greatest total precedence score found by insertion moves, with a bound.

    Parameters
    ----------
    scores : (n, n) array_like or networkx.DiGraph
        As for :func:`rank_borda`.
    n_starts : int
        The Borda order and ``n_starts - 1`` random ones are improved by moving single items until no move helps.
    rng : int, Generator, SeedSequence or None
        Seed of the random starts.

    Returns
    -------
    PrecedenceRanking
        ``order``, ``rank``, ``fun``, ``bound``, ``gap``; without a certificate, so :func:`solvers.verify` does not take it.

    Notes
    -----
    *Guarantee.* ``bound`` holds for every order, rounding included; ``fun`` is never below that of :func:`rank_borda`.
    *Complexity.* O(n^2) a sweep of insertion moves, O(n^3) for the bound.

    References
    ----------
    R. Martí, G. Reinelt, The linear ordering problem, Springer 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from solvers.ranking import rank_linear
    >>> rank_linear(np.triu(np.ones((5, 5)), 1), rng=0).order.tolist()
    [0, 1, 2, 3, 4]
    """
    matrix = _precedence_scores(scores)
    check_integer("n_starts", n_starts, low=1)
    draws = generator(rng)
    best = _borda_order(matrix)
    best_value = insertion_search(matrix, best)
    for _ in range(n_starts - 1):
        order = draws.permutation(len(matrix))
        value = insertion_search(matrix, order)
        if value > best_value:
            best, best_value = order, value
    return _packaged(matrix, best)


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
    from ranking._rank_tsp import rank_tsp

    matrix = _precedence_scores(scores)
    if len(matrix) < 8:
        return ScoreKind("unclear", 0.0, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SolverWarning)
        path = rank_tsp(matrix, rng=0).order
    assert path is not None
    adjacency, precedence = profile_fits(freeze(matrix), path)
    kind: Literal["adjacency", "precedence", "unclear"] = "unclear"
    if max(adjacency, precedence) >= EXPLAINED and abs(adjacency - precedence) >= LEAD:
        kind = "adjacency" if adjacency > precedence else "precedence"
    return ScoreKind(kind, float(adjacency), float(precedence))


def _precedence_scores(scores: Any) -> FloatArray:
    matrix, nodes = read_scores(scores, True)
    matrix = np.array(matrix, order="C")
    if nodes is not None:
        matrix[np.isneginf(matrix)] = 0.0
    np.fill_diagonal(matrix, 0.0)
    if not np.isfinite(matrix).all():
        raise InvalidProblemError(
            "scores must be finite off the diagonal for a precedence ranking; "
            f"got {int(np.sum(~np.isfinite(matrix)))} NaN or infinite entries"
        )
    return matrix


def _borda_order(matrix: FloatArray) -> IntArray:
    size = float(np.max(np.abs(matrix))) or 1.0
    scaled = matrix / size
    return np.argsort(-(scaled.sum(axis=1) - scaled.sum(axis=0)), kind="stable")


def _packaged(matrix: FloatArray, order: IntArray) -> PrecedenceRanking:
    n = len(matrix)
    upper = np.triu(matrix[np.ix_(order, order)], 1)
    fun = float(np.sum(upper))
    size = float(np.sum(np.abs(matrix)))
    best_pairs = float(np.sum(np.triu(np.maximum(matrix, matrix.T), 1)))
    bound = best_pairs - float(pack_cycles(matrix)) + 4 * UNIT * (n * n + 8) * size
    rank = np.empty(n, dtype=np.int64)
    rank[order] = np.arange(n)
    return PrecedenceRanking(order, rank, fun, bound, max(0.0, relative_gap(fun, bound, "max", size)))
