"""Policies in production: decisions, state, misuse; and simulation against exact values."""

from __future__ import annotations

import dataclasses
import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from instances import PLANS, early_and_late, medium, planned, tiny

from matching import BayesianMatching, exact_policy_value, expected_offline_optimum, match_online, simulate
from matching._kernels_policy import uniform
from matching._simulate import draw_arrivals
from solvers import InvalidProblemError


@pytest.fixture(scope="module")
def instance():
    return medium(np.random.default_rng(21), 8, 20, 2, 4)


@pytest.mark.parametrize("method", PLANS)
def test_a_run_is_a_matching_within_capacities(method, instance):
    grouped = BayesianMatching(instance.probabilities, instance.weights, np.arange(8) % 3)
    allowed = grouped.weights.toarray()
    result = planned(grouped, method)
    for seed, arrivals in enumerate(draw_arrivals(grouped, 20, np.random.default_rng(22))):
        policy = result.policy(rng=seed)
        used = np.zeros(8, dtype=int)
        for t, k in enumerate(arrivals):
            if k < 0:
                policy.skip(t)
                continue
            node = policy.arrive(t, int(k))
            if node >= 0:
                assert allowed[2 * t + k, node] > 0
                used[node] += 1
        assert (used <= grouped.capacities).all()
        assert np.array_equal(policy.free, np.bincount(grouped.owner, minlength=8) - used)


@pytest.mark.parametrize("method", PLANS)
def test_simulation_makes_the_decisions_of_the_policy(method, instance):
    result = planned(instance, method)
    table = simulate(instance, {method: result}, 1, rng=5)
    seed = np.random.default_rng(5).spawn(2)[0]
    keys = np.random.default_rng(5).spawn(2)[0].spawn(1)[0].integers(0, 2**64, size=1, dtype=np.uint64)
    arrivals = draw_arrivals(instance, 1, seed)[0]
    policy = result.policy()
    policy.restore(policy.state() | {"key": f"{int(keys[0]):016x}"})
    weights = instance.weights.toarray()
    total = 0.0
    for t, k in enumerate(arrivals):
        if k >= 0:
            node = policy.arrive(t, int(k))
            total += weights[2 * t + k, node] if node >= 0 else 0.0
    assert table["mean"][0] == pytest.approx(total, rel=1e-14)


@pytest.mark.parametrize("method", PLANS)
def test_restored_policies_replay_identically(method, instance):
    result = planned(instance, method)
    arrivals = draw_arrivals(instance, 1, np.random.default_rng(23))[0]

    def decide(policy, times):
        return [policy.arrive(t, int(arrivals[t])) if arrivals[t] >= 0 else policy.skip(t) for t in times]

    policy = result.policy(rng=24)
    decide(policy, range(8))
    saved = json.loads(json.dumps(policy.state()))
    pickled = pickle.loads(pickle.dumps(policy))
    first = decide(policy, range(8, 20))
    other = pickle.loads(pickle.dumps(result)).policy(rng=99)
    other.restore(saved)
    assert other.next_time == 8
    assert decide(other, range(8, 20)) == first == decide(pickled, range(8, 20))
    assert other.state() == policy.state()


def test_times_passed_over_count_as_skipped(instance):
    result = match_online(instance, method="pivotal", scaling="none")
    for seed in range(30):
        one, other = result.policy(rng=seed), result.policy(rng=seed)
        for t in range(15):
            one.skip(t)
        assert one.arrive(15, 0) == other.arrive(15, 0)
        assert one.state() == other.state()


def test_discards_happen_although_nobody_comes():
    # Two nodes propose surely: the first takes all the room, the second is topped up to leave with probability 1/2.
    instance = BayesianMatching([0.5, 0.5], np.ones((2, 2)))
    for salvage in (False, True):
        result = match_online(instance, method="pivotal", salvage=salvage)
        certificate = dataclasses.replace(result.certificate, rates=np.array([1.0, 1.0, 0.0, 0.0]))
        result["certificate"] = certificate
        left = []
        for seed in range(400):
            policy = result.policy(rng=seed)
            policy.skip(0)
            left.append(policy.free)
        share = np.mean(left, axis=0)
        assert share[0] == 1.0
        assert share[1] == 1.0 if salvage else abs(share[1] - 0.5) < 0.1


def test_misuse_is_refused(instance):
    result = match_online(instance, method="greedy")
    policy = result.policy(rng=0)
    policy.arrive(3, 1)
    before = policy.state()
    for bad, error in (((3, 0), ValueError), ((1, 0), ValueError), ((20, 0), ValueError), ((-1, 0), ValueError)):
        with pytest.raises(error, match="t must"):
            policy.arrive(*bad)
    for kind in (2, -1):
        with pytest.raises(ValueError, match="k must be an integer from 0 to 1"):
            policy.arrive(4, kind)
    with pytest.raises(TypeError, match="t must be an integer"):
        policy.arrive(4.5, 0)
    with pytest.raises(TypeError, match="k must be an integer"):
        policy.arrive(4, 0.5)
    with pytest.raises(ValueError, match="below the horizon"):
        policy.skip(20)
    with pytest.raises(InvalidProblemError, match="no prices"):
        policy.prices(4)
    assert policy.state() == before
    assert policy.arrive(np.int64(4), np.int64(0)) >= -1


