"""Linear certificates at the ends of the range of float64, against arithmetic with ninety digits and no ends."""

from __future__ import annotations

import decimal
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

import solvers
from solvers import bcd
from solvers.bcd._certificate import LinearCertifier
from solvers.bcd._problem import composite

EXACT = decimal.Context(prec=90, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX)


def exactly(values):
    return [Decimal(float(value)) for value in np.ravel(values)]


def exact_objective(loss, penalty, result):
    """F at a result, rounded to ninety digits."""
    with decimal.localcontext(EXACT):
        x, c = exactly(result.x), Decimal(float(result.intercept))
        weights = exactly(np.ones(loss.plain.n) if loss.weights is None else loss.weights)
        total = Decimal(0)
        for i, row in enumerate(np.asarray(loss.plain.matrix)):
            z = c + sum((a * v for a, v in zip(exactly(row), x, strict=True)), Decimal(0))
            if isinstance(loss, bcd.Logistic):
                margin = Decimal(float(loss.y[i])) * z
                small = (-abs(margin)).exp() if abs(margin) < 10**6 else Decimal(0)
                term = (1 + small).ln() + max(-margin, Decimal(0))
            else:
                r = abs(z - Decimal(float(loss.b[i])))
                delta = Decimal(loss.delta) if isinstance(loss, bcd.Huber) else r
                term = r * r / 2 if r <= delta else delta * (r - delta / 2)
            total += weights[i] * term
        laid = penalty.term(loss.shape, 0)
        for lam, l2, value in zip(exactly(laid.lam), exactly(laid.l2), x, strict=True):
            total += lam * abs(value) + l2 * value * value / 2
        return total


def far_problem(rng):
    """Columns, targets, weights and penalties with exponents up to a hundred and fifty, duplicates, mixed scales."""
    n, p = int(rng.integers(1, 12)), int(rng.integers(1, 10))
    size, target = 10.0 ** rng.choice([-150, -100, -20, 0, 20, 100, 140]), 10.0 ** rng.choice([-160, -80, 0, 80, 140])
    A = size * rng.standard_normal((n, p)) * (rng.random((n, p)) < 0.9)
    if rng.random() < 0.4:
        A *= 10.0 ** rng.uniform(-12, 12, p)
    if rng.random() < 0.3:
        A[:, 0] = A[:, -1]
    b = target * (rng.standard_normal(n) + rng.choice([0, 1e4]))
    weights = rng.random(n) * 10.0 ** rng.choice([-300, -150, -20, 0, 20, 150]) if rng.random() < 0.5 else None
    if weights is not None and rng.random() < 0.3:
        weights *= 10.0 ** rng.uniform(-6, 6, n)
    common = {"sample_weight": weights, "fit_intercept": bool(rng.random() < 0.3)}
    loss = (
        lambda: bcd.LeastSquares(A, b, **common),
        lambda: bcd.Logistic(A, np.where(rng.random(n) < 0.5, 1.0, -1.0), **common),
        lambda: bcd.Huber(A, b, float(np.abs(b).max() * 10.0 ** rng.uniform(-3, 1)), **common),
    )[int(rng.integers(3))]()
    largest = np.abs(loss.gradient(loss.image(np.zeros(loss.size)))[:p]).max() or 1.0
    lam = largest * 10.0 ** rng.choice([-200, -12, -3, -1, 0]) * 10.0 ** rng.uniform(-1, 0)
    lam = np.minimum(lam * ((rng.random(p) < 0.9) if rng.random() < 0.3 else np.ones(p)), 1e300)
    reach = min(max(target / size, 1e-290), 1e290)
    penalty = (
        lambda: bcd.L1(lam),
        lambda: bcd.ElasticNet(lam, min(size**2, 1e300) * rng.random() * 10.0 ** rng.choice([-300, -10, 0])),
        lambda: bcd.NonNegative(lam),
        lambda: bcd.Box(-reach, rng.random(p) * reach),
    )[int(rng.integers(4))]()
    return loss, penalty


@pytest.mark.parametrize("count", [120, pytest.param(400, marks=pytest.mark.slow)])
def test_bounds_hold_where_products_leave_the_range(count):
    """And verification re-establishes each; many of them say more than zero."""
    rng = np.random.default_rng(count)
    positive = 0
    with np.errstate(all="ignore"):
        for _ in range(count):
            try:
                loss, penalty = far_problem(rng)
                result = solvers.minimize_bcd(loss, penalty, tol=float(rng.choice([1e-6, 1e-12])), max_iter=40)
            except solvers.InvalidProblemError:
                # Squared norms, weights or the objective at zero beyond the range.
                continue
            assert Decimal(result.bound) <= exact_objective(loss, penalty, result)
            checked = solvers.verify(result, loss, penalty)
            assert checked.ok, checked.message
            positive += result.bound > 0
    assert positive > 0.2 * count


@pytest.mark.parametrize("exponent", [-170, -155, -120, 0, 120])
@pytest.mark.parametrize("weighted", [False, True])
def test_lengths_and_products_of_dual_points_are_within_their_bounds(exponent, weighted):
    """|sqrt(w) theta| is never rounded down, though its squares vanish, and A^T W theta is off by its error at most."""
    rng = np.random.default_rng([exponent + 200, weighted])
    for _ in range(30):
        n, p = int(rng.integers(1, 30)), int(rng.integers(1, 6))
        w = rng.random(n) * 10.0 ** rng.choice([-200, 0, 20]) if weighted else None
        A = rng.standard_normal((n, p)) * 10.0 ** rng.choice([-100, 0, 100])
        loss = bcd.LeastSquares(A, np.ones(n), sample_weight=w)
        certifier = LinearCertifier(loss, bcd.L1(1.0).term(loss.shape, 0))
        theta = rng.standard_normal(n) * 10.0**exponent
        weights = [Fraction(1)] * n if w is None else [Fraction(float(value)) for value in w]
        exact = [Fraction(float(value)) for value in theta]
        length = certifier._length(theta)
        assert Fraction(length) ** 2 >= sum(a * b * b for a, b in zip(weights, exact, strict=True))
        q, error = A.T @ loss.weighted(theta), certifier._q_error(length)
        for j in range(p):
            product = sum(Fraction(float(A[i, j])) * weights[i] * exact[i] for i in range(n))
            assert abs(Fraction(float(q[j])) - product) <= Fraction(float(error[j]))


def test_problems_too_small_to_certify_claim_nothing():
    """Sums of 1e-312 keep a few digits only: their bound is zero, and the answer is still good."""
    A, b = np.array([[1.0, 0.5], [0.0, 1.0], [1.0, 1.0]]), np.array([1.0, 0.0, 2.0])
    loss, penalty = bcd.LeastSquares(A, 1e-156 * b), bcd.L1(0.5e-156)
    result = solvers.minimize_bcd(loss, penalty)
    assert result.bound == 0.0
    assert result.x == pytest.approx(1e-156 * solvers.minimize_bcd(bcd.LeastSquares(A, b), bcd.L1(0.5)).x, rel=1e-6)
    assert composite(loss, penalty).objective(result.x, loss.image(result.x)) == result.fun
    assert solvers.verify(result, loss, penalty)
