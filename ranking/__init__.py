"""Ranking by travelling-salesman paths. Part of certified-solvers."""

from __future__ import annotations

from ranking._rank_tsp import rank_tsp
from ranking._result import ArborescenceCertificate, BranchCertificate, RankingResult, RecursionCertificate

__all__ = [
    "ArborescenceCertificate",
    "BranchCertificate",
    "RankingResult",
    "RecursionCertificate",
    "rank_tsp",
]
