"""The family's Result and certificate, and the tables that a policy needs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse

from matching._instance import BayesianMatching
from matching._kernels_numba import stopping_values
from matching._kernels_policy import best_values
from solvers._core.arrays import FloatArray
from solvers._core.random import RNG
from solvers._core.result import Result

if TYPE_CHECKING:
    from matching._policy import Policy

__all__ = ["MatchingCertificate", "MatchingResult", "PolicyTables"]


@dataclass(frozen=True)
class MatchingCertificate:
    """The proof of both sides; see :mod:`matching._bounds`.

    Attributes
    ----------
    prices : (T, K) float64
        lambda >= 0 of the upper bound D(lambda).
    rates : (edges of ``instance.units``,) float64
        r in [0, 1] of the lower bound C(r); empty for policies without rates.
    grid : int
        Cells of the law of min(1, X).
    exact : bool
        The dynamic program over the sets of units takes the place of C(r), and of D(lambda) where it is lower: the
        policy is optimal.
    """

    prices: FloatArray
    rates: FloatArray
    grid: int
    exact: bool = False
    kind: Literal["rates and prices"] = "rates and prices"


class MatchingResult(Result):
    """A policy for online Bayesian matching: ``fun <= its expected value <= OPT_on <= bound``.

    Besides the fields of :class:`solvers.Result`:

    Attributes
    ----------
    x : scipy.sparse.csr_array (T K, n)
        Solution of the linear program: probability that (t, k) arrives and is matched to i.
    lp_value, lp_gap : float
        Value of ``x`` and its relative distance from ``bound``.
    rates : scipy.sparse.csr_array (T K, units) or None
        Probability with which a free unit proposes to each type; units are the nodes repeated by capacity.
    scaling : str
        How the rates came from ``x``: "none", "two-step", "cubic", "ascent"; "" for policies without rates.
    salvage : bool
        Whether arrivals left unmatched by the official rule may take discarded units.
    blend : float
        Share of the bid prices of the dual in the prices of "rollout", the rest are differences of the proved value; 0
        for the other methods.
    estimate, standard_error : float
        Simulated value of the policy where ``options["n_runs"]`` asked for it; NaN otherwise. A measurement, no claim:
        :func:`solvers.verify` does not check it.
    instance : BayesianMatching
    """

    x: scipy.sparse.csr_array
    certificate: MatchingCertificate
    lp_value: float
    lp_gap: float
    scaling: str
    salvage: bool
    blend: float
    estimate: float
    standard_error: float
    instance: BayesianMatching
    rates: scipy.sparse.csr_array | None

    def policy(self, rng: RNG = None) -> Policy:
        """A fresh policy for one run of arrivals; ``rng`` decides its coins."""
        from matching._policy import Policy

        return Policy(self, rng)


@dataclass(frozen=True)
class PolicyTables:
    """Everything the compiled policies read, from an instance, a method and a certificate."""

    instance: BayesianMatching
    method: str
    salvage: bool
    certificate: MatchingCertificate
    blend: float = 0.0

    @classmethod
    def of(cls, result: MatchingResult) -> PolicyTables:
        """The tables of a result."""
        return cls(result.instance, result.method, result.salvage, result.certificate, result.blend)

    @cached_property
    def arrays(self) -> tuple[Any, ...]:
        """Arguments ``start`` to ``future`` of :func:`matching._kernels_policy.advance`; edges of rate 0 are left out."""
        instance = self.instance
        edges, behind = instance.units
        p = np.array(instance.probabilities.ravel())
        every = np.asarray(self.certificate.rates, dtype=np.float64)
        kept = np.flatnonzero(every > 0)
        start = np.searchsorted(kept, edges.start).astype(np.int64)
        node, rates = edges.node[kept], every[kept]
        rows = np.repeat(np.arange(len(p)), np.diff(start))
        # rho_i(t), the probability of leaving at t, at each edge of i at t.
        _, moment = np.unique(node * instance.n_times + rows // instance.n_types, return_inverse=True)
        leaves = np.minimum(np.bincount(moment, p[rows] * rates)[moment], 1.0) if len(kept) else rates
        row_total = np.bincount(rows, rates, len(p))
        return (
            np.array(edges.start),
            np.array(edges.node),
            np.array(edges.weight),
            np.array(self.bid_prices[behind]),
            start,
            node,
            edges.weight[kept],
            rates,
            leaves,
            row_total,
            p,
            instance.n_types,
            self.certificate.grid,
            self._future(),
        )

    def _future(self) -> FloatArray:
        """Values of the best online policy by time and set of free units where the rollout follows them, else empty."""
        if not self.certificate.exact:
            return np.zeros((0, 0))
        instance = self.instance
        edges, _ = instance.units
        p = np.array(instance.probabilities.ravel())
        return best_values(edges.start, edges.node, edges.weight, p, instance.n_types, instance.n_units)

    @cached_property
    def bid_prices(self) -> FloatArray:
        """v_i(t + 1) of the dual, by edge: what keeping the node is worth."""
        instance = self.instance
        edges = instance.edges
        if self.method not in ("rollout", "dual-price"):
            return np.zeros(len(edges))
        p, prices = instance.probabilities.ravel(), np.ascontiguousarray(self.certificate.prices).ravel()
        return stopping_values(edges.start, edges.node, edges.weight, p, prices, instance.n_types, instance.n_nodes)[1]


MatchingResult.__module__ = "matching"
MatchingCertificate.__module__ = "matching"
