"""The graph engine's parts solve what they are for, and say so where nothing can be solved."""

from __future__ import annotations

import itertools

import array_api_strict
import networkx
import numpy as np
import pytest
import scipy.sparse

import solvers
from solvers import bcd
from solvers.bcd._graph import GraphSolver
from solvers.bcd._local import LocalDescent
from solvers.bcd._peel import FreeSystem
from solvers.bcd._problem import composite
from solvers.bcd._red_black import RedBlackSystem
from solvers.bcd._relaxation import colour_order
from solvers.bcd._schur import SchurSystem

DEVICE = array_api_strict.Device("device1")


def grounded(graph, rng, spread=1.0, ground=0.1):
    """A Laplacian with log-normal weights plus a positive diagonal."""
    for a, b in graph.edges:
        graph[a][b]["weight"] = np.exp(spread * rng.standard_normal())
    L = scipy.sparse.csr_array(networkx.laplacian_matrix(graph).astype(float))
    return scipy.sparse.csr_array(L + scipy.sparse.diags_array(ground * (0.1 + rng.random(len(graph)))))


def lattice(side):
    return scipy.sparse.csr_array(networkx.laplacian_matrix(networkx.grid_2d_graph(side, side)).astype(float))


def near_forests(rng):
    """Trees with a few more edges, cycles, necklaces, isolated nodes: everything that chains can do."""
    n = int(rng.integers(1, 40))
    graph = networkx.random_labeled_tree(n, seed=int(rng.integers(1 << 30)))
    for a, b in rng.integers(0, n, (int(rng.integers(0, 6)), 2)):
        if a != b:
            graph.add_edge(int(a), int(b))
    for length in rng.integers(3, 9, int(rng.integers(0, 3))):
        graph = networkx.disjoint_union(graph, networkx.cycle_graph(int(length)))
    graph.add_node(len(graph))
    order = rng.permutation(len(graph)).tolist()
    return networkx.relabel_nodes(graph, dict(enumerate(order)), copy=True)


def test_near_forests_are_solved_exactly_by_peeling():
    rng = np.random.default_rng(0)
    for _ in range(300):
        graph = networkx.Graph()
        shuffled = near_forests(rng)
        graph.add_nodes_from(range(len(shuffled)))
        graph.add_edges_from(shuffled.edges)
        Q, c = grounded(graph, rng), rng.standard_normal(len(graph))
        system = FreeSystem(Q)
        assert system.sound
        assert system.exact
        system.begin(rng.standard_normal(len(c)), c)
        assert np.allclose(system.step(1, 0.1), np.linalg.solve(Q.toarray(), c), rtol=1e-9, atol=1e-11)


def test_a_tree_with_k_more_edges_peels_to_few_nodes():
    rng = np.random.default_rng(1)
    graph = networkx.random_labeled_tree(20_000, seed=1)
    extra = 60
    graph.add_edges_from((int(a), int(b)) for a, b in rng.integers(0, len(graph), (extra, 2)) if a != b)
    Q = grounded(graph, rng)
    system = FreeSystem(Q)
    core = Q
    for level in system._levels:
        core = level.core()
    assert core.shape[0] <= 2 * extra
    loss = bcd.Quadratic(Q, rng.standard_normal(len(graph)))
    result = solvers.minimize_bcd(loss, tol=1e-10)
    assert result.status is solvers.Status.OPTIMAL
    assert result.nit == 1
    assert solvers.verify(result, loss)


@pytest.mark.parametrize("probability", [0.05, 0.2, 0.6])
def test_schur_complements_solve_any_graph(probability):
    rng = np.random.default_rng(2)
    for _ in range(40):
        graph = networkx.gnp_random_graph(int(rng.integers(1, 60)), probability, seed=int(rng.integers(1 << 30)))
        Q, c = grounded(graph, rng), rng.standard_normal(len(graph))
        system = SchurSystem(Q)
        system.begin(rng.standard_normal(len(c)), c)
        for _ in range(8):
            x = system.step(200, 1e-6)
        assert np.allclose(x, np.linalg.solve(Q.toarray(), c), rtol=1e-7, atol=1e-9)


