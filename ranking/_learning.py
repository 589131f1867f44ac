r"""Losses of a bilinear path model: scores A_g = score(E_g, W) of the nodes of group g, one W for all groups.

With target arcs Y_g, m_g nodes and shares c_g that sum to 1,

    local    sum_g c_g/m_g sum_i w_i (|Y_i| logsumexp_j A_ij - <Y_i, A_i>)  [+ the same for columns]
    global   sum_g c_g/m_g (max_P <Delta_g + A_g, P> - <Y_g, A_g>)

over Hamiltonian cycles (paths) P. Both are convex in W. The local one is smooth and is minimised here, with lam/2 |W|^2
beside it, by L-BFGS; :mod:`ranking._frank_wolfe` minimises the other and their mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.optimize

from ranking._bilinear import pull_back, score_matrices
from ranking._groups import Target
from ranking._rank_tsp_batch import rank_tsp_batch
from solvers._core.arrays import FloatArray, IntArray

__all__ = ["Bucket", "Group", "arc_matrix", "buckets_of", "cross_entropy", "fit_local", "hinge", "local_loss"]


# Score cells of one stack: 128 kB.
STACK_CELLS = 2**14
# Exponentials may share one shift per group while no row or column of them vanishes.
SMALLEST_NORM = 1e-250


@dataclass(frozen=True)
class Group:
    """One group: embeddings E (m, d), its target, and its share in the mean loss."""

    embedding: FloatArray
    target: Target
    share: float


@dataclass(frozen=True)
class Bucket:
    """Groups of one size: embeddings (k, m, d), arcs (k, m, m), and weights c_g w_i / m of their rows (k, m)."""

    embedding: FloatArray
    arcs: FloatArray
    weight: FloatArray


def buckets_of(groups: list[Group]) -> list[Bucket]:
    """Groups of more than one node, stacked by size into stacks that fit the processor's cache."""
    by_size: dict[int, list[Group]] = {}
    for group in groups:
        if len(group.embedding) > 1:
            by_size.setdefault(len(group.embedding), []).append(group)
    return [
        Bucket(
            np.stack([g.embedding for g in bucket]),
            np.stack([g.target.arcs for g in bucket]),
            np.stack([g.share / size * g.target.row_weight for g in bucket]),
        )
        for size, whole in by_size.items()
        for bucket in _stacks(whole, max(1, STACK_CELLS // size**2))
    ]


def _stacks(groups: list[Group], most: int) -> list[list[Group]]:
    return [groups[first : first + most] for first in range(0, len(groups), most)]


def local_loss(matrix: FloatArray, buckets: list[Bucket], alpha: float, *, both: bool) -> tuple[float, FloatArray]:
    """Value and gradient of the local loss with its quadratic term."""
    value, gradient = 0.5 * alpha * float(np.sum(matrix**2)), alpha * matrix
    for bucket in buckets:
        scores = score_matrices(bucket.embedding, matrix)
        part, derivative = cross_entropy(scores, bucket.arcs, bucket.weight, both=both)
        value += part
        gradient = gradient + pull_back(bucket.embedding, derivative, matrix.ndim == 3)
    return value, gradient


def cross_entropy(scores: FloatArray, arcs: FloatArray, weight: FloatArray, *, both: bool) -> tuple[float, FloatArray]:
    """Weighted cross-entropy of the rows (and columns) of a stack of score matrices and its derivative in the scores.

    Columns carry the weight of the rows that lead into them, so that both directions weigh an arc alike.
    """
    m = scores.shape[1]
    a = scores.copy()
    a[:, np.arange(m), np.arange(m)] = -np.inf
    pull = weight[:, :, None] * arcs
    derivative = -(2.0 if both else 1.0) * pull
    value = float(np.vdot(derivative, scores))
    highest = np.max(a, axis=(1, 2), keepdims=True)
    shared = np.exp(a - highest)
    for axis in (2, 1) if both else (2,):
        top, expo, norm = highest, shared, np.sum(shared, axis=axis, keepdims=True)
        if norm.min() < SMALLEST_NORM:
            top = np.max(a, axis=axis, keepdims=True)
            expo = np.exp(a - top)
            norm = np.sum(expo, axis=axis, keepdims=True)
        mass = np.sum(pull, axis=axis, keepdims=True)
        value += float(np.sum(mass * (top + np.log(norm))))
        derivative += expo * (mass / norm)
    return value, derivative


def fit_local(
    groups: list[Group], shape: tuple[int, ...], alpha: float, *, both: bool, max_iter: int, tol: float
) -> tuple[FloatArray, bool]:
    """L-BFGS from 0; W of the given shape and whether it converged."""
    buckets = buckets_of(groups)
    if not buckets:
        return np.zeros(shape), True

    def value(flat: FloatArray) -> tuple[float, FloatArray]:
        f, gradient = local_loss(flat.reshape(shape), buckets, alpha, both=both)
        return f, gradient.ravel()

    found = scipy.optimize.minimize(
        value,
        np.zeros(int(np.prod(shape))),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": max_iter, "gtol": tol, "ftol": 1e-10},
    )
    return found.x.reshape(shape), bool(found.success)


def hinge(
    scores: list[FloatArray], targets: list[Target], shares: FloatArray, rng: np.random.Generator
) -> tuple[float, float, list[FloatArray]]:
    """Value of the global loss at its worst paths, a certified upper bound on it, and a subgradient in the scores."""
    value = bound = 0.0
    derivatives = [np.zeros_like(a) for a in scores]
    for depot in (False, True):
        chosen = [k for k, t in enumerate(targets) if t.depot == depot and len(t.arcs) > 1]
        if not chosen:
            continue
        batch = rank_tsp_batch([scores[k] + targets[k].charge for k in chosen], closed=depot, rng=rng)
        for g, k in enumerate(chosen):
            target, m = targets[k], len(scores[k])
            factor = float(shares[k]) / m
            true = float(np.sum(scores[k] * target.arcs))
            value += factor * (float(np.asarray(batch.fun)[g]) - true)
            bound += factor * (float(np.asarray(batch.bound)[g]) - true)
            derivatives[k] = factor * (arc_matrix(batch.order[g, :m], depot) - target.arcs)
    return value, bound, derivatives


def arc_matrix(order: IntArray, closed: bool) -> FloatArray:
    """Arcs of an order as a matrix of zeros and ones."""
    m = len(order)
    arcs = np.zeros((m, m))
    arcs[order[:-1], order[1:]] = 1.0
    if closed and m > 1:
        arcs[order[-1], order[0]] = 1.0
    return arcs
