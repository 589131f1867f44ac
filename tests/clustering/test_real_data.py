"""Real data: what the relaxation says about them, and how much better shapes are than spheres."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_digits, load_wine

import solvers


def _standardised(X: np.ndarray) -> np.ndarray:
    return (X - X.mean(axis=0)) / X.std(axis=0)


def _errors(labels: np.ndarray, truth: np.ndarray) -> int:
    return min(int(np.sum(np.array(names)[labels] != truth)) for names in permutations(range(int(truth.max()) + 1)))


def test_breast_cancer_relaxation_and_cost():
    X = load_breast_cancer().data
    result = solvers.kmeans_sdp(X, 2, tol=1e-3, rng=0)
    assert result.fun == pytest.approx(77943099.8783, rel=1e-9)
    assert result.bound == pytest.approx(75438965, rel=1e-3)
    assert solvers.verify(result, X, 2)


def test_wine_optima_are_proved():
    X = load_wine().data
    for data, optimum in ((X, 2370689.6868), (_standardised(X), 1277.928489)):
        result = solvers.kmeans_sdp(data, 3, method="exact", tol=1e-4, rng=0)
        assert result.status is solvers.Status.OPTIMAL
        assert result.fun == pytest.approx(optimum, rel=1e-8)
        assert solvers.verify(result, data, 3)


def test_wines_are_told_apart_by_shape():
    wine = load_wine()
    X = _standardised(wine.data)
    result = solvers.ila_sdp(X, 3, rng=0)
    assert _errors(result.labels, wine.target) <= _errors(
        KMeans(3, n_init=10, random_state=0).fit_predict(X), wine.target
    )
    assert solvers.verify(result, X, 3)


def test_three_groups_of_ecoli_are_optimal():
    X = solvers.load_example("ecoli").data
    result = solvers.kmeans_sdp(X, 3, method="exact", tol=1e-4, rng=0)
    assert result.status is solvers.Status.OPTIMAL
    assert result.fun == pytest.approx(23.2609631, rel=1e-8)
    assert solvers.verify(result, X, 3)


def test_eight_groups_of_ecoli_reach_the_best_known_cost():
    ecoli = solvers.load_example("ecoli")
    assert ecoli.data.shape == (336, 7)
    assert len(set(ecoli.target)) == 8
    result = solvers.kmeans_sdp(ecoli.data, 8, tol=1e-2, max_iter=200, rng=0)
    assert result.fun <= 13.8490
    assert 0.85 * result.fun < result.bound <= 13.8490
    assert solvers.verify(result, ecoli.data, 8)


@pytest.mark.parametrize(("n_clusters", "optimum"), [(2, 236481.8269), (3, 215746.3033), (8, 163864.8649)])
def test_groups_of_cell_lines_are_proved_optimal(n_clusters, optimum):
    X = solvers.load_example("nci60").data
    result = solvers.kmeans_sdp(X, n_clusters, method="exact", tol=1e-4, rng=0)
    assert result.status is solvers.Status.OPTIMAL
    assert result.fun == pytest.approx(optimum, rel=1e-8)
    assert result.fun <= KMeans(n_clusters, n_init=10, random_state=0).fit(X).inertia_ * (1 + 1e-9)
    assert solvers.verify(result, X, n_clusters)


def test_ten_groups_of_blood_cells_leave_a_small_gap():
    pbmc = solvers.load_example("pbmc")
    assert pbmc.data.shape == (700, 20)
    assert len(set(pbmc.target)) == 10
    result = solvers.kmeans_sdp(pbmc.data, 10, tol=1e-2, max_iter=100, rng=0)
    assert result.fun <= 29328.83
    assert 0.96 * result.fun < result.bound
    assert solvers.verify(result, pbmc.data, 10)


def test_shapes_tell_cell_types_apart_that_spheres_confuse():
    pbmc = solvers.load_example("pbmc")
    kinds = ("CD14+ Monocyte", "CD19+ B", "CD56+ NK")
    chosen = np.isin(pbmc.target, kinds)
    X = _standardised(pbmc.data[chosen][:, :5])
    truth = np.unique(pbmc.target[chosen], return_inverse=True)[1]
    result = solvers.ila_sdp(X, 3, rng=0, options={"starts": ("kmeans", "ward", "em")})
    spheres = KMeans(3, n_init=10, random_state=0).fit_predict(X)
    assert _errors(result.labels, truth) <= _errors(spheres, truth)
    assert solvers.verify(result, X, 3)


def test_labels_of_digits_are_certified():
    X = load_digits().data
    labels = KMeans(10, n_init=1, random_state=0).fit_predict(X)
    components = solvers.certify_kmeans(X, labels, method="structured")
    assert 0.0 < components.bound <= 1165188.8905
    assert solvers.verify(components, X, labels)


@pytest.mark.slow
def test_digits_relaxation_leaves_a_small_gap():
    X = load_digits().data
    result = solvers.kmeans_sdp(X, 10, method="admm", tol=1e-3, rng=0, time_limit=60)
    assert result.fun <= 1165300
    assert result.gap < 0.03
    assert solvers.verify(result, X, 10)
