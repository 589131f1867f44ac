"""Certified k-means: semidefinite relaxations, incumbents and proofs. Part of certified-solvers."""

from __future__ import annotations

from clustering._certify_kmeans import certify_kmeans
from clustering._kmeans_sdp import kmeans_sdp
from clustering._result import ClusteringResult, MultiplierCertificate, StructuredCertificate

__all__ = [
    "ClusteringResult",
    "MultiplierCertificate",
    "StructuredCertificate",
    "certify_kmeans",
    "kmeans_sdp",
]
