"""Bounds of quadratics hold against exact rational arithmetic: spanning forests, boxes, bad scales, forged proofs."""

from __future__ import annotations

import dataclasses
import itertools
from fractions import Fraction

import networkx
import numpy as np
import pytest
import scipy.sparse

import solvers
from solvers import bcd
from solvers.bcd._definiteness import propose_definiteness
from solvers.bcd._least_eigenvalue import factor_shifted, least_eigenvalue_exceeds
from solvers.bcd._problem import composite
from solvers.bcd._quadratic_certificate import Definiteness
from solvers.bcd._spanning_forest import spanning_forest


def random_dominant(rng, *, boxed=False):
    """Grounded Laplacians whose weights spread over up to twelve decades; degrees are sums rounded as they come."""
    n = int(rng.integers(1, 9))
    graph = networkx.gnp_random_graph(n, rng.random(), seed=int(rng.integers(1 << 30)))
    W = np.zeros((n, n))
    decades = float(rng.choice([0.0, 2.0, 6.0]))
    for i, j in graph.edges:
        W[i, j] = W[j, i] = -(10.0 ** rng.uniform(-decades, decades)) * (-1.0 if rng.random() < 0.1 else 1.0)
    ground = np.where(rng.random(n) < 0.4, 10.0 ** rng.uniform(-decades - 3, decades, n), 0.0)
    ground[0] = max(ground[0], 1e-3)
    if rng.random() < 0.6:
        ground = np.maximum(ground, 1e-6 * np.abs(W).sum(axis=1))
    Q = W + np.diag(np.abs(W).sum(axis=1) + ground)
    Q *= 10.0 ** float(rng.choice([-8, 0, 8]))
    c = rng.standard_normal(n) * 10.0 ** float(rng.choice([-8, 0, 8]))
    penalty = None
    if boxed:
        size = np.abs(np.linalg.lstsq(Q, c, rcond=None)[0]).max() + 1e-300
        lower = -size * rng.random(n) * (10.0 ** rng.uniform(-6, 0))
        upper = np.where(rng.random(n) < 0.3, np.inf, lower + size * rng.random(n))
        penalty = bcd.Box(lower, upper)
    return bcd.Quadratic(scipy.sparse.csr_array(Q), c), penalty


def dense(loss):
    return loss.dense if loss.sparse is None else loss.sparse.toarray()


def exact_objective(loss, x):
    Q = [[Fraction(float(v)) for v in row] for row in dense(loss)]
    c = [Fraction(float(v)) for v in loss.host_c]
    x = [v if isinstance(v, Fraction) else Fraction(float(v)) for v in x]
    n = len(x)
    return sum(x[i] * Q[i][j] * x[j] for i in range(n) for j in range(n)) / 2 - sum(c[i] * x[i] for i in range(n))


def exact_minimiser(loss):
    """Gaussian elimination over the rationals; None where a pivot is not positive: then Q is not definite."""
    n = loss.size
    rows = [
        [Fraction(float(v)) for v in row] + [Fraction(float(b))]
        for row, b in zip(dense(loss), loss.host_c, strict=True)
    ]
    for i in range(n):
        if rows[i][i] <= 0:
            return None
        for k in range(n):
            if k != i:
                factor = rows[k][i] / rows[i][i]
                rows[k] = [a - factor * b for a, b in zip(rows[k], rows[i], strict=True)]
    return [rows[i][n] / rows[i][i] for i in range(n)]


@pytest.mark.parametrize("count", [400, pytest.param(2500, marks=pytest.mark.slow)])
def test_bounds_never_exceed_the_exact_minimum(count):
    rng = np.random.default_rng(count)
    proved = 0
    for _ in range(count):
        loss, _ = random_dominant(rng)
        problem = composite(loss, None)
        proof = propose_definiteness(loss)
        exact = exact_minimiser(loss)
        x = np.linalg.lstsq(loss.sparse.toarray(), loss.host_c, rcond=None)[0]
        for step in (0.0, 1e-12, 1e-6, 1.0):
            point = x * (1.0 + step * rng.standard_normal(len(x)))
            bound, certificate = problem.bound_at(point, loss.image(point), proof)
            if exact is None:
                assert bound.value == -np.inf
            if bound.value == -np.inf:
                continue
            assert Fraction(float(bound.reestablished)) <= exact_objective(loss, exact)
            assert problem.rebound(certificate, point, loss.image(point)).reestablished >= bound.published
            proved += 1
    assert proved >= count


