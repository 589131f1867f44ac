"""Branch and bound on pairs of points: global k-means optima with proof.

A node fixes some pairs to be together or apart (:mod:`clustering._links`), bounds what is left by the relaxation with
cuts (:mod:`clustering._cuts`), rounds, and splits on the pair that the relaxation leaves most undecided: the largest
min(Z_ij, |Z_i - Z_j|^2). The node with the least bound comes first. What is proved is the least bound of all leaves,
open, pruned or empty (:mod:`clustering._tree_bounds`).
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clustering import _kernels_cuts as kernels
from clustering._cuts import FIRST_PENALTY, CutRelaxation, Inherited
from clustering._links import NO_LINKS, Links, membership
from clustering._problem import Groups, KMeansProblem, largest_eigenvalue
from clustering._result import Decision, LeafProof, TreeCertificate
from clustering._structured_bounds import dense_multiplier
from clustering._tree_bounds import evaluate_leaf
from solvers._core.arrays import FloatArray, IntArray, to_host
from solvers._core.errors import InvalidProblemError
from solvers._core.result import NEGLIGIBLE, Status

if TYPE_CHECKING:
    from clustering._run import Run

__all__ = ["DEFAULT_NODES", "ExactSettings", "branch_and_bound", "respecting"]

DEFAULT_NODES = 10_000
ROUND_ITERATIONS = 100
BOUNDS_PER_ROUND = 2
ROOT_ROUNDS, CHILD_ROUNDS = 40, 12
# Share of what is left to its target that a round must close to pay.
ROUND_PROGRESS = 0.08
# Rounds in a row that may close less, where the node can be split and where it can not.
PATIENCE, PATIENCE_WITHOUT_SPLIT = 1, 6
LEAST_ROUNDS = 2
MOST_SWEEPS = 100
MOST_COLOUR_STEPS = 100_000
NO_CUTS = np.empty((0, 3), dtype=np.int64)


@dataclass(frozen=True)
class ExactSettings:
    """Options of ``method="exact"``.

    ``n_starts`` k-means++ starts first; ``must_link`` and ``cannot_link`` are pairs of rows; the search ends when its
    leaves hold ``certificate_bytes``.
    """

    n_starts: int = 10
    must_link: object = None
    cannot_link: object = None
    certificate_bytes: int = 2**30


@dataclass
class _Node:
    """A part of the problem: its links, its bound with proof, the pair to split on and what its children start from."""

    links: Links
    proof: LeafProof
    bound: float
    split: tuple[int, int] | None
    state: Inherited


def branch_and_bound(run: Run, user: Links, scale: float, *, divide: bool, certificate_bytes: int) -> None:
    """Search until the monitor stops; without ``divide`` the root alone. One iteration is one node divided."""
    problem, monitor = run.problem, run.monitor
    if problem.n_clusters == 1:
        return  # one clustering only, and the first bound has proved it
    labels = to_host(monitor.x.labels).astype(np.int64)
    patience = PATIENCE if divide else PATIENCE_WITHOUT_SPLIT
    root = _solve(run, user, (), user, _root_start(problem, user, labels, scale), ROOT_ROUNDS, patience)
    open_nodes: list[tuple[float, int, _Node]] = [(root.bound, 0, root)]
    closed: list[LeafProof] = []
    least_closed, born = math.inf, 0
    while True:
        leaves = (*closed, *(node.proof for _, _, node in open_nodes))
        least = min(least_closed, open_nodes[0][0] if open_nodes else math.inf)
        monitor.prove(least, TreeCertificate(user.must, user.cannot, leaves))
        monitor.checkpoint()
        if sum(leaf.multiplier.nbytes for leaf in leaves if leaf.multiplier is not None) > certificate_bytes:
            monitor.finish(Status.STALLED, "The leaves fill options['certificate_bytes']: raise it, or the tolerance.")
        if not open_nodes or not divide or not monitor.running():
            return
        bound, _, node = heapq.heappop(open_nodes)
        if node.split is None:
            closed.append(node.proof)
            least_closed = min(least_closed, bound)
            continue
        before = node.links.supernodes(problem.n)
        for together in (True, False):
            links = node.links.with_pair(node.split, together)
            path = (*node.proof.path, (*node.split, together))
            supernodes = links.supernodes(problem.n)
            if links.conflicts(supernodes).diagonal().any() or int(supernodes.max()) + 1 < problem.n_clusters:
                closed.append(LeafProof(path, None, NO_CUTS.astype(np.int32), np.empty(0)))
                continue
            groups = np.empty(int(before.max()) + 1, dtype=np.int64)
            groups[before] = supernodes
            start = node.state.contracted(groups, node.links.contract(problem)[0].host_weights)
            born += 1
            child = _solve(run, user, path, links, start, CHILD_ROUNDS, PATIENCE)
            heapq.heappush(open_nodes, (child.bound, born, child))


def _solve(
    run: Run, user: Links, path: tuple[Decision, ...], links: Links, start: Inherited, rounds: int, patience: int
) -> _Node:
    """Bound a node: rounds of iterations and new cuts while they pay; at most ``patience`` in a row may not."""
    problem, monitor = run.problem, run.monitor
    smaller, supernodes, conflicts, _ = links.contract(problem)
    relaxation = CutRelaxation(smaller, conflicts, start)
    proof = LeafProof(path, *relaxation.dual())
    best = evaluate_leaf(problem, user, proof).published
    idle = 0
    for number in range(rounds):
        before = best
        for _ in range(BOUNDS_PER_ROUND):
            if monitor.status is not None or monitor.out_of_time() or best >= _target(run):
                break
            relaxation.iterate(ROUND_ITERATIONS // BOUNDS_PER_ROUND, monitor.out_of_time)
            candidate = LeafProof(path, *relaxation.dual())
            value = evaluate_leaf(problem, user, candidate).published
            if value > best:
                best, proof = value, candidate
        if monitor.status is not None or monitor.out_of_time() or best >= _target(run):
            break
        _round(run, user, relaxation, supernodes)
        added = relaxation.refine_cuts()
        idle = idle + 1 if best - before < ROUND_PROGRESS * (_target(run) - best) else 0
        if number + 1 >= LEAST_ROUNDS and (idle > patience or (added == 0 and idle > 1)):
            break
    first = np.unique(supernodes, return_index=True)[1]
    pair = _undecided(relaxation.membership(), conflicts)
    split = None if pair is None else (int(first[pair[0]]), int(first[pair[1]]))
    return _Node(links, proof, best, split, relaxation.state())


def _target(run: Run) -> float:
    """The bound at which a node needs no further attention."""
    monitor = run.monitor
    return monitor.fun - 0.999 * monitor.common.tol * max(monitor.fun, NEGLIGIBLE * monitor.scale)


def _undecided(z: FloatArray, conflicts: np.ndarray) -> tuple[int, int] | None:
    """The pair with the largest min(Z_ij, |Z_i - Z_j|^2)."""
    if len(z) < 2:
        return None
    squares = np.sum(z * z, axis=1)
    apart = np.maximum(squares[:, None] + squares - 2.0 * (z @ z.T), 0.0)
    score = np.minimum(z, apart)
    score[conflicts | np.eye(len(z), dtype=np.bool_)] = -1.0
    i, j = divmod(int(np.argmax(score)), len(z))
    return (min(i, j), max(i, j)) if score[i, j] >= 0.0 else None


def _root_start(problem: KMeansProblem, user: Links, labels: IntArray, scale: float) -> Inherited:
    """The incumbent with its structured multiplier."""
    smaller, supernodes, _, _ = user.contract(problem)
    chosen = np.empty(smaller.n, dtype=np.int64)
    chosen[supernodes] = labels
    z2 = membership(smaller.host_weights, chosen, problem.n_clusters)
    t, rho = z2, FIRST_PENALTY
    norm = largest_eigenvalue(np.sqrt(smaller.host_weights)[:, None] * smaller.host_points)
    if math.isfinite(scale) and scale > 0 and norm > 0:
        rho = min(10.0, max(1e-3, scale / norm))
        groups = Groups(smaller, chosen)
        t = z2 - to_host(dense_multiplier(groups, np.full((problem.n_clusters,) * 2, scale))) / (rho * norm)
    no_cliques = np.empty((0, problem.n_clusters + 1), dtype=np.int64)
    return Inherited(t, z2, NO_CUTS, np.empty(0), no_cliques, np.empty(0), rho)


def _round(run: Run, user: Links, relaxation: CutRelaxation, supernodes: IntArray) -> None:
    """Offer labels found in the leading eigenvectors of the node's Z."""
    spectrum, problem = relaxation.spectrum, run.problem
    if spectrum is None:
        return
    count = min(problem.n_clusters - 1, spectrum.vectors.shape[1])
    embedded = spectrum.vectors[:, :count] * np.sqrt(spectrum.values[:count])
    embedded = embedded / np.sqrt(relaxation.problem.host_weights)[:, None]
    labels = to_host(run.labels_by_kmeans(np.ascontiguousarray(embedded[supernodes]))).astype(np.int64)
    run.offer(labels if user == NO_LINKS else respecting(problem, user, labels))