def test_damaged_and_foreign_states_are_refused(instance):
    policy = match_online(instance, method="pivotal").policy(rng=0)
    state = policy.state()
    other = match_online(early_and_late(3, 0.1), method="pivotal").policy(rng=0)
    with pytest.raises(ValueError, match="another instance"):
        other.restore(state)
    with pytest.raises(ValueError, match="another plan"):
        match_online(instance, method="pivotal", scaling="none").policy().restore(state)
    for change in (
        {"marks": "9" * 8},
        {"marks": "2"},
        {"key": "xyz"},
        {"next_time": 99},
        {"version": 0},
        {"marks": None},
        {"level": -1.0},
        {"level": float("nan")},
        {"level": "1"},
    ):
        with pytest.raises(ValueError, match="state"):
            policy.restore(state | change)
    with pytest.raises(ValueError, match="state"):
        policy.restore("nonsense")
    assert policy.state() == state


@pytest.mark.parametrize("method", ["rollout", "optimal", "dual-price"])
def test_buyers_who_maximise_value_less_price_do_what_the_policy_would(method, instance):
    result = planned(instance, method, salvage=False)
    weights = instance.weights.toarray()
    for arrivals in draw_arrivals(instance, 10, np.random.default_rng(25)):
        policy = result.policy(rng=26)
        for t, k in enumerate(arrivals):
            if k < 0:
                continue
            while policy.next_time < t:
                policy.skip(policy.next_time)
            before = policy.state()
            gain = np.where(weights[2 * t + k] > 0, weights[2 * t + k] - policy.prices(t), -np.inf)
            assert policy.state() == before
            node = policy.arrive(t, int(k))
            if abs(gain.max()) > 1e-9:
                assert node == (int(np.argmax(gain)) if gain.max() > 0 else -1)
    with pytest.raises(ValueError, match="next time"):
        result.policy().prices(3)


def test_one_policy_serves_threads_one_at_a_time(instance):
    result = match_online(instance, method="pivotal")
    policy = result.policy(rng=1)

    def ask(t):
        try:
            return policy.arrive(t, 0)
        except ValueError:
            return None

    with ThreadPoolExecutor(8) as pool:
        nodes = [node for node in pool.map(ask, range(20)) if node is not None and node >= 0]
    assert len(nodes) == len(set(nodes))


def test_counter_based_numbers_are_uniform_and_uncorrelated():
    draws = np.array([[uniform(np.uint64(key), t, i) for i in range(40)] for key in range(5) for t in range(100)])
    assert abs(draws.mean() - 0.5) < 0.01
    assert np.histogram(draws, 10, (0, 1))[0].std() < 4 * np.sqrt(draws.size / 10)
    correlation = np.corrcoef(draws.T)
    np.fill_diagonal(correlation, 0)
    assert abs(correlation).max() < 0.2


@pytest.mark.parametrize("method", PLANS)
def test_simulated_means_agree_with_exact_values(method):
    rng = np.random.default_rng(31)
    for _ in range(6):
        instance = tiny(rng)
        result = planned(instance, method, scaling="none")
        row = simulate(instance, {method: result}, 20_000, rng=32)[0]
        exact = exact_policy_value(instance, result)
        assert abs(row["mean"] - exact) <= 5 * row["standard_error"] + 1e-12 * exact


def test_simulation_is_paired_and_includes_hindsight(instance):
    results = {method: planned(instance, method) for method in ("pivotal", "rollout")}
    table = simulate(instance, results, 200, rng=1, offline_runs=50)
    again = simulate(instance, {"rollout": results["rollout"]}, 200, rng=1)
    assert list(table["name"]) == ["pivotal", "rollout", "offline optimum"]
    assert table["mean"][1] == again["mean"][0]
    assert table["difference"][0] == 0.0
    assert table["difference_error"][1] < table["standard_error"][1]
    assert table["difference"][2] > 0
    small = tiny(np.random.default_rng(2))
    hindsight = simulate(small, {"greedy": match_online(small, method="greedy")}, 4000, rng=1, offline_runs=4000)[-1]
    assert abs(hindsight["mean"] - expected_offline_optimum(small)) <= 5 * hindsight["standard_error"]


def test_threads_do_not_change_a_simulation(instance):
    results = {method: planned(instance, method) for method in PLANS}
    one, three = (simulate(instance, results, 100, rng=4, n_jobs=jobs) for jobs in (1, 3))
    assert np.array_equal(one, three)
    assert np.array_equal(one, simulate(instance, results, 100, rng=4, n_jobs=200))


def test_simulation_refuses_what_does_not_fit(instance):
    result = match_online(instance, method="greedy")
    with pytest.raises(InvalidProblemError, match="another instance"):
        simulate(early_and_late(3, 0.1), {"greedy": result}, 10)
    with pytest.raises(InvalidProblemError, match="policies must map names"):
        simulate(instance, {}, 10)
    with pytest.raises(TypeError, match="MatchingResult"):
        simulate(instance, {"greedy": 3}, 10)
    with pytest.raises(ValueError, match="n_runs"):
        simulate(instance, {"greedy": result}, 0)
    with pytest.raises(ValueError, match="n_jobs"):
        simulate(instance, {"greedy": result}, 1, n_jobs=0)


def test_estimates_are_simulated_on_request(instance):
    result = match_online(instance, method="pivotal", rng=3, options={"n_runs": 2000})
    assert result.fun <= result.estimate + 4 * result.standard_error
    assert result.estimate <= result.bound + 4 * result.standard_error
    assert np.isnan(match_online(instance, method="pivotal").estimate)
