"""The linear program: both ways of solving it, the textbook model, and all backends agree."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from instances import PLANS, medium, planned, tiny

import solvers
from matching import BayesianMatching, _kernels_array, _kernels_numba, _lp, match_online
from solvers._core.backend import choose_backend

NUMBA = choose_backend("matching", "numba", ("numba", "array"))
ARRAY = choose_backend("matching", "array", ("numba", "array"))


def test_exact_solution_is_the_textbook_models():
    rng = np.random.default_rng(51)
    for _ in range(8):
        instance = tiny(rng)
        result = match_online(instance, method="pivotal")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = solvers.reference_model("match_online", instance)
            model.solve("SCIPY")
        assert result.lp_value == pytest.approx(model.value, rel=1e-8, abs=1e-12)
        assert result.bound == pytest.approx(model.value, rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("kind", ["edge", "vertex", "unweighted"])
@pytest.mark.parametrize("n_types", [1, 5])
def test_smoothed_dual_closes_the_gap_from_both_sides(kind, n_types):
    instance = medium(np.random.default_rng(52), 40, 80, n_types, 6, kind)
    solution = _lp.nothing(instance)
    prices = np.zeros_like(instance.probabilities)
    for eps in _lp.smoothing_stages(instance):
        stage = _lp.solve_smoothed(instance, NUMBA, instance, prices, eps, lambda: False)
        prices = stage.prices
        solution = _lp.better(instance, solution, stage)
    bound = _kernels_numba.exact_dual(instance, solution.prices.ravel())
    assert 0 <= bound - solution.value <= 5e-4 * bound
    if n_types == 1:
        exact = _lp.solve_exactly(instance, np.inf)
        assert solution.value <= exact.value * (1 + 1e-9)
        assert exact.value <= bound * (1 + 1e-9)


@pytest.mark.parametrize("spread", [0, 3, 9])
def test_weights_over_many_orders_of_magnitude(spread):
    rng = np.random.default_rng(53)
    base = medium(rng, 40, 60, 3, 12)
    weights = base.weights.copy()
    weights.data *= 10.0 ** rng.uniform(-spread, spread, len(weights.data))
    instance = BayesianMatching(base.probabilities, weights)
    result = match_online(instance, method="pivotal")
    assert result.success
    assert result.lp_gap <= 5e-4
    assert solvers.verify(result, instance)


def test_smoothed_dual_is_a_gradient_and_an_upper_bound():
    rng = np.random.default_rng(54)
    for _ in range(20):
        instance = tiny(rng)
        prices = rng.exponential(size=instance.probabilities.size)
        value, gradient, _ = _kernels_numba.smoothed_dual(instance, prices, 0.1)
        assert value >= _kernels_numba.exact_dual(instance, prices)
        for j in range(len(prices)):
            step = 1e-6 * (np.arange(len(prices)) == j)
            up, _, _ = _kernels_numba.smoothed_dual(instance, prices + step, 0.1)
            down, _, _ = _kernels_numba.smoothed_dual(instance, prices - step, 0.1)
            assert (up - down) / 2e-6 == pytest.approx(gradient[j], abs=1e-7)


def layouts():
    strict = pytest.importorskip("array_api_strict")
    device = strict.Device("device1")
    return [ARRAY, type(ARRAY)("array", _kernels_array, strict, device)]


@pytest.mark.parametrize("which", [0, 1], ids=["numpy", "array_api_strict on its second device"])
def test_array_passes_are_the_compiled_ones(which):
    backend = layouts()[which]
    rng = np.random.default_rng(55)
    for trial in range(15):
        instance = tiny(rng, scale=("plain", "wild")[trial % 2])
        data = _kernels_array.layout(instance, backend)
        prices = rng.exponential(size=instance.probabilities.size)
        here, there = _kernels_numba.exact_dual(instance, prices), _kernels_array.exact_dual(data, prices)
        assert there == pytest.approx(here, rel=1e-12)
        one, other = (k.smoothed_dual(d, prices, 0.3) for k, d in ((_kernels_numba, instance), (_kernels_array, data)))
        assert other[0] == pytest.approx(one[0], rel=1e-12)
        assert other[1] == pytest.approx(one[1], rel=1e-10, abs=1e-14)
        assert other[2] == pytest.approx(one[2], rel=1e-10, abs=1e-14)


def test_array_backend_gives_the_same_certificate():
    instance = medium(np.random.default_rng(56), 20, 50, 3, 12)
    assert len(instance.edges) > 1500
    one = match_online(instance, method="pivotal", scaling="none")
    other = match_online(instance, method="pivotal", scaling="none", backend="array")
    assert other.backend == "array"
    assert other.bound == pytest.approx(one.bound, rel=1e-3)
    assert solvers.verify(other, instance, scaling="none")


def test_runs_stop_when_told_and_still_prove():
    instance = medium(np.random.default_rng(57), 60, 120, 4, 10)
    full = match_online(instance, method="pivotal")
    for keywords in (
        {"max_iter": 1},
        {"max_iter": 2},
        {"time_limit": 1e-9},
        {"callback": lambda intermediate_result: True},
    ):
        result = match_online(instance, method="pivotal", tol=1e-12, **keywords)
        assert not result.success
        assert 0 <= result.fun <= full.bound
        assert result.bound >= full.fun
        assert solvers.verify(result, instance)


def test_ascent_never_loses_and_history_shows_it():
    instance = medium(np.random.default_rng(58), 30, 60, 1, 6, "unweighted")
    start = max(match_online(instance, method="pivotal", scaling=name).fun for name in ("none", "two-step", "cubic"))
    result = match_online(instance, method="pivotal", history=True)
    assert result.scaling == "ascent"
    assert result.fun > start
    assert (np.diff(result.history.fun) >= 0).all()
    assert (np.diff(result.history.bound) <= 0).all()


def test_auto_takes_the_rollout_where_decisions_stay_cheap():
    assert match_online(tiny(np.random.default_rng(59))).method == "rollout"
    assert match_online(medium(np.random.default_rng(59), 60, 150, 5, 10), max_iter=1).method == "pivotal"


@pytest.mark.parametrize("method", PLANS)
def test_every_intermediate_result_verifies(method):
    rng = np.random.default_rng(59)
    for instance in (tiny(rng), medium(rng, 12, 200, 2, 4), medium(rng, 30, 60, 4, 8)):
        seen = []
        result = planned(
            instance, method, callback=lambda intermediate_result, seen=seen: seen.append(intermediate_result)
        )
        assert seen
        assert all(solvers.verify(one, instance) for one in (*seen, result))
