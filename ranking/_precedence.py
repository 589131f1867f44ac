r"""Linear ordering: the best order for scores that say "i anywhere before j".

    max over orders of  sum over i before j of s_ij

An *adjacency* score values i immediately before j instead; that is what :func:`ranking.rank_tsp` maximises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ranking._precedence_ascent import ascend_cycles, ascent_seconds
from ranking._precedence_bounds import LARGEST_PRECEDENCE, PUBLISH, CycleCertificate, linear_bound, precedence_value
from ranking._precedence_cuts import cutting_planes
from ranking._precedence_numba import insertion_search, pack_cycles, perturbed_search
from ranking._problem import read_scores
from solvers._catalogue import entry_named
from solvers._core.arrays import FloatArray, IntArray, as_permutation
from solvers._core.backend import choose_backend
from solvers._core.errors import InvalidProblemError
from solvers._core.monitor import Monitor
from solvers._core.options import Common, check_common, check_integer
from solvers._core.random import RNG
from solvers._core.result import Result, Status

__all__ = ["PrecedenceRanking", "precedence_scores", "rank_borda", "rank_linear"]

# Rounds (max_iter) by default; kicks in a round, fewer where n^2 times as many are more work than the second number; items
# that a kick moves.
ROUNDS = 20
MOST_KICKS, ROUND_WORK = 200, 1_000_000
MOVED_ITEMS = 8
# Items up to which linear programs are worth their time by default, and their seconds per fourth power of the items.
LP_ITEMS = 40
LP_SECONDS = 1e-7
# Items up to which every triple gets a weight; their number is 8 bytes times n^3 / 6.
CYCLE_ITEMS = 500


@dataclass(frozen=True)
class LinearSettings:
    """Options: items up to which linear programs tighten the bound, and beyond them descent on cycle weights."""

    lp_items: int = LP_ITEMS
    cycle_items: int = CYCLE_ITEMS


class PrecedenceRanking(Result):
    """An order for precedence scores with a proved bound on every order.

    Besides the fields of :class:`solvers.Result`:

    Attributes
    ----------
    order, rank : (n,) int64
        Items, best first (the same array as ``x``), and the inverse permutation.
    nodes : list or None
        Nodes of the graph in the order of the item numbers, where a graph was given.
    """

    order: IntArray
    rank: IntArray
    nodes: list[Any] | None


PrecedenceRanking.__module__ = "ranking"


def rank_borda(scores: Any, *, rng: RNG = None) -> PrecedenceRanking:
    """Order items by row sum less column sum, the quick decoder for precedence scores; with a bound on every order.

    Parameters
    ----------
    scores : (n, n) array_like or networkx.DiGraph
        ``scores[i, j]``: how much i belongs before j, at any distance. Finite; the diagonal is ignored; absent edges
        are 0.
    rng : int, Generator, SeedSequence or None
        Decides between items of equal count.

    Returns
    -------
    PrecedenceRanking
        The result of ``rank_linear(scores, method="borda")``, which :func:`solvers.verify` takes.

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
    return rank_linear(scores, method="borda", rng=rng)


