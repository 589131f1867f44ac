"""Certificates, blocks and low-rank factors beyond the reach of n x n matrices, and the edges of every method."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from partitions import best_cost

import solvers
from clustering._blocks import anticlusters
from clustering._low_rank import _on_sphere as on_sphere
from clustering._problem import kmeans_problem
from solvers._core.backend import choose_backend

METHODS = ("structured", "admm", "low-rank", "blocks", "exact")


def _gmm(n: int, p: int, n_clusters: int, separation: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    threshold = np.sqrt(4 * (1 + np.sqrt(1 + n_clusters * p / (n * np.log(n)))) * np.log(n))
    centers = np.zeros((n_clusters, p))
    np.fill_diagonal(centers, separation * threshold / np.sqrt(2))
    labels = np.repeat(np.arange(n_clusters), n // n_clusters)
    return centers[labels] + rng.standard_normal((n, p)), labels


def test_fifty_thousand_rows_are_certified_to_nine_digits():
    X, labels = _gmm(50_000, 20, 4, 1.0)
    result = solvers.certify_kmeans(X, labels, tol=1e-9)
    assert result.status is solvers.Status.OPTIMAL
    assert solvers.verify(result, X, labels)


def test_scales_of_pairs_are_never_worse_than_one_scale():
    X = solvers.load_example("glass").data
    labels = solvers.kmeans_sdp(X, 6, method="structured", rng=0).labels
    few = solvers.certify_kmeans(X, labels, method="structured", max_iter=20)
    all_of_them = solvers.certify_kmeans(X, labels, method="structured")
    assert few.bound < all_of_them.bound < all_of_them.fun


def test_the_ladder_of_certificates_ends_with_blocks():
    """One scale, scales of pairs, then blocks, each with a better bound; above 5000 rows blocks need a time limit."""
    X, labels = _gmm(600, 10, 4, 0.7)
    one = solvers.certify_kmeans(X, labels, method="structured", max_iter=18)
    pairs = solvers.certify_kmeans(X, labels, method="structured")
    blocks = solvers.certify_kmeans(X, labels, tol=1e-3, options={"block_size": 300})
    assert one.bound <= pairs.bound < blocks.bound < blocks.fun
    assert (pairs.method, blocks.method) == ("structured", "blocks")
    assert solvers.verify(blocks, X, labels)
    X, labels = _gmm(5200, 4, 4, 0.4)
    assert solvers.certify_kmeans(X, labels).method == "structured"
    assert solvers.certify_kmeans(X, labels, time_limit=0.5).method == "blocks"


def test_certifying_keeps_the_labels():
    X = solvers.load_example("iris").data
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.arange(3), rng.integers(0, 3, len(X) - 3)])
    for method in ("auto", "structured", "admm", "blocks"):
        options = {"block_size": 50} if method == "blocks" else None
        result = solvers.certify_kmeans(X, labels, method=method, tol=1e-3, options=options)
        assert np.array_equal(result.labels, labels)
        assert result.bound <= 78.8514414261
        assert solvers.verify(result, X, labels)


def test_blocks_partition_the_rows_and_share_the_clusters():
    X, labels = _gmm(600, 4, 3, 0.8)
    for name in ("numba", "array"):
        problem = kmeans_problem(X, 3, None, choose_backend("clustering", name, (name,), X=X))
        blocks = anticlusters(problem, labels, 100)
        assert np.array_equal(np.sort(np.concatenate(blocks)), np.arange(600))
        assert max(len(rows) for rows in blocks) <= 101
        lost = sum(
            (labels[rows] == k).sum()
            * np.sum((X[rows][labels[rows] == k].mean(axis=0) - X[labels == k].mean(axis=0)) ** 2)
            for rows in blocks
            for k in range(3)
        )
        cost = sum(np.sum((X[labels == k] - X[labels == k].mean(axis=0)) ** 2) for k in range(3))
        assert lost < 2e-3 * cost


def test_blocks_bound_the_whole():
    X, _ = _gmm(600, 6, 3, 0.7)
    loose = solvers.kmeans_sdp(X, 3, method="structured", rng=0)
    result = solvers.kmeans_sdp(X, 3, method="blocks", rng=0, options={"block_size": 200})
    assert result.gap < min(0.01, loose.gap)
    assert solvers.verify(result, X, 3)
    certificate = result.certificate
    overlapping = dataclasses.replace(certificate, blocks=(certificate.blocks[0], *certificate.blocks[:-1]))
    missing = dataclasses.replace(certificate, proofs=(None, *certificate.proofs[1:]))
    for changed in (overlapping, missing):
        assert not solvers.verify(type(result)({**result, "certificate": changed}), X, 3)


@pytest.mark.parametrize("backend", ["numba", "array"])
def test_each_block_solved_adds_to_the_structured_bound(backend):
    """A limit leaves rows to the structured certificate; what was solved counts all the same."""
    X, labels = _gmm(600, 10, 4, 0.7)
    keywords = {"method": "blocks", "tol": 1e-3, "backend": backend}
    alone = solvers.certify_kmeans(X, labels, method="structured", backend=backend)
    options = {"block_size": 100}
    some, more, every = (
        solvers.certify_kmeans(X, labels, max_iter=limit, options=options, **keywords)
        for limit in (alone.nit + 1, alone.nit + 3, None)
    )
    assert alone.bound < some.bound < more.bound < every.bound
    assert (len(some.certificate.blocks), len(more.certificate.blocks), len(every.certificate.blocks)) == (2, 4, 6)
    for result in (some, more, every):
        assert solvers.verify(result, X, labels)


def test_stacks_of_blocks_prove_what_single_blocks_prove():
    """Array code solves blocks of equal size together; on a device that is the host's only in name, too."""
    import array_api_strict as strict

    X, _ = _gmm(240, 4, 3, 0.7)
    options = {"block_size": 60, "n_starts": 2}
    single = solvers.kmeans_sdp(X, 3, method="blocks", rng=0, backend="numba", options=options)
    together = solvers.kmeans_sdp(X, 3, method="blocks", rng=0, backend="array", options=options)
    device = strict.asarray(X, device=strict.Device("device1"))
    elsewhere = solvers.kmeans_sdp(device, 3, method="blocks", rng=0, options=options)
    assert elsewhere.labels.device == device.device
    assert solvers.verify(elsewhere, device, 3)
    for result in (single, together):
        assert solvers.verify(result, X, 3)
    for result in (together, elsewhere):
        assert result.gap < 0.02
        assert result.bound == pytest.approx(single.bound, rel=2e-3)


