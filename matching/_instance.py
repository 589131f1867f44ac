r"""The online Bayesian matching problem: who may arrive when, and what each pair is worth.

Nodes i = 0..n-1 are present from the start; node i can be used b_i times. At times t = 0..T-1, in this order, one of
the types k = 0..K-1 arrives with probability p_tk, independently of all else, or else nobody comes.
A buyer of type (t, k) matched to node i is worth w_tki >= 0; the decision is immediate and final.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse

from solvers._core.arrays import (
    FloatArray,
    IntArray,
    as_float_array,
    freeze,
    kind_of,
    refuse_beyond_memory,
    to_host,
)
from solvers._core.errors import InvalidProblemError
from solvers._core.options import check_integer

if TYPE_CHECKING:
    import networkx

__all__ = ["BayesianMatching", "Edges"]

# Row sums of probabilities may exceed one by this much (rounding of the caller's arithmetic); such rows are rescaled.
SUM_TOLERANCE = 1e-9
# Weights must stay this far from overflow when all are added.
LARGEST_SUM = 1e300
# Bytes that a run keeps per edge between a unit and a type.
BYTES_PER_EDGE = 200.0


@dataclass(frozen=True)
class Edges:
    """Pairs of positive weight, row by row, the heaviest first in each row and ties in the order of the nodes.

    Attributes
    ----------
    start : (T K + 1,) int64
        Row t K + k holds the edges ``start[t K + k]`` to ``start[t K + k + 1]``.
    node : (E,) int64
        Node, or unit of capacity, of each edge.
    weight : (E,) float64
    """

    start: IntArray
    node: IntArray
    weight: FloatArray

    def __len__(self) -> int:
        return len(self.node)


class BayesianMatching:
    """An instance of online Bayesian bipartite matching. Immutable.

    Parameters
    ----------
    probabilities : (T, K) array_like
        Probability that type k arrives at time t; rows sum to at most 1. One-dimensional input means K = 1.
    weights : (T, K, n) array_like, or scipy.sparse of shape (T K, n)
        Value of each pair, >= 0 and finite; row t K + k of a sparse matrix is type k at time t. Zero (or absent)
        forbids the pair. Two-dimensional dense input of shape (T, n) is accepted for K = 1.
    capacities : (n,) array_like of int, optional
        How often each node can be used; ones by default. A node of capacity b behaves as b identical nodes.

    Attributes
    ----------
    probabilities : (T, K) float64
    weights : (T K, n) scipy.sparse.csr_array
    capacities : (n,) int64
    n_nodes, n_times, n_types : int
        n, T and K.
    kind : {"unweighted", "vertex-weighted", "edge-weighted"}
        Whether all weights are equal, or at least all weights at one node.
    nodes : list or None
        Labels of the nodes where the instance came from a networkx graph.

    Raises
    ------
    InvalidProblemError
        Probabilities negative, not finite or summing to more than 1; weights negative or not finite; shapes that
        disagree.

    Examples
    --------
    >>> from solvers.matching import BayesianMatching
    >>> instance = BayesianMatching([[0.5], [0.5]], [[[1.0, 2.0]], [[3.0, 0.0]]])
    >>> instance.n_nodes, instance.n_times, instance.n_types, instance.kind
    (2, 2, 1, 'edge-weighted')
    """

    def __init__(self, probabilities: Any, weights: Any, capacities: Any = None) -> None:
        p = _probabilities(probabilities)
        matrix = _weight_matrix(weights, p.shape)
        self.probabilities = freeze(p)
        self.capacities = freeze(_capacities(capacities, matrix.shape[1]))
        self.edges = _sorted_edges(matrix)
        self.nodes: list[Hashable] | None = None
        if float(np.max(self.edges.weight, initial=0.0)) > LARGEST_SUM / (self._n_unit_edges + 1.0):
            raise InvalidProblemError("weights must have a sum within float64; rescale them")
        refuse_beyond_memory(
            BYTES_PER_EDGE * self._n_unit_edges,
            what=f"an instance with {self._n_unit_edges} edges between types and units of capacity",
            instead="use smaller capacities or fewer types",
        )

    # -- constructors ------------------------------------------------------------------------------------------

    @classmethod
    def from_iid(cls, probabilities: Any, weights: Any, n_times: int, capacities: Any = None) -> BayesianMatching:
        """Known i.i.d. arrivals: the same K types with the same probabilities at each of ``n_times`` times.

        Parameters
        ----------
        probabilities : (K,) array_like
        weights : (K, n) array_like or scipy.sparse
        n_times : int
        capacities : (n,) array_like of int, optional

        Examples
        --------
        >>> from solvers.matching import BayesianMatching
        >>> BayesianMatching.from_iid([0.5, 0.5], [[1, 0], [1, 1]], n_times=4)
        BayesianMatching(n_nodes=2, n_times=4, n_types=2, n_edges=12, unweighted)
        """
        n_times = check_integer("n_times", n_times, low=1)
        p = to_host(as_float_array(probabilities, "probabilities", ndim=1, expected="a (K,) array"))
        if kind_of(weights) != "sparse":
            weights = to_host(as_float_array(weights, "weights", ndim=2, expected="a (K, n) array"))
        if weights.ndim != 2 or weights.shape[0] != len(p):
            raise InvalidProblemError(f"weights must have one row per type ({len(p)}); got shape {weights.shape}")
        stacked = scipy.sparse.vstack([scipy.sparse.csr_array(weights)] * n_times, format="csr")
        return cls(np.tile(p, (n_times, 1)), stacked, capacities)

    @classmethod
    def from_samples(cls, samples: Any, weights: Any, capacities: Any = None) -> BayesianMatching:
        """Arrival laws estimated from observed sequences.

        Parameters
        ----------
        samples : (S, T) array_like of int
            Type that arrived at each time of S observed runs, -1 where nobody came. p_tk is the observed frequency.
        weights : (K, n), (T, K, n) array_like or scipy.sparse (T K, n)
            A (K, n) array holds at every time.
        capacities : (n,) array_like of int, optional

        Examples
        --------
        >>> from solvers.matching import BayesianMatching
        >>> BayesianMatching.from_samples([[0, -1], [1, 1]], [[1.0, 2.0], [3.0, 0.0]]).probabilities
        array([[0.5, 0.5],
               [0. , 0.5]])
        """
        raw = to_host(as_float_array(samples, "samples", ndim=2, expected="an (S, T) array of types"))
        if not np.array_equal(raw, np.floor(raw)) or raw.min() < -1:
            raise InvalidProblemError("samples must hold integers >= -1 (-1 where nobody came)")
        n_runs, n_times = raw.shape
        if kind_of(weights) == "sparse":
            rows = weights.shape[0]
            if rows % n_times:
                raise InvalidProblemError(f"weights must have T K rows with T = {n_times}; got {rows}")
            n_types, full = rows // n_times, weights
        else:
            dense = np.asarray(to_host(weights))
            n_types = dense.shape[-2] if dense.ndim in (2, 3) else 0
            full = np.broadcast_to(dense, (n_times, *dense.shape)) if dense.ndim == 2 else dense
        if n_types == 0:
            raise InvalidProblemError("weights must be a (K, n) or (T, K, n) array with K >= 1")
        if raw.max() >= n_types:
            raise InvalidProblemError(f"samples must be below the number of types, {n_types}; got {int(raw.max())}")
        counts = np.stack([np.sum(raw == k, axis=0) for k in range(n_types)], axis=1)
        return cls(counts / n_runs, full, capacities)

    @classmethod
    def from_networkx(
        cls,
        graph: networkx.Graph,
        arrivals: Sequence[Hashable],
        *,
        weight: str = "weight",
        probability: str = "probability",
    ) -> BayesianMatching:
        """One arrival per time along the edges of a bipartite graph.

        Parameters
        ----------
        graph : networkx.Graph
            Bipartite between ``arrivals`` and all other nodes, which are the offline ones, in the order of
            ``list(graph)``.
        arrivals : sequence of nodes
            Who may come, in order of time.
        weight, probability : str
            Edge attribute with the value of a pair (1 where absent) and attribute of an arriving node with the
            probability that it comes (1 where absent). The attribute "capacity" of an offline node is its capacity.
        """
        order = list(arrivals)
        if len(set(order)) != len(order) or any(node not in graph for node in order):
            raise InvalidProblemError("arrivals must be distinct nodes of the graph")
        coming = set(order)
        offline = [node for node in graph if node not in coming]
        index = {node: i for i, node in enumerate(offline)}
        matrix = scipy.sparse.lil_array((len(order), len(offline)))
        for t, node in enumerate(order):
            for neighbour, data in graph[node].items():
                if neighbour not in index:
                    raise InvalidProblemError(f"graph must have no edge between arrivals; got {node!r}, {neighbour!r}")
                matrix[t, index[neighbour]] = data.get(weight, 1.0)
        for node in offline:
            if any(neighbour in index for neighbour in graph[node]):
                raise InvalidProblemError(f"graph must be bipartite; {node!r} has an edge to another offline node")
        p = np.array([[graph.nodes[node].get(probability, 1.0)] for node in order])
        instance = cls(p, matrix.tocsr(), [graph.nodes[node].get("capacity", 1) for node in offline])
        instance.nodes = offline
        return instance

    # -- sizes and views ---------------------------------------------------------------------------------------

    @property
    def n_times(self) -> int:
        """T."""
        return int(self.probabilities.shape[0])

    @property
    def n_types(self) -> int:
        """K."""
        return int(self.probabilities.shape[1])

    @property
    def n_nodes(self) -> int:
        """Number of nodes, n."""
        return len(self.capacities)

    @property
    def n_units(self) -> int:
        """Units of capacity that an arrival could ever use."""
        return len(self.owner)

    @cached_property
    def weights(self) -> scipy.sparse.csr_array:
        """The positive weights as a (T K, n) sparse matrix."""
        matrix = self.matrix(self.edges.weight)
        matrix.data = freeze(matrix.data)
        return matrix

    def matrix(self, values: FloatArray) -> scipy.sparse.csr_array:
        """One value per edge as a (T K, n) sparse matrix with sorted indices and explicit zeros kept."""
        shape = (self.n_times * self.n_types, self.n_nodes)
        matrix = scipy.sparse.csr_array((values.copy(), self.edges.node.copy(), self.edges.start.copy()), shape=shape)
        matrix.sort_indices()
        return matrix

    @cached_property
    def kind(self) -> str:
        """Shape of the weights, which decides the constants in the literature, not the certificates here."""
        edges, _ = self.units
        lightest, heaviest = np.full(self.n_units, np.inf), np.zeros(self.n_units)
        np.minimum.at(lightest, edges.node, edges.weight)
        np.maximum.at(heaviest, edges.node, edges.weight)
        used = heaviest > 0
        if not np.array_equal(lightest[used], heaviest[used]):
            return "edge-weighted"
        return "unweighted" if len(np.unique(heaviest[used])) <= 1 else "vertex-weighted"

    @cached_property
    def owner(self) -> IntArray:
        """Node of each unit of capacity; capacities beyond the number of arrivals that could use them are cut."""
        rows = np.repeat(np.arange(self.n_times * self.n_types), np.diff(self.edges.start)) // self.n_types
        times = np.zeros(self.n_nodes, dtype=np.int64)
        if len(self.edges):
            pairs = np.unique(np.stack([self.edges.node, rows]), axis=1)
            times += np.bincount(pairs[0], minlength=self.n_nodes)
        owner: IntArray = np.repeat(np.arange(self.n_nodes), np.minimum(self.capacities, np.maximum(times, 1)))
        return owner

    @cached_property
    def units(self) -> tuple[Edges, IntArray]:
        """Edges between types and units, and the edge between type and node behind each."""
        if len(self.owner) == self.n_nodes and np.array_equal(self.owner, np.arange(self.n_nodes)):
            return self.edges, np.arange(len(self.edges))
        copies = np.bincount(self.owner, minlength=self.n_nodes)
        first = np.concatenate([[0], np.cumsum(copies)])
        times = copies[self.edges.node]
        behind = np.repeat(np.arange(len(self.edges)), times)
        running = np.arange(len(behind)) - np.repeat(np.cumsum(times) - times, times)
        start = np.concatenate([[0], np.cumsum(times)])[self.edges.start]
        unit = first[self.edges.node[behind]] + running
        return Edges(start.astype(np.int64), unit.astype(np.int64), self.edges.weight[behind]), behind

    @property
    def _n_unit_edges(self) -> int:
        return int(np.sum(np.bincount(self.owner, minlength=self.n_nodes)[self.edges.node]))

    @cached_property
    def copies(self) -> FloatArray:
        """Units of each node, (n,) float64: the right-hand side of its constraints."""
        return np.bincount(self.owner, minlength=self.n_nodes).astype(np.float64)

    @cached_property
    def scale(self) -> float:
        """Size of the problem: what an unlimited supply of every unit would be worth, sum_tk p_tk max_i w_tki."""
        edges, _ = self.units
        filled = np.diff(edges.start) > 0
        return float(np.sum(self.probabilities.ravel()[filled] * edges.weight[edges.start[:-1][filled]]))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the data; equal instances have equal fingerprints."""
        digest = hashlib.sha256(repr(self.probabilities.shape).encode())
        for array in (self.probabilities, self.capacities, self.edges.start, self.edges.node, self.edges.weight):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    # -- storage -----------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the instance to a file in NumPy's ``.npz`` format (labels of nodes are not stored)."""
        weights = self.weights
        with open(path, "wb") as file:  # a file, because NumPy appends .npz to names
            np.savez_compressed(
                file,
                probabilities=self.probabilities,
                capacities=self.capacities,
                indptr=weights.indptr,
                indices=weights.indices,
                weights=weights.data,
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> BayesianMatching:
        """Read an instance written by :meth:`save`."""
        with np.load(path) as data:
            p, capacities = data["probabilities"], data["capacities"]
            shape = (p.size, len(capacities))
            weights = scipy.sparse.csr_array((data["weights"], data["indices"], data["indptr"]), shape=shape)
        return cls(p, weights, capacities)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BayesianMatching) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return (
            f"BayesianMatching(n_nodes={self.n_nodes}, n_times={self.n_times}, n_types={self.n_types}, "
            f"n_edges={len(self.edges)}, {self.kind})"
        )


