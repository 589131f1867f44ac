"""Certified k-means: semidefinite relaxations, incumbents and proofs. Part of certified-solvers."""

from __future__ import annotations

from clustering._certify_kmeans import certify_kmeans
from clustering._kmeans_sdp import kmeans_sdp
from clustering._result import BlocksCertificate, ClusteringResult, MultiplierCertificate, StructuredCertificate

__all__ = [
    "BlocksCertificate",
    "ClusteringResult",
    "MultiplierCertificate",
    "StructuredCertificate",
    "certify_kmeans",
    "kmeans_sdp",
]
