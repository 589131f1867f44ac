"""Bounds of large problems against exact rational arithmetic, on factors of all scales."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

import ranking._problem
import ranking._rank_tsp
import ranking._verify
from ranking._large_bounds import streamed_bound
from ranking._moment_bounds import moment_bound, moment_certificate
from ranking._problem import path_problem
from ranking._result import MomentCertificate
from solvers import rank_tsp, verify

SCALES = ("even", "uneven rows", "uneven entries", "opposite", "tiny", "denormal", "huge", "integers", "sparse")


@pytest.fixture(autouse=True)
def all_problems_are_large(monkeypatch):
    """Keep factors as factors, and send every problem of more than one item through the search on candidates."""
    for module in (ranking._problem, ranking._rank_tsp, ranking._verify):
        monkeypatch.setattr(module, "LARGE_ITEMS", 1)


def points(rng, n, d, scale):
    """U and V (n, d), mixed signs, some of them zero."""
    U, V = rng.standard_normal((n, d)), rng.standard_normal((n, d))
    if scale == "uneven rows":
        U, V = U * 10.0 ** rng.integers(-70, 71, (n, 1)), V * 10.0 ** rng.integers(-70, 71, (n, 1))
    elif scale == "uneven entries":
        U, V = U * 10.0 ** rng.integers(-150, 140, (n, d)), V * 10.0 ** rng.integers(-150, 140, (n, d))
    elif scale == "opposite":
        power = 10.0 ** int(rng.integers(100, 161))
        U, V = (U * power, V / power) if rng.random() < 0.5 else (U / power / 1e15, V * power)
    elif scale == "tiny":
        U, V = U * 1e-160, V * 10.0 ** int(rng.integers(-170, -140))
    elif scale == "denormal":
        U, V = U * 2.0 ** int(rng.integers(-1074, -1030)), V * 2.0 ** rng.integers(-30, 60, (n, 1))
    elif scale == "huge":
        U, V = U * 1e148, V * 1e149
    elif scale == "integers":
        U, V = np.round(3 * U), np.round(3 * V)
    elif scale == "sparse":
        U, V = U * (rng.random((n, d)) < 0.4), V * (rng.random((n, d)) < 0.4)
    return U, V


def exact_costs(U, V, sign):
    """Costs by products summed coordinate by coordinate in double precision, and by exact inner products."""
    rounded = np.zeros((len(U), len(V)))
    for u, v in zip(U.T, V.T, strict=True):
        rounded += u[:, None] * v
    P, Q = [[Fraction(value) for value in row] for row in U.tolist()], [list(map(Fraction, row)) for row in V.tolist()]
    whole = [[sum((a * b for a, b in zip(p, q, strict=True)), Fraction(0)) for q in Q] for p in P]
    return (
        [[int(sign) * Fraction(value) for value in row] for row in rounded.tolist()],
        [[int(sign) * value for value in row] for row in whole],
    )


def dual_value(c, prices, problem):
    """Sum of the row minima of c_ij - v_j and of v, exactly; the depot comes last."""
    n, v = problem.n, [Fraction(value) for value in prices.tolist()]
    total = sum(v)
    for i in range(n):
        row = [c[i][j] - v[j] for j in range(n) if j != i]
        if problem.depot and problem.end in (-1, i):
            row = [-v[n]] if problem.end == i else [*row, -v[n]]
        total += min(row)
    if problem.depot:
        total += -v[problem.start] if problem.start >= 0 else min(-v[j] for j in range(n))
    return total


def least_cost(c, problem):
    """The optimum by all orders, exactly."""
    best = None
    for order in itertools.permutations(range(problem.n)):
        if problem.closed and order[0] != 0:
            continue
        if (not problem.closed and problem.start not in (-1, order[0])) or problem.end not in (-1, order[-1]):
            continue
        arcs = list(itertools.pairwise(order)) + ([(order[-1], order[0])] if problem.closed else [])
        value = sum(c[i][j] for i, j in arcs)
        best = value if best is None else min(best, value)
    return best


def random_problem(rng, most_items=6):
    n, d = int(rng.integers(2, most_items)), int(rng.integers(1, 5))
    U, V = points(rng, n, d, SCALES[int(rng.integers(len(SCALES)))])
    closed, maximize = bool(rng.integers(2)), bool(rng.integers(2))
    start = int(rng.integers(n)) if rng.random() < 0.4 else None
    end = None if closed or rng.random() < 0.6 else int(rng.integers(n))
    ends = {"start": start, "end": None if end == start else end, "closed": closed, "maximize": maximize}
    return U, V, ends


def check_duals(rng):
    U, V, ends = random_problem(rng)
    problem = path_problem((U, V), ends["start"], ends["end"], ends["closed"], ends["maximize"])
    size = float(np.abs(U).max()) * float(np.abs(V).max())
    prices = size * rng.standard_normal(problem.m) * 10.0 ** int(rng.integers(-3, 2))
    published, again = streamed_bound(problem, prices, 4.0), streamed_bound(problem, prices, 2.0)
    assert published <= again
    for c in exact_costs(U, V, problem.sign):
        assert np.isfinite(published)
        assert again <= dual_value(c, prices, problem)


def check_moments(rng):
    U, V, ends = random_problem(rng)
    problem = path_problem((U, V), ends["start"], ends["end"], ends["closed"], ends["maximize"])
    certificate = moment_certificate(problem.scores, problem.sign)
    if rng.random() < 0.5:
        d = U.shape[1]
        certificate = MomentCertificate(
            *(rng.standard_normal(shape) * 10.0 ** int(rng.integers(-4, 3)) for shape in ((d, d), (d, d), (d,), (d,)))
        )
    published, again = moment_bound(problem, certificate, 4.0), moment_bound(problem, certificate, 2.0)
    assert np.isfinite(published)
    assert published <= again
    for c in exact_costs(U, V, problem.sign):
        assert again <= least_cost(c, problem)


def check_search(rng):
    U, V, ends = random_problem(rng)
    problem = path_problem((U, V), ends["start"], ends["end"], ends["closed"], ends["maximize"])
    result = rank_tsp((U, V), rng=0, time_limit=None if rng.random() < 0.7 else 1e-9, **ends)
    checked = verify(result, (U, V), **ends)
    assert checked, checked.message
    best = least_cost(exact_costs(U, V, problem.sign)[0], problem)
    # The value of an order is the exact sum of its scores, rounded once.
    assert problem.sign * result.fun >= float(best)
    assert Fraction(problem.sign * result.bound) <= best or problem.sign * result.bound <= float(best)


def check_coinciding_points(rng):
    """All scores equal, one centre at its points, one far away: only the rounding of large products lies above the optimum."""
    n, d = int(rng.integers(2, 6)), int(rng.integers(1, 5))
    U, V = (np.tile(rng.random(d), (n, 1)) for _ in range(2))
    problem = path_problem((U, V), None, None, bool(rng.integers(2)), bool(rng.integers(2)))
    left_centre = np.ldexp(-problem.sign * U[0], -np.frexp(U.max())[1])
    certificate = MomentCertificate(2.0**50 * np.eye(d), 2.0**-50 * np.eye(d), left_centre, 1e4 * rng.random(d))
    bound = moment_bound(problem, certificate, 2.0)
    best = least_cost(exact_costs(U, V, problem.sign)[1], problem)
    assert bound <= best


@pytest.mark.parametrize("check", [check_duals, check_moments, check_coinciding_points, check_search])
def test_bounds_of_factors_never_pass_exact_values(check):
    rng = np.random.default_rng(0)
    for _ in range(500):
        check(rng)
