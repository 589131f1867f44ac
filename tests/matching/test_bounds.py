"""Certificates of online matching: never past the truth, on instances small enough to know it."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from fractions import Fraction

import numpy as np
import pytest
from instances import PLANS, early_and_late, exact_dual, exact_optimum, exact_proved, medium, planned, tiny

import solvers
from matching import (
    BayesianMatching,
    MatchingCertificate,
    exact_policy_value,
    expected_offline_optimum,
    match_online,
    optimal_online_value,
    simulate,
)
from matching._bounds import dual_bound, independent_value, pivotal_value
from matching._kernels_policy import continuation, proved_gradient
from matching._oracles import free_probabilities
from matching._proved import best_online_value
from matching._run import rate_matrix


def with_rates(instance, rates, method, grid, salvage=True):
    """A result whose policy has the given rates."""
    result = copy.copy(planned(instance, method, scaling="none", salvage=salvage))
    prices = result.certificate.prices
    result["certificate"] = MatchingCertificate(prices, rates, grid)
    result["rates"] = rate_matrix(instance, rates)
    return result


@pytest.mark.parametrize("scale", ["plain", "wild", "large", "small"])
def test_proved_value_then_policy_then_optimum_then_bound(scale, request):
    seed = sum(map(ord, request.node.name))
    rng = np.random.default_rng(seed)
    for trial in range(325):
        instance = tiny(rng, scale=scale)
        optimum = optimal_online_value(instance)
        method, salvage = PLANS[trial % 6], bool(trial % 2)
        options = {"ascent_iterations": 20}
        result = planned(instance, method, salvage=salvage, tol=(1e-6, 1e-3)[trial % 2], options=options)
        value = exact_policy_value(instance, result)
        slack = 1e-11 * max(optimum, result.bound)
        assert result.fun <= value + slack, (trial, method)
        assert value <= optimum + slack, (trial, method)
        assert optimum <= result.bound + 2e-15 * optimum, (trial, method)
        verification = solvers.verify(result, instance, salvage=salvage)
        assert verification, (trial, method, verification.message)


def test_every_price_vector_bounds_the_online_optimum():
    rng = np.random.default_rng(3)
    for _ in range(2000):
        instance = tiny(rng)
        prices = rng.exponential(size=instance.probabilities.shape) * rng.choice([0.0, 0.1, 1.0, 100.0])
        assert dual_bound(instance, prices).published_above >= optimal_online_value(instance) * (1 - 1e-14)


@pytest.mark.parametrize("method", ["pivotal", "independent", "rollout"])
def test_every_rate_vector_has_a_policy_at_least_as_good_as_proved(method):
    rng = np.random.default_rng(4)
    for trial in range(60):
        instance = tiny(rng)
        rates = rng.random(len(instance.units[0])) ** rng.choice([0.3, 1.0, 4.0])
        rates[rng.random(len(rates)) < 0.2] = 1.0
        result = with_rates(instance, rates, method, 64, salvage=False)
        proved = independent_value(instance, rates) if method == "independent" else pivotal_value(instance, rates, 64)
        value = exact_policy_value(instance, result)
        assert proved.published_below <= value * (1 + 1e-12), trial
        salvaged = with_rates(instance, rates, method, 64, salvage=True)
        assert exact_policy_value(instance, salvaged) >= (value if method != "rollout" else proved.value) * (1 - 1e-12)


def test_no_blend_of_prices_takes_what_is_proved():
    # Without prices on the types every node waits for the best, with large ones every node goes at once: bad advice.
    rng = np.random.default_rng(12)
    differ = 0
    for trial in range(60):
        instance = tiny(rng)
        result = planned(instance, "rollout", salvage=False)
        values = {}
        for level, blend in ((0.0, 0.0), (0.0, 1.0), (0.0, 0.6), (1e3, 1.0)):
            prices = np.full(instance.probabilities.shape, level)
            result["certificate"] = dataclasses.replace(result.certificate, prices=prices)
            result["blend"] = blend
            values[level, blend] = exact_policy_value(instance, result)
        assert min(values.values()) >= result.fun * (1 - 1e-11), trial
        differ += max(values.values()) > min(values.values()) * (1 + 1e-6)
    assert differ >= 10


def test_error_bounds_enclose_rational_arithmetic():
    rng = np.random.default_rng(5)
    for trial in range(150):
        instance = tiny(rng, scale=("plain", "wild")[trial % 2])
        prices = rng.exponential(size=instance.probabilities.shape) * 10.0 ** rng.uniform(-9, 9)
        rates = rng.random(len(instance.units[0]))
        above = dual_bound(instance, prices)
        # Where nothing can be matched the bound is 0, whatever the prices.
        exact = exact_dual(instance, prices) if instance.scale > 0 else Fraction(0)
        assert abs(Fraction(above.value) - exact) <= Fraction(above.error)
        for grid, below in ((16, pivotal_value(instance, rates, 16)), (0, independent_value(instance, rates))):
            assert abs(Fraction(below.value) - exact_proved(instance, rates, grid)) <= Fraction(below.error)


def test_iteration_and_certificate_compute_the_same_proved_value():
    rng = np.random.default_rng(6)
    for _ in range(100):
        instance = tiny(rng)
        edges, _ = instance.units
        rates = np.clip(rng.normal(0.5, 0.5, len(edges)), 0, 1)
        value, _ = proved_gradient(edges, instance.probabilities.ravel(), rates, instance.n_types, instance.n_units, 64)
        assert value == pytest.approx(pivotal_value(instance, rates, 64).value, rel=1e-12, abs=1e-300)


def test_gradients_match_differences():
    rng = np.random.default_rng(7)
    for _ in range(25):
        instance = tiny(rng)
        edges, _ = instance.units
        p = instance.probabilities.ravel()
        rates = (rng.integers(0, 64, len(edges)) + rng.uniform(0.2, 0.8, len(edges))) / 64
        value, gradient = proved_gradient(edges, p, rates, instance.n_types, instance.n_units, 64)
        step = 1e-7
        for e in range(len(edges)):
            moved = rates + step * (np.arange(len(edges)) == e)
            other, _ = proved_gradient(edges, p, moved, instance.n_types, instance.n_units, 64)
            assert (other - value) / step == pytest.approx(gradient[e], abs=2e-6 * max(1.0, value))
        begin = int(rng.integers(0, instance.n_times))
        data = (edges.start, edges.node, edges.weight, p, rates, instance.n_types, 64, begin)
        free = (rng.random(instance.n_units) < 0.7).astype(float)
        here, _, by_free = continuation(*data, free, False)
        for i in np.flatnonzero(free):
            less = free.copy()
            less[i] = 0.0
            assert here - continuation(*data, less, False)[0] == pytest.approx(by_free[i], abs=1e-12 * max(1.0, here))


def test_free_probabilities_are_the_marginals_and_cylinders_are_negatively_dependent():
    rng = np.random.default_rng(8)
    for trial in range(80):
        instance = tiny(rng)
        edges, _ = instance.units
        rates = rng.random(len(edges))
        result = with_rates(instance, rates, ("pivotal", "independent")[trial % 2], 64)
        laws, marginals = free_probabilities(result)
        rows = np.repeat(np.arange(instance.probabilities.size), np.diff(edges.start))
        y = np.ones(instance.n_units)
        sets = np.arange(laws.shape[1])
        for t in range(instance.n_times + 1):
            assert marginals[t] == pytest.approx(y, abs=1e-12)
            for subset in range(1, laws.shape[1]):
                members = (subset >> np.arange(instance.n_units)) & 1 == 1
                all_free = laws[t][(sets & subset) == subset].sum()
                none_free = laws[t][(sets & subset) == 0].sum()
                assert all_free <= np.prod(y[members]) + 1e-12
                assert none_free <= np.prod(1 - y[members]) + 1e-12
            if t < instance.n_times:
                now = rows // instance.n_types == t
                leaving = np.bincount(
                    edges.node[now], instance.probabilities.ravel()[rows[now]] * rates[now], instance.n_units
                )
                y = y * (1 - leaving)


def test_a_finer_grid_proves_no_less():
    rng = np.random.default_rng(9)
    for _ in range(100):
        instance = tiny(rng)
        rates = rng.random(len(instance.units[0]))
        values = [pivotal_value(instance, rates, grid).value for grid in (2, 8, 64, 512)]
        assert all(b >= a * (1 - 1e-13) for a, b in itertools.pairwise(values))


@pytest.mark.parametrize(
    ("p", "w", "lp", "online", "offline", "greedy"),
    [
        ([0.5] * 2, np.ones((2, 2)), 1.0, 1.0, 1.0, 1.0),
        ([0.5] * 3, [[1.0], [2.0], [4.0]], 2.0, 2.0, 2.625, 1.5),
        ([0.5] * 3, np.ones((3, 2)), 1.5, 1.375, 1.375, 1.375),
        ([0.5] * 6, np.ones((6, 3)), 2.75, 2.53125, 2.53125, 2.53125),
    ],
)
def test_reference_values(p, w, lp, online, offline, greedy):
    instance = BayesianMatching(p, np.asarray(w))
    result = match_online(instance, method="greedy")
    assert result.lp_value == pytest.approx(lp, abs=1e-9)
    assert result.bound == pytest.approx(lp, abs=1e-9)
    assert optimal_online_value(instance) == pytest.approx(online, abs=1e-12)
    assert expected_offline_optimum(instance) == pytest.approx(offline, abs=1e-12)
    assert exact_policy_value(instance, result) == pytest.approx(greedy, abs=1e-12)


@pytest.mark.parametrize(
    ("n", "expected"),
    [(3, (0.704, 0.784, 0.788)), (5, (0.672, 0.746, 0.776)), (8, (0.656, 0.728, 0.771)), (50, (0.636, 0.703, 0.766))],
)
def test_early_and_late_instance_needs_scaling_and_ascent(n, expected):
    instance = early_and_late(n, 1e-6)
    for scaling, ratio in zip(("none", "two-step", "cubic"), expected, strict=True):
        result = match_online(instance, method="pivotal", scaling=scaling)
        assert result.fun / result.bound == pytest.approx(ratio, abs=6e-4)
    for eps in (1e-6, 1e-4, 1e-2):
        assert match_online(early_and_late(n, eps), scaling="auto").gap <= 0.05


def test_early_and_late_instance_exactly():
    instance = early_and_late(3, 0.01)
    assert optimal_online_value(instance) == pytest.approx(1.0170370370, abs=1e-9)
    result = match_online(instance, method="pivotal", scaling="none", salvage=False)
    assert exact_policy_value(instance, result) == pytest.approx(0.7237037037, abs=1e-9)
    assert exact_policy_value(instance, match_online(instance, method="greedy")) == pytest.approx(
        0.7237037037, abs=1e-9
    )


def test_the_offline_optimum_can_exceed_the_bound():
    instance = BayesianMatching([1.0, 0.01], [[1.0], [100.0]])
    result = match_online(instance)
    assert result.bound == pytest.approx(1.0, abs=1e-9)
    assert expected_offline_optimum(instance) == pytest.approx(1.99)


@pytest.mark.parametrize("scale", ["plain", "wild", "large", "small"])
def test_with_few_units_the_rollout_is_optimal_and_proved_so(scale):
    rng = np.random.default_rng(13)
    for trial in range(60):
        instance = tiny(rng, scale=scale)
        optimum = optimal_online_value(instance)
        result = planned(instance, "optimal", tol=1e-9)
        assert result.gap <= 1e-9
        assert exact_policy_value(instance, result) == pytest.approx(optimum, rel=1e-9)
        assert result.fun <= optimum * (1 + 1e-14)
        assert optimum <= result.bound * (1 + 1e-14), trial
    larger = medium(rng, 10, 12, 2, 5)
    result = match_online(larger)
    assert result.certificate.exact
    rows = simulate(larger, {"auto": result, "rollout": planned(larger, "rollout")}, 4000, rng=1)
    assert abs(rows["mean"][0] - optimal_online_value(larger)) <= 4 * rows["standard_error"][0]
    assert rows["difference"][1] <= 3 * rows["difference_error"][1]


@pytest.mark.parametrize("scale", ["plain", "wild", "large", "small"])
def test_the_dynamic_program_has_the_value_of_the_best_policy(scale):
    """Compiled recursion over sets of units against rational arithmetic over capacities left, within the slack charged."""
    rng = np.random.default_rng(15)
    for _ in range(60):
        instance = tiny(rng, scale=scale)
        found, optimum = best_online_value(instance), exact_optimum(instance)
        assert abs(Fraction(found.value) - optimum) <= Fraction(found.error)
        assert found.error <= 1e-12 * max(instance.scale, 1e-300)


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["plain", "wild", "large", "small"])
def test_thousands_of_instances_keep_the_order(scale):
    rng = np.random.default_rng([99, len(scale)])
    for trial in range(1000):
        instance = tiny(rng, scale=scale, most_units=5)
        optimum = optimal_online_value(instance)
        result = planned(instance, PLANS[trial % 6], salvage=trial % 3 > 0)
        value = exact_policy_value(instance, result)
        slack = 1e-11 * max(optimum, result.bound)
        assert result.fun - slack <= value <= optimum + slack
        assert optimum <= result.bound * (1 + 1e-14)
        assert solvers.verify(result, instance, salvage=result.salvage)
