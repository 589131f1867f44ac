"""One run of a clustering method: the problem, the monitor, and how labels become answers."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from clustering._bounds import evaluate, is_sound, lower_bound
from clustering._incumbent import descend, fill_empty, seeded_labels
from clustering._problem import Groups, KMeansProblem
from clustering._result import ClusteringResult, LineCertificate, MultiplierCertificate
from clustering._structured import Trial, certify, scale_trials
from solvers._core.arrays import Array, FloatArray, to_host
from solvers._core.linalg import UNIT
from solvers._core.monitor import Monitor
from solvers._core.options import Common
from solvers._core.random import sklearn_seed

__all__ = ["Run", "subordinate"]

MAX_SWEEPS = 300


class Run:
    """State that the phases of a method share.

    Attributes
    ----------
    problem : KMeansProblem
    monitor : Monitor
        Its ``x`` is the best labelling as :class:`Groups`.
    fixed_labels : bool
        Whether the labels are given and only their bound is sought.
    agreeing : int
        Labellings offered that cost as little as the best one.
    sdp_gap : float
        Relative gap of the relaxation, inf while none was solved.
    scales : (K, K) array or None
        Scales of the structured multiplier of the labels certified last.
    first_multiplier : (n, n) array or None
        Multiplier of an earlier result that the relaxation may start from.
    """

    def __init__(
        self, problem: KMeansProblem, common: Common, *, method: str, max_iter: int, fixed_labels: bool = False
    ) -> None:
        self.problem = problem
        self.fixed_labels = fixed_labels
        self.agreeing = 0
        self.sdp_gap = math.inf
        self.scales: FloatArray | None = None
        self.first_multiplier: FloatArray | None = None
        self.monitor = Monitor(
            common,
            sense="min",
            scale=problem.scatter,
            max_iter=max_iter,
            fun_slack=192 * UNIT * (problem.p + 16) * problem.scatter,
            package=self._package,
            method=method,
            backend=problem.backend.name,
        )
        self._phase_began = 0

    def begin_phase(self, method: str, max_iter: int) -> None:
        """Name the method that now runs; its iterations, at most ``max_iter`` by default, count from here."""
        self.monitor.method = method
        if self.monitor.common.max_iter is None:
            self.monitor.max_iter = self.monitor.nit + max_iter
        self._phase_began = self.monitor.nit

    @property
    def iterations_since_start(self) -> int:
        """Iterations of the current phase."""
        return self.monitor.nit - self._phase_began

    def open(self, labels: Array) -> None:
        """Something valid from the first moment: any labels and the principal-component bound."""
        self.offer(labels)
        bound, certificate = lower_bound(self.problem)
        self.monitor.prove(bound.published, certificate)

    def start_from(self, x0: object) -> None:
        """Remember the multiplier of an earlier result, if it has one of the right size."""
        certificate = getattr(x0, "certificate", None)
        if isinstance(certificate, MultiplierCertificate) and is_sound(self.problem, certificate):
            self.first_multiplier = certificate.multiplier

    def starts(self, n_starts: int) -> Iterator[Array]:
        """Seeded labels, drawn one start at a time."""
        return seeded_labels(self.problem, self.monitor.common.rng, n_starts)

    def descend(self, labels: Array) -> Array:
        """Labels at a local optimum of single moves, time permitting."""
        return descend(self.problem, labels, self.monitor.out_of_time, MAX_SWEEPS)

    def offer(self, labels: Array) -> bool:
        """Offer labels as the answer; True if they are the best so far (never where the labels are the question)."""
        if self.fixed_labels and self.monitor.x is not None:
            return False
        groups = Groups(self.problem, labels)
        # How many offers in all came within rounding of the best cost.
        if groups.cost < self.monitor.fun - groups.cost_slack:
            self.agreeing = 0
        self.agreeing += abs(groups.cost - min(groups.cost, self.monitor.fun)) <= groups.cost_slack
        return self.monitor.incumbent(groups, groups.cost)

    def certify_best(self, *, pairs: bool = True) -> float:
        """Structured bound of the best labels, with a scale for each of the ``pairs`` or one; returns the scale found."""
        monitor = self.monitor
        groups: Groups = monitor.x
        best = None
        for trial in scale_trials(groups, target=groups.cost * (1.0 - 0.5 * monitor.common.tol), pairs=pairs):
            if best is None or trial.estimate > best.estimate:
                best = trial
            if monitor.out_of_time():
                break
        assert best is not None
        self.certify_at(best)
        return best.scale

    def certify_at(self, trial: Trial) -> None:
        """The rigorous structured bound of the best labels at the scales of a trial."""
        bound, certificate = certify(self.monitor.x, trial)
        self.scales = trial.scales
        self.monitor.prove(bound.published, certificate)

    def prove(self, certificate: LineCertificate) -> None:
        """The bound of a certificate, offered."""
        self.monitor.prove(evaluate(self.problem, certificate).published, certificate)

    def labels_by_kmeans(self, rows: Array) -> Array:
        """Labels of the data found by k-means on other rows, one per point (an embedding)."""
        from sklearn.cluster import kmeans_plusplus

        problem = self.problem
        kernels, take = problem.backend.kernels, problem.backend.take
        seeds, _ = kmeans_plusplus(
            to_host(rows), problem.n_clusters, random_state=sklearn_seed(self.monitor.common.rng)
        )
        labels = fill_empty(problem, kernels.assign(rows, take(np.ascontiguousarray(seeds))))
        for _ in range(MAX_SWEEPS):
            labels, moved = kernels.improve_labels(rows, problem.weights, labels, problem.n_clusters)
            if moved == 0 or self.monitor.out_of_time():
                break
        return self.descend(labels)

    def _package(self, monitor: Monitor) -> ClusteringResult:
        groups: Groups = monitor.x
        labels = self.problem.expand(groups.labels, groups.means)
        centers = self.problem.backend.give(groups.means + self.problem.shift)
        own = {"x": labels, "labels": labels, "centers": centers, "sdp_gap": float(self.sdp_gap)}
        return ClusteringResult(**(monitor.fields() | own))


def subordinate(monitor: Monitor, *, tol: float) -> Common:
    """The shared keywords of a run inside another one: silent, with the time that is left."""
    return replace(
        monitor.common,
        callback=None,
        history=False,
        verbose=0,
        tol=tol,
        max_iter=None,
        time_limit=None if monitor.common.time_limit is None else max(monitor.remaining, 0.0),
        started=time.perf_counter(),
    )
