"""The independent check of ``ila_sdp``: likelihood, means, and both bounds, from the data and the returned covariances."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from clustering._ila_sdp import likelihood_problem, regularisation
from clustering._likelihood import GaussianModel, group_means, log_constant
from clustering._likelihood_bounds import (
    AssignmentCertificate,
    LikelihoodCertificate,
    assignment_bound,
    is_determined,
    nll_error,
    tied_bound,
)
from clustering._mixture_result import GaussianClusteringResult, model_of
from clustering._problem import KMeansProblem
from solvers._core.arrays import FloatArray, to_host
from solvers._core.proofs import judge, problem_arguments
from solvers._core.result import Verification

__all__ = ["verify_ila_sdp"]

SHAPES = {"full": "kpp", "tied": "pp", "diag": "kp", "spherical": "k"}


def verify_ila_sdp(
    result: GaussianClusteringResult,
    X: Any,
    n_clusters: int,
    *,
    covariance_type: str = "full",
    mixing: bool = False,
    floor: float = 0.2,
    reg_covar: float = 1e-6,
) -> Verification:
    """Check a result of ``ila_sdp``; ``floor`` and ``reg_covar`` shape the answer, not what is claimed of it."""
    with problem_arguments():
        how = regularisation(covariance_type, mixing, floor, reg_covar)
        problem = likelihood_problem(X, n_clusters)
    points = np.ascontiguousarray(problem.host_points)
    wrong = _wrong_answer(result, problem, covariance_type, mixing)
    if wrong:
        return Verification(False, math.nan, math.inf, math.inf, f"infeasible: {wrong}")
    try:
        model = model_of(result)
    except np.linalg.LinAlgError:
        return Verification(False, math.nan, math.inf, math.inf, "infeasible: a covariance is not positive definite")
    labels = np.asarray(result.labels, dtype=np.int64)
    constant = log_constant(problem.n, problem.p)
    nll, error = model.nll(points, labels), nll_error(points, labels, model)
    fun, slack = -nll - constant, 2.0 * error
    if not is_determined(error, nll, points.shape):
        return Verification(False, fun, math.inf, math.inf, "infeasible: covariances are singular to rounding")
    wrong = _wrong_parameters(result, problem, points, labels)
    certificate = result.certificate
    if not wrong and not _assignment_holds(result, points, model, certificate, constant):
        wrong = "assignment_bound could not be re-established"
    follows = (result.assignment_bound - result.fun) / problem.n
    if not wrong and not math.isclose(result.assignment_gap, follows, rel_tol=1e-9):
        wrong = f"assignment_gap is {result.assignment_gap!r} and follows as {follows!r} from assignment_bound and fun"
    bound = math.inf
    tied = certificate.tied if isinstance(certificate, LikelihoodCertificate) else None
    if tied is not None and how.covariance_type == "tied" and problem.n_clusters == 2:
        value, error = tied_bound(points, problem.backend, tied)
        bound = -(value - error) - constant
    return judge(result, fun=fun, bound=bound, fun_slack=slack, feasible=wrong, scale=constant)


def _wrong_answer(result: GaussianClusteringResult, problem: KMeansProblem, covariance_type: str, mixing: bool) -> str:
    labels, k, p = np.asarray(result.labels), problem.n_clusters, problem.p
    if labels.shape != (problem.n,) or labels.dtype.kind not in "iu":
        return f"labels must be {problem.n} integers"
    if not np.array_equal(np.asarray(result.x), labels):
        return "x and labels differ"
    if not np.array_equal(np.unique(labels), np.arange(k)):
        return f"labels must use exactly the values 0 to {k - 1}"
    if result.covariance_type != covariance_type or bool(result.mixing) is not bool(mixing):
        return "the result is of another covariance_type or mixing"
    shape = tuple({"k": k, "p": p}[letter] for letter in SHAPES[covariance_type])
    covariances = np.asarray(result.covariances)
    if covariances.shape != shape or not np.isfinite(covariances).all():
        return f"covariances must be finite and of shape {shape}"
    if np.asarray(result.centers).shape != (k, p) or np.asarray(result.weights).shape != (k,):
        return "centers or weights have the wrong shape"
    return ""


def _wrong_parameters(
    result: GaussianClusteringResult, problem: KMeansProblem, points: FloatArray, labels: np.ndarray
) -> str:
    shift = to_host(problem.shift)
    means = group_means(points, labels, problem.n_clusters) + shift
    size = float(np.max(np.abs(means), initial=0.0)) + math.sqrt(problem.scatter)
    if not np.allclose(result.centers, means, rtol=0.0, atol=1e-9 * size):
        return "centers are not the means of the clusters"
    shares = np.bincount(labels, minlength=problem.n_clusters) / problem.n
    return "" if np.allclose(result.weights, shares, rtol=0.0, atol=1e-12) else "weights are not the shares"


def _assignment_holds(
    result: GaussianClusteringResult,
    points: FloatArray,
    model: GaussianModel,
    certificate: object,
    constant: float,
) -> bool:
    claimed = float(result.assignment_bound)
    if claimed == math.inf:
        return True
    proof = certificate.assignment if isinstance(certificate, LikelihoodCertificate) else None
    n, k = len(points), model.n_clusters
    if not isinstance(proof, AssignmentCertificate) or np.asarray(proof.y).shape != (n,):
        return False
    multipliers = np.asarray(proof.multipliers)
    if multipliers.shape != (k, n, n) or not (np.isfinite(multipliers).all() and np.isfinite(proof.y).all()):
        return False
    value, error = assignment_bound(points, model, proof)
    return claimed >= -(value - error) - constant
