"""Bounds never exceed what any point attains, on random, badly scaled and adversarial problems."""

from __future__ import annotations

import dataclasses

import cvxpy
import numpy as np
import pytest
from scipy.optimize import minimize

import solvers
from solvers import bcd
from solvers.bcd._problem import composite


def random_loss(rng, kind, n, p, scale=1.0, shift=0.0, intercept=False):
    A = scale * rng.standard_normal((n, p)) + shift
    weights = rng.random(n) + 0.1 if rng.random() < 0.5 else None
    if kind == "least-squares":
        return bcd.LeastSquares(A, scale * rng.standard_normal(n), sample_weight=weights, fit_intercept=intercept)
    if kind == "huber":
        return bcd.Huber(A, rng.standard_normal(n), 0.5, sample_weight=weights, fit_intercept=intercept)
    if kind == "logistic":
        y = np.where(rng.random(n) < 0.5, 1.0, -1.0)
        y[:2] = (1.0, -1.0)
        return bcd.Logistic(A, y, sample_weight=weights, fit_intercept=intercept)
    labels = np.r_[0, 1, 2, rng.integers(0, 3, n - 3)]
    return bcd.Softmax(A, labels, sample_weight=weights, fit_intercept=intercept)


def random_penalty(rng, loss, kind):
    size = int(np.prod(loss.shape))
    lam = (rng.random(loss.shape) + 0.1) * 10.0 ** rng.uniform(-3, 1)
    if kind == "l1":
        return bcd.L1(lam)
    if kind == "l1-zero":
        lam = lam.copy()
        lam.flat[0] = 0.0
        return bcd.L1(lam)
    if kind == "elastic-net":
        return bcd.ElasticNet(lam, rng.random() + 0.01)
    if kind == "box":
        lower = rng.standard_normal(loss.shape) - 0.5
        return bcd.Box(lower, lower + rng.random(loss.shape))
    if kind == "half-box":
        return bcd.Box(-0.3, np.inf)
    if kind == "non-negative":
        return bcd.NonNegative(lam)
    if kind == "nnls":
        return bcd.NonNegative()
    if kind == "groups":
        return bcd.GroupL2(np.arange(size) // 2, 0.3)
    return None


LOSSES = ("least-squares", "huber", "logistic", "softmax")
PENALTIES = ("l1", "l1-zero", "elastic-net", "box", "half-box", "non-negative", "nnls", "groups", "none")


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("penalty", PENALTIES)
def test_bound_never_exceeds_an_attained_objective(kind, penalty):
    """Dual points from random places are as valid as those from the minimum."""
    rng = np.random.default_rng([LOSSES.index(kind), PENALTIES.index(penalty)])
    for trial in range(12):
        scale, shift = ((1.0, 0.0), (1e-8, 0.0), (1e8, 0.0), (1.0, 1e4))[trial % 4]
        loss = random_loss(rng, kind, int(rng.integers(4, 9)), int(rng.integers(1, 5)), scale, shift, trial % 3 == 1)
        problem = composite(loss, random_penalty(rng, loss, penalty))
        bounds, values = [], []
        x = problem.term.start()
        for step in range(6):
            z = loss.image(x)
            bound, _ = problem.bound_at(x, z)
            values.append(problem.objective(x, z))
            bounds.append(bound.reestablished)
            x = problem.term.project(x + rng.standard_normal(len(x)) * 10.0 ** rng.uniform(-9, 1) / scale)
            if step == 3:
                box = [
                    (a if np.isfinite(a) else None, b if np.isfinite(b) else None)
                    for a, b in zip(
                        getattr(problem.term, "lower", np.full(len(x), -np.inf)),
                        getattr(problem.term, "upper", np.full(len(x), np.inf)),
                        strict=True,
                    )
                ]
                value = lambda u, problem=problem: problem.objective(u, problem.loss.image(u))  # noqa: E731
                x = minimize(value, x, bounds=box, method="L-BFGS-B").x
                x = problem.term.project(x)
        assert max(bounds) <= min(values) * (1 + 1e-12)


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("penalty", ["l1", "elastic-net", "box", "non-negative", "groups"])
@pytest.mark.parametrize("intercept", [False, True])
def test_solved_problems_match_the_convex_model(kind, penalty, intercept):
    """fun and bound bracket the minimum found by a conic solver."""
    rng = np.random.default_rng([LOSSES.index(kind), PENALTIES.index(penalty), intercept])
    loss = random_loss(rng, kind, 9, 4, intercept=intercept)
    pen = random_penalty(rng, loss, penalty)
    result = solvers.minimize_bcd(loss, pen, method="paper", update="newton", block_size=loss.size, max_iter=300)
    model = solvers.reference_model("minimize_bcd", loss, pen)
    model.solve(solver=cvxpy.CLARABEL)
    assert result.status is solvers.Status.OPTIMAL
    assert result.fun == pytest.approx(model.value, rel=1e-5, abs=1e-7)
    assert result.bound <= model.value * (1 + 1e-6) + 1e-8
    assert solvers.verify(result, loss, pen)


def laplacian(rng, n, extra=0.0):
    weights = np.triu(rng.random((n, n)) * (rng.random((n, n)) < 0.5), 1)
    weights = weights + weights.T
    return np.diag(weights.sum(axis=1) + extra) - weights


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_quadratic_bounds_hold_without_and_with_bounds(scale):
    """Definite by dominance, by comparison weights, by eigenvalues; boxed semidefinite ones."""
    from scipy.sparse import csr_array

    rng = np.random.default_rng(5)
    for trial in range(120):
        n = int(rng.integers(2, 8))
        if trial % 3 == 0:
            Q = laplacian(rng, n)
            Q[0, 0] += 0.5 + rng.random()
        elif trial % 3 == 1:
            F = rng.standard_normal((n, n + 1))
            Q = F @ F.T
            Q = (Q + Q.T) / 2
        else:
            F = rng.standard_normal((n, max(1, n - 2)))
            Q = F @ F.T
            Q = (Q + Q.T) / 2
        Q *= scale
        c = rng.standard_normal(n) * scale
        penalty = bcd.Box(-0.5, rng.random(n)) if trial % 2 or trial % 3 == 2 else None
        loss = bcd.Quadratic(csr_array(Q) if trial % 4 < 2 else Q, c)
        problem = composite(loss, penalty)
        result = solvers.minimize_bcd(loss, penalty, max_iter=60, block_size=n)
        assert solvers.verify(result, loss, penalty)
        best = result.fun
        if penalty is None:
            exact = np.linalg.lstsq(Q, c, rcond=None)[0]
            best = min(best, problem.objective(exact, loss.image(exact)))
        for _ in range(5):
            x = problem.term.project(result.x + rng.standard_normal(n) * 10.0 ** rng.uniform(-8, 1))
            z = loss.image(x)
            bound, certificate = problem.bound_at(x, z, None)
            assert bound.reestablished <= best + 1e-13 * abs(best) + 1e-300
            assert problem.rebound(certificate, x, z).reestablished >= bound.published
            best = min(best, problem.objective(x, z))
        assert result.bound <= best + 1e-13 * abs(best)


def test_indefinite_and_unsymmetric_matrices_are_named():
    with pytest.raises(solvers.InvalidProblemError, match=r"symmetric; Q\[0, 1\]"):
        bcd.Quadratic([[1.0, 2.0], [2.5, 1.0]], [0.0, 0.0])
    with pytest.raises(solvers.InvalidProblemError, match="least eigenvalue is about -1"):
        bcd.Quadratic([[1.0, 2.0], [2.0, 1.0]], [0.0, 0.0])
    with pytest.raises(solvers.InvalidProblemError, match=r"Q\[1, 1\] is -1"):
        bcd.Quadratic([[1.0, 0.0], [0.0, -1.0]], [0.0, 0.0])


def test_tampered_certificates_are_rejected():
    rng = np.random.default_rng(0)
    A, b = rng.standard_normal((20, 6)), rng.standard_normal(20)
    loss, penalty = bcd.LeastSquares(A, b), bcd.L1(1.0)
    result = solvers.minimize_bcd(loss, penalty)
    assert solvers.verify(result, loss, penalty)
    wrong = solvers.BCDResult(result)
    wrong.certificate = dataclasses.replace(result.certificate, theta=0.9 * result.certificate.theta)
    assert not solvers.verify(wrong, loss, penalty)
    for theta in (np.zeros(20), np.full(20, np.nan), np.zeros(3)):
        wrong.certificate = dataclasses.replace(result.certificate, theta=theta)
        assert not solvers.verify(wrong, loss, penalty)
    raised = solvers.BCDResult(result)
    raised.bound = result.fun
    raised.gap = 0.0
    assert not solvers.verify(raised, loss, penalty)
    moved = solvers.BCDResult(result)
    moved.x = result.x * 0.99
    assert not solvers.verify(moved, loss, penalty)


def extended_objective(loss, penalty, x, intercept):
    """F at a result in extended precision, from the raw data."""
    wide = np.longdouble
    z = np.asarray(loss.plain.matrix).astype(wide) @ x.astype(wide) + wide(intercept)
    w = np.ones(len(z), dtype=wide) if loss.weights is None else np.asarray(loss.weights).astype(wide)
    if isinstance(loss, bcd.Logistic):
        margin = np.asarray(loss.y) * z
        f = np.sum(w * (np.log1p(np.exp(-np.abs(margin))) + np.maximum(-margin, 0)))
    else:
        r = np.abs(z - np.asarray(loss.b))
        delta = wide(getattr(loss, "delta", 0.0)) or np.max(r)
        f = np.sum(w * np.where(r <= delta, r * r / 2, delta * (r - delta / 2)))
    term = penalty.term(loss.shape, 0)
    return f + np.sum(term.lam.astype(wide) * np.abs(x) + term.l2.astype(wide) * x.astype(wide) ** 2 / 2)


def extreme_problem(rng):
    """Columns from 1e-14 to 1e14, shifts, duplicates, zero columns, zero penalties, zero weights."""
    n, p = int(rng.integers(2, 25)), int(rng.integers(1, 30))
    scale = 10.0 ** rng.choice([-8, 0, 8])
    A = scale * rng.standard_normal((n, p)) + scale * rng.choice([0.0, 1e4, 1e6]) * (rng.random(p) < 0.3)
    if rng.random() < 0.3:
        A *= 10.0 ** rng.uniform(-6, 6, p)
    if rng.random() < 0.2:
        A[:, 0] = 0.0
        A[:, -1] = A[:, p // 2]
    b = rng.standard_normal(n) * 10.0 ** rng.choice([-8, 0, 8]) + rng.choice([0.0, 1e4])
    weights = rng.random(n) * (rng.random(n) < 0.8) + 1e-3 if rng.random() < 0.4 else None
    common = {"sample_weight": weights, "fit_intercept": bool(rng.random() < 0.4)}
    loss = (
        lambda: bcd.LeastSquares(A, b, **common),
        lambda: bcd.Logistic(A, np.where(rng.random(n) < 0.5, 1.0, -1.0), **common),
        lambda: bcd.Huber(A, b, 10.0 ** rng.uniform(-3, 1) * np.abs(b).max(), **common),
    )[int(rng.integers(3))]()
    largest = np.abs(loss.gradient(loss.image(np.zeros(loss.size)))[:p]).max() or 1.0
    lam = largest * 10.0 ** rng.uniform(-3, 0) * ((rng.random(p) < 0.95) if rng.random() < 0.3 else np.ones(p))
    penalty = (
        lambda: bcd.L1(lam),
        lambda: bcd.ElasticNet(lam, rng.random() * scale**2),
        lambda: bcd.NonNegative(lam),
        lambda: bcd.Box(-1 / scale, rng.random(p) / scale),
    )[int(rng.integers(4))]()
    return loss, penalty


@pytest.mark.parametrize("count", [150, pytest.param(700, marks=pytest.mark.slow)])
def test_bounds_hold_in_extended_precision_on_badly_scaled_problems(count):
    """And verification re-establishes each of them."""
    rng = np.random.default_rng(count)
    with np.errstate(all="ignore"):
        for _ in range(count):
            loss, penalty = extreme_problem(rng)
            result = solvers.minimize_bcd(loss, penalty, tol=float(rng.choice([1e-6, 1e-12])), max_iter=60)
            assert result.bound <= extended_objective(loss, penalty, result.x, result.intercept)
            checked = solvers.verify(result, loss, penalty)
            assert checked.ok, checked.message
