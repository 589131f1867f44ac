"""The L1 engine: what is screened rests, descent is greedy, extrapolation closes the gap, and every run ends at a minimum."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
import scipy.sparse
from kinds import NAMESPACES

import solvers
from solvers import bcd
from solvers.bcd import _kernels_array, _kernels_numba
from solvers.bcd._gram import GramCache, weighted_gram
from solvers.bcd._kernels_numba import BUCKET, gram_descent, residual_descent
from solvers.bcd._problem import composite
from solvers.bcd._screening import Face
from solvers.bcd._subproblem import extrapolation


def random_problem(rng, *, n=None, p=None, scale=1.0):
    """Any loss of one output, weights, an intercept, sparse or dense; any separable penalty, zero weights, bounds off zero."""
    n, p = n or int(rng.integers(3, 14)), p or int(rng.integers(1, 14))
    A = scale * rng.standard_normal((n, p)) * (rng.random((n, p)) < 0.8)
    b = rng.standard_normal(n)
    common = {
        "sample_weight": rng.random(n) + 0.1 if rng.random() < 0.4 else None,
        "fit_intercept": bool(rng.random() < 0.3),
    }
    matrix = scipy.sparse.csr_array(A) if rng.random() < 0.5 else A
    y = np.where(b > 0, 1.0, -1.0)
    y[:2] = 1.0, -1.0
    loss = (
        lambda: bcd.LeastSquares(matrix, b, **common),
        lambda: bcd.Huber(matrix, b, 0.5, **common),
        lambda: bcd.Logistic(matrix, y, **common),
    )[int(rng.integers(3))]()
    lam = scale * (rng.random(p) + 0.1) * 10.0 ** rng.uniform(-1, 0.5)
    if rng.random() < 0.2 and not isinstance(loss, bcd.Logistic):
        lam[0] = 0.0
    lower = np.where(rng.random(p) < 0.5, -rng.random(p), 0.3 * rng.random(p)) / scale
    penalty = (
        lambda: bcd.L1(lam),
        lambda: bcd.ElasticNet(lam, scale**2 * rng.random(p)),
        lambda: bcd.NonNegative(lam),
        lambda: bcd.Box(lower, lower + rng.random(p) / scale),
    )[int(rng.integers(4))]()
    return loss, penalty


@pytest.mark.parametrize("count", [200, pytest.param(1200, marks=pytest.mark.slow)])
def test_every_run_ends_at_a_minimum(count):
    """Stationarity, recomputed: what a prox step along one coordinate gains is at most what the bound leaves to be gained.

    That much is theory, for every convex penalty, and it is asked for up to the rounding of the two objectives. Where phi is
    linear along the step, the gain is kkt^2 / (2 L): the gap proves kkt <= sqrt(2 L (fun - bound)) there and no less, which
    is the allowance below; kinks within the step would make it larger, and it is not enlarged for them.
    """
    rng = np.random.default_rng(count)
    for trial in range(count):
        loss, penalty = random_problem(rng, scale=(1.0, 1e-4, 1e4)[trial % 3])
        problem = composite(loss, penalty)
        result = solvers.minimize_bcd(loss, penalty, tol=1e-10)
        x = np.r_[result.x, np.full(loss.n_free, result.intercept)]
        z = loss.image(x)
        size = np.max(np.abs(loss.gradient(loss.image(problem.term.start()))), initial=1e-300)
        assert result.success, result.message
        g, term = loss.gradient(z), problem.term
        gains = _kernels_array.violations(
            x, g, loss.lipschitz, term.lam, term.l2, term.lower, term.upper, np.empty(loss.size)
        )
        assert gains <= result.fun - result.bound + 2 * problem.objective_error(x, z)
        left = math.sqrt(2 * float(np.max(loss.lipschitz)) * max(result.fun - result.bound, 0.0))
        assert problem.kkt(x, z) <= max(2e-4 * size, left)
        assert solvers.verify(result, loss, penalty)


def test_unpenalised_models_reach_the_least_squares_solution():
    rng = np.random.default_rng(1)
    A, b = rng.standard_normal((30, 8)), rng.standard_normal(30)
    for matrix in (A, scipy.sparse.csr_array(A)):
        result = solvers.minimize_bcd(bcd.LeastSquares(matrix, b), tol=1e-10)
        assert np.allclose(result.x, np.linalg.lstsq(A, b, rcond=None)[0], atol=1e-5)


@pytest.mark.parametrize("count", [120, pytest.param(700, marks=pytest.mark.slow)])
def test_what_is_screened_rests_at_every_minimiser(count):
    """Dual points from far away and from nearby; what they strike out lies where it lay."""
    rng = np.random.default_rng(count)
    struck = 0
    for _ in range(count):
        loss, penalty = random_problem(rng, p=int(rng.integers(2, 20)))
        problem = composite(loss, penalty)
        best = solvers.minimize_bcd(loss, penalty, tol=1e-13)
        minimum = np.r_[best.x, np.full(loss.n_free, best.intercept)]
        for far in (1.0, 1e-2, 1e-4):
            face = Face(problem)
            x = minimum.copy()
            moving = rng.random(len(x)) < 0.5
            x[moving] += far * rng.standard_normal(int(np.sum(moving)))
            x = np.array(problem.term.project(x))
            z = loss.image(x)
            seen = face.estimate(z)
            face.screen(x, seen.q, problem.objective(x, z) - seen.value)
            gone = ~face.alive
            struck += int(np.sum(gone))
            assert np.allclose(minimum[gone], x[gone], atol=1e-6)
    assert struck > 3 * count


def test_compiled_and_array_screening_agree():
    rng = np.random.default_rng(3)
    for _ in range(200):
        n = int(rng.integers(1, 30))
        lower = np.where(rng.random(n) < 0.4, -rng.random(n), -np.inf)
        upper = np.where(rng.random(n) < 0.4, rng.random(n), np.inf)
        x = np.clip(rng.standard_normal(n) * (rng.random(n) < 0.5), lower, upper)
        parts = (x, rng.standard_normal(n), rng.random(), rng.random(n), rng.random(n), rng.random(n), lower, upper)
        one, other = np.ones(n, dtype=bool), np.ones(n, dtype=bool)
        assert _kernels_numba.screened(*parts, one) == _kernels_array.screened(*parts, other)
        assert np.array_equal(one, other)


def test_near_the_minimum_products_take_the_support_only():
    rng = np.random.default_rng(4)
    A, b = rng.standard_normal((60, 400)), rng.standard_normal(60)
    loss, penalty = bcd.LeastSquares(A, b), bcd.L1(0.5 * np.abs(A.T @ b).max())
    result = solvers.minimize_bcd(loss, penalty, tol=1e-12)
    face = Face(composite(loss, penalty))
    z = loss.image(result.x)
    seen = face.estimate(z)
    face.screen(result.x, seen.q, result.fun - seen.value)
    assert not face.whole
    assert np.array_equal(np.flatnonzero(face.alive), result.support)
    again = face.estimate(z)
    assert again.value == pytest.approx(seen.value)
    assert np.allclose(again.q[result.support], seen.q[result.support])


def model_value(G, g, lam, x0, x):
    d = x - x0
    return g @ d + 0.5 * d @ G @ d + lam @ np.abs(x)


def test_greedy_passes_decrease_the_model_by_the_largest_step_and_end_at_its_minimum():
    """A pass that moves anything falls by half the square of its largest scaled step, and Gram and column forms agree."""
    rng = np.random.default_rng(5)
    for trial in range(200):
        n, p = int(rng.integers(3, 15)), int(rng.integers(1, 12))
        A = np.asfortranarray(rng.standard_normal((n, p)))
        h, lam = None if trial % 2 else rng.random(n) + 0.1, rng.random(p)
        G, g = A.T @ (A if h is None else h[:, None] * A), A.T @ rng.standard_normal(n)
        none = (np.zeros(p), np.full(p, -np.inf), np.full(p, np.inf))
        x0 = rng.standard_normal(p) * (rng.random(p) < 0.5)
        x, slope = x0.copy(), g.copy()
        u, y = np.zeros(n), x0.copy()
        v = u if h is None else np.zeros(n)
        threshold = 0.0
        for _ in range(30):
            before = model_value(G, g, lam, x0, y)
            largest = residual_descent(A, np.arange(p), h, np.diagonal(G).copy(), g, u, v, y, lam, *none, threshold)
            after = model_value(G, g, lam, x0, y)
            promise = 0.5 * largest**2 if largest > threshold else 0.0
            assert before - after >= promise * (1 - 1e-9) - 1e-12 * (1 + abs(before))
            threshold = BUCKET * largest
        assert np.allclose(u, A @ (y - x0), atol=1e-12)
        assert np.allclose(v, u if h is None else h * u, atol=1e-12)
        gram_descent(np.ascontiguousarray(G), slope, x, lam, *none, 30, 0.0)
        assert np.allclose(x, y, atol=1e-8)
        assert np.allclose(slope, g + G @ (x - x0), atol=1e-8)
        gram_descent(np.ascontiguousarray(G), slope, x, lam, *none, 20_000, 1e-13)
        distance = np.where(x != 0, np.abs(slope + lam * np.sign(x)), np.maximum(np.abs(slope) - lam, 0))
        assert np.max(distance) <= 1e-9


def test_cached_gram_matrices_are_those_of_their_columns():
    rng = np.random.default_rng(6)
    A = rng.standard_normal((20, 60))
    weights = rng.random(20) + 0.1
    loss = bcd.LeastSquares(A, rng.standard_normal(20), sample_weight=weights)
    cache = GramCache(loss)
    for _ in range(30):
        working = np.sort(rng.choice(60, int(rng.integers(1, 50)), replace=False))
        held = cache.take(working)
        assert set(working) <= set(held)
        assert np.allclose(cache.block, A[:, held])
        assert np.allclose(cache.gram[: len(held), : len(held)], A[:, held].T @ (weights[:, None] * A[:, held]))
    sparse = bcd.LeastSquares(scipy.sparse.csr_array(A), loss.b)
    assert np.allclose(weighted_gram(sparse, working, weights), A[:, working].T @ (weights[:, None] * A[:, working]))


def test_extrapolated_residuals_close_the_gap_long_before_the_last_one():
    """Correlated columns; after the same cyclic epochs the extrapolated dual point is ten times closer, in the median."""
    rng = np.random.default_rng(7)
    ratios = []
    for _ in range(9):
        n, p = 40, 60
        A = rng.standard_normal((n, 4)) @ rng.standard_normal((4, p)) + 0.5 * rng.standard_normal((n, p))
        b = rng.standard_normal(n)
        lam = 0.1 * np.abs(A.T @ b).max()
        loss, penalty = bcd.LeastSquares(A, b), bcd.L1(lam)
        best = solvers.minimize_bcd(loss, penalty, tol=1e-13).bound
        face = Face(composite(loss, penalty))
        x, images = np.zeros(p), [np.zeros(n)]
        for _ in range(200):
            for j in range(p):
                v = x[j] + A[:, j] @ (b - A @ x) / (A[:, j] @ A[:, j])
                x[j] = np.sign(v) * max(abs(v) - lam / (A[:, j] @ A[:, j]), 0.0)
            images.append(A @ x)
        c = extrapolation(images)
        last = best - face.estimate(images[-1]).value
        ahead = best - face.estimate(c @ np.array(images[-len(c) :])).value
        ratios.append(max(ahead, 0.0) / max(last, 1e-300))
    assert np.median(ratios) <= 0.1


def test_slow_descents_end_with_an_extrapolated_certificate():
    """Columns far too many for a Gram matrix's rows to pay, each almost its neighbour: certified to 1e-9 all the same."""
    rng = np.random.default_rng(8)
    n, p = 400, 1500
    base = scipy.sparse.random_array((n, p), density=0.02, rng=rng, format="csc")
    A = scipy.sparse.csc_array(base[:, :-1] + 0.97 * base[:, 1:])
    b = rng.standard_normal(n)
    loss, penalty = bcd.LeastSquares(A, b), bcd.L1(0.02 * np.abs(A.T @ b).max())
    result = solvers.minimize_bcd(loss, penalty, tol=1e-9)
    assert result.status is solvers.Status.OPTIMAL
    assert solvers.verify(result, loss, penalty)


