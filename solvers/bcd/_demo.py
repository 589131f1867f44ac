"""Certified sparse models and label propagation on real data."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

from solvers._core.result import Result
from solvers._demo import DemoProblem, DemoTable
from solvers._examples import load_example
from solvers.bcd._label_propagation import label_propagation
from solvers.bcd._losses import LeastSquares, Logistic, Softmax
from solvers.bcd._minimize_bcd import minimize_bcd
from solvers.bcd._penalties import L1

__all__ = ["table"]


def table() -> DemoTable:
    """Each row is proved optimal to the tolerance."""
    return DemoTable(
        title="Coordinate descent (minimize_bcd, label_propagation): objective, and a proved lower bound on the minimum",
        size_columns=("rows", "columns"),
        objective="objective",
        problems=[_ionosphere(), _diabetes(), _iris(), _karate(), _digits()],
    )


def _standardised(name: str) -> tuple[np.ndarray, np.ndarray]:
    example = load_example(name)
    assert example.target is not None
    return (example.data - example.data.mean(axis=0)) / example.data.std(axis=0), example.target


def _bars(result: Result, ax: Any) -> None:
    ax.stem(np.asarray(result.x).reshape(-1))
    ax.set_xlabel("coordinate")
    ax.set_ylabel("coefficient")
    ax.set_title(f"{np.count_nonzero(result.x)} coefficients, certified gap {result.gap:.0e}")


def _ionosphere() -> DemoProblem:
    X, target = _standardised("ionosphere")
    y = target.astype(np.float64)

    def solve() -> Result:
        return minimize_bcd(Logistic(X, y, fit_intercept=True), L1(5.0), tol=1e-8)

    return DemoProblem("ionosphere", X.shape, solve, _bars)


def _diabetes() -> DemoProblem:
    from sklearn.datasets import load_diabetes

    X, y = load_diabetes(return_X_y=True)

    def solve() -> Result:
        return minimize_bcd(LeastSquares(X, y, fit_intercept=True), L1(200.0), tol=1e-8)

    return DemoProblem("diabetes", X.shape, solve, _bars)


def _iris() -> DemoProblem:
    X, target = _standardised("iris")

    def solve() -> Result:
        return minimize_bcd(Softmax(X, target, fit_intercept=True), L1(1.0))

    return DemoProblem("iris", X.shape, solve, _bars)


def _karate() -> DemoProblem:
    import networkx

    graph = networkx.karate_club_graph()

    def solve() -> Result:
        return label_propagation(graph, {0: 0.0, 33: 1.0})

    def draw(result: Result, ax: Any) -> None:
        networkx.draw_networkx(
            graph, networkx.spring_layout(graph, seed=5), ax=ax, node_color=result.x, cmap="coolwarm"
        )
        ax.set_title(f"energy {result.fun:.6g}, no extension below {result.bound:.6g}")

    return DemoProblem("karate", (graph.number_of_nodes(), graph.number_of_edges()), solve, draw)


def _neighbour_graph(X: np.ndarray, count: int) -> scipy.sparse.csr_array:
    """Each row with its nearest others, symmetrised; ties go to the smaller index.

    Pixels are small integers, so that squared distances are exact and the graph does not depend on the BLAS or its threads.
    """
    squares = np.sum(X * X, axis=1)
    distances = squares[:, None] + squares[None, :] - 2.0 * (X @ X.T)
    np.fill_diagonal(distances, np.inf)
    near = np.argsort(distances, axis=1, kind="stable")[:, :count]
    rows = np.repeat(np.arange(len(X)), count)
    graph = scipy.sparse.csr_array((np.ones(near.size), (rows, near.reshape(-1))), shape=(len(X), len(X)))
    return scipy.sparse.csr_array(graph.maximum(graph.T))


def _digits() -> DemoProblem:
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    graph = _neighbour_graph(X, 5)
    rng = np.random.default_rng(20260105)
    labels = np.where(np.arange(10) == y[:, None], 1.0, 0.0)
    hidden = np.ones(len(y), dtype=bool)
    for digit in range(10):
        hidden[rng.choice(np.flatnonzero(y == digit), 5, replace=False)] = False
    labels[hidden] = np.nan

    def solve() -> Result:
        return label_propagation(graph, labels)

    def draw(result: Result, ax: Any) -> None:
        guess = np.argmax(result.x, axis=1)
        table = np.zeros((10, 10))
        np.add.at(table, (y[hidden], guess[hidden]), 1.0)
        ax.imshow(table, cmap="Blues")
        ax.set_xlabel("propagated")
        ax.set_ylabel("true digit")
        ax.set_title(f"{np.mean(guess[hidden] == y[hidden]):.1%} right from five labels per digit")

    return DemoProblem("digits", X.shape, solve, draw)