def rank_linear(
    scores: Any,
    *,
    method: str = "auto",
    x0: Any = None,
    tol: float = 1e-6,
    max_iter: int | None = None,
    time_limit: float | None = None,
    callback: Callable[..., Any] | None = None,
    rng: RNG = None,
    history: bool = False,
    verbose: int = 0,
    backend: str = "auto",
    options: Mapping[str, Any] | None = None,
) -> PrecedenceRanking:
    r"""Linear ordering: the order of greatest total precedence score, with a proved bound on every order.

    .. math:: \max_{\pi} \; \sum_{k < l} s_{\pi_k \pi_l}

    over all permutations of the items; ``scores[i, j]`` says how much i belongs before j, *at any distance*. For scores
    of immediate succession see :func:`solvers.rank_tsp`; ``solvers.ranking.score_kind`` tells them apart.

    Parameters
    ----------
    scores : (n, n) array_like or networkx.DiGraph
        Any unit, finite. The diagonal is ignored; absent edges of a graph are 0. NumPy, lists, pandas; not modified.
    method : {"auto", "insertion", "borda"}
        ``"auto"``: iterated insertion search from the Borda order and from random ones; linear programs, or for more
        items descent on the weights of all three-cycles, for the bound. ``"insertion"``: without these.
        ``"borda"``: the Borda order as it is.
    x0 : PrecedenceRanking or (n,) permutation, optional
        An order to start from.
    tol : float
        The run ends as OPTIMAL once ``gap <= tol``, and as CONVERGED when its rounds are done.
    max_iter : int, optional
        Rounds: a start with its iterated insertion search, and where it pays a linear program. 20 by default.
    time_limit : float, optional
        Seconds.
    callback : callable, optional
        Called as ``callback(intermediate_result)`` after each round; a true answer or StopIteration ends the run.
    rng : int, Generator, SeedSequence or None
        Seed of the random starts, and of the choice between equal items; the order of the input never decides.
    history : bool
        Keep a :class:`solvers.History` of the rounds.
    verbose : {0, 1, 2}
        Silent; a summary line; a table row per round (standard error).
    backend : {"auto", "numba"}
        The search is sequential and runs on the host.
    options : mapping, optional
        ``lp_items`` (40): greatest number of items for which linear programs are solved. ``cycle_items`` (500): for
        more than ``lp_items`` items and at most so many, weights of all three-cycles descend instead.

    Returns
    -------
    PrecedenceRanking
        ``order`` (n,) best first, ``rank`` its inverse, ``fun`` the sum of ``scores[i, j]`` over i before j, ``bound``,
        ``gap``.

    Raises
    ------
    InvalidProblemError
        NaN or infinite scores, wrong shapes.

    Notes
    -----
    *Guarantee.* No order scores above ``bound``, rounding included; ``fun`` is never below that of the Borda order. The
    bound comes from weights on cycles of three items, each of which every order breaks: packed greedily, then for few
    items optimal, as multipliers of a linear relaxation that often is tight, and for more items close to that, by
    coordinate descent on a smoothed dual.

    *Complexity.* O(n^2) a sweep of insertion moves, O(n^3) for the packing and for a sweep of the weights, which take
    n^3 / 6 numbers. Finding the best order is NP-hard.

    References
    ----------
    R. Martí, G. Reinelt, The linear ordering problem, Springer 2011.

    Examples
    --------
    >>> import numpy as np
    >>> import solvers
    >>> result = solvers.rank_linear(np.triu(np.ones((5, 5)), 1), rng=0)
    >>> result.order.tolist(), result.fun, result.status.name
    ([0, 1, 2, 3, 4], 10.0, 'OPTIMAL')
    """
    entry = entry_named("rank_linear")
    common = check_common(
        entry.name,
        method=method,
        methods=entry.methods,
        tol=tol,
        max_iter=max_iter,
        time_limit=time_limit,
        callback=callback,
        rng=rng,
        history=history,
        verbose=verbose,
        options=options,
    )
    settings = common.settings(LinearSettings)
    check_integer("options['lp_items']", settings.lp_items, low=0)
    check_integer("options['cycle_items']", settings.cycle_items, low=0)
    choose_backend("ranking", backend, entry.backends, scores=None if hasattr(scores, "adjacency") else scores)
    matrix, nodes = precedence_scores(scores)
    run = _Run(matrix, nodes, common)
    if x0 is not None:
        run.offer(_start(x0, len(matrix)))
    _solve(run, settings)
    result = run.monitor.result()
    assert isinstance(result, PrecedenceRanking)
    return result


