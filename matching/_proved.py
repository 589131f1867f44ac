"""What is proved of a policy's value, and which problem arguments ``match_online`` takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from matching._bounds import SMALLEST, Enclosure, independent_value, pivotal_value
from matching._instance import BayesianMatching
from matching._kernels_policy import LEVEL_SLACK
from matching._oracles import MOST_UNITS_PRICES, optimal_online_value, price_policy_value
from matching._result import PolicyTables
from solvers._core.linalg import UNIT
from solvers._core.options import check_choice

__all__ = ["RATED_METHODS", "best_online_value", "check_problem", "has_exact_value", "proved_policy_value"]

SCALINGS = ("auto", "none", "two-step", "cubic", "ascent")
RATED_METHODS = ("pivotal", "independent", "rollout")
# Sets of units times edges up to which greedy and dual prices are valued exactly.
EXACT_VALUE_STEPS = 20_000_000


def check_problem(instance: Any, scaling: Any, salvage: Any) -> None:
    """Validate the problem arguments; raises before any work."""
    if not isinstance(instance, BayesianMatching):
        raise TypeError(f"instance must be a matching.BayesianMatching; got {type(instance).__name__}")
    check_choice("scaling", scaling, SCALINGS)
    if not isinstance(salvage, (bool, np.bool_)):
        raise TypeError(f"salvage must be True or False; got {salvage!r}")


def proved_policy_value(tables: PolicyTables) -> Enclosure:
    """What is proved of a policy's value: C(r), its like for independent proposals, or an exact value."""
    instance, certificate = tables.instance, tables.certificate
    if tables.method == "independent":
        return independent_value(instance, certificate.rates)
    if certificate.exact:
        return best_online_value(instance)
    if tables.method in ("pivotal", "rollout"):
        value = pivotal_value(instance, certificate.rates, certificate.grid)
        if tables.method == "pivotal":
            return value
        # Each of T decisions compares values of the future and their derivatives. Their drift of y is no larger than
        # that of the whole horizon, their relative errors apply to values below the scale, and blended prices may lose
        # a fraction LEVEL_SLACK of what is proved.
        wrong = value.error + _relative_error(instance, certificate.grid) * instance.scale
        lost = LEVEL_SLACK * instance.scale
        return Enclosure(value.value, value.error + instance.n_times * (16.0 * wrong + lost))
    if not has_exact_value(instance):
        return Enclosure(0.0, 0.0)
    _, behind = instance.units
    return _by_recursion(instance, price_policy_value(instance, np.array(tables.bid_prices[behind])))


def best_online_value(instance: BayesianMatching) -> Enclosure:
    """OPT_on by the dynamic program over sets of units; also the value of the policy that follows another such table."""
    return _by_recursion(instance, optimal_online_value(instance))


def _by_recursion(instance: BayesianMatching, value: float) -> Enclosure:
    """Each time adds a sum of K + 1 products of positive terms, none above what an unlimited supply would be worth."""
    steps = instance.n_times * (instance.n_types + 2.0)
    return Enclosure(value, 8.0 * UNIT * steps * max(value, instance.scale) + SMALLEST * steps)


def has_exact_value(instance: BayesianMatching, steps: int = EXACT_VALUE_STEPS) -> bool:
    """Whether the dynamic program over sets of units is quick enough to run on every call."""
    size = len(instance.units[0]) + instance.n_times * (instance.n_types + 1)
    return instance.n_units <= MOST_UNITS_PRICES and 2**instance.n_units * size <= steps


def _relative_error(instance: BayesianMatching, grid: int) -> float:
    """Of sums of positive terms over the prefix and the grid, as in :func:`matching._bounds.pivotal_value`."""
    degree = float(np.max(np.diff(instance.units[0].start), initial=0))
    return 2.0 * UNIT * (8.0 * degree + grid + 32.0)
