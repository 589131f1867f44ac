r"""Block-coordinate Frank-Wolfe for a sum of convex block losses and a quadratic term, with a certified gap.

    min_W  alpha/2 |W|^2 + sum_b h_b(W)

The hinge of a whole path (Lacoste-Julien et al., ICML 2013) is such an h_b, and so is the cross-entropy of one group:
all that the method asks for is a tangent. A block keeps a convex combination of its tangents,

    h_b(W) >= l_b - alpha <W_b, W>      for every W,

so that sum_b l_b - alpha/2 |sum_b W_b|^2, attained at W = sum_b W_b, is a lower bound. A visit takes the tangent of the
block at W and the step towards it that raises this dual most, in closed form: the dual never falls. Tangents of paths
that are not the worst hold just the same. The primal is evaluated at one fixed W, the weighted average of the iterates,
with a certified upper bound on every group's worst path; primal less dual then proves how far W is from the best.

Hybrid training alternates, group by group, a local and a global step, as the original model does from batch to batch;
here both are steps of one method, and minimise the mean of the two losses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ranking._bilinear import pull_back, score_matrices
from ranking._learning import Bucket, Group, arc_matrix, buckets_of, cross_entropy, hinge, local_loss
from ranking._rank_tsp import path_order
from solvers._core.arrays import FloatArray

__all__ = ["GlobalFit", "fit_global"]

Tangent = tuple[FloatArray, float]


@dataclass(frozen=True)
class GlobalFit:
    """Averaged W, dual value after each epoch, certified primal of the averaged W, and the gap of the two."""

    matrix: FloatArray
    dual: FloatArray
    primal: float
    gap: float


class _Dual:
    """Tangents of all blocks, their sum W and the dual value."""

    def __init__(self, blocks: int, shape: tuple[int, ...], alpha: float) -> None:
        self.alpha = alpha
        self.parts = np.zeros((blocks, *shape))
        self.offsets = np.zeros(blocks)
        self.matrix = np.zeros(shape)

    def step(self, block: int, tangent: Tangent) -> None:
        """Move one block towards a tangent by the step of greatest rise."""
        target, offset = tangent
        difference = self.parts[block] - target
        square = self.alpha * float(np.sum(difference**2))
        rise = self.alpha * float(np.sum(difference * self.matrix)) - float(self.offsets[block]) + offset
        gamma = min(max(rise / square, 0.0), 1.0) if square > 0 else float(rise > 0)
        self.parts[block] -= gamma * difference
        self.matrix = self.matrix - gamma * difference
        self.offsets[block] += gamma * (offset - self.offsets[block])

    def value(self) -> float:
        """The dual, evaluated from the parts: a sum carried along drifts by rounding."""
        self.matrix = self.parts.sum(axis=0)
        return float(np.sum(self.offsets)) - 0.5 * self.alpha * float(np.sum(self.matrix**2))


def fit_global(
    groups: list[Group],
    shape: tuple[int, ...],
    alpha: float,
    *,
    epochs: int,
    tol: float,
    rng: np.random.Generator,
    both: bool,
    start: FloatArray | None = None,
) -> GlobalFit:
    """Minimise the global loss, or with ``start``, the minimiser of half the local loss, the mean of both losses.

    Stops once the certified gap is at most ``tol``.
    """
    active = [g for g in groups if len(g.embedding) > 1]
    hybrid = start is not None
    fraction = 0.5 if hybrid else 1.0
    alone = [buckets_of([g])[0] for g in active] if hybrid else []
    dual = _Dual(len(active) * (1 + hybrid), shape, alpha)
    if start is not None:
        for block, bucket in enumerate(alone, start=len(active)):
            dual.parts[block], dual.offsets[block] = _local_tangent(bucket, start, alpha, both)
        dual.value()
    average = dual.matrix
    values: list[float] = []
    primal, gap, steps = 0.0, np.inf, 0
    for _ in range(epochs):
        for k in rng.permutation(len(active)).tolist():
            if hybrid:
                dual.step(len(active) + k, _local_tangent(alone[k], dual.matrix, alpha, both))
            dual.step(k, _path_tangent(active[k], dual.matrix, alpha, fraction, rng))
            steps += 1
            average = average + 2.0 / (steps + 1.0) * (dual.matrix - average)
        values.append(dual.value())
        primal = _primal(active, average, alpha, fraction, hybrid, both, rng)
        gap = primal - values[-1]
        if gap <= tol:
            break
    return GlobalFit(average, np.array(values), primal, float(gap))


def _path_tangent(g: Group, matrix: FloatArray, alpha: float, fraction: float, rng: np.random.Generator) -> Tangent:
    """Tangent of a group's hinge at W: that of the worst path found."""
    target = g.target
    charged = score_matrices(g.embedding, matrix) + target.charge
    path = arc_matrix(path_order(charged, closed=target.depot, rng=rng), target.depot)
    factor = fraction * g.share / len(path)
    slope = pull_back(g.embedding, path - target.arcs, matrix.ndim == 3)
    return -factor / alpha * slope, factor * float(np.sum(path * target.charge))


def _local_tangent(bucket: Bucket, matrix: FloatArray, alpha: float, both: bool) -> Tangent:
    """Tangent of half a group's cross-entropy at W."""
    value, derivative = cross_entropy(score_matrices(bucket.embedding, matrix), bucket.arcs, bucket.weight, both=both)
    slope = 0.5 * pull_back(bucket.embedding, derivative, matrix.ndim == 3)
    return -slope / alpha, 0.5 * value - float(np.sum(slope * matrix))


def _primal(
    groups: list[Group],
    matrix: FloatArray,
    alpha: float,
    fraction: float,
    hybrid: bool,
    both: bool,
    rng: np.random.Generator,
) -> float:
    """Certified upper bound on the objective at one fixed W."""
    scores = [score_matrices(g.embedding, matrix) for g in groups]
    _, bound, _ = hinge(scores, [g.target for g in groups], np.array([g.share for g in groups]), rng)
    total = fraction * bound + 0.5 * alpha * float(np.sum(matrix**2))
    return total + 0.5 * local_loss(matrix, buckets_of(groups), 0.0, both=both)[0] if hybrid else total
