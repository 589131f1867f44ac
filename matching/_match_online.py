"""``match_online``: a policy for arrivals in known order with known laws, and a proof of how good it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from matching import _lp, _rates
from matching._bounds import Enclosure, dual_bound, independent_value, pivotal_value
from matching._instance import BayesianMatching
from matching._oracles import MOST_UNITS_PRICES, price_policy_value
from matching._result import MatchingCertificate, MatchingResult, PolicyTables
from solvers._catalogue import entry_named
from solvers._core.arrays import FloatArray
from solvers._core.backend import Backend, choose_backend
from solvers._core.linalg import UNIT
from solvers._core.monitor import Monitor
from solvers._core.options import Common, check_choice, check_common, check_integer
from solvers._core.random import RNG
from solvers._core.result import Status

__all__ = ["match_online", "proved_policy_value"]

SCALINGS = ("auto", "none", "two-step", "cubic", "ascent")
# Edges up to which HiGHS' simplex is quicker than the smoothed dual, and exact.
EXACT_EDGES = 1500
# auto takes the rollout while a decision, one adjoint pass over the edges, costs well below a millisecond.
ROLLOUT_CELLS = 400_000
# Seconds per edge and cell of one pass for C and its gradient, per edge of a linear-program stage and of HiGHS.
SECONDS_PER_CELL = 4e-9
SECONDS_PER_EXACT_EDGE = 1e-4
DEFAULT_ITERATIONS = 1000
# Sets of units times edges up to which greedy and dual prices are valued exactly.
EXACT_VALUE_STEPS = 20_000_000
# Cells of the law in ascent and in rollouts, and in the certificate of the other policies.
COARSE_GRID, FINE_GRID = 64, 256
# Iterations of ascent per stage, the checkpoints of the run.
STAGE = 20


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
    n_runs : int
        Simulated runs for ``estimate``; none by default.
    """

    grid: int | None = None
    ascent_iterations: int = 200
    n_runs: int = 0


@dataclass(frozen=True)
class Plan:
    """The incumbent: a solution of the linear program and the rates of a policy."""

    solution: _lp.LPSolution
    rates: FloatArray
    scaling: str