BayesianMatching.__module__ = "matching"


def _probabilities(value: Any) -> FloatArray:
    one_type = np.ndim(value) == 1 if kind_of(value) == "numpy" and not _ragged(value) else False
    host = to_host(
        as_float_array(value, "probabilities", ndim=1 if one_type else 2, expected="a (T, K) array of probabilities")
    )
    p: FloatArray = np.array(host.reshape(len(host), -1))
    if p.min() < 0:
        raise InvalidProblemError(f"probabilities must be non-negative; got {float(p.min())!r}")
    sums = p.sum(axis=1)
    if sums.max() > 1 + SUM_TOLERANCE:
        t = int(np.argmax(sums))
        raise InvalidProblemError(
            f"probabilities must sum to at most 1 at each time; got {float(sums[t])!r} at time {t}"
        )
    while (excess := np.flatnonzero(p.sum(axis=1) > 1)).size:
        p[excess] *= (1 - 2.0**-52) / p[excess].sum(axis=1, keepdims=True)
    return p


def _ragged(value: Any) -> bool:
    try:
        np.ndim(value)
    except ValueError:
        return True
    return False


def _weight_matrix(value: Any, shape: tuple[int, ...]) -> scipy.sparse.csr_array:
    n_times, n_types = shape
    rows = n_times * n_types
    expected = f"a ({n_times}, {n_types}, n) array or a sparse ({rows}, n) matrix"
    if kind_of(value) == "sparse":
        if value.ndim != 2 or value.shape[0] != rows or value.shape[1] == 0:
            raise InvalidProblemError(f"weights must be {expected}; got a sparse matrix of shape {value.shape}")
        matrix = scipy.sparse.csr_array(value, copy=True)
        if matrix.dtype.kind not in "bifu":
            raise InvalidProblemError(f"weights must be real numbers; got dtype {matrix.dtype}")
        matrix = matrix.astype(np.float64)
        matrix.sum_duplicates()
    else:
        flat = n_types == 1 and not _ragged(value) and len(np.shape(value)) == 2
        dense = to_host(as_float_array(value, "weights", ndim=2 if flat else 3, expected=expected))
        if dense.shape[:-1] != ((n_times,) if flat else (n_times, n_types)):
            raise InvalidProblemError(f"weights must be {expected}; got shape {dense.shape}")
        matrix = scipy.sparse.csr_array(dense.reshape(rows, dense.shape[-1]))
    if not np.isfinite(matrix.data).all():
        raise InvalidProblemError("weights must be finite; got entries that are NaN or infinite")
    if matrix.nnz and matrix.data.min() < 0:
        raise InvalidProblemError(f"weights must be non-negative; got {float(matrix.data.min())!r}")
    matrix.eliminate_zeros()
    return matrix


