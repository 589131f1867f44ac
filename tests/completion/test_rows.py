"""The solvers of the rows of a half sweep."""

import math

import numpy as np
import pytest
from completion_problems import low_rank, observed_part

from solvers.completion import _kernels_numba as kernels
from solvers.completion import _kernels_panel as panels
from solvers.completion._observations import read_observations
from solvers.completion._problem import completion_problem
from solvers.completion._sweeps import (
    SKETCH_FACTOR,
    Factors,
    Orientation,
    SweepRule,
    Workspace,
    _orthogonal,
    chosen_modes,
    half_sweep,
    improve_rows,
)


def equal_rows(rng, n, d, k, dtype=np.float64):
    """A fixed factor with orthonormal columns and ``n`` rows of ``d`` random entries."""
    indptr = np.arange(0, n * d + 1, d)
    indices = rng.integers(0, n, n * d).astype(np.int32)
    fixed = np.linalg.qr(rng.standard_normal((n, k)))[0].astype(dtype)
    values = rng.standard_normal(n * d).astype(dtype)
    return Orientation(indptr, indices, values, np.empty(0, dtype)), fixed


def solve(side, fixed, mode, steps, penalty=None, eta=0.0):
    m, k = len(side.indptr) - 1, fixed.shape[1]
    x, losses = np.zeros((m, k), fixed.dtype), np.empty(m)
    penalty = np.zeros(k, fixed.dtype) if penalty is None else penalty
    kernels.solve_rows(
        side.indptr, side.indices, side.values, side.weights, fixed, penalty, np.ones(k, fixed.dtype),
        np.full(m, mode, dtype=np.int8), np.empty((0, 0), fixed.dtype), eta, steps, SKETCH_FACTOR * k + 1, 1, x, losses,
    )  # fmt: skip
    return x, losses


@pytest.mark.parametrize(("d", "k"), [(160, 40), (250, 50)])
def test_conjugate_gradients_contract_as_the_marchenko_pastur_law_says(d, k):
    rng = np.random.default_rng(k)
    side, fixed = equal_rows(rng, 4000, d, k)
    exact, _ = solve(side, fixed, kernels.BY_GRAM, 0)
    errors = [np.linalg.norm(solve(side, fixed, kernels.BY_CG, steps)[0] - exact) for steps in (3, 6)]
    assert (errors[1] / errors[0]) ** (1 / 3) == pytest.approx(math.sqrt(k / d), rel=0.12)


def test_leverage_sample_contracts_by_the_size_of_the_sample_whatever_the_skew():
    rng = np.random.default_rng(0)
    n, d, k = 400, 1000, 15
    side, fixed = equal_rows(rng, n, d, k)
    side.weights = 10.0 ** rng.uniform(-3, 1, n * d)
    exact, _ = solve(side, fixed, kernels.BY_GRAM, 0)
    size = np.linalg.norm(exact)
    sketched = [np.linalg.norm(solve(side, fixed, kernels.BY_SKETCH, steps)[0] - exact) / size for steps in (4, 8)]
    assert (sketched[1] / sketched[0]) ** 0.25 < 1.3 / math.sqrt(SKETCH_FACTOR)
    assert sketched[1] < 0.02


def test_every_solver_reaches_the_solution_of_the_normal_equations():
    rng = np.random.default_rng(1)
    for dtype, accuracy in ((np.float64, 1e-9), (np.float32, 2e-3)):
        for d, k in ((90, 6), (70, 20), (15, 3), (1, 1)):
            side, fixed = equal_rows(rng, 60, d, k, dtype)
            penalty = np.sort(10.0 ** rng.uniform(-3, 1, k)).astype(dtype)
            for weights in (np.empty(0, dtype), rng.uniform(0.5, 2.0, 60 * d).astype(dtype)):
                side.weights = weights
                reference, losses = solve(side, fixed, kernels.BY_GRAM, 0, penalty)
                w = weights.reshape(60, d) if len(weights) else np.ones((60, d))
                panels = fixed[side.indices].reshape(60, d, k).astype(np.float64)
                gram = np.einsum("idk,id,idl->ikl", panels, w, panels) + np.diag(penalty)
                slope = np.einsum("idk,id->ik", panels, w * side.values.reshape(60, d))
                np.testing.assert_allclose(reference, np.linalg.solve(gram, slope[..., None])[..., 0], atol=accuracy)
                for mode in (kernels.BY_CG, kernels.BY_SKETCH):
                    found, _ = solve(side, fixed, mode, 300, penalty, eta=accuracy / 100)
                    np.testing.assert_allclose(found, reference, atol=accuracy)
                misses = side.values.reshape(60, d) - np.einsum("idk,ik->id", panels, reference)
                np.testing.assert_allclose(losses, np.sum(w * misses**2, axis=1), rtol=1e-2, atol=accuracy)


