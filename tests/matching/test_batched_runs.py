"""Runs advanced together in array code make the compiled policies' decisions; many instances as parallel calls."""

from __future__ import annotations

import array_api_strict
import joblib
import numpy as np
import pytest
from instances import PLANS, medium, planned, tiny

import solvers
from matching import (
    BayesianMatching,
    _kernels_array,
    _kernels_policy_array,
    _kernels_rollout_array,
    exact_policy_value,
    match_online,
    simulate,
)
from matching._kernels_policy import continuation, uniform
from matching._kernels_policy_array import batched_policy, run_policy, uniforms
from matching._kernels_rollout_array import _coins, _future, batched_rollout, run_rollout
from matching._result import PolicyTables
from matching._simulate import draw_arrivals, sampled_totals
from solvers._core.arrays import host_namespace, to_host
from solvers._core.backend import Backend

DEVICE = Backend("array", _kernels_array, array_api_strict, array_api_strict.Device("device1"))
HOST = Backend("array", _kernels_array, host_namespace)


def totals(result, n_runs, seed, backend=None):
    return sampled_totals([PolicyTables.of(result)], n_runs, np.random.default_rng(seed), backend=backend)[0]


def test_the_host_draws_the_numbers_of_the_compiled_policies():
    keys = np.array([0, 1, 2**63 + 5, 2**64 - 1], dtype=np.uint64)
    numbers = np.array([0, 1, 77])
    for time in (0, 3, 10**6):
        expected = [[uniform(key, time, int(number)) for number in numbers] for key in keys]
        assert np.array_equal(uniforms(keys, time, numbers), expected)


@pytest.mark.parametrize("backend", [HOST, DEVICE], ids=["numpy", "array_api_strict on its second device"])
@pytest.mark.parametrize("salvage", [True, False])
@pytest.mark.parametrize("method", PLANS)
def test_batched_runs_are_the_compiled_runs(method, salvage, backend):
    rng = np.random.default_rng(61)
    instances = [tiny(rng, scale=("plain", "wild")[trial % 2]) for trial in range(6)]
    instances.append(medium(rng, 8, 20, 2, 4))
    instances.append(BayesianMatching(rng.random((6, 2)) / 2, rng.random((6, 2, 3)), [0, 1, 3]))
    for seed, instance in enumerate(instances):
        result = planned(instance, method, salvage=salvage)
        here, there = totals(result, 200, seed, backend), totals(result, 200, seed)
        np.testing.assert_allclose(here, there, rtol=1e-12)


def test_crowded_rows_discard_and_salvage_as_the_compiled_runs_do():
    # All units propose with large rates, so that most rows have no room for most of them.
    rng = np.random.default_rng(62)
    instance = BayesianMatching(np.full((12, 2), 0.45), np.round(rng.lognormal(size=(12, 2, 9)), 3))
    outcomes = []
    for salvage in (True, False):
        result = match_online(instance, method="pivotal", scaling="none", salvage=salvage)
        certificate = result.certificate
        result["certificate"] = type(certificate)(certificate.prices, rng.random(len(certificate.rates)), 64)
        compiled = totals(result, 500, 5)
        np.testing.assert_allclose(totals(result, 500, 5, DEVICE), compiled, rtol=1e-12)
        outcomes.append(compiled.mean())
    assert outcomes[0] > 1.05 * outcomes[1]


@pytest.mark.parametrize("backend", [HOST, DEVICE], ids=["numpy", "array_api_strict on its second device"])
def test_the_future_of_all_runs_is_proved_at_once(backend):
    rng = np.random.default_rng(69)
    for trial in range(10):
        instance = tiny(rng, scale=("plain", "wild")[trial % 2])
        result = planned(instance, "rollout", scaling="none")
        certificate, rates = result.certificate, rng.random(len(result.certificate.rates))
        result["certificate"] = type(certificate)(certificate.prices, rates, 16)
        rollout = batched_rollout(PolicyTables.of(result), backend)
        edges, m = instance.units[0], instance.n_units
        free = rng.random((7, m + 1)) < 0.6
        free[:, m] = False
        for t in range(-1, instance.n_times):
            value, loss = map(to_host, _future(rollout, t, backend.take(free)))
            for run in range(len(free)):
                data = (edges.start, edges.node, edges.weight, instance.probabilities.ravel(), rates)
                state = free[run, :m].astype(float)
                whole, _, by_unit = continuation(*data, instance.n_types, 16, t + 1, state, False)
                assert value[run] == pytest.approx(whole, rel=1e-12, abs=1e-300)
                assert loss[run, :m] * state == pytest.approx(by_unit * state, rel=1e-9, abs=1e-12 * whole)


