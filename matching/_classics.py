r"""The classical algorithms of online matching, each with the assumptions under which its ratio is proved.

They need less than :func:`matching.match_online`: no arrival law at all (RANKING, budgets), or the same law at each
time (suggested matchings). Their ratios compare with the best matching in hindsight, in the worst case over instances;
they print no certificate for the instance at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import maximum_flow

from solvers._core.arrays import FloatArray, IntArray, as_float_array, kind_of, to_host
from solvers._core.errors import InvalidProblemError
from solvers._core.jit import njit
from solvers._core.options import check_choice
from solvers._core.random import RNG, generator

__all__ = ["SuggestedMatching", "allocate_budgets", "match_ranking", "suggested_matching"]


def match_ranking(adjacency: Any, *, node_weights: Any = None, rng: RNG = None) -> IntArray:
    r"""Match arrivals in an order fixed by an adversary by RANKING, or its vertex-weighted form.

    Each node draws one :math:`u_i` uniform on [0, 1]; an arrival takes the free neighbour of largest
    :math:`w_i (1 - e^{u_i - 1})`, without weights simply of smallest :math:`u_i`.

    Parameters
    ----------
    adjacency : (m, n) array_like or scipy.sparse
        Row j holds a non-zero for each neighbour of the j-th arrival.
    node_weights : (n,) array_like, optional
        Value of matching each node, >= 0.
    rng : int, Generator, SeedSequence or None
        Seed of the u_i.

    Returns
    -------
    (m,) int64 array
        Node of each arrival, -1 where unmatched.

    Notes
    -----
    *Guarantee.* Expected value at least 1 - 1/e of the best matching in hindsight, for every order of arrivals; no
    algorithm has a better ratio. *Complexity.* O(edges).

    References
    ----------
    R. Karp, U. Vazirani, V. Vazirani, An optimal algorithm for on-line bipartite matching, STOC 1990.
    G. Aggarwal, G. Goel, C. Karande, A. Mehta, Online vertex-weighted bipartite matching and single-bid budgeted
    allocations, SODA 2011.

    Examples
    --------
    >>> from solvers.matching import match_ranking
    >>> sorted(match_ranking([[1, 1], [1, 1]], rng=0).tolist())
    [0, 1]
    """
    graph = _non_negative(adjacency, "adjacency")
    n = graph.shape[1]
    draws = generator(rng).random(n)
    weights = np.ones(n) if node_weights is None else _vector(node_weights, "node_weights", n)
    return _best_free(graph.indptr.astype(np.int64), graph.indices.astype(np.int64), weights * -np.expm1(draws - 1.0))


def allocate_budgets(
    bids: Any, budgets: Any, *, rule: Literal["msvv", "balance", "greedy"] = "msvv"
) -> tuple[IntArray, FloatArray]:
    r"""Give arrivals to bidders with budgets (AdWords), in an order fixed by an adversary.

    Parameters
    ----------
    bids : (m, n) array_like or scipy.sparse
        What each bidder pays for each arrival, >= 0; zero is no bid.
    budgets : (n,) array_like
        Positive. A bidder is charged its bid or what is left of its budget.
    rule : {"msvv", "balance", "greedy"}
        Largest bid times :math:`1 - e^{s - 1}` with s the spent fraction of the budget; largest unspent fraction among
        the bidders; largest charge.

    Returns
    -------
    winners : (m,) int64 array
        Bidder of each arrival, -1 where nobody with money left bids.
    spent : (n,) float64 array
        Total charged to each bidder; the revenue is its sum.

    Notes
    -----
    *Guarantee.* For bids small against budgets, revenue at least 1 - 1/e of the best in hindsight ("msvv"), the same
    for "balance" where all bids are equal, 1/2 for "greedy". *Complexity.* O(non-zero bids).

    References
    ----------
    A. Mehta, A. Saberi, U. Vazirani, V. Vazirani, AdWords and generalized online matching, J. ACM 54, 2007.
    B. Kalyanasundaram and K. Pruhs, An optimal deterministic algorithm for online b-matching, TCS 233, 2000.

    Examples
    --------
    >>> from solvers.matching import allocate_budgets
    >>> winners, spent = allocate_budgets([[1, 1], [1, 0]], [1, 1], rule="balance")
    >>> winners.tolist(), spent.tolist()
    ([0, -1], [1.0, 0.0])
    """
    check_choice("rule", rule, ("msvv", "balance", "greedy"))
    graph = _non_negative(bids, "bids")
    limits = _vector(budgets, "budgets", graph.shape[1])
    if limits.min() <= 0:
        raise InvalidProblemError(f"budgets must be positive; got {float(limits.min())!r}")
    code = ("msvv", "balance", "greedy").index(rule)
    return _spend(graph.indptr.astype(np.int64), graph.indices.astype(np.int64), graph.data, limits, code)


@dataclass(frozen=True)
class SuggestedMatching:
    """Two suggestions per type: the node for its first arrival and the one for its second (-1 where none).

    Attributes
    ----------
    first, second : (K,) int64
    n_nodes : int
    """

    first: IntArray
    second: IntArray
    n_nodes: int

    def run(self, types: Any) -> IntArray:
        """Match a sequence of arriving types; returns the node of each, -1 where the suggestion is none or taken."""
        taken = np.zeros(self.n_nodes, dtype=bool)
        seen = np.zeros(len(self.first), dtype=np.int64)
        answer = np.full(len(types), -1, dtype=np.int64)
        for j, k in enumerate(types):
            seen[k] += 1
            node = self.first[k] if seen[k] == 1 else self.second[k] if seen[k] == 2 else -1
            if node >= 0 and not taken[node]:
                taken[node] = True
                answer[j] = node
        return answer


def suggested_matching(adjacency: Any) -> SuggestedMatching:
    r"""Two suggested matchings for known i.i.d. arrivals, from a flow computed offline.

    Assumes unweighted matching of T arrivals, each of one of K = T types with equal probability (a type expected r
    times is written as r types). The flow of value as large as possible gives each type and each node at most two
    edges; its paths and cycles are coloured alternately, and the colours are the suggestions.

    Parameters
    ----------
    adjacency : (K, n) array_like or scipy.sparse
        Non-zero where the type may be matched to the node.

    Returns
    -------
    SuggestedMatching

    Notes
    -----
    *Guarantee.* With high probability at least 0.67 of the best matching in hindsight; greedy guarantees 1 - 1/e. On
    benign instances greedy rules are often better: what is not suggested is never matched. *Complexity.* One maximum
    flow.

    References
    ----------
    J. Feldman, A. Mehta, V. Mirrokni, S. Muthukrishnan, Online stochastic matching: beating 1 - 1/e, FOCS 2009.

    Examples
    --------
    >>> from solvers.matching import suggested_matching
    >>> plan = suggested_matching([[1, 0], [1, 1]])
    >>> plan.run([1, 1]).tolist() in ([0, 1], [1, 0])
    True
    """
    graph = _non_negative(adjacency, "adjacency")
    n_types, n = graph.shape
    types, nodes = graph.nonzero()
    source, sink = n_types + n, n_types + n + 1
    tails = np.concatenate([np.full(n_types, source), types, n_types + np.arange(n)])
    heads = np.concatenate([np.arange(n_types), n_types + nodes, np.full(n, sink)])
    capacity = np.concatenate([np.full(n_types, 2), np.ones(len(types)), np.full(n, 2)]).astype(np.int32)
    network = scipy.sparse.csr_array((capacity, (tails, heads)), shape=(sink + 1, sink + 1))
    flow = maximum_flow(network, source, sink).flow[:n_types, n_types:source].tocoo()
    chosen = flow.data > 0
    neighbours: list[list[int]] = [[] for _ in range(n_types + n)]
    for k, i in zip(flow.row[chosen].tolist(), flow.col[chosen].tolist(), strict=True):
        neighbours[k].append(n_types + i)
        neighbours[n_types + i].append(k)
    first, second = np.full(n_types, -1, dtype=np.int64), np.full(n_types, -1, dtype=np.int64)
    for walk, closed in _walks(neighbours):
        edges = len(walk) - (0 if closed else 1)
        # Both ends types: two first suggestions in front, so that every type on the path has one.
        twice = not closed and edges % 2 == 0 and walk[0] < n_types
        for e in range(edges):
            a, b = walk[e], walk[(e + 1) % len(walk)]
            k, i = (a, b) if a < n_types else (b, a)
            is_first = e % 2 == 0 if not twice else (e == 0 or e % 2 == 1)
            (first if is_first else second)[k] = i - n_types
    return SuggestedMatching(first, second, n)


def _walks(neighbours: list[list[int]]) -> list[tuple[list[int], bool]]:
    """Paths (from one end to the other) and cycles of a graph with degrees at most two."""
    seen = [False] * len(neighbours)
    walks = []
    ends = [v for v, near in enumerate(neighbours) if len(near) == 1]
    for begin in [*ends, *(v for v, near in enumerate(neighbours) if len(near) == 2)]:
        if seen[begin]:
            continue
        walk, here = [], begin
        while here >= 0:
            seen[here] = True
            walk.append(here)
            here = next((v for v in neighbours[here] if not seen[v]), -1)
        walks.append((walk, len(neighbours[begin]) == 2))
    return walks


def _non_negative(value: Any, name: str) -> scipy.sparse.csr_array:
    """An (m, n) matrix of finite non-negative numbers in CSR with sorted indices and without zeros."""
    if kind_of(value) == "sparse":
        if value.dtype.kind not in "bifu":
            raise InvalidProblemError(f"{name} must be real; got dtype {value.dtype}")
        matrix = scipy.sparse.csr_array(value, copy=True).astype(np.float64)
        matrix.sum_duplicates()
    else:
        matrix = scipy.sparse.csr_array(to_host(as_float_array(value, name, ndim=2, expected="an (m, n) array")))
    if not np.isfinite(matrix.data).all() or (matrix.nnz and matrix.data.min() < 0):
        raise InvalidProblemError(f"{name} must be finite and non-negative")
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix


def _vector(value: Any, name: str, length: int) -> FloatArray:
    vector: FloatArray = to_host(as_float_array(value, name, ndim=1, expected=f"a ({length},) array"))
    if len(vector) != length or vector.min() < 0:
        raise InvalidProblemError(f"{name} must be {length} non-negative numbers; got {vector!r}")
    return np.ascontiguousarray(vector)


@njit()
def _best_free(start: IntArray, node: IntArray, score: FloatArray) -> IntArray:
    taken = np.zeros(len(score), dtype=np.bool_)
    answer = np.full(len(start) - 1, -1, dtype=np.int64)
    for j in range(len(answer)):
        best = -1.0
        for e in range(start[j], start[j + 1]):
            if not taken[node[e]] and score[node[e]] > best:
                best = score[node[e]]
                answer[j] = node[e]
        if answer[j] >= 0:
            taken[answer[j]] = True
    return answer


@njit()
def _spend(
    start: IntArray, node: IntArray, bid: FloatArray, budget: FloatArray, rule: int
) -> tuple[IntArray, FloatArray]:
    spent = np.zeros(len(budget))
    winners = np.full(len(start) - 1, -1, dtype=np.int64)
    for j in range(len(winners)):
        best, charge = 0.0, 0.0
        for e in range(start[j], start[j + 1]):
            i = node[e]
            left = budget[i] - spent[i]
            if left <= 0.0:
                continue
            if rule == 0:
                score = bid[e] * -np.expm1(-left / budget[i])
            elif rule == 1:
                score = left / budget[i]
            else:
                score = min(bid[e], left)
            if score > best:
                best, charge = score, min(bid[e], left)
                winners[j] = i
        if winners[j] >= 0:
            i = winners[j]
            # A budget is used up exactly, not up to rounding.
            spent[i] = budget[i] if charge >= budget[i] - spent[i] else spent[i] + charge
    return winners, spent


SuggestedMatching.__module__ = "matching"
