r"""Relaxations of many blocks of equal size at once, in array code: the shape of work that accelerators are made for.

The splitting method of :mod:`clustering._admm` on stacks (b, s, s): one stacked eigendecomposition and a few elementwise
passes an iteration, with a penalty for each block. Blocks leave the stack when their bound is good enough or has stopped
rising. Blocks are alike by construction, so the scale of the structured multiplier of one starts all of them. The bounds are
those of :mod:`clustering._ky_fan`, block by block.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clustering._ky_fan import multiplier_bound
from clustering._problem import Groups, KMeansProblem, largest_eigenvalue
from clustering._result import MultiplierCertificate
from clustering._structured_bounds import dense_multiplier
from solvers._core.arrays import Array, FloatArray, namespace_of, to_host
from solvers._core.linalg import simplex_threshold

__all__ = ["STACKED_MATRICES", "solve_stack"]

# s x s float64 arrays alive for each block of a stack.
STACKED_MATRICES = 8
RELAXATION = 1.8
FIRST_PENALTY, SCALE_TO_PENALTY = 0.5, 3.0
BALANCE_EVERY, BALANCE_UNTIL, BALANCE_DEADBAND = 20, 200, 1.2
CHECK_EVERY = 25
# A block whose bound rose by less than this share of the tolerance since the last check is done.
LEAST_PROGRESS = 0.1


def solve_stack(
    problems: list[KMeansProblem],
    labels: list[Array],
    scale: float,
    tol: float,
    most_iterations: int,
    out_of_time: Callable[[], bool],
) -> list[tuple[float, MultiplierCertificate]]:
    """Bounds of blocks of one size, with proofs, until each is within ``tol`` of its labels' cost or stops rising."""
    xp, take = problems[0].backend.xp, problems[0].backend.take
    groups = [Groups(problem, mine) for problem, mine in zip(problems, labels, strict=True)]
    rows = [xp.expand_dims(xp.sqrt(problem.weights), axis=1) * problem.points for problem in problems]
    norms = [largest_eigenvalue(block) or 1.0 for block in rows]
    affinity = xp.stack([block @ block.T / norm for block, norm in zip(rows, norms, strict=True)])
    q = xp.stack([problem.direction for problem in problems])
    penalties = np.full(len(problems), FIRST_PENALTY)
    if scale > 0:
        penalties = np.clip(SCALE_TO_PENALTY * scale / np.array(norms), 1e-3, 10.0)
    trace = problems[0].n_clusters - 1.0
    state = xp.stack(
        [_first(g, scale, float(rho) * norm) for g, rho, norm in zip(groups, penalties, norms, strict=True)]
    )
    found = [_proof(problem, xp.zeros_like(affinity[0, :, :])) for problem in problems]
    alive = np.arange(len(problems))
    for iteration in range(1, most_iterations + 1):
        rho = take(penalties[alive])[:, None, None]
        z = _projected(xp.abs(state) + affinity / rho, q, trace)
        before = xp.where(state > 0, state, xp.zeros_like(state))
        state = RELAXATION * z - RELAXATION * before + state
        positive = xp.where(state > 0, state, xp.zeros_like(state))
        if iteration % BALANCE_EVERY == 0 and iteration <= BALANCE_UNTIL:
            primal, moved = (to_host(xp.sum(x * x, axis=(1, 2))) ** 0.5 for x in (z - positive, positive - before))
            factor = _balance(primal, penalties[alive] * moved)
            penalties[alive] *= factor
            state = xp.where(state < 0, state / take(factor)[:, None, None], state)
        last = iteration == most_iterations or out_of_time()
        if iteration % CHECK_EVERY and not last:
            continue
        keep = []
        for place, j in enumerate(alive):
            multiplier = xp.where(state[place, :, :] < 0, -state[place, :, :], xp.zeros_like(affinity[0, :, :]))
            fresh = _proof(problems[j], float(penalties[j]) * norms[j] * multiplier)
            least = groups[j].cost - tol * groups[j].cost
            if found[j][0] < fresh[0] < least and (fresh[0] - found[j][0]) > LEAST_PROGRESS * tol * groups[j].cost:
                keep.append(place)
            found[j] = max(found[j], fresh, key=lambda proof: proof[0])
        if last or not keep:
            break
        if len(keep) < len(alive):
            alive, index = alive[keep], take(np.array(keep))
            state, affinity, q = (xp.take(stack, index, axis=0) for stack in (state, affinity, q))
    return found


def _first(groups: Groups, scale: float, unit: float) -> Array:
    """T of a block: the membership matrix of its labels less the structured multiplier."""
    problem = groups.problem
    xp = problem.backend.xp
    root = xp.sqrt(problem.weights)
    totals = xp.take(problem.backend.take(groups.totals), groups.labels)
    member = xp.expand_dims(root / totals, axis=1) * root
    same = xp.expand_dims(groups.labels, axis=1) == groups.labels
    if not scale > 0:
        return xp.where(same, member, xp.zeros_like(member))
    return xp.where(same, member, -dense_multiplier(groups, np.full((problem.n_clusters,) * 2, scale)) / unit)


def _projected(stack: Array, q: Array, trace: float) -> Array:
    """Nearest matrices with Z psd, Zq = q and tr Z = trace + 1; q is moved below every other eigenvalue first."""
    xp = namespace_of(stack)
    column, row = q[:, :, None], q[:, None, :]
    image = stack @ column
    inner = row @ image
    low = xp.sqrt(xp.sum(stack * stack, axis=(1, 2)))[:, None, None]
    deflated = stack - image @ row - column @ xp.matrix_transpose(image) + (inner - 2.0 * low - 1.0) * (column @ row)
    values, vectors = xp.linalg.eigh(0.5 * (deflated + xp.matrix_transpose(deflated)))
    host = to_host(values)
    kept: FloatArray = np.stack([np.maximum(v - simplex_threshold(v[1:], trace), 0.0) for v in host])
    kept[:, 0] = 0.0
    weights = xp.asarray(kept, device=_device(stack))
    return (vectors * weights[:, None, :]) @ xp.matrix_transpose(vectors) + column @ row


def _balance(primal: FloatArray, dual: FloatArray) -> FloatArray:
    factor = np.clip(np.sqrt(primal / np.where(dual > 0, dual, 1.0)), 0.5, 2.0)
    small = (factor < BALANCE_DEADBAND) & (factor > 1.0 / BALANCE_DEADBAND)
    result: FloatArray = np.where(small | ~(dual > 0), 1.0, factor)
    return result


def _proof(problem: KMeansProblem, multiplier: Array) -> tuple[float, MultiplierCertificate]:
    symmetric = 0.5 * (multiplier + multiplier.T)
    return multiplier_bound(problem, symmetric).published, MultiplierCertificate(to_host(symmetric))


def _device(array: Array) -> object:
    return None if isinstance(array, np.ndarray) else array.device
