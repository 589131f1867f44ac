"""Certified k-means and likelihood clustering: relaxations, labels and proofs. Part of certified-solvers."""

from __future__ import annotations

from clustering._certify_kmeans import certify_kmeans
from clustering._ila_sdp import ila_sdp
from clustering._kmeans_sdp import kmeans_sdp
from clustering._likelihood_bounds import AssignmentCertificate, LikelihoodCertificate, TiedCertificate
from clustering._mixture_result import GaussianClusteringResult
from clustering._result import (
    BlocksCertificate,
    ClusteringResult,
    LeafProof,
    MultiplierCertificate,
    StructuredCertificate,
    TreeCertificate,
)

__all__ = [
    "AssignmentCertificate",
    "BlocksCertificate",
    "ClusteringResult",
    "GaussianClusteringResult",
    "LeafProof",
    "LikelihoodCertificate",
    "MultiplierCertificate",
    "StructuredCertificate",
    "TiedCertificate",
    "TreeCertificate",
    "certify_kmeans",
    "ila_sdp",
    "kmeans_sdp",
]