@pytest.mark.parametrize("scale", [1e-300, 1e-200, 1e-150, 1e-100, 1e100, 1e150])
def test_extreme_scales_give_answers_that_verify(scale):
    """Penalties, targets, data and weights from the end of the range of floating point."""
    rng = np.random.default_rng(9)
    A, b = rng.standard_normal((20, 6)), rng.standard_normal(20)
    for loss, penalty in (
        (bcd.LeastSquares(A, b), bcd.L1(scale)),
        (bcd.Logistic(A, np.sign(b)), bcd.L1(scale)),
        (bcd.LeastSquares(A, b * scale, fit_intercept=True), bcd.L1(scale)),
        (bcd.LeastSquares(A * scale, b), bcd.L1(scale)),
        (bcd.LeastSquares(A, b, sample_weight=np.full(20, scale)), bcd.L1(scale)),
        (bcd.Huber(A, b * scale, scale), bcd.L1(scale)),
        (bcd.LeastSquares(A, b), bcd.ElasticNet(1.0, scale)),
    ):
        result = solvers.minimize_bcd(loss, penalty, max_iter=100)
        checked = solvers.verify(result, loss, penalty)
        assert checked.ok, checked.message


def test_objectives_beyond_the_range_are_refused():
    for loss in (bcd.LeastSquares(np.eye(2), [1e200, 1.0]), bcd.Huber(np.eye(2), [1e200, 1.0], 1e200)):
        with pytest.raises(solvers.InvalidProblemError, match="finite at the start"):
            solvers.minimize_bcd(loss, bcd.L1(1.0))


