"""Bounds for any n by dividing the rows: the optimal cost is at least the sum of the optimal costs of disjoint blocks.

Restricting a clustering to a block S_j costs no less than the best clustering of S_j, hence

    OPT_K(X) >= sum_j OPT_K(S_j) >= sum_j bound_j.

What the split itself loses is sum_jk n_jk |mu_jk - mu_k|^2 with mu_jk the mean of the members of cluster k in block j.
Blocks are therefore chosen against the clusters (anticlustering): each has the same share of every cluster, with means
as nearly equal as exchanges of two rows can make them. Blocks are solved one by one by the splitting method.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clustering._admm import solve_relaxation
from clustering._bounds import lower_bound
from clustering._problem import Groups, KMeansProblem
from clustering._result import BlockProof, BlocksCertificate
from clustering._run import Run, subordinate
from solvers._core.arrays import IntArray, to_host

__all__ = ["BlocksSettings", "anticlusters", "bound_by_blocks"]

EXCHANGE_SWEEPS = 12
# Gap at which a block stops: what the split loses is of that size.
BLOCK_TOLERANCE = 4e-4
BLOCK_ITERATIONS = 250
CHECK_EVERY = 25


@dataclass(frozen=True)
class BlocksSettings:
    """Options of ``method="blocks"``: k-means++ starts before it, and the rows of a block (at most)."""

    n_starts: int = 10
    block_size: int = 500


def bound_by_blocks(run: Run, block_size: int) -> None:
    """Prove a bound for the best labels from the relaxations of blocks; one iteration is one block."""
    problem, monitor = run.problem, run.monitor
    groups: Groups = monitor.x
    labels = to_host(groups.labels)
    blocks = anticlusters(problem, labels, block_size)
    proofs = [_opening(problem, rows) for rows in blocks]
    total = [bound for bound, _ in proofs]
    for position, rows in enumerate(blocks):
        if not monitor.running():
            break
        if len(rows) > problem.n_clusters and len(np.unique(labels[rows])) == problem.n_clusters:
            bound, certificate = _solve_block(run, rows, labels[rows])
            if bound > total[position]:
                total[position] = bound
                proofs[position] = (bound, certificate)
        whole = BlocksCertificate(tuple(blocks), tuple(proof for _, proof in proofs))
        monitor.prove(float(np.sum(total)), whole)
        monitor.checkpoint()


def anticlusters(problem: KMeansProblem, labels: IntArray, block_size: int) -> list[IntArray]:
    """Disjoint blocks of rows that cover the data, with nearly equal cluster means."""
    count = -(-problem.n // block_size)
    points = problem.host_points
    place = np.zeros(problem.n, dtype=np.int64)
    begin = 0
    for k in range(problem.n_clusters):
        members = np.flatnonzero(labels == k)
        # Rows in order of their first coordinate, dealt out in turn; clusters take turns in who begins.
        members = members[np.argsort(points[members, 0], kind="stable")]
        share = (begin + np.arange(len(members))) % count
        begin = (begin + len(members)) % count
        centred = np.ascontiguousarray(points[members] - points[members].mean(axis=0))
        place[members] = problem.backend.kernels.balance_blocks(centred, share, count, EXCHANGE_SWEEPS)
    return [np.flatnonzero(place == j) for j in range(count)]


def _opening(problem: KMeansProblem, rows: IntArray) -> tuple[float, BlockProof | None]:
    """The principal-component bound of a block; 0 where it has no more rows than clusters."""
    if len(rows) <= problem.n_clusters:
        return 0.0, None
    bound, certificate = lower_bound(problem.subset(rows))
    return bound.published, certificate


def _solve_block(run: Run, rows: IntArray, labels: IntArray) -> tuple[float, BlockProof]:
    common = subordinate(run.monitor, tol=max(run.monitor.common.tol, BLOCK_TOLERANCE))
    inner = Run(run.problem.subset(rows), common, method="blocks", max_iter=BLOCK_ITERATIONS)
    inner.open(run.problem.backend.take(np.ascontiguousarray(labels)))
    scale = inner.certify_best(pairs=False)
    if inner.monitor.status is None:
        solve_relaxation(inner, scale, CHECK_EVERY)
    proof: BlockProof = inner.monitor.certificate
    return inner.monitor.bound, proof
