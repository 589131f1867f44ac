"""Bounds for any n by dividing the rows: the optimal cost is at least the sum of the optimal costs of disjoint blocks.

Restricting a clustering to a block S_j costs no less than the best clustering of S_j, hence

    OPT_K(X) >= sum_j OPT_K(S_j) >= sum_j bound_j.

What the split itself loses is sum_jk n_jk |mu_jk - mu_k|^2 with mu_jk the mean of the members of cluster k in block j.
Blocks are therefore chosen against the clusters (anticlustering): each has the same share of every cluster, with means
as nearly equal as exchanges of two rows can make them. Blocks are solved one by one by the splitting method, or on
devices together in stacks of equal size. Where a limit ends this early, the rows of all blocks not solved make one more
block, with the structured bound of its labels; the sum then lies between the structured bound of the whole and what all
blocks would have proved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from clustering._admm import solve_relaxation
from clustering._batched_blocks import STACKED_MATRICES, solve_stack
from clustering._bounds import lower_bound
from clustering._problem import Groups, KMeansProblem
from clustering._result import BlockProof, BlocksCertificate
from clustering._run import Run, subordinate
from clustering._structured import Trial, certify, cut_trials
from solvers._core.arrays import FloatArray, IntArray, to_host

__all__ = ["BLOCK_TOLERANCE", "BlocksSettings", "anticlusters", "bound_by_blocks"]

EXCHANGE_SWEEPS = 12
# Gap at which a block stops: what the split loses is of that size.
BLOCK_TOLERANCE = 4e-4
BLOCK_ITERATIONS = 250
CHECK_EVERY = 25
# Seconds for each row in blocks of the usual size, and the size where a time limit does not allow for that: twice as many
# rows a second, each of which gains nearly as much over the structured bound.
SECONDS_PER_ROW, HURRIED_BLOCK = 1.5e-3, 200
# Memory of a stack of blocks.
STACK_BYTES = 2.0 * 2**30


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
    if not monitor.affords(SECONDS_PER_ROW * problem.n):
        block_size = min(block_size, HURRIED_BLOCK)
    blocks = anticlusters(problem, labels, block_size)
    # One cluster has one clustering, whose cost is the opening bound.
    solvable = [len(rows) > problem.n_clusters == len(np.unique(labels[rows])) > 1 for rows in blocks]
    proofs = {j: _opening(problem, rows) for j, rows in enumerate(blocks) if not solvable[j]}
    for batch in _batches(problem, blocks):
        allowed = [position for position in batch if monitor.running()]
        if not allowed:
            break
        worthwhile = [position for position in allowed if solvable[position]]
        fresh = _solve_blocks(run, [blocks[position] for position in worthwhile], labels)
        proofs.update(zip(worthwhile, fresh, strict=True))
        if len(proofs) == len(blocks):
            _prove_sum(run, blocks, [proofs[j] for j in range(len(blocks))])
        monitor.checkpoint()
    missing = [rows for j, rows in enumerate(blocks) if j not in proofs]
    if missing and proofs and run.scales is not None:
        rest = np.sort(np.concatenate(missing))
        solved, last = sorted(proofs), _structured_proof(run, rest, labels, run.scales)
        _prove_sum(run, [*(blocks[j] for j in solved), rest], [*(proofs[j] for j in solved), last])


def _prove_sum(run: Run, blocks: list[IntArray], proofs: list[tuple[float, BlockProof | None]]) -> None:
    whole = BlocksCertificate(tuple(blocks), tuple(proof for _, proof in proofs))
    run.monitor.prove(float(np.sum([bound for bound, _ in proofs])), whole)


def _structured_proof(run: Run, rows: IntArray, labels: IntArray, scales: FloatArray) -> tuple[float, BlockProof]:
    """The structured bound of some of the rows; good scales are in proportion to the weight."""
    problem = run.problem.subset(rows)
    groups = Groups(problem, problem.backend.take(np.ascontiguousarray(labels[rows])))
    share = float(np.sum(groups.totals)) / float(np.sum(run.monitor.x.totals))
    trials = (Trial(scales * share, math.nan), *cut_trials(groups))
    bound, proof = max((certify(groups, trial) for trial in trials), key=lambda found: found[0].published)
    return bound.published, proof


def _batches(problem: KMeansProblem, blocks: list[IntArray]) -> list[list[int]]:
    """Positions of the blocks solved together: one each for compiled code, stacks of one size otherwise."""
    if problem.backend.name == "numba":
        return [[position] for position in range(len(blocks))]
    batches = []
    for size in sorted({len(rows) for rows in blocks}):
        alike = [position for position, rows in enumerate(blocks) if len(rows) == size]
        most = max(1, int(STACK_BYTES // (8 * STACKED_MATRICES * max(size, 1) ** 2)))
        batches += [alike[begin : begin + most] for begin in range(0, len(alike), most)]
    return batches


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


def _solve_blocks(run: Run, blocks: list[IntArray], labels: IntArray) -> list[tuple[float, BlockProof]]:
    """Bounds of blocks, all of one size if there are several."""
    tol = max(run.monitor.common.tol, BLOCK_TOLERANCE)
    found: list[tuple[float, BlockProof]] = []
    if not blocks:
        return found
    if run.problem.backend.name == "numba":
        for rows in blocks:
            inner, scale = _opened_block(run, rows, labels[rows], tol)
            if inner.monitor.status is None:
                solve_relaxation(inner, scale, CHECK_EVERY)
            found.append((inner.monitor.bound, inner.monitor.certificate))
        return found
    scale = _opened_block(run, blocks[0], labels[blocks[0]], tol)[1]
    problems = [run.problem.subset(rows) for rows in blocks]
    mine = [run.problem.backend.take(np.ascontiguousarray(labels[rows])) for rows in blocks]
    found.extend(solve_stack(problems, mine, scale, tol, BLOCK_ITERATIONS, run.monitor.out_of_time))
    return found


def _opened_block(run: Run, rows: IntArray, labels: IntArray, tol: float) -> tuple[Run, float]:
    """A block as a run of its own with its structured bound, and the scale of that."""
    common = subordinate(run.monitor, tol=tol)
    inner = Run(run.problem.subset(rows), common, method="blocks", max_iter=BLOCK_ITERATIONS)
    inner.open(run.problem.backend.take(np.ascontiguousarray(labels)))
    return inner, inner.certify_best(pairs=False)
