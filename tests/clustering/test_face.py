"""Where a clustering solves the relaxation, its multiplier is found on the face of that clustering in a few iterations."""

from __future__ import annotations

import array_api_strict
import numpy as np
import pytest
from brute_force import best_cost

import solvers
from clustering import _kernels_array, _kernels_numba
from clustering._face import may_be_tight
from clustering._problem import Groups, kmeans_problem
from solvers import Status
from solvers._core.backend import choose_backend


def blobs(seed: int, n: int, p: int, n_clusters: int, distance: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_clusters
    return distance * np.eye(n_clusters, p)[labels] + rng.standard_normal((n, p)), labels


def groups_of(X: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> Groups:
    backend = choose_backend("clustering", "array", ("array",), X=X)
    return Groups(kmeans_problem(X, int(labels.max()) + 1, weights, backend), labels)


# Points (seed, n, p, distance of three groups) whose structured bound leaves a gap though the relaxation is tight.
TIGHT = [(2, 60, 4, 4.0), (0, 150, 6, 4.3)]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("seed", "n", "p", "distance"), TIGHT)
def test_tight_relaxations_are_finished_in_a_few_iterations(seed, n, p, distance, weighted) -> None:
    X, labels = blobs(seed, n, p, 3, distance)
    weights = np.random.default_rng(seed).uniform(0.5, 2.0, n) if weighted else None
    assert may_be_tight(groups_of(X, labels, weights)) > 0
    structured = solvers.certify_kmeans(X, labels, sample_weight=weights, method="structured", tol=1e-8)
    assert structured.gap > 1e-4
    result = solvers.certify_kmeans(X, labels, sample_weight=weights, method="admm", tol=1e-8)
    assert result.status is Status.OPTIMAL
    assert result.nit - structured.nit <= 30
    assert result.sdp_gap <= 1e-8
    assert solvers.verify(result, X, labels, sample_weight=weights)


def test_the_finish_runs_where_the_data_live() -> None:
    X, labels = blobs(2, 60, 4, 3, 4.0)
    assert may_be_tight(groups_of(X, labels)) > 0
    device = array_api_strict.Device("device1")
    there, given = array_api_strict.asarray(X, device=device), array_api_strict.asarray(labels, device=device)
    structured = solvers.certify_kmeans(there, given, method="structured", tol=1e-9)
    assert structured.gap > 1e-4
    result = solvers.certify_kmeans(there, given, method="admm", tol=1e-9)
    assert result.status is Status.OPTIMAL
    assert result.nit - structured.nit <= 30
    assert solvers.verify(result, there, given)


def test_what_float64_can_prove_ends_the_run() -> None:
    X, _ = blobs(1, 150, 6, 3, 4.5)
    result = solvers.kmeans_sdp(X, 3, method="admm", tol=0.0, rng=0)
    assert result.status is Status.CONVERGED
    assert result.gap < 1e-10
    assert result.nit < 100


def test_labels_without_a_face_are_not_the_relaxations_solution() -> None:
    """t_max below a cluster's largest scatter means that the relaxation's value is below the cost."""
    loose = 0
    for seed in range(30):
        rng = np.random.default_rng([seed, 77])
        X = rng.normal(size=(10, 2)) + 3.0 * rng.integers(0, 2, size=(10, 1))
        labels = np.asarray(solvers.kmeans_sdp(X, 2, method="structured", rng=seed).labels)
        if may_be_tight(groups_of(X, labels)) == 0.0:
            value = solvers.reference_model("kmeans_sdp", X, 2).solve(solver="CLARABEL")
            assert value < best_cost(X, 2) * (1 - 1e-6)
            loose += 1
    assert 0 < loose < 30


@pytest.mark.kernels
def test_steps_agree_and_keep_the_parts_apart() -> None:
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 3, 20)
    state, affinity, change = (0.5 * (M + M.T) for M in rng.standard_normal((3, 20, 20)))
    ours = _kernels_array.face_step(change.copy(), state, affinity, labels)
    compiled = _kernels_numba.face_step(change.copy(), state, affinity, labels)
    for a, b in zip(ours, compiled, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)
    same = labels[:, None] == labels
    kept = _kernels_array.face_multiplier(state, labels)
    assert np.array_equal(kept, _kernels_numba.face_multiplier(state, labels))
    assert (kept >= 0).all()
    assert not kept[same].any()
    # The reflection of T at max(T, 0) off the blocks and at 0 on them.
    new = ours[0]
    np.testing.assert_allclose(ours[1] - affinity, 2 * _kernels_array.face_multiplier(new, labels) - new, atol=1e-13)
