"""The family's Result and the certificates of its bounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from solvers._catalogue import entry_named
from solvers._core.arrays import Array, FloatArray, IntArray, as_float_array, to_host
from solvers._core.backend import choose_backend
from solvers._core.errors import InvalidProblemError
from solvers._core.result import Result

__all__ = [
    "BlockProof",
    "BlocksCertificate",
    "Certificate",
    "ClusteringResult",
    "LineCertificate",
    "MultiplierCertificate",
    "StructuredCertificate",
]


@dataclass(frozen=True)
class StructuredCertificate:
    """A dual point given by a labelling and one scale per pair of clusters; see :mod:`clustering._structured_bounds`.

    Attributes
    ----------
    labels : (n,) int64
        Labels of the rows of positive weight.
    scales : (K, K) float64
        t_kl > 0 of each ordered pair; inf leaves the pair out. All inf is the principal-component bound.
    cuts : (c, 2) int64
        Row i of one cluster and another cluster l: triangle inequalities of i with all rows of both.
    cut_multipliers : (c,) float64
        Total multiplier >= 0 of each cut.
    """

    labels: IntArray
    scales: FloatArray
    cuts: IntArray = field(default_factory=lambda: np.empty((0, 2), dtype=np.int64))
    cut_multipliers: FloatArray = field(default_factory=lambda: np.empty(0))
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


@dataclass(frozen=True)
class LineCertificate:
    """Potentials of the distinct values of one feature; see :mod:`clustering._line_bounds`.

    Attributes
    ----------
    potentials : (m + 1,) float64
        phi: 0, then one for each of the m distinct values in ascending order.
    """

    potentials: FloatArray
    kind: Literal["line"] = "line"


Decision = tuple[int, int, bool]


@dataclass(frozen=True)
class LeafProof:
    """A dual point of one leaf of branch and bound; see :mod:`clustering._tree_bounds`.

    Attributes
    ----------
    path : tuple of (i, j, together)
        Decisions from the root, on rows of positive weight.
    multiplier : (s, s) float32, float64 or None
        Of Z >= 0, for the s supernodes, in single precision where that has the range; None proves 0, or that the leaf is
        empty.
    cuts : (m, 3) int32
        Supernodes (i, j, l); j = l for a pair.
    cut_multipliers : (m,) float64
    cliques : (c, K + 1) int32
        Distinct supernodes, two of which are together in every clustering.
    clique_multipliers : (c,) float64
    """

    path: tuple[Decision, ...]
    multiplier: NDArray[np.float32] | FloatArray | None
    cuts: NDArray[np.int32]
    cut_multipliers: FloatArray
    cliques: NDArray[np.int32] = field(default_factory=lambda: np.empty((0, 0), dtype=np.int32))
    clique_multipliers: FloatArray = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True)
class TreeCertificate:
    """Leaves of branch and bound, which cover every clustering that respects the links.

    Attributes
    ----------
    must, cannot : tuple of (i, j)
        The links of the problem, on rows of positive weight: the bound holds among the clusterings that respect them.
    leaves : tuple of LeafProof
    """

    must: tuple[tuple[int, int], ...]
    cannot: tuple[tuple[int, int], ...]
    leaves: tuple[LeafProof, ...]
    kind: Literal["tree"] = "tree"


Certificate = BlockProof | BlocksCertificate | LineCertificate | TreeCertificate


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
        otherwise. Small with an open ``gap`` means that the relaxation itself is loose. A diagnostic of the run, no claim:
        the primal point is not kept, and :func:`solvers.verify` does not check it.
    """

    labels: Array
    centers: Array
    sdp_gap: float

    def predict(self, X_new: Any) -> Array:
        """Nearest centre of new points (m, p), in their kind of array."""
        points = as_float_array(X_new, "X_new", ndim=2, expected="an (m, p) array")
        centers = to_host(self.centers)
        if points.shape[1] != centers.shape[1]:
            raise InvalidProblemError(f"X_new must have {centers.shape[1]} columns; got {points.shape[1]}")
        backend = choose_backend("clustering", "auto", entry_named(self.entry).backends, X_new=X_new)
        origin = centers.mean(axis=0)
        moved = points - backend.take(origin)
        return backend.give(backend.kernels.assign(moved, backend.take(centers - origin)))


ClusteringResult.__module__ = "clustering"
StructuredCertificate.__module__ = "clustering"
LeafProof.__module__ = "clustering"
LineCertificate.__module__ = "clustering"
TreeCertificate.__module__ = "clustering"
BlocksCertificate.__module__ = "clustering"
MultiplierCertificate.__module__ = "clustering"
