"""The independent check of clustering results: objective, feasibility and bound, from the data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from clustering._bounds import evaluate, is_sound
from clustering._certify_kmeans import labelled_problem
from clustering._links import NO_LINKS, Links, as_pairs
from clustering._problem import Groups, KMeansProblem, kmeans_problem
from clustering._result import ClusteringResult, TreeCertificate
from clustering._tree_bounds import evaluate_tree, is_sound_tree
from solvers._catalogue import entry_named
from solvers._core.arrays import to_host
from solvers._core.backend import choose_backend
from solvers._core.linalg import UNIT
from solvers._core.proofs import judge, problem_arguments
from solvers._core.result import Verification

__all__ = ["verify_certify_kmeans", "verify_kmeans_sdp"]

CENTER_ACCURACY = 1e-9


def verify_kmeans_sdp(
    result: ClusteringResult,
    X: Any,
    n_clusters: int,
    *,
    sample_weight: Any = None,
    must_link: Any = None,
    cannot_link: Any = None,
) -> Verification:
    """Check a result of ``kmeans_sdp``; a run with links in its options is a claim about the problem with those links."""
    backends = entry_named("kmeans_sdp").backends
    with problem_arguments():
        backend = choose_backend("clustering", "auto", backends, X=X, sample_weight=sample_weight)
        problem = kmeans_problem(X, n_clusters, sample_weight, backend)
        links = Links(as_pairs(must_link, "must_link", problem), as_pairs(cannot_link, "cannot_link", problem))
    return _check(result, problem, links)


def verify_certify_kmeans(result: ClusteringResult, X: Any, labels: Any, *, sample_weight: Any = None) -> Verification:
    """Check a result of ``certify_kmeans``."""
    backends = entry_named("certify_kmeans").backends
    with problem_arguments():
        backend = choose_backend("clustering", "auto", backends, X=X, labels=labels, sample_weight=sample_weight)
        problem, mine = labelled_problem(X, labels, sample_weight, backend)
    if not np.array_equal(_kept(problem, to_host(result.labels)), to_host(mine)):
        return Verification(False, math.nan, -math.inf, math.inf, "infeasible: the labels are not the ones given")
    return _check(result, problem, NO_LINKS)


def _check(result: ClusteringResult, problem: KMeansProblem, links: Links) -> Verification:
    labels, centers, wrong = _read(result, problem, links)
    if wrong:
        return Verification(False, math.nan, -math.inf, math.inf, f"infeasible: {wrong}")
    groups = Groups(problem, problem.backend.take(labels))
    means = to_host(groups.means + problem.shift)
    # Centres are determined to the rounding of the data at their offset, and to a small part of the spread.
    spread = math.sqrt(problem.scatter / float(np.sum(groups.totals)))
    accuracy = CENTER_ACCURACY * spread + 16 * UNIT * float(np.max(np.abs(means)))
    if centers.shape != means.shape or not np.allclose(centers, means, rtol=0.0, atol=accuracy):
        wrong = "centers are not the means of the clusters"
    return judge(
        result,
        fun=groups.cost,
        bound=_proved(result, problem, links),
        fun_slack=2 * groups.cost_slack,
        feasible=wrong,
        scale=problem.scatter,
    )


def _read(result: ClusteringResult, problem: KMeansProblem, links: Links) -> tuple[np.ndarray, np.ndarray, str]:
    """Labels of the rows of positive weight, centres, and what is wrong with them."""
    everyone, centers = np.asarray(to_host(result.labels)), np.asarray(to_host(result.centers))
    labels = _kept(problem, everyone)
    wrong = ""
    if everyone.shape != (problem.n_rows,) or everyone.dtype.kind not in "iu":
        wrong = f"labels must be {problem.n_rows} integers"
    elif int(everyone.min()) < 0 or int(everyone.max()) >= problem.n_clusters:
        wrong = f"labels must be from 0 to {problem.n_clusters - 1}"
    elif not np.array_equal(to_host(result.x), everyone):
        wrong = "x and labels differ"
    elif len(np.unique(labels)) < problem.n_clusters:
        wrong = f"labels must use all values from 0 to {problem.n_clusters - 1}"
    elif not links.respected_by(labels):
        wrong = "labels break a link"
    elif centers.dtype.kind != "f":
        wrong = "centers must be real numbers"
    return labels, centers, wrong


def _kept(problem: KMeansProblem, labels: np.ndarray) -> np.ndarray:
    return labels[problem.kept] if problem.kept is not None and labels.shape == (problem.n_rows,) else labels


def _proved(result: ClusteringResult, problem: KMeansProblem, links: Links) -> float:
    """The bound that the certificate proves for the problem with these links; 0 where it is malformed."""
    certificate = result.certificate
    if isinstance(certificate, TreeCertificate):
        sound = is_sound_tree(problem, certificate) and _same(certificate, links)
        return evaluate_tree(problem, certificate).reestablished if sound else 0.0
    return evaluate(problem, certificate).reestablished if is_sound(problem, certificate) else 0.0


def _same(certificate: TreeCertificate, links: Links) -> bool:
    """Whether a tree divides the problem with exactly these links."""
    return set(certificate.must) == set(links.must) and set(certificate.cannot) == set(links.cannot)
