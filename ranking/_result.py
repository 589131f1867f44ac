"""The family's results and the certificates of its bounds; :mod:`ranking._bounds` says what each proves.

Nodes of a certificate are the items in the caller's numbering, followed by the depot (cost 0 to and from every item
that may begin or end the path) where the path is open.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.result import Result

__all__ = [
    "ArborescenceCertificate",
    "ArborescenceTreeCertificate",
    "BranchCertificate",
    "Certificate",
    "MomentCertificate",
    "RankingResult",
    "RecursionCertificate",
]


@dataclass(frozen=True)
class BranchCertificate:
    """A branch-and-bound tree over assignments: one vector of column prices per leaf.

    Attributes
    ----------
    parent : (N,) int64
        Parent of each tree node, -1 for the root; children of a node stand together, in the order of their arcs.
    tail, head : (N,) int64
        The arc that the node forbids and its later siblings force.
    leaf : (N,) int64
        Row of ``prices``, -1 for inner nodes.
    ray : (N,) bool
        Leaves whose prices prove that no assignment exists.
    prices : (L, m) float64
    """

    parent: IntArray
    tail: IntArray
    head: IntArray
    leaf: IntArray
    ray: npt.NDArray[np.bool_]
    prices: FloatArray
    kind: Literal["branch"] = "branch"


@dataclass(frozen=True)
class ArborescenceCertificate:
    """Node potentials of the 1-arborescence bound.

    Attributes
    ----------
    potentials : (m,) float64
    root : int
    """

    potentials: FloatArray
    root: int
    kind: Literal["arborescence"] = "arborescence"


@dataclass(frozen=True)
class ArborescenceTreeCertificate:
    """A branch-and-bound tree over 1-arborescences: one vector of node potentials per leaf.

    Attributes
    ----------
    parent : (N,) int64
        Parent of each tree node, -1 for the root.
    tail, head : (N,) int64
        The arc that the node decides on.
    forced : (N,) bool
        Whether the arc is forced or forbidden; of two siblings one does either.
    leaf : (N,) int64
        Row of ``potentials``, -1 for inner nodes.
    potentials : (L, m) float64
    root : int
        Root of the arborescences.
    """

    parent: IntArray
    tail: IntArray
    head: IntArray
    forced: npt.NDArray[np.bool_]
    leaf: IntArray
    potentials: FloatArray
    root: int
    kind: Literal["arborescence-tree"] = "arborescence-tree"


@dataclass(frozen=True)
class RecursionCertificate:
    """Small enough to be solved again, exactly, by the verifier's own recursion."""

    kind: Literal["recursion"] = "recursion"


@dataclass(frozen=True)
class MomentCertificate:
    """Maps and centres of the points of low-rank scores, which bound every score by a term of each item.

    Attributes
    ----------
    left, right : (d, d) float64
        S and R, for factors scaled by powers of two to moduli below 1.
    left_centre, right_centre : (d,) float64
    """

    left: FloatArray
    right: FloatArray
    left_centre: FloatArray
    right_centre: FloatArray
    kind: Literal["moments"] = "moments"


Certificate = BranchCertificate | ArborescenceCertificate | ArborescenceTreeCertificate | RecursionCertificate


class RankingResult(Result):
    """A ranking by a best path, with a proved bound on every path.

    Besides the fields of :class:`solvers.Result`:

    Attributes
    ----------
    order : (n,) int64
        Items, best first; the same array as ``x`` (None where no path exists).
    rank : (n,) int64
        0-based position of each item, the inverse permutation of ``order``.
    nodes : list or None
        Nodes of the graph in the order of the item numbers, where a graph was given.
    """

    order: IntArray | None
    rank: IntArray | None
    nodes: list[Any] | None

    def to_networkx(self) -> Any:
        """The path (or cycle) as a networkx.DiGraph, arcs in rank order."""
        import networkx

        names = self.nodes if self.nodes is not None else list(range(0 if self.order is None else len(self.order)))
        graph = networkx.DiGraph()
        graph.add_nodes_from(names)
        if self.order is not None:
            sequence = [names[int(i)] for i in self.order]
            graph.add_edges_from(itertools.pairwise(sequence))
            if self.closed and len(sequence) > 1:
                graph.add_edge(sequence[-1], sequence[0])
        return graph

    closed: bool


for _public in (
    RankingResult,
    BranchCertificate,
    ArborescenceCertificate,
    ArborescenceTreeCertificate,
    MomentCertificate,
    RecursionCertificate,
):
    _public.__module__ = "ranking"
