"""Batches: the same answers as one by one, whatever the threads, the padding and the neighbours."""

from __future__ import annotations

import dataclasses

import numba
import numpy as np
import pytest

import solvers
from solvers import InvalidProblemError, Status, rank_tsp, rank_tsp_batch, verify


def groups(count=60, n=6, seed=0, forbidden=0.2):
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((count, n, n))
    scores[rng.random(scores.shape) < forbidden] = -np.inf
    return scores, rng.integers(1, n + 1, count)


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("maximize", [False, True])
def test_groups_agree_with_single_problems_and_verify(closed, maximize):
    scores, lengths = groups()
    scores = scores if maximize else -scores
    batch = rank_tsp_batch(scores, lengths, closed=closed, maximize=maximize, rng=0)
    assert verify(batch, scores, lengths, closed=closed, maximize=maximize)
    for g, n in enumerate(lengths):
        group, alone = batch[g], rank_tsp(scores[g, :n, :n], closed=closed, maximize=maximize, rng=0)
        assert verify(group, scores[g, :n, :n], closed=closed, maximize=maximize)
        assert group.status is alone.status
        assert group.fun == alone.fun or abs(group.fun - alone.fun) <= 1e-6 * max(abs(alone.fun), alone.scale * 1e-6)
    assert batch.success == bool(np.all(batch.status <= Status.CONVERGED))


@pytest.mark.parametrize("ends", [{}, {"start": 1}, {"end": 0}, {"start": 0, "end": 1}, {"closed": True}])
def test_groups_that_share_a_recursion_have_the_bounds_that_it_proves_alone(ends):
    rng = np.random.default_rng(5)
    scores = rng.integers(-3, 4, (150, 10, 10)) * rng.choice([1.0, 0.1], (150, 1, 1))
    scores[rng.random(scores.shape) < 0.3] = -np.inf
    lengths = rng.integers(2, 11, 150)
    batch = rank_tsp_batch(scores, lengths, rng=0, **ends)
    assert verify(batch, scores, lengths, **ends)
    assert (batch.status == Status.INFEASIBLE).any()
    for g, n in enumerate(lengths):
        alone = rank_tsp(scores[g, :n, :n], method="dynamic-programming", rng=0, **ends)
        assert batch.bound[g] == alone.bound
        assert batch.fun[g] == pytest.approx(alone.fun, rel=1e-14)


def test_equal_orders_of_small_groups_are_drawn_by_rng_and_not_by_the_order_of_the_items():
    firsts = rank_tsp_batch(np.zeros((3000, 4, 4)), rng=0).order[:, 0]
    assert np.bincount(firsts).min() > 650
    before = rank_tsp_batch(np.zeros((3000, 5, 5)), closed=True, start=0, rng=0).order[:, 1]
    assert np.bincount(before)[1:].min() > 650


def test_the_first_bad_group_is_named_whatever_the_sizes():
    scores = np.random.default_rng(0).random((30, 12, 12))
    scores[3, 0, 1] = scores[20, 0, 1] = np.nan
    for sizes in ((12, 4), (4, 12)):
        with pytest.raises(InvalidProblemError, match=r"scores\[3\]"):
            rank_tsp_batch(scores, np.repeat(sizes, 15))


def test_the_number_of_threads_changes_nothing():
    scores, lengths = groups(count=200)
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = rank_tsp_batch(scores, lengths, rng=3)
    finally:
        numba.set_num_threads(threads)
    many = rank_tsp_batch(scores, lengths, rng=3)
    np.testing.assert_array_equal(one.order, many.order)
    np.testing.assert_array_equal(one.bound, many.bound)


def test_hard_groups_are_solved_one_by_one():
    rng = np.random.default_rng(1)
    points = rng.random((4, 16, 2))
    scores = -np.hypot(*np.moveaxis(points[:, :, None] - points[:, None], -1, 0))
    batch = rank_tsp_batch(scores, rng=0)
    assert verify(batch, scores)
    assert batch.gap.max() < 0.02