def respecting(problem: KMeansProblem, user: Links, labels: IntArray) -> IntArray:
    """Labels that respect the links, near the given ones where possible, at a local optimum of single moves."""
    smaller, supernodes, conflicts, _ = user.contract(problem)
    size, n_clusters = smaller.n, problem.n_clusters
    votes = np.zeros((size, n_clusters))
    np.add.at(votes, (supernodes, labels), problem.host_weights)
    if conflicts.diagonal().any() or size < n_clusters:
        raise InvalidProblemError(
            "options['must_link'] and options['cannot_link'] contradict each other, or leave fewer than "
            f"n_clusters={n_clusters} groups"
        )
    chosen = _coloured(conflicts, votes)
    for k in np.flatnonzero(np.bincount(chosen, minlength=n_clusters) == 0):
        crowded = np.flatnonzero(np.bincount(chosen, minlength=n_clusters)[chosen] > 1)
        chosen[crowded[0]] = k
    for _ in range(MOST_SWEEPS):
        moved = kernels.constrained_sweep(
            np.ascontiguousarray(smaller.host_points), smaller.host_weights, chosen, n_clusters, conflicts
        )
        if moved == 0:
            break
    return chosen[supernodes]


def _coloured(conflicts: np.ndarray, votes: FloatArray) -> IntArray:
    """A colour per supernode without conflicts: most constrained first, preferred colours first, with backtracking."""
    size, n_colours = votes.shape
    colours = np.full(size, -1, dtype=np.int64)
    preferred = np.argsort(-votes, axis=1, kind="stable")
    degree = conflicts.sum(axis=1)
    linked = np.flatnonzero(degree > 0)
    free = np.flatnonzero(degree == 0)
    colours[free] = preferred[free, 0]
    stack: list[tuple[int, list[int]]] = []

    def open_next() -> bool:
        rest = linked[colours[linked] < 0]
        if not len(rest):
            return False
        blocked = [{int(c) for c in colours[conflicts[i]] if c >= 0} for i in rest]
        at = max(range(len(rest)), key=lambda r: (len(blocked[r]), degree[rest[r]]))
        stack.append((int(rest[at]), [int(c) for c in preferred[rest[at]] if int(c) not in blocked[at]]))
        return True

    open_next()
    for _ in range(MOST_COLOUR_STEPS):
        if not stack:
            break
        node, options = stack[-1]
        colours[node] = -1
        if not options:
            stack.pop()
            continue
        colours[node] = options.pop(0)
        if not open_next():
            return colours
    if not len(linked):
        return colours
    raise InvalidProblemError(
        f"options['cannot_link'] admits no clustering into n_clusters={n_colours} groups, or none was found"
    )
