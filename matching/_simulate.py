"""Paired simulation: every policy meets the same arrivals, so that differences are sharp."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from matching import _kernels_policy_array, _kernels_rollout_array
from matching._instance import BayesianMatching
from matching._kernels_policy import METHOD_CODES, run_policy
from matching._result import MatchingResult, PolicyTables
from solvers._catalogue import entry_named
from solvers._core.arrays import FloatArray, IntArray
from solvers._core.backend import Backend, choose_backend
from solvers._core.errors import InvalidProblemError
from solvers._core.options import check_integer
from solvers._core.random import RNG, generator

__all__ = ["draw_arrivals", "sampled_totals", "simulate", "summary"]

# Arrivals are drawn for this many times at once, so that memory stays bounded.
CHUNK_TIMES = 2_000_000
# Keys and arrivals of some runs to their total weights, in parts.
Runner = Callable[[npt.NDArray[np.uint64], IntArray], list[FloatArray]]


def simulate(
    instance: BayesianMatching,
    policies: Any,
    n_runs: int,
    rng: RNG = None,
    *,
    offline_runs: int = 0,
    n_jobs: int = 1,
    backend: str = "auto",
) -> npt.NDArray[Any]:
    """Run policies on the same simulated arrivals.

    Parameters
    ----------
    instance : BayesianMatching
        The problem all policies were planned for.
    policies : mapping of str to MatchingResult
        Results of :func:`match_online` on this instance.
    n_runs : int
        Simulated sequences of arrivals.
    rng : int, Generator, SeedSequence or None
        Same seed: same arrivals and coins.
    offline_runs : int
        On so many of the runs (at most ``n_runs``) the best matching in hindsight is found too, reported as a last row
        named "offline optimum". Slow: an assignment problem each.
    n_jobs : int
        Threads, which share the runs; the compiled policies release the interpreter lock. Answers do not depend on it.
        Array backends advance all runs together in one thread and ignore it.
    backend : {"auto", "numba", "array", "cupy"}
        "auto" is "numba", compiled code, a run after the other. "array" and "cupy" advance all runs of a policy
        together, on the host or on the CUDA device, with the same arrivals and coins.

    Returns
    -------
    structured array, one row per policy
        ``name``, ``mean``, ``standard_error``, ``ratio`` (mean over the result's bound), ``difference`` and
        ``difference_error`` (mean and standard error of the paired difference to the first policy).

    Notes
    -----
    *Complexity.* O(edges of one time) a step, for "rollout" O(remaining edges x grid). On array backends O(units +
    largest degree) a step, and O(T K largest degree) memory for the padded edges.

    Examples
    --------
    >>> import solvers
    >>> instance = solvers.matching.BayesianMatching([0.5, 0.5], [[1.0], [1.0]])
    >>> plans = {"greedy": solvers.match_online(instance, method="greedy")}
    >>> table = solvers.matching.simulate(instance, plans, 4000, rng=1)
    >>> abs(float(table["mean"][0]) - 0.75) < 0.03
    True
    """
    n_runs = check_integer("n_runs", n_runs, low=1)
    offline_runs = check_integer("offline_runs", offline_runs, low=0, high=n_runs)
    if not isinstance(policies, Mapping) or isinstance(policies, MatchingResult) or not policies:
        raise InvalidProblemError('policies must map names to results of match_online, as {"mine": result}')
    for name, result in policies.items():
        if not isinstance(result, MatchingResult):
            raise TypeError(f"policies[{name!r}] must be a MatchingResult; got {type(result).__name__}")
        if result.instance != instance:
            raise InvalidProblemError(f"policies[{name!r}] was planned for another instance")
    n_jobs = check_integer("n_jobs", n_jobs, low=1)
    chosen = choose_backend("matching", backend, entry_named("match_online").backends)
    tables = [PolicyTables.of(result) for result in policies.values()]
    generator_ = generator(rng)
    seeds = generator_.spawn(2)
    totals = sampled_totals(tables, n_runs, seeds[0], n_jobs, chosen)
    rows = [
        (
            name,
            *summary(total),
            float(total.mean()) / result.bound if result.bound > 0 else 1.0,
            *summary(total - totals[0]),
        )
        for (name, result), total in zip(policies.items(), totals, strict=True)
    ]
    if offline_runs:
        # The same arrivals again: the draw depends on nothing but the seed.
        arrivals = np.concatenate(list(_chunks(instance, n_runs, _twin(seeds[0]))))[:offline_runs]
        best = np.array([_hindsight(instance, run) for run in arrivals])
        bound = min(result.bound for result in policies.values())
        gap = best - totals[0][:offline_runs]
        rows.append(
            ("offline optimum", *summary(best), float(best.mean()) / bound if bound > 0 else 1.0, *summary(gap))
        )
    width = max(len(row[0]) for row in rows)
    kinds = ["mean", "standard_error", "ratio", "difference", "difference_error"]
    return np.array(rows, dtype=[("name", f"U{width}"), *((kind, np.float64) for kind in kinds)])


def sampled_totals(
    tables: Sequence[PolicyTables],
    n_runs: int,
    rng: np.random.Generator,
    n_jobs: int = 1,
    backend: Backend | None = None,
) -> list[FloatArray]:
    """Total weight of each run for each policy, all on the same arrivals; compiled unless a backend says otherwise."""
    instance = tables[0].instance
    runners = [_runner(table, n_jobs, backend) for table in tables]
    coins = _twin(rng).spawn(1)[0]
    totals: list[list[FloatArray]] = [[] for _ in tables]
    for arrivals in _chunks(instance, n_runs, rng):
        keys = coins.integers(0, 2**64, size=len(arrivals), dtype=np.uint64)
        for runner, parts in zip(runners, totals, strict=True):
            parts.extend(runner(keys, arrivals))
    return [np.concatenate(parts) for parts in totals]


def _runner(table: PolicyTables, n_jobs: int, backend: Backend | None) -> Runner:
    if backend is None or backend.name == "numba":
        return lambda keys, arrivals: _run_shared(table, keys, arrivals, n_jobs)
    if table.method == "rollout":
        rollout = _kernels_rollout_array.batched_rollout(table, backend)
        return lambda keys, arrivals: [_kernels_rollout_array.run_rollout(rollout, keys, arrivals)]
    batched = _kernels_policy_array.batched_policy(table, backend)
    return lambda keys, arrivals: [_kernels_policy_array.run_policy(batched, keys, arrivals)]


def _run_shared(table: PolicyTables, keys: npt.NDArray[np.uint64], arrivals: IntArray, n_jobs: int) -> list[FloatArray]:
    """Totals of consecutive runs, a part per thread; a run depends on nothing but its key and arrivals."""

    def run(part: slice) -> FloatArray:
        code, n_units = METHOD_CODES[table.method], table.instance.n_units
        totals = run_policy(code, table.salvage, table.blend, keys[part], arrivals[part], n_units, *table.arrays)
        return np.asarray(totals)

    if n_jobs == 1:
        return [run(slice(None))]
    ends = np.linspace(0, len(keys), n_jobs + 1).astype(int)
    parts = [slice(int(a), int(b)) for a, b in itertools.pairwise(ends)]
    # The tables are made once, before the threads would each make them.
    _ = table.arrays
    with ThreadPoolExecutor(n_jobs) as pool:
        return list(pool.map(run, parts))


def draw_arrivals(instance: BayesianMatching, n_runs: int, rng: np.random.Generator) -> IntArray:
    """Types that arrive, (n_runs, T) int64, -1 where nobody does."""
    draws = rng.random((n_runs, instance.n_times))
    ends = np.cumsum(instance.probabilities, axis=1)
    arrivals = np.full(draws.shape, -1, dtype=np.int64)
    for k in range(instance.n_types - 1, -1, -1):
        arrivals[draws < ends[:, k]] = k
    return arrivals


def _chunks(instance: BayesianMatching, n_runs: int, rng: np.random.Generator) -> Any:
    size = max(1, CHUNK_TIMES // instance.n_times)
    for first in range(0, n_runs, size):
        yield draw_arrivals(instance, min(size, n_runs - first), rng)


def _twin(rng: np.random.Generator) -> np.random.Generator:
    """A generator in the same state, independent of the original from here on."""
    return copy.deepcopy(rng)


def _hindsight(instance: BayesianMatching, arrivals: IntArray) -> float:
    """Best matching of one realised sequence."""
    came = np.flatnonzero(arrivals >= 0)
    rows = came * instance.n_types + arrivals[came]
    table = instance.weights[rows].toarray()[:, instance.owner]
    return float(table[linear_sum_assignment(table, maximize=True)].sum())


def summary(values: FloatArray) -> tuple[float, float]:
    """Mean and standard error; squares of the values may be out of range."""
    size = float(np.max(np.abs(values)))
    if size == 0.0 or len(values) == 1:
        return float(values.mean()), np.inf if len(values) == 1 else 0.0
    relative = values / size
    return float(relative.mean()) * size, float(relative.std(ddof=1) / np.sqrt(len(values))) * size
