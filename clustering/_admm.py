"""The Peng-Wei relaxation by a two-block splitting whose spectral block is exact.

    min T - <A, Z>   subject to   Z psd, Zq = q, tr Z = K   (block 1),   Z >= 0   (block 2)

All linear equations lie in block 1 and hold to rounding in every iteration; the multiplier of block 2 is B = -rho Y
>= 0 by construction, so a rigorous bound is at hand any time. A is scaled by its spectral norm.

With T the matrix that block 2 splits, Z2 = max(T, 0) and Y = min(T, 0); so one matrix is the whole state, and block 1
projects |T| + A / rho. Labels that may solve the relaxation are tried first (:mod:`clustering._face`): where they do,
that ends the run in a few iterations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clustering._face import finish_on_face
from clustering._ky_fan import multiplier_bound
from clustering._problem import Groups, KMeansProblem, largest_eigenvalue
from clustering._result import MultiplierCertificate
from clustering._spectral import LeadingEigenpairs, Spectrum
from clustering._structured_bounds import dense_multiplier
from solvers._core.arrays import Array, to_host
from solvers._core.result import Status

if TYPE_CHECKING:
    from clustering._run import Run

__all__ = ["DEFAULT_ITERATIONS", "DENSE_MATRICES", "ADMMSettings", "solve_relaxation"]

# n x n float64 arrays alive at the peak of an iteration or a certificate.
DENSE_MATRICES = 12
DEFAULT_ITERATIONS = 3_000

RELAXATION = 1.8
# First penalty without and with the scale of a structured multiplier, which estimates theta rho.
FIRST_PENALTY, SCALE_TO_PENALTY = 0.5, 3.0
BALANCE_EVERY, BALANCE_UNTIL = 20, 400
# Changes of the penalty below this ratio are not worth the disturbance of the eigenspace.
BALANCE_DEADBAND = 1.2
STALL_PATIENCE = 1_000
FILTER_DEGREE = 3
# Iterations after which the block of eigenvectors is widened once, in case one is missing.
REFRESH_EVERY = 150
# A rigorous bound is due when the estimated one promises to end the run, and every so many checks.
CHECKS_PER_PROOF = 8
# Checks that also look for labels and for a feasible point: the first two, then one in so many.
LOOK_EVERY = 4
# Up to this size proving costs less than estimating.
ALWAYS_PROVED = 400
SINKHORN_SWEEPS = 12
# Accuracy of the relaxation before cuts are added to it.
ROUGHLY = 1e-2


@dataclass(frozen=True)
class ADMMSettings:
    """Options of ``method="admm"``.

    ``n_starts`` k-means++ starts precede the iteration; ``check_every`` iterations pass between certificates;
    ``cuts`` tighten the relaxation afterwards.
    """

    n_starts: int = 10
    check_every: int = 25
    cuts: bool = False


LOOSE = (
    "The semidefinite relaxation is solved; the gap that is left is the relaxation's own. "
    "The labels may still be optimal."
)


def solve_relaxation(run: Run, scale: float, check_every: int, *, ends_solved: bool = True) -> None:
    """Iterate from the best labels, whose structured multiplier has the given scale, until the monitor stops.

    Where more is to come the relaxation need not be solved (``ends_solved`` False), only roughly.
    """
    problem, monitor = run.problem, run.monitor
    n_clusters, kernels = problem.n_clusters, problem.backend.kernels
    if n_clusters >= problem.n or n_clusters == 1:
        return  # one clustering only, and the first bound has proved it
    xp = problem.backend.xp
    q = problem.direction
    rows = xp.expand_dims(xp.sqrt(problem.weights), axis=1) * problem.points
    norm = largest_eigenvalue(rows) or 1.0
    rows = rows / math.sqrt(norm)
    affinity = rows @ rows.T
    finish_on_face(run, affinity, norm)
    eigenpairs = LeadingEigenpairs(q, n_clusters - 1.0, kernels, FILTER_DEGREE)
    rho, state = _warm_start(run, norm, scale)
    matrix = kernels.spectral_argument(state, affinity, rho)
    proves_always = problem.n <= ALWAYS_PROVED
    best_value, checks = math.inf, 0
    while monitor.running():
        spectrum = Spectrum(*eigenpairs.project(matrix), q)
        state, matrix, primal, moved = kernels.splitting_step(
            spectrum.factor(), state, matrix, affinity, rho, RELAXATION
        )
        dual = rho * moved
        if monitor.due(check_every):
            checks += 1
            if checks <= 2 or checks % LOOK_EVERY == 0 or monitor.nit == monitor.max_iter:
                if not run.fixed_labels and run.offer(_round(run, spectrum)):
                    finish_on_face(run, affinity, norm)
                best_value = min(best_value, norm * _feasible_value(problem, spectrum, rows))
            multiplier = kernels.multiplier(state, rho * norm)
            if proves_always or checks % CHECKS_PER_PROOF == 0 or monitor.nit == monitor.max_iter:
                ends = True
            else:
                estimate = _estimated_bound(problem, multiplier, rows * math.sqrt(norm), eigenpairs, rho * norm)
                ends = min(monitor.fun, best_value) - estimate <= monitor.common.tol * abs(estimate)
            if ends:
                _prove(run, multiplier, best_value)
            monitor.checkpoint(residual=max(primal, dual) / math.sqrt(n_clusters))
            if run.sdp_gap <= (monitor.common.tol if ends_solved else ROUGHLY):
                if not ends_solved:
                    return
                monitor.finish(Status.CONVERGED, LOOSE)
            if monitor.stalled(primal + dual, STALL_PATIENCE):
                monitor.finish(Status.STALLED)
        iteration = run.iterations_since_start
        if iteration % REFRESH_EVERY == 0:
            eigenpairs.restart()
        if iteration % BALANCE_EVERY == 0 and iteration <= BALANCE_UNTIL and dual > 0:
            factor = min(2.0, max(0.5, math.sqrt(primal / dual)))
            if max(factor, 1.0 / factor) > BALANCE_DEADBAND:
                rho, state = rho * factor, kernels.rescale_multiplier(state, 1.0 / factor)
                matrix = kernels.spectral_argument(state, affinity, rho)
                eigenpairs.restart()


def _warm_start(run: Run, norm: float, scale: float) -> tuple[float, Array]:
    """Penalty rho and state T, from an earlier multiplier or from the best labels and their structured multiplier."""
    problem = run.problem
    groups: Groups = run.monitor.x
    xp = problem.backend.xp
    labels = groups.labels
    same = xp.expand_dims(labels, axis=1) == labels
    totals = problem.backend.take(groups.totals)
    root = xp.sqrt(problem.weights)
    membership = xp.expand_dims(root / xp.take(totals, labels), axis=1) * root
    rho = FIRST_PENALTY
    if run.first_multiplier is not None:
        multiplier = problem.backend.take(run.first_multiplier)
        run.monitor.prove(multiplier_bound(problem, multiplier).published, MultiplierCertificate(run.first_multiplier))
    elif math.isfinite(scale) and scale > 0:
        rho = min(10.0, max(1e-3, SCALE_TO_PENALTY * scale / norm))
        multiplier = dense_multiplier(groups, np.full((problem.n_clusters,) * 2, scale))
    else:
        multiplier = xp.zeros_like(membership)
    return rho, xp.where(same, membership, -multiplier / (rho * norm))


def _prove(run: Run, multiplier: Array, best_value: float) -> None:
    """The rigorous bound of a multiplier, and what it says about the relaxation."""
    bound = multiplier_bound(run.problem, multiplier)
    run.monitor.prove(bound.published, MultiplierCertificate(to_host(multiplier)))
    size = max(abs(best_value), abs(bound.published))
    gap = max(0.0, best_value - bound.published) / size if size > 0 else 0.0
    run.sdp_gap = min(run.sdp_gap, gap)


def _round(run: Run, spectrum: Spectrum) -> Array:
    """Labels by k-means in the leading eigenvectors of Z1, improved on the data."""
    problem = run.problem
    xp = problem.backend.xp
    count = min(problem.n_clusters - 1, spectrum.vectors.shape[1])
    values = problem.backend.take(np.sqrt(spectrum.values[:count]))
    rows = spectrum.vectors[:, :count] * values / xp.expand_dims(xp.sqrt(problem.weights), axis=1)
    return run.labels_by_kmeans(rows)


def _feasible_value(problem: KMeansProblem, spectrum: Spectrum, rows: Array) -> float:
    """SDP objective, for A = rows rows^T, at a feasible point near Z1.

    Each negative entry -v at (i, j) is cancelled by v (e_i + e_j)(e_i + e_j)^T, which is psd; a symmetric diagonal
    scaling (Sinkhorn) restores Zq = q, and a mixture with q q^T or I the trace.
    """
    xp = problem.backend.xp
    q = spectrum.q
    z = spectrum.matrix()
    diagonal = xp.linalg.diagonal(z)
    positive = xp.where(z > 0, z, xp.zeros_like(z))
    lacking = xp.sum(positive - z, axis=1)
    scaling = xp.ones_like(q)

    def image(block: Array) -> Array:
        extra = lacking if block.ndim == 1 else xp.expand_dims(lacking, axis=1)
        return positive @ block + extra * block

    for _ in range(SINKHORN_SWEEPS):
        scaling = xp.sqrt(scaling * q / image(scaling * q))
    scaled = xp.expand_dims(scaling, axis=1) * rows
    value = float(xp.sum(scaled * image(scaled)))
    trace = float(xp.sum(scaling * scaling * (diagonal + lacking)))
    scatter = float(xp.sum(rows * rows))
    if trace > problem.n_clusters:
        return scatter - value * (problem.n_clusters - 1.0) / (trace - 1.0)
    mix = (problem.n_clusters - trace) / (problem.n - trace)
    return scatter - (1.0 - mix) * value - mix * scatter


def _estimated_bound(
    problem: KMeansProblem, multiplier: Array, rows: Array, eigenpairs: LeadingEigenpairs, scale: float
) -> float:
    """The bound of a multiplier by Rayleigh-Ritz: a little too high, hence only a hint when to prove."""
    xp = problem.backend.xp
    q = problem.direction
    form = float(q @ (multiplier @ q))
    top = eigenpairs.estimate(rows @ rows.T + multiplier, problem.n_clusters - 1, scale)
    return float(xp.sum(rows * rows)) - form - top
