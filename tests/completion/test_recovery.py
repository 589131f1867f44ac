import math

import numpy as np
import pytest
import scipy.sparse
from completion_problems import low_rank, observed_part, relative_error

import solvers
from solvers.completion import select_rank


def test_ill_conditioned_matrices_are_recovered_from_every_seed():
    for seed in range(5):
        rng = np.random.default_rng(seed)
        truth = low_rank(500, 400, 4, 100, rng)
        result = solvers.complete_matrix(observed_part(*truth, 5, rng), 4, tol=1e-12, rng=0)
        assert result.determined is True
        assert relative_error(result, *truth) < 1e-8


@pytest.mark.parametrize("method", ["altmin", "altmin-exact", "altmin-sketch"])
def test_every_inner_solver_recovers(method):
    rng = np.random.default_rng(1)
    truth = low_rank(150, 140, 20, 5, rng)
    result = solvers.complete_matrix(observed_part(*truth, 2.9, rng), 20, method=method, tol=1e-12, rng=0)
    assert relative_error(result, *truth) < 1e-8


def test_error_under_noise_is_near_that_of_an_oracle_who_knows_the_tangent_space():
    rng = np.random.default_rng(2)
    n, rank, sigma, oversampling = 300, 4, 0.01, 8
    truth = low_rank(n, n, rank, 5, rng)
    A = observed_part(*truth, oversampling, rng, noise=sigma)
    result = solvers.complete_matrix(A, rank, rng=0)
    assert result.status.name == "CONVERGED"
    rmse = relative_error(result, *truth) * np.linalg.norm(truth[1]) / n
    assert rmse <= 1.25 * sigma * math.sqrt(rank * (2 * n - rank) / len(A[2]))


@pytest.mark.parametrize(("share", "oversampling"), [(0.1, 4), (0.2, 8), (0.3, 10)])
def test_gross_outliers_are_found_and_do_no_harm(share, oversampling):
    for seed in range(2):
        rng = np.random.default_rng(seed)
        truth = low_rank(300, 300, 4, 2, rng)
        rows, cols, values, shape = observed_part(*truth, oversampling, rng)
        bad = rng.choice(len(values), round(share * len(values)), replace=False)
        values[bad] += np.abs(values).max() * rng.uniform(1.7, 3.3, len(bad)) * rng.choice([-1, 1], len(bad))
        result = solvers.complete_matrix((rows, cols, values, shape), 4, loss="huber", rng=0)
        assert relative_error(result, *truth) < 1e-8
        assert set(map(tuple, result.outliers)) >= set(zip(rows[bad], cols[bad], strict=True))


def with_gross_errors(shape, rank, density, size, rng, sigma=0.05):
    """Noisy entries of a Gaussian matrix of low rank, a tenth of them off by ``size``; the matrix; which are off."""
    truth = rng.normal(size=(shape[0], rank)) @ rng.normal(size=(rank, shape[1]))
    rows, cols = np.nonzero(rng.random(shape) < density)
    values = truth[rows, cols] + sigma * rng.normal(size=len(rows))
    bad = rng.random(len(rows)) < 0.1
    values[bad] += size * rng.choice([-1, 1], bad.sum())
    return (rows, cols, values, shape), truth, bad


@pytest.mark.parametrize(
    ("shape", "rank", "density", "seeds"),
    [((60, 40), 3, 0.49, (0, 6, 41, 54, 56)), ((200, 150), 4, 0.15, (2, 8, 54, 61))],
)
@pytest.mark.parametrize("size", [50.0, 5.0])
def test_gross_outliers_among_noise_are_found_and_leave_the_noise_as_the_only_error(shape, rank, density, seeds, size):
    """Seeds at which Huber loss without a cap has a better minimum elsewhere, or rows settle on their outliers."""
    for seed in seeds:
        A, truth, bad = with_gross_errors(shape, rank, density, size, np.random.default_rng(seed))
        result = solvers.complete_matrix(A, rank, loss="huber", rng=0)
        assert result.success
        freedom = rank * (sum(shape) - rank)
        rmse = np.sqrt(np.mean(((result.U * result.s) @ result.V.T - truth) ** 2))
        assert rmse < 2 * 0.05 * math.sqrt(freedom / np.sum(~bad))
        listed = set(map(tuple, result.outliers))
        assert listed >= set(zip(A[0][bad], A[1][bad], strict=True))
        assert len(listed) <= bad.sum() + 5
        assert solvers.verify(result, A, rank, loss="huber")