def test_bounds_with_boxes_never_exceed_attained_objectives():
    rng = np.random.default_rng(17)
    for _ in range(300):
        loss, penalty = random_dominant(rng, boxed=True)
        problem = composite(loss, penalty)
        proof = propose_definiteness(loss)
        result = solvers.minimize_bcd(loss, penalty, tol=1e-10)
        assert solvers.verify(result, loss, penalty)
        least = exact_objective(loss, result.x)
        assert result.bound == -np.inf or Fraction(float(result.bound)) <= least
        for step in (0.0, 1e-9, 1e-3, 1.0):
            x = problem.term.project(result.x + step * np.abs(result.x).max() * rng.standard_normal(loss.size))
            bound, _ = problem.bound_at(x, loss.image(x), proof)
            if np.isfinite(bound.value):
                assert Fraction(float(bound.reestablished)) <= least


@pytest.mark.parametrize("proof", ["forest", "weights", "curvature"])
@pytest.mark.parametrize(("size", "side"), [(1e-200, 1e-170), (1e-250, 1e-165), (1e-100, 1e-165)])
def test_residuals_whose_squares_vanish_are_charged(size, side, proof):
    """At zero the charge is the whole bound: c^T Q^{-1} c / 2 is representable where the square of c is not."""
    Q = size * (np.diag([2.0, 2.0, 2.0]) - np.diag([1.0, 1.0], 1) - np.diag([1.0, 1.0], -1))
    Q[0, 0] = 4.0 * size
    loss = bcd.Quadratic(Q if proof == "curvature" else scipy.sparse.csr_array(Q), np.full(3, side))
    sparse = bcd.Quadratic(scipy.sparse.csr_array(Q), np.full(3, side))
    least = exact_objective(sparse, exact_minimiser(sparse))
    definiteness = {
        "forest": propose_definiteness(sparse),
        "weights": Definiteness(np.array([1.0, 1.5, 1.1]) / size),
        "curvature": Definiteness(),
    }[proof]
    problem = composite(loss)
    bound, _ = problem.bound_at(np.zeros(3), loss.image(np.zeros(3)), definiteness)
    assert 20 * least <= Fraction(float(bound.reestablished)) <= least
    result = solvers.minimize_bcd(loss)
    assert Fraction(float(result.bound)) <= least
    assert solvers.verify(result, loss)


def test_what_is_proved_bounded_is_not_called_unbounded():
    loss = bcd.Quadratic(np.diag([1.0, 1e14]), np.ones(2))
    result = solvers.minimize_bcd(loss)
    assert -np.inf < result.bound <= -0.5
    assert result.status is not solvers.Status.UNBOUNDED
    assert solvers.verify(result, loss)


def test_a_forest_bounds_the_inverse_from_above():
    """v^T Q^{-1} v / 2 <= charge, with equality for forests."""
    rng = np.random.default_rng(3)
    for trial in range(200):
        n = int(rng.integers(2, 30))
        graph = networkx.random_labeled_tree(n, seed=trial)
        if trial % 2:
            graph.add_edges_from((int(a), int(b)) for a, b in rng.integers(0, n, (5, 2)) if a != b)
        L = scipy.sparse.csr_array(networkx.laplacian_matrix(graph).astype(float))
        ground = np.where(rng.random(n) < 0.2, rng.random(n), 0.0)
        ground[0] = 1.0
        Q = scipy.sparse.csr_array(L + scipy.sparse.diags_array(ground))
        loss = bcd.Quadratic(Q, np.ones(n))
        parents = propose_definiteness(loss).parents
        forest = spanning_forest(loss.graph, parents)
        v = rng.standard_normal(n)
        exact = 0.5 * v @ np.linalg.solve(Q.toarray(), v)
        charge, _ = forest.charge(v, np.zeros(n))
        assert charge >= exact * (1 - 1e-9)
        if trial % 2 == 0 and np.count_nonzero(ground) == 1:
            assert charge == pytest.approx(exact, rel=1e-9)


def test_a_run_between_bounds_leaves_the_free_problem_its_proof():
    """Definite but not diagonally dominant, and too large for eigenvalues: weights are needed without bounds only."""
    n = 2500
    Q = scipy.sparse.diags_array(
        [np.full(n - 1, -1.0), np.full(n, 2.1), np.full(n - 1, -1.0)], offsets=[-1, 0, 1]
    ).tocsr()
    scale = scipy.sparse.diags_array(np.where(np.arange(n) % 2, 3.0, 1.0))
    loss = bcd.Quadratic(scipy.sparse.csr_array(scale @ Q @ scale), np.ones(n))
    assert not loss.weakly_dominant
    for penalty in (bcd.Box(-1.0, 1.0), None):
        result = solvers.minimize_bcd(loss, penalty)
        assert result.status is solvers.Status.OPTIMAL
        assert solvers.verify(result, loss, penalty)