def match_online(
    instance: BayesianMatching,
    *,
    scaling: str = "auto",
    salvage: bool = True,
    method: str = "auto",
    tol: float = 5e-4,
    max_iter: int | None = None,
    time_limit: float | None = None,
    callback: Callable[..., Any] | None = None,
    rng: RNG = None,
    history: bool = False,
    verbose: int = 0,
    backend: str = "auto",
    options: Mapping[str, Any] | None = None,
) -> MatchingResult:
    r"""Plan a policy for online Bayesian bipartite matching, with proved values on both sides.

    .. math:: \mathrm{fun} \;\le\; \mathbb{E}[\text{value of the policy}] \;\le\; \mathrm{OPT}_{\mathrm{on}} \;\le\;
    \mathrm{bound}

    where :math:`\mathrm{OPT}_{\mathrm{on}}` is the value of the best online policy, which is PSPACE-hard to
    approximate.

    Parameters
    ----------
    instance : BayesianMatching
        Nodes, arrival laws and weights.
    scaling : {"auto", "none", "two-step", "cubic", "ascent"}
        How rates follow from the linear program: as they are, with early use damped and late use boosted in one of two
        fixed ways, or raised further from the best of these by ascent on the proved value ("ascent", and "auto" for all
        methods but "independent"). Ignored by "greedy" and "dual-price", which have no rates.
    salvage : bool
        Let arrivals that the official rule leaves unmatched take units it has discarded. Never loses value.
    method : {"auto", "pivotal", "independent", "rollout", "dual-price", "greedy"}
        ``"pivotal"``: pivotal proposals with top-up discards; a decision costs the edges of one time.
        ``"independent"``: independent proposals, the classical 1 - 1/e rule.
        ``"rollout"``: truthful posted prices, the differences of the proved value with and without each unit; a
        decision costs a pass over all remaining edges. ``"dual-price"``: prices of the linear program's dual;
        ``"greedy"``: the heaviest free unit. The last two have no guarantee: ``fun`` is their exact value where a
        dynamic program over the sets of units takes well below a second (at most 16 units), and 0 beyond.
        ``"auto"``: rollout where a decision takes less than about a millisecond, else pivotal.
    tol : float
        The run ends as OPTIMAL where ``gap <= tol``, and as CONVERGED once the linear program is solved to a relative
        primal-dual gap of ``tol`` and the rates are chosen.
    max_iter : int, optional
        Stages: of the linear program, of the choice of scaling, and rounds of ascent. 1000 by default (never reached).
    time_limit : float, optional
        Seconds.
    callback : callable, optional
        Called as ``callback(intermediate_result)`` after each stage; a true answer or StopIteration ends the run.
    rng : int, Generator, SeedSequence or None
        Seeds of the simulated estimate.
    history : bool
        Keep a :class:`solvers.History` of the stages; its residual is the gap of the linear program.
    verbose : {0, 1, 2}
        Silent; a summary line; a table row per stage (standard error).
    backend : {"auto", "numba", "array", "cupy"}
        Where the passes of the smoothed dual run; "auto" is "numba".
    options : mapping, optional
        ``grid`` (64 for "rollout", else 256): cells of the law of a sum of proposals, a power of two.
        ``ascent_iterations`` (200): at most so many; each 20 are a stage. ``n_runs`` (0): simulated runs for
        ``estimate`` and ``standard_error``.

    Returns
    -------
    MatchingResult
        ``x``, ``lp_value``, ``lp_gap``, ``rates``, ``fun``, ``bound``, ``gap``, ``policy()``.

    Raises
    ------
    InvalidProblemError
        ``instance`` is not a BayesianMatching.

    Notes
    -----
    *Guarantee.* ``bound`` is at least the expected value of every online policy and ``fun`` at most that of the
    returned one, rounding errors included. ``fun`` is at least C of the rates of the linear program's solution.
    The linear program goes to HiGHS up to 1500 edges and to a smoothed dual beyond. Units proposed by pivotal
    sampling, in the order of the arrival's weights, are matched heaviest first; every other unit is discarded with
    just the probability that makes its chance of being free independent of the history. The proved value replaces the
    dependent free units by independent ones, a comparison theorem for negative association.

    *Complexity.* A dual pass O(edges), a pass of the proved value O(edges x grid); memory O(edges).

    References
    ----------
    M. Braverman, M. Derakhshan, T. Pollner, A. Saberi, D. Wajc, New philosopher inequalities for online Bayesian
    matching, via pivotal sampling, SODA 2025.
    M. Braverman, M. Derakhshan, A. Molina Lovett, Max-weight online stochastic matching: improved approximations
    against the online benchmark, EC 2022.
    Q.-M. Shao, A comparison theorem on moment inequalities between negatively associated and independent random
    variables, J. Theoret. Probab. 13, 2000.

    Examples
    --------
    >>> import solvers
    >>> instance = solvers.matching.BayesianMatching([0.5, 0.5, 0.5], [[1.0], [3.0], [4.0]])
    >>> result = solvers.match_online(instance)
    >>> result.status.name, round(result.fun, 6), round(result.bound, 6)
    ('OPTIMAL', 2.5, 2.5)
    >>> policy = result.policy(rng=0)
    >>> policy.arrive(0, 0), policy.arrive(1, 0)
    (-1, 0)
    """
    entry = entry_named("match_online")
    common = check_common(
        entry.name,
        method=method,
        methods=entry.methods,
        tol=tol,
        max_iter=max_iter,
        time_limit=time_limit,
        callback=callback,
        rng=rng,
        history=history,
        verbose=verbose,
        options=options,
    )
    settings = common.settings(Settings)
    if settings.grid is not None:
        grid = check_integer("options['grid']", settings.grid, low=2, high=2**20)
        if grid & (grid - 1):
            raise ValueError(f"options['grid'] must be a power of two; got {grid}")
    check_integer("options['ascent_iterations']", settings.ascent_iterations, low=1)
    check_integer("options['n_runs']", settings.n_runs, low=0)
    check_problem(instance, scaling, salvage)
    if method == "independent" and scaling == "ascent":
        raise ValueError(
            "scaling='ascent' raises the proved value of pivotal proposals; method='independent' has another"
        )
    chosen = choose_backend("matching", backend, entry.backends)
    run = _Run(instance, common, settings, chosen, _resolve(method, instance), scaling, bool(salvage))
    run.solve()
    run.finish()
    result = run.monitor.result()
    assert isinstance(result, MatchingResult)
    return result


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
    if tables.method in ("pivotal", "rollout"):
        value = pivotal_value(instance, certificate.rates, certificate.grid)
        if tables.method == "pivotal":
            return value
        # Each of T decisions compares values of the future, each in error by no more than this.
        return Enclosure(value.value, value.error + 4.0 * instance.n_times * _menu_error(instance, certificate.grid))
    if not _has_exact_value(instance):
        return Enclosure(0.0, 0.0)
    _, behind = instance.units
    exact = price_policy_value(instance, np.array(tables.bid_prices[behind]))
    steps = instance.n_times * (instance.n_types + 2.0)
    return Enclosure(exact, 8.0 * UNIT * steps * max(exact, instance.scale))


def _has_exact_value(instance: BayesianMatching) -> bool:
    """Whether the dynamic program over sets of units is quick enough to run on every call."""
    edges = len(instance.units[0])
    return instance.n_units <= MOST_UNITS_PRICES and 2**instance.n_units * edges <= EXACT_VALUE_STEPS


