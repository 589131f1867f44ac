"""k-means of one feature: the optimum of intervals is the optimum, found and proved at any scale."""

from __future__ import annotations

import copy
import dataclasses
from fractions import Fraction
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from brute_force import best_cost

import solvers
from clustering import LineCertificate, kmeans_sdp
from clustering._bounds import evaluate, is_sound
from clustering._problem import kmeans_problem
from solvers import Status
from solvers._core.backend import choose_backend


def drawn(seed: int, largest: int) -> tuple[np.ndarray, np.ndarray | None, int]:
    """Points of many kinds, ties, offsets and outliers among them, with or without weights, and a number of clusters."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, largest + 1))
    x = rng.normal(size=n)
    x = [x, np.round(2 * x), x * 10.0 ** rng.uniform(-44, 44), 1e8 + x, np.round(x) * 1e3 + 1e-4 * x, x**9][seed % 6]
    weights = None if seed % 2 else 10.0 ** rng.uniform(-6, 6, size=n)
    if seed % 14 == 0:
        weights = np.where(rng.random(n) < 0.3, 0.0, 1.0)
        weights[0] = 1.0
    distinct = len(np.unique(x if weights is None else x[weights > 0]))
    return x[:, None], weights, int(rng.integers(1, distinct + 1))


def exact_optimum(x: np.ndarray, weights: np.ndarray | None, n_clusters: int) -> Fraction:
    """Least cost over intervals, in rational arithmetic."""
    w = np.ones(len(x)) if weights is None else weights
    points = sorted((Fraction(float(v)), Fraction(float(m))) for v, m in zip(x[:, 0], w, strict=True) if m > 0)

    def cost(j: int, i: int) -> Fraction:
        total = sum(m for _, m in points[j:i])
        mean = sum(v * m for v, m in points[j:i]) / total
        return sum(m * (v - mean) ** 2 for v, m in points[j:i])  # type: ignore[return-value]

    table = {(j, i): cost(j, i) for j in range(len(points)) for i in range(j + 1, len(points) + 1)}
    inner = combinations(range(1, len(points)), n_clusters - 1)
    paths = ((0, *cuts, len(points)) for cuts in inner)
    return min(sum((table[a, b] for a, b in pairwise(c)), Fraction(0)) for c in paths)


THOUSANDS = pytest.param(range(120, 4120), marks=pytest.mark.slow, id="thousands")
HUNDREDS = pytest.param(range(120, 1100), marks=pytest.mark.slow, id="hundreds")


@pytest.mark.parametrize("seeds", [pytest.param(range(120), id="some"), THOUSANDS])
def test_intervals_are_optimal_among_all_clusterings(seeds: range) -> None:
    for seed in seeds:
        X, weights, n_clusters = drawn(seed, 7)
        result = kmeans_sdp(X, n_clusters, sample_weight=weights, rng=0, tol=1e-9, method=("auto", "exact")[seed % 2])
        best = best_cost(X, n_clusters, weights)
        assert result.status is Status.OPTIMAL, seed
        assert result.bound <= best * (1 + 1e-15) + 1e-18 * result.scale, seed
        assert result.fun <= best * (1 + 1e-9) + 1e-15 * result.scale, seed
        if seed % 5 == 0:
            assert solvers.verify(result, X, n_clusters, sample_weight=weights).ok, seed


@pytest.mark.parametrize("seeds", [pytest.param(range(120), id="some"), HUNDREDS])
def test_any_potentials_bound_the_rational_optimum(seeds: range) -> None:
    """Also those that nothing has fitted to the data, and those of other data."""
    rng = np.random.default_rng(11)
    tight = 0
    for seed in seeds:
        X, weights, n_clusters = drawn(seed, 9)
        problem = kmeans_problem(X, n_clusters, weights, choose_backend("clustering", "array", ("array",), X=X))
        size = len(np.unique(problem.host_points)) + 1
        found = kmeans_sdp(X, n_clusters, sample_weight=weights, rng=0, tol=0.0).certificate
        certificates = [LineCertificate(np.zeros(size))]
        if isinstance(found, LineCertificate):
            moved = found.potentials * (1.0 + 0.3 * rng.normal(size=size))
            certificates += [
                found,
                LineCertificate(np.abs(moved)),
                LineCertificate(float(rng.uniform(0.1, 3.0)) * found.potentials),
                LineCertificate(np.append(0.0, np.sort(np.abs(moved[1:])))),
            ]
        optimum = exact_optimum(X, weights, n_clusters)
        for certificate in certificates:
            if is_sound(problem, certificate):
                bound = evaluate(problem, certificate)
                assert Fraction(bound.reestablished) <= optimum, seed
                tight += bound.published >= (1 - 1e-9) * float(optimum) > 0.0
    assert tight > len(seeds) // 3


@pytest.mark.parametrize("n_clusters", [2, 3, 7, 20])
def test_equal_gains_of_one_more_interval_are_exchanged(n_clusters: int) -> None:
    """Two and four groups of a price, never three: equally spaced points, and points in equal pairs of pairs."""
    spaced = np.arange(4.0 * n_clusters + 2)[:, None]
    result = kmeans_sdp(spaced, n_clusters, rng=0)
    assert result.status is Status.OPTIMAL
    assert len(np.unique(result.labels)) == n_clusters
    pairs = np.repeat(100.0 * np.arange(2 * n_clusters), 2)[:, None] + np.tile([0.0, 1.0], 2 * n_clusters)[:, None]
    result = kmeans_sdp(pairs, 3 * n_clusters, rng=0)
    assert result.status is Status.OPTIMAL
    assert result.fun == pytest.approx(0.5 * n_clusters)


def test_many_points_start_from_a_thinned_line() -> None:
    x = np.random.default_rng(3).gamma(2.0, size=20_000)
    result = kmeans_sdp(x[:, None], 5, rng=0, tol=1e-9)
    assert result.status is Status.OPTIMAL
    assert result.nit <= 2
    assert solvers.verify(result, x[:, None], 5).ok


def test_iris_sepals_are_proved_where_the_relaxation_is_loose() -> None:
    X = solvers.load_example("iris").data[:, :1]
    result = kmeans_sdp(X, 3, rng=0)
    assert result.gap < 1e-12
    assert kmeans_sdp(X, 3, method="structured", rng=0).gap > 0.1
    judged = solvers.certify_kmeans(X, result.labels)
    assert judged.gap < 1e-12
    worse = np.where(np.arange(150) == 0, (result.labels + 1) % 3, result.labels)
    claim = solvers.certify_kmeans(X, worse)
    assert claim.bound == pytest.approx(result.fun)
    assert claim.fun > result.fun
    assert solvers.verify(claim, X, worse).ok


def test_stopped_searches_leave_labels_and_a_true_bound() -> None:
    x = np.random.default_rng(8).normal(size=(4000, 1))
    best = kmeans_sdp(x, 6, rng=0).fun
    for stop in ({"max_iter": 1}, {"callback": lambda _: True}, {"time_limit": 1e-9}):
        result = kmeans_sdp(x, 6, rng=0, **stop)
        assert result.status in (Status.MAX_ITER, Status.CALLBACK_STOP, Status.TIME_LIMIT)
        assert 0.0 <= result.bound <= best <= result.fun
        assert solvers.verify(result, x, 6).ok


def test_links_are_no_matter_of_intervals() -> None:
    X = np.array([[0.0], [1.0], [2.0], [10.0], [11.0]])
    links = {"must_link": [(0, 4)]}
    result = kmeans_sdp(X, 2, method="exact", rng=0, options=links, tol=1e-4)
    assert result.labels[0] == result.labels[4]
    assert solvers.verify(result, X, 2, **links).ok


def test_forged_potentials_prove_nothing_more() -> None:
    X = np.random.default_rng(2).normal(size=(30, 1))
    result = kmeans_sdp(X, 4, rng=0)
    certificate: Any = result.certificate
    for change in (
        {"potentials": 1.1 * certificate.potentials},
        {"potentials": 0.9 * certificate.potentials},
        {"potentials": certificate.potentials[:-1]},
        {"potentials": certificate.potentials.astype(np.float32)},
        {"potentials": certificate.potentials - 1.0},
        {"potentials": np.append(certificate.potentials[:-1], 1e200)},
    ):
        forged = copy.deepcopy(result)
        forged["certificate"] = dataclasses.replace(certificate, **change)
        assert not solvers.verify(forged, X, 4).ok
    wide = np.column_stack([X, X])
    forged = copy.deepcopy(result)
    forged["centers"] = np.repeat(result.centers, 2, axis=1)
    assert not solvers.verify(forged, wide, 4).ok
