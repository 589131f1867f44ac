"""Online Bayesian bipartite matching. Part of certified-solvers."""

from __future__ import annotations

from matching._classics import SuggestedMatching, allocate_budgets, match_ranking, suggested_matching
from matching._generators import TaxiEvening, display_ads_instance, taxi_instance
from matching._instance import BayesianMatching
from matching._match_online import match_online
from matching._oracles import exact_policy_value, expected_offline_optimum, optimal_online_value
from matching._pivotal import local_pivotal_sample, pivotal_sample
from matching._policy import Policy
from matching._result import MatchingCertificate, MatchingResult
from matching._simulate import simulate

__all__ = [
    "BayesianMatching",
    "MatchingCertificate",
    "MatchingResult",
    "Policy",
    "SuggestedMatching",
    "TaxiEvening",
    "allocate_budgets",
    "display_ads_instance",
    "exact_policy_value",
    "expected_offline_optimum",
    "local_pivotal_sample",
    "match_online",
    "match_ranking",
    "optimal_online_value",
    "pivotal_sample",
    "simulate",
    "suggested_matching",
    "taxi_instance",
]
