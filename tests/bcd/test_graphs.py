"""Forests are solved exactly, label propagation is harmonic and certified."""

from __future__ import annotations

import dataclasses

import cvxpy
import networkx
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from sklearn.datasets import load_digits

import solvers
from solvers import bcd
from solvers.bcd._demo import _neighbour_graph


def laplacian(graph, shift=0.0):
    A = scipy.sparse.csr_array(networkx.laplacian_matrix(graph).astype(float))
    return scipy.sparse.csr_array(A + shift * scipy.sparse.eye_array(len(graph)))


def test_forests_are_solved_to_rounding():
    rng = np.random.default_rng(0)
    for trial in range(100):
        n = int(rng.integers(1, 40))
        graph = networkx.random_labeled_tree(n, seed=trial)
        graph.remove_edges_from([e for e in list(graph.edges) if rng.random() < 0.2])
        for a, b in graph.edges:
            graph[a][b]["weight"] = np.exp(3 * rng.standard_normal())
        A, b = laplacian(graph, 0.1), rng.standard_normal(n)
        assert np.allclose(bcd.solve_forest(A, b), np.linalg.solve(A.toarray(), b), rtol=1e-9, atol=1e-12)
    factor = bcd.ForestFactor(A)
    B = rng.standard_normal((n, 3))
    assert np.allclose(A @ factor.solve(B), B)


def test_long_paths_are_solved_in_linear_time_to_small_residual():
    n = 1_000_000
    A = scipy.sparse.diags_array([-np.ones(n - 1), 2.0 * np.ones(n), -np.ones(n - 1)], offsets=[-1, 0, 1], format="csr")
    b = np.random.default_rng(0).standard_normal(n)
    x = bcd.solve_forest(A, b)
    assert np.linalg.norm(A @ x - b) <= 1e-10 * (np.linalg.norm(b) + 4 * np.linalg.norm(x))


def test_a_cycle_is_named():
    graph = networkx.path_graph(6)
    graph.add_edge(5, 2)
    with pytest.raises(bcd.NotAForestError) as caught:
        bcd.solve_forest(laplacian(graph, 1.0), np.ones(6))
    assert sorted(caught.value.cycle) == [2, 3, 4, 5]
    assert "4 nodes" in str(caught.value)


def test_bad_forests_are_refused():
    with pytest.raises(solvers.InvalidProblemError, match="component of node"):
        bcd.solve_forest(laplacian(networkx.path_graph(4)), np.ones(4))
    with pytest.raises(solvers.InvalidProblemError, match="symmetric"):
        bcd.solve_forest(scipy.sparse.csr_array([[2.0, 1.0], [0.5, 2.0]]), np.ones(2))
    with pytest.raises(solvers.InvalidProblemError, match="square"):
        bcd.solve_forest(scipy.sparse.csr_array([[2.0, 1.0]]), np.ones(2))
    with pytest.raises(solvers.InvalidProblemError, match="2 rows"):
        bcd.solve_forest(scipy.sparse.eye_array(2), np.ones(3))


def random_graph(rng, n):
    graph = networkx.gnp_random_graph(n, 0.3, seed=int(rng.integers(1 << 30)))
    graph.add_edges_from((k, k + 1) for k in range(n - 1))
    for a, b in graph.edges:
        graph[a][b]["weight"] = np.exp(rng.standard_normal())
    return graph


@pytest.mark.parametrize("bounds", [None, (-0.4, 0.5), (0.0, np.inf)])
@pytest.mark.parametrize("columns", [0, 2])
def test_propagation_matches_the_convex_model(bounds, columns):
    rng = np.random.default_rng(1)
    for _ in range(8):
        n = int(rng.integers(3, 25))
        graph = random_graph(rng, n)
        labels = rng.standard_normal((n, columns) if columns else n)
        labels[rng.random(n) < 0.7] = np.nan
        labels[0] = 1.0
        result = solvers.label_propagation(graph, labels, bounds=bounds)
        assert result.status is solvers.Status.OPTIMAL
        assert solvers.verify(result, graph, labels, bounds=bounds)
        model = solvers.reference_model("label_propagation", graph, labels, bounds=bounds)
        model.solve(solver=cvxpy.CLARABEL)
        assert result.fun == pytest.approx(model.value, rel=1e-5, abs=1e-7)
        assert result.bound <= model.value * (1 + 1e-6) + 1e-8


def test_karate_club_splits_as_in_the_literature():
    graph = networkx.karate_club_graph()
    result = solvers.label_propagation(graph, {0: 0.0, 33: 1.0}, tol=1e-10)
    clubs = np.array([graph.nodes[v]["club"] == "Officer" for v in result.nodes])
    assert np.mean((result.x > 0.5) == clubs) >= 0.9
    assert result.gap <= 1e-10


def test_les_miserables_propagation_is_harmonic():
    """Every unlabelled character is the weighted mean of those it appears with."""
    graph = networkx.les_miserables_graph()
    result = solvers.label_propagation(graph, {"Valjean": 0.0, "Javert": 1.0, "Myriel": -1.0}, tol=1e-12)
    assert result.status is solvers.Status.OPTIMAL
    place = {name: k for k, name in enumerate(result.nodes)}
    for name, near in graph.adjacency():
        if name not in ("Valjean", "Javert", "Myriel"):
            total = sum(edge["weight"] for edge in near.values())
            mean = sum(edge["weight"] * result.x[place[other]] for other, edge in near.items()) / total
            assert result.x[place[name]] == pytest.approx(mean, abs=1e-9)


