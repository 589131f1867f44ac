"""Exact values of small instances by dynamic programming and enumeration: slow, simple, independent of the solver."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.optimize import linear_sum_assignment

from matching._instance import BayesianMatching
from matching._kernels_policy import coin_menu, posted_menu, proved_future
from matching._result import MatchingResult, PolicyTables
from solvers._core.arrays import FloatArray, IntArray
from solvers._core.errors import InvalidProblemError
from solvers._core.jit import njit

__all__ = ["exact_policy_value", "expected_offline_optimum", "optimal_online_value", "price_policy_value"]

MOST_UNITS_OPTIMUM = 18
MOST_UNITS_PRICES = 16
MOST_UNITS_POLICY = 9
MOST_SCENARIOS = 300_000
GONE, POOL, FREE = 0, 1, 2
# Prices of the units, whether the discards happen if nothing is sold, and if each unit is.
Menu = tuple[FloatArray, bool, FloatArray]


def optimal_online_value(instance: BayesianMatching) -> float:
    """Value of the best online policy, by dynamic programming over sets of free units; at most 18 units.

    Examples
    --------
    >>> from solvers.matching import BayesianMatching, optimal_online_value
    >>> optimal_online_value(BayesianMatching([0.5, 0.5, 0.5], [[1.0], [2.0], [4.0]]))
    2.0
    """
    _few_units(instance, MOST_UNITS_OPTIMUM, "optimal_online_value")
    edges, _ = instance.units
    p = instance.probabilities.ravel()
    zero = np.zeros(len(edges))
    return _subset_value(edges.start, edges.node, edges.weight, zero, p, instance.n_types, instance.n_units, True)


def price_policy_value(instance: BayesianMatching, prices: FloatArray) -> float:
    """Exact value of taking the free unit of largest ``weight - price`` where positive; prices by edge of the units."""
    _few_units(instance, MOST_UNITS_PRICES, "the exact value of a price policy")
    edges, _ = instance.units
    p = instance.probabilities.ravel()
    return _subset_value(edges.start, edges.node, edges.weight, prices, p, instance.n_types, instance.n_units, False)


def expected_offline_optimum(instance: BayesianMatching) -> float:
    """Expected maximum-weight matching of the arrivals, by enumeration of all sequences; for a few arrivals only."""
    outcomes = [[-1, *np.flatnonzero(row > 0)] for row in instance.probabilities]
    scenarios = float(np.prod([float(len(options)) for options in outcomes]))
    if scenarios > MOST_SCENARIOS:
        raise InvalidProblemError(
            f"expected_offline_optimum enumerates all sequences of arrivals and there are {scenarios:.3g}; use simulate"
        )
    dense = np.zeros((instance.n_times, instance.n_types, instance.n_units))
    edges, _ = instance.units
    rows = np.repeat(np.arange(instance.probabilities.size), np.diff(edges.start))
    dense.reshape(-1, instance.n_units)[rows, edges.node] = edges.weight
    nobody = 1.0 - instance.probabilities.sum(axis=1)
    total = 0.0
    for kinds in itertools.product(*outcomes):
        chance = np.prod([nobody[t] if k < 0 else instance.probabilities[t, k] for t, k in enumerate(kinds)])
        came = [t for t, k in enumerate(kinds) if k >= 0]
        if chance <= 0 or not came:
            continue
        table = np.stack([dense[t, kinds[t]] for t in came])
        total += chance * table[linear_sum_assignment(table, maximize=True)].sum()
    return float(total)


def exact_policy_value(instance: BayesianMatching, result: MatchingResult) -> float:
    """Expected value of a result's policy, over all arrivals and coins.

    At most 16 units for "greedy" and "dual-price", 9 for policies with coins.
    """
    if result.instance != instance:
        raise InvalidProblemError("result must come from this instance")
    if result.method in ("greedy", "dual-price"):
        return price_policy_value(instance, _edge_prices(PolicyTables.of(result)))
    return _forward(result)[0]


def free_probabilities(result: MatchingResult) -> tuple[FloatArray, FloatArray]:
    """Law over the sets of free units before each time, (T + 1, 2^m) by bit mask, and the marginals, (T + 1, m)."""
    _, laws = _forward(result)
    masks = (np.arange(laws.shape[1])[:, None] >> np.arange(result.instance.n_units)) & 1
    return laws, laws @ masks


def _edge_prices(tables: PolicyTables) -> FloatArray:
    _, behind = tables.instance.units
    return np.array(tables.bid_prices[behind])


def _few_units(instance: BayesianMatching, most: int, who: str) -> None:
    if instance.n_units > most:
        raise InvalidProblemError(f"{who} takes at most {most} units of capacity; got {instance.n_units}")


@njit()
def _subset_value(
    start: IntArray,
    node: IntArray,
    weight: FloatArray,
    price: FloatArray,
    p: FloatArray,
    n_types: int,
    n_units: int,
    optimal: bool,
) -> float:
    """Backward recursion over sets; the best decision, or the one with the largest ``weight - price`` above 0."""
    value = np.zeros(2**n_units)
    for t in range(len(p) // n_types - 1, -1, -1):
        nobody = 1.0
        for row in range(t * n_types, (t + 1) * n_types):
            nobody -= p[row]
        # Positive terms only: a price policy may give up much for little.
        fresh = max(0.0, nobody) * value
        for mask in range(2**n_units):
            for row in range(t * n_types, (t + 1) * n_types):
                taken, best = value[mask], 0.0
                for e in range(start[row], start[row + 1]):
                    if not (mask >> node[e]) & 1:
                        continue
                    after = weight[e] + value[mask & ~(1 << node[e])]
                    if optimal:
                        taken = max(taken, after)
                    elif weight[e] - price[e] > best:
                        best = weight[e] - price[e]
                        taken = after
                fresh[mask] += p[row] * taken
        value = fresh
    return float(value[-1])


def _forward(result: MatchingResult) -> tuple[float, FloatArray]:
    """Expected value and law of the free sets, following every state (free, pool, gone)^m forward in time."""
    instance, tables = result.instance, PolicyTables.of(result)
    _few_units(instance, MOST_UNITS_POLICY, "exact_policy_value")
    edges, _ = instance.units
    rates, m = result.certificate.rates, instance.n_units
    law: dict[tuple[int, ...], float] = {(FREE,) * m: 1.0}
    laws = np.zeros((instance.n_times + 1, 2**m))
    laws[0, -1] = 1.0
    value = 0.0
    for t in range(instance.n_times):
        after: dict[tuple[int, ...], float] = {}
        p = instance.probabilities[t]
        rows = [np.arange(edges.start[r], edges.start[r + 1]) for r in range(t * len(p), (t + 1) * len(p))]
        arrivals = [(-1, 1.0 - float(p.sum())), *((k, float(q)) for k, q in enumerate(p))]
        for state, chance in law.items():
            match, coin = _rules(state, rows, edges.node, rates, p, result.method)
            unsure = [i for i in range(m) if 0.0 < coin[i] < 1.0]
            always = [i for i in range(m) if coin[i] >= 1.0]
            for pattern in itertools.product((False, True), repeat=len(unsure)):
                fallen = [*always, *itertools.compress(unsure, pattern)]
                odds = chance * float(
                    np.prod([coin[i] if d else 1 - coin[i] for i, d in zip(unsure, pattern, strict=True)])
                )
                menu = _menu(tables, t, state, fallen) if result.method == "rollout" else None
                for k, q in arrivals:
                    if q <= 0 or odds <= 0:
                        continue
                    row = rows[k] if k >= 0 else rows[0][:0]
                    if menu is None:
                        options = match[k] if k >= 0 else [(-1, 1.0)]
                        drops = fallen
                    else:
                        chosen, drops = _from_menu(menu, state, row, edges.node, edges.weight, fallen)
                        options = [(chosen, 1.0)]
                    for chosen, share in options:
                        then = list(state)
                        for i in drops:
                            then[i] = POOL if i != chosen else then[i]
                        taken = chosen
                        if taken < 0 and result.salvage:
                            taken = next((int(edges.node[e]) for e in row if then[edges.node[e]] == POOL), -1)
                        if taken >= 0:
                            then[taken] = GONE
                            value += odds * q * share * float(edges.weight[row[edges.node[row] == taken][0]])
                        key = tuple(then)
                        after[key] = after.get(key, 0.0) + odds * q * share
        law = after
        for state, chance in law.items():
            laws[t + 1, sum(1 << i for i in range(m) if state[i] == FREE)] += chance
    return value, laws


def _rules(
    state: tuple[int, ...], rows: list[IntArray], node: IntArray, rates: FloatArray, p: FloatArray, method: str
) -> tuple[list[list[tuple[int, float]]], FloatArray]:
    """Law of the match of each type (unit or -1, probability) and the discard probability of each unit."""
    matched, leaves = np.zeros(len(state)), np.zeros(len(state))
    match = []
    for row, q in zip(rows, p, strict=True):
        options, below, total = [], 0.0, 0.0
        for e in row:
            i = int(node[e])
            if state[i] != FREE or rates[e] == 0.0 or q == 0.0:
                continue
            total = total + rates[e]
            upto = 1 - (1 - below) * (1 - rates[e]) if method == "independent" else min(1.0, total)
            options.append((i, float(upto - below)))
            matched[i] += q * (upto - below)
            leaves[i] += q * rates[e]
            below = upto
        match.append([*options, (-1, float(1 - below))])
    top_up = leaves - matched
    certain = matched >= 1
    coin = np.where(certain, 0.0, np.clip(top_up / np.where(certain, 1.0, 1 - matched), 0.0, 1.0))
    coin[coin < 1e-15] = 0.0
    return match, coin


def _menu(tables: PolicyTables, t: int, state: tuple[int, ...], fallen: list[int]) -> Menu:
    marks = np.array(state, dtype=np.int64)
    start, node, weight, price, r_start, r_node, r_weight, rate, _, _, p, n_types, grid, future = tables.arrays
    edges, proposals = (start, node, weight, price), (r_start, r_node, r_weight, rate, p, n_types, grid)
    level, _ = proved_future(r_start, r_node, r_weight, p, rate, n_types, grid, future, t, marks)
    blended, ask, whole, sold = posted_menu(t, level, tables.blend, marks, *edges, *proposals, future)
    if blended:
        return ask, False, np.zeros(len(marks))
    kept = (marks == FREE).astype(np.float64)
    kept[fallen] = 0.0
    ask, _, _, drop_all, dropped = coin_menu(t, whole, sold, marks, kept, *proposals)
    return ask, drop_all, dropped


def _from_menu(
    menu: Menu, state: tuple[int, ...], row: IntArray, node: IntArray, weight: FloatArray, fallen: list[int]
) -> tuple[int, list[int]]:
    ask, drop_all, dropped = menu
    best, chosen = 0.0, -1
    for e in row:
        i = int(node[e])
        if state[i] == FREE and weight[e] - ask[i] > best:
            best, chosen = float(weight[e] - ask[i]), i
    drop = drop_all if chosen < 0 else bool(dropped[chosen])
    return chosen, fallen if drop else []
