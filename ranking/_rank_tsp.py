"""``rank_tsp``: the best path through all items, and a proof that no path is better."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ranking import _kernels_numba as kernels
from ranking._bounds import RECURSION_NODES
from ranking._factors import Factors, are_factors
from ranking._improve import ascend, grow_tree, improve
from ranking._large import LargeRun, survey
from ranking._one_call import solve_in_one_call
from ranking._potential_tree import PotentialTree
from ranking._precedence_numba import adjacency_fit, precedence_fit
from ranking._problem import LARGE_ITEMS, PathProblem, path_problem
from ranking._result import RankingResult
from ranking._run import Run
from ranking._trees import AssignmentTree, Tree
from solvers._catalogue import entry_named
from solvers._core.arrays import FloatArray, IntArray, as_permutation
from solvers._core.backend import choose_backend
from solvers._core.errors import InvalidProblemError, SolverWarning
from solvers._core.options import Common, check_common, check_integer
from solvers._core.random import RNG
from solvers._core.result import Status

__all__ = ["path_order", "rank_tsp"]

# Items up to which "auto" prefers the subset recursion.
SMALL_ITEMS = 7
# Methods that look at candidate arcs only where there are thousands of items.
CANDIDATE_METHODS = ("auto", "heuristic", "greedy")
# Items from which the fit of the decoder is judged, and share of variance from which scores look like precedence scores.
WARNED_ITEMS = 10
PRECEDENCE_SHARE = 0.5
# Rounds (max_iter) by default; each is a few milliseconds of work.
EXACT_ROUNDS = 10**9
# Relative distance of the first tour from the assignment value above which scores count as near-symmetric: assignments
# then consist of two-cycles, branching on them is slow, and turning paths round pays.
LOOSE_GAP = 0.01
# Rounds of branching of "auto": on assignments where they are tight and where they are not, and on 1-arborescences; the last
# of "heuristic".
TIGHT_ROUNDS = 100
FEW_ROUNDS = 2
LOOSE_ROUNDS = 60
HEURISTIC_ROUNDS = 2
# Part of the distance from the assignment that potentials must not leave open.
FAIR_SHARE = 0.5
# Distance from the potentials' bound, in mean arcs of the tour, above which "auto" does not branch.
HOPELESS_ARCS = 1.0


@dataclass(frozen=True)
class PathSettings:
    """Options: memory up to which the certificate keeps the whole tree."""

    certificate_bytes: int = 2**28


def rank_tsp(
    scores: Any,
    *,
    start: Any = None,
    end: Any = None,
    closed: bool = False,
    maximize: bool = True,
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
) -> RankingResult:
    r"""Rank items by the path of greatest total score between neighbours, with a proof that no path is better.

    .. math:: \max_{\pi} \; \sum_{k=1}^{n-1} s_{\pi_k \pi_{k+1}} \quad (+\, s_{\pi_n \pi_1} \text{ if closed})

    over all permutations of the items; ``scores[i, j]`` says how well j follows *immediately* after i. For scores that
    say whether i comes *anywhere* before j, see :func:`solvers.rank_borda` and ``solvers.ranking.score_kind``.

    Parameters
    ----------
    scores : (n, n) array_like, networkx.DiGraph, or tuple (U, V) of two (n, d) array_like
        Any unit. ``-inf`` (``+inf`` when minimising) forbids an arc, as does an absent edge of a graph, whose
        ``weight`` attribute (default 1) is the score. The diagonal is ignored.
        NumPy, lists, pandas; not modified. A tuple of two matrices stands for ``U @ V.T`` and is never multiplied out
        beyond 2000 items.
    start, end : int or node, optional
        First and last item; free by default. ``end`` has no meaning for a closed path.
    closed : bool
        Whether the path returns to its first item. The order then begins at ``start``, or behind its weakest arc.
    maximize : bool
        Maximise (default) or minimise.
    method : {"auto", "exact", "heuristic", "greedy", "dynamic-programming"}
        ``"auto"``: exact where that takes milliseconds, otherwise the best path found with its bound. ``"exact"``:
        branches until proved or limited. ``"heuristic"``: local search and the best cheap bound, in about the same time
        for all problems of a size; loose assignments are followed by potentials and two rounds of branching on them.
        ``"greedy"``: one pass of assignment, patching and segment exchange. ``"dynamic-programming"``: subset
        recursion, up to 16 items.
    x0 : RankingResult or (n,) permutation, optional
        An order to start from.
    tol : float
        The run ends as OPTIMAL once ``gap <= tol``; as CONVERGED once the tree is exhausted or the method has done its
        work. With ``tol=0`` an exhausted tree means optimal up to the rounding that ``gap`` shows.
    max_iter : int, optional
        Rounds of a few milliseconds: the first pass, restarts, and bundles of tree nodes. No limit by default; every
        method but "exact" ends by itself.
    time_limit : float, optional
        Seconds.
    callback : callable, optional
        Called as ``callback(intermediate_result)`` after each round; a true answer or StopIteration ends the run.
    rng : int, Generator, SeedSequence or None
        Decides between equally good orders and seeds the restarts. The order of the input never decides.
    history : bool
        Keep a :class:`solvers.History` of the rounds.
    verbose : {0, 1, 2}
        Silent; a summary line; a table row per round (standard error).
    backend : {"auto", "numba"}
        The search is sequential and runs on the host; other array kinds must be brought there first.
    options : mapping, optional
        ``certificate_bytes`` (2**28): size of the tree at which branching stops, so that its proof can be kept.

    Returns
    -------
    RankingResult
        ``order`` (n,) best first, ``rank`` its inverse, ``fun`` the path's score in the unit of ``scores``, ``bound``,
        ``gap``. Status INFEASIBLE, ``order=None``, where no path avoids the forbidden arcs.

    Raises
    ------
    InvalidProblemError
        NaN, infinite attraction, wrong shapes, contradictory ends.

    Notes
    -----
    *Guarantee.* No allowed path scores above ``bound`` (below it when minimising), rounding errors included; integer
    scores near 2**53 add up to rounded sums, which the bound covers. Relative gaps are taken over the size of the
    path's own arcs. An open path is a cycle through a depot with free arcs. Assignment duals give the first bound,
    patched and improved by segment exchange; branching forbids the arcs of a short cycle one by one, each child costing
    one augmenting path. Where the assignment leaves more than one per cent open, as for nearly symmetric scores, node
    potentials are raised towards the subtour bound of 1-arborescences, whose walks give tours; paths are also turned round, in
    constant time per trial by prefix sums; and branching forces or forbids one arc, each child costing a few
    1-arborescences of O(n^2). "auto" leaves that out where the potentials leave more than a mean arc open.

    Where an exhausted tree proves little, because huge and tiny scores meet, up to 16 items are solved by the recursion, whose
    sums lose nothing; more end as NUMERICAL_ERROR.

    A ``SolverWarning`` says so where up to 2000 items have scores that look like precedence scores, for which a path is
    the wrong decoder.

    Beyond 2000 items without forbidden arcs, every method but "exact" looks at candidate arcs: a sparse assignment problem
    grows by the arcs that a pass over all of them prices out, its cycles are patched and improved by segment exchange, and
    the bound is that of its prices. Memory grows with n, not n^2. Factors of 20 000 items take seconds, of 100 000 a minute or
    two.

    *Complexity.* O(n^3) at worst and about O(n^2) on typical scores for the first pass; exponential in the worst case
    for a proof. Memory: three n x n matrices and the tree; beyond 2000 items, and without "exact", about 4 kB an item.

    References
    ----------
    G. Carpaneto, M. Dell'Amico, P. Toth, Exact solution of large-scale, asymmetric traveling salesman problems, ACM
    Trans. Math. Softw. 21, 1995.
    R. Jonker, A. Volgenant, A shortest augmenting path algorithm for dense and sparse linear assignment problems,
    Computing 38, 1987.
    M. Held, R. Karp, The traveling-salesman problem and minimum spanning trees, Oper. Res. 18, 1970.
    T. Volgenant, R. Jonker, A branch and bound algorithm for the symmetric traveling salesman problem based on the 1-tree
    relaxation, European J. Oper. Res. 9, 1982.

    Examples
    --------
    >>> import numpy as np
    >>> import solvers
    >>> scores = np.array([[0, 9, 1, 1], [1, 0, 1, 8], [2, 1, 0, 1], [1, 1, 7, 0]])
    >>> result = solvers.rank_tsp(scores)
    >>> result.order.tolist(), result.fun, result.status.name
    ([0, 1, 3, 2], 24.0, 'OPTIMAL')
    """
    entry = entry_named("rank_tsp")
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
    settings = common.settings(PathSettings)
    check_integer("options['certificate_bytes']", settings.certificate_bytes, low=0)
    if type(scores) is not np.ndarray or backend != "auto":
        plain = hasattr(scores, "adjacency") or are_factors(scores)
        choose_backend("ranking", backend, entry.backends, scores=None if plain else scores)
    problem = path_problem(scores, start, end, closed, maximize)
    run = _new_run(problem, common)
    if x0 is not None:
        _start_from(run, x0)
    if isinstance(run, LargeRun):
        run.solve()
    elif x0 is not None or not _branches_at_once(run) or not solve_in_one_call(run, settings.certificate_bytes):
        run.read_costs()
        _solve(run, settings)
    result = run.monitor.result()
    assert isinstance(result, RankingResult)
    if (
        result.order is not None
        and maximize
        and not closed
        and WARNED_ITEMS <= problem.n <= LARGE_ITEMS
        and not run.forbidden
    ):
        _warn_of_precedence(problem.scores, result.order)
    return result


def _observed(common: Common) -> bool:
    """Whether the run is watched or limited, round by round."""
    limits = (common.callback, common.time_limit, common.max_iter)
    return limits != (None, None, None) or common.history or common.verbose > 0


def _branches_at_once(run: Run) -> bool:
    """Whether nothing but the answer is asked for, of a method that branches."""
    common = run.monitor.common
    smallest = SMALL_ITEMS if common.method == "auto" else 1
    return common.method in ("auto", "exact") and run.problem.n > smallest and not _observed(common)


def _new_run(problem: PathProblem, common: Common) -> Run:
    """A run over all arcs, or over candidates where there are thousands of items."""
    method = common.method
    if isinstance(problem.scores, Factors) and method not in CANDIDATE_METHODS:
        raise InvalidProblemError(
            f"method={method!r} takes factors of up to {LARGE_ITEMS} items; got {problem.n}: use method='auto', or pass "
            "the matrix U @ V.T"
        )
    if problem.n > LARGE_ITEMS and method in CANDIDATE_METHODS and not survey(problem):
        return LargeRun(problem, common, method=method, max_iter=EXACT_ROUNDS)
    return Run(problem, common, method=method, max_iter=EXACT_ROUNDS)


def path_order(scores: FloatArray, *, closed: bool, rng: np.random.Generator) -> IntArray:
    """Order of greatest score, without the warning about the kind of score."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SolverWarning)
        order = rank_tsp(scores, closed=closed, rng=rng).order
    assert order is not None
    return order