class _Run:
    """One run, in the numbering of a random order of the items, which is what decides between equal ones."""

    def __init__(self, scores: FloatArray, nodes: list[Any] | None, common: Common) -> None:
        self.scores, self.nodes = scores, nodes
        self.perm = common.rng.permutation(len(scores))
        self.place = np.argsort(self.perm)
        self.mixed = np.ascontiguousarray(scores[np.ix_(self.perm, self.perm)])
        size = float(np.sum(np.abs(scores)))
        self.monitor = Monitor(
            common, sense="max", scale=size, max_iter=ROUNDS, package=self._package, method=common.method,
            backend="numba",
        )  # fmt: skip
        self.prove(CycleCertificate(np.empty((0, 3), np.int64), np.empty(0)))

    def offer(self, order: IntArray) -> None:
        """Offer an order in the caller's numbering."""
        value, error = precedence_value(self.scores, order)
        if self.monitor.x is None or value > self.monitor.fun:
            self.monitor.fun_slack = error
            self.monitor.incumbent(order, value)

    def search(self, start: IntArray, *, kicks: bool = True) -> None:
        """Offer the local optimum that insertion, with kicks, reaches from an order in this run's numbering."""
        order = start.copy()
        insertion_search(self.mixed, order)
        if kicks:
            n = len(order)
            moves = self.monitor.common.rng.integers(
                0, n, (max(1, min(MOST_KICKS, ROUND_WORK // n**2)), 2 * MOVED_ITEMS)
            )
            perturbed_search(self.mixed, order, moves)
        self.offer(self.perm[order])

    def prove(self, certificate: CycleCertificate) -> None:
        """Publish what a certificate in the caller's numbering proves."""
        self.monitor.prove(linear_bound(self.scores, certificate, PUBLISH), certificate)

    def _package(self, monitor: Monitor) -> PrecedenceRanking:
        rank = np.empty(len(self.scores), dtype=np.int64)
        rank[monitor.x] = np.arange(len(rank))
        return PrecedenceRanking(**monitor.fields(), order=monitor.x, rank=rank, nodes=self.nodes)


def _solve(run: _Run, settings: LinearSettings) -> None:
    """Borda; then rounds of insertion search from new starts, and of the linear relaxation."""
    monitor, n = run.monitor, len(run.scores)
    method = monitor.common.method
    borda = _borda_order(run.mixed)
    run.offer(run.perm[borda])
    programs, seconds = _relaxations(run, settings)
    start = borda
    while monitor.running():
        if method != "borda":
            run.search(start)
        if monitor.nit == 1:
            cycles, weights = pack_cycles(run.mixed)
            run.prove(CycleCertificate(run.perm[cycles], weights))
        if monitor.status is None and monitor.affords(seconds):
            for certificate, places in programs:
                run.prove(CycleCertificate(run.perm[certificate.cycles], certificate.weights))
                run.search(np.argsort(places, kind="stable"), kicks=False)
                break
        monitor.checkpoint()
        # From the best order on, and from a new one, in turn.
        start = run.place[monitor.x] if monitor.nit % 2 else monitor.common.rng.permutation(n)
        if method == "borda" or (monitor.nit >= monitor.max_iter and monitor.common.max_iter is None):
            monitor.finish(Status.CONVERGED)


def _relaxations(run: _Run, settings: LinearSettings) -> tuple[Iterator[tuple[CycleCertificate, FloatArray]], float]:
    """What tightens the bound round by round, and its seconds in a round."""
    n = len(run.mixed)
    if run.monitor.common.method != "auto" or n < 3:
        return iter(()), 0.0
    if n <= settings.lp_items:
        return cutting_planes(run.mixed), LP_SECONDS * n**4
    if n <= settings.cycle_items:
        return ascend_cycles(run.mixed), ascent_seconds(n)
    return iter(()), 0.0


def precedence_scores(scores: Any) -> tuple[FloatArray, list[Any] | None]:
    """A square matrix of finite scores with zero diagonal and, for a graph, its nodes; absent edges are 0."""
    given, nodes = read_scores(scores, True)
    matrix = np.array(given, order="C")
    if nodes is not None:
        matrix[np.isneginf(matrix)] = 0.0
    np.fill_diagonal(matrix, 0.0)
    if not np.isfinite(matrix).all():
        raise InvalidProblemError(
            "scores must be finite off the diagonal for a precedence ranking; "
            f"got {int(np.sum(~np.isfinite(matrix)))} NaN or infinite entries"
        )
    if np.max(np.abs(matrix)) > LARGEST_PRECEDENCE:
        raise InvalidProblemError(f"scores must be of modulus below 2**970; got {float(np.max(np.abs(matrix)))!r}")
    return matrix, nodes


def _borda_order(matrix: FloatArray) -> IntArray:
    size = float(np.max(np.abs(matrix))) or 1.0
    scaled = matrix / size
    return np.argsort(-(scaled.sum(axis=1) - scaled.sum(axis=0)), kind="stable")


def _start(x0: Any, n: int) -> IntArray:
    order = as_permutation(x0.order if isinstance(x0, PrecedenceRanking) else x0, n)
    if order is None:
        raise InvalidProblemError(f"x0 must be a PrecedenceRanking or a permutation of 0..{n - 1}; got {x0!r}")
    return order
