"""Thousands of small problems against the subset recursion in exact integer arithmetic.

Scores are integers times a power of two, so that the sums of all paths are exact in double precision too.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import ranking._problem
import ranking._rank_tsp
import ranking._verify
from solvers import SolverWarning, Status, rank_tsp, rank_tsp_batch, verify

# Less than any sum of allowed scores, and far enough from overflow.
FORBIDDEN = -(2**55)
KINDS = ("small", "ties", "large", "near-symmetric", "rows")
# About 1e-12, 1 and 1e12.
SCALES = (2.0**-40, 1.0, 2.0**40)


def best_values(scores, start=None, end=None, closed=False):
    """Greatest path scores of integer matrices (G, n, n), Held and Karp over sets; below FORBIDDEN / 2 if none is allowed."""
    G, n, _ = scores.shape
    if n == 1:
        return np.zeros(G, dtype=np.int64)
    first = 0 if closed else start
    value = np.full((1 << n, n, G), FORBIDDEN, dtype=np.int64)
    for i in range(n):
        if first is None or i == first:
            value[1 << i, i] = 0
    for subset in range(1, 1 << n):
        members = [i for i in range(n) if subset >> i & 1]
        for j in range(n):
            if not subset >> j & 1:
                reached = [value[subset, i] + scores[:, i, j] for i in members]
                value[subset | 1 << j, j] = np.maximum(np.max(reached, axis=0), FORBIDDEN)
    whole = value[-1]
    if closed:
        return np.max([whole[i] + scores[:, i, 0] for i in range(1, n)], axis=0)
    return whole.max(axis=0) if end is None else whole[end]


def integer_scores(rng, G, n, kind, forbidden):
    """Integer matrices; some arcs forbidden."""
    scores = rng.integers(-1000, 1001, (G, n, n))
    if kind == "ties":
        scores = rng.integers(-1, 2, (G, n, n))
    elif kind == "large":
        scores = rng.integers(-(2**46), 2**46, (G, n, n))
    elif kind == "near-symmetric":
        scores = scores + np.swapaxes(scores, 1, 2) + rng.integers(-20, 21, (G, n, n))
    elif kind == "rows":
        scores = scores + 10**6 * rng.integers(-3, 4, (G, n, 1))
    scores[rng.random((G, n, n)) < forbidden] = FORBIDDEN
    return scores


def as_floats(scores, scale, maximize):
    """The scores as the library takes them; negated where the problem is to minimise."""
    floats = np.where(scores == FORBIDDEN, -np.inf, scores * scale)
    return floats if maximize else -floats


def problems(rng, n):
    """Open, closed, with fixed ends; to maximise and to minimise."""
    closed = bool(rng.integers(3) == 0)
    start = int(rng.integers(n)) if rng.random() < 0.5 else None
    end = int(rng.integers(n)) if rng.random() < 0.5 and not closed and n > 1 else None
    end = None if end == start else end
    return {"start": start, "end": end, "closed": closed, "maximize": bool(rng.integers(2))}


def check(fun, bound, gap, status, best, scale, sign, kind):
    """One answer against the optimum ``best`` (an integer); what is not exact must be said to be so."""
    if best < FORBIDDEN // 2:
        assert status == Status.INFEASIBLE
        assert fun == bound == -sign * np.inf
        return
    assert sign * bound >= best * scale
    assert sign * fun <= best * scale
    assert status in (Status.OPTIMAL, Status.CONVERGED)
    size = max(abs(fun), abs(bound))
    assert best * scale - sign * fun <= max(1e-6, gap) * size
    if kind in ("small", "ties", "near-symmetric"):
        assert sign * fun == best * scale


@pytest.mark.parametrize("kind", KINDS)
def test_batches_agree_with_the_exact_recursion(kind):
    rng = np.random.default_rng(KINDS.index(kind))
    for n in (1, 2, 3, 4, 5, 6, 7, 8, 12):
        for forbidden in (0.0, 0.15, 0.5) if n < 12 else (0.15,):
            scores = integer_scores(rng, 60 if n < 8 else 20, n, kind, forbidden)
            problem, scale = problems(rng, n), SCALES[int(rng.integers(3))]
            sign = 1.0 if problem["maximize"] else -1.0
            floats = as_floats(scores, scale, problem["maximize"])
            best = best_values(scores, problem["start"], problem["end"], problem["closed"])
            batch = rank_tsp_batch(floats, rng=0, **problem)
            assert verify(batch, floats, **problem)
            for g in range(len(scores)):
                check(batch.fun[g], batch.bound[g], batch.gap[g], batch.status[g], best[g], scale, sign, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["auto", "exact", "heuristic"])
def test_single_problems_agree_with_the_exact_recursion(method, kind):
    rng = np.random.default_rng(100 + KINDS.index(kind))
    for n in (1, 2, 3, 4, 5, 6, 7, 8, 9):
        for forbidden in (0.0, 0.15, 0.5):
            scores = integer_scores(rng, 12 if n < 9 else 4, n, kind, forbidden)
            problem, scale = problems(rng, n), SCALES[int(rng.integers(3))]
            sign = 1.0 if problem["maximize"] else -1.0
            best = best_values(scores, problem["start"], problem["end"], problem["closed"])
            for matrix, value in zip(as_floats(scores, scale, problem["maximize"]), best, strict=True):
                result = rank_tsp(matrix, method=method, rng=0, **problem)
                checked = verify(result, matrix, **problem)
                assert checked, checked.message
                if method != "heuristic":
                    check(result.fun, result.bound, result.gap, result.status, value, scale, sign, kind)
                elif value < FORBIDDEN // 2:
                    assert result.x is None
                else:
                    assert sign * result.bound >= value * scale
                    assert sign * result.fun <= value * scale


@pytest.mark.parametrize("scale", [2.0**-400, *SCALES, 2.0**300])
@pytest.mark.parametrize("candidates", ["factors", "matrix"])
def test_the_search_on_candidates_agrees_with_the_exact_recursion(candidates, scale, monkeypatch):
    for module in (ranking._problem, ranking._rank_tsp, ranking._verify):
        monkeypatch.setattr(module, "LARGE_ITEMS", 1)
    rng = np.random.default_rng(7)
    for n in (2, 3, 4, 5, 6, 7, 8):
        for most in (1, 3, 50):
            U, V = rng.integers(-most, most + 1, (2, 16 if n < 8 else 4, n, int(rng.integers(1, 5))))
            problem = problems(rng, n)
            sign = 1.0 if problem["maximize"] else -1.0
            scores = np.einsum("gik,gjk->gij", U, V)
            best = best_values(int(sign) * scores, problem["start"], problem["end"], problem["closed"])
            for g, value in enumerate(best):
                given = (scale * U[g], 1.0 * V[g]) if candidates == "factors" else scale * scores[g]
                result = rank_tsp(given, rng=0, **problem)
                checked = verify(result, given, **problem)
                assert checked, checked.message
                assert sign * result.bound >= value * scale
                assert sign * result.fun <= value * scale
                assert result.gap < np.inf


@pytest.fixture(autouse=True)
def no_word_about_the_kind_of_score():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SolverWarning)
        yield