def test_stacks_respect_limits():
    X, _ = _gmm(240, 4, 3, 0.7)
    options = {"block_size": 40, "n_starts": 1}
    two = solvers.kmeans_sdp(X, 3, method="blocks", rng=0, backend="array", max_iter=2, options=options)
    assert two.nit == 2
    assert two.status is solvers.Status.MAX_ITER
    none = solvers.kmeans_sdp(X, 3, method="blocks", rng=0, backend="array", time_limit=1e-6, options=options)
    assert none.status is solvers.Status.TIME_LIMIT
    for result in (two, none):
        assert solvers.verify(result, X, 3)
    one = solvers.kmeans_sdp(X, 1, method="blocks", rng=0, backend="array", tol=0.0, options=options)
    assert one.gap < 0.2
    assert solvers.verify(one, X, 1)


@pytest.mark.parametrize("backend", ["numba", "array"])
def test_blocks_never_exceed_brute_force(backend):
    rng = np.random.default_rng(4)
    for seed in range(60):
        n, n_clusters = int(rng.integers(6, 9)), int(rng.integers(1, 4))
        X = rng.standard_normal((n, 2)) * 10.0 ** rng.integers(-8, 9) + rng.choice([0.0, 1e3])
        if len(np.unique(X, axis=0)) < n_clusters:
            continue
        weights = None if seed % 2 else 10.0 ** rng.uniform(-2, 2, n)
        options = {"block_size": int(rng.integers(2, 6)), "n_starts": 1}
        limit = [None, 2, 3][seed % 3]
        result = solvers.kmeans_sdp(
            X, n_clusters, sample_weight=weights, method="blocks", rng=seed, backend=backend, max_iter=limit,
            options=options,
        )  # fmt: skip
        assert result.bound <= best_cost(X, n_clusters, weights) * (1 + 1e-12)
        assert solvers.verify(result, X, n_clusters, sample_weight=weights)


@pytest.mark.parametrize("u", [[[-3.0, -1.0], [-2.0, -1.5]], [[0.0, -1.0], [-2.0, -1.5]]])
def test_the_nearest_factor_of_negative_ones_is_their_largest_entry(u):
    u = np.array(u)
    nearest = on_sphere(np, u, 4)
    assert np.array_equal(nearest, 2.0 * (u == u.max()))


def test_low_rank_factors_find_the_planted_labels():
    X, planted = _gmm(400, 5, 4, 1.0)
    result = solvers.kmeans_sdp(X, 4, method="low-rank", x0=np.arange(400) % 4, rng=0, options={"n_starts": 1})
    assert len(np.unique(np.stack([result.labels, planted]), axis=1).T) == 4
    assert solvers.verify(result, X, 4)