def test_rows_with_fewer_entries_than_unknowns_are_solved_in_their_dual():
    rng = np.random.default_rng(2)
    side, fixed = equal_rows(rng, 50, 4, 9)
    side.indices[:] = np.concatenate([rng.permutation(50)[:4] for _ in range(50)])
    penalty = np.sort(10.0 ** rng.uniform(-6, 2, 9))
    np.testing.assert_allclose(
        solve(side, fixed, kernels.BY_DUAL, 0, penalty)[0],
        solve(side, fixed, kernels.BY_GRAM, 0, penalty)[0],
        atol=1e-8,
    )
    shortest, losses = solve(side, fixed, kernels.BY_DUAL, 0)
    for i, x in enumerate(shortest):
        part = slice(4 * i, 4 * i + 4)
        np.testing.assert_allclose(x, np.linalg.pinv(fixed[side.indices[part]]) @ side.values[part], atol=1e-6)
    assert losses.max() < 1e-12


def test_cost_model_takes_normal_equations_steps_or_sample_where_each_is_cheapest():
    counts = np.array([3, 60, 400, 20_000, 20_000])
    effective = np.array([3.0, 60.0, 400.0, 20_000.0, 70.0])
    few = chosen_modes(counts, 5, SweepRule("auto", 1e-6), effective)
    assert few.tolist() == [kernels.BY_DUAL] + [kernels.BY_GRAM] * 4
    many = chosen_modes(counts, 60, SweepRule("auto", 0.1), effective)
    assert many.tolist() == [kernels.BY_DUAL, kernels.BY_GRAM, kernels.BY_CG, kernels.BY_CG, kernels.BY_SKETCH]
    assert set(chosen_modes(counts, 5, SweepRule("sketch", 0.1)).tolist()) == {kernels.BY_DUAL, kernels.BY_SKETCH}
    assert set(chosen_modes(counts, 2, SweepRule("exact")).tolist()) == {kernels.BY_GRAM}


def test_effective_counts_see_uneven_weights_and_leverages():
    indptr, indices = np.array([0, 4, 8]), np.array([0, 1, 2, 3] * 2, dtype=np.int32)
    even, heavy = np.ones(4), np.array([1.0, 1e-9, 1e-9, 1e-9])
    nothing = np.empty(0)
    np.testing.assert_allclose(kernels.effective_counts(indptr, indices, nothing, even), 4.0)
    np.testing.assert_allclose(kernels.effective_counts(indptr, indices, nothing, heavy), 1.0, rtol=1e-6)
    weights = np.concatenate([even, heavy])
    np.testing.assert_allclose(kernels.effective_counts(indptr, indices, weights, even), [4.0, 1.0], rtol=1e-6)


@pytest.mark.parametrize("eta", [0.9, 0.1, 1e-6])
@pytest.mark.parametrize("inner", ["auto", "exact", "sketch"])
def test_no_half_sweep_raises_the_objective_however_inexact(inner, eta):
    rng = np.random.default_rng(3)
    for count in range(6):
        truth = low_rank(90, 70, 8, 10, rng)
        rows, cols, values, shape = observed_part(*truth, 3, rng, noise=0.1)
        weights = rng.uniform(0.1, 3.0, len(rows)) if count % 2 else None
        observed = read_observations((rows, cols, values, shape), weights, "error")
        problem = completion_problem(
            observed, observed.keep(np.zeros(observed.size, bool)), 8,
            reg=0.0 if count % 3 else 2.0, reg_scaling="plain", loss="l2", delta="auto", biases=False,
        )  # fmt: skip
        work = Workspace(problem)
        factors = Factors(
            np.linalg.qr(rng.standard_normal((90, 8)))[0], np.sort(10.0 ** rng.uniform(-2, 2, 8))[::-1].copy(),
            np.linalg.qr(rng.standard_normal((70, 8)))[0],
        )  # fmt: skip
        fun = np.inf
        for turn in range(10):
            factors, fresh = half_sweep(work, factors, SweepRule(inner, eta), columns=bool(turn % 2))
            assert fresh <= fun * (1 + 1e-12) + 1e-12
            fun = fresh