@pytest.mark.parametrize("size", [50.0, 5.0])
def test_row_whose_entries_do_not_tell_which_of_them_are_outliers_is_no_success(size):
    """Row 41 has four sound entries and three gross errors; other four of the seven lie on a fit as well."""
    A, truth, _ = with_gross_errors((60, 40), 3, 0.4, size, np.random.default_rng(49))
    result = solvers.complete_matrix(A, 3, loss="huber", rng=0)
    wrong = np.abs((result.U * result.s) @ result.V.T - truth).max(axis=1) > 0.2 * size
    assert np.flatnonzero(wrong).tolist() == [41]
    assert not result.success
    assert "outliers just as well in rows [41]" in result.message


def test_error_among_no_more_entries_than_unknowns_is_not_vouched_for():
    rng = np.random.default_rng(1)
    truth = rng.standard_normal((40, 2)) @ rng.standard_normal((2, 30))
    A = np.where(rng.random(truth.shape) < 0.7, truth, np.nan)
    A[5, 2:] = np.nan
    A[5, :2] = truth[5, :2] + [0.0, 30.0]
    clean = solvers.complete_matrix(A, 2, loss="huber", rng=0, tol=1e-12)
    assert clean.success
    A[7, np.flatnonzero(~np.isnan(A[7]))[0]] += 30.0
    result = solvers.complete_matrix(A, 2, loss="huber", rng=0, tol=1e-12)
    assert not result.success
    assert "rows [5]" in result.message


def test_more_outliers_than_can_be_found_are_no_success():
    rng = np.random.default_rng(0)
    truth = low_rank(300, 300, 5, 2, rng)
    rows, cols, values, shape = observed_part(*truth, 6, rng, noise=0.05)
    bad = rng.choice(len(values), round(0.35 * len(values)), replace=False)
    values[bad] += np.abs(values).max() * rng.uniform(1.7, 3.3, len(bad)) * rng.choice([-1, 1], len(bad))
    result = solvers.complete_matrix((rows, cols, values, shape), 5, loss="huber", rng=0)
    assert relative_error(result, *truth) > 1.0
    assert not result.success
    assert "different starts" in result.message
    assert solvers.verify(result, (rows, cols, values, shape), 5, loss="huber")


def test_no_other_start_has_a_lower_capped_loss_than_the_answer():
    from solvers.completion._certificate import objective
    from solvers.completion._observations import read_observations
    from solvers.completion._problem import completion_problem

    rng = np.random.default_rng(7)
    A, truth, _ = with_gross_errors((60, 40), 3, 0.4, 50.0, rng)
    result = solvers.complete_matrix(A, 3, loss="huber", rng=0)
    observed = read_observations(A, None, "error")
    problem = completion_problem(
        observed, observed.keep(np.zeros(observed.size, bool)), 3,
        reg=0.0, reg_scaling="plain", loss="huber", delta="auto", biases=False,
    )  # fmt: skip
    u, s, vt = np.linalg.svd(truth, full_matrices=False)
    assert result.fun <= objective(problem, u[:, :3] * s[:3], vt[:3].T, result.delta)[0]
    for seed in range(1, 6):
        other = solvers.complete_matrix(A, 3, loss="huber", rng=seed)
        assert result.fun <= objective(problem, other.U * other.s, other.V, result.delta)[0] * 1.001


def test_clean_data_lose_nothing_to_outlier_rejection():
    rng = np.random.default_rng(3)
    truth = low_rank(200, 200, 3, 3, rng)
    result = solvers.complete_matrix(observed_part(*truth, 6, rng), 3, loss="huber", rng=0)
    assert relative_error(result, *truth) < 1e-8


def test_small_residual_below_the_information_limit_is_not_called_success():
    rng = np.random.default_rng(4)
    truth = low_rank(60, 60, 4, 2, rng)
    result = solvers.complete_matrix(observed_part(*truth, 0.95, rng), 4, tol=1e-6, rng=0, holdout=0.05)
    assert not result.success
    assert result.determined is False
    assert "do not determine" in result.message


def test_rows_without_enough_entries_are_reported_by_index():
    A = np.outer(np.arange(1.0, 9.0), np.arange(1.0, 8.0)) + np.outer(np.ones(8), np.arange(7.0) ** 2)
    A[3, 1:] = np.nan
    A[:, 5] = np.nan
    result = solvers.complete_matrix(A, 2, rng=0)
    assert result.short_rows.tolist() == [3]
    assert result.short_cols.tolist() == [5]
    assert result.determined is False
    assert not result.success