def test_padding_is_never_read_and_lists_know_their_sizes():
    scores, lengths = groups(forbidden=0.0)
    padded = scores.copy()
    for g, n in enumerate(lengths):
        padded[g, n:] = padded[g, :, n:] = np.nan
    batch = rank_tsp_batch(padded, lengths, rng=0)
    listed = rank_tsp_batch([scores[g, :n, :n] for g, n in enumerate(lengths)], rng=0)
    np.testing.assert_array_equal(batch.order, listed.order)
    assert all(batch.rank[g, batch.order[g, k]] == k for g, n in enumerate(lengths) for k in range(n))


def test_limits_leave_groups_open_and_say_so():
    scores = np.random.default_rng(0).random((50, 20, 20))
    batch = rank_tsp_batch(scores, time_limit=1e-9, rng=0)
    assert not batch.success
    assert (batch.status == Status.TIME_LIMIT).all()
    assert np.isinf(batch.bound).all()
    assert verify(batch, scores)


def test_tampered_batches_are_refused():
    scores = np.random.default_rng(0).random((20, 12, 12))
    batch = rank_tsp_batch(scores, rng=0)
    assert verify(batch, scores)
    better = type(batch)(**{**batch, "bound": batch.bound - 1e-3 * (np.arange(20) == 7)})
    assert "group 7" in verify(better, scores).message
    prices = batch.certificate.prices + np.linspace(0, 1, 13)
    assert not verify(
        type(batch)(**{**batch, "certificate": dataclasses.replace(batch.certificate, prices=prices)}), scores
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((np.zeros((2, 3, 4)),), "square"),
        ((np.full((2, 3, 3), np.nan),), r"scores\[0\].*NaN"),
        (([],), "at least one"),
        (([np.zeros((2, 2))], [2]), "lengths must be None"),
        ((np.zeros((2, 3, 3)), [1, 4]), "from 1 to 3"),
        ((np.zeros((2, 3, 3)), [1.0, 2.0]), "integers"),
    ],
)
def test_wrong_input_is_named(arguments, words):
    with pytest.raises(InvalidProblemError, match=words):
        rank_tsp_batch(*arguments)


def test_an_optimal_group_has_a_gap_within_the_tolerance():
    rng = np.random.default_rng(1)
    points = rng.random((4, 16, 2))
    scores = -np.hypot(*np.moveaxis(points[:, :, None] - points[:, None], -1, 0))
    batch = rank_tsp_batch(scores, rng=0, tol=1e-2)
    assert verify(batch, scores)
    claimed = type(batch)(**{**batch, "tol": 0.0, "status": np.zeros(4, np.int64), "success": True})
    assert not verify(claimed, scores)
    assert not verify(type(batch)(**{**batch, "tol": None}), scores)


def test_groups_over_many_orders_of_magnitude_are_as_good_as_alone():
    rng = np.random.default_rng(3)
    scores = rng.random((40, 9, 9)) * 10.0 ** rng.uniform(-300, 0, (40, 9, 9))
    batch = rank_tsp_batch(scores, maximize=False, rng=0)
    assert verify(batch, scores, maximize=False)
    assert batch.gap.max() <= 1e-6


@pytest.mark.parametrize("maximize", [False, True])
def test_the_reference_model_bounds_all_groups_together(maximize):
    scores, lengths = groups(count=5, n=5, forbidden=0.0)
    batch = rank_tsp_batch(scores, lengths, maximize=maximize, rng=0)
    relaxed = solvers.reference_model("rank_tsp_batch", scores, lengths, maximize=maximize).solve(solver="CLARABEL")
    sign = 1.0 if maximize else -1.0
    assert sign * relaxed >= sign * batch.fun.sum() - 1e-5
    alone = sum(
        solvers.reference_model("rank_tsp", scores[g, :n, :n], maximize=maximize).solve(solver="CLARABEL")
        for g, n in enumerate(lengths)
        if n > 1
    )
    assert relaxed == pytest.approx(alone, abs=1e-4)
