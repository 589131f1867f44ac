"""Ranking by travelling-salesman paths. Part of certified-solvers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ranking._bilinear import bilinear_scores
from ranking._metrics import group_mean, kendall_tau, mean_average_precision, mean_reciprocal_rank, ndcg
from ranking._precedence import PrecedenceRanking, rank_borda, rank_linear
from ranking._precedence_bounds import CycleCertificate
from ranking._rank_tsp import rank_tsp
from ranking._rank_tsp_batch import BatchCertificate, RankingBatch, rank_tsp_batch
from ranking._result import (
    ArborescenceCertificate,
    ArborescenceTreeCertificate,
    BranchCertificate,
    MomentCertificate,
    RankingResult,
    RecursionCertificate,
)
from ranking._score_kind import ScoreKind, score_kind
from ranking._tsplib import read_tsplib
from solvers._core.lazy import lazy_names

if TYPE_CHECKING:
    from ranking._ranker import TSPRanker

__all__ = [
    "ArborescenceCertificate",
    "ArborescenceTreeCertificate",
    "BatchCertificate",
    "BranchCertificate",
    "CycleCertificate",
    "MomentCertificate",
    "PrecedenceRanking",
    "RankingBatch",
    "RankingResult",
    "RecursionCertificate",
    "ScoreKind",
    "TSPRanker",
    "bilinear_scores",
    "group_mean",
    "kendall_tau",
    "mean_average_precision",
    "mean_reciprocal_rank",
    "ndcg",
    "rank_borda",
    "rank_linear",
    "rank_tsp",
    "rank_tsp_batch",
    "read_tsplib",
    "score_kind",
]

__getattr__, __dir__ = lazy_names(__name__, {"TSPRanker": "ranking._ranker"})
