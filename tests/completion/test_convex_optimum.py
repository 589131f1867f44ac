"""The bound against the optimum of the convex problem: where it is known in closed form, and from a conic solver.

The conic solver's answer is a matrix; no optimum is above its objective. Thousands of random problems are posed through the
front door, from memory, from files and from workers, and what each one proves is compared with that.
"""

import itertools

import numpy as np
import pytest
import scipy.sparse
from convex_completion import proves_no_more_than_the_optimum, random_case

from solvers.completion import StoredMatrix
from solvers.completion import _blocked_certificate as blocked_certificate
from solvers.completion import _certificate as certificate
from solvers.completion._observations import read_observations
from solvers.completion._problem import completion_problem


def bound_at(A, left, right, reg, weights=None, **options):
    observed = read_observations(A, weights, "error")
    full = {"reg_scaling": "plain", "loss": "l2", "delta": "auto", "biases": False} | options
    nothing = observed.keep(np.zeros(observed.size, bool))
    problem = completion_problem(observed, nothing, min(A.shape), reg=reg, **full)
    delta = full["delta"] if full["loss"] == "huber" else np.inf
    return certificate.dual_bound(problem, left, right, delta, checking=bool(len(A) % 2)).reestablished


def scaled(rng, A):
    A = A * 10.0 ** rng.uniform(-8, 8)
    if rng.random() < 0.4:
        A = A * 10.0 ** rng.uniform(-4, 4, size=(1, A.shape[1]))
    return A


def test_bound_never_exceeds_the_soft_thresholded_optimum_of_complete_matrices():
    rng = np.random.default_rng(0)
    closest = np.inf
    for _ in range(1500):
        A = scaled(rng, rng.standard_normal(rng.integers(1, 8, size=2)))
        U, s, Vt = np.linalg.svd(A, full_matrices=False)
        reg = float(s[0] * 10.0 ** rng.uniform(-6, 0.3))
        shrunk = np.maximum(s - reg, 0.0)
        optimum = float(np.sum(0.5 * np.minimum(s, reg) ** 2 + reg * shrunk))
        for step in (0.0, 10.0 ** rng.uniform(-10, 0)):
            left = U * shrunk + step * s[0] * rng.standard_normal(U.shape)
            bound = bound_at(A, left, Vt.T, reg)
            assert bound <= optimum * (1 + 1e-15)
            closest = min(closest, abs(1.0 - bound / optimum)) if step == 0.0 else closest
    assert closest < 1e-12


@pytest.mark.parametrize("huber", [False, True])
def test_bound_never_exceeds_the_optimum_of_one_entry_per_row_and_column(huber):
    rng = np.random.default_rng(1)
    for _ in range(1500):
        n = int(rng.integers(1, 7))
        a, w = scaled(rng, rng.standard_normal((1, n)))[0], 10.0 ** rng.uniform(-3, 3, n)
        A = np.full((n, n), np.nan)
        columns = rng.permutation(n)
        A[np.arange(n), columns] = a
        weights = np.ones((n, n))
        weights[np.arange(n), columns] = w
        reg = float(np.max(w * np.abs(a)) * 10.0 ** rng.uniform(-4, 0.5))
        delta = float(np.max(np.abs(a)) * 10.0 ** rng.uniform(-3, 0.5)) if huber else np.inf
        # Entry by entry: the residual t has w min(t, delta) <= reg, or x = 0.
        residual = np.minimum(np.abs(a), np.where(w * delta <= reg, np.inf, reg / w))
        loss = np.where(residual <= delta, 0.5 * residual**2, delta * (residual - 0.5 * min(delta, 1e300)))
        size = np.abs(a) - residual
        optimum = float(np.sum(w * loss + reg * size))
        left = np.diag(np.sign(a) * size) * (1.0 + 10.0 ** rng.uniform(-12, 0) * rng.choice([-1, 0, 1]))
        right = np.eye(n)[columns].T
        options = {"loss": "huber", "delta": delta} if huber else {}
        assert bound_at(A, left, right, reg, weights, **options) <= optimum * (1 + 1e-14)


def distances(count, seed, stored=None, *, solve=True):
    """Of the bounds of so many problems from their optima."""
    out = []
    for position in range(count):
        posed = random_case(np.random.default_rng([seed, position]), blocked=stored is not None)
        parts = stored(posed) if stored else ()
        out.append(proves_no_more_than_the_optimum(posed, *parts, solve=solve))
    return np.array(out)


@pytest.fixture
def stored(tmp_path):
    """A problem's entries and weights in files of many blocks."""
    fresh = itertools.count()

    def written(posed):
        seen = ~np.isnan(posed.A)
        weights = posed.problem.get("weights")
        return tuple(
            part
            if part is None
            else StoredMatrix.write(
                tmp_path / f"{next(fresh)}-{name}",
                scipy.sparse.csr_array((part[seen], np.nonzero(seen)), shape=seen.shape),
                dtype=part.dtype,
                block_bytes=100,
            )
            for name, part in (("A", posed.A), ("W", weights))
        )

    return written


def test_no_run_proves_more_than_the_optimum_of_the_conic_solver():
    assert np.mean(distances(150, 0) < 1e-5) > 0.6


def test_no_run_on_files_proves_more_than_the_optimum_of_the_conic_solver(stored):
    assert np.mean(distances(25, 1, stored) < 1e-5) > 0.6


@pytest.mark.slow
@pytest.mark.parametrize("block", range(7))
def test_none_of_thousands_of_runs_proves_more_than_the_optimum_of_the_conic_solver(block):
    assert np.mean(distances(300, 10 + block) < 1e-5) > 0.6


@pytest.mark.slow
def test_none_of_hundreds_of_proofs_exceeds_the_optimum_when_it_is_run_or_verified_on_files(stored):
    assert np.mean(distances(60, 2, stored) < 1e-5) > 0.6
    assert np.mean(distances(240, 3, stored, solve=False) < 1e-5) > 0.6


@pytest.mark.slow
def test_deflated_norms_prove_no_more_than_the_optimum_either(stored, monkeypatch):
    for module in (certificate, blocked_certificate):
        monkeypatch.setattr(module, "DENSE_WORK", 0.0)
    assert np.min(distances(100, 4)) >= -1e-14
    assert np.min(distances(100, 5, stored, solve=False)) >= -1e-14
