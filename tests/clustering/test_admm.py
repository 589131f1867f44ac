"""The splitting method solves the relaxation: published values, exact projections, warm starts."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_wine

import solvers
from clustering import _kernels_numba
from clustering._spectral import LeadingEigenpairs, full_spectrum
from solvers._core.linalg import simplex_threshold


def _gmm(n: int, p: int, n_clusters: int, separation: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    threshold = np.sqrt(4 * (1 + np.sqrt(1 + n_clusters * p / (n * np.log(n)))) * np.log(n))
    centers = np.zeros((n_clusters, p))
    np.fill_diagonal(centers, separation * threshold / np.sqrt(2))
    return np.repeat(centers, n // n_clusters, axis=0) + rng.standard_normal((n, p))


def _data(name: str) -> np.ndarray:
    if name.startswith("wine"):
        X = load_wine().data
    elif name.startswith("breast_cancer"):
        X = load_breast_cancer().data
    else:
        X = solvers.load_example(name).data
    return (X - X.mean(axis=0)) / X.std(axis=0) if name.endswith("_std") else X


# Found by this method in full precision, primal and dual within 1e-5, and by CVXPY with SCS where it fits.
VALUES = [
    ("ruspini", 4, 12881.051236),
    ("ruspini", 5, 9953.004127),
    ("iris", 2, 150.683072),
    ("iris", 3, 75.537106),
    ("iris", 4, 54.846640),
    ("iris", 5, 43.864981),
    ("wine", 2, 4387507.750),
    ("wine", 3, 2163433.287),
    ("wine", 4, 1241861.615),
    ("wine_std", 2, 1601.881042),
    ("wine_std", 3, 1266.924844),
    ("glass", 6, 68.996156),
    ("seeds", 3, 572.568737),
]
LARGER = [("breast_cancer", 2, 75449395.16), ("breast_cancer_std", 2, 11430.79212)]


@pytest.mark.parametrize(
    ("name", "n_clusters", "value"), VALUES + [pytest.param(*case, marks=pytest.mark.slow) for case in LARGER]
)
def test_known_values_of_the_relaxation(name, n_clusters, value):
    X = _data(name)
    result = solvers.kmeans_sdp(X, n_clusters, method="admm", tol=1e-6, max_iter=1500, rng=0)
    assert result.bound == pytest.approx(value, rel=2e-5)
    assert result.sdp_gap < 1e-3 or result.gap < 1e-6
    assert solvers.verify(result, X, n_clusters)


def test_standardised_wine_leaves_a_small_gap():
    X = _data("wine_std")
    result = solvers.kmeans_sdp(X, 3, method="admm", tol=1e-4, rng=0)
    assert result.fun == pytest.approx(1277.928489, rel=1e-8)
    assert result.gap < 0.01


@pytest.mark.parametrize("seed", range(3))
def test_separated_clusters_are_proved_optimal_to_six_digits(seed):
    X = _gmm(200, 10, 4, 1.0, seed)
    result = solvers.kmeans_sdp(X, 4, tol=1e-6, rng=0)
    assert result.status is solvers.Status.OPTIMAL
    assert result.nit <= 600
    assert solvers.verify(result, X, 4)


def test_the_relaxation_agrees_with_a_conic_solver():
    X = _gmm(36, 3, 3, 0.5)
    model = solvers.reference_model("kmeans_sdp", X, 3)
    model.solve(solver="CLARABEL")
    result = solvers.kmeans_sdp(X, 3, method="admm", tol=1e-7, rng=0)
    assert result.bound <= model.value * (1 + 1e-7)
    assert result.bound == pytest.approx(model.value, rel=1e-5)


@pytest.mark.parametrize("n", [60, 120, 520])
def test_partial_projections_follow_a_moving_matrix(n):
    rng = np.random.default_rng(n)
    q = np.full(n, n**-0.5)
    basis = np.linalg.qr(rng.standard_normal((n, n)))[0]
    spectrum = np.concatenate([np.linspace(1.0, 2.0, 6), rng.uniform(-0.5, 0.6, n - 6)])
    pairs = LeadingEigenpairs(q, 3.0, _kernels_numba, 6)
    for step in range(40):
        noise = rng.standard_normal((n, n)) * 0.002 / np.sqrt(n)
        spectrum[:6] *= 1.0 + 0.01 * np.sin(step + np.arange(6))
        matrix = (basis * spectrum) @ basis.T + noise + noise.T
        values, vectors = pairs.project(matrix)
    exact, exact_vectors = full_spectrum(matrix, q)
    theta = simplex_threshold(exact, 3.0)
    active = exact > theta
    wanted = (exact_vectors[:, active] * (exact[active] - theta)) @ exact_vectors[:, active].T
    found = (vectors * values) @ vectors.T
    assert np.linalg.norm(found - wanted) < 1e-2 * np.linalg.norm(wanted)
    assert np.abs(q @ vectors).max() < 1e-12
    assert pairs.full_decompositions <= 4 or n == 60


def test_a_growing_rank_is_noticed():
    n = 150
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((n, n)))[0]
    pairs = LeadingEigenpairs(None, 1.0, _kernels_numba, 6)
    for rank in (2, 40, 3, 90):
        spectrum = np.concatenate([np.ones(rank), np.zeros(n - rank)])
        values, _ = pairs.project((basis * spectrum) @ basis.T)
        assert len(values) == rank
        assert np.sum(values) == pytest.approx(1.0)


def test_a_dual_point_carries_over():
    X = solvers.load_example("iris").data
    first = solvers.kmeans_sdp(X, 3, method="admm", tol=1e-4, rng=0)
    again = solvers.kmeans_sdp(X, 3, method="admm", tol=1e-4, rng=0, x0=first, max_iter=25)
    assert again.bound >= first.bound * (1 - 1e-3)


@pytest.mark.slow
def test_two_thousand_rows():
    X = _gmm(2000, 20, 4, 0.8)
    result = solvers.kmeans_sdp(X, 4, tol=1e-4, rng=0)
    assert result.status is solvers.Status.OPTIMAL
    assert solvers.verify(result, X, 4)