def test_digits_are_told_apart_by_five_labels_each():
    X, y = load_digits(return_X_y=True)
    graph = _neighbour_graph(X, 5)
    # Integers: any order of summation gives the same neighbours.
    assert (graph != _neighbour_graph(np.ascontiguousarray(X[:, ::-1]), 5)).nnz == 0
    rng = np.random.default_rng(20260105)
    labels = np.where(np.arange(10) == y[:, None], 1.0, 0.0)
    hidden = np.ones(len(y), dtype=bool)
    for digit in range(10):
        hidden[rng.choice(np.flatnonzero(y == digit), 5, replace=False)] = False
    labels[hidden] = np.nan
    free = solvers.label_propagation(graph, labels)
    boxed = solvers.label_propagation(graph, labels, bounds=(0.0, 1.0))
    for result, bounds in ((free, None), (boxed, (0.0, 1.0))):
        assert result.status is solvers.Status.OPTIMAL
        assert solvers.verify(result, graph, labels, bounds=bounds)
        assert np.mean(np.argmax(result.x, axis=1)[hidden] == y[hidden]) > 0.9
    # Harmonic values lie between the labels: the bounds change nothing.
    assert boxed.fun == pytest.approx(free.fun, rel=1e-5)


def test_paths_and_trees_take_one_exact_step():
    tree = networkx.random_labeled_tree(500, seed=3)
    result = solvers.label_propagation(tree, {0: 0.0, 7: 1.0, 300: -2.0}, tol=1e-9)
    assert result.status is solvers.Status.OPTIMAL
    assert result.nit <= 2


def test_weights_too_far_apart_for_factors_are_left_to_conjugate_gradients():
    """1e12 + 1e-5 is 1e12: the matrix of the unlabelled nodes is singular, and its last pivot zero."""
    weights = np.array([1e12, 1e12, 1e-5, 1e12])
    graph = scipy.sparse.diags_array([weights, weights], offsets=[1, -1], format="csr")
    labels = np.array([np.nan] * 4 + [2.0])
    result = solvers.label_propagation(graph, labels)
    assert result.status is solvers.Status.OPTIMAL
    assert solvers.verify(result, graph, labels)
    # Here the label itself is lost: the end is honest.
    weights = np.array([1e12, 1e-12])
    graph = scipy.sparse.diags_array([weights, weights], offsets=[1, -1], format="csr")
    result = solvers.label_propagation(graph, [np.nan, np.nan, 2.0])
    assert result.status is solvers.Status.STALLED
    assert result.bound == 0.0
    assert solvers.verify(result, graph, [np.nan, np.nan, 2.0])


def test_components_without_labels_are_named():
    graph = networkx.Graph([("a", "b"), ("c", "d")])
    with pytest.raises(solvers.InvalidProblemError, match="node 'c' has none"):
        solvers.label_propagation(graph, {"a": 1.0})


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([1.0, np.inf, np.nan], "finite or NaN"),
        ([np.nan] * 3, "at least one"),
        ([1.0, 2.0], "one row per node"),
        ([[1.0, np.nan]] * 3, "whole row"),
    ],
)
def test_bad_labels_are_refused(labels, words):
    with pytest.raises(solvers.InvalidProblemError, match=words):
        solvers.label_propagation(networkx.path_graph(3), labels)


def test_tampered_propagations_are_rejected():
    graph = networkx.karate_club_graph()
    labels = np.full(34, np.nan)
    labels[[0, 33]] = 0.0, 1.0
    result = solvers.label_propagation(graph, labels)
    assert solvers.verify(result, graph, labels)
    wrong = solvers.PropagationResult(result)
    noise = 0.01 * np.random.default_rng(5).standard_normal(result.certificate.points.shape)
    wrong.certificate = dataclasses.replace(result.certificate, points=result.certificate.points + noise)
    assert not solvers.verify(wrong, graph, labels)
    wrong.certificate = dataclasses.replace(result.certificate, points=result.certificate.points[1:])
    assert not solvers.verify(wrong, graph, labels)
    moved = solvers.PropagationResult(result)
    moved.x = result.x + 1e-3
    assert not solvers.verify(moved, graph, labels)


@pytest.mark.parametrize("blocks", ["red-black", "forest-partition", "greedy-forest"])
@pytest.mark.parametrize("bounded", [False, True])
def test_graph_blocks_reach_the_certified_minimum(blocks, bounded):
    rng = np.random.default_rng(2)
    graph = random_graph(rng, 40)
    loss = bcd.Quadratic(laplacian(graph, 1.0), rng.standard_normal(40))
    penalty = bcd.Box(-0.3, 0.4) if bounded else None
    result = solvers.minimize_bcd(loss, penalty, blocks=blocks, update="message-passing", max_iter=3000)
    assert result.status is solvers.Status.OPTIMAL
    assert solvers.verify(result, loss, penalty)
    other = solvers.minimize_bcd(loss, penalty, tol=1e-12)
    assert other.fun == pytest.approx(result.fun, rel=1e-5)
