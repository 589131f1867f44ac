"""Certified k-means: semidefinite relaxations, incumbents and proofs. Part of certified-solvers."""

from __future__ import annotations

from clustering._certify_kmeans import certify_kmeans
from clustering._kmeans_sdp import kmeans_sdp
from clustering._result import (
    BlocksCertificate,
    ClusteringResult,
    LeafProof,
    MultiplierCertificate,
    StructuredCertificate,
    TreeCertificate,
)

__all__ = [
    "BlocksCertificate",
    "ClusteringResult",
    "LeafProof",
    "MultiplierCertificate",
    "StructuredCertificate",
    "TreeCertificate",
    "certify_kmeans",
    "kmeans_sdp",
]
