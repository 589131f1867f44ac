"""A policy in production: one object per run, told who comes, answering with a node at once."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from matching._kernels_policy import (
    FREE,
    GONE,
    METHOD_CODES,
    POOL,
    advance,
    coin_menu,
    kept_by_coins,
    posted_menu,
    proved_future,
)
from matching._result import MatchingResult, PolicyTables
from solvers._core.arrays import FloatArray, IntArray
from solvers._core.errors import InvalidProblemError
from solvers._core.options import check_integer, check_number
from solvers._core.random import RNG, generator

__all__ = ["Policy"]

STATE_VERSION = 2


class Policy:
    """Decisions for one run of arrivals, from :meth:`MatchingResult.policy`.

    Time only goes forward: each call names a time later than the last one. Times passed over count as announced with
    ``skip``, because discards happen whether or not somebody comes. All randomness is a hash of a key drawn once, the
    time and the unit, so that a policy restored from its state decides exactly as the first would have. Calls on one
    object are serialised by a lock.

    Examples
    --------
    >>> import solvers
    >>> instance = solvers.matching.BayesianMatching([[0.5], [0.5]], [[[1.0, 2.0]], [[3.0, 0.0]]])
    >>> policy = solvers.match_online(instance, method="greedy").policy(rng=0)
    >>> policy.arrive(0, 0), policy.arrive(1, 0)
    (1, 0)
    """

    def __init__(self, result: MatchingResult, rng: RNG = None) -> None:
        self._tables = PolicyTables.of(result)
        instance = result.instance
        self._instance = instance
        self._code = METHOD_CODES[result.method]
        self._salvage = bool(result.salvage)
        self._arrays = self._tables.arrays
        self._owner = instance.owner.tolist()
        self._n_times, self._n_types = instance.n_times, instance.n_types
        self._kind = np.empty(1, dtype=np.int64)
        self._chosen = np.empty(1, dtype=np.int64)
        self._work = np.zeros(instance.n_units), np.zeros(instance.n_units, dtype=np.int64)
        self._lock = threading.Lock()
        self._key = generator(rng).integers(0, 2**64, dtype=np.uint64)
        self._next = 0
        self._marks = np.full(instance.n_units, FREE, dtype=np.int64)
        self._level = np.zeros(1)
        if result.method == "rollout":
            self._level[0] = self._proved_level(self._marks, 0)

    def arrive(self, t: int, k: int) -> int:
        """Type ``k`` arrives at time ``t``: the node it is matched to, or -1. Final."""
        if type(k) is not int or not 0 <= k < self._n_types:
            k = check_integer("k", k, low=0, high=self._n_types - 1)
        with self._lock:
            self._advance(t)
            unit = self._decide(t, k)
        return self._owner[unit] if unit >= 0 else -1

    def skip(self, t: int) -> None:
        """Nobody arrives at time ``t``."""
        with self._lock:
            self._advance(t)
            self._decide(t, -1)

    def prices(self, t: int) -> FloatArray:
        """Posted prices of the nodes at time ``t``, (n,); inf where a node is gone. Changes nothing.

        A buyer who takes the node of largest value less price, where that is positive, does what ``arrive`` would
        decide ("rollout", "dual-price"); prices do not depend on the buyer's report, so honesty is optimal. With
        method "rollout" they lie between the bid prices of the dual and what is proved of the future with the node's unit
        less that without it.

        A node whose units are all matched or discarded has no price. With salvage, ``arrive`` may give such a
        discarded unit, at no price, to an arrival that takes nothing at the posted ones: it does not touch the
        policy's own plan, but a buyer who foresees it may decline a price. Where buyers choose by themselves, plan with
        ``salvage=False``.
        """
        if self._tables.method not in ("rollout", "dual-price"):
            raise InvalidProblemError(f"method={self._tables.method!r} has no prices; use 'rollout' or 'dual-price'")
        with self._lock:
            self._check_time(t)
            if t != self._next:
                raise ValueError(
                    f"t must be the next time, {self._next}; got {t!r} (announce the times before with skip)"
                )
            by_unit = self._rollout_prices(t) if self._tables.method == "rollout" else self._dual_prices(t)
            by_unit[self._marks != FREE] = np.inf
        prices = np.full(self._instance.n_nodes, np.inf)
        np.minimum.at(prices, self._instance.owner, by_unit)
        return prices

    @property
    def free(self) -> IntArray:
        """How many units of each node can still be matched, (n,) int64; with salvage the discarded ones count too."""
        left = np.zeros(self._instance.n_nodes, dtype=np.int64)
        with self._lock:
            np.add.at(left, self._instance.owner, self._marks >= (POOL if self._salvage else FREE))
        return left

    @property
    def next_time(self) -> int:
        """The first time not yet announced."""
        return self._next

    def state(self) -> dict[str, Any]:
        """Everything needed to go on elsewhere, JSON-able."""
        with self._lock:
            return {
                "version": STATE_VERSION,
                "plan": self._plan(),
                "key": f"{int(self._key):016x}",
                "next_time": self._next,
                "marks": "".join(map(str, self._marks.tolist())),
                "level": float(self._level[0]),
            }

    def restore(self, state: Any) -> None:
        """Go on from a state of this or another policy of the same plan."""
        if not isinstance(state, Mapping) or state.get("version") != STATE_VERSION:
            raise ValueError(f"state must come from Policy.state(), version {STATE_VERSION}; got {state!r}")
        if state.get("plan") != self._plan():
            raise ValueError("state belongs to another instance or to another plan for it")
        try:
            key = np.uint64(int(state["key"], 16))
            marks = np.array([int(mark) for mark in state["marks"]], dtype=np.int64)
            next_time = check_integer("state['next_time']", state["next_time"], low=0, high=self._n_times)
            level = check_number("state['level']", state["level"], low=0.0)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"state is damaged: {error}") from None
        if marks.shape != self._marks.shape or ((marks < GONE) | (marks > FREE)).any():
            raise ValueError("state is damaged: one mark 0, 1 or 2 per unit is expected")
        with self._lock:
            self._key, self._marks, self._next, self._level = key, marks, next_time, np.array([level])

    def __getstate__(self) -> dict[str, Any]:
        """For pickling: everything but the lock."""
        with self._lock:
            return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    # -- inside the lock ---------------------------------------------------------------------------------------

    def _advance(self, t: int) -> None:
        if t != self._next or t >= self._n_times or type(t) is not int:
            self._check_time(t)
            while self._next < t:
                self._decide(self._next, -1)

    def _check_time(self, t: int) -> None:
        check_integer("t", t, low=0)
        if t < self._next:
            raise ValueError(f"t must increase; time {self._next - 1} was already decided, got {t!r}")
        if t >= self._n_times:
            raise ValueError(f"t must be below the horizon, {self._n_times}; got {t!r}")

    def _decide(self, t: int, k: int) -> int:
        self._kind[0] = k
        advance(
            self._code, self._salvage, self._tables.blend, t, self._kind, self._key, self._marks, self._level,
            self._chosen, *self._work, *self._arrays,
        )  # fmt: skip
        self._next = t + 1
        return int(self._chosen[0])

    def _proved_level(self, marks: IntArray, t: int) -> float:
        _, _, _, _, start, node, weight, rate, _, _, p, n_types, grid, future = self._arrays
        return float(proved_future(start, node, weight, p, rate, n_types, grid, future, t, marks)[0])

    def _rollout_prices(self, t: int) -> FloatArray:
        e_start, e_node, e_weight, e_price, start, node, weight, rate, leaves, _, p, n_types, grid, future = (
            self._arrays
        )
        blend, marks, level = self._tables.blend, self._marks, float(self._level[0])
        blended, _, whole, sold = posted_menu(
            t, level, blend, marks, e_start, e_node, e_weight, e_price,
            start, node, weight, rate, p, n_types, grid, future,
        )  # fmt: skip
        if blended:
            return np.asarray((1.0 - blend) * (whole - sold) + blend * self._dual_prices(t))
        kept = kept_by_coins(t, self._key, marks, start, node, rate, leaves, p, n_types)
        return np.asarray(coin_menu(t, whole, sold, marks, kept, start, node, weight, rate, p, n_types, grid)[0])

    def _dual_prices(self, t: int) -> FloatArray:
        instance, prices = self._instance, self._tables.certificate.prices
        value = np.zeros(instance.n_nodes)
        for s in range(self._n_times - 1, t, -1):
            gain = np.zeros(instance.n_nodes)
            for k in range(self._n_types):
                row = slice(*instance.edges.start[s * self._n_types + k : s * self._n_types + k + 2])
                node = instance.edges.node[row]
                excess = instance.edges.weight[row] - prices[s, k] - value[node]
                gain[node] += instance.probabilities[s, k] * np.maximum(excess, 0.0)
            value += gain
        return np.asarray(value[instance.owner])

    def _plan(self) -> str:
        digest = hashlib.sha256(f"{self._instance.fingerprint} {self._tables.method} {self._salvage}".encode())
        certificate = self._tables.certificate
        digest.update(np.ascontiguousarray(certificate.rates).tobytes())
        digest.update(np.ascontiguousarray(certificate.prices).tobytes())
        digest.update(f"{certificate.grid} {certificate.exact} {self._tables.blend!r}".encode())
        return digest.hexdigest()


Policy.__module__ = "matching"