def _warn_of_precedence(scores: Any, order: Any) -> None:
    """Warn where the scores look like "anywhere before" rather than "immediately before"."""
    precedence = precedence_fit(scores)
    if precedence < PRECEDENCE_SHARE:
        return
    adjacency = adjacency_fit(scores, order)
    if precedence >= adjacency + 0.2:
        warnings.warn(
            "scores look like precedence scores (i anywhere before j): the Borda order explains "
            f"{precedence:.0%} of their variance and the best path {adjacency:.0%}; rank_borda may be the right decoder",
            SolverWarning,
            stacklevel=3,
        )


def _solve(run: Run, settings: PathSettings) -> None:
    """The ladder: recursion; assignment, patching, exchange; then search for better tours and bounds, and branching."""
    monitor, problem = run.monitor, run.problem
    method = monitor.common.method
    if problem.n == 1 or method == "dynamic-programming" or (method == "auto" and problem.n <= SMALL_ITEMS):
        _recursion(run)
        return
    monitor.running()
    if not _root(run):
        return
    monitor.checkpoint()
    if monitor.status is None and method != "greedy":
        _close_gap(run, settings.certificate_bytes)
    if monitor.certificate is None:
        run.prove_root()
    monitor.finish(Status.CONVERGED if monitor.x is not None else Status.STALLED)


