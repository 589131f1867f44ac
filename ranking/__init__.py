"""Ranking by travelling-salesman paths. Part of certified-solvers."""

from __future__ import annotations

from ranking._rank_tsp import rank_tsp
from ranking._rank_tsp_batch import BatchCertificate, RankingBatch, rank_tsp_batch
from ranking._result import ArborescenceCertificate, BranchCertificate, RankingResult, RecursionCertificate

__all__ = [
    "ArborescenceCertificate",
    "BatchCertificate",
    "BranchCertificate",
    "RankingBatch",
    "RankingResult",
    "RecursionCertificate",
    "rank_tsp",
    "rank_tsp_batch",
]