def test_uniqueness_check_agrees_with_the_dense_rank_of_the_tangent_system():
    rng = np.random.default_rng(5)
    seen = set()
    for _ in range(60):
        m, n, rank = 9, 8, 2
        truth = low_rank(m, n, rank, 2, rng)
        rows, cols, values, shape = observed_part(*truth, rng.uniform(1.0, 1.6), rng)
        result = solvers.complete_matrix((rows, cols, values, shape), rank, tol=1e-12, rng=0, x0=truth)
        U, V = result.U, result.V
        system = np.zeros((len(rows), (m + n) * rank))
        for t, (i, j) in enumerate(zip(rows, cols, strict=True)):
            system[t, i * rank : (i + 1) * rank] = V[j]
            system[t, (m + j) * rank : (m + j + 1) * rank] = U[i]
        determined = np.linalg.matrix_rank(system, tol=1e-9) == (m + n) * rank - rank**2
        assert result.determined is bool(determined)
        seen.add(bool(determined))
    assert seen == {True, False}


def test_weights_biases_and_kinds_of_input_describe_one_problem():
    rng = np.random.default_rng(7)
    A = rng.standard_normal((12, 9))
    A[rng.random(A.shape) < 0.3] = np.nan
    w = rng.uniform(0.5, 2.0, A.shape)
    rows, cols = np.nonzero(~np.isnan(A))
    order = rng.permutation(len(rows))
    triplets = rows[order], cols[order], A[rows, cols][order], A.shape
    sparse = scipy.sparse.csr_array((A[rows, cols], (rows, cols)), shape=A.shape)
    options = {"reg": 0.5, "biases": True, "tol": 1e-9, "rng": 0}
    reference = solvers.complete_matrix(A, 9, weights=w, **options)
    for data, weights in [
        (triplets, w[rows, cols][order]),
        (sparse, w),
        (sparse.tocsc(), w),
        (A.astype(np.float64).tolist(), w.tolist()),
        (np.asfortranarray(A), w),
    ]:
        result = solvers.complete_matrix(data, 9, weights=weights, **options)
        assert result.fun == pytest.approx(reference.fun, rel=1e-9)
    integer = solvers.complete_matrix(A, 9, weights=np.where(w > 1, 2, 1), **options)
    twice = [np.concatenate([part, part[w[rows, cols] > 1]]) for part in (rows, cols, A[rows, cols])]
    repeated = solvers.complete_matrix((*twice, A.shape), 9, duplicates="mean", **options)
    assert repeated.fun == pytest.approx(integer.fun, rel=1e-9)


def test_prediction_adds_biases_and_never_forms_the_matrix():
    rng = np.random.default_rng(8)
    A = rng.standard_normal((30, 20)) + np.arange(20)
    result = solvers.complete_matrix(A, 3, biases=True, rng=0)
    full = (result.U * result.s) @ result.V.T + result.row_bias[:, None] + result.col_bias
    np.testing.assert_allclose(result.predict(np.arange(30)[:, None], np.arange(20)), full)
    with pytest.raises(ValueError, match=r"rows must lie in 0\.\.29"):
        result.predict([30], [0])


def test_warm_start_continues_where_the_result_stood():
    rng = np.random.default_rng(9)
    truth = low_rank(100, 90, 3, 3, rng)
    A = observed_part(*truth, 5, rng)
    first = solvers.complete_matrix(A, 3, tol=1e-12, rng=0)
    again = solvers.complete_matrix(A, 3, tol=1e-12, rng=0, x0=first)
    assert again.nit <= 1
    lower = solvers.complete_matrix(A, 2, rng=0)
    assert relative_error(solvers.complete_matrix(A, 3, tol=1e-12, rng=0, x0=lower), *truth) < 1e-8


def test_single_precision_sweeps_give_an_answer_verified_in_double():
    rng = np.random.default_rng(10)
    A = observed_part(*low_rank(80, 90, 3, 3, rng), 6, rng, noise=0.1)
    result = solvers.complete_matrix(A, 6, reg=5.0, tol=1e-4, rng=0, options={"precision": "single"})
    assert result.gap <= 1e-4
    assert solvers.verify(result, A, 6, reg=5.0)


