"""The independent check of clustering results: objective, feasibility and bound, from the data."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from clustering._bounds import evaluate, is_sound
from clustering._certify_kmeans import labelled_problem
from clustering._links import Links
from clustering._problem import Groups, KMeansProblem, kmeans_problem
from clustering._result import ClusteringResult, TreeCertificate
from clustering._tree_bounds import evaluate_tree, is_sound_tree
from solvers._catalogue import entry_named
from solvers._core.arrays import to_host
from solvers._core.backend import choose_backend
from solvers._core.proofs import judge
from solvers._core.result import Verification

__all__ = ["verify_certify_kmeans", "verify_kmeans_sdp"]


def verify_kmeans_sdp(result: ClusteringResult, X: Any, n_clusters: int, *, sample_weight: Any = None) -> Verification:
    """Check a result of ``kmeans_sdp``."""
    backend = choose_backend("clustering", "auto", entry_named("kmeans_sdp").backends, X=X, sample_weight=sample_weight)
    return _check(result, kmeans_problem(X, n_clusters, sample_weight, backend))


def verify_certify_kmeans(result: ClusteringResult, X: Any, labels: Any, *, sample_weight: Any = None) -> Verification:
    """Check a result of ``certify_kmeans``."""
    backend = choose_backend(
        "clustering", "auto", entry_named("certify_kmeans").backends, X=X, labels=labels, sample_weight=sample_weight
    )
    problem, mine = labelled_problem(X, labels, sample_weight, backend)
    if not np.array_equal(_labels_of(result, problem), to_host(mine)):
        return Verification(False, math.nan, -math.inf, math.inf, "infeasible: the labels are not the ones given")
    return _check(result, problem)


def _check(result: ClusteringResult, problem: KMeansProblem) -> Verification:
    labels = _labels_of(result, problem)
    wrong = _wrong_labels(labels, result, problem)
    if wrong:
        return Verification(False, math.nan, -math.inf, math.inf, f"infeasible: {wrong}")
    groups = Groups(problem, problem.backend.take(labels))
    centers = to_host(result.centers)
    means = to_host(groups.means + problem.shift)
    size = float(np.max(np.abs(means), initial=0.0)) + math.sqrt(problem.scatter)
    if centers.shape != means.shape or not np.allclose(centers, means, rtol=0.0, atol=1e-9 * size):
        wrong = "centers are not the means of the clusters"
    verification = judge(
        result,
        fun=groups.cost,
        bound=_proved(result, problem),
        fun_slack=2 * groups.cost_slack,
        feasible=wrong,
        scale=problem.scatter,
    )
    certificate = result.certificate
    if verification and isinstance(certificate, TreeCertificate) and (certificate.must or certificate.cannot):
        message = f"{verification.message}, among the clusterings that respect the certificate's links"
        return replace(verification, message=message)
    return verification


def _labels_of(result: ClusteringResult, problem: KMeansProblem) -> np.ndarray:
    labels = np.asarray(to_host(result.labels))
    return labels[problem.kept] if problem.kept is not None and labels.shape == (problem.n_rows,) else labels


def _wrong_labels(labels: np.ndarray, result: ClusteringResult, problem: KMeansProblem) -> str:
    if labels.shape != (problem.n,) or labels.dtype.kind not in "iu":
        return f"labels must be {problem.n} integers"
    if not np.array_equal(to_host(result.x), to_host(result.labels)):
        return "x and labels differ"
    if not np.array_equal(np.unique(labels), np.arange(problem.n_clusters)):
        return f"labels must use exactly the values 0 to {problem.n_clusters - 1}"
    certificate = result.certificate
    if isinstance(certificate, TreeCertificate) and is_sound_tree(problem, certificate):
        return "" if Links(certificate.must, certificate.cannot).respected_by(labels) else "labels break a link"
    return ""


def _proved(result: ClusteringResult, problem: KMeansProblem) -> float:
    """The bound that the certificate proves, 0 (costs are non-negative) where it is malformed."""
    certificate = result.certificate
    if isinstance(certificate, TreeCertificate):
        return evaluate_tree(problem, certificate).reestablished if is_sound_tree(problem, certificate) else 0.0
    return evaluate(problem, certificate).reestablished if is_sound(problem, certificate) else 0.0
