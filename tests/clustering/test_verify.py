"""``verify`` answers no to whatever a result claims falsely, and never crashes on what it holds."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import solvers
from clustering import BlocksCertificate, MultiplierCertificate, StructuredCertificate
from clustering._bounds import is_sound
from clustering._problem import kmeans_problem
from solvers import Status
from solvers._core.backend import choose_backend

X = np.repeat([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]], 3, axis=0) + 0.1 * np.random.default_rng(41).normal(size=(9, 2))
LABELS = np.repeat([0, 1, 2], 3)


def honest() -> Any:
    return solvers.certify_kmeans(X, LABELS, tol=1e-9)


def poor() -> Any:
    return solvers.certify_kmeans(X, np.tile([0, 1, 2], 3))


def rejected(result: Any, **changes: Any) -> bool:
    forged = copy.deepcopy(result)
    forged.update(changes)
    given = np.tile([0, 1, 2], 3) if np.array_equal(result.labels, np.tile([0, 1, 2], 3)) else LABELS
    return not solvers.verify(forged, X, given).ok


def test_the_honest_result_is_accepted() -> None:
    assert solvers.verify(honest(), X, LABELS).ok
    assert solvers.verify(poor(), X, np.tile([0, 1, 2], 3)).ok


def test_complex_scales_forge_no_bound() -> None:
    scales = np.random.default_rng(3).normal(size=(3, 3)) * 1j + 3.0
    certificate = StructuredCertificate(LABELS, scales)
    result = poor()
    assert rejected(result, certificate=certificate, bound=0.5 * result.fun)


def test_sense_is_not_the_results_to_choose() -> None:
    result = poor()
    assert rejected(result, sense="max", bound=1e9, gap=(1e9 - result.fun) / 1e9)
    assert rejected(result, sense="foo", bound=result.fun, gap=0.0)


def test_status_must_follow_from_the_gap() -> None:
    assert rejected(poor(), status=Status.OPTIMAL, success=True)
    assert rejected(poor(), status=Status.INFEASIBLE, success=False)


@pytest.mark.parametrize("field", ["fun", "bound", "gap", "status", "success", "x", "labels", "centers", "sense"])
@pytest.mark.parametrize("value", [None, "high", 1j, [[1], [2, 3]], 10**400, np.array([1.0])], ids=str)
def test_unreadable_fields_are_refused_not_raised(field: str, value: Any) -> None:
    assert rejected(poor(), **{field: value})


@pytest.mark.parametrize("field", ["fun", "bound", "gap", "x", "status", "labels", "certificate", "tol"])
def test_missing_fields_are_refused(field: str) -> None:
    forged = copy.deepcopy(honest())
    del forged[field]
    assert not solvers.verify(forged, X, LABELS).ok


@pytest.mark.parametrize(
    "certificate",
    [
        None,
        "proof",
        StructuredCertificate(LABELS, np.full((3, 3), -1e308)),
        StructuredCertificate(LABELS, np.full((3, 3), "a")),
        StructuredCertificate([[0], [1, 2]], np.ones((3, 3))),  # type: ignore[arg-type]
        MultiplierCertificate(np.full((9, 9), 1e308)),
        MultiplierCertificate(np.full((9, 9), 1j)),  # type: ignore[arg-type]
        MultiplierCertificate([[1.0], [2.0, 3.0]]),  # type: ignore[arg-type]
        MultiplierCertificate(np.full((9, 9), None)),
        BlocksCertificate((), ()),
        BlocksCertificate((3, 4), (None, None)),  # type: ignore[arg-type]
        BlocksCertificate(None, None),  # type: ignore[arg-type]
    ],
    ids=range(12),
)
def test_absurd_certificates_prove_nothing(certificate: Any) -> None:
    with np.errstate(all="ignore"):
        assert rejected(honest(), certificate=certificate)


@pytest.mark.parametrize(
    ("cuts", "multipliers"),
    [
        ([[0, int(LABELS[0])]], [1.0]),
        ([[9, 0]], [1.0]),
        ([[-1, 0]], [1.0]),
        ([[0, 3]], [1.0]),
        ([[0, 1]], [-1.0]),
        ([[0, 1]], [np.nan]),
        ([[0, 1]], [1.0, 2.0]),
        ([0, 1], [1.0]),
        ([[0.0, 1.0]], [1.0]),
        ([[0, 1]] * 501, [1.0] * 501),
    ],
)
def test_cuts_that_are_none_prove_nothing(cuts: Any, multipliers: Any) -> None:
    result = honest()
    certificate = StructuredCertificate(LABELS, np.full((3, 3), 1e-3), np.array(cuts), np.array(multipliers))
    assert rejected(result, certificate=certificate)
    sound = StructuredCertificate(LABELS, np.full((3, 3), 1e-3), np.array([[0, 1]]), np.ones(1))
    assert is_sound(kmeans_problem(X, 3, None, choose_backend("clustering", "array", ("array",))), sound)


def test_heavy_weights_do_not_hide_wrong_centres() -> None:
    weights = np.full(9, 1e24)
    result = solvers.certify_kmeans(X, LABELS, sample_weight=weights)
    forged = copy.deepcopy(result)
    forged["centers"] = forged["centers"] + 1e-3
    assert solvers.verify(result, X, LABELS, sample_weight=weights).ok
    assert not solvers.verify(forged, X, LABELS, sample_weight=weights).ok


def test_labels_of_weightless_rows_are_checked_too() -> None:
    weights = np.ones(9)
    weights[0] = 0.0
    result = solvers.kmeans_sdp(X, 2, sample_weight=weights, rng=3)
    forged = copy.deepcopy(result)
    forged["labels"] = forged["x"] = np.where(np.arange(9) == 0, 99, result.labels)
    assert solvers.verify(result, X, 2, sample_weight=weights).ok
    assert not solvers.verify(forged, X, 2, sample_weight=weights).ok


@pytest.mark.parametrize("seed", range(40))
def test_honest_results_of_noise_are_always_accepted(seed: int) -> None:
    """The opening bound and its verification go different ways; the slack covers both."""
    rng = np.random.default_rng([seed, 8])
    n, p, k = int(rng.integers(5, 70)), int(rng.integers(1, 14)), int(rng.integers(1, 4))
    noise = rng.normal(size=(n, p))
    assert solvers.verify(
        solvers.kmeans_sdp(noise, k, method="structured", rng=seed, options={"n_starts": 1}), noise, k
    ).ok
    labels = rng.permutation(np.arange(n) % k)
    assert solvers.verify(solvers.certify_kmeans(noise, labels, method="structured"), noise, labels).ok


def test_blocks_of_data_with_a_far_outlier_stay_below_the_optimum() -> None:
    rng = np.random.default_rng(52)
    data = 0.5 + 0.01 * rng.choice([-1.0, 1.0], size=(41, 10))
    data[0] = 1.5 * 41 * 2.0**52
    result = solvers.kmeans_sdp(data, 2, rng=0, tol=0.0, method="blocks", options={"block_size": 20})
    rest = data[1:]
    alone = float(np.sum((rest - rest.mean(axis=0)) ** 2))
    assert result.bound <= alone


def test_one_dominating_weight_is_no_trouble() -> None:
    weights = np.ones(300)
    weights[0] = 1e19
    data = np.random.default_rng(6).normal(size=(300, 2))
    for backend in ("numba", "array"):
        result = solvers.kmeans_sdp(data, 2, sample_weight=weights, method="structured", backend=backend, rng=1)
        assert solvers.verify(result, data, 2, sample_weight=weights).ok


def test_magnitudes_that_would_not_fit_are_refused() -> None:
    for scale in (1e76, 1e-76):
        with pytest.raises(solvers.InvalidProblemError, match="rescale the data"):
            solvers.kmeans_sdp(X * scale, 3)
    with pytest.raises(solvers.InvalidProblemError, match="rescale the weights"):
        solvers.kmeans_sdp(X, 3, sample_weight=np.full(9, 1e-160))


def test_integers_beyond_float64_are_announced() -> None:
    with pytest.warns(solvers.PrecisionWarning, match="int64 values were rounded"):
        solvers.kmeans_sdp(2**53 + np.arange(6)[:, None], 1)