@pytest.mark.parametrize("method", METHODS)
def test_edges(method):
    rng = np.random.default_rng(7)
    base = rng.standard_normal((8, 2))
    weights = np.array([0.0, 1.0, 2.0, 0.0, 1.0, 0.5, 3.0, 1.0])
    cases = [
        (base, 1, None),
        (base, 8, None),
        (base[:, :1], 3, None),
        (np.repeat(base, 3, axis=0), 3, None),
        (np.column_stack([base, np.ones(8)]), 2, None),
        (np.vstack([base, [[1e6, 0.0]]]), 2, None),
        (base + 1e8, 2, None),
        (rng.standard_normal((6, 30)), 2, None),
        (base, 3, weights),
    ]
    for X, n_clusters, weight in cases:
        result = solvers.kmeans_sdp(X, n_clusters, sample_weight=weight, method=method, tol=1e-6, rng=0, max_iter=60)
        assert 0.0 <= result.bound <= result.fun
        assert solvers.verify(result, X, n_clusters, sample_weight=weight)
        if len(X) <= 9:
            best = best_cost(X, n_clusters, weight)
            assert result.bound <= best * (1 + 1e-9) + 1e-14 * result.scale


@pytest.mark.parametrize("method", ["auto", "structured", "admm", "blocks"])
@pytest.mark.parametrize("backend", ["numba", "array"])
def test_edges_of_certificates(method, backend):
    rng = np.random.default_rng(9)
    base = rng.standard_normal((8, 2))
    halves = np.arange(8) % 2
    lone = np.array([0] * 8 + [1])
    cases = [
        (base, np.zeros(8, dtype=int), None),
        (base, np.arange(8), None),
        (base[:, :1], halves, None),
        (np.repeat(base, 2, axis=0), np.repeat(halves, 2), None),
        (np.column_stack([base, np.ones(8)]), halves, None),
        (np.vstack([base, [[1e6, 0.0]]]), lone, None),
        (base + 1e8, halves, None),
        (rng.standard_normal((6, 30)), np.arange(6) % 2, None),
        (base, halves, np.array([1.0, 1.0, 0.0, 2.0, 1.0, 0.0, 3.0, 1.0])),
        (np.tile([3.0, 4.0], (4, 1)), np.zeros(4, dtype=int), None),
    ]
    for X, labels, weight in cases:
        result = solvers.certify_kmeans(
            X, labels, sample_weight=weight, method=method, backend=backend, tol=1e-9, max_iter=80
        )
        assert 0.0 <= result.bound <= result.fun
        heavy = slice(None) if weight is None else weight > 0
        assert np.array_equal(result.labels[heavy], labels[heavy])
        assert solvers.verify(result, X, labels, sample_weight=weight)
        if len(X) <= 9:
            best = best_cost(X, int(labels.max()) + 1, weight)
            assert result.bound <= best * (1 + 1e-9) + 1e-14 * result.scale


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_clusters", [1, 8])
def test_one_clustering_only_is_proved_as_far_as_float64_can(method, n_clusters):
    X = np.random.default_rng(17).standard_normal((8, 3))
    for options in ({}, {"cuts": True}) if method == "admm" else ({},):
        result = solvers.kmeans_sdp(X, n_clusters, method=method, tol=0.0, max_iter=20, rng=0, options=options)
        assert result.gap < 1e-12
        assert solvers.verify(result, X, n_clusters)


@pytest.mark.parametrize("method", METHODS)
def test_a_short_time_limit_leaves_labels_and_a_valid_bound(method):
    X, _ = _gmm(400, 6, 4, 0.4)
    result = solvers.kmeans_sdp(X, 4, method=method, time_limit=0.05, rng=0)
    assert result.time < 1.0
    assert solvers.verify(result, X, 4)


@pytest.mark.parametrize("method", METHODS)
def test_verification_re_establishes_what_is_published(method):
    rng = np.random.default_rng(11)
    for seed in range(40):
        n, p = int(rng.integers(3, 8)), int(rng.integers(1, 5))
        n_clusters = int(rng.integers(1, min(n, 4)))
        X = rng.standard_normal((n, p)) * 10.0 ** rng.integers(-8, 9) * rng.choice([1.0, 1e-6, 1e3], p)
        X[0] *= rng.choice([1.0, 1e5])
        weights = None if seed % 2 else 10.0 ** rng.uniform(-6, 6, n)
        options = {"n_starts": 1} | ({"block_size": 4} if method == "blocks" else {})
        result = solvers.kmeans_sdp(
            X, n_clusters, sample_weight=weights, method=method, rng=seed, max_iter=30, options=options
        )
        assert result.bound <= best_cost(X, n_clusters, weights) * (1 + 1e-12)
        assert solvers.verify(result, X, n_clusters, sample_weight=weights)
