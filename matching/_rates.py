r"""From a solution of the linear program to the rates of a policy, and from there to better proved values.

A rate r_tki in [0, 1] is the probability with which a free unit i proposes to type (t, k). The rates of the program are
r = x / (p y). Replacing the mass x_i(t) that node i uses at t by F(z + x_i(t)) - F(z), with z the mass used before and
F(z) = int_0^z f, f increasing, F(1) = 1, damps early edges and boosts late ones: on instances where cheap early
matches use up the nodes that a sure late arrival needs this lifts the worst case from 1 - 1/e. Since every r is the
rates of some policy whose value is at least C(r), one may as well maximise C: no step below can lose the guarantee of
its start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import Bounds, minimize

from matching._instance import BayesianMatching
from matching._kernels_policy import proved_gradient
from matching._lp import LPSolution
from solvers._core.arrays import FloatArray

__all__ = ["SCALINGS", "ascend", "scaled_rates"]

# Rates below this are dropped: their share of the value is below the tolerance of any linear program solved here.
NEGLIGIBLE_RATE = 1e-9
# Ascent ends when an iteration adds less than this fraction of the upper bound.
ASCENT_PROGRESS = 1e-8


def _two_step(z: FloatArray) -> FloatArray:
    """F for f = 13/15 below z = 0.6 and 6/5 above."""
    return np.where(z < 0.6, 13.0 / 15.0 * z, 0.52 + 1.2 * (z - 0.6))


def _cubic(z: FloatArray) -> FloatArray:
    """F for f = 0.85 + 0.6 z^3."""
    return 0.85 * z + 0.15 * z**4


SCALINGS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "none": lambda z: z,
    "two-step": _two_step,
    "cubic": _cubic,
}


def scaled_rates(instance: BayesianMatching, solution: LPSolution, scaling: str) -> FloatArray:
    """Rates by edge of ``instance.units``; copies of a node share its x evenly."""
    edges, behind = instance.units
    share = 1.0 / instance.copies[instance.edges.node[behind]]
    p = np.repeat(instance.probabilities.ravel(), np.diff(edges.start))
    x = solution.x[behind] * share
    before = np.clip(1.0 - solution.left[behind] * share, 0.0, 1.0)
    used = np.minimum(solution.used[behind] * share, 1.0 - before)
    total = SCALINGS[scaling]
    positive = (used > 0) & (p > 0)
    grown = total(before + used) - total(before)
    mass = x * np.divide(grown, used, out=np.zeros_like(x), where=positive)
    left = p * (1.0 - total(before))
    rates = np.divide(mass, left, out=np.zeros_like(x), where=positive & (left > 0))
    return pruned(rates)


def pruned(rates: FloatArray) -> FloatArray:
    """Rates in [0, 1] without negligible ones."""
    rates = np.clip(rates, 0.0, 1.0)
    rates[rates <= NEGLIGIBLE_RATE] = 0.0
    return rates


def ascend(
    instance: BayesianMatching,
    rates: FloatArray,
    grid: int,
    size: float,
    report: Callable[[FloatArray], bool],
    iterations: int,
) -> FloatArray:
    """Rates of higher proved value, by L-BFGS-B on the box; ``report(rates)`` sees every iterate, true to stop.

    On a coarse grid ascent aligns the rates with the grid, so that little is gained by a finer one.
    """
    edges, _ = instance.units
    p = instance.probabilities.ravel()

    def objective(point: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = proved_gradient(edges, p, point, instance.n_types, instance.n_units, grid)
        return -value / size, gradient / -size

    def watch(intermediate_result: Any) -> None:
        if report(intermediate_result.x):
            raise StopIteration

    solution = minimize(
        objective,
        rates,
        jac=True,
        method="L-BFGS-B",
        bounds=Bounds(0.0, 1.0),
        callback=watch,
        options={"maxiter": iterations, "maxcor": 10, "ftol": ASCENT_PROGRESS, "gtol": 1e-9},
    )
    return pruned(np.asarray(solution.x))
