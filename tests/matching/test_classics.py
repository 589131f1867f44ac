"""The classical algorithms: their rules, and their ratios on the instances that are hard for them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse
from scipy.optimize import linear_sum_assignment

from matching import allocate_budgets, match_ranking, suggested_matching
from solvers import InvalidProblemError

RATIO = 1 - 1 / math.e


def is_matching(answer, adjacency):
    matched = answer[answer >= 0]
    return len(set(matched)) == len(matched) and all(adjacency[j, i] > 0 for j, i in enumerate(answer) if i >= 0)


def test_ranking_takes_the_free_neighbour_of_least_rank():
    rng = np.random.default_rng(61)
    for seed in range(200):
        adjacency = (rng.random((6, 5)) < 0.5).astype(float)
        answer = match_ranking(adjacency, rng=seed)
        draws = np.random.default_rng(seed).random(5)
        free = set(range(5))
        for j in range(6):
            options = [i for i in free if adjacency[j, i]]
            expected = min(options, key=lambda i: draws[i]) if options else -1
            assert answer[j] == expected
            free.discard(expected)
        assert np.array_equal(answer, match_ranking(scipy.sparse.csr_array(adjacency), rng=seed))


def test_ranking_keeps_its_ratio_where_greedy_cannot():
    n = 40
    triangle = np.triu(np.ones((n, n)))
    sizes = [(match_ranking(triangle, rng=seed) >= 0).sum() for seed in range(400)]
    assert np.mean(sizes) >= RATIO * n
    assert np.mean(sizes) <= (RATIO + 0.06) * n


def test_weighted_ranking_keeps_its_ratio():
    rng = np.random.default_rng(62)
    for _ in range(20):
        adjacency = (rng.random((6, 6)) < 0.4).astype(float)
        weights = rng.lognormal(size=6) * 3
        table = adjacency * weights
        rows, columns = linear_sum_assignment(table, maximize=True)
        best = table[rows, columns].sum()
        runs = [match_ranking(adjacency, node_weights=weights, rng=rng) for _ in range(400)]
        assert all(is_matching(run, adjacency) for run in runs)
        values = np.array([weights[run[run >= 0]].sum() for run in runs])
        assert values.mean() >= RATIO * best - 4 * values.std() / 20


@pytest.mark.parametrize("rule", ["msvv", "balance"])
def test_budget_rules_keep_their_ratio_where_greedy_halves(rule):
    # Arrivals in n waves; wave k interests bidders k, ..., n - 1: the best in hindsight spends everything.
    n, budget = 12, 200
    bids = np.repeat(np.triu(np.ones((n, n))), budget, axis=0)
    winners, spent = allocate_budgets(bids, np.full(n, budget), rule=rule)
    assert spent.sum() >= (RATIO - 0.01) * n * budget
    assert (spent <= budget).all()
    assert np.array_equal(np.bincount(winners[winners >= 0], minlength=n), spent)


def test_greedy_budgets_reach_half_and_no_more_on_their_worst_instance():
    bids = np.vstack([np.tile([1.0, 1.01], (100, 1)), np.tile([0.0, 1.0], (100, 1))])
    greedy = allocate_budgets(bids, [100.0, 101.0], rule="greedy")[1].sum()
    msvv = allocate_budgets(bids, [100.0, 101.0], rule="msvv")[1].sum()
    assert 0.5 * 200 <= greedy <= 0.51 * 200
    assert msvv >= 0.72 * 200


def test_a_single_bid_above_the_budget_is_charged_the_budget():
    winners, spent = allocate_budgets([[5.0, 0.0], [5.0, 1.0]], [3.0, 1.0], rule="greedy")
    assert winners.tolist() == [0, 1]
    assert spent.tolist() == [3.0, 1.0]


def test_suggestions_are_two_edges_a_type_and_use_nodes_twice_at_most():
    rng = np.random.default_rng(63)
    for _ in range(100):
        n_types, n = rng.integers(1, 9, 2)
        adjacency = (rng.random((n_types, n)) < 0.4).astype(float)
        plan = suggested_matching(adjacency)
        both = np.concatenate([plan.first, plan.second])
        assert np.bincount(both[both >= 0], minlength=n).max(initial=0) <= 2
        assert ((plan.second < 0) | (plan.first >= 0)).all()
        for suggestion in (plan.first, plan.second):
            assert all(adjacency[k, i] for k, i in enumerate(suggestion) if i >= 0)
        assert all(a != b for a, b in zip(plan.first, plan.second, strict=True) if b >= 0)
        assert np.bincount(plan.second[plan.second >= 0], minlength=n).max(initial=0) <= 1


def test_suggested_matching_beats_its_ratio():
    rng = np.random.default_rng(64)
    n = 150
    adjacency = np.zeros((n, n))
    for row in adjacency:
        row[rng.choice(n, 3, replace=False)] = 1.0
    plan = suggested_matching(adjacency)
    achieved = best = 0
    for _ in range(40):
        types = rng.integers(0, n, n)
        answer = plan.run(types)
        assert is_matching(answer, adjacency[types])
        achieved += (answer >= 0).sum()
        rows, columns = linear_sum_assignment(adjacency[types], maximize=True)
        best += adjacency[types][rows, columns].sum()
    assert achieved >= 0.67 * best


@pytest.mark.parametrize(
    "call",
    [
        lambda: match_ranking([[1.0, np.nan]]),
        lambda: match_ranking([[1.0, -1.0]]),
        lambda: match_ranking([[1.0, 1.0]], node_weights=[1.0]),
        lambda: match_ranking(scipy.sparse.csr_array([[1j]])),
        lambda: allocate_budgets([[1.0]], [0.0]),
        lambda: allocate_budgets([[1.0]], [1.0, 1.0]),
        lambda: allocate_budgets([[np.inf]], [1.0]),
        lambda: suggested_matching([1.0]),
    ],
)
def test_bad_data_are_refused(call):
    with pytest.raises(InvalidProblemError):
        call()


def test_unknown_rules_are_refused():
    with pytest.raises(ValueError, match="msvv"):
        allocate_budgets([[1.0]], [1.0], rule="msv")
