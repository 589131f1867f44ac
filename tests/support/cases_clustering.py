"""The clustering entries for the conformance suite."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from brute_force import best_cost, cost_of
from cases import Bad, Case

from clustering import MultiplierCertificate, StructuredCertificate
from solvers import InvalidProblemError


def points() -> np.ndarray:
    """Nine points of the plane with a loose relaxation for K = 3."""
    rng = np.random.default_rng(90210)
    return np.round(rng.normal(size=(9, 2)) + 2.0 * rng.integers(0, 2, size=(9, 1)), 3)


def many_points() -> np.ndarray:
    """Overlapping clusters: nothing closes the gap at once."""
    rng = np.random.default_rng(31337)
    return rng.normal(size=(120, 3)) + 1.5 * rng.integers(0, 3, size=(120, 1))


def corners() -> np.ndarray:
    """Nine points near three corners, three each: the labels by corner are optimal and almost provably so."""
    rng = np.random.default_rng(60601)
    return np.round(np.repeat([[0.0, 0.0], [4.0, 0.0], [0.0, 5.0]], 3, axis=0) + rng.normal(size=(9, 2)), 3)


def labels() -> np.ndarray:
    return np.repeat([0, 1, 2], 3)


def forged_certificates(result: Any) -> Iterator[tuple[str, Any]]:
    """Results whose certificate does not carry their bound any more."""
    certificate = result.certificate
    if result.bound <= 1e-6 * result.scale:
        return
    forgeries: dict[str, Any] = {"missing": None}
    if isinstance(certificate, StructuredCertificate):
        forgeries["scales too large"] = dataclasses.replace(certificate, scales=1e3 * certificate.scales)
        forgeries["scales with NaN"] = dataclasses.replace(certificate, scales=certificate.scales * np.nan)
        forgeries["labels rotated"] = dataclasses.replace(certificate, labels=np.roll(certificate.labels, 1))
        forgeries["labels too short"] = dataclasses.replace(certificate, labels=certificate.labels[1:])
    if isinstance(certificate, MultiplierCertificate):
        forgeries["multiplier halved"] = dataclasses.replace(certificate, multiplier=0.5 * certificate.multiplier)
        forgeries["multiplier zero"] = dataclasses.replace(certificate, multiplier=0.0 * certificate.multiplier)
        forgeries["multiplier of wrong shape"] = dataclasses.replace(certificate, multiplier=certificate.multiplier[1:])
    for what, forged in forgeries.items():
        copied = copy.deepcopy(result)
        copied["certificate"] = forged
        yield what, copied
    swapped = copy.deepcopy(result)
    swapped["labels"] = np.roll(swapped["labels"], 1)
    yield "labels not x", swapped
    swapped = copy.deepcopy(result)
    swapped["centers"] = swapped["centers"] + 0.1
    yield "centers moved", swapped


def kmeans_objective(result: Any, X: Any, *_: Any) -> float:
    return cost_of(np.asarray(X, dtype=float), np.asarray(result.labels))


def likelihood_objective(result: Any, X: Any, *_: Any) -> float:
    """Log-likelihood from its definition, by the log density of each cluster's points."""
    X = np.asarray(X, dtype=float)
    total = 0.0
    for k, covariance in enumerate(result.covariances):
        mine = X[result.labels == k] - X[result.labels == k].mean(axis=0)
        total -= 0.5 * len(mine) * np.linalg.slogdet(2.0 * np.pi * covariance)[1]
        total -= 0.5 * float(np.sum(mine.T * np.linalg.solve(covariance, mine.T)))
    return total


def forged_likelihoods(result: Any) -> Iterator[tuple[str, Any]]:
    """Results whose parameters or assignment bound are not what they claim."""
    for field, value in (
        ("centers", result.centers + 0.1),
        ("covariances", 1.1 * result.covariances),
        ("weights", result.weights[::-1] + 0.1),
        ("labels", np.roll(result.labels, 1)),
    ):
        forged = copy.deepcopy(result)
        forged[field] = value
        yield field, forged
    if np.isfinite(result.assignment_bound):
        forged = copy.deepcopy(result)
        forged["assignment_bound"] = result.fun - 0.1
        yield "assignment bound below the likelihood", forged
        forged = copy.deepcopy(result)
        proof = result.certificate.assignment
        forged["certificate"] = dataclasses.replace(
            result.certificate, assignment=dataclasses.replace(proof, y=proof.y + 1.0)
        )
        yield "multiplier moved", forged