def exact_propagation(W, labels, bounds):
    """The least energy over the rationals, by trying every set of nodes at their bounds."""
    n = len(labels)
    unknown = [i for i in range(n) if np.isnan(labels[i])]
    known = [None if np.isnan(label) else Fraction(float(label)) for label in labels]
    weight = [[Fraction(float(W[i, j])) for j in range(n)] for i in range(n)]
    best = None
    for held in itertools.product((None,) if bounds is None else (None, *bounds), repeat=len(unknown)):
        x = list(known)
        for i, side in zip(unknown, held, strict=True):
            x[i] = None if side is None else Fraction(side)
        free = [i for i in range(n) if x[i] is None]
        rows = [
            [sum(weight[i]) if i == j else -weight[i][j] for j in free]
            + [sum(weight[i][k] * x[k] for k in range(n) if x[k] is not None)]
            for i in free
        ]
        for i in range(len(free)):
            if rows[i][i] == 0:
                break
            for k in range(len(free)):
                if k != i:
                    factor = rows[k][i] / rows[i][i]
                    rows[k] = [a - factor * b for a, b in zip(rows[k], rows[i], strict=True)]
        else:
            for k, i in enumerate(free):
                x[i] = rows[k][-1] / rows[k][k]
            if bounds is None or all(bounds[0] <= x[i] <= bounds[1] for i in unknown):
                energy = sum(weight[i][j] * (x[i] - x[j]) ** 2 for i in range(n) for j in range(i)) / 2
                best = energy if best is None else min(best, energy)
    return best


@pytest.mark.parametrize("decades", [0.0, 3.0, 12.0])
def test_propagated_bounds_never_exceed_the_exact_least_energy(decades):
    rng = np.random.default_rng(31)
    for _ in range(40):
        n = int(rng.integers(2, 7))
        graph = networkx.random_labeled_tree(n, seed=int(rng.integers(1 << 30)))
        graph.add_edges_from((int(a), int(b)) for a, b in rng.integers(0, n, (int(rng.integers(0, 5)), 2)) if a != b)
        W = np.zeros((n, n))
        for i, j in graph.edges:
            W[i, j] = W[j, i] = 10.0 ** rng.uniform(-decades, decades)
        labels = rng.standard_normal(n) * 10.0 ** float(rng.choice([-6, 0, 6]))
        labels[1:][rng.random(n - 1) < 0.6] = np.nan
        bounds = None
        if rng.random() < 0.5:
            lower = float(np.nanmin(labels)) * rng.uniform(-0.2, 1.2)
            bounds = lower, lower + abs(lower) * rng.uniform(0, 2)
        sparse = scipy.sparse.csr_array(W)
        result = solvers.label_propagation(sparse, labels, bounds=bounds, tol=float(rng.choice([1e-6, 1e-12])))
        assert result.status is not solvers.Status.NUMERICAL_ERROR
        assert solvers.verify(result, sparse, labels, bounds=bounds)
        assert Fraction(result.bound) <= exact_propagation(W, labels, bounds)


def exact_pivots(matrix):
    """Pivots of the elimination of a rational matrix, up to the first that is not positive."""
    rows, pivots = [list(row) for row in matrix], []
    for i in range(len(rows)):
        pivots.append(rows[i][i])
        if pivots[-1] <= 0:
            break
        for k in range(i + 1, len(rows)):
            factor = rows[k][i] / rows[i][i]
            rows[k] = [a - factor * b for a, b in zip(rows[k], rows[i], strict=True)]
    return pivots


def test_factorised_eigenvalues_are_never_above_the_exact_ones():
    """lambda_min(Q) >= least holds exactly iff Q - least I has no negative pivot."""
    rng = np.random.default_rng(23)
    proved = 0
    for _ in range(300):
        n = int(rng.integers(1, 9))
        F = rng.standard_normal((n, n + 1)) * 10.0 ** rng.uniform(-4, 4, n)[:, None]
        Q = F @ F.T
        Q = (Q + Q.T) / 2 * 10.0 ** float(rng.choice([-8, 0, 8]))
        size = float(np.trace(Q))
        near = abs(float(np.linalg.eigvalsh(Q)[0]))
        for step in (-0.5, -1e-3, -1e-9, 0.0, 1e-13, 1e-9):
            least = near * (1 + step) + rng.choice([0.0, -1.0, 1.0]) * 1e-15 * size
            if not least_eigenvalue_exceeds(Q, least):
                continue
            shifted = [
                [Fraction(float(Q[i, j])) - (i == j) * Fraction(float(least)) for j in range(n)] for i in range(n)
            ]
            assert all(pivot > 0 for pivot in exact_pivots(shifted))
            proved += 1
    assert proved > 300


def test_no_positive_eigenvalue_is_proved_of_a_singular_matrix():
    """Rounding lets many of them be factorised: what proves nothing is the factor alone."""
    rng = np.random.default_rng(29)
    factorised = 0
    for _ in range(300):
        n = int(rng.integers(2, 11))
        B = rng.integers(-9, 10, (n, n - 1)).astype(float)
        Q = B @ B.T
        assert not least_eigenvalue_exceeds(Q, 1e-30 * (1.0 + float(np.trace(Q))))
        factorised += factor_shifted(Q, 0.0) is not None
    assert factorised > 50


