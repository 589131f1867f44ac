"""Pivotal sampling: marginals, prefixes, negative dependence, spatial balance."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from matching import local_pivotal_sample, pivotal_sample
from matching._pivotal import _fight_on
from solvers import InvalidProblemError


def many(p, runs, **keywords):
    rng = np.random.default_rng(41)
    return np.array([pivotal_sample(p, rng=rng, **keywords) for _ in range(runs)])


@pytest.mark.parametrize("order", ["given", "random"])
def test_marginals_and_totals(order):
    p = np.array([0.1, 0.8, 0.0, 0.45, 1.0, 0.25, 0.999, 0.3])
    draws = many(p, 20_000, order=order)
    assert np.abs(draws.mean(axis=0) - p).max() < 5 * np.sqrt(0.25 / len(draws))
    assert set(draws.sum(axis=1)) <= {int(np.floor(p.sum())), int(np.ceil(p.sum()))}


def test_every_prefix_count_is_its_expectation_rounded():
    rng = np.random.default_rng(42)
    for _ in range(300):
        p = rng.random(rng.integers(1, 12)) ** rng.choice([0.3, 1.0, 3.0])
        counts = np.cumsum(pivotal_sample(p, rng=rng))
        sums = np.cumsum(p)
        assert (counts >= np.floor(sums - 1e-9)).all()
        assert (counts <= np.ceil(sums + 1e-9)).all()


@pytest.mark.parametrize("order", ["given", "random"])
def test_cylinders_are_negatively_dependent(order):
    p = np.array([0.3, 0.6, 0.5, 0.2, 0.7])
    draws = many(p, 20_000, order=order)
    slack = 5 * np.sqrt(0.25 / len(draws))
    for size in (2, 3):
        for subset in itertools.combinations(range(5), size):
            chosen = list(subset)
            assert draws[:, chosen].all(axis=1).mean() <= np.prod(p[chosen]) + slack
            assert (~draws[:, chosen]).all(axis=1).mean() <= np.prod(1 - p[chosen]) + slack


def law(p):
    """Every outcome of ordered pivotal sampling with its probability: both ends of each fight of the kernel."""
    branches = [(np.zeros(len(p), dtype=bool), 0, float(p[0]), 1.0)]
    for unit in range(1, len(p)):
        after = []
        for taken, survivor, value, chance in branches:
            total, b = value + p[unit], p[unit]
            switch = b / total if total <= 1.0 else (1.0 - b) / (2.0 - total)
            for draw, odds in ((switch - 1e-9, switch), (switch + 1e-9, 1.0 - switch)):
                now = taken.copy()
                after.append((now, *_fight_on(p, now, unit, survivor, value, np.array([draw])), chance * odds))
        branches = after
    for taken, survivor, value, chance in branches:
        for last, odds in ((True, value), (False, 1.0 - value)):
            outcome = taken.copy()
            outcome[survivor] = last
            yield outcome, chance * odds


def test_the_law_has_exact_marginals_rounded_prefixes_and_negative_dependence():
    rng = np.random.default_rng(44)
    for _ in range(20):
        p = rng.uniform(0.02, 0.98, 6)
        outcomes, odds = map(np.array, zip(*law(p), strict=True))
        assert odds.sum() == pytest.approx(1.0, abs=1e-12)
        assert odds @ outcomes == pytest.approx(p, abs=1e-12)
        possible = outcomes[odds > 1e-9]
        counts, sums = np.cumsum(possible, axis=1), np.cumsum(p)
        assert ((counts >= np.floor(sums)) & (counts <= np.ceil(sums))).all()
        for subset in range(1, 2**6):
            chosen = (subset >> np.arange(6)) & 1 == 1
            assert odds @ outcomes[:, chosen].all(axis=1) <= np.prod(p[chosen]) + 1e-12
            assert odds @ ~outcomes[:, chosen].any(axis=1) <= np.prod(1 - p[chosen]) + 1e-12


@pytest.mark.parametrize("p", [[0.0] * 4, [1.0] * 4, [0.0, 1.0, 0.0], [0.5, 0.5], [1.0, 0.5, 0.5], [0.1] * 10, [0.25]])
def test_certain_units_and_exact_sums(p):
    for seed in range(50):
        for order in ("given", "random"):
            draw = pivotal_sample(p, order=order, rng=seed)
            assert all(draw[i] == bool(q) for i, q in enumerate(p) if q in (0.0, 1.0))
            assert draw.sum() in (np.floor(np.sum(p) + 1e-9), np.ceil(np.sum(p) - 1e-9))


def test_local_samples_have_the_marginals_and_spread_out():
    rng = np.random.default_rng(43)
    positions = np.vstack([rng.normal(size=(6, 2)) * 0.1 + centre for centre in ([0, 0], [9, 0], [0, 9])])
    p = np.full(18, 1 / 6)
    draws = np.array([local_pivotal_sample(p, positions, rng=rng) for _ in range(6000)])
    assert np.abs(draws.mean(axis=0) - p).max() < 5 * np.sqrt(p[0] / len(draws))
    assert (draws.reshape(-1, 3, 6).sum(axis=2) == 1).all(axis=1).mean() > 0.95
    near = [
        draws[:, [a, b]].all(axis=1).mean() for c in (0, 6, 12) for a, b in itertools.combinations(range(c, c + 6), 2)
    ]
    assert max(near) <= p[0] ** 2
    uneven = rng.random(18)
    sizes = {int(local_pivotal_sample(uneven, positions, rng=rng).sum()) for _ in range(300)}
    assert sizes <= {int(np.floor(uneven.sum())), int(np.ceil(uneven.sum()))}
    mixed = np.array([0.0, 1.0, 0.4, 0.7])
    assert set(local_pivotal_sample(mixed, np.zeros((4, 1)), rng=1)[:2]) == {False, True}


@pytest.mark.parametrize("p", [[1.5], [-0.1], [np.nan], [], [[0.5]], ["a"], None])
def test_bad_probabilities_are_refused(p):
    with pytest.raises(InvalidProblemError, match="p must"):
        pivotal_sample(p)
    with pytest.raises(InvalidProblemError):
        local_pivotal_sample(p, [[0.0]])


def test_bad_positions_and_orders_are_refused():
    with pytest.raises(InvalidProblemError, match="one row per unit"):
        local_pivotal_sample([0.5, 0.5], [[0.0]])
    with pytest.raises(ValueError, match="order"):
        pivotal_sample([0.5], order="sorted")
