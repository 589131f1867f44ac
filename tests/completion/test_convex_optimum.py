"""The bound against the optimum of the convex problem: where it is known in closed form, and from a conic solver."""

import warnings

import numpy as np
import pytest
from completion_problems import small_dense

import solvers
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


def conic_problem(rng, count):
    """One of the four variants in turn, on scaled data with gaps."""
    A = small_dense(rng, 5)
    size = float(np.nanmax(np.abs(A)))
    options = [{}, {"reg_scaling": "count"}, {"loss": "huber"}, {"loss": "huber", "reg_scaling": "count"}][count % 4]
    if "loss" in options:
        options["delta"] = size * 10.0 ** rng.uniform(-1, 0.3)
    weights = 10.0 ** rng.uniform(-1, 1, A.shape) if count % 3 == 0 else None
    return A, size * 10.0 ** rng.uniform(-2, 0.5), weights, options, size


def against_conic_solver(count, seed):
    rng = np.random.default_rng(seed)
    solved = 0
    for position in range(count):
        A, reg, weights, options, size = conic_problem(rng, position)
        result = solvers.complete_matrix(A, min(A.shape), reg=reg, weights=weights, tol=1e-9, rng=0, **options)
        assert solvers.verify(result, A, min(A.shape), reg=reg, weights=weights, **options)
        unit = {name: value / size if name == "delta" else value for name, value in options.items()}
        model = solvers.reference_model(
            "complete_matrix", A / size, min(A.shape), reg=reg / size, weights=weights, **unit
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.solve(solver="CLARABEL")
        if model.status == "optimal":
            solved += 1
            assert result.bound <= model.value * size**2 * (1 + 1e-6) + 1e-7 * reg * size
    return solved


def test_bound_never_exceeds_the_optimum_of_a_conic_solver():
    assert against_conic_solver(24, 2) >= 20


@pytest.mark.slow
def test_bound_never_exceeds_the_optimum_of_a_conic_solver_on_hundreds():
    assert against_conic_solver(400, 3) >= 380
