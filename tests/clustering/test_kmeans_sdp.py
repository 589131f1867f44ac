"""Known optima, edges and the reference model of the certified k-means entries."""

from __future__ import annotations

import numpy as np
import pytest
from brute_force import best_cost

import solvers
from solvers import Status

# Optimal sums of squares: du Merle et al. (2000) and later work for ruspini and iris; the others are the best known.
RUSPINI_4 = 12881.051236
IRIS_3 = 78.851441
IRIS_3_SDP = 75.5371


def data(name: str) -> np.ndarray:
    return solvers.load_example(name).data


def test_ruspini_is_proved_optimal() -> None:
    result = solvers.kmeans_sdp(data("ruspini"), 4, rng=3)
    assert result.status is Status.OPTIMAL
    assert result.fun == pytest.approx(RUSPINI_4, abs=1e-6)
    certified = solvers.certify_kmeans(data("ruspini"), result.labels, tol=1e-12)
    assert certified.gap <= 1e-10
    assert solvers.verify(certified, data("ruspini"), result.labels).ok


def test_iris_reaches_the_optimum_and_the_value_of_the_relaxation() -> None:
    result = solvers.kmeans_sdp(data("iris"), 3, method="admm", tol=1e-5, rng=3)
    assert result.fun == pytest.approx(IRIS_3, abs=1e-6)
    assert IRIS_3_SDP - 5e-4 * IRIS_3_SDP <= result.bound <= IRIS_3_SDP + 1e-4
    assert result.sdp_gap <= 1e-4
    assert result.gap > 0.04
    assert "relaxation" in result.message


def test_hartigan_wong_moves_leave_points_where_lloyd_stops() -> None:
    """scikit-learn's Lloyd iterations from these labels stop at 78.8557; single moves reach the optimum."""
    from sklearn.cluster import KMeans

    X = data("iris")
    stuck = min(
        (KMeans(3, n_init=1, random_state=seed).fit(X) for seed in range(20)),
        key=lambda fit: abs(fit.inertia_ - 78.855666),
    )
    result = solvers.kmeans_sdp(X, 3, method="structured", x0=stuck.labels_, options={"n_starts": 1}, max_iter=1, rng=1)
    assert result.fun == pytest.approx(IRIS_3, abs=1e-6)


@pytest.mark.parametrize("seed", range(12))
def test_relaxation_lies_between_its_bound_and_every_clustering(seed: int) -> None:
    rng = np.random.default_rng([seed, 404])
    X = rng.normal(size=(9, 2))
    weights = None if seed % 2 else rng.uniform(0.5, 3.0, size=9)
    n_clusters = 2 + seed % 3
    result = solvers.kmeans_sdp(X, n_clusters, sample_weight=weights, method="admm", tol=1e-7, rng=seed)
    value = solvers.reference_model("kmeans_sdp", X, n_clusters, sample_weight=weights).solve(solver="CLARABEL")
    assert result.bound <= value * (1 + 1e-6)
    if result.status is not Status.OPTIMAL:
        assert result.bound == pytest.approx(value, rel=1e-5)
    assert value <= best_cost(X, n_clusters, weights) * (1 + 1e-7)


def test_separated_clusters_are_certified_without_an_n_by_n_matrix() -> None:
    rng = np.random.default_rng(12)
    X = rng.normal(size=(20_000, 8)) + 14.0 * np.eye(8)[np.arange(20_000) % 4]
    result = solvers.kmeans_sdp(X, 4, method="structured", rng=9)
    assert result.status is Status.OPTIMAL
    assert result.certificate.kind == "structured"
    assert result.nit == 1


@pytest.mark.parametrize("n_clusters", [1, 5])
def test_one_cluster_and_all_singletons_are_trivially_optimal(n_clusters: int) -> None:
    X = np.array([[0.0, 1.0], [2.0, 3.0], [5.0, 5.0], [9.0, 1.0], [4.0, 7.0]])
    result = solvers.kmeans_sdp(X, n_clusters, method="admm", rng=2)
    assert result.status is Status.OPTIMAL
    expected = 0.0 if n_clusters == 5 else np.sum((X - X.mean(axis=0)) ** 2)
    assert result.fun == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_one_row_and_constant_rows() -> None:
    assert solvers.kmeans_sdp([[3.0, 4.0]], 1, rng=2).fun == 0.0
    assert solvers.kmeans_sdp(np.full((6, 2), 7.25), 1, rng=2).status is Status.OPTIMAL