def test_held_out_entries_are_not_fitted_and_verified_by_position():
    rng = np.random.default_rng(11)
    truth = low_rank(100, 90, 3, 3, rng)
    A = observed_part(*truth, 6, rng)
    result = solvers.complete_matrix(A, 3, tol=1e-12, rng=0, holdout=0.2)
    assert len(result.holdout_index) == round(0.2 * len(A[2]))
    assert result.holdout_rmse < 1e-7
    assert solvers.verify(result, A, 3, holdout=0.2)
    assert not solvers.verify(result, A, 3, holdout=0.1)


@pytest.mark.parametrize(
    ("A", "kwargs", "words"),
    [
        (np.full((3, 3), np.nan), {}, "at least one observed entry"),
        (np.full((3, 3), np.inf), {}, "finite or NaN"),
        (np.ones((3, 3)), {"rank": 4}, "at most min"),
        (np.ones((3, 3)), {"rank": 0}, "rank"),
        (np.ones((3, 3)), {"reg": -1.0}, "reg"),
        (np.ones((3, 3)), {"weights": -np.ones((3, 3))}, "non-negative"),
        (np.ones((3, 3)), {"weights": np.zeros((3, 3))}, "all be zero"),
        (np.ones((3, 3)), {"weights": np.ones(3)}, "weights"),
        (np.ones((3, 3)), {"holdout": 1.0}, "holdout"),
        (np.ones((3, 3)), {"delta": 1.0}, "delta"),
        (np.ones((3, 3)), {"reg_scaling": "counts"}, "reg_scaling"),
        (np.ones((3, 3)), {"x0": (np.ones((2, 1)), np.ones((3, 1)))}, "x0"),
        (([0, 0], [1, 1], [1.0, 2.0], (2, 2)), {}, "duplicates='mean'"),
        (([0, 5], [1, 1], [1.0, 2.0], (2, 2)), {}, r"0\.\.1"),
        (([0, 1], [1, 1], [1.0, np.nan], (2, 2)), {}, "NaN"),
        (([0, 1], [1], [1.0, 2.0], (2, 2)), {}, "one length"),
    ],
)
def test_wrong_input_is_refused_with_a_reason(A, kwargs, words):
    options = {"rank": 1} | kwargs
    with pytest.raises(ValueError, match=words):
        solvers.complete_matrix(A, options.pop("rank"), **options)


@pytest.mark.parametrize(
    "shape",
    [None, 3, (3,), (3, 3, 3), "ab", (3.5, 3), (math.nan, 3), (10**400, 3), (2**31, 3), (0, 3), (True, 3), [[3, 3]]],
)
def test_a_shape_that_is_none_is_refused_by_name_and_briefly(shape):
    with pytest.raises(solvers.InvalidProblemError, match=r"shape must be two integers from 1 to \d+; got") as caught:
        solvers.complete_matrix(([0, 1], [0, 1], [1.0, 2.0], shape), 1)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("bad", [10**400, "a", 1j, [1.0, 2.0]])
def test_a_start_that_holds_no_real_numbers_is_refused_by_name(part, bad):
    parts = [[[1.0]] * 3, [1.0], [[1.0]] * 3]
    parts[part] = [[bad], [1.0], [1.0]] if part != 1 else [bad, 1.0]
    with pytest.raises(solvers.InvalidProblemError, match=r"x0 must have .* real numbers in the range of float64; got"):
        solvers.complete_matrix(np.ones((3, 3)), 1, x0=tuple(parts))


@pytest.mark.parametrize("name", ["reg", "tol", "holdout", "delta"])
def test_integers_beyond_the_range_of_numbers_are_refused_by_name(name):
    with pytest.raises(ValueError, match=f"{name} must be a finite number"):
        solvers.complete_matrix(np.ones((3, 3)), 1, loss="huber", **{name: 10**400})


def test_constant_and_zero_matrices_complete():
    constant = np.full((5, 4), 2.5)
    constant[0, 0] = np.nan
    assert solvers.complete_matrix(constant, 1, tol=1e-12, rng=0).predict(0, 0) == pytest.approx(2.5)
    zero = solvers.complete_matrix(np.zeros((4, 4)), 1, rng=0)
    assert zero.fun == 0.0
    assert zero.status.name in ("OPTIMAL", "STALLED")


