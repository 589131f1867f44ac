"""The family's Result and the certificates of its bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from solvers._core.arrays import Array, FloatArray, IntArray
from solvers._core.result import Result

__all__ = [
    "BlockProof",
    "BlocksCertificate",
    "Certificate",
    "ClusteringResult",
    "MultiplierCertificate",
    "StructuredCertificate",
]


@dataclass(frozen=True)
class StructuredCertificate:
    """A dual point given by a labelling and one scale per pair of clusters; see :mod:`clustering._bounds`.

    Attributes
    ----------
    labels : (n,) int64
        Labels of the rows of positive weight.
    scales : (K, K) float64
        t_kl > 0 of each ordered pair; inf leaves the pair out. All inf is the principal-component bound.
    """

    labels: IntArray
    scales: FloatArray
    kind: Literal["structured"] = "structured"


@dataclass(frozen=True)
class MultiplierCertificate:
    """A dual point given by the multiplier of Z >= 0.

    Attributes
    ----------
    multiplier : (n, n) float64
        Symmetric and non-negative, one row per row of positive weight.
    """

    multiplier: FloatArray
    kind: Literal["multiplier"] = "multiplier"


BlockProof = StructuredCertificate | MultiplierCertificate


@dataclass(frozen=True)
class BlocksCertificate:
    """Bounds of disjoint blocks of rows, whose sum bounds the whole.

    Attributes
    ----------
    blocks : tuple of (n_j,) int64
        Rows (counted among those of positive weight) of each block; together all rows, each once.
    proofs : tuple
        Certificate of each block as a problem of its own; None proves 0.
    """

    blocks: tuple[IntArray, ...]
    proofs: tuple[BlockProof | None, ...]
    kind: Literal["blocks"] = "blocks"


Certificate = BlockProof | BlocksCertificate


class ClusteringResult(Result):
    """A clustering with a proved bound on the best one.

    Besides the fields of :class:`solvers.Result`:

    Attributes
    ----------
    labels : (n,) int64
        Cluster of each row, 0 to K-1; the same array as ``x``.
    centers : (K, p) float64
        Weighted means of the clusters.
    sdp_gap : float
        Relative gap between the primal and the dual value of the semidefinite relaxation, where one was solved; inf
        otherwise. Small with an open ``gap`` means that the relaxation itself is loose.
    """

    labels: Array
    centers: Array
    sdp_gap: float


ClusteringResult.__module__ = "clustering"
StructuredCertificate.__module__ = "clustering"
BlocksCertificate.__module__ = "clustering"
MultiplierCertificate.__module__ = "clustering"