def test_red_black_elimination_solves_every_bipartite_graph_and_no_other():
    rng = np.random.default_rng(12)
    for _ in range(60):
        graph = networkx.bipartite.random_graph(int(rng.integers(1, 20)), int(rng.integers(1, 20)), 0.2, seed=rng)
        graph = networkx.relabel_nodes(graph, dict(enumerate(rng.permutation(len(graph)).tolist())))
        ordered = networkx.Graph()
        ordered.add_nodes_from(range(len(graph)))
        ordered.add_edges_from(graph.edges)
        Q, c = grounded(ordered, rng), rng.standard_normal(len(graph))
        system = RedBlackSystem.of(Q)
        assert system.sound
        system.begin(rng.standard_normal(len(c)), c)
        for _ in range(8):
            x = system.step(200, 1e-6)
        assert np.allclose(x, np.linalg.solve(Q.toarray(), c), rtol=1e-7, atol=1e-9)
    for length in (3, 5, 7, 8):
        assert (RedBlackSystem.of(grounded(networkx.cycle_graph(length), rng)) is None) == (length % 2 == 1)


def test_a_coarse_space_removes_the_smooth_errors_of_weakly_grounded_lattices():
    rng = np.random.default_rng(10)
    n = 80 * 80
    Q = scipy.sparse.csr_array(lattice(80) + scipy.sparse.diags_array(np.where(np.arange(n) % 2000 == 0, 1.0, 0.0)))
    c = rng.standard_normal(n)
    for build in (SchurSystem, RedBlackSystem.of):
        work = _work_with_and_without_coarse_space(build, Q, c)
        assert work[0] < 0.5 * work[1]


def _work_with_and_without_coarse_space(build, Q, c):
    work = []
    for coarse in (True, False):
        system = build(Q)
        assert system._coarse.shape[0] > 100
        if not coarse:
            system._coarse = np.empty((0, 0))
        system.begin(np.zeros(len(c)), c)
        x = system.step(2000, 1e-20)
        assert np.linalg.norm(Q @ x - c) <= 1e-7 * np.linalg.norm(c)
        work.append(system.work)
    return work


def test_colours_have_no_inner_edges_and_relaxation_reaches_the_box_minimum():
    rng = np.random.default_rng(3)
    for _ in range(40):
        graph = networkx.gnp_random_graph(int(rng.integers(1, 40)), 0.2, seed=int(rng.integers(1 << 30)))
        Q = grounded(graph, rng)
        order, starts = colour_order(Q.data, Q.indices, Q.indptr)
        assert sorted(order.tolist()) == list(range(len(graph)))
        for a, b in itertools.pairwise(starts):
            assert graph.subgraph(order[a:b].tolist()).number_of_edges() == 0
        loss, box = bcd.Quadratic(Q, rng.standard_normal(len(graph))), bcd.Box(-0.3, 0.4)
        result = solvers.minimize_bcd(loss, box, tol=1e-9)
        assert result.status is solvers.Status.OPTIMAL
        other = solvers.minimize_bcd(loss, box, method="paper", update="two-metric", block_size=len(graph), tol=1e-9)
        assert result.fun == pytest.approx(other.fun, rel=1e-8)


@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), (-0.2, 0.3)])
def test_local_descent_keeps_its_gradient_and_stops_below_its_threshold(bounds):
    rng = np.random.default_rng(4)
    for _ in range(60):
        n = int(rng.integers(2, 60))
        Q = grounded(networkx.gnp_random_graph(n, 0.1, seed=int(rng.integers(1 << 30))), rng)
        c, x = rng.standard_normal(n), np.clip(rng.standard_normal(n), *bounds)
        lower, upper = np.full(n, bounds[0]), np.full(n, bounds[1])
        state = LocalDescent(Q, Q.diagonal(), lower, upper, x.copy(), Q @ x - c)
        before = state.g @ state.g
        taken, change, reached = state.descend(state.outstanding(1e-3), 1e-3, 100_000)
        assert taken >= 0
        assert len(state.outstanding(1e-3)) == 0
        assert np.allclose(state.g, Q @ state.x - c, atol=1e-10)
        assert before + change == pytest.approx(state.g @ state.g, abs=1e-9)
        assert set(np.flatnonzero(state.x != x)) <= set(reached.tolist())


