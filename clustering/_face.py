r"""Finish of the relaxation once its optimum is believed to be a clustering: a multiplier on the active face.

If Z of a labelling with unit vectors u_k = W^{1/2} 1_{G_k} / |W^{1/2} 1_{G_k}| solves the relaxation, its active
eigenspace is known, of rank K, and complementary slackness leaves of the dual problem the feasibility problem

    B >= 0, B_kk = 0      and      B u_l = b_l(t),  G (A + B) G <= t I,      G = I - sum_k u_k u_k^T,

where b_l(t) are the products of the structured multiplier of scale t (:mod:`clustering._structured_bounds`), non-negative up to
t_max. A vector supported on one cluster and orthogonal to u_k shows that t >= lambda_1 of every cluster's scatter; where
t_max is smaller, the relaxation is loose at these labels. Both sets have exact projections, the second because the
marginals B u_l and the compression G B G are independent parts of B; Douglas and Rachford's reflections meet in some
ten iterations where the splitting method, whose Z still has to lose its small eigenvalues, takes hundreds.

The state T has Z's place: block 1 gives max(T, 0) off the diagonal blocks, and T <- that + (projection of the
reflection - reflection), a matrix of low rank.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clustering._ky_fan import multiplier_bound
from clustering._problem import Groups, largest_eigenvalue
from clustering._result import MultiplierCertificate
from clustering._spectral import LeadingEigenpairs
from clustering._structured import largest_unclipped_scale
from clustering._structured_bounds import dense_multiplier
from solvers._core.arrays import Array, to_host
from solvers._core.result import Status

if TYPE_CHECKING:
    from clustering._run import Run

__all__ = ["finish_on_face", "may_be_tight"]

MOST_ITERATIONS = 60
FILTER_DEGREE = 4
# Iterations between proofs while no eigenvalue exceeds t, and otherwise.
PROVE_SOON, PROVE_LATE = 3, 20
# A published bound lies below its value by twice its error; one that lacks no more than this lacks nothing else.
ROUNDING = 4.0

SOLVED = "The labels solve the semidefinite relaxation to rounding: no smaller gap can be proved in float64."


def may_be_tight(groups: Groups) -> float:
    """The largest t of the face, or 0 where the relaxation is loose at these labels whatever its solution."""
    problem = groups.problem
    if not 1 < problem.n_clusters < problem.n:
        return 0.0
    xp = problem.backend.xp
    t = largest_unclipped_scale(groups)
    for k, rows in enumerate(groups.slices):
        root = xp.expand_dims(xp.sqrt(groups.weights[rows]), axis=1)
        if not t > largest_eigenvalue(root * (groups.points[rows, :] - groups.means[k, :])):
            return 0.0
    return t


def finish_on_face(run: Run, affinity: Array, norm: float) -> None:
    """Look for the multiplier of the best labels on their face, for the scaled ``affinity`` A / ``norm``; prove its bound.

    Ends without a proof where the face seems empty; its iterations are the monitor's.
    """
    problem, monitor = run.problem, run.monitor
    groups: Groups = monitor.x
    xp, kernels = problem.backend.xp, problem.backend.kernels
    t = may_be_tight(groups)
    if t <= 0.0:
        return
    labels = groups.labels
    basis = _indicators(groups)
    start = dense_multiplier(groups, np.full((problem.n_clusters,) * 2, t)) / norm
    target = start @ basis + affinity @ basis
    eigenpairs = LeadingEigenpairs(None, 0.0, kernels, FILTER_DEGREE, threshold=t / norm)
    state, matrix = kernels.face_step(xp.zeros_like(start), start, affinity, labels)
    del start
    since_proof = 0
    for _ in range(MOST_ITERATIONS):
        if not monitor.running():
            return
        image = matrix @ basis
        compressed = matrix - _symmetric(image, basis)
        values, vectors = eigenpairs.project(compressed)
        excess = vectors * problem.backend.take(values)
        change = _symmetric(target - image, basis) - excess @ vectors.T
        state, matrix = kernels.face_step(change, state, affinity, labels)
        since_proof += 1
        if since_proof >= (PROVE_LATE if len(values) else PROVE_SOON):
            since_proof = 0
            _prove(run, norm * kernels.face_multiplier(state, labels))
            monitor.checkpoint()


def _prove(run: Run, multiplier: Array) -> None:
    """The rigorous bound of a multiplier; Z of the labels is feasible, so that their cost is the relaxation's value."""
    monitor = run.monitor
    bound = multiplier_bound(run.problem, multiplier)
    monitor.prove(bound.published, MultiplierCertificate(to_host(multiplier)))
    cost = float(monitor.fun)
    lacking = max(0.0, cost - bound.published)
    run.sdp_gap = min(run.sdp_gap, lacking / cost if cost > 0 else 0.0)
    if lacking <= ROUNDING * bound.error:
        monitor.finish(Status.CONVERGED, SOLVED)


def _indicators(groups: Groups) -> Array:
    """The unit vectors u_k as columns."""
    problem = groups.problem
    xp, take = problem.backend.xp, problem.backend.take
    member = xp.expand_dims(groups.labels, axis=1) == take(np.arange(problem.n_clusters))
    root = xp.expand_dims(xp.sqrt(problem.weights), axis=1)
    return xp.where(member, root, xp.zeros_like(root)) * take(1.0 / np.sqrt(groups.totals))


def _symmetric(image: Array, basis: Array) -> Array:
    """The symmetric matrix M of least norm with M basis = image, for images whose basis^T image is symmetric."""
    half = image - 0.5 * (basis @ (basis.T @ image))
    product = half @ basis.T
    return product + product.T