@pytest.mark.parametrize("namespace", sorted(NAMESPACES))
def test_every_linear_loss_and_penalty_runs_on_a_device(namespace):
    """Products and dual points stay there, answers come back there; they are those of the host, certified."""
    rng = np.random.default_rng(10)
    A, b = rng.standard_normal((30, 8)), rng.standard_normal(30)
    codes = rng.integers(0, 3, 30)
    there = NAMESPACES[namespace]
    makers = (
        lambda move: bcd.LeastSquares(move(A), move(b), sample_weight=move(np.abs(b))),
        lambda move: bcd.Huber(move(A), move(b), 0.4, fit_intercept=True),
        lambda move: bcd.Logistic(move(A), move(np.sign(b)), fit_intercept=True),
        lambda move: bcd.Softmax(move(A), move(codes), fit_intercept=True),
    )
    for make in makers:
        here, moved = make(lambda value: value), make(there)
        problem, away = composite(here, bcd.L1(1.0)), composite(moved, bcd.L1(1.0))
        x = rng.standard_normal(here.size)
        assert np.allclose(here.gradient(here.image(x)), moved.gradient(moved.image(x)))
        bound, _ = problem.bound_at(x, here.image(x))
        other, _ = away.bound_at(x, moved.image(x))
        assert other.value == pytest.approx(bound.value, rel=1e-9, abs=1e-9)
        groups = bcd.GroupL2(np.arange(int(np.prod(here.shape))) // 2, 0.5)
        for penalty in (bcd.L1(1.0), groups, bcd.ElasticNet(0.5, 0.3), bcd.Box(-0.1, 0.2)):
            result = solvers.minimize_bcd(moved, penalty, tol=1e-7)
            assert result.backend == "array"
            assert solvers.verify(result, moved, penalty)
            assert result.fun == pytest.approx(solvers.minimize_bcd(here, penalty, tol=1e-7).fun, rel=1e-6)
            for name in ("x", "support", "intercept"):
                if name != "intercept" or here.n_free > 1:
                    assert type(result[name]) is type(there(A)), name
                    assert result[name].device == there(A).device, name
            assert isinstance(result.certificate.theta, np.ndarray)


@pytest.mark.parametrize("namespace", sorted(NAMESPACES))
def test_device_runs_start_from_arrays_of_their_kind_and_from_results(namespace):
    rng = np.random.default_rng(11)
    A, b, there = rng.standard_normal((30, 8)), rng.standard_normal(30), NAMESPACES[namespace]
    loss, penalty = bcd.LeastSquares(there(A), there(b), fit_intercept=True), bcd.L1(1.0)
    result = solvers.minimize_bcd(loss, penalty, tol=1e-9)
    for start in (result, result.x, there(np.ones(8))):
        again = solvers.minimize_bcd(loss, penalty, tol=1e-9, x0=start)
        assert again.fun == pytest.approx(result.fun, rel=1e-8)
    assert solvers.minimize_bcd(loss, penalty, tol=1e-9, x0=result).nit <= 1
    with pytest.raises(solvers.BackendError, match="x0 holds numpy data"):
        solvers.minimize_bcd(loss, penalty, x0=np.ones(8))
    with pytest.raises(solvers.BackendError, match="x0 holds array-api data"):
        solvers.minimize_bcd(bcd.LeastSquares(A, b), penalty, x0=there(np.ones(8)))


def dot_and_add(matrix, j, h, u, v):
    dot = _kernels_numba.column_dot(matrix, j, h, u)
    _kernels_numba.column_add(matrix, j, -1.5, h, u, v)
    return dot


def square(matrix, j, h):
    return _kernels_numba.column_square(matrix, j, h)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("storage", ["dense", "csc"])
def test_columns_are_the_same_interpreted_and_compiled_in_either_storage(storage, weighted):
    rng = np.random.default_rng(3)
    A = rng.standard_normal((9, 4)) * (rng.random((9, 4)) < 0.6)
    sparse = scipy.sparse.csc_array(A)
    matrix = A if storage == "dense" else (sparse.data, sparse.indices, sparse.indptr)
    h, u = rng.random(9), rng.standard_normal(9)
    for j in range(4):
        at, moved = (h if weighted else None), (h if weighted else np.ones(9)) * A[:, j]
        for column in (dot_and_add, numba.njit(dot_and_add)):
            a, b = u.copy(), u.copy()
            found = column(matrix, j, at, a, b if weighted else a)
            assert found == pytest.approx(moved @ u, abs=1e-14)
            np.testing.assert_allclose(a, u - 1.5 * A[:, j], atol=1e-14)
            np.testing.assert_allclose(b, u - 1.5 * moved if weighted else u, atol=1e-14)
        for of_column in (square, numba.njit(square)):
            assert of_column(matrix, j, h) == pytest.approx(h @ A[:, j] ** 2, abs=1e-14)