@pytest.mark.parametrize("penalty", [None, bcd.Box(-0.5, 0.5)])
def test_few_changes_move_their_surroundings_only(penalty):
    rng = np.random.default_rng(5)
    Q = scipy.sparse.csr_array(lattice(60) + scipy.sparse.diags_array(np.where(rng.random(3600) < 0.1, 1.0, 0.0)))
    c = rng.standard_normal(3600)
    first = solvers.minimize_bcd(bcd.Quadratic(Q, c), penalty, tol=1e-12)
    changed = c.copy()
    changed[1830] += 1.0
    loss = bcd.Quadratic(Q, changed)
    solver = GraphSolver(composite(loss, penalty))
    solver.prepare(first.x)
    moved = solver.step(first.x, 1e-4)
    assert 0 < np.count_nonzero(moved != first.x) < 1000
    result = solvers.minimize_bcd(loss, penalty, x0=first)
    assert result.status is solvers.Status.OPTIMAL
    assert solvers.verify(result, loss, penalty)


def test_incremental_updates_stay_within_their_tolerance():
    rng = np.random.default_rng(6)
    Q = scipy.sparse.csr_array(lattice(40) + scipy.sparse.diags_array(np.where(rng.random(1600) < 0.1, 1.0, 0.0)))
    c = 10 * rng.standard_normal(1600)
    for tol in (1e-3, 1e-8):
        state = bcd.IncrementalQuadratic(bcd.Quadratic(Q, c), tol=tol)
        now = c.copy()
        for _ in range(60):
            nodes = rng.choice(1600, int(rng.integers(1, 4)), replace=False)
            now[nodes] = 10 * rng.standard_normal(len(nodes))
            state.update(nodes, now[nodes])
            assert np.linalg.norm(Q @ state.x - now) <= tol * np.linalg.norm(now) * (1 + 1e-6)
        assert np.array_equal(state.loss.host_c, now)
        result = state.result(tol=1e-9)
        assert result.status is solvers.Status.OPTIMAL
        assert solvers.verify(result, bcd.Quadratic(Q, now))


def test_updates_over_many_orders_of_magnitude_keep_the_tolerance():
    """What is left of a large residual by rounding must not count when c has become small."""
    rng = np.random.default_rng(14)
    for _ in range(40):
        n = int(rng.integers(2, 30))
        Q, c = grounded(networkx.gnp_random_graph(n, 0.2, seed=int(rng.integers(1 << 30))), rng), rng.standard_normal(n)
        state = bcd.IncrementalQuadratic(bcd.Quadratic(Q, c), tol=1e-6)
        for _ in range(6):
            nodes = rng.choice(n, int(rng.integers(1, n + 1)), replace=False)
            c[nodes] = rng.standard_normal(len(nodes)) * 10.0 ** rng.uniform(-5, 5)
            state.update(nodes, c[nodes])
            assert np.linalg.norm(Q @ state.x - c) <= 1e-6 * np.linalg.norm(c) * (1 + 1e-6)


def test_hardly_an_update_needs_the_whole_system():
    rng = np.random.default_rng(13)
    n = 100 * 100
    Q = scipy.sparse.csr_array(lattice(100) + scipy.sparse.diags_array(np.where(rng.random(n) < 0.1, 1.0, 0.0)))
    c = 10 * rng.standard_normal(n)
    state = bcd.IncrementalQuadratic(bcd.Quadratic(Q, c), tol=3e-3)
    whole = 0
    for _ in range(200):
        node = int(rng.integers(n))
        c[node] = 10 * rng.standard_normal()
        state.update([node], [c[node]])
        whole += state.moves < 0
        assert np.linalg.norm(Q @ state.x - c) <= 3e-3 * np.linalg.norm(c) * (1 + 1e-6)
    assert whole <= 4


