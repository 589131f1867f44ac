r"""Training of a bilinear path model: scores A_g = E_g W E_g^T of the nodes of group g, one matrix W for all groups.

With target arcs Y_g and m_g nodes,

    local    1/G sum_g c_g/m_g sum_i w_i (|Y_i| logsumexp_j A_ij - <Y_i, A_i>)  [+ the same for columns]  + lam/2 |W|^2
    global   1/G sum_g c_g/m_g max_P (<Delta_g + A_g, P> - <Y_g, A_g>)                                    + lam/2 |W -
    W_0|^2

over Hamiltonian cycles (paths) P; both are convex in W. The local one is smooth and goes to L-BFGS. The global one goes
to block-coordinate Frank-Wolfe (Lacoste-Julien et al., ICML 2013): its dual value rises with every step, and primal -
dual, with the primal from certified bounds on every group's maximum at one fixed W, is a proof of suboptimality.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.optimize

from ranking._rank_tsp import path_order
from ranking._rank_tsp_batch import rank_tsp_batch
from solvers._core.arrays import FloatArray, IntArray

__all__ = ["GlobalFit", "Group", "fit_global", "fit_local", "local_loss"]


@dataclass(frozen=True)
class Group:
    """One group: embeddings E (m, d), target arcs Y (m, m), row weights (m,), arc charges Delta (m, m), weight c."""

    embedding: FloatArray
    arcs: FloatArray
    row_weight: FloatArray
    charge: FloatArray
    weight: float
    depot: bool


@dataclass(frozen=True)
class GlobalFit:
    """Averaged matrix, dual value after each epoch, certified primal of the averaged matrix and the gap of the two."""

    matrix: FloatArray
    dual: FloatArray
    primal: float
    gap: float
    epochs: int


def local_loss(matrix: FloatArray, groups: list[list[Group]], alpha: float, *, both: bool) -> tuple[float, FloatArray]:
    """Value and gradient of the local loss; ``groups`` are lists of groups of one size."""
    total = 0.0
    gradient = np.zeros_like(matrix)
    count = sum(map(len, groups))
    for bucket in groups:
        e = np.stack([g.embedding for g in bucket])
        y = np.stack([g.arcs for g in bucket])
        weight = np.stack([g.row_weight for g in bucket]) * np.array([[g.weight] for g in bucket]) / e.shape[1]
        value, inner = _cross_entropy(e @ matrix @ e.transpose(0, 2, 1), y, weight, both)
        total += value
        gradient += np.einsum("gid,gie->de", e, inner @ e, optimize=True)
    return total / count + 0.5 * alpha * float(np.sum(matrix**2)), gradient / count + alpha * matrix


def _cross_entropy(a: FloatArray, y: FloatArray, weight: FloatArray, both: bool) -> tuple[float, FloatArray]:
    """Weighted cross-entropy of rows (and columns) and its derivative in the scores."""
    m = a.shape[1]
    a[:, np.arange(m), np.arange(m)] = -np.inf
    derivative = np.zeros_like(a)
    value = 0.0
    for axis in (2, 1) if both else (2,):
        # Columns carry the weight of the row that leads into them, so that both directions weigh an arc alike.
        w = weight[:, :, None] if axis == 2 else np.sum(weight[:, :, None] * y, axis=1, keepdims=True)
        mass = np.sum(y, axis=axis, keepdims=True) if axis == 2 else 1.0
        top = np.max(a, axis=axis, keepdims=True)
        with np.errstate(invalid="ignore"):
            expo = np.exp(a - top)
        norm = np.sum(expo, axis=axis, keepdims=True)
        value += float(np.sum(w * mass * (top + np.log(norm))))
        derivative += w * mass * (expo / norm)
    pull = weight[:, :, None] * y * (2.0 if both else 1.0)
    finite = np.where(np.isfinite(a), a, 0.0)
    return value - float(np.sum(pull * finite)), derivative - pull


def fit_local(
    groups: list[Group], size: int, alpha: float, *, both: bool, max_iter: int, tol: float
) -> tuple[FloatArray, bool]:
    """L-BFGS from 0; the matrix and whether it converged."""
    buckets: dict[int, list[Group]] = {}
    for group in groups:
        if len(group.embedding) > 1:
            buckets.setdefault(len(group.embedding), []).append(group)
    if not buckets:
        return np.zeros((size, size)), True
    parts = list(buckets.values())

    def value(flat: FloatArray) -> tuple[float, FloatArray]:
        f, gradient = local_loss(flat.reshape(size, size), parts, alpha, both=both)
        return f, gradient.ravel()

    found = scipy.optimize.minimize(
        value,
        np.zeros(size * size),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": max_iter, "gtol": tol, "ftol": 1e-10},
    )
    return found.x.reshape(size, size), bool(found.success)


def fit_global(
    groups: list[Group], base: FloatArray, alpha: float, *, epochs: int, tol: float, rng: np.random.Generator
) -> GlobalFit:
    """Block-coordinate Frank-Wolfe around ``base``; stops once the certified gap is <= ``tol``."""
    active = [g for g in groups if len(g.embedding) > 1]
    count = max(len(groups), 1)
    shape = base.shape
    shares = [np.zeros(shape) for _ in active]
    offsets = np.zeros(len(active))
    moved = np.zeros(shape)
    average = np.zeros(shape)
    fixed = [g.embedding @ base @ g.embedding.T for g in active]
    dual: list[float] = []
    steps = 0
    primal, gap = 0.0, np.inf
    done = 0
    for epoch in range(epochs):
        for k in rng.permutation(len(active)):
            g = active[k]
            m = len(g.embedding)
            scores = g.charge + fixed[k] + g.embedding @ moved @ g.embedding.T
            path = _arcs(path_order(scores, closed=g.depot, rng=rng), m, g.depot)
            factor = g.weight / (count * m)
            target = factor / alpha * (g.embedding.T @ (g.arcs - path) @ g.embedding)
            offset = factor * float(np.sum(path * g.charge) + np.sum((path - g.arcs) * fixed[k]))
            difference = shares[k] - target
            square = alpha * float(np.sum(difference**2))
            rise = alpha * float(np.sum(difference * moved)) - offsets[k] + offset
            gamma = min(max(rise / square, 0.0), 1.0) if square > 0 else float(rise > 0)
            shares[k] = shares[k] - gamma * difference
            moved -= gamma * difference
            offsets[k] += gamma * (offset - offsets[k])
            steps += 1
            average += 2.0 / (steps + 1.0) * (moved - average)
        # Sums carried along drift by rounding; the dual is evaluated from the shares.
        moved = np.sum(shares, axis=0) if shares else moved
        dual.append(float(np.sum(offsets)) - 0.5 * alpha * float(np.sum(moved**2)))
        done = epoch + 1
        if done % 5 == 0 or done == epochs:
            primal = _primal(active, fixed, average, alpha, count, rng)
            gap = primal - dual[-1]
            if gap <= tol:
                break
    return GlobalFit(base + average, np.array(dual), primal, float(gap), done)


def _primal(
    groups: list[Group], fixed: list[FloatArray], moved: FloatArray, alpha: float, count: int, rng: np.random.Generator
) -> float:
    """Certified upper bound on the objective at one fixed matrix."""
    total = 0.5 * alpha * float(np.sum(moved**2))
    for closed in (False, True):
        chosen = [k for k, g in enumerate(groups) if g.depot == closed]
        if chosen:
            plain = [fixed[k] + groups[k].embedding @ moved @ groups[k].embedding.T for k in chosen]
            charged = [a + groups[k].charge for a, k in zip(plain, chosen, strict=True)]
            bounds = np.asarray(rank_tsp_batch(charged, closed=closed, rng=rng).bound)
            for bound, a, k in zip(bounds.tolist(), plain, chosen, strict=True):
                g = groups[k]
                total += g.weight / (count * len(a)) * (float(bound) - float(np.sum(a * g.arcs)))
    return total


def _arcs(order: IntArray, m: int, closed: bool) -> FloatArray:
    """Arc matrix of an order."""
    arcs = np.zeros((m, m))
    arcs[order[:-1], order[1:]] = 1.0
    if closed:
        arcs[order[-1], order[0]] = 1.0
    return arcs
