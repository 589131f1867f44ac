"""The matching entry for the conformance suite."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from cases import Bad, Case
from instances import exact_proved, medium, tiny

from matching import BayesianMatching, exact_policy_value, optimal_online_value


def instance() -> BayesianMatching:
    """Four nodes, five times, two types: neither side of the certificate is tight."""
    rng = np.random.default_rng(777)
    p = rng.random((5, 2)) * 0.5
    return BayesianMatching(p, np.round(rng.lognormal(size=(5, 2, 4)), 3))


def larger() -> BayesianMatching:
    """Beyond the size of the exact linear program."""
    return medium(np.random.default_rng(778), 30, 60, 4, 8)


def proved_value(result: Any, problem: BayesianMatching) -> float:
    """What is proved of the policy, in rational arithmetic."""
    if result.certificate.exact:
        return optimal_online_value(problem)
    if result.method in ("greedy", "dual-price"):
        return exact_policy_value(problem, result) if problem.n_units <= 16 else 0.0
    if problem.n_units > 8:
        return float(result.fun)
    grid = 0 if result.method == "independent" else result.certificate.grid
    return float(exact_proved(problem, result.certificate.rates, grid))


def forged(result: Any) -> Iterator[tuple[str, Any]]:
    """Results whose certificate does not carry their claims any more."""
    certificate = result.certificate
    forgeries: dict[str, Any] = {
        "negative price": dataclasses.replace(certificate, prices=certificate.prices - 1.0),
        "prices with NaN": dataclasses.replace(certificate, prices=certificate.prices * np.nan),
        "prices of wrong shape": dataclasses.replace(certificate, prices=certificate.prices[1:]),
        "exact the other way round": dataclasses.replace(certificate, exact=not certificate.exact),
        "grid of 3": dataclasses.replace(certificate, grid=3),
    }
    if not certificate.exact:
        forgeries["other prices"] = dataclasses.replace(certificate, prices=certificate.prices + 0.5)
    if len(certificate.rates):
        rates = certificate.rates
        forgeries["rates above 1"] = dataclasses.replace(certificate, rates=rates + 0.9)
        forgeries["rates halved"] = dataclasses.replace(certificate, rates=rates / 2)
        forgeries["rates with NaN"] = dataclasses.replace(certificate, rates=rates * np.nan)
        forgeries["rates too short"] = dataclasses.replace(certificate, rates=rates[1:])
    for what, other in forgeries.items():
        copied = copy.deepcopy(result)
        copied["certificate"] = other
        yield what, copied
    copied = copy.deepcopy(result)
    copied["x"] = 2.0 * copied["x"]
    yield "x doubled", copied
    copied = copy.deepcopy(result)
    copied["lp_value"] = copied["lp_value"] * 1.001
    yield "lp_value raised", copied
    if certificate.exact:
        copied = copy.deepcopy(result)
        copied["blend"] = 0.5
        yield "exact values blended with prices", copied
    copied = copy.deepcopy(result)
    copied["instance"] = tiny(np.random.default_rng(1))
    yield "another instance", copied


CASES = (
    Case(
        entry="match_online",
        problem=lambda: (instance(),),
        loose=lambda: (larger(),),
        methods=("auto", "pivotal", "independent", "rollout", "dual-price", "greedy"),
        objective=proved_value,
        optimum=optimal_online_value,
        array_arguments=(),
        tampered=forged,
        warm_start=False,
        bad=(
            Bad("an array", (np.ones((2, 1)),), {}, TypeError, "BayesianMatching"),
            Bad("unknown scaling", (instance(),), {"scaling": "cubical"}, ValueError, "did you mean 'cubic'"),
            Bad("salvage as a number", (instance(),), {"salvage": 1}, TypeError, "salvage"),
            Bad("grid", (instance(),), {"options": {"grid": 100}}, ValueError, "power of two"),
            Bad("runs", (instance(),), {"options": {"n_runs": -1}}, ValueError, "n_runs"),
            Bad("blend", (instance(),), {"options": {"blend": 1.5}}, ValueError, "blend"),
            Bad("exact as a number", (instance(),), {"options": {"exact": 1}}, TypeError, "exact"),
            Bad(
                "ascent of independent proposals",
                (instance(),),
                {"method": "independent", "scaling": "ascent"},
                ValueError,
                "ascent",
            ),
        ),
    ),
)