def test_large_dense_quadratics_are_proved_definite_by_a_factorisation():
    rng = np.random.default_rng(29)
    n = 2100
    F = rng.standard_normal((n, n + 200))
    Q = F @ F.T
    loss = bcd.Quadratic((Q + Q.T) / 2, rng.standard_normal(n))
    result = solvers.minimize_bcd(loss)
    assert result.status is solvers.Status.OPTIMAL
    assert solvers.verify(result, loss)
    boasting = solvers.BCDResult(result)
    boasting.certificate = dataclasses.replace(result.certificate, least=10.0 * result.certificate.least)
    assert not solvers.verify(boasting, loss)
    indefinite = bcd.Quadratic(loss.dense - 1.01 * np.linalg.eigvalsh(loss.dense)[0] * np.eye(n), loss.host_c)
    assert solvers.minimize_bcd(indefinite).bound == -np.inf


@pytest.mark.parametrize("decades", [0, 8, 20, 100])
def test_units_of_coordinates_do_not_matter(decades):
    """Diagonals spread over twice as many decades: found, and proved against the minimum in rational arithmetic."""
    rng = np.random.default_rng(decades)
    for _ in range(12):
        n = int(rng.integers(2, 8))
        B = rng.normal(size=(n, 2 * n))
        units = 10.0 ** -(decades * rng.random(n))
        Q = units[:, None] * (B @ B.T) * units
        loss = bcd.Quadratic(np.tril(Q) + np.tril(Q, -1).T, units * rng.normal(size=n))
        result = solvers.minimize_bcd(loss)
        assert result.status is solvers.Status.OPTIMAL
        least = exact_objective(loss, exact_minimiser(loss))
        assert Fraction(float(result.bound)) <= least <= Fraction(float(result.fun)) * (1 - Fraction(1, 10**12))
        assert solvers.verify(result, loss).ok
        boxed = solvers.minimize_bcd(loss, bcd.Box(-0.2 / units, 0.2 / units))
        assert boxed.status is solvers.Status.OPTIMAL
        assert solvers.verify(boxed, loss, bcd.Box(-0.2 / units, 0.2 / units)).ok
        for least_claimed in (1e3, 1e300, np.inf, np.nan, -1.0, 1):
            bound, _ = composite(loss).bound_at(np.zeros(n), loss.image(np.zeros(n)), Definiteness(least=least_claimed))
            assert bound.reestablished == -np.inf or Fraction(float(bound.reestablished)) <= least


@pytest.mark.parametrize(
    "parents",
    [
        np.array([1, 2, 0, -1]),
        np.array([-1, 0, 1, 7]),
        np.array([-1, 0, 1, -2]),
        np.array([-1, 0, 1, 0]),
        np.array([-1, 0, 1, 3]),
        np.array([-1, 0, 1]),
        np.array([-1.0, 0.0, 1.0, 2.0]),
    ],
    ids=["a cycle", "no such node", "no node", "not an edge", "itself", "too short", "not integers"],
)
def test_forged_forests_prove_nothing(parents):
    """The path 0 - 1 - 2 - 3 grounded at node 0 has one spanning forest with its root there."""
    Q = scipy.sparse.csr_array(np.diag([2.0, 2.0, 2.0, 1.0]) - np.diag(np.ones(3), 1) - np.diag(np.ones(3), -1))
    loss = bcd.Quadratic(Q, np.ones(4))
    problem = composite(loss)
    x = np.linalg.solve(Q.toarray(), np.ones(4))
    good, _ = problem.bound_at(x, loss.image(x), Definiteness(parents=np.array([-1, 0, 1, 2])))
    assert good.reestablished == pytest.approx(-15.0)
    bad, _ = problem.bound_at(x, loss.image(x), Definiteness(parents=parents))
    assert bad.value == -np.inf


def test_a_forest_whose_root_is_not_grounded_proves_nothing():
    Q = scipy.sparse.csr_array(np.diag([2.0, 2.0, 2.0, 1.0]) - np.diag(np.ones(3), 1) - np.diag(np.ones(3), -1))
    assert spanning_forest(Q, np.array([-1, 0, 1, 2])) is not None
    assert spanning_forest(Q, np.array([-1, 0, -1, 2])) is None
    singular = scipy.sparse.csr_array(Q - scipy.sparse.diags_array([1.0, 0.0, 0.0, 0.0]))
    assert spanning_forest(singular, np.array([-1, 0, 1, 2])) is None
    indefinite = scipy.sparse.csr_array(Q - scipy.sparse.diags_array([0.0, 0.0, 0.6, 0.0]))
    assert spanning_forest(indefinite, np.array([-1, 0, 1, 2])) is None