def test_popular_columns_are_allowed_for_by_one_factor_of_all_rows():
    rng = np.random.default_rng(4)
    n, d, k = 600, 120, 10
    side, fixed = equal_rows(rng, n, d, k)
    popular = np.argsort(-np.abs(fixed[:, 0]))[: n // 3]
    side.indices[:] = rng.choice(popular, n * d)
    exact, _ = solve(side, fixed, kernels.BY_GRAM, 0)
    plain, _ = solve(side, fixed, kernels.BY_CG, 3)
    shared = np.zeros((n, k))
    rule = SweepRule("auto", 1e-9, 3)
    improve_rows(side, fixed, np.zeros(k), np.ones(k), rule, 1, shared)
    assert np.linalg.norm(shared - exact) < 0.5 * np.linalg.norm(plain - exact)


def test_dual_equations_for_a_row_of_many_entries_are_the_normal_ones():
    side, fixed = equal_rows(np.random.default_rng(7), 30, 12, 4)
    np.testing.assert_array_equal(solve(side, fixed, kernels.BY_DUAL, 0)[0], solve(side, fixed, kernels.BY_GRAM, 0)[0])


@pytest.mark.parametrize("mode", [kernels.BY_GRAM, kernels.BY_DUAL, kernels.BY_CG, kernels.BY_SKETCH])
def test_numbers_that_are_not_finite_come_back_and_end(mode):
    side, fixed = equal_rows(np.random.default_rng(8), 30, 12 if mode != kernels.BY_DUAL else 3, 4)
    fixed[side.indices[0]] = np.nan
    assert not np.isfinite(solve(side, fixed, mode, 5)[1][0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_passes_in_vector_registers_are_those_of_plain_loops(dtype):
    rng = np.random.default_rng(9)
    accuracy = 1e-12 if dtype == np.float64 else 2e-4
    for k in (1, 2, 3, 5, 8, 9, 16, 17, 31, 40, 50, 64, 100, 128, 140):
        for d in (0, 1, 3, 4, 7, 40):
            width, blocks = panels.padded_width(k, np.dtype(dtype).itemsize), -(-d // 4) * 4
            fixed, indices = rng.standard_normal((30, k)).astype(dtype), rng.integers(0, 30, d + 1).astype(np.int32)
            # The last row of the factor has nothing behind it.
            indices[1:2] = 29
            weights = rng.uniform(0.5, 2.0, d + 1).astype(dtype) if d % 2 else np.empty(0, dtype)
            x, r = np.zeros(width, dtype), np.zeros(blocks, dtype)
            x[:k], r[:d] = rng.standard_normal(k), rng.standard_normal(d)
            g, q, w = (np.zeros(size, dtype) for size in (width, width, blocks))
            panel, expected = np.full((blocks, width), np.nan, dtype), np.zeros((blocks, width), dtype)
            expected[:d, :k] = fixed[indices[1:]] * (np.sqrt(weights[1:, None]) if len(weights) else 1.0)
            plain_r, plain_g, plain_q, plain_w = r.copy(), g.copy(), q.copy(), w.copy()
            squares = [
                panels.load_and_pull(indices, 1, d, fixed, weights, panel, x, r, g),
                panels.push_and_pull(panel, x, w, q),
            ]
            plain = [
                panels.plain_pass(expected, x, plain_r, plain_g, True),
                panels.plain_pass(expected, x, plain_w, plain_q, False),
            ]
            for found, sought in [(panel, expected), (r, plain_r), (g, plain_g), (q, plain_q), (w, plain_w)]:
                np.testing.assert_allclose(found, sought, rtol=accuracy, atol=accuracy)
            np.testing.assert_allclose(squares, plain, rtol=10 * accuracy, atol=accuracy)
            if panels.is_narrow(k, np.dtype(dtype).itemsize):
                slope, gram = np.empty(width, dtype), np.empty((width, width), dtype)
                panels.normal_equations(indices, 1, d, fixed, weights, panel, r, slope, gram)
                np.testing.assert_allclose(gram, expected.T @ expected, rtol=accuracy, atol=accuracy)
                np.testing.assert_allclose(slope, expected.T @ r, rtol=accuracy, atol=accuracy)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bases_are_orthonormal_and_span_what_they_are_given_at_any_condition(dtype):
    rng = np.random.default_rng(10)
    unit = np.finfo(dtype).eps
    for condition in (1.0, 1e2, 1e3, 1e6, 1e12):
        q, turn = np.linalg.qr(rng.standard_normal((200, 6)))[0], np.linalg.qr(rng.standard_normal((6, 6)))[0]
        x = (q * np.logspace(0, -np.log10(condition), 6) @ turn).astype(dtype)
        basis, s, back = _orthogonal(x)
        # Half of the digits of a squared condition number may go before a second Gram matrix is taken.
        np.testing.assert_allclose(basis.T @ basis, np.eye(6), atol=1e4 * unit)
        np.testing.assert_allclose(back.T @ back, np.eye(6), atol=100 * unit)
        np.testing.assert_allclose((basis * s) @ back.T, x, atol=100 * unit)
        np.testing.assert_allclose(s, np.linalg.svd(x.astype(float), compute_uv=False), atol=100 * unit)