def test_few_entries_per_degree_of_freedom_are_enough_where_alternating_minimisation_stalls():
    rng = np.random.default_rng(0)
    m, n, rank = 150, 160, 4
    truth = low_rank(m, n, rank, 10, rng)
    seen = rng.random((m, n)) < 1.35 * rank * (m + n - rank) / (m * n)
    for _ in range(3):
        seen[np.arange(m), rng.integers(0, n, m)] |= seen.sum(axis=1) <= rank + 1
        seen[rng.integers(0, m, n), np.arange(n)] |= seen.sum(axis=0) <= rank + 1
    A = np.where(seen, (truth[0] * truth[1]) @ truth[2].T, np.nan)
    plain = solvers.complete_matrix(A, rank, tol=1e-12, rng=0, method="altmin", max_iter=100)
    assert relative_error(plain, *truth) > 1e-3
    result = solvers.complete_matrix(A, rank, tol=1e-12, rng=0)
    assert result.method == "gauss-newton"
    assert result.determined is True
    assert relative_error(result, *truth) < 1e-8


def test_gauss_newton_is_refused_where_it_does_not_apply():
    with pytest.raises(ValueError, match="gauss-newton"):
        solvers.complete_matrix(np.ones((4, 4)), 1, reg=1.0, method="gauss-newton")


def test_what_is_not_there_for_arrays_of_other_libraries_is_refused_rather_than_copied():
    import array_api_strict

    with pytest.raises(solvers.BackendError, match="convert to NumPy"):
        select_rank(array_api_strict.ones((4, 4)), 1)


@pytest.mark.parametrize("weighted", [False, True])
def test_truncated_steps_reach_the_least_squares_solution_of_the_tangent_system(weighted):
    from solvers.completion import _kernels_tangent as tangent

    rng = np.random.default_rng(0)
    m, n, k = 7, 6, 2
    mask = scipy.sparse.csr_array((rng.random((m, n)) < 0.7).astype(float))
    rows, cols = mask.nonzero()
    left, right = rng.standard_normal((m, k)), rng.standard_normal((n, k))
    weights = rng.uniform(0.5, 2.0, len(rows)) if weighted else np.empty(0)
    jacobian = np.zeros((len(rows), m + n, k))
    at = np.arange(len(rows))
    jacobian[at, rows], jacobian[at, m + cols] = right[cols], left[rows]
    jacobian = jacobian.reshape(len(rows), -1)
    data = rng.standard_normal(len(rows))
    weight = weights if weighted else np.ones(len(rows))
    slope = (jacobian.T @ (weight * data)).reshape(m + n, k)
    gx, gy = slope[:m].copy(), slope[m:].copy()
    x, y = np.empty((m, k)), np.empty((n, k))
    tangent.truncated_steps(mask.indptr, mask.indices, weights, left, right, gx, gy, 200, x, y, (0,) * k)
    exact = np.linalg.lstsq(jacobian * np.sqrt(weight)[:, None], np.sqrt(weight) * data)[0].reshape(m + n, k)
    np.testing.assert_allclose(np.vstack([x, y]), exact, atol=1e-7)


def test_what_is_left_out_for_a_while_leaves_every_row_and_column_its_rank(monkeypatch):
    from solvers.completion import _near_limit as near

    rng = np.random.default_rng(1)
    A = observed_part(*low_rank(60, 50, 3, 3, rng), 1.6, rng)
    counted = []
    fitted = near.variable_projection

    def watched(run, *rest):
        kept = run.work.rows.weights
        if len(kept):
            pairs = (
                (run.problem.observed.rows, run.problem.row_counts),
                (run.problem.observed.cols, run.problem.col_counts),
            )
            counted.extend(
                np.min(np.bincount(at, kept, len(counts)) - np.minimum(counts, run.problem.rank))
                for at, counts in pairs
            )
        return fitted(run, *rest)

    monkeypatch.setattr(near, "variable_projection", watched)
    monkeypatch.setattr(near, "WORTHWHILE", np.inf)
    monkeypatch.setattr(near, "DROPPED", (0.5,))
    noisy = A[0], A[1], A[2] + 1e-3 * rng.standard_normal(len(A[2])), A[3]
    result = solvers.complete_matrix(noisy, 3, method="gauss-newton", rng=0, max_iter=60)
    assert counted
    assert min(counted) >= 0
    assert solvers.verify(result, noisy, 3)


def test_a_table_of_entries_taken_for_a_matrix_is_warned_of():
    table = np.array([[0, 0, 4.0], [0, 2, 3.5], [1, 1, 5.0], [2, 0, 1.0]])
    with pytest.warns(solvers.SolverWarning, match="dense matrix"):
        solvers.complete_matrix(table, 1, reg=0.1, rng=0)
