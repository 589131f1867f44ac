"""Sparse graphs on devices: products, quadratics and labels agree with the host, and stay where they are."""

from __future__ import annotations

import array_api_compat
import array_api_strict
import networkx
import numpy as np
import pytest
import scipy.sparse

import solvers
from solvers import bcd
from solvers._core.optional import has
from solvers.bcd._device_matrix import DeviceMatrix


def strict(values):
    return array_api_strict.asarray(values, device=array_api_strict.Device("device1"))


def torch(values):
    if not has("torch"):
        pytest.skip("PyTorch is not installed")
    import torch as library

    return library.asarray(values, device="cpu")


KINDS = pytest.mark.parametrize("there", [strict, torch], ids=["strict", "torch"])


def triplets(matrix, there):
    plain = scipy.sparse.coo_array(matrix)
    order = np.random.default_rng(0).permutation(plain.nnz)
    rows, columns = (there(part[order].astype(np.int64)) for part in plain.coords)
    return rows, columns, there(plain.data[order]), plain.shape


def random_graph(rng, n, probability=0.1):
    """Weights over two decades, degrees from one to many: a star inside."""
    graph = networkx.gnp_random_graph(n, probability, seed=int(rng.integers(1 << 30)))
    graph.add_edges_from((0, k) for k in range(1, n))
    for a, b in graph.edges:
        graph[a][b]["weight"] = float(10.0 ** rng.uniform(-1, 1))
    return scipy.sparse.csr_array(networkx.to_scipy_sparse_array(graph, dtype=float))


def grounded(W, rng):
    n = W.shape[0]
    ground = np.where(rng.random(n) < 0.3, rng.random(n), 0.0)
    ground[0] = 1.0
    return scipy.sparse.csr_array(scipy.sparse.diags_array(W.sum(axis=1) + ground) - W)


@KINDS
def test_products_are_those_of_the_host(there):
    rng = np.random.default_rng(1)
    for n in (1, 2, 7, 60):
        W = scipy.sparse.csr_array(scipy.sparse.random_array((n, n), density=0.2, rng=rng) + scipy.sparse.eye_array(n))
        W = scipy.sparse.csr_array(W + W.T)
        W.data *= rng.choice([-1.0, 1.0])
        matrix, x = DeviceMatrix(*triplets(W, there)[:3], n), rng.standard_normal(n)
        for product, host in ((matrix @ there(x), W @ x), (matrix.absolute_product(there(x)), abs(W) @ x)):
            assert array_api_compat.device(product) == array_api_compat.device(there(x))
            assert np.allclose(home(product), host, rtol=1e-14, atol=1e-14)
        assert np.array_equal(home(matrix.diagonal), W.diagonal())


def home(array):
    return solvers._core.arrays.to_host(array)


@KINDS
@pytest.mark.parametrize("penalty", [None, bcd.Box(-0.1, 0.2), bcd.NonNegative(0.1)])
def test_sparse_quadratics_on_devices_agree_with_the_host(there, penalty):
    rng = np.random.default_rng(2)
    for n in (1, 5, 40, 80):
        Q, c = grounded(random_graph(rng, n), rng), rng.standard_normal(n)
        host, device = bcd.Quadratic(Q, c), bcd.Quadratic(triplets(Q, there), there(c))
        plain, result = (solvers.minimize_bcd(loss, penalty, tol=1e-8) for loss in (host, device))
        assert (result.method, result.backend) == ("conjugate-gradient", "array")
        assert result.status is solvers.Status.OPTIMAL
        assert solvers.verify(result, device, penalty)
        assert result.bound <= plain.fun
        assert result.fun == pytest.approx(plain.fun, rel=1e-7)


