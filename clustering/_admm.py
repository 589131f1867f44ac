"""The Peng-Wei relaxation by a two-block splitting whose spectral block is exact.

    min T - <A, Z>   subject to   Z psd, Zq = q, tr Z = K   (block 1),   Z >= 0   (block 2)

All linear equations lie in block 1 and hold to rounding in every iteration; the multiplier of block 2 is B = -rho Y >= 0 by
construction, so a rigorous bound is at hand any time. A is scaled by its spectral norm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clustering._bounds import dense_multiplier, multiplier_bound
from clustering._problem import Groups, KMeansProblem
from clustering._result import MultiplierCertificate
from clustering._spectral import Spectrum
from solvers._core.arrays import Array, to_host
from solvers._core.result import Status

if TYPE_CHECKING:
    from clustering._run import Run

__all__ = ["DENSE_MATRICES", "ADMMSettings", "solve_relaxation"]

# n x n float64 arrays alive at the peak of an iteration or a certificate.
DENSE_MATRICES = 12
DEFAULT_ITERATIONS = 3_000

RELAXATION = 1.6
BALANCE_EVERY, BALANCE_UNTIL = 20, 200
STALL_PATIENCE = 1_000


@dataclass(frozen=True)
class ADMMSettings:
    """Options of ``method="admm"``.

    ``n_starts`` k-means++ starts precede the iteration; ``check_every`` iterations pass between certificates.
    """

    n_starts: int = 10
    check_every: int = 25


def solve_relaxation(run: Run, scale: float, settings: ADMMSettings) -> None:
    """Iterate from the best labels, whose structured multiplier has the given scale, until the monitor stops."""
    problem, monitor = run.problem, run.monitor
    n_clusters, kernels = problem.n_clusters, problem.backend.kernels
    if n_clusters >= problem.n:
        return  # every row is its own cluster: cost 0 is optimal
    xp = problem.backend.xp
    q = problem.direction
    rows = xp.expand_dims(xp.sqrt(problem.weights), axis=1) * problem.points
    affinity = rows @ rows.T
    norm = math.sqrt(float(xp.sum(rows * rows))) ** 2 / max(1, min(problem.p, problem.n))
    norm = max(norm, float(np.linalg.eigvalsh(to_host(rows.T @ rows))[-1]) if problem.p <= problem.n else norm)
    affinity = affinity / norm
    rho, state = _warm_start(run, norm, scale)
    best_value = math.inf
    while monitor.running():
        state, spectrum, primal, dual = kernels.admm_step(affinity, state, q, rho, n_clusters - 1.0, RELAXATION)
        if monitor.due(settings.check_every):
            multiplier = state[1] * (-rho * norm)
            bound = multiplier_bound(problem, multiplier)
            monitor.prove(bound.published, MultiplierCertificate(to_host(multiplier)))
            run.offer(_round(run, spectrum))
            best_value = min(best_value, _feasible_value(problem, spectrum, affinity * norm))
            run.sdp_gap = min(run.sdp_gap, _relative(best_value, bound.published))
            monitor.checkpoint(residual=max(primal, dual) / math.sqrt(n_clusters))
            if run.sdp_gap <= monitor.common.tol:
                monitor.finish(Status.CONVERGED, LOOSE)
            if monitor.stalled(primal + dual, STALL_PATIENCE):
                monitor.finish(Status.STALLED)
        if monitor.nit % BALANCE_EVERY == 0 and run.iterations_since_start <= BALANCE_UNTIL and dual > 0:
            factor = min(2.0, max(0.5, math.sqrt(primal / dual)))
            rho, state = rho * factor, (state[0], state[1] / factor)


LOOSE = (
    "The semidefinite relaxation is solved; the gap that is left is the relaxation's own. "
    "The labels may still be optimal."
)


def _warm_start(run: Run, norm: float, scale: float) -> tuple[float, tuple[Array, Array]]:
    """rho and (Z2, Y) from an earlier multiplier, or from the best labels and their structured multiplier."""
    problem = run.problem
    groups: Groups = run.monitor.x
    xp = problem.backend.xp
    labels = groups.labels
    same = xp.expand_dims(labels, axis=1) == labels
    totals = problem.backend.take(groups.totals)
    root = xp.sqrt(problem.weights)
    membership = xp.expand_dims(root / xp.take(totals, labels), axis=1) * root
    z = xp.where(same, membership, xp.zeros_like(membership))
    if run.first_multiplier is not None:
        rho, multiplier = 0.5, problem.backend.take(run.first_multiplier)
    elif math.isfinite(scale) and scale > 0:
        rho = min(10.0, max(1e-3, scale / norm))
        multiplier = dense_multiplier(groups, np.full((problem.n_clusters,) * 2, scale))
    else:
        rho, multiplier = 0.5, xp.zeros_like(z)
    return rho, (z, multiplier / (-rho * norm))


def _round(run: Run, spectrum: Spectrum) -> Array:
    """Labels by k-means in the leading eigenvectors of Z1, improved on the data."""
    problem = run.problem
    xp = problem.backend.xp
    count = min(problem.n_clusters - 1, spectrum.vectors.shape[1])
    values = problem.backend.take(np.sqrt(spectrum.values[:count]))
    rows = spectrum.vectors[:, :count] * values / xp.expand_dims(xp.sqrt(problem.weights), axis=1)
    return run.labels_by_kmeans(rows)


def _feasible_value(problem: KMeansProblem, spectrum: Spectrum, affinity: Array) -> float:
    """SDP objective at the nearest feasible mixture of Z1 and the Slater point q q^T + (K-1)/(n-1) P."""
    xp = problem.backend.xp
    z = spectrum.matrix()
    q = spectrum.q
    ratio = (problem.n_clusters - 1.0) / (problem.n - 1.0)
    outer = xp.expand_dims(q, axis=1) * q
    slater = (1.0 - ratio) * outer
    # Off the diagonal the Slater point is positive; on the diagonal Z1 is non-negative already.
    deficit = xp.where(z < 0, -z / (slater - z), xp.zeros_like(z))
    mix = float(xp.max(deficit))
    slater_value = (1.0 - ratio) * float(xp.sum(affinity * outer)) + ratio * problem.scatter
    return problem.scatter - (1.0 - mix) * float(xp.sum(affinity * z)) - mix * slater_value


def _relative(value: float, bound: float) -> float:
    size = max(abs(value), abs(bound))
    return max(0.0, value - bound) / size if size > 0 else 0.0