def test_rollouts_with_bad_prices_fall_back_to_coins_as_the_compiled_runs_do(monkeypatch):
    # Dual prices 0 make every bid price too high; random rates crowd the rows, so that there are coins to throw.
    rng = np.random.default_rng(70)
    drops = []
    monkeypatch.setattr(_kernels_rollout_array, "_coins", lambda *given: drops.append(_coins(*given)) or drops[-1])
    for salvage in (True, False):
        instance = BayesianMatching(np.full((6, 2), 0.45), np.round(rng.lognormal(size=(6, 2, 5)), 3))
        result = planned(instance, "rollout", scaling="none", salvage=salvage)
        certificate = result.certificate
        rates = rng.random(len(certificate.rates)) ** 0.3
        result["certificate"] = type(certificate)(0.0 * certificate.prices, rates, 64)
        result["blend"] = 1.0
        compiled = totals(result, 300, 5)
        np.testing.assert_allclose(totals(result, 300, 5, DEVICE), compiled, rtol=1e-12)
    assert any(to_host(drop).any() for drop in drops if drop is not None)


def test_runs_do_not_depend_on_how_many_advance_together(monkeypatch):
    instance = medium(np.random.default_rng(63), 8, 20, 2, 4)
    policy = batched_policy(PolicyTables.of(match_online(instance, method="pivotal")), DEVICE)
    rng = np.random.default_rng(64)
    arrivals, keys = draw_arrivals(instance, 50, rng), rng.integers(0, 2**64, size=50, dtype=np.uint64)
    together = run_policy(policy, keys, arrivals)
    monkeypatch.setattr(_kernels_policy_array, "MARKS_AT_ONCE", 7 * (instance.n_units + 1))
    assert np.array_equal(run_policy(policy, keys, arrivals), together)
    rollout = batched_rollout(PolicyTables.of(planned(instance, "rollout")), DEVICE)
    together = run_rollout(rollout, keys, arrivals)
    monkeypatch.setattr(_kernels_rollout_array, "CELLS_AT_ONCE", 200_000)
    np.testing.assert_allclose(run_rollout(rollout, keys, arrivals), together, rtol=1e-12)


@pytest.mark.parametrize("method", PLANS)
def test_batched_means_agree_with_exact_values(method):
    rng = np.random.default_rng(65)
    for _ in range(3):
        instance = tiny(rng)
        result = planned(instance, method)
        row = simulate(instance, {method: result}, 20_000, rng=66, backend="array")[0]
        exact = exact_policy_value(instance, result)
        assert abs(row["mean"] - exact) <= 5 * row["standard_error"] + 1e-12 * exact


def test_simulate_takes_a_backend():
    instance = medium(np.random.default_rng(67), 8, 20, 2, 4)
    results = {method: planned(instance, method) for method in PLANS}
    compiled = simulate(instance, results, 300, rng=1, offline_runs=20)
    batched = simulate(instance, results, 300, rng=1, offline_runs=20, backend="array")
    assert list(batched["name"]) == [*PLANS, "offline optimum"]
    for column in ("mean", "standard_error", "ratio", "difference", "difference_error"):
        np.testing.assert_allclose(batched[column], compiled[column], rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="backend"):
        simulate(instance, results, 10, backend="gpu")


def test_nodes_nobody_wants_and_times_nobody_comes():
    instance = BayesianMatching(np.zeros((3, 2)), np.zeros((3, 2, 2)))
    for method in PLANS:
        assert not totals(planned(instance, method), 5, 0, DEVICE).any()


@pytest.mark.parametrize("prefer", ["threads", "processes"])
def test_many_instances_are_planned_by_parallel_calls(prefer):
    rng = np.random.default_rng(68)
    instances = [tiny(rng) for _ in range(6)]
    calls = (joblib.delayed(solvers.match_online)(instance, rng=3) for instance in instances)
    results = joblib.Parallel(n_jobs=2, prefer=prefer)(calls)
    for instance, result in zip(instances, results, strict=True):
        alone = match_online(instance, rng=3)
        assert (result.fun, result.bound) == (alone.fun, alone.bound)
        assert solvers.verify(result, instance)


def test_dask_plans_many_instances():
    dask = pytest.importorskip("dask")
    instances = [tiny(np.random.default_rng(seed)) for seed in range(4)]
    results = dask.compute(*(dask.delayed(solvers.match_online)(instance, rng=3) for instance in instances))
    for instance, result in zip(instances, results, strict=True):
        assert result.fun == match_online(instance, rng=3).fun
