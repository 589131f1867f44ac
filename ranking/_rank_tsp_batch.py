"""``rank_tsp_batch``: thousands of small groups, each with its own proof."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from ranking._batch_array import solve_on_arrays
from ranking._improve import ROUNDED_GAP
from ranking._problem import EXPECTED
from ranking._rank_tsp import PathSettings, rank_tsp
from ranking._result import BranchCertificate, Certificate, RankingResult, RecursionCertificate
from solvers._catalogue import entry_named
from solvers._core.arrays import FloatArray, IntArray, as_float_array, dimensions, kind_of, to_host
from solvers._core.backend import choose_backend
from solvers._core.errors import InvalidProblemError, SolverWarning
from solvers._core.linalg import UNIT
from solvers._core.monitor import Monitor
from solvers._core.options import check_common, check_integer
from solvers._core.random import RNG
from solvers._core.result import NEGLIGIBLE, Result, Status

__all__ = ["BatchCertificate", "RankingBatch", "padded", "rank_tsp_batch"]

# Tree nodes per node of the problem that a group may use in the compiled loop, first and second try; the few groups
# that need more are solved one by one.
ROOM_FACTORS = (6, 150)
# Groups in flight are limited by the memory of their certificates.
CHUNK_BYTES = 2**26
# Nodes up to which groups share the subset recursion, whose work doubles with each; groups between two looks at the clock.
RECURSION_NODES = 11
RECURSION_CHUNK = 2**13


@dataclass(frozen=True)
class BatchCertificate:
    """Certificates of the groups, packed: group g has ``count[g]`` rows of the tree arrays from ``first[g]`` on.

    Attributes
    ----------
    first, count : (B,) int64
    parent, tail, head, leaf, ray : (N,) arrays
        As in :class:`BranchCertificate`.
    first_price, leaves : (B,) int64
    prices : (L, m) float64
        Group g has ``leaves[g]`` rows from ``first_price[g]`` on, and the first n_g (+1) columns of them.
    hard : mapping
        Certificates of groups solved one by one.
    """

    first: IntArray
    count: IntArray
    parent: IntArray
    tail: IntArray
    head: IntArray
    leaf: IntArray
    ray: Any
    first_price: IntArray
    leaves: IntArray
    prices: FloatArray
    hard: Mapping[int, Certificate]
    kind: str = "batch"

    def of_group(self, g: int, nodes: int) -> Certificate:
        """The certificate of one group whose cycle has ``nodes`` nodes."""
        if g in self.hard:
            return self.hard[g]
        rows = slice(int(self.first[g]), int(self.first[g] + self.count[g]))
        if rows.start == rows.stop:
            return RecursionCertificate()
        prices = self.prices[int(self.first_price[g]) : int(self.first_price[g] + self.leaves[g]), :nodes]
        return BranchCertificate(
            self.parent[rows], self.tail[rows], self.head[rows], self.leaf[rows], self.ray[rows],
            np.ascontiguousarray(prices),
        )  # fmt: skip


class RankingBatch(Result):
    """Rankings of many groups; fields are arrays with one row or entry per group.

    Attributes
    ----------
    order, rank : (B, n) int64
        Padded with -1; ``x`` is ``order``, in the kind of array that the scores came in.
    lengths : (B,) int64
        Group sizes.
    fun, bound, gap, scale : (B,) float64
    status : (B,) int64
        Values of :class:`solvers.Status`.
    success : bool
        Whether every group was solved.
    """

    order: IntArray
    rank: IntArray
    lengths: IntArray
    closed: bool

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, key: Any) -> Any:
        """Fields by name, groups by number."""
        if isinstance(key, str):
            return super().__getitem__(key)
        if isinstance(key, slice):
            raise TypeError("a batch gives one group at a time, batch[g]; groups() runs through all of them")
        g = range(len(self.lengths))[key]
        n = int(self.lengths[g])
        status = Status(int(self["status"][g]))
        order = self.order[g, :n].copy() if self.order[g, 0] >= 0 else None
        fields: dict[str, Any] = {name: float(self[name][g]) for name in ("fun", "bound", "gap", "scale")} | {
            name: self[name] for name in ("sense", "nit", "time", "backend", "method", "closed", "tol")
        }
        return RankingResult(
            **fields, entry="rank_tsp", x=order, order=order, rank=None if order is None else self.rank[g, :n].copy(),
            status=status, success=status.success, message=status.advice, history=None, nodes=None,
            certificate=self.certificate.of_group(g, n + (not self.closed)),
        )  # fmt: skip

    def groups(self) -> Iterator[RankingResult]:
        """The groups one by one."""
        for g in range(len(self)):
            yield self[g]


RankingBatch.__module__ = BatchCertificate.__module__ = "ranking"


def rank_tsp_batch(
    scores: Any,
    lengths: Any = None,
    *,
    start: int | None = None,
    end: int | None = None,
    closed: bool = False,
    maximize: bool = True,
    method: str = "auto",
    tol: float = 1e-6,
    time_limit: float | None = None,
    rng: RNG = None,
    verbose: int = 0,
    backend: str = "auto",
    options: Mapping[str, Any] | None = None,
) -> RankingBatch:
    r"""Rank the items of many groups, each by its best path, each with its own certificate.

    .. math:: \max_{\pi_g} \sum_{k=1}^{n_g-1} s^{(g)}_{\pi_{g,k} \pi_{g,k+1}} \quad \text{for } g = 1, \dots, B

    Parameters
    ----------
    scores : (B, n, n) array_like or list of (n_g, n_g) arrays
        As in :func:`solvers.rank_tsp`; rows and columns from ``lengths[g]`` on are padding and never read.
    lengths : (B,) array_like of int, optional
        Group sizes from 1 to n; all n by default. Not for lists, which know their sizes.
    start, end : int, optional
        First and last item of every group.
    closed, maximize : bool
        As in :func:`solvers.rank_tsp`.
    method : {"auto", "exact"}
        What groups that are not proved within a small tree are passed to: :func:`solvers.rank_tsp` with this method.
    tol : float
        A group ends as OPTIMAL once its gap is at most ``tol``.
    time_limit : float, optional
        Seconds; groups not reached have order -1, an infinite bound and status TIME_LIMIT.
    rng : int, Generator, SeedSequence or None
        Decides between equally good orders.
    verbose : {0, 1, 2}
        Above 0, a summary line (standard error).
    backend : {"auto", "numba", "array", "cupy"}
        Compiled kernels on the host; or, where the scores are CuPy or other array-API arrays, the subset recursion for
        all groups at once on their device, for groups of up to 12 items.
    options : mapping, optional
        ``certificate_bytes``, for the groups that are solved one by one.

    Returns
    -------
    RankingBatch
        ``order``, ``rank`` (B, n) padded with -1, arrays ``fun``, ``bound``, ``gap``, ``status``; ``batch[g]`` is the
        :class:`RankingResult` of a group, and ``batch.groups()`` runs through all of them.

    Raises
    ------
    InvalidProblemError
        Bad values or shapes; the message names the first bad group.

    Notes
    -----
    *Guarantee.* As for :func:`solvers.rank_tsp`, group by group. Groups run in parallel threads and their results
    depend neither on the number of threads nor on the other groups, except that ties draw from one stream.

    *Complexity.* About 10 microseconds a group of 10 items and core, whatever its scores: groups of up to 10 items share
    a subset recursion, which needs 5 MB a thread and no certificate but itself. Larger ones grow trees, with memory for
    the certificates of all groups.

    References
    ----------
    G. Carpaneto, M. Dell'Amico, P. Toth, Exact solution of large-scale, asymmetric traveling salesman problems, ACM
    Trans. Math. Softw. 21, 1995.
    M. Held, R. Karp, A dynamic programming approach to sequencing problems, SIAM J. Appl. Math. 10, 1962.

    Examples
    --------
    >>> import numpy as np
    >>> import solvers
    >>> batch = solvers.rank_tsp_batch(np.random.default_rng(0).random((100, 6, 6)), rng=0)
    >>> len(batch), batch.success, bool(np.all(batch.fun <= batch.bound))
    (100, True, True)
    """
    entry = entry_named("rank_tsp_batch")
    common = check_common(
        entry.name, method=method, methods=entry.methods, tol=tol, max_iter=None, time_limit=time_limit, callback=None,
        rng=rng, history=False, verbose=verbose, options=options,
    )  # fmt: skip
    common.settings(PathSettings)
    for name, flag in (("closed", closed), ("maximize", maximize)):
        if not isinstance(flag, (bool, np.bool_)):
            raise TypeError(f"{name} must be True or False; got {flag!r}")
    given = None if isinstance(scores, (list, tuple)) else scores
    chosen = choose_backend("ranking", backend, entry.backends, scores=given)
    table, sizes = padded(scores, lengths)
    smallest = int(sizes.min())
    ends = [-1 if node is None else check_integer(name, node, low=0, high=smallest - 1)
            for name, node in (("start", start), ("end", end))]  # fmt: skip
    if closed and ends[1] >= 0:
        raise InvalidProblemError(f"end must be None when closed=True: a cycle has no end; got {end!r}")
    if ends[0] >= 0 and ends[0] == ends[1] and int(sizes.max()) > 1:
        raise InvalidProblemError(f"start and end must differ; got {start!r} for both")
    problem = {"start": start, "end": end, "closed": bool(closed), "maximize": bool(maximize)}
    answer: dict[str, Any] = {"sizes": sizes, "problem": problem}
    monitor = Monitor(
        common, sense="max" if maximize else "min", scale=0.0, max_iter=1,
        package=lambda monitor: _packaged(monitor, **answer), method=method, backend=chosen.name,
    )  # fmt: skip
    if chosen.name == "numba":
        answer |= _solve(table, sizes, ends, problem, monitor, options)
    else:
        x, fields = solve_on_arrays(chosen.take(table), sizes, ends, problem, monitor, chosen)
        monitor.method = "dynamic-programming"
        answer |= {"x": x, "fields": fields, "certificate": _Packed(len(sizes), 1).certificate({})}
    result = _packaged(monitor, **answer)
    if verbose:
        import sys

        print(f"rank_tsp_batch: {len(result)} groups, {result.time:.3f} s, success {result.success}", file=sys.stderr)
    return result


def padded(scores: Any, lengths: Any) -> tuple[FloatArray, IntArray]:
    """Scores as a (B, n, n) array and the group sizes."""
    expected = "a (B, n, n) array, or a list of (n, n) arrays,"
    if isinstance(scores, (list, tuple)):
        if lengths is not None:
            raise InvalidProblemError("lengths must be None for a list of score matrices, which know their sizes")
        if not scores:
            raise InvalidProblemError(f"scores must be {expected} of at least one group; got none")
        groups = [
            as_float_array(group, f"scores[{g}]", ndim=2, finite=False, expected=EXPECTED)
            for g, group in enumerate(scores)
        ]
        for g, group in enumerate(groups):
            if group.shape[0] != group.shape[1]:
                raise InvalidProblemError(f"scores[{g}] must be {EXPECTED}; got shape {group.shape}")
        sizes = np.array([len(group) for group in groups])
        table = np.zeros((len(groups), int(sizes.max()), int(sizes.max())))
        for place, group in zip(table, groups, strict=True):
            place[: len(group), : len(group)] = group
        table.flags.writeable = False
        return table, sizes
    table = as_float_array(scores, "scores", ndim=3, finite=False, expected=expected)
    if table.shape[1] != table.shape[2]:
        raise InvalidProblemError(f"scores must be {expected} of square matrices; got shape {table.shape}")
    if lengths is None:
        return table, np.full(table.shape[0], table.shape[1])
    given = np.empty(0) if dimensions(lengths) == -1 or kind_of(lengths) == "sparse" else to_host(lengths)
    if given.shape != (table.shape[0],) or given.dtype.kind not in "iu":
        raise InvalidProblemError(
            f"lengths must be {table.shape[0]} integers; got {given.dtype} of shape {given.shape}"
        )
    if given.min() < 1 or given.max() > table.shape[1]:
        raise InvalidProblemError(
            f"lengths must be from 1 to {table.shape[1]}; got values from {given.min()} to {given.max()}"
        )
    return table, given.astype(np.int64)


def _solve(
    table: FloatArray, sizes: IntArray, ends: list[int], problem: Mapping[str, Any], monitor: Monitor, options: Any
) -> dict[str, Any]:
    """Order, fields and certificate of all groups."""
    from ranking._batch_numba import (
        ATTRACTIVE,
        INFEASIBLE,
        LANES,
        NOT_A_NUMBER,
        PROVED,
        TOO_LARGE,
        UNPROVED,
        recur_groups,
        solve_groups,
    )

    total, n = len(sizes), table.shape[1]
    m = n + (not problem["closed"])
    sign = -1.0 if problem["maximize"] else 1.0
    order = np.full((total, n), -1)
    fun, bound = np.full(total, sign * np.inf), np.full(total, -sign * np.inf)
    size = np.zeros(total)
    status = np.full(total, int(Status.TIME_LIMIT))
    code, count = np.full(total, UNPROVED), np.zeros(total, np.int64)
    keys = monitor.common.rng.random((total, n))
    base = int(monitor.common.rng.integers(2**63))
    packed = _Packed(total, m)
    small = np.flatnonzero((sizes > 1) & (sizes + m - n <= RECURSION_NODES))
    for items in np.unique(sizes[small]).tolist():
        alike = small[sizes[small] == items]
        others = items + m - n - 1
        tables = np.empty((numba.get_num_threads(), (others << others) // 2 * min(LANES, len(alike))))
        for first in range(0, len(alike), RECURSION_CHUNK):
            if monitor.out_of_time():
                break
            chosen = alike[first : first + RECURSION_CHUNK]
            recur_groups(
                table, items, chosen, keys, sign, not problem["closed"], ends[0], ends[1], tables,
                order, fun, bound, size, code,
            )  # fmt: skip
            status[chosen] = np.where(code[chosen] == INFEASIBLE, int(Status.INFEASIBLE), int(Status.CONVERGED))
    for factor in ROOM_FACTORS:
        room = factor * m
        chunk = max(16, int(CHUNK_BYTES / (8 * room * (m + 6))))
        left = np.flatnonzero(code == UNPROVED)
        slabs = [np.empty((min(chunk, len(left)), room), np.int64) for _ in range(4)]
        rays = np.empty((min(chunk, len(left)), room), np.bool_)
        prices = np.empty((min(chunk, len(left)), room, m))
        for first in range(0, len(left), chunk):
            if monitor.out_of_time():
                break
            chosen = left[first : first + chunk]
            k = len(chosen)
            solve_groups(
                table, sizes, chosen, keys, sign, not problem["closed"], ends[0], ends[1], monitor.common.tol, room,
                order, fun, bound, size, code, count,
                slabs[0][:k], slabs[1][:k], slabs[2][:k], slabs[3][:k], rays[:k], prices[:k],
            )  # fmt: skip
            packed.add(chosen, count[chosen], [*(slab[:k] for slab in slabs), rays[:k]], prices[:k])
            status[chosen] = np.where(code[chosen] == INFEASIBLE, int(Status.INFEASIBLE), int(Status.CONVERGED))
    for wrong, what in (
        (NOT_A_NUMBER, "NaN"),
        (ATTRACTIVE, "an infinity that attracts"),
        (TOO_LARGE, "a modulus above 2**1000"),
    ):
        if np.any(code == wrong):
            g = int(np.argmax(code == wrong))
            raise InvalidProblemError(f"scores[{g}] must be {EXPECTED}; got {what} off the diagonal")
    # Trees that are exhausted and prove little have lost small scores among huge ones.
    code[(code == PROVED) & (_gaps(fun, bound, size, sign) > max(monitor.common.tol, ROUNDED_GAP))] = UNPROVED
    hard: dict[int, Certificate] = {}
    for g in map(int, np.flatnonzero((code == UNPROVED) & (status != int(Status.TIME_LIMIT)))):
        if monitor.out_of_time():
            status[g] = int(Status.TIME_LIMIT)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SolverWarning)
            one = rank_tsp(
                table[g, : sizes[g], : sizes[g]], method=monitor.common.method, tol=monitor.common.tol,
                time_limit=None if monitor.common.time_limit is None else max(monitor.remaining, 1e-3),
                rng=np.random.SeedSequence([base, g]), options=options, **problem,
            )  # fmt: skip
        fun[g], bound[g], size[g], status[g], hard[g] = one.fun, one.bound, one.scale, one.status, one.certificate
        order[g] = -1
        if one.order is not None:
            order[g, : sizes[g]] = one.order
    fields = {"order": order, "fun": fun, "bound": bound, "scale": size, "status": status}
    return {"x": order, "fields": fields, "certificate": packed.certificate(hard)}


def _packaged(
    monitor: Monitor, *, x: Any, fields: dict[str, Any], sizes: IntArray, problem: Mapping[str, Any], certificate: Any
) -> RankingBatch:
    """The result; groups whose gap is at most tol are OPTIMAL."""
    order, status = fields["order"], fields["status"]
    gap = _gaps(fields["fun"], fields["bound"], fields["scale"], -1.0 if problem["maximize"] else 1.0)
    status[(gap <= monitor.common.tol) & (order[:, 0] >= 0)] = int(Status.OPTIMAL)
    rank = np.full_like(order, -1)
    rows, columns = np.nonzero(order >= 0)
    rank[rows, order[rows, columns]] = columns
    good = bool(np.isin(status, (int(Status.OPTIMAL), int(Status.CONVERGED))).all())
    return RankingBatch(
        **fields, entry="rank_tsp_batch", x=x, rank=rank, lengths=sizes, gap=gap, sense=monitor.sense, success=good,
        nit=len(sizes), time=monitor.time, backend=monitor.backend, method=monitor.method, certificate=certificate,
        message=f"{int(np.sum(status == int(Status.OPTIMAL)))} of {len(sizes)} groups proved optimal.", history=None,
        closed=problem["closed"], tol=monitor.common.tol,
    )  # fmt: skip


class _Packed:
    """Trees of the groups, appended in the order in which they are solved; a later tree replaces an earlier one."""

    def __init__(self, total: int, m: int) -> None:
        self.first, self.count = np.zeros(total, np.int64), np.zeros(total, np.int64)
        self.first_price, self.leaves = np.zeros(total, np.int64), np.zeros(total, np.int64)
        self.trees: list[list[Any]] = [[np.empty(0, t)] for t in (*[np.int64] * 4, np.bool_)]
        self.prices: list[FloatArray] = [np.empty((0, m))]
        self.nodes = self.rows = 0

    def add(self, chosen: IntArray, count: IntArray, slabs: list[Any], prices: FloatArray) -> None:
        """Append the trees of the chosen groups, ``count`` nodes each, one row of every slab per group."""
        used = np.arange(slabs[0].shape[1]) < count[:, None]
        for kept, slab in zip(self.trees, slabs, strict=True):
            kept.append(slab[used])
        leaves = np.where(used, slabs[3], -1).max(axis=1) + 1
        self.prices.append(prices[np.arange(prices.shape[1]) < leaves[:, None]])
        self.first[chosen] = self.nodes + np.cumsum(count) - count
        self.first_price[chosen] = self.rows + np.cumsum(leaves) - leaves
        self.count[chosen], self.leaves[chosen] = count, leaves
        self.nodes += int(count.sum())
        self.rows += int(leaves.sum())

    def certificate(self, hard: Mapping[int, Certificate]) -> BatchCertificate:
        """Everything in one dataclass."""
        parent, tail, head, leaf, ray = (np.concatenate(parts) for parts in self.trees)
        prices = np.concatenate(self.prices)
        return BatchCertificate(
            self.first, self.count, parent, tail, head, leaf, ray, self.first_price, self.leaves, prices, hard
        )


def _gaps(fun: FloatArray, bound: FloatArray, size: FloatArray, sign: float) -> FloatArray:
    """Relative gaps; bounds that rounding of ``fun`` places past it are set to it, in place."""
    finite = np.isfinite(fun) & np.isfinite(bound)
    with np.errstate(invalid="ignore"):
        past = finite & (sign * (bound - fun) > 0) & (np.abs(bound - fun) <= 4 * UNIT * size)
    bound[past] = fun[past]
    gap = np.full(len(fun), np.inf)
    distance = np.abs(fun[finite] - bound[finite])
    reach = np.maximum(np.maximum(np.abs(fun[finite]), np.abs(bound[finite])), NEGLIGIBLE * size[finite])
    gap[finite] = np.divide(distance, reach, out=np.zeros_like(distance), where=reach > 0)
    return gap