def _close_gap(run: Run, most_bytes: int) -> None:
    """Search and branch: on 1-arborescences where assignments are loose, otherwise on assignments.

    "exact" branches on, up to the limits.
    """
    method = run.monitor.common.method
    distance = run.upper - run.lower
    loose = not distance <= LOOSE_GAP * abs(run.upper)
    if run.monitor.certificate is None and (loose or method == "heuristic"):
        run.prove_root()
    if method == "heuristic":
        potentials = ascend(run)
        if loose and potentials is not None:
            grow_tree(run, potentials, HEURISTIC_ROUNDS, most_bytes)
        else:
            improve(run, turn=loose)
        return
    if loose and _branch_on_potentials(run, most_bytes):
        return
    tree = AssignmentTree(run)
    rounds = EXACT_ROUNDS if method == "exact" else FEW_ROUNDS if loose else TIGHT_ROUNDS
    if not grow_tree(run, tree, rounds, most_bytes):
        if method == "exact":
            _outgrown(run, tree, most_bytes)
        improve(run, turn=loose)


def _branch_on_potentials(run: Run, most_bytes: int) -> bool:
    """Ascent, branching where that promises an end, search where it does not.

    False where there are no potentials or they are hardly better than the assignment's prices, as where scores have many
    scales, or where roundings kept an exhausted tree from a proof.
    """
    exact = run.monitor.common.method == "exact"
    tree = ascend(run)
    if tree is None or run.upper - tree.lower > FAIR_SHARE * (run.upper - run.lower):
        return False
    if _hopeless(run, tree):
        improve(run, turn=True)
        if not exact and _hopeless(run, tree):
            return True
    if grow_tree(run, tree, EXACT_ROUNDS if exact else LOOSE_ROUNDS, most_bytes):
        return run.monitor.status is not None
    if exact:
        _outgrown(run, tree, most_bytes)
    improve(run, turn=True)
    return True


