"""Branch and bound: bounds below every clustering, proofs that cover, known optima."""

from __future__ import annotations

import dataclasses
from itertools import combinations

import numpy as np
import pytest
from partitions import best_cost, partitions

import solvers
from clustering._cuts import separate_cliques
from clustering._tree_bounds import clique_level, covers


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


@pytest.mark.parametrize("unit", [1e-40, 1e-22, 1e19, 1e40])
def test_the_unit_of_the_data_does_not_decide_what_is_proved(unit):
    """Multipliers have the square of the unit, which single precision may not hold."""
    X = np.random.default_rng(5).normal(size=(9, 2))
    result = solvers.kmeans_sdp(X * unit, 3, method="exact", rng=0, tol=1e-5)
    assert result.status is solvers.Status.OPTIMAL
    assert solvers.verify(result, X * unit, 3)


def test_links_beside_weights_in_which_all_others_vanish():
    X = np.random.default_rng(6).normal(size=(7, 2))
    weights = np.array([1e-29, 1e-12, 1.0, 1e27, 3.0, 1e-3, 1e20])
    links = {"must_link": [(0, 3), (1, 6)], "cannot_link": [(3, 6)]}
    result = solvers.kmeans_sdp(X, 2, sample_weight=weights, method="exact", options=links, rng=0)
    assert solvers.verify(result, X, 2, sample_weight=weights, **links)


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
        # Cliques alone every other time: that is where their right-hand side decides.
        if seed % 2:
            multiplier, cuts = np.zeros_like(multiplier), cuts[:0]
        cliques = np.array([rng.permutation(size)[: n_clusters + 1] for _ in range(3)])
        cliques = cliques[: 3 if cliques.shape[1] == n_clusters + 1 else 0].reshape(-1, n_clusters + 1)
        reach = problem.scatter * np.median(problem.host_weights) * 10.0 ** rng.uniform(-3, 1)
        leaf = LeafProof(
            (),
            multiplier.astype(np.float32),
            cuts,
            rng.random(len(cuts)) * scale,
            cliques,
            rng.random(len(cliques)) * reach,
        )
        bound = evaluate_leaf(problem, links, leaf)
        assert bound.reestablished <= best * (1 + 1e-13) or bound.reestablished == best == np.inf
        checked += bound.reestablished > 0
    assert checked > 50


def test_cliques_alone_bound_from_below_and_raise_some_bounds():
    # Nearly equidistant points, whose clusters are as undecided as can be.
    from clustering._links import NO_LINKS
    from clustering._problem import kmeans_problem
    from clustering._result import LeafProof
    from clustering._tree_bounds import evaluate_leaf
    from solvers._core.backend import choose_backend

    rng = np.random.default_rng(3)
    helped = 0
    for _ in range(1500):
        n, n_clusters = int(rng.integers(4, 7)), int(rng.integers(2, 4))
        X = (np.eye(n) + 0.3 * rng.standard_normal((n, n))) * 10.0 ** rng.integers(-8, 9)
        weights = None if rng.random() < 0.5 else 10.0 ** rng.uniform(-1, 1, n)
        backend = choose_backend("clustering", "array", ("array",), X=X)
        problem = kmeans_problem(X, n_clusters, weights, backend)
        every = np.array(list(combinations(range(n), n_clusters + 1)))
        nu = problem.scatter * rng.random(len(every)) * 10.0 ** rng.uniform(-4, 0)
        zero = np.zeros((n, n), dtype=np.float32)
        none = LeafProof((), zero, np.empty((0, 3), dtype=np.int64), np.empty(0))
        proof = dataclasses.replace(none, cliques=every, clique_multipliers=nu)
        bound = evaluate_leaf(problem, NO_LINKS, proof).reestablished
        assert bound <= best_cost(X, n_clusters, weights) * (1 + 1e-13)
        helped += bound > evaluate_leaf(problem, NO_LINKS, none).reestablished
    assert helped > 0


@pytest.mark.parametrize("weighted", [False, True])
def test_the_level_of_cliques_holds_for_every_clustering_and_for_some_with_equality(weighted):
    rng = np.random.default_rng(11)
    for _ in range(12):
        n, n_clusters = int(rng.integers(4, 8)), int(rng.integers(2, 4))
        weights = 10.0 ** rng.uniform(-2, 2, n) if weighted else np.ones(n)
        level = clique_level(weights, n_clusters)
        least = np.inf
        for labels in partitions(n, n_clusters):
            same = np.equal.outer(labels, labels)
            z = same / (same @ weights)
            for clique in combinations(range(n), n_clusters + 1):
                least = min(least, np.triu(z[np.ix_(clique, clique)], 1).sum())
        assert least >= level * (1 - 1e-12)
        assert least <= level * (1 + 1e-9)


def test_separated_cliques_are_violated():
    z = np.full((12, 12), 1e-4)
    cliques = separate_cliques(z, 3, 0.1)
    assert len(cliques)
    assert cliques.shape[1] == 4
    for clique in cliques:
        assert len(set(clique.tolist())) == 4
        assert np.triu(z[np.ix_(clique, clique)], 1).sum() < 0.1
    assert len(separate_cliques(z, 3, 1e-5)) == 0


def test_malformed_cliques_are_refused():
    X = solvers.load_example("iris").data
    result = solvers.kmeans_sdp(X, 3, method="exact", tol=1e-4, rng=0)
    certificate = result.certificate
    for cliques, nu in (
        ([[0, 1, 2, 2]], [1.0]),
        ([[0, 1, 2]], [1.0]),
        ([[0, 1, 2, 9999]], [1.0]),
        ([[0, 1, 2, 3]], [np.inf]),
        ([[0, 1, 2, 3]], [1.0, 1.0]),
        ([[0, 1, 2, 3]], [1e300]),
    ):
        leaves = tuple(
            dataclasses.replace(leaf, cliques=np.array(cliques), clique_multipliers=np.array(nu))
            for leaf in certificate.leaves
        )
        copy = type(result)({**result, "certificate": dataclasses.replace(certificate, leaves=leaves)})
        assert not solvers.verify(copy, X, 3)
