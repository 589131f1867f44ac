"""One call of ``match_online``: the linear program, the choice of rates, ascent on what they prove."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from matching import _lp, _rates
from matching._bounds import dual_bound
from matching._instance import BayesianMatching
from matching._proved import RATED_METHODS, best_online_value, has_exact_value, proved_policy_value
from matching._result import MatchingCertificate, MatchingResult, PolicyTables
from matching._simulate import sampled_totals, summary
from solvers._core.arrays import FloatArray
from solvers._core.backend import Backend
from solvers._core.monitor import Monitor
from solvers._core.options import Common
from solvers._core.result import Status

__all__ = ["COARSE_GRID", "Run", "Settings", "rate_matrix"]

# Sets of units times edges up to which the rollout follows the dynamic program: some milliseconds.
EXACT_STEPS = 2_000_000
# Edges up to which HiGHS' simplex is quicker than the smoothed dual, and exact.
EXACT_EDGES = 1500
# Seconds of HiGHS per edge, and of a pass for C and its gradient per edge and cell.
SECONDS_PER_EXACT_EDGE = 1e-4
SECONDS_PER_CELL = 4e-9
DEFAULT_ITERATIONS = 1000
# Cells of the law in ascent and in rollouts, and in the certificate of the other policies.
COARSE_GRID, FINE_GRID = 64, 256
# Iterations of ascent per stage, the checkpoints of the run.
STAGE = 20
# Simulated times to judge dual prices by, and the relative distance from the bound at which they are taken as they are.
BLEND_STEPS, NEARLY_OPTIMAL = 50_000, 2e-3
# Advice where a limit ended the run: there is no x0 to go on from.
LIMITS = {
    Status.MAX_ITER: "The iteration limit was reached; raise max_iter for a better policy and a tighter bound.",
    Status.TIME_LIMIT: "The time limit was reached; raise time_limit for a better policy and a tighter bound.",
}


@dataclass(frozen=True)
class Settings:
    """Options of ``match_online``.

    Attributes
    ----------
    grid : int or None
        Cells of the law of min(1, X), a power of two; by default 64 for "rollout", whose decisions pay for it, else
        256.
    ascent_iterations : int
        Most iterations of certificate ascent.
    blend : float or None
        Share of the dual's bid prices in the prices of the rollout; by default chosen, see :meth:`Run._choose_blend`.
    exact : bool
        Let the rollout follow the dynamic program over sets of units where that is quick.
    n_runs : int
        Simulated runs for ``estimate``; none by default.
    """

    grid: int | None = None
    ascent_iterations: int = 200
    blend: float | None = None
    exact: bool = True
    n_runs: int = 0


@dataclass(frozen=True)
class Plan:
    """The incumbent: the rates of a policy and how they were found."""

    rates: FloatArray
    scaling: str


class Run:
    """One call: the linear program, then the rates."""

    def __init__(
        self,
        instance: BayesianMatching,
        common: Common,
        settings: Settings,
        backend: Backend,
        method: str,
        scaling: str,
        salvage: bool,
    ) -> None:
        self.instance = instance
        self.settings = settings
        self.grid = settings.grid if settings.grid is not None else (COARSE_GRID if method == "rollout" else FINE_GRID)
        self.backend = backend
        self.scaling = scaling
        self.salvage = salvage
        self.has_rates = method in RATED_METHODS
        self.exact = False
        self.blend = 0.0
        self.lp_gap = math.inf
        self.estimate = self.standard_error = math.nan
        self.monitor = Monitor(
            common,
            sense="max",
            scale=instance.scale,
            max_iter=DEFAULT_ITERATIONS,
            package=self._package,
            method=method,
            backend=backend.name,
        )
        self.best = _lp.nothing(instance)
        self._prove(self.best)
        self._offer(np.zeros(len(instance.units[0])), scaling if scaling in _rates.SCALINGS else "none")

    # -- the linear program --------------------------------------------------------------------------------------

    def solve(self) -> None:
        """Stages until the two-sided gap meets the tolerance, each proving a bound."""
        monitor, instance = self.monitor, self.instance
        if len(instance.edges) <= EXACT_EDGES and monitor.affords(SECONDS_PER_EXACT_EDGE * len(instance.edges)):
            if not monitor.running():
                return
            solution = _lp.solve_exactly(instance, monitor.remaining)
            if solution is not None:
                self._accept(solution)
            self._checkpoint()
        layout = None
        prices = np.zeros_like(instance.probabilities)
        for eps in _lp.smoothing_stages(instance):
            if self.lp_gap <= monitor.common.tol or not monitor.running():
                return
            layout = self.backend.kernels.layout(instance, self.backend) if layout is None else layout
            solution = _lp.solve_smoothed(instance, self.backend, layout, prices, eps, monitor.out_of_time)
            prices = solution.prices
            self._accept(solution)
            self._checkpoint()

    def _checkpoint(self) -> None:
        if not self.has_rates:
            # What a callback sees must be the value under the prices that it sees.
            self._offer(np.zeros(0), "", replace=True)
        self.monitor.checkpoint(self.lp_gap)

    def _accept(self, solution: _lp.LPSolution) -> None:
        self.best = _lp.better(self.instance, self.best, solution)
        self._prove(solution)
        bound = self.monitor.bound
        self.lp_gap = max(0.0, bound - self.best.value) / bound if bound > 0 else 0.0

    def _prove(self, solution: _lp.LPSolution) -> None:
        self.monitor.prove(dual_bound(self.instance, solution.prices).published_above, solution.prices)

    # -- the rates -----------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Choose the rates by what they prove, raise it by ascent, simulate if asked."""
        monitor = self.monitor
        if self.has_rates:
            self._choose_scaling()
        else:
            self._offer(np.zeros(0), "", replace=True)
        if monitor.method == "rollout" and self.settings.exact and monitor.status is None:
            self._follow_the_optimum()
        ascending = not self.exact and (
            self.scaling == "ascent" or (self.scaling == "auto" and monitor.method != "independent")
        )
        if self.has_rates and ascending and monitor.status is None:
            self._ascend()
        if self.lp_gap <= monitor.common.tol:
            monitor.finish(Status.CONVERGED)
        else:
            monitor.finish(
                Status.STALLED,
                f"The linear program has a gap of {self.lp_gap:.1e}; fun and bound hold all the same.",
            )
        if monitor.method == "rollout" and not self.exact:
            self.blend = self._choose_blend() if self.settings.blend is None else self.settings.blend
        if self.settings.n_runs:
            self._simulate()

    def _choose_scaling(self) -> None:
        """Offer the rates of each scaling asked for; the Monitor keeps the best. Runs once even out of time."""
        names = tuple(_rates.SCALINGS) if self.scaling in ("auto", "ascent") else (self.scaling,)
        for name in names:
            self._offer(_rates.scaled_rates(self.instance, self.best, name), name, replace=len(names) == 1)
            if self.monitor.out_of_time():
                return
        if self.monitor.status is None:
            self.monitor.checkpoint(self.lp_gap)

    def _follow_the_optimum(self) -> None:
        """With few units the value of the future need not be bounded: the dynamic program gives it, for every set."""
        monitor, instance = self.monitor, self.instance
        if not has_exact_value(instance, EXACT_STEPS) or not monitor.running():
            return
        self.exact = True
        monitor.prove(best_online_value(instance).published_above, monitor.certificate)
        self._offer(monitor.x.rates, monitor.x.scaling, replace=True)
        monitor.checkpoint(self.lp_gap)

    def _ascend(self) -> None:
        monitor, instance, grid = self.monitor, self.instance, min(self.grid, COARSE_GRID)
        if monitor.bound <= 0 or not self._affords_pass() or not monitor.running():
            return
        count = 0

        def report(rates: FloatArray) -> bool:
            nonlocal count
            count += 1
            if count % STAGE == 0:
                self._offer(_rates.pruned(rates.copy()), "ascent")
                monitor.checkpoint(self.lp_gap)
                return not monitor.running()
            return not self._affords_pass()

        iterations = self.settings.ascent_iterations
        self._offer(_rates.ascend(instance, monitor.x.rates, grid, monitor.bound, report, iterations), "ascent")
        if monitor.status is None:
            monitor.checkpoint(self.lp_gap)

    def _affords_pass(self) -> bool:
        cells = len(self.instance.units[0]) * self.grid
        return self.monitor.affords(4.0 * SECONDS_PER_CELL * cells)

    def _offer(self, rates: FloatArray, scaling: str, *, replace: bool = False) -> None:
        """Offer a policy; ``replace`` takes it whatever it proves, because the caller asked for just this one."""
        plan = Plan(rates, scaling) if self.has_rates else Plan(np.zeros(0), "")
        value = proved_policy_value(self._tables(plan)).published_below if self.has_rates or replace else 0.0
        if replace:
            self.monitor.x = None
        self.monitor.incumbent(plan, value)

    def _tables(self, plan: Plan) -> PolicyTables:
        certificate = MatchingCertificate(self.monitor.certificate, plan.rates, self.grid, self.exact)
        return PolicyTables(self.instance, self.monitor.method, self.salvage, certificate, self.blend)

    def _choose_blend(self) -> float:
        """Half of each kind of price; the dual's alone where simulation says that they leave next to nothing to gain.

        Differences of the proved value, a lower bound, and the dual's bid prices, differences of an upper bound, err in
        opposite directions. Nothing proved depends on the choice, so that a fixed seed will do.
        """
        certificate = MatchingCertificate(self.monitor.certificate, np.zeros(len(self.instance.units[0])), self.grid)
        tables = PolicyTables(self.instance, "dual-price", False, certificate)
        n_runs = max(100, BLEND_STEPS // self.instance.n_times)
        mean, _ = summary(sampled_totals([tables], n_runs, np.random.default_rng(0))[0])
        return 1.0 if mean >= (1.0 - NEARLY_OPTIMAL) * self.monitor.bound else 0.5

    def _simulate(self) -> None:
        monitor = self.monitor
        totals = sampled_totals([self._tables(monitor.x)], self.settings.n_runs, monitor.common.rng)[0]
        self.estimate, self.standard_error = summary(totals)

    def _package(self, monitor: Monitor) -> MatchingResult:
        plan: Plan = monitor.x
        instance = self.instance
        fields = monitor.fields()
        certificate = MatchingCertificate(np.array(monitor.certificate), np.array(plan.rates), self.grid, self.exact)
        if fields["status"] in LIMITS:
            fields["message"] = LIMITS[fields["status"]]
        if not self.has_rates and not has_exact_value(instance) and fields["status"].success:
            fields["message"] += " No value is proved for this method at this size; see estimate (options n_runs)."
        bound = fields["bound"]
        own = {
            "x": instance.matrix(self.best.x),
            "certificate": certificate,
            "lp_value": float(self.best.value),
            "lp_gap": max(0.0, bound - self.best.value) / bound if bound > 0 else 0.0,
            "rates": rate_matrix(instance, plan.rates) if self.has_rates else None,
            "scaling": plan.scaling,
            "salvage": self.salvage,
            "blend": self.blend,
            "estimate": self.estimate,
            "standard_error": self.standard_error,
            "instance": instance,
        }
        return MatchingResult(**(fields | own))


def rate_matrix(instance: BayesianMatching, rates: FloatArray) -> scipy.sparse.csr_array:
    """Rates by edge of a unit as a (T K, units) matrix with sorted indices."""
    edges, _ = instance.units
    shape = (instance.probabilities.size, instance.n_units)
    matrix = scipy.sparse.csr_array((rates.copy(), edges.node.copy(), edges.start.copy()), shape=shape)
    matrix.sort_indices()
    return matrix