def test_an_update_of_nothing_changes_nothing():
    state = bcd.IncrementalQuadratic(bcd.Quadratic(scipy.sparse.eye_array(4, format="csr"), np.ones(4)))
    before = state.x.copy()
    state.update([], [])
    assert np.array_equal(state.x, before)
    assert np.array_equal(state.loss.host_c, np.ones(4))


def test_a_local_change_moves_few_coordinates():
    rng = np.random.default_rng(7)
    Q = scipy.sparse.csr_array(lattice(100) + scipy.sparse.diags_array(np.where(rng.random(10_000) < 0.1, 1.0, 0.0)))
    c = 10 * rng.standard_normal(10_000)
    exact = solvers.minimize_bcd(bcd.Quadratic(Q, c), tol=1e-12)
    state = bcd.IncrementalQuadratic(bcd.Quadratic(Q, c), exact, tol=1e-2)
    state.update([5050], [c[5050] + 20.0])
    assert 0 < state.moves < 2000
    assert np.count_nonzero(state.x != exact.x) < 2000


@pytest.mark.parametrize(
    ("nodes", "values", "words"),
    [
        ([4], [1.0], "from 0 to 3"),
        ([1, 1], [1.0, 2.0], "distinct"),
        ([1, 2], [1.0], "one per value"),
        ([1], [1.0, 2.0], "one per value"),
        ([], [1.0], "one per value"),
        ([-1], [1.0], "from 0 to 3"),
        ([1], [np.inf], "finite"),
        ([[1]], [[1.0]], "dimension"),
        ([1.0], [1.0], "integers"),
        ([1], [np.nan], "finite"),
    ],
)
def test_bad_updates_are_refused(nodes, values, words):
    state = bcd.IncrementalQuadratic(bcd.Quadratic(scipy.sparse.eye_array(4, format="csr"), np.ones(4)))
    with pytest.raises(solvers.InvalidProblemError, match=words):
        state.update(nodes, values)


def test_incremental_states_refuse_what_they_can_not_keep():
    with pytest.raises(solvers.InvalidProblemError, match="sparse"):
        bcd.IncrementalQuadratic(bcd.Quadratic(np.eye(3), np.ones(3)))
    with pytest.raises(solvers.InvalidProblemError, match="nothing holds coordinate 1"):
        bcd.IncrementalQuadratic(bcd.Quadratic(scipy.sparse.diags_array([1.0, 0.0], format="csr"), np.ones(2)))
    for Q in (lattice(4), scipy.sparse.csr_array(PATH)):
        with pytest.raises(solvers.InvalidProblemError, match="positive definite"):
            bcd.IncrementalQuadratic(bcd.Quadratic(Q, np.ones(Q.shape[0])))


@pytest.mark.parametrize(
    "penalty", [None, bcd.Box(-0.5, 0.5), bcd.NonNegative(0.3), bcd.ElasticNet(0.2, 0.4), bcd.L1(0.3)]
)
def test_kkt_is_the_largest_distance_from_the_subdifferential(penalty):
    rng = np.random.default_rng(11)
    for _ in range(50):
        n = int(rng.integers(1, 12))
        problem = composite(bcd.Quadratic(grounded(networkx.path_graph(n), rng), rng.standard_normal(n)), penalty)
        x = problem.term.project(rng.standard_normal(n) * (rng.random(n) < 0.7))
        z = problem.loss.image(x)
        assert problem.kkt(x, z) == np.max(problem.term.distance(x, problem.loss.gradient(z)))


# -- conjugate gradients between bounds ----------------------------------------------------------------------------


def dense_quadratic(rng):
    n = int(rng.integers(1, 40))
    F = rng.standard_normal((n, n + 3)) * 10.0 ** rng.uniform(-2, 2, n)[:, None]
    Q = F @ F.T
    return (Q + Q.T) / 2, rng.standard_normal(n)


