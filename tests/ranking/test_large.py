"""Thousands of items: candidate arcs and factors give the answers and the proofs of the whole matrix."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

import ranking._large
import ranking._problem
import ranking._rank_tsp
import ranking._verify
from ranking._large_bounds import streamed_bound
from ranking._problem import path_problem
from ranking._verify import plain_costs
from solvers import InvalidProblemError, Status, rank_tsp, verify


@pytest.fixture
def all_problems_are_large(monkeypatch):
    """Send every problem of more than one item through the search on candidates."""
    for module in (ranking._problem, ranking._rank_tsp, ranking._verify):
        monkeypatch.setattr(module, "LARGE_ITEMS", 1)


def dense(U, V):
    """Scores as they are defined: products summed coordinate by coordinate."""
    total = np.zeros((len(U), len(V)))
    for u, v in zip(U.T, V.T, strict=True):
        total += u[:, None] * v
    return total


def factors(rng, n, d, kind):
    U, V = rng.standard_normal((n, d)), rng.standard_normal((n, d))
    if kind == "symmetric":
        return U, U
    if kind == "ties":
        return rng.integers(-1, 2, (n, d)).astype(float), rng.integers(-1, 2, (n, d)).astype(float)
    if kind == "zero":
        return 0 * U, V
    if kind == "uneven":
        return U * 10.0 ** rng.integers(-6, 7, n)[:, None], V * 10.0 ** rng.integers(-6, 7, n)[:, None]
    if kind == "cancelling, far from one":
        U, V = np.hstack([1e8 * U, -1e8 * U, rng.standard_normal((n, 1))]), np.hstack([V, V, np.ones((n, 1))])
        return U * 2.0**-580, V * 2.0**580
    return U, V


@pytest.mark.parametrize("kind", ["normal", "symmetric", "ties", "zero", "uneven", "cancelling, far from one"])
def test_the_search_on_candidates_never_contradicts_the_recursion(kind, all_problems_are_large):
    rng = np.random.default_rng(1)
    for _ in range(60):
        n, d = int(rng.integers(2, 9)), int(rng.integers(1, 12))
        U, V = factors(rng, n, d, kind)
        closed, maximize = bool(rng.integers(2)), bool(rng.integers(2))
        start, end = None, None
        if not closed and n > 2 and rng.random() < 0.5:
            start, end = (int(k) for k in rng.choice(n, 2, replace=False))
        problem = {"start": start, "end": end, "closed": closed, "maximize": maximize}
        matrix = dense(U, V)
        best = rank_tsp(matrix, method="dynamic-programming", rng=0, **problem).fun
        sign = 1.0 if maximize else -1.0
        for scores in ((U, V), matrix):
            result = rank_tsp(scores, rng=0, **problem)
            checked = verify(result, scores, **problem)
            assert checked, checked.message
            assert sign * result.bound >= sign * best - 1e-15 * abs(best)
            assert sign * result.fun <= sign * best + 1e-15 * result.scale


def test_streamed_prices_prove_what_the_whole_matrix_proves():
    rng = np.random.default_rng(2)
    for scale in (1e-8, 1.0, 1e8):
        for closed in (False, True):
            scores = scale * rng.standard_normal((90, 90))
            problem = path_problem(scores, None if closed else 3, None, closed, True)
            prices = scale * rng.standard_normal(problem.m)
            c = plain_costs(problem)
            exact = math.fsum((c - prices).min(axis=1).tolist()) + math.fsum(prices.tolist())
            bound = streamed_bound(problem, prices, 2.0)
            assert bound <= exact
            assert exact - bound <= 1e-12 * scale * problem.m
            assert streamed_bound(problem, prices, 4.0) <= bound


def test_the_bound_of_factors_does_not_depend_on_how_a_power_of_two_is_shared(all_problems_are_large):
    rng = np.random.default_rng(12)
    U, V = factors(rng, 6, 3, "normal")
    prices = rng.standard_normal(7)
    bounds = [
        streamed_bound(path_problem((U * 2.0**shift, V * 2.0**-shift), None, None, False, True), prices, 4.0)
        for shift in (0, 600, -600)
    ]
    assert bounds[0] == bounds[1] == bounds[2]
    assert bounds[0] > -np.inf


def test_factors_are_their_matrix():
    rng = np.random.default_rng(3)
    U, V = rng.standard_normal((40, 5)), rng.standard_normal((40, 5))
    small, whole = rank_tsp((U, V), rng=0), rank_tsp(dense(U, V), rng=0)
    np.testing.assert_array_equal(small.order, whole.order)
    assert small.fun == whole.fun
    assert verify(small, (U, V))
    assert verify(small, dense(U, V))


def test_thousands_of_items_have_a_small_certified_gap():
    rng = np.random.default_rng(4)
    X = rng.standard_normal((2500, 6))
    scores = (X @ rng.standard_normal((6, 6)), X)
    result = rank_tsp(scores, rng=0)
    assert verify(result, scores)
    assert result.gap < 5e-4
    moved = dataclasses.replace(result.certificate, prices=result.certificate.prices + np.linspace(0, 1, 2501))
    assert not verify(type(result)(**{**result, "certificate": moved}), scores)
    assert not verify(type(result)(**{**result, "bound": result.bound - 1e-3}), scores)


def test_uniform_scores_of_thousands_of_items():
    scores = np.random.default_rng(5).random((2100, 2100))
    result = rank_tsp(scores, rng=0, tol=1e-4)
    assert result.status is Status.OPTIMAL
    assert verify(result, scores)
    ended = rank_tsp(scores, rng=0, start=7, end=2, tol=1e-3)
    assert (ended.order[0], ended.order[-1]) == (7, 2)
    assert verify(ended, scores, start=7, end=2)


def test_equal_scores_are_ordered_by_the_generator():
    scores = (np.zeros((2200, 1)), np.zeros((2200, 1)))
    orders = [rank_tsp(scores, rng=seed).order for seed in (0, 0, 1)]
    np.testing.assert_array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])
    assert abs(np.corrcoef(orders[0], np.arange(2200))[0, 1]) < 0.2


def test_limits_return_an_allowed_path():
    rng = np.random.default_rng(6)
    scores = (rng.standard_normal((3000, 4)), rng.standard_normal((3000, 4)))
    stopped = rank_tsp(scores, rng=0, max_iter=1)
    assert stopped.status is Status.MAX_ITER
    assert verify(stopped, scores)
    again = rank_tsp(scores, x0=stopped, max_iter=1, rng=1)
    assert again.fun >= stopped.fun


@pytest.mark.parametrize("problem", [{}, {"closed": True, "maximize": False}, {"start": 3, "end": 7}])
def test_time_limits_return_a_path_and_a_bound_from_the_first_moment(problem):
    rng = np.random.default_rng(8)
    X = rng.standard_normal((2100, 6))
    factors = (X @ rng.standard_normal((6, 6)), X)
    for scores in (factors, factors[0] @ factors[1].T):
        for limit in (1e-9, 0.05):
            result = rank_tsp(scores, rng=0, time_limit=limit, **problem)
            assert verify(result, scores, **problem)
            assert result.gap < (1.2 if scores is factors else np.inf)
    done = rank_tsp(factors, rng=0, time_limit=60.0, **problem)
    assert done.gap < 1e-3
    assert done.status in (Status.OPTIMAL, Status.CONVERGED)


def test_the_callback_sees_a_bound_and_may_stop():
    rng = np.random.default_rng(9)
    scores = (rng.standard_normal((2500, 4)), rng.standard_normal((2500, 4)))
    seen = []

    def stop(intermediate_result):
        seen.append(intermediate_result.gap)
        return True

    result = rank_tsp(scores, rng=0, callback=stop)
    assert result.status is Status.CALLBACK_STOP
    assert len(seen) == 1
    assert seen[0] < np.inf
    assert verify(result, scores)
    maps = dataclasses.replace(result.certificate, left=0.99 * result.certificate.left)
    assert not verify(type(result)(**{**result, "certificate": maps}), scores)
    for wrong in ({"left": np.eye(3)}, {"right": np.full((4, 4), np.nan)}, {"left_centre": np.full(4, 1e100)}):
        forged = dataclasses.replace(result.certificate, **wrong)
        assert not verify(type(result)(**{**result, "certificate": forged}), scores)


def test_factors_may_have_any_scale_and_any_kind_of_number():
    rng = np.random.default_rng(10)
    U, V = rng.standard_normal((2, 2100, 3))
    fun = rank_tsp((U, V), rng=0).fun
    for left, right in ((2.0**500, 2.0**490), (2.0**-500, 2.0**-500), (2.0**-660, 2.0**660)):
        scores = (left * U, right * V)
        result = rank_tsp(scores, rng=0)
        assert result.fun == fun * (left * right)
        assert result.gap < 1e-4
        assert verify(result, scores)
    whole = rng.integers(-5, 6, (2, 2100, 3))
    result = rank_tsp((whole[0], whole[1].astype(np.float32)), rng=0)
    assert result.status is Status.OPTIMAL
    assert result.fun == np.sum(whole[0][result.order[:-1]] * whole[1][result.order[1:]])
    assert verify(result, tuple(whole))


def test_a_matrix_of_low_rank_is_solved_as_well_as_its_factors():
    rng = np.random.default_rng(0)
    U, V = rng.standard_normal((2, 2100, 4))
    assert rank_tsp(U @ V.T, rng=0, method="greedy").gap < 1e-4


@pytest.mark.parametrize("unit", [1.0, -1e150, 1e-150])
def test_a_matrix_near_one_of_low_rank_starts_from_its_moments(unit, monkeypatch):
    """Two coordinates, noise, a diagonal that is no score: from column minima six passes leave half of the value open."""
    monkeypatch.setattr(ranking._large, "PASSES", 6)
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((2001, 2)) @ rng.standard_normal((2, 2001)) + 1e-4 * rng.standard_normal((2001, 2001))
    np.fill_diagonal(scores, 1e3)
    result = rank_tsp(unit * scores, method="greedy", rng=0)
    assert result.gap < 1e-5
    assert verify(result, unit * scores).ok


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("n", [1, 2])
def test_factors_of_one_and_two_items(n, closed):
    U, V = np.array([[1.0, 2.0], [3.0, -1.0]])[:n], np.array([[0.5, 1.0], [2.0, 1.0]])[:n]
    result = rank_tsp((U, V), closed=closed, rng=0)
    scores = dense(U, V)
    assert result.fun == (0.0 if n == 1 else scores[0, 1] + scores[1, 0] if closed else max(scores[0, 1], scores[1, 0]))
    assert result.status is Status.OPTIMAL
    assert verify(result, (U, V), closed=closed)


@pytest.mark.parametrize(
    ("scores", "problem", "words"),
    [
        ((np.zeros((3, 2)), np.zeros((4, 2))), {}, "one shape"),
        ((np.zeros((3, 2)), np.full((3, 2), np.nan)), {}, "V must be"),
        (
            (np.where(np.arange(5000).reshape(2500, 2) == 7, np.nan, 0.0), np.zeros((2500, 2))),
            {},
            "U must be .* 1 entries",
        ),
        ((np.zeros((2500, 2)), np.full((2500, 2), np.inf)), {}, "V must be .* 5000 entries"),
        ((np.zeros((2500, 2)), np.zeros((2500, 3))), {}, "one shape"),
        ((np.zeros((2500, 0)), np.zeros((2500, 0))), {}, "U must be .* empty"),
        ((np.zeros((0, 2)), np.zeros((0, 2))), {}, "U must be .* empty"),
        ((np.zeros((2500, 2), complex), np.zeros((2500, 2))), {}, "U must be .* complex"),
        ((np.zeros((2500, 2)), np.zeros((2500, 2))), {"start": 3, "end": 3}, "start and end must differ"),
        ((np.full((3, 2), 1e200), np.full((3, 2), 1e200)), {}, "inner products"),
        ((np.zeros((2500, 1)), np.zeros((2500, 1))), {"method": "exact"}, "factors of up to 2000"),
        (np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (10**6, 10**6), (0, 0)), {}, "GiB"),
        ((np.lib.stride_tricks.as_strided(np.zeros(1), (10**8, 1), (0, 8)),) * 2, {}, "GiB"),
    ],
)
def test_wrong_factors_and_too_large_problems_are_named(scores, problem, words):
    with pytest.raises(InvalidProblemError, match=words):
        rank_tsp(scores, **problem)
