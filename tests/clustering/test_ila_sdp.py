"""Likelihood clustering: identities of the relaxation, rigorous bounds, real data, edges."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import numpy as np
import pytest
from partitions import partitions

import solvers
from clustering._la_low_rank import low_rank_labels
from clustering._la_sdp import LikelihoodRelaxation
from clustering._likelihood import Regularisation, fit_model
from clustering._likelihood_bounds import AssignmentCertificate, assignment_bound, nll_error

TYPES = ("full", "tied", "diag", "spherical")


def _points(seed: int, n: int, p: int, n_clusters: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_clusters
    shapes = rng.standard_normal((n_clusters, p, p)) + 2 * np.eye(p)
    centers = 4.0 * rng.standard_normal((n_clusters, p))
    return centers[labels] + np.einsum("ij,ijk->ik", rng.standard_normal((n, p)), shapes[labels]), labels


def _direct_likelihood(X, labels, covariances, shares=None):
    total = 0.0
    for k, covariance in enumerate(covariances):
        mine = X[labels == k] - X[labels == k].mean(axis=0)
        total -= 0.5 * (len(mine) * np.linalg.slogdet(2 * np.pi * covariance)[1])
        total -= 0.5 * np.sum(mine * np.linalg.solve(covariance, mine.T).T)
        total += 0.0 if shares is None else len(mine) * np.log(shares[k])
    return total


def _full(result):
    k, p = result.centers.shape
    return {
        "full": lambda c: c,
        "tied": lambda c: [c] * k,
        "diag": lambda c: [np.diag(row) for row in c],
        "spherical": lambda c: [value * np.eye(p) for value in c],
    }[result.covariance_type](result.covariances)


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("mixing", [False, True])
def test_fun_is_the_log_likelihood_of_the_returned_parameters(covariance_type, mixing):
    X, _ = _points(1, 45, 2, 3)
    problem = {"covariance_type": covariance_type, "mixing": mixing}
    result = solvers.ila_sdp(X, 3, rng=0, options={"starts": ("kmeans", "ward")}, **problem)
    direct = _direct_likelihood(X, result.labels, _full(result), result.weights if mixing else None)
    assert result.fun == pytest.approx(direct, rel=1e-10)
    assert result.fun <= result.assignment_bound
    assert solvers.verify(result, X, 3, **problem)
    assert not solvers.verify(result, X, 3, covariance_type=covariance_type, mixing=not mixing)


def test_cost_matrices_reproduce_the_likelihood():
    X, labels = _points(2, 40, 3, 3)
    X = X - X.mean(axis=0)
    model = fit_model(X, labels, 3, Regularisation("full", True, 0.2, 1e-6))
    inner = sum(model.cost_matrix(X, k)[np.ix_(labels == k, labels == k)].sum() / (labels == k).sum() for k in range(3))
    assert inner == pytest.approx(model.nll(X, labels), rel=1e-10)


def test_any_dual_point_bounds_every_labelling():
    rng = np.random.default_rng(3)
    for seed in range(60):
        n, n_clusters = int(rng.integers(5, 8)), 2
        X, labels = _points(seed, n, 2, n_clusters)
        X = (X - X.mean(axis=0)) * 10.0 ** rng.integers(-8, 9)
        model = fit_model(X, labels, n_clusters, Regularisation("full", bool(seed % 2), 0.2, 1e-6))
        least = min(model.nll(X, other) for these in partitions(n, 2) for other in (these, 1 - these))
        state = LikelihoodRelaxation(X, labels, n_clusters)
        steps = int(rng.integers(1, 400))
        found = state.solve(model, labels, 1e-9, steps, lambda loads, _: np.argmax(loads, axis=0), lambda: False)
        y, multipliers = found.y, found.multipliers
        if seed % 3 == 0:
            y = y + rng.standard_normal(n)
            multipliers = multipliers + rng.standard_normal(multipliers.shape)
        value, error = assignment_bound(X, model, AssignmentCertificate(y, multipliers.astype(np.float32)))
        assert value - error <= least + 1e-12 * abs(least)


def test_affinities_are_minus_twice_the_likelihood():
    """With A_k = X S_k^{-1} X^T - 1/2 (a_k 1^T + 1 a_k^T) - log|S_k| 1 1^T: sum_k <A_k, Z_k> = -2 NLL."""
    X, labels = _points(14, 40, 3, 3)
    model = fit_model(X, labels, 3, Regularisation("full", False, 0.2, 1e-6))
    total = 0.0
    for k in range(3):
        inner = X @ np.linalg.solve(model.covariances[k], X.T)
        affinity = inner - 0.5 * (np.diag(inner)[:, None] + np.diag(inner)) - np.linalg.slogdet(model.covariances[k])[1]
        total += affinity[np.ix_(labels == k, labels == k)].sum() / (labels == k).sum()
    assert total == pytest.approx(-2.0 * model.nll(X, labels), rel=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_spheres_of_one_variance_make_both_relaxations_one(seed):
    """Primal at Z_k = Z / K and dual at any multipliers: LA = k-means / (2 s^2) + (n p / 2) log s^2, identically."""
    rng = np.random.default_rng(seed)
    n, p, n_clusters = 30, 2, 3
    X, labels = _points(4 + seed, n, p, n_clusters)
    X = X - X.mean(axis=0)
    scatter, variance = float(np.sum(X * X)), 0.3 + seed
    constant = 0.5 * n * p * np.log(variance)
    model = fit_model(X, labels, n_clusters, Regularisation("spherical", False, 1.0, 0.0))
    model = dataclasses.replace(
        model,
        covariances=np.stack([variance * np.eye(p)] * n_clusters),
        factors=np.stack([np.sqrt(variance) * np.eye(p)] * n_clusters),
        log_determinants=np.full(n_clusters, p * np.log(variance)),
    )
    mixture = rng.dirichlet(np.ones(4))
    z = sum(
        share * (np.equal.outer(g, g) / np.bincount(g)[g])
        for share, g in zip(mixture, (rng.permutation(labels) for _ in range(4)), strict=True)
    )
    split = sum(np.sum(model.cost_matrix(X, k) * z) / n_clusters for k in range(n_clusters))
    assert split == pytest.approx((scatter - np.sum((X @ X.T) * z)) / (2 * variance) + constant, rel=1e-10)
    y, b = rng.standard_normal(n), np.abs(rng.standard_normal((n, n)))
    b = b + b.T
    least = np.linalg.eigvalsh(-X @ X.T - 0.5 * (y[:, None] + y) - b)[0]
    kmeans_dual = scatter + y.sum() + n_clusters * least
    shifted = (np.sum(X * X, axis=1) + y) / (2 * variance) + 0.5 * p * np.log(variance)
    proof = AssignmentCertificate(shifted, np.stack([b / (2 * variance)] * n_clusters))
    value, error = assignment_bound(X, model, proof)
    assert value == pytest.approx(kmeans_dual / (2 * variance) + constant, rel=1e-10)
    assert 0 <= error < 1e-8 * abs(value)


def test_equal_covariances_reduce_to_the_kmeans_relaxation():
    X, labels = _points(4, 30, 2, 3)
    X = X - X.mean(axis=0)
    model = fit_model(X, labels, 3, Regularisation("spherical", False, 1.0, 0.0))
    variance = float(np.mean([c[0, 0] for c in model.covariances]))
    model = dataclasses.replace(
        model,
        covariances=np.stack([variance * np.eye(2)] * 3),
        factors=np.stack([np.sqrt(variance) * np.eye(2)] * 3),
        log_determinants=np.full(3, 2 * np.log(variance)),
    )
    state = LikelihoodRelaxation(X, labels, 3)
    found = state.solve(model, labels, 1e-7, 4000, lambda *_: labels, lambda: False)
    sdp = solvers.kmeans_sdp(X, 3, method="admm", tol=1e-8, rng=0)
    assert found.estimate == pytest.approx(sdp.bound / (2 * variance) + 30 * np.log(variance), rel=1e-4)


def test_tied_bound_holds_for_every_labelling_and_its_best_covariance():
    for seed in range(40):
        X, _ = _points(seed, 8, 1 + seed % 2, 2)
        X = X * 10.0 ** (seed % 9 - 4)
        result = solvers.ila_sdp(X, 2, covariance_type="tied", reg_covar=0.0, rng=0, options={"starts": ("kmeans",)})
        n, p = X.shape
        best = -np.inf
        for labels in partitions(n, 2):
            within = sum(
                (X[labels == k] - X[labels == k].mean(0)).T @ (X[labels == k] - X[labels == k].mean(0)) for k in (0, 1)
            )
            sign, log_determinant = np.linalg.slogdet(within / n)
            best = max(best, -0.5 * n * (log_determinant + p + p * np.log(2 * np.pi))) if sign > 0 else best
        assert result.bound >= best - 1e-10 * abs(best)
        assert solvers.verify(result, X, 2, covariance_type="tied", reg_covar=0.0)


@pytest.mark.parametrize(("name", "most_errors"), [("iris", 6), ("seeds", 22)])
def test_real_data_are_clustered_better_than_by_kmeans(name, most_errors):
    example = solvers.load_example(name)
    X = (example.data - example.data.mean(axis=0)) / example.data.std(axis=0)
    truth = np.unique(example.target, return_inverse=True)[1]
    result = solvers.ila_sdp(X, 3, rng=0)
    table = np.zeros((3, 3), dtype=int)
    np.add.at(table, (result.labels, truth), 1)
    assert len(X) - table.max(axis=1).sum() <= most_errors
    assert result.assignment_gap < 0.05
    assert solvers.verify(result, X, 3)
    assert (result.predict(X) == result.labels).mean() > 0.97


def test_affine_maps_do_not_change_the_clusters():
    X, _ = _points(6, 60, 2, 2)
    mapped = X @ np.array([[3.0, 1.0], [0.5, 2.0]]) * 1e3 + 1e5
    options = {"starts": ("tied",)}
    first = solvers.ila_sdp(X, 2, rng=0, options=options)
    second = solvers.ila_sdp(mapped, 2, rng=0, x0=first, options=options)
    assert len(np.unique(np.stack([first.labels, second.labels]), axis=1).T) == 2


def test_factors_of_few_columns_find_the_labels_of_the_full_relaxation():
    X, _ = _points(11, 330, 2, 3)
    options = {"starts": ("kmeans",), "assignment_tol": 1e-2}
    result = solvers.ila_sdp(X, 3, rng=0, options=options)
    full = solvers.ila_sdp(X, 3, method="relaxation", rng=0, options=options)
    assert (result.method, full.method) == ("low-rank", "relaxation")
    assert result.fun >= full.fun - 1e-3 * abs(full.fun)
    assert result.fun <= result.assignment_bound < np.inf
    assert solvers.verify(result, X, 3)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_factors_serve_every_covariance_type(covariance_type):
    X, _ = _points(12, 60, 3, 2)
    problem = {"covariance_type": covariance_type, "mixing": covariance_type == "diag"}
    result = solvers.ila_sdp(X, 2, method="low-rank", rng=0, options={"starts": ("ward",)}, **problem)
    assert np.isfinite(result.assignment_bound)
    assert solvers.verify(result, X, 2, **problem)


def test_factors_never_lose_the_labels_they_start_from():
    rng = np.random.default_rng(13)
    improved = 0
    for seed in range(6):
        X, labels = _points(seed, 50, 2, 2)
        X = X - X.mean(axis=0)
        start = np.where(rng.random(50) < 0.3, 1 - labels, labels)
        model = fit_model(X, start, 2, Regularisation("full", False, 0.2, 1e-6))
        found = low_rank_labels(X, model, start, lambda loads, _: np.argmax(loads, axis=0), rng, lambda: False)
        assert model.nll(X, found) <= model.nll(X, start)
        improved += model.nll(X, found) < model.nll(X, start)
    assert improved >= 4


def test_samples_are_lifted_to_all_rows():
    X, labels = _points(7, 900, 2, 3)
    result = solvers.ila_sdp(X, 3, rng=0, options={"starts": ("kmeans", "ward")})
    assert result.method == "subsample"
    assert result.assignment_bound == np.inf
    table = np.zeros((3, 3), dtype=int)
    np.add.at(table, (result.labels, labels), 1)
    assert table.max(axis=1).sum() > 800
    assert solvers.verify(result, X, 3)


def test_edges():
    rng = np.random.default_rng(8)
    X = np.repeat(rng.standard_normal((6, 2)), 3, axis=0)
    for n_clusters in (1, 2, 6):
        result = solvers.ila_sdp(X, n_clusters, rng=0)
        assert solvers.verify(result, X, n_clusters)
    wide = rng.standard_normal((12, 20))
    assert solvers.verify(solvers.ila_sdp(wide, 2, rng=0), wide, 2)
    constant_column = np.column_stack([X, np.ones(len(X))])
    assert solvers.verify(solvers.ila_sdp(constant_column, 2, rng=0), constant_column, 2)
    with pytest.raises(solvers.InvalidProblemError, match="singular"):
        solvers.ila_sdp(constant_column, 2, reg_covar=0.0)
    with pytest.raises(solvers.InvalidProblemError, match="two different rows"):
        solvers.ila_sdp(np.ones((5, 2)), 1)
    with pytest.raises(ValueError, match="floor"):
        solvers.ila_sdp(X, 2, floor=1.5)
    with pytest.raises(ValueError, match="did you mean 'ward'"):
        solvers.ila_sdp(X, 2, options={"starts": ("warp",)})


@pytest.mark.parametrize("method", ["relaxation", "low-rank", "subsample"])
def test_edges_of_every_method(method):
    rng = np.random.default_rng(15)
    base = rng.standard_normal((9, 2))
    line = np.outer(rng.standard_normal(12), [1.0, 2.0])
    cases = [
        ("one cluster", base, 1, {}),
        ("as many clusters as rows", base, 9, {}),
        ("one column", rng.standard_normal((14, 1)), 2, {}),
        ("far outlier", np.vstack([base, [[1e6, 0.0]]]), 2, {}),
        ("far from the origin", base + 1e8, 2, {}),
        ("singular covariances", line, 2, {}),
        ("singular covariances of each type", line, 2, {"covariance_type": "tied"}),
        ("more columns than rows", rng.standard_normal((7, 12)), 2, {"covariance_type": "diag"}),
        ("no floor", np.repeat(base[:4], 3, axis=0), 2, {"floor": 0.0}),
    ]
    for what, X, n_clusters, problem in cases:
        result = solvers.ila_sdp(
            X, n_clusters, method=method, rng=0, options={"starts": ("kmeans",), "sample_size": 8}, **problem
        )
        assert np.isfinite(result.fun), what
        assert result.fun <= result.assignment_bound, what
        assert set(np.unique(result.labels)) == set(range(n_clusters)), what
        assert solvers.verify(result, X, n_clusters, **problem), what


def test_limits_leave_labels_and_a_bound():
    X, _ = _points(16, 360, 3, 3)
    short = solvers.ila_sdp(X, 3, rng=0, time_limit=0.05)
    assert short.status is solvers.Status.TIME_LIMIT
    stopped = solvers.ila_sdp(X, 3, rng=0, callback=lambda intermediate_result: True, options={"assignment_tol": 1e-1})
    assert stopped.status is solvers.Status.CALLBACK_STOP
    for result in (short, stopped):
        assert np.isfinite(result.fun)
        assert result.fun <= result.assignment_bound
        assert solvers.verify(result, X, 3)


def test_results_survive_pickling_and_reject_tampering():
    X, _ = _points(9, 40, 2, 2)
    result = solvers.ila_sdp(X, 2, rng=0, options={"starts": ("kmeans",)})
    again = pickle.loads(pickle.dumps(result))
    assert np.array_equal(again.predict(X), result.predict(X))
    for field, value in (
        ("assignment_bound", result.fun - 1e-3),
        ("fun", result.fun + 1e-3),
        ("centers", result.centers + 1e-3),
        ("covariances", result.covariances * 1.01),
        ("weights", result.weights[::-1] + 1e-3),
    ):
        assert not solvers.verify(type(result)({**again, field: value}), X, 2)


def test_reference_model_bounds_the_labels():
    X, _ = _points(10, 18, 2, 2)
    model = solvers.reference_model("ila_sdp", X, 2)
    value = model.solve(solver="CLARABEL")
    result = solvers.ila_sdp(X, 2, rng=0, options={"starts": ("kmeans",)}, max_iter=1)
    assert np.isfinite(value)
    assert -value >= result.fun - abs(result.fun)


@pytest.mark.parametrize("covariance", [np.diag([1.0, 1e-30]), np.diag([1.0, 1e-60]), np.diag([1e-30, 1e-30])])
def test_tiny_variances_excuse_no_likelihood(covariance: np.ndarray) -> None:
    """Rounding grew with the condition of the covariances, and then any likelihood passed for theirs."""
    rng = np.random.default_rng(21)
    X = rng.normal(size=(24, 2)) + 5.0 * (np.arange(24) % 2)[:, None]
    same = np.column_stack([X[:, 0], 3.0 * (np.arange(24) % 2)])
    for points in (X, same):
        result = solvers.ila_sdp(points, 2, rng=0, options={"starts": ("kmeans",)})
        assert solvers.verify(result, points, 2).ok
        forged = copy.deepcopy(result)
        forged.update(
            covariances=np.stack([covariance] * 2),
            assignment_bound=np.inf,
            assignment_gap=np.inf,
            bound=np.inf,
            gap=np.inf,
        )
        claimed = solvers.verify(forged, points, 2).fun
        for fun in (result.fun, claimed * (1.0 - 1e-3), claimed * (1.0 + 1e-3), 0.0):
            forged.update(fun=fun, assignment_gap=np.inf)
            assert not solvers.verify(forged, points, 2).ok


def test_likelihood_of_columns_in_any_units_is_the_one_of_scaled_columns() -> None:
    rng = np.random.default_rng(22)
    X = rng.normal(size=(40, 3)) @ rng.normal(size=(3, 3)) + 4.0 * (np.arange(40) % 2)[:, None]
    units = np.array([1e-12, 1.0, 1e12])
    labels = np.arange(40) % 2
    plain, scaled = (fit_model(Y, labels, 2, Regularisation("full", False, 0.2, 0.0)) for Y in (X, X * units))
    shift = 40 * np.sum(np.log(units))
    assert scaled.nll(X * units, labels) == pytest.approx(plain.nll(X, labels) + shift, rel=1e-12)
    assert nll_error(X * units, labels, scaled) <= 1e-9


def test_covariances_below_the_rounding_of_the_data_are_refused() -> None:
    rng = np.random.default_rng(23)
    X = np.column_stack([rng.normal(size=30), 1e3 + 1e-12 * rng.normal(size=30)])
    X = np.column_stack([X, X[:, 0] + 1e-9 * rng.normal(size=30)])
    with pytest.raises(solvers.InvalidProblemError, match="reg_covar"):
        solvers.ila_sdp(X, 2, rng=0, reg_covar=0.0, options={"starts": ("kmeans",)})
    assert solvers.verify(solvers.ila_sdp(X, 2, rng=0, options={"starts": ("kmeans",)}), X, 2).ok
