"""``match_online``: a policy for arrivals in known order with known laws, and a proof of how good it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from matching._instance import BayesianMatching
from matching._proved import check_problem
from matching._result import MatchingResult
from matching._run import COARSE_GRID, Run, Settings
from solvers._catalogue import entry_named
from solvers._core.backend import choose_backend
from solvers._core.options import check_common, check_integer, check_number
from solvers._core.random import RNG

__all__ = ["match_online"]

# auto takes the rollout while a decision, one or two adjoint passes over edges and cells, takes about a millisecond.
ROLLOUT_CELLS = 400_000


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
        ``"rollout"``: truthful posted prices, halfway between the differences of the proved value with and without
        each unit and the dual's bid prices, as long as these prices keep what is proved of the future; a decision costs
        a pass over all remaining edges. With few units (``options["exact"]``) the proved value is that of the best
        online policy, the policy is optimal and the gap closes. ``"dual-price"``: prices of the linear program's dual;
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
        ``ascent_iterations`` (200): at most so many; each 20 are a stage. ``blend``: share of the dual's bid prices in
        the prices of "rollout"; 1/2 by default, 1 where a short simulation shows that they are nearly optimal.
        ``exact`` (True): let "rollout" follow the dynamic program over sets of units where that takes milliseconds.
        ``n_runs`` (0): simulated runs for ``estimate`` and ``standard_error``.

    Returns
    -------
    MatchingResult
        ``x``, ``lp_value``, ``lp_gap``, ``rates``, ``fun``, ``bound``, ``gap``, ``policy()``.

    Raises
    ------
    TypeError
        ``instance`` is not a BayesianMatching, or ``salvage`` not a bool.
    ValueError
        An unknown method or scaling, or an option out of range.

    Notes
    -----
    *Guarantee.* ``bound`` is at least the expected value of every online policy and ``fun`` at most that of the
    returned one, rounding errors included. With scaling "auto", ``fun`` is at least what the unscaled rates prove.
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
    if not isinstance(settings.exact, bool):
        raise TypeError(f"options['exact'] must be True or False; got {settings.exact!r}")
    if settings.blend is not None and check_number("options['blend']", settings.blend, low=0.0) > 1.0:
        raise ValueError(f"options['blend'] must be at most 1; got {settings.blend!r}")
    check_problem(instance, scaling, salvage)
    if method == "independent" and scaling == "ascent":
        raise ValueError(
            "scaling='ascent' raises the proved value of pivotal proposals; method='independent' has another"
        )
    chosen = choose_backend("matching", backend, entry.backends)
    run = Run(instance, common, settings, chosen, _resolve(method, instance), scaling, bool(salvage))
    run.solve()
    run.finish()
    result = run.monitor.result()
    assert isinstance(result, MatchingResult)
    return result


def _resolve(method: str, instance: BayesianMatching) -> str:
    if method != "auto":
        return method
    return "rollout" if len(instance.units[0]) * COARSE_GRID <= ROLLOUT_CELLS else "pivotal"