def _outgrown(run: Run, tree: Tree, most_bytes: int) -> None:
    """End a run, unless it has ended, whose tree was left for its size."""
    run.monitor.finish(
        Status.STALLED,
        f"The tree outgrew options['certificate_bytes'] = {most_bytes} after {tree.expanded} nodes; raise it.",
    )


def _hopeless(run: Run, tree: PotentialTree) -> bool:
    """Whether the potentials leave so much open that branching takes long."""
    return run.upper - tree.lower > HOPELESS_ARCS * abs(run.upper) / run.problem.m


def _root(run: Run) -> bool:
    """Assignment, patching and local search; False if the problem has no answer."""
    run.allocate()
    code, run.lower, cost = kernels.solve_root(run.c, run.d, run.x, run.y, run.u, run.v, run.near, run.tour)
    common = run.monitor.common
    # Where branching follows at once, its tree proves more than its root.
    branches = code == 0 and common.method in ("auto", "exact") and cost - run.lower > common.tol * abs(cost)
    if _observed(common) or not branches:
        run.prove_root(ray=code == 1)
    if code == 1:
        run.monitor.finish(Status.INFEASIBLE)
        return False
    if cost < run.barrier and cost < run.upper:
        run.upper = cost
        run.offer(run.tour)
    return True


def _recursion(run: Run) -> None:
    """The subset recursion; one iteration."""
    problem, monitor = run.problem, run.monitor
    monitor.method = "dynamic-programming"
    if problem.m > RECURSION_NODES:
        raise InvalidProblemError(
            f"method='dynamic-programming' takes up to {RECURSION_NODES - problem.depot} items here (its work doubles with "
            f"each); got {problem.n}: use method='exact'"
        )
    monitor.running()
    if problem.n == 1:
        run.offer_order(np.zeros(1, dtype=np.int64))
    elif kernels.subset_recursion(run.c, run.tour) < math.inf:
        run.offer(run.tour)
    run.prove_small()
    monitor.checkpoint()
    monitor.finish(Status.CONVERGED if monitor.x is not None else Status.INFEASIBLE)


def _start_from(run: Run, x0: Any) -> None:
    """Offer the order of a previous result, or a permutation of the items, if the problem allows it."""
    problem = run.problem
    given = x0.order if isinstance(x0, RankingResult) else x0
    if given is None:
        return
    order = as_permutation(given, problem.n)
    if order is None:
        raise InvalidProblemError(f"x0 must be a RankingResult or a permutation of 0..{problem.n - 1}; got {given!r}")
    if not isinstance(run, LargeRun):
        run.read_costs()
    if wrong := problem.forbids(order):
        raise InvalidProblemError(f"x0 must be an allowed order; {wrong}")
    place = np.empty(problem.n, dtype=np.int64)
    place[run.perm] = np.arange(problem.n)
    tour = place[order]
    run.tour[:] = np.append(tour, problem.n) if problem.depot else tour
    run.upper = run.cost(run.tour)
    run.offer(run.tour)
