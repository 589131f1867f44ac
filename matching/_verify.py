"""The independent check of matching results: x, the policy's proved value and the bound, from the data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.sparse

from matching._bounds import SMALLEST, dual_bound
from matching._instance import BayesianMatching
from matching._kernels_policy import METHOD_CODES
from matching._proved import (
    RATED_METHODS,
    SCALINGS,
    best_online_value,
    check_problem,
    has_exact_value,
    proved_policy_value,
)
from matching._result import MatchingCertificate, MatchingResult, PolicyTables
from solvers._core.arrays import FloatArray
from solvers._core.proofs import judge, problem_arguments
from solvers._core.result import Verification

__all__ = ["verify_match_online"]

# Rounding of x against its constraints, relative to the capacities and the probability of the type: an absolute
# allowance would be worth more than the bound where weights are far apart.
FEASIBILITY = 1e-9
# Cells that ``options['grid']`` allows.
MOST_CELLS = 2**20


def verify_match_online(
    result: MatchingResult, instance: Any, *, scaling: str = "auto", salvage: bool = True
) -> Verification:
    """Check a result of ``match_online``."""
    with problem_arguments():
        check_problem(instance, scaling, salvage)
    certificate = result.certificate
    wrong = (
        _wrong_claim(result, instance, scaling, salvage)
        or _malformed(result, instance)
        or _infeasible(result, instance)
    )
    if wrong:
        return Verification(False, math.nan, math.inf, math.inf, f"infeasible: {wrong}")
    above = dual_bound(instance, certificate.prices)
    bound = above.value + above.error
    if certificate.exact:
        best = best_online_value(instance)
        bound = min(bound, best.value + best.error)
    below = proved_policy_value(PolicyTables(instance, result.method, result.salvage, certificate, result.blend))
    return judge(
        result,
        fun=below.published_below,
        bound=bound,
        fun_slack=below.error,
        scale=instance.scale,
    )


def _wrong_claim(result: MatchingResult, instance: BayesianMatching, scaling: str, salvage: bool) -> str:
    if type(result.instance) is not BayesianMatching or result.instance != instance:
        return "the result belongs to another instance"
    if result.salvage is not bool(salvage):
        return f"salvage is {result.salvage!r} in the result and {salvage!r} in the call"
    if result.method not in METHOD_CODES:
        return f"unknown method {result.method!r}"
    if type(result.blend) is not float or not 0.0 <= result.blend <= (1.0 if result.method == "rollout" else 0.0):
        return f"blend must be a number from 0 to 1 (0 unless method is 'rollout'); got {result.blend!r}"
    rated = result.method in RATED_METHODS
    if rated != (result.rates is not None):
        return "rates belong to methods with rates only"
    if result.scaling not in (SCALINGS if rated else ("",)):
        return f"unknown scaling {result.scaling!r}"
    if (
        rated
        and scaling != "auto"
        and result.scaling not in (scaling, *(("none", "two-step", "cubic") * (scaling == "ascent")))
    ):
        return f"scaling is {result.scaling!r} in the result and {scaling!r} in the call"
    return ""


def _malformed(result: MatchingResult, instance: BayesianMatching) -> str:
    certificate: Any = result.certificate
    if type(certificate) is not MatchingCertificate:
        return "the certificate is missing"
    prices, rates = certificate.prices, certificate.rates
    if not all(type(a) is np.ndarray and a.dtype == np.float64 for a in (prices, rates)):
        return "the certificate's prices and rates must be float64 arrays"
    if prices.shape != instance.probabilities.shape or not np.isfinite(prices).all() or (prices < 0).any():
        return "the certificate's prices must be finite, non-negative and (T, K)"
    rated = result.method in RATED_METHODS
    if rates.shape != ((len(instance.units[0]),) if rated else (0,)) or not ((rates >= 0) & (rates <= 1)).all():
        return "the certificate's rates must lie in [0, 1], one per edge of a unit"
    grid: Any = certificate.grid
    if type(grid) is not int or not 2 <= grid <= MOST_CELLS or grid & (grid - 1):
        return f"the certificate's grid must be a power of two up to {MOST_CELLS}; got {grid!r}"
    exact: Any = certificate.exact
    if type(exact) is not bool or (exact and (result.method != "rollout" or not has_exact_value(instance))):
        return "the certificate may be exact for method 'rollout' and few units only"
    if exact and result.blend != 0.0:
        return "a policy that follows exact values has no other prices to blend in"
    if not rated:
        return ""
    edges, _ = instance.units
    shape = (instance.probabilities.size, instance.n_units)
    mine = scipy.sparse.csr_array((rates, edges.node, edges.start), shape=shape)
    given: Any = result.rates
    if given is None or given.shape != shape or abs(mine - given).sum() != 0:
        return "rates and the certificate's rates differ"
    return ""


def _infeasible(result: MatchingResult, instance: BayesianMatching) -> str:
    """What is wrong with x as a solution of the linear program."""
    x: Any = result.x
    shape = (instance.probabilities.size, instance.n_nodes)
    sparse: bool = scipy.sparse.issparse(x)
    if not sparse or x.shape != shape or x.dtype != np.float64 or not np.isfinite(x.data).all():
        return f"x must be a finite sparse matrix of shape {shape}"
    if x.nnz and x.data.min() < 0:
        return "x must be non-negative"
    allowed = instance.weights.copy()
    allowed.data = np.ones_like(allowed.data)
    if abs(x - x * allowed).sum() > 0:
        return "x uses a forbidden pair"
    rows = np.asarray(x.sum(axis=1)).ravel()
    p = instance.probabilities.ravel()
    if (rows > p * (1.0 + FEASIBILITY) + SMALLEST * instance.n_nodes).any():
        return "x matches a type more often than it arrives"
    left: FloatArray = instance.copies.copy()
    for t in range(instance.n_times):
        block = x[t * instance.n_types : (t + 1) * instance.n_types].tocoo()
        most = np.maximum(left, 0.0) + FEASIBILITY * instance.copies
        if (block.data > p[t * instance.n_types + block.row] * most[block.col] + SMALLEST).any():
            return f"x matches a node at time {t} more often than it can be free"
        np.subtract.at(left, block.col, block.data)
    value = float((x * instance.weights).sum())
    if not abs(result.lp_value - value) <= 1e-9 * value + SMALLEST * x.nnz:
        return "lp_value is not the value of x"
    gap = max(0.0, result.bound - result.lp_value) / result.bound if result.bound > 0 else 0.0
    if not abs(result.lp_gap - gap) <= 1e-9:
        return "lp_gap does not follow from lp_value and bound"
    return ""