@KINDS
@pytest.mark.parametrize("bounds", [None, (-0.3, 0.4)])
@pytest.mark.parametrize("columns", [0, 3])
def test_labels_spread_on_devices_as_on_the_host(there, bounds, columns):
    rng = np.random.default_rng(3)
    for n in (4, 50):
        W = random_graph(rng, n)
        labels = rng.standard_normal((n, columns) if columns else n)
        labels[rng.random(n) < 0.7] = np.nan
        labels[1] = 1.0
        graph, known = triplets(W, there), there(labels)
        result = solvers.label_propagation(graph, known, bounds=bounds)
        plain = solvers.label_propagation(W, labels, bounds=bounds)
        assert result.status is solvers.Status.OPTIMAL
        assert result.backend == "array"
        assert type(result.x) is type(known)
        assert array_api_compat.device(result.x) == array_api_compat.device(known)
        assert tuple(result.x.shape) == labels.shape
        assert solvers.verify(result, graph, known, bounds=bounds)
        assert result.bound <= plain.fun
        assert result.fun == pytest.approx(plain.fun, rel=1e-5, abs=1e-9)
        again = solvers.label_propagation(graph, known, bounds=bounds, x0=result)
        assert again.fun <= result.fun
        moved = solvers.PropagationResult(result)
        moved.x = result.x + 1e-3
        assert not solvers.verify(moved, graph, known, bounds=bounds)


def test_bad_device_graphs_are_refused():
    rows, columns, values = strict([0, 1, 1, 2]), strict([1, 0, 2, 1]), strict([1.0, 1.0, 2.0, 2.0])
    labels = strict([1.0, np.nan, np.nan])
    with pytest.raises(solvers.InvalidProblemError, match="node 3 has none"):
        solvers.label_propagation((rows, columns, values, (4, 4)), strict([1.0, np.nan, np.nan, np.nan]))
    with pytest.raises(solvers.InvalidProblemError, match=r"\(1, 2\) differ by 0.5"):
        solvers.label_propagation((rows, columns, strict([1.0, 1.0, 2.0, 1.5]), (3, 3)), labels)
    with pytest.raises(solvers.InvalidProblemError, match=r"\(1, 2\) is named twice"):
        solvers.label_propagation((strict([0, 1, 1, 1]), strict([1, 0, 2, 2]), values, (3, 3)), labels)
    with pytest.raises(solvers.InvalidProblemError, match="non-negative"):
        solvers.label_propagation((rows, columns, -values, (3, 3)), labels)
    with pytest.raises(solvers.InvalidProblemError, match="from 0 to 1"):
        solvers.label_propagation((rows, columns, values, (2, 2)), labels)
    with pytest.raises(solvers.InvalidProblemError, match="3 rows for 4 values"):
        solvers.label_propagation((rows[:3], columns, values, (3, 3)), labels)
    with pytest.raises(solvers.InvalidProblemError, match="vector of integers"):
        solvers.label_propagation((values, columns, values, (3, 3)), labels)
    with pytest.raises(solvers.InvalidProblemError, match=r"got shape \(3, 2\)"):
        solvers.label_propagation((rows, columns, values, (3, 2)), labels)
    with pytest.raises(solvers.InvalidProblemError, match="on the host, pass a scipy"):
        solvers.label_propagation((np.array([0]), np.array([0]), np.array([1.0]), (1, 1)), np.array([1.0]))
    with pytest.raises(solvers.BackendError, match="convert one explicitly"):
        solvers.label_propagation((rows, columns, values, (3, 3)), np.array([1.0, np.nan, np.nan]))
    with pytest.raises(solvers.BackendError, match="runs on 'array'"):
        solvers.label_propagation((rows, columns, values, (3, 3)), labels, backend="numba")
    with pytest.raises(solvers.InvalidProblemError, match=r"Q\[0, 1\] and Q\[1, 0\] differ by 1"):
        bcd.Quadratic((strict([0, 0, 1]), strict([0, 1, 1]), strict([2.0, 1.0, 2.0]), (2, 2)), strict([1.0, 1.0]))
    with pytest.raises(solvers.BackendError, match="convert one explicitly"):
        bcd.Quadratic((strict([0]), strict([0]), strict([2.0]), (1, 1)), np.ones(1))
