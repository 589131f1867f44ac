"""Certified k-means and likelihood clustering: relaxations, labels and proofs. Part of certified-solvers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clustering._certify_kmeans import certify_kmeans
from clustering._ila_sdp import ila_sdp
from clustering._kmeans_sdp import kmeans_sdp
from clustering._likelihood_bounds import AssignmentCertificate, LikelihoodCertificate, TiedCertificate
from clustering._mixture_result import GaussianClusteringResult
from clustering._result import (
    BlocksCertificate,
    ClusteringResult,
    LeafProof,
    LineCertificate,
    MultiplierCertificate,
    StructuredCertificate,
    TreeCertificate,
)
from solvers._core.lazy import lazy_names

if TYPE_CHECKING:
    from clustering._estimators import ILASDP as ILASDP
    from clustering._estimators import KMeansSDP as KMeansSDP

__all__ = [
    "ILASDP",
    "AssignmentCertificate",
    "BlocksCertificate",
    "ClusteringResult",
    "GaussianClusteringResult",
    "KMeansSDP",
    "LeafProof",
    "LikelihoodCertificate",
    "LineCertificate",
    "MultiplierCertificate",
    "StructuredCertificate",
    "TiedCertificate",
    "TreeCertificate",
    "certify_kmeans",
    "ila_sdp",
    "kmeans_sdp",
]

# scikit-learn is imported with the estimators, not with the family.
__getattr__, __dir__ = lazy_names(__name__, {"ILASDP": "clustering._estimators", "KMeansSDP": "clustering._estimators"})