CASES = (
    Case(
        entry="kmeans_sdp",
        problem=lambda: (points(), 3),
        loose=lambda: (many_points(), 3),
        methods=("auto", "structured", "admm", "low-rank", "blocks", "exact"),
        objective=kmeans_objective,
        optimum=best_cost,
        tampered=forged_certificates,
        bad=(
            Bad("no cluster", (points(), 0), {}, ValueError, "n_clusters must be an integer >= 1; got 0"),
            Bad("more clusters than points", (points(), 10), {}, InvalidProblemError, "distinct rows.*9; got 10"),
            Bad("few distinct rows", (np.ones((5, 2)), 2), {}, InvalidProblemError, "distinct rows"),
            Bad("fractional K", (points(), 2.5), {}, TypeError, "n_clusters must be an integer"),
            Bad("boolean K", (points(), True), {}, TypeError, "n_clusters"),
            Bad("negative weight", (points(), 2), {"sample_weight": -np.ones(9)}, InvalidProblemError, "non-negative"),
            Bad("zero weights", (points(), 2), {"sample_weight": np.zeros(9)}, InvalidProblemError, "positive entry"),
            Bad(
                "short weights", (points(), 2), {"sample_weight": np.ones(8)}, InvalidProblemError, "one entry per row"
            ),
            Bad(
                "NaN weight", (points(), 2), {"sample_weight": np.full(9, np.nan)}, InvalidProblemError, "sample_weight"
            ),
            Bad("overflow", (points() * 1e200, 2), {}, InvalidProblemError, "rescale"),
            Bad("x0 of wrong length", (points(), 2), {"x0": np.zeros(4, dtype=int)}, InvalidProblemError, "x0"),
            Bad("x0 label too large", (points(), 2), {"x0": np.full(9, 5)}, InvalidProblemError, "below n_clusters"),
            Bad("x0 of wrong shape", (points(), 2), {"x0": np.zeros((3, 2))}, InvalidProblemError, "x0"),
            Bad("no start", (points(), 2), {"options": {"n_starts": 0}}, ValueError, "n_starts"),
            Bad("misspelt option", (points(), 2), {"options": {"n_start": 3}}, TypeError, "did you mean 'n_starts'"),
        ),
    ),
    Case(
        entry="certify_kmeans",
        problem=lambda: (corners(), labels()),
        loose=lambda: (many_points(), np.arange(120) % 3),
        methods=("auto", "structured", "admm", "blocks"),
        array_arguments=(0, 1),
        objective=kmeans_objective,
        optimum=lambda X, given: best_cost(X, len(np.unique(given))),
        tampered=forged_certificates,
        warm_start=False,
        bad=(
            Bad("short labels", (points(), labels()[1:]), {}, InvalidProblemError, "labels must be 9"),
            Bad("empty cluster", (points(), 2 * labels()), {}, InvalidProblemError, "cluster 1 is empty"),
            Bad("negative label", (points(), labels() - 1), {}, InvalidProblemError, "non-negative"),
            Bad("fractional label", (points(), labels() + 0.5), {}, InvalidProblemError, "not integers"),
            Bad(
                "weightless cluster",
                (points(), labels()),
                {"sample_weight": 1.0 * (labels() > 0)},
                InvalidProblemError,
                "cluster 0",
            ),
        ),
    ),
    Case(
        entry="ila_sdp",
        problem=lambda: (many_points()[:24], 2),
        loose=lambda: (many_points(), 3),
        methods=("auto", "relaxation", "low-rank", "subsample"),
        objective=likelihood_objective,
        keywords={"options": {"starts": ("kmeans", "ward")}},
        tampered=forged_likelihoods,
        tolerance=1e-8,
        bad=(
            Bad("no cluster", (points(), 0), {}, ValueError, "n_clusters must be an integer >= 1; got 0"),
            Bad("more clusters than points", (points(), 10), {}, InvalidProblemError, "distinct rows"),
            Bad("constant data", (np.ones((5, 2)), 1), {}, InvalidProblemError, "two different rows"),
            Bad("unknown covariance", (points(), 2), {"covariance_type": "ful"}, ValueError, "did you mean 'full'"),
            Bad("mixing as a number", (points(), 2), {"mixing": 1}, TypeError, "mixing must be True or False"),
            Bad("floor above one", (points(), 2), {"floor": 2.0}, ValueError, "from 0 to 1"),
            Bad("negative ridge", (points(), 2), {"reg_covar": -1.0}, ValueError, "reg_covar"),
            Bad("x0 label too large", (points(), 2), {"x0": np.full(9, 5)}, InvalidProblemError, "below n_clusters"),
        ),
    ),
)
