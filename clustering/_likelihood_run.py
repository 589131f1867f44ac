"""One run of likelihood clustering: rounds of covariances and labels, and what is proved at the end."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clustering._la_low_rank import low_rank_labels
from clustering._la_sdp import Assignment, LikelihoodRelaxation, Rounding
from clustering._likelihood import GaussianModel, Regularisation, fit_model, group_means, least_size, log_constant
from clustering._likelihood_bounds import (
    AssignmentCertificate,
    LikelihoodCertificate,
    TiedCertificate,
    assignment_bound,
    is_determined,
    nll_error,
    tied_bound,
    whiten,
)
from clustering._likelihood_starts import relaxed_kmeans
from clustering._mixture_result import GaussianClusteringResult, compress_covariances
from clustering._problem import KMeansProblem
from clustering._run import subordinate
from solvers._core.arrays import FloatArray, IntArray, to_host
from solvers._core.errors import InvalidProblemError
from solvers._core.monitor import Monitor
from solvers._core.options import Common

__all__ = ["LikelihoodRun"]

# Gap of the relaxations in nats per point: of the first round of a start, and of the later ones.
FIRST_TOLERANCE, LATER_TOLERANCE = 1e-2, 5e-3
ROUND_ITERATIONS, LAST_ITERATIONS = 300, 2_000
HARD_EM_ROUNDS = 100
FINAL_ROUNDS = 3
MAX_SWEEPS = 100
TIED_ITERATIONS = 500


@dataclass(frozen=True)
class _Answer:
    labels: IntArray
    model: GaussianModel


class LikelihoodRun:
    """The problem, the monitor and the best labels with their covariances."""

    def __init__(
        self, problem: KMeansProblem, common: Common, how: Regularisation, *, method: str, max_iter: int
    ) -> None:
        self.problem, self.how = problem, how
        self.points = np.ascontiguousarray(problem.host_points)
        self.n_clusters = problem.n_clusters
        self.constant = log_constant(problem.n, problem.p)
        self.assignment: AssignmentCertificate | None = None
        self.assignment_bound = math.inf
        self.tied: TiedCertificate | None = None
        self.monitor = Monitor(
            common,
            sense="max",
            scale=self.constant,
            max_iter=max_iter,
            fun_slack=0.0,
            package=self._package,
            method=method,
            backend=problem.backend.name,
        )

    def fit(self, labels: IntArray) -> GaussianModel:
        """Covariances of labels."""
        try:
            return fit_model(self.points, labels, self.n_clusters, self.how)
        except np.linalg.LinAlgError:
            raise InvalidProblemError(
                f"the pooled covariance is singular with reg_covar={self.how.ridge!r}; raise it or drop columns"
            ) from None

    def offer(self, labels: IntArray, model: GaussianModel) -> bool:
        """Offer labels with covariances; True if they are the most likely so far."""
        nll = model.nll(self.points, labels)
        better = self.monitor.x is None or -nll - self.constant > self.monitor.fun
        if better:
            error = nll_error(self.points, labels, model)
            if not is_determined(error, nll, self.points.shape):
                if self.monitor.x is not None:
                    return False
                raise InvalidProblemError(
                    f"covariances are singular to rounding with reg_covar={self.how.ridge!r} and floor={self.how.floor!r}; "
                    "raise them, or drop columns"
                )
            self.assignment, self.assignment_bound = None, math.inf
            self.monitor.fun_slack = 2.0 * error
            self.monitor.incumbent(_Answer(labels, model), -nll - self.constant)
        return better

    def open(self) -> None:
        """Any labels: a valid answer from the first moment."""
        order = np.argsort(self.points @ np.linalg.eigh(self.points.T @ self.points)[1][:, -1], kind="stable")
        labels = np.empty(self.problem.n, dtype=np.int64)
        labels[order] = np.arange(self.problem.n) * self.n_clusters // self.problem.n
        self.offer(labels, self.fit(labels))

    def refine(self, labels: IntArray, rounds: int, *, low_rank: bool = False) -> None:
        """Rounds from one start: covariances, then the relaxation of the labels, until the labels repeat.

        ``low_rank``: the relaxation by factors of a few columns, which give labels but no bound.
        """
        state = None
        seen: set[bytes] = set()
        for number in range(rounds):
            model = self.fit(labels)
            self.offer(labels, model)
            if labels.tobytes() in seen or self.n_clusters == 1 or not self.monitor.running():
                return
            seen.add(labels.tobytes())
            if low_rank:
                rounding, rng = self._rounding(model, labels), self.monitor.common.rng
                labels = low_rank_labels(self.points, model, labels, rounding, rng, self.monitor.out_of_time)
            else:
                state = state or LikelihoodRelaxation(self.points, labels, self.n_clusters)
                tolerance = FIRST_TOLERANCE if number == 0 else LATER_TOLERANCE
                labels = self._relaxed(state, model, labels, tolerance, ROUND_ITERATIONS).labels
            self.monitor.checkpoint()
        self.offer(labels, self.fit(labels))

    def refine_sample(self, labels: IntArray, size: int, rounds: int) -> None:
        """The same on a sample of the rows, lifted by the discriminant and then hard EM on all rows."""
        self.offer(labels, self.fit(labels))
        self._hard_em(labels)
        rows = np.sort(self.monitor.common.rng.choice(self.problem.n, size=size, replace=False))
        mine = labels[rows]
        if np.bincount(mine, minlength=self.n_clusters).min() < least_size(size, self.n_clusters):
            return
        common = subordinate(self.monitor, tol=self.monitor.common.tol)
        inner = LikelihoodRun(self.problem.subset(rows), common, self.how, method="relaxation", max_iter=rounds)
        if not self.monitor.running():
            return
        inner.refine(mine, rounds)
        answer: _Answer = inner.monitor.x
        centers = group_means(self.points[rows], answer.labels, self.n_clusters)
        lifted = np.argmin(answer.model.discriminants(self.points, centers), axis=1).astype(np.int64)
        self._hard_em(lifted)
        self.monitor.checkpoint()

    def bound_assignment(self, tol: float) -> None:
        """Prove a bound for the labels at the best covariances; better labels found on the way are taken."""
        if self.n_clusters == 1:
            return
        for _ in range(FINAL_ROUNDS):
            answer: _Answer = self.monitor.x
            state = LikelihoodRelaxation(self.points, answer.labels, self.n_clusters)
            found = self._relaxed(state, answer.model, answer.labels, tol, LAST_ITERATIONS)
            labels = found.labels
            certificate = AssignmentCertificate(found.y, found.multipliers.astype(np.float32))
            value, error = assignment_bound(self.points, answer.model, certificate)
            self.assignment, self.assignment_bound = certificate, -(value - 2.0 * error) - self.constant
            if np.array_equal(labels, answer.labels) or self.monitor.out_of_time():
                return
            if not self.offer(labels, self.fit(labels)):
                return

    def bound_tied(self) -> None:
        """The bound over labels and covariance together, for one covariance and two clusters."""
        if self.how.covariance_type != "tied" or self.n_clusters != 2 or self.problem.n <= self.problem.p:
            return
        whitening: FloatArray = np.asarray(np.linalg.qr(self.points, mode="r"), dtype=np.float64)
        diagonal = np.abs(np.diag(whitening))
        if not diagonal.min() > 1e-9 * diagonal.max():
            return
        problem, _, _ = whiten(self.points, self.problem.backend, whitening)
        run = relaxed_kmeans(problem, self.monitor, n_starts=5, max_iter=TIED_ITERATIONS, tol=1e-6)
        self.tied = TiedCertificate(whitening, run.monitor.certificate)
        value, error = tied_bound(self.points, self.problem.backend, self.tied)
        if math.isfinite(value):
            self.monitor.prove(-(value - 2.0 * error) - self.constant, self.tied)
        labels = to_host(run.monitor.x.labels).astype(np.int64)
        self.offer(labels, self.fit(labels))

    def _relaxed(
        self, state: LikelihoodRelaxation, model: GaussianModel, labels: IntArray, tol: float, max_iter: int
    ) -> Assignment:
        return state.solve(model, labels, tol, max_iter, self._rounding(model, labels), self.monitor.out_of_time)

    def _rounding(self, model: GaussianModel, labels: IntArray) -> Rounding:
        """Largest row sums, or the eigenvectors where covariances are tied; ``labels`` instead of tiny groups."""
        least = least_size(self.problem.n, self.n_clusters)

        def rounding(loads: FloatArray, vectors: Callable[[], FloatArray]) -> IntArray:
            if self.how.covariance_type == "tied":
                fresh = self._spectral_rounding(np.ascontiguousarray(vectors()), model)
            else:
                fresh = np.argmax(loads, axis=0).astype(np.int64)
            counts = np.bincount(fresh, minlength=self.n_clusters)
            return fresh if counts.min() >= least else labels

        return rounding

    def _spectral_rounding(self, rows: FloatArray, model: GaussianModel) -> IntArray:
        """With one covariance the Z_k are not identifiable; their sum is, and its eigenvectors cluster the rows."""
        kernels = self.problem.backend.kernels
        order = [int(np.argmax(np.sum(rows * rows, axis=1)))]
        for _ in range(self.n_clusters - 1):
            distance = np.min([np.sum((rows - rows[i]) ** 2, axis=1) for i in order], axis=0)
            order.append(int(np.argmax(distance)))
        labels = kernels.assign(rows, np.ascontiguousarray(rows[order]))
        if len(np.unique(labels)) < self.n_clusters:
            return np.zeros(self.problem.n, dtype=np.int64)
        white = model.whitened(self.points, 0)
        for _ in range(MAX_SWEEPS):
            labels, moved = kernels.improve_labels(white, self.problem.weights, labels, self.n_clusters)
            if moved == 0:
                break
        return np.asarray(labels, dtype=np.int64)

    def _hard_em(self, labels: IntArray) -> None:
        """Alternate covariances and the discriminant on all rows while the likelihood rises."""
        least = least_size(self.problem.n, self.n_clusters)
        before = math.inf
        for _ in range(HARD_EM_ROUNDS):
            if np.bincount(labels, minlength=self.n_clusters).min() < least:
                return
            model = self.fit(labels)
            value = model.nll(self.points, labels)
            if value >= before or self.monitor.out_of_time():
                return
            before = value
            self.offer(labels, model)
            centers = group_means(self.points, labels, self.n_clusters)
            labels = np.argmin(model.discriminants(self.points, centers), axis=1).astype(np.int64)

    def _package(self, monitor: Monitor) -> GaussianClusteringResult:
        answer: _Answer = monitor.x
        counts = np.bincount(answer.labels, minlength=self.n_clusters)
        labels = answer.labels.copy()
        fun = float(monitor.fun)
        bound = max(self.assignment_bound, fun)
        own = {
            "x": labels,
            "labels": labels,
            "centers": group_means(self.points, labels, self.n_clusters) + to_host(self.problem.shift),
            "covariances": compress_covariances(answer.model.covariances, self.how.covariance_type),
            "weights": counts / self.problem.n,
            "mixing": self.how.mixing,
            "covariance_type": self.how.covariance_type,
            "assignment_bound": float(bound),
            "assignment_gap": float((bound - fun) / self.problem.n),
            "certificate": LikelihoodCertificate(self.assignment, self.tied),
        }
        return GaussianClusteringResult(**(monitor.fields() | own))
