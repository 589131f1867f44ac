"""Proposals of proofs that a quadratic is positive definite; the certificate checks them, so nothing here need be right.

Diagonally dominant matrices whose components all have a row of positive slack get a spanning forest, grown breadth first from
those rows. Others get about (2 diag Q - |Q|)^{-1} 1, if conjugate gradients find it positive. Dense ones that are too large for
all their eigenvalues, or in units too different for these, get half of an estimate of the least one, by inverse iteration.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import scipy.linalg
import scipy.sparse

from solvers._core.arrays import Array, FloatArray, IntArray, freeze, host_namespace, to_host
from solvers._core.jit import njit
from solvers.bcd._least_eigenvalue import balanced, factor_shifted, rounding_of_factors
from solvers.bcd._quadratic import Quadratic, compressed
from solvers.bcd._quadratic_certificate import Definiteness

__all__ = ["propose_definiteness"]


# Dense matrices up to this size are factorised twice, once for the estimate and once for the proof.
LARGEST_FACTORISED = 10_000
INVERSE_ITERATIONS = 12
# Multiplications a second that factorisations reach at least.
FACTOR_SPEED = 2e9


def propose_definiteness(loss: Quadratic) -> Definiteness:
    """A spanning forest, positive weights, or an eigenvalue; nothing where the certificate does without."""
    if "proposal" not in loss.proofs:
        if loss.sparse is not None or loss.remote is not None:
            loss.proofs["proposal"] = _propose(loss)
        else:
            loss.proofs["proposal"] = Definiteness(least=_least_eigenvalue(loss) if needs_factors(loss) else None)
    proposal = loss.proofs["proposal"]
    assert isinstance(proposal, Definiteness)
    return proposal


def needs_factors(loss: Quadratic) -> bool:
    """Whether only a factorisation may prove Q definite."""
    dense = loss.sparse is None and loss.device is None and loss.dense is not None
    return dense and loss.size <= LARGEST_FACTORISED and not loss.curvature > 0


def seconds_of_factors(loss: Quadratic) -> float:
    """What the factorisations of :func:`propose_definiteness` and of the proof may take."""
    return 2.0 * loss.size**3 / 6.0 / FACTOR_SPEED


def _least_eigenvalue(loss: Quadratic) -> float | None:
    """Half of the least eigenvalue of the balanced matrix, about, or what rounding leaves of it."""
    Q, _ = balanced(loss.dense)
    rounding = rounding_of_factors(np.diagonal(Q))
    factor = factor_shifted(Q, 4.0 * rounding)
    if factor is None:
        return None
    v = np.random.default_rng(0).standard_normal(loss.size)
    for _ in range(INVERSE_ITERATIONS):
        v = scipy.linalg.cho_solve((factor, True), v / np.linalg.norm(v), check_finite=False)
    return max(0.5 / float(np.linalg.norm(v)), 2.0 * rounding)


def _propose(loss: Quadratic) -> Definiteness:
    if loss.weakly_dominant and loss.sparse is not None:
        parents = np.empty(loss.size, dtype=np.int64)
        slack = 2.0 * loss.lipschitz - loss.row_sums
        least = 16 * np.finfo(float).eps * (loss.row_counts + 4) * loss.row_sums
        if grow_forest(*compressed(loss.graph), slack - least, parents):
            return Definiteness(parents=freeze(parents))
        return Definiteness()
    return Definiteness() if loss.curvature > 0 else Definiteness(comparison_weights(loss))


@njit()
def grow_forest(data: FloatArray, indices: IntArray, indptr: IntArray, slack: FloatArray, parents: IntArray) -> bool:
    """Breadth first from the rows of positive slack, by each node's strongest edge into the layer before; all reached?"""
    n = len(parents)
    # Small and few arrays for what is read out of order; the edges are chosen in a second pass, in natural order.
    queue, depth = np.empty(n, dtype=np.int32), np.full(n, -1, dtype=np.int32)
    tail = 0
    for i in range(n):
        if slack[i] > 0.0:
            depth[i] = 0
            queue[tail] = i
            tail += 1
    head = 0
    while head < tail:
        i = queue[head]
        head += 1
        for k in range(indptr[i], indptr[i + 1]):
            j = indices[k]
            if depth[j] < 0 and data[k] != 0.0:
                depth[j] = depth[i] + 1
                queue[tail] = j
                tail += 1
    for i in range(n):
        parents[i] = -1
        if depth[i] > 0:
            strength = 0.0
            for k in range(indptr[i], indptr[i + 1]):
                if depth[indices[k]] == depth[i] - 1 and abs(data[k]) > strength:
                    strength = abs(data[k])
                    parents[i] = indices[k]
    return tail == n


def comparison_weights(loss: Quadratic) -> FloatArray | None:
    """About (2 diag Q - |Q|)^{-1} 1 by conjugate gradients; the certificate checks what comes out."""
    if np.any(loss.lipschitz <= 0):
        return None
    if loss.remote is not None:
        remote, diagonal = loss.remote, loss.remote.diagonal
        found = _positive_solution(lambda x: 2.0 * diagonal * x - remote.absolute_product(x), diagonal, loss.xp)
        return None if found is None else np.array(to_host(found))
    graph = loss.graph
    negated = scipy.sparse.csr_array((-np.abs(graph.data), graph.indices, graph.indptr), shape=graph.shape)
    comparison = negated + scipy.sparse.diags_array(2.0 * loss.lipschitz, format="csr")
    return _positive_solution(lambda x: comparison @ x, loss.lipschitz, host_namespace)


def _positive_solution(product: Callable[[Array], Array], diagonal: Array, xp: ModuleType) -> Array | None:
    """w > 0 with M w > 0, by Jacobi-preconditioned conjugate gradients on M w = 1; None where M is not definite."""
    w, r = xp.zeros_like(diagonal), xp.ones_like(diagonal)
    y = r / diagonal
    p, rho = y, float(xp.sum(r * y))
    for _ in range(4 * diagonal.shape[0] + 20):
        image = product(p)
        curvature = float(xp.sum(p * image))
        if not curvature > 0:
            return None
        w = w + (rho / curvature) * p
        r = r - (rho / curvature) * image
        # M w = 1 - r is positive where the residual stays below one.
        if float(xp.max(r)) < 0.9 and _positive(w, product, xp):
            return w
        y = r / diagonal
        rho, before = float(xp.sum(r * y)), rho
        if rho <= 1e-30 * diagonal.shape[0]:
            return w if _positive(w, product, xp) else None
        p = y + (rho / before) * p
    return None


def _positive(w: Array, product: Callable[[Array], Array], xp: ModuleType) -> bool:
    return bool(xp.all(w > 0)) and bool(xp.all(product(w) > 0))
