"""Branch and bound: bounds below every clustering, proofs that cover, known optima."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from partitions import best_cost

import solvers
from clustering._tree_bounds import covers


def _random_problem(seed: int):
    rng = np.random.default_rng(seed)
    n, p = int(rng.integers(4, 8)), int(rng.integers(1, 4))
    n_clusters = int(rng.integers(2, 4))
    X = rng.standard_normal((n, p)) * 10.0 ** rng.integers(-8, 9) * rng.choice([1.0, 0.01], p)
    if rng.random() < 0.3:
        X[-1] = X[0]
    X = X + rng.choice([0.0, 1.0, 1e3]) * np.abs(X).max()
    weights = None if rng.random() < 0.5 else 10.0 ** rng.uniform(-2, 2, n)
    pairs = [(int(i), int(j)) for i, j in zip(*np.triu_indices(n, 1), strict=True)]
    must = [pairs[i] for i in rng.choice(len(pairs), int(rng.integers(0, 2)), replace=False)]
    cannot = [pairs[i] for i in rng.choice(len(pairs), int(rng.integers(0, 3)), replace=False)]
    return X, n_clusters, weights, must, cannot


@pytest.mark.parametrize("seed", range(120))
def test_constrained_bound_never_exceeds_brute_force(seed):
    X, n_clusters, weights, must, cannot = _random_problem(seed)
    if len(np.unique(X, axis=0)) < n_clusters:
        return
    best = best_cost(X, n_clusters, weights, must, cannot)
    options = {"must_link": must, "cannot_link": cannot, "n_starts": 1}
    if not np.isfinite(best):
        with pytest.raises(solvers.InvalidProblemError, match="link"):
            solvers.kmeans_sdp(X, n_clusters, sample_weight=weights, method="exact", options=options)
        return
    nodes = 1 + seed % 4
    result = solvers.kmeans_sdp(
        X, n_clusters, sample_weight=weights, method="exact", max_iter=nodes, tol=1e-4, rng=seed, options=options
    )
    assert result.bound <= best * (1 + 1e-14)
    assert result.fun >= best * (1 - 1e-9) - 1e-12 * result.scale
    if result.status is solvers.Status.OPTIMAL:
        assert result.fun <= best * (1 + 1.1e-4) + 1e-9 * result.scale
    links = {"must_link": must, "cannot_link": cannot}
    assert solvers.verify(result, X, n_clusters, sample_weight=weights, **links)


@pytest.mark.parametrize(
    ("name", "n_clusters", "optimum"),
    [("iris", 2, 152.347952), ("iris", 3, 78.851441), ("seeds", 3, 587.318612)],
)
def test_published_optima_are_proved(name, n_clusters, optimum):
    X = solvers.load_example(name).data
    result = solvers.kmeans_sdp(X, n_clusters, method="exact", tol=1e-4, rng=0)
    assert result.status is solvers.Status.OPTIMAL
    assert result.fun == pytest.approx(optimum, rel=1e-8)
    assert solvers.verify(result, X, n_clusters)


@pytest.mark.slow
@pytest.mark.parametrize(("n_clusters", "optimum", "name"), [(6, 72.964727, "glass"), (4, 57.228473, "iris")])
def test_harder_optima_are_proved(n_clusters, optimum, name):
    X = solvers.load_example(name).data
    result = solvers.kmeans_sdp(X, n_clusters, method="exact", tol=1e-4, rng=0)
    assert result.status is solvers.Status.OPTIMAL
    assert result.fun == pytest.approx(optimum, rel=1e-8)
    assert solvers.verify(result, X, n_clusters)


def test_cuts_close_most_of_the_gap_of_glass():
    X = solvers.load_example("glass").data
    result = solvers.kmeans_sdp(X, 6, tol=5e-4, rng=0, options={"cuts": True})
    assert result.fun == pytest.approx(72.964727, rel=1e-8)
    assert result.gap <= 5e-4
    assert solvers.verify(result, X, 6)


def test_links_are_respected():
    X = solvers.load_example("iris").data
    options = {"must_link": [(0, 60), (1, 61)], "cannot_link": [(0, 1), (2, 3)]}
    result = solvers.kmeans_sdp(X, 3, method="exact", tol=1e-2, time_limit=5.0, rng=0, options=options)
    labels = result.labels
    assert all(labels[i] == labels[j] for i, j in options["must_link"])
    assert all(labels[i] != labels[j] for i, j in options["cannot_link"])
    links = {name: options[name] for name in ("must_link", "cannot_link")}
    assert solvers.verify(result, X, 3, **links)
    assert not solvers.verify(result, X, 3), "a bound among clusterings with links is none without them"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"must_link": [(0, 0)]}, "itself"),
        ({"must_link": [(0, 1)], "cannot_link": [(0, 1)]}, "contradict"),
        ({"cannot_link": [(0, 1), (1, 2), (0, 2)]}, "admits no clustering"),
        ({"cannot_link": [(0, 99)]}, "below"),
        ({"cannot_link": [(0, 1, 2)]}, "pairs"),
    ],
)
def test_impossible_links_are_refused(options, words):
    X = np.arange(12.0).reshape(6, 2)
    with pytest.raises(solvers.InvalidProblemError, match=words):
        solvers.kmeans_sdp(X, 2, method="exact", options=options)


def test_a_tree_must_be_complete():
    assert covers([()])
    assert covers([((0, 1, True),), ((0, 1, False),)])
    assert not covers([((0, 1, True),)])
    assert not covers([((0, 1, True),), ((0, 2, False),)])
    assert not covers([])
    assert not covers([(), ((0, 1, True),)])


def test_tampered_trees_are_rejected():
    X = solvers.load_example("iris").data
    result = solvers.kmeans_sdp(X, 3, method="exact", tol=1e-4, rng=0)
    certificate = result.certificate
    assert len(certificate.leaves) > 1
    for changed in (
        dataclasses.replace(certificate, leaves=certificate.leaves[:-1]),
        dataclasses.replace(
            certificate,
            leaves=tuple(dataclasses.replace(leaf, multiplier=2 * leaf.multiplier) for leaf in certificate.leaves),
        ),
        dataclasses.replace(certificate, cannot=((0, 1),)),
    ):
        copy = type(result)({**result, "certificate": changed})
        assert not solvers.verify(copy, X, 3)


def test_any_dual_point_of_a_leaf_is_a_bound():
    from clustering._links import Links
    from clustering._problem import kmeans_problem
    from clustering._result import LeafProof
    from clustering._tree_bounds import evaluate_leaf
    from solvers._core.backend import choose_backend

    rng = np.random.default_rng(5)
    checked = 0
    for seed in range(400):
        X, n_clusters, weights, must, cannot = _random_problem(1000 + seed)
        if len(np.unique(X, axis=0)) < n_clusters:
            continue
        best = best_cost(X, n_clusters, weights, must, cannot)
        backend = choose_backend("clustering", "array", ("array",), X=X)
        problem = kmeans_problem(X, n_clusters, weights, backend)
        links = Links(tuple(must), tuple(cannot))
        size = int(links.supernodes(len(X)).max()) + 1
        if size < 3 or size < n_clusters:
            continue
        cuts = np.array([rng.permutation(size)[:3] for _ in range(6)])
        cuts[:3, 2] = cuts[:3, 1]
        scale = problem.scatter * 10.0 ** rng.uniform(-3, 0)
        multiplier = rng.standard_normal((size, size)) * scale / size
        leaf = LeafProof((), multiplier.astype(np.float32), cuts, rng.random(6) * scale)
        bound = evaluate_leaf(problem, links, leaf)
        assert bound.reestablished <= best * (1 + 1e-13) or bound.reestablished == best == np.inf
        checked += bound.reestablished > 0
    assert checked > 50
