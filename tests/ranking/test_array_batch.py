"""The array path of batches: the compiled path's values, on the device of the scores, with proofs that verify."""

from __future__ import annotations

import numpy as np
import pytest
from kinds import NAMESPACES, strict_on_device

from ranking import _kernels_numba as compiled
from ranking import bilinear_scores
from ranking._kernels_array import compensated_sum, subset_recursion
from solvers import BackendError, InvalidProblemError, Status, rank_tsp_batch, verify
from solvers._core.arrays import to_host

KINDS = {"numpy": np.asarray, **NAMESPACES}


def groups(count=40, n=6, seed=0, forbidden=0.3):
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((count, n, n)) * 10.0 ** rng.integers(-6, 7, (count, 1, 1))
    scores[rng.random(scores.shape) < forbidden] = -np.inf
    return scores, rng.integers(1, n + 1, count)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "problem",
    [{}, {"closed": True}, {"maximize": False}, {"start": 0}, {"closed": True, "start": 0}],
    ids=lambda problem: "-".join(problem) or "open",
)
def test_device_groups_have_the_host_values_and_verify(kind, problem):
    scores, lengths = groups()
    scores = scores if problem.get("maximize", True) else -scores
    there = KINDS[kind](scores)
    batch = rank_tsp_batch(there, lengths, backend="array", rng=0, **problem)
    host = rank_tsp_batch(scores, lengths, backend="numba", rng=0, **problem)
    assert type(batch.x) is type(there)
    assert batch.x.device == there.device
    np.testing.assert_array_equal(batch.status == Status.INFEASIBLE, host.status == Status.INFEASIBLE)
    np.testing.assert_allclose(batch.fun, host.fun, rtol=1e-9, atol=1e-12 * np.max(host.scale))
    checked = verify(batch, there, lengths, **problem)
    assert checked.ok, checked.message
    assert np.max(batch.gap[batch.order[:, 0] >= 0]) < 1e-9


def test_both_ends_may_be_fixed():
    scores = np.random.default_rng(1).standard_normal((20, 5, 5))
    batch = rank_tsp_batch(strict_on_device(scores), start=3, end=1, rng=0)
    assert (batch.order[:, 0] == 3).all()
    assert (batch.order[:, -1] == 1).all()
    np.testing.assert_allclose(batch.fun, rank_tsp_batch(scores, start=3, end=1, rng=0).fun)


def test_the_largest_size_is_solved_and_the_next_refused():
    scores = np.random.default_rng(2).random((3, 12, 12))
    batch = rank_tsp_batch(scores, backend="array", rng=0)
    np.testing.assert_allclose(batch.fun, rank_tsp_batch(scores, rng=0).fun)
    assert batch.success
    with pytest.raises(BackendError, match=r"12 items; got 13.*\.get\(\)"):
        rank_tsp_batch(strict_on_device(np.zeros((2, 13, 13))), rng=0)


def test_ties_are_decided_by_the_seed_and_not_by_the_input():
    scores = strict_on_device(np.zeros((200, 5, 5)))
    firsts = np.bincount(rank_tsp_batch(scores, rng=0).order[:, 0], minlength=5)
    assert firsts.min() > 15


def test_limits_and_bad_input():
    scores = np.random.default_rng(3).random((30, 4, 4))
    late = rank_tsp_batch(strict_on_device(scores), time_limit=1e-9, rng=0)
    assert (late.status == Status.TIME_LIMIT).all()
    assert verify(late, scores)
    scores[7, 1, 2] = np.nan
    with pytest.raises(InvalidProblemError, match=r"scores\[7\].*NaN"):
        rank_tsp_batch(strict_on_device(scores), rng=0)
    scores[7, 1, 2] = np.inf
    with pytest.raises(InvalidProblemError, match=r"scores\[7\].*attracts"):
        rank_tsp_batch(strict_on_device(scores), rng=0)


def test_a_better_claim_than_the_recursion_proves_is_refused():
    scores = np.random.default_rng(4).random((5, 6, 6))
    batch = rank_tsp_batch(strict_on_device(scores), rng=0)
    bound = batch.bound.copy()
    bound[2] -= 1e-9
    forged = type(batch)(**{**batch, "bound": bound, "fun": np.minimum(batch.fun, bound)})
    assert "group 2" in verify(forged, scores).message


def test_the_recursion_finds_the_tour_whose_cost_it_gives():
    c, tour = np.random.default_rng(5).random((6, 6, 6)), np.zeros((6, 6), dtype=np.int64)
    cost = subset_recursion(c, tour)
    for g in range(6):
        own = np.zeros(6, dtype=np.int64)
        assert cost[g] == pytest.approx(compiled.subset_recursion(c[g], own))
        assert sorted(tour[g]) == list(range(6))
        assert cost[g] == pytest.approx(c[g, tour[g], np.roll(tour[g], -1)].sum())


def test_sums_are_rounded_as_if_once():
    terms = np.array([[1.0, 1e100, 1.0, -1e100], [1e-30, 1.0, -1.0, 1e-30]])
    np.testing.assert_array_equal(compensated_sum(terms, np), [2.0, 2e-30])


@pytest.mark.parametrize("kind", KINDS)
def test_bilinear_scores_stay_where_they_are(kind):
    rng = np.random.default_rng(6)
    e, w = rng.standard_normal((3, 5, 4)), rng.standard_normal((2, 4, 4))
    there = bilinear_scores(KINDS[kind](e), KINDS[kind](w[0]))
    assert type(there) is type(KINDS[kind](e))
    np.testing.assert_allclose(to_host(there), np.einsum("gid,de,gje->gij", e, w[0], e), atol=1e-12)
    two = to_host(bilinear_scores(KINDS[kind](e[0]), KINDS[kind](w)))
    for k, part in enumerate((np.triu(np.ones((5, 5)), 1), np.tril(np.ones((5, 5))))):
        np.testing.assert_allclose(two * part, (e[0] @ w[k] @ e[0].T) * part, atol=1e-12)
    with pytest.raises(InvalidProblemError, match=r"\(4, 4\)"):
        bilinear_scores(KINDS[kind](e), KINDS[kind](w[0][:3]))