@pytest.mark.parametrize("penalty", [None, bcd.Box(-0.1, 0.2), bcd.NonNegative(0.1), bcd.Box(0.0, np.inf)])
def test_device_quadratics_agree_with_the_host_and_with_newton_blocks(penalty):
    rng = np.random.default_rng(8)
    for _ in range(25):
        Q, c = dense_quadratic(rng)
        host = bcd.Quadratic(Q, c)
        there = bcd.Quadratic(array_api_strict.asarray(Q, device=DEVICE), array_api_strict.asarray(c, device=DEVICE))
        result, device = (solvers.minimize_bcd(loss, penalty, tol=1e-8) for loss in (host, there))
        assert (result.method, result.backend) == ("conjugate-gradient", "numba")
        assert (device.method, device.backend) == ("conjugate-gradient", "array")
        for run, loss in ((result, host), (device, there)):
            assert run.status is solvers.Status.OPTIMAL
            assert solvers.verify(run, loss, penalty)
        newton = solvers.minimize_bcd(host, penalty, method="paper", update="newton", block_size=len(c), tol=1e-8)
        assert result.fun == pytest.approx(newton.fun, rel=1e-7)
        assert device.fun == pytest.approx(newton.fun, rel=1e-7)
        assert type(device.x) is type(there.c)
        assert device.x.device == DEVICE


def test_device_quadratics_refuse_what_needs_the_host():
    Q = array_api_strict.asarray(np.eye(3), device=DEVICE)
    loss = bcd.Quadratic(Q, array_api_strict.asarray(np.ones(3), device=DEVICE))
    with pytest.raises(solvers.BackendError, match="host only"):
        solvers.minimize_bcd(loss, bcd.L1(0.1))
    with pytest.raises(solvers.BackendError, match="convert one explicitly"):
        bcd.Quadratic(Q, np.ones(3))
    with pytest.raises(solvers.InvalidProblemError, match=r"symmetric; Q\[0, 1\]"):
        bcd.Quadratic(array_api_strict.asarray([[1.0, 2.0], [2.5, 1.0]]), array_api_strict.asarray([0.0, 0.0]))


# -- problems without a minimum, or without a proof ----------------------------------------------------------------

PATH = np.diag([1.0, 2.0, 2.0, 1.0]) - np.diag(np.ones(3), 1) - np.diag(np.ones(3), -1)


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array], ids=["dense", "sparse"])
@pytest.mark.parametrize("penalty", [None, bcd.NonNegative()])
def test_quadratics_without_a_minimum_are_unbounded(form, penalty):
    """The Laplacian of a path has the constants as kernel, along which -c^T x falls for ever."""
    result = solvers.minimize_bcd(bcd.Quadratic(form(PATH), np.ones(4)), penalty)
    assert result.status is solvers.Status.UNBOUNDED
    assert result.bound == -np.inf
    assert not result.success


def test_lattices_without_a_ground_are_unbounded():
    result = solvers.minimize_bcd(bcd.Quadratic(lattice(12), np.ones(144)))
    assert result.status is solvers.Status.UNBOUNDED


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array], ids=["dense", "sparse"])
def test_singular_but_consistent_quadratics_reach_a_minimum_without_a_proof(form):
    loss = bcd.Quadratic(form(PATH), np.array([1.0, -1.0, 0.0, 0.0]))
    result = solvers.minimize_bcd(loss)
    assert result.status is solvers.Status.CONVERGED
    assert result.fun == pytest.approx(-0.5)
    assert result.bound == -np.inf
    boxed = solvers.minimize_bcd(loss, bcd.Box(-1.0, 1.0))
    assert boxed.status is solvers.Status.OPTIMAL
    assert boxed.fun == pytest.approx(-0.5)


def test_crossed_boxes_are_refused():
    with pytest.raises(solvers.InvalidProblemError, match="lower"):
        solvers.minimize_bcd(bcd.Quadratic(np.eye(2), np.ones(2)), bcd.Box([0.0, 1.0], [1.0, 0.0]))