def test_duplicated_rows_count_once_each() -> None:
    X = np.repeat([[0.0], [1.0], [10.0]], [4, 2, 5], axis=0)
    result = solvers.kmeans_sdp(X, 3, rng=2)
    assert result.fun == 0.0
    assert result.gap == 0.0
    assert solvers.kmeans_sdp(X, 2, rng=2).fun == pytest.approx(best_cost(X[:9], 2), rel=1e-9)


def test_one_column_and_more_columns_than_rows() -> None:
    rng = np.random.default_rng(6)
    for shape in ((8, 1), (7, 40)):
        X = rng.normal(size=shape)
        result = solvers.kmeans_sdp(X, 3, rng=4)
        assert result.bound <= best_cost(X, 3) <= result.fun * (1 + 1e-9)
        assert solvers.verify(result, X, 3).ok


def test_a_far_outlier_becomes_its_own_cluster() -> None:
    rng = np.random.default_rng(15)
    X = np.vstack([rng.normal(size=(60, 2)), [[1e6, 1e6]]])
    result = solvers.kmeans_sdp(X, 2, rng=4)
    assert np.count_nonzero(result.labels == result.labels[-1]) == 1
    assert result.status is Status.OPTIMAL


def test_rows_of_weight_zero_count_for_nothing_but_get_a_label() -> None:
    X = np.vstack([data("ruspini"), [[0.0, 0.0], [500.0, 500.0]]])
    weights = np.ones(77)
    weights[75:] = 0.0
    result = solvers.kmeans_sdp(X, 4, sample_weight=weights, rng=3)
    assert result.fun == pytest.approx(RUSPINI_4, abs=1e-6)
    assert result.labels.shape == (77,)
    nearest = np.argmin(np.linalg.norm(result.centers - X[76], axis=1))
    assert result.labels[76] == nearest
    assert solvers.verify(result, X, 4, sample_weight=weights).ok


def test_shift_and_scale_of_the_data_act_on_the_answer_as_they_should() -> None:
    X = data("ruspini")
    plain = solvers.kmeans_sdp(X, 4, rng=3)
    for scale, shift in ((1e-8, 0.0), (1e8, 0.0), (1.0, 1e6)):
        moved = solvers.kmeans_sdp(scale * X + shift, 4, rng=3)
        assert moved.status is Status.OPTIMAL
        assert moved.fun == pytest.approx(scale**2 * plain.fun, rel=1e-7)
        np.testing.assert_allclose(
            np.sort(moved.centers, axis=0), scale * np.sort(plain.centers, axis=0) + shift, rtol=1e-9
        )


def test_labels_of_scikit_learn_are_certified() -> None:
    from sklearn.cluster import KMeans

    X = data("ruspini")
    labels = KMeans(4, n_init=10, random_state=22).fit_predict(X)
    assert solvers.certify_kmeans(X, labels).status is Status.OPTIMAL


def test_poor_labels_get_a_true_bound_and_an_open_gap() -> None:
    X = data("ruspini")
    result = solvers.certify_kmeans(X, np.arange(75) % 4)
    assert result.bound <= RUSPINI_4
    assert result.gap > 0.5
    assert result.status is Status.CONVERGED


def test_warm_start_from_a_solved_relaxation_is_nearly_free() -> None:
    X = data("iris")
    first = solvers.kmeans_sdp(X, 3, method="admm", tol=1e-4, rng=5)
    again = solvers.kmeans_sdp(X, 3, method="admm", tol=1e-4, rng=5, x0=first)
    assert again.nit <= first.nit / 2
    assert again.bound == pytest.approx(first.bound, rel=1e-3)


def test_work_beyond_memory_is_refused_with_the_estimate() -> None:
    with pytest.raises(solvers.InvalidProblemError, match=r"method='admm' with 200000 rows would need about .* GiB"):
        solvers.kmeans_sdp(np.arange(400_000.0).reshape(-1, 2) % 97, 3, method="admm")


def test_history_shows_a_bound_that_rises_and_a_cost_that_falls() -> None:
    result = solvers.kmeans_sdp(data("iris"), 3, method="admm", tol=1e-3, rng=5, history=True)
    assert (np.diff(result.history.fun) <= 0).all()
    assert (np.diff(result.history.bound) >= 0).all()
    assert (np.diff(result.history.time) >= 0).all()