def _capacities(value: Any, n_nodes: int) -> IntArray:
    if value is None:
        return np.ones(n_nodes, dtype=np.int64)
    given = np.asarray(value) if kind_of(value) == "numpy" and not _ragged(value) else None
    if given is not None and given.dtype.kind in "iu" and given.ndim == 1:
        # Beyond 2^53 the numbers would be rounded on their way through floating point.
        value = np.minimum(given, np.asarray(2**53, dtype=given.dtype) if given.dtype.itemsize == 8 else given)
    raw = to_host(as_float_array(value, "capacities", ndim=1, expected=f"{n_nodes} non-negative integers"))
    if len(raw) != n_nodes or raw.min() < 0 or not np.array_equal(raw, np.floor(raw)):
        raise InvalidProblemError(f"capacities must be {n_nodes} non-negative integers; got {raw!r}")
    copies: IntArray = np.minimum(raw, 2.0**62).astype(np.int64)
    return copies


def _sorted_edges(matrix: scipy.sparse.csr_array) -> Edges:
    start = matrix.indptr.astype(np.int64)
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(start))
    order = np.lexsort((matrix.indices, -matrix.data, rows))
    return Edges(
        freeze(start), freeze(matrix.indices[order].astype(np.int64)), freeze(np.ascontiguousarray(matrix.data[order]))
    )
