r"""The linear program whose value bounds every online policy, solved two ways.

With x_tki the probability that type (t, k) arrives and is matched to node i, and y_i(t) = b_i - sum_{s < t} x_ski,

    max sum w x   s.t.   sum_i x_tki <= p_tk,   0 <= x_tki <= p_tk y_i(t).

The second constraint holds for online policies because an arrival is independent of what is still free; the offline
optimum violates it. Small programs go to HiGHS; large ones are solved through the dual D(lambda) of
:mod:`matching._bounds`, whose kinks max(0, g) are smoothed to eps log(1 + exp(g / eps)) with eps going down in stages,
each minimised by L-BFGS-B. The gradient's forward pass yields x, which one more pass makes feasible: a gap from both
sides after every stage.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from scipy.optimize import Bounds, linprog, minimize

from matching._bounds import dual_bound
from matching._instance import BayesianMatching
from matching._kernels_numba import used_mass
from solvers._core.arrays import FloatArray
from solvers._core.backend import Backend

__all__ = [
    "LPSolution",
    "better",
    "feasible",
    "nothing",
    "smoothing_stages",
    "solve_exactly",
    "solve_smoothed",
    "sparse_program",
]

# Smoothing widths relative to the mean heaviest weight of an arrival; a coarse schedule leaves gaps of a percent.
WIDTHS = (0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001, 0.00003)
ITERATIONS_PER_STAGE = 300
# The first stages only lead the way.
COARSE_STAGES, COARSE_ITERATIONS = 3, 80
# Smaller progress of an iteration ends a stage; the repaired x converges later than the dual value.
STAGE_PROGRESS = 1e-12
# The smoothed dual is left out where its units are beyond these.
SMALLEST_UNIT, LARGEST_RATIO = 1e-300, 1e302


@dataclass(frozen=True)
class LPSolution:
    """A feasible x, a dual point, and what they are worth.

    Attributes
    ----------
    x, left, used : (E,) float64
        By edge: x_tki, y_i(t), and the mass of its node used at t.
    value : float
        sum of w x.
    prices : (T, K) float64
        lambda >= 0.
    """

    x: FloatArray
    left: FloatArray
    used: FloatArray
    value: float
    prices: FloatArray


def feasible(instance: BayesianMatching, x: FloatArray, prices: FloatArray) -> LPSolution:
    """Repair x and prices of any origin; prices above the heaviest weight of their type help no bound."""
    edges, p = instance.edges, instance.probabilities.ravel()
    x, left, used = used_mass(edges.start, edges.node, x, p, instance.copies, instance.n_types)
    capped = np.clip(np.nan_to_num(prices.ravel()), 0.0, _heaviest(instance))
    return LPSolution(x, left, used, math.fsum(edges.weight * x), capped.reshape(instance.probabilities.shape))


def nothing(instance: BayesianMatching) -> LPSolution:
    """The point x = 0 with the prices at which nobody wants a node: the trivial bound of unlimited supply."""
    return feasible(instance, np.zeros(len(instance.edges)), _heaviest(instance))


@dataclass(frozen=True)
class SparseProgram:
    """Minimise c z subject to A_ub z <= b_ub, A_eq z = b_eq and bounds.

    z holds x by edge, then y_i(t) at the times where node i has an edge.
    """

    c: FloatArray
    A_ub: scipy.sparse.csr_array
    b_ub: FloatArray
    A_eq: scipy.sparse.csr_array
    b_eq: FloatArray
    bounds: FloatArray


def sparse_program(instance: BayesianMatching) -> SparseProgram:
    """The program with about two columns, two rows and six non-zeros per edge; weights relative to the largest."""
    edges, p = instance.edges, instance.probabilities.ravel()
    n_edges = len(edges)
    rows = np.repeat(np.arange(len(p)), np.diff(edges.start))
    keys, slot = np.unique(edges.node * instance.n_times + rows // instance.n_types, return_inverse=True)
    owner = keys // instance.n_times
    n_slots = len(keys)
    first = np.r_[True, owner[1:] != owner[:-1]]
    later = np.flatnonzero(~first)
    count = np.arange(len(later))
    index = np.arange(n_edges)
    # x - p y <= 0 and sum x <= p; then y(next) - y + sum x = 0.
    upper = scipy.sparse.coo_array(
        (
            np.r_[np.ones(n_edges), -p[rows], np.ones(n_edges)],
            (np.r_[index, index, n_edges + rows], np.r_[index, n_edges + slot, index]),
        ),
        shape=(n_edges + len(p), n_edges + n_slots),
    )
    follower = np.full(n_slots, -1)
    follower[later - 1] = count
    followed = follower[slot] >= 0
    chain = scipy.sparse.coo_array(
        (
            np.r_[np.ones(len(later)), -np.ones(len(later)), np.ones(int(followed.sum()))],
            (
                np.r_[count, count, follower[slot[followed]]],
                np.r_[n_edges + later, n_edges + later - 1, index[followed]],
            ),
        ),
        shape=(len(later), n_edges + n_slots),
    )
    copies = instance.copies[owner]
    bounds = np.zeros((n_edges + n_slots, 2))
    bounds[:n_edges, 1] = np.inf
    bounds[n_edges:, 0] = np.where(first, copies, 0.0)
    bounds[n_edges:, 1] = copies
    return SparseProgram(
        np.r_[-edges.weight / edges.weight.max(), np.zeros(n_slots)],
        upper.tocsr(),
        np.r_[np.zeros(n_edges), p],
        chain.tocsr(),
        np.zeros(len(later)),
        bounds,
    )


def solve_exactly(instance: BayesianMatching, time_limit: float) -> LPSolution | None:
    """The program by HiGHS; None where it fails."""
    n_edges = len(instance.edges)
    if n_edges == 0:
        return nothing(instance)
    program = sparse_program(instance)
    solve: Any = linprog
    solution = solve(
        program.c,
        A_ub=program.A_ub,
        b_ub=program.b_ub,
        A_eq=program.A_eq if len(program.b_eq) else None,
        b_eq=program.b_eq if len(program.b_eq) else None,
        bounds=program.bounds,
        method="highs",
        options={"time_limit": time_limit} if math.isfinite(time_limit) else {},
    )
    if solution.x is None or solution.status not in (0, 1) or solution.ineqlin is None:
        return None
    if solution.ineqlin.marginals is None:
        return None
    size = float(instance.edges.weight.max())
    return feasible(instance, solution.x[:n_edges], -size * solution.ineqlin.marginals[n_edges:])


def smoothing_stages(instance: BayesianMatching) -> tuple[float, ...]:
    """The widths eps, in the unit of the weights."""
    arrivals = float(np.sum(instance.probabilities))
    size = instance.scale / arrivals if arrivals > 0 else 0.0
    heaviest = float(np.max(instance.edges.weight, initial=0.0))
    # Quotients by the width, the scale and the number of arrivals must neither overflow nor divide by zero.
    if min(arrivals, instance.scale, size) < SMALLEST_UNIT:
        return ()
    return tuple(width * size for width in WIDTHS) if heaviest / size <= LARGEST_RATIO else ()


def solve_smoothed(
    instance: BayesianMatching, backend: Backend, layout: Any, prices: FloatArray, eps: float, stop: Callable[[], bool]
) -> LPSolution:
    """One stage: minimise the smoothed dual from the given prices."""
    kernels = backend.kernels
    work = instance.scale
    size = work / float(np.sum(instance.probabilities))

    def objective(scaled: FloatArray) -> tuple[float, FloatArray]:
        value, gradient, _ = kernels.smoothed_dual(layout, scaled * size, eps)
        return value / work, gradient * (size / work)

    def watch(intermediate_result: Any) -> None:
        if stop():
            raise StopIteration

    solution = minimize(
        objective,
        prices.ravel() / size,
        jac=True,
        method="L-BFGS-B",
        bounds=Bounds(0.0, _heaviest(instance) / size),
        callback=watch,
        options={
            "maxiter": COARSE_ITERATIONS if eps > size * WIDTHS[COARSE_STAGES] else ITERATIONS_PER_STAGE,
            "maxcor": 10,
            "ftol": STAGE_PROGRESS,
            "gtol": 1e-9,
        },
    )
    found = np.asarray(solution.x) * size
    _, _, x = kernels.smoothed_dual(layout, found, eps)
    return feasible(instance, x, found)


def better(instance: BayesianMatching, one: LPSolution, other: LPSolution) -> LPSolution:
    """The better x with the better prices."""
    primal = one if one.value >= other.value else other
    lower = dual_bound(instance, one.prices).value <= dual_bound(instance, other.prices).value
    return LPSolution(primal.x, primal.left, primal.used, primal.value, (one if lower else other).prices)


def _heaviest(instance: BayesianMatching) -> FloatArray:
    heaviest = np.zeros(instance.probabilities.size)
    start = instance.edges.start
    filled = np.diff(start) > 0
    heaviest[filled] = instance.edges.weight[start[:-1][filled]]
    return heaviest
