"""The coordinate descent entries for the conformance suite."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse
from cases import Bad, Case

from solvers import BackendError, InvalidProblemError, bcd


def small_lasso() -> tuple[Any, ...]:
    rng = np.random.default_rng(4021)
    A = rng.normal(size=(12, 5))
    return bcd.LeastSquares(A, rng.normal(size=12)), bcd.L1(1.5)


def large_lasso() -> tuple[Any, ...]:
    rng = np.random.default_rng(4022)
    A = rng.normal(size=(150, 400)) + 0.5 * rng.normal(size=(150, 1))
    return bcd.LeastSquares(A, rng.normal(size=150)), bcd.L1(2.0)


def lasso_objective(result: Any, loss: Any, penalty: Any) -> float:
    residual = np.asarray(loss.b) - np.asarray(loss.plain.matrix) @ result.x
    return 0.5 * float(residual @ residual) + float(penalty.lam) * float(np.abs(result.x).sum())


def lasso_optimum(loss: Any, penalty: Any) -> float:
    """All sign patterns: with support and signs fixed the problem is linear."""
    A, b, lam = np.asarray(loss.plain.matrix), np.asarray(loss.b), float(penalty.lam)
    best = 0.5 * float(b @ b)
    for code in range(3**5):
        signs = np.array([code // 3**k % 3 - 1 for k in range(5)], dtype=float)
        S = signs != 0
        if not S.any():
            continue
        x = np.zeros(5)
        x[S] = np.linalg.solve(A[:, S].T @ A[:, S], A[:, S].T @ b - lam * signs[S])
        residual = b - A @ x
        best = min(best, 0.5 * float(residual @ residual) + lam * float(np.abs(x).sum()))
    return best


def small_graph() -> tuple[Any, ...]:
    rng = np.random.default_rng(4023)
    n = 14
    W = np.triu(rng.random((n, n)) * (rng.random((n, n)) < 0.3), 1)
    W[np.arange(n - 1), np.arange(1, n)] += 0.5
    labels = np.full(n, np.nan)
    labels[[0, 5, 13]] = -1.0, 2.0, 0.5
    return scipy.sparse.csr_array(W + W.T), labels


def lattice() -> tuple[Any, ...]:
    side = 60
    nodes = np.arange(side * side).reshape(side, side)
    rows = np.concatenate([nodes[:, :-1].ravel(), nodes[:-1].ravel()])
    columns = np.concatenate([nodes[:, 1:].ravel(), nodes[1:].ravel()])
    W = scipy.sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=(side * side,) * 2)
    labels = np.full(side * side, np.nan)
    labels[[0, 1800, 3599]] = 0.0, 1.0, -1.0
    return scipy.sparse.csr_array(W + W.T), labels


def energy(result: Any, graph: Any, labels: Any) -> float:
    L = scipy.sparse.diags_array(graph.sum(axis=1)) - graph
    return 0.5 * float(result.x @ (L @ result.x))


def harmonic_energy(graph: Any, labels: Any) -> float:
    W = graph.toarray()
    L = np.diag(W.sum(axis=1)) - W
    free = np.isnan(labels)
    x = np.array(labels)
    x[free] = np.linalg.solve(L[np.ix_(free, free)], -L[np.ix_(free, ~free)] @ labels[~free])
    return 0.5 * float(x @ L @ x)


def forged(result: Any) -> Iterator[tuple[str, Any]]:
    """Results whose certificate does not carry their bound any more."""
    if result.bound <= 1e-6 * result.scale:
        return
    certificate = result.certificate
    name = "theta" if hasattr(certificate, "theta") else "points"
    values = getattr(certificate, name)
    for what, value in (
        ("scaled", 0.5 * values),
        ("NaN", values * np.nan),
        ("too short", values[1:]),
    ):
        copied = copy.deepcopy(result)
        copied["certificate"] = dataclasses.replace(certificate, **{name: value})
        yield what, copied
    missing = copy.deepcopy(result)
    missing["certificate"] = None
    yield "missing", missing
    moved = copy.deepcopy(result)
    moved["x"] = moved["x"] * 1.01
    yield "x moved", moved


_A = np.eye(3)

CASES = (
    Case(
        entry="minimize_bcd",
        problem=small_lasso,
        loose=large_lasso,
        methods=("auto", "paper"),
        array_arguments=(),
        objective=lasso_objective,
        optimum=lasso_optimum,
        tampered=forged,
        bad=(
            Bad("not a loss", (np.eye(3),), {}, TypeError, "loss must be a loss of solvers.bcd"),
            Bad("not a penalty", (small_lasso()[0], 1.0), {}, TypeError, "penalty must be None"),
            Bad(
                "penalty of wrong shape", (small_lasso()[0], bcd.L1(np.ones(4))), {}, InvalidProblemError, "shape of x"
            ),
            Bad("unknown rule", small_lasso(), {"rule": "gsl-Q"}, ValueError, "did you mean 'gsl-q'"),
            Bad("no block", small_lasso(), {"block_size": 0}, ValueError, "block_size"),
            Bad("x0 of wrong shape", small_lasso(), {"x0": np.zeros(4)}, InvalidProblemError, "x0"),
            Bad("wrong backend", small_lasso(), {"backend": "cupy"}, BackendError, "does not take"),
            Bad(
                "misspelt option",
                small_lasso(),
                {"method": "paper", "options": {"check_evry": 3}},
                TypeError,
                "did you mean 'check_every'",
            ),
        ),
    ),
    Case(
        entry="label_propagation",
        problem=small_graph,
        loose=lattice,
        methods=("auto",),
        array_arguments=(),
        objective=energy,
        optimum=harmonic_energy,
        tampered=forged,
        bad=(
            Bad("dense graph", (_A, [0.0, 1.0, np.nan]), {}, InvalidProblemError, "scipy.sparse"),
            Bad(
                "negative weight", (scipy.sparse.csr_array(-_A), [0.0, 1.0, np.nan]), {}, InvalidProblemError, "non-neg"
            ),
            Bad("no label", (small_graph()[0], np.full(14, np.nan)), {}, InvalidProblemError, "at least one"),
            Bad("crossed bounds", small_graph(), {"bounds": (1.0, 0.0)}, InvalidProblemError, "lower <= upper"),
            Bad("bounds of three", small_graph(), {"bounds": (1, 2, 3)}, InvalidProblemError, "pair"),
        ),
    ),
)