def _menu_error(instance: BayesianMatching, grid: int) -> float:
    """Error of a value or derivative of the future: relative errors as in ``pivotal_value``, and the drift of y."""
    degree = float(np.max(np.diff(instance.units[0].start), initial=0))
    return (
        2.0
        * UNIT
        * instance.scale
        * (8.0 * degree + grid + 32.0 + degree * instance.n_times * (instance.n_types + 4.0))
    )


def _resolve(method: str, instance: BayesianMatching) -> str:
    if method != "auto":
        return method
    return "rollout" if len(instance.units[0]) * COARSE_GRID <= ROLLOUT_CELLS else "pivotal"


class _Run:
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
        self.has_rates = method in ("pivotal", "independent", "rollout")
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
        self._offer(np.zeros(len(instance.units[0])), "none")

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
            monitor.checkpoint(self.lp_gap)
        layout = None
        prices = np.zeros_like(instance.probabilities)
        for eps in _lp.smoothing_stages(instance):
            if self.lp_gap <= monitor.common.tol or not monitor.running():
                return
            layout = self.backend.kernels.layout(instance, self.backend) if layout is None else layout
            solution = _lp.solve_smoothed(instance, self.backend, layout, prices, eps, monitor.out_of_time)
            prices = solution.prices
            self._accept(solution)
            monitor.checkpoint(self.lp_gap)

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
        ascending = self.scaling == "ascent" or (self.scaling == "auto" and monitor.method != "independent")
        if self.has_rates and ascending and monitor.status is None:
            self._ascend()
        if self.lp_gap <= monitor.common.tol:
            monitor.finish(Status.CONVERGED)
        else:
            monitor.finish(
                Status.STALLED,
                f"The linear program has a gap of {self.lp_gap:.1e}; fun and bound hold all the same.",
            )
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
        monitor.checkpoint(self.lp_gap)

    def _affords_pass(self) -> bool:
        cells = len(self.instance.units[0]) * self.grid
        return self.monitor.affords(4.0 * SECONDS_PER_CELL * cells)

    def _offer(self, rates: FloatArray, scaling: str, *, replace: bool = False) -> None:
        certificate = MatchingCertificate(self.best.prices, rates, self.grid)
        tables = PolicyTables(self.instance, self.monitor.method, self.salvage, self._with_proof(certificate))
        value = proved_policy_value(tables).published_below if self.has_rates or replace else 0.0
        plan = Plan(self.best, rates if self.has_rates else np.zeros(0), scaling if self.has_rates else "")
        if replace:
            self.monitor.x = None
        self.monitor.incumbent(plan, value)

    def _with_proof(self, certificate: MatchingCertificate) -> MatchingCertificate:
        """The certificate with the prices of the published bound, which are also those of the dual-price policy."""
        return MatchingCertificate(self.monitor.certificate, certificate.rates, certificate.grid)

    def _simulate(self) -> None:
        from matching._simulate import sampled_totals

        tables = PolicyTables(
            self.instance,
            self.monitor.method,
            self.salvage,
            self._with_proof(MatchingCertificate(self.best.prices, self.monitor.x.rates, self.grid)),
        )
        totals = sampled_totals([tables], self.settings.n_runs, self.monitor.common.rng)[0]
        self.estimate = float(totals.mean())
        self.standard_error = float(totals.std(ddof=1) / math.sqrt(len(totals))) if len(totals) > 1 else math.inf

    def _package(self, monitor: Monitor) -> MatchingResult:
        plan: Plan = monitor.x
        instance = self.instance
        fields = monitor.fields()
        certificate = MatchingCertificate(np.array(monitor.certificate), np.array(plan.rates), self.grid)
        if not self.has_rates and not _has_exact_value(instance) and fields["status"].success:
            fields["message"] += " No value is proved for this method at this size; see estimate (options n_runs)."
        bound = fields["bound"]
        solution = self.best
        own = {
            "x": instance.matrix(solution.x),
            "certificate": certificate,
            "lp_value": float(solution.value),
            "lp_gap": max(0.0, bound - solution.value) / bound if bound > 0 else 0.0,
            "rates": _rate_matrix(instance, plan.rates) if self.has_rates else None,
            "scaling": plan.scaling,
            "salvage": self.salvage,
            "estimate": self.estimate,
            "standard_error": self.standard_error,
            "instance": instance,
        }
        return MatchingResult(**(fields | own))


def _rate_matrix(instance: BayesianMatching, rates: FloatArray) -> Any:
    import scipy.sparse

    edges, _ = instance.units
    shape = (instance.probabilities.size, instance.n_units)
    matrix = scipy.sparse.csr_array((rates.copy(), edges.node.copy(), edges.start.copy()), shape=shape)
    matrix.sort_indices()
    return matrix
