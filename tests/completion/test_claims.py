"""What a completion says about its data, and how it ends where the data do not suffice."""

import numpy as np
import pytest
from completion_problems import low_rank, observed_part, relative_error

import solvers


def changed(result, **fields):
    copy = solvers.completion.CompletionResult(result)
    copy.update(fields)
    return copy


@pytest.fixture(scope="module")
def recovered():
    rng = np.random.default_rng(0)
    A = observed_part(*low_rank(60, 50, 3, 3, rng), 5, rng)
    return A, solvers.complete_matrix(A, 3, tol=1e-12, rng=0, holdout=0.1)


def test_claims_about_the_data_are_recomputed(recovered):
    A, result = recovered
    assert result.determined is True
    assert solvers.verify(result, A, 3, holdout=0.1)
    for fields in (
        {"determined": False},
        {"determined": np.True_},
        {"rmse": result.rmse + 1e-3},
        {"rmse": np.nan},
        {"holdout_rmse": result.holdout_rmse + 1e-3},
        {"holdout_rmse": np.nan},
        {"outliers": np.array([[A[0][0], A[1][0]]])},
        {"short_rows": np.array([1])},
        {"short_cols": np.array([1])},
    ):
        assert not solvers.verify(changed(result, **fields), A, 3, holdout=0.1), fields
    assert solvers.verify(changed(result, determined=None, tangent_gap=np.nan), A, 3, holdout=0.1)


@pytest.mark.parametrize("oversampling", [0.9, 1.02])
def test_undetermined_completion_says_so_whatever_ended_it_and_no_forgery_turns_it(oversampling):
    rng = np.random.default_rng(1)
    A = observed_part(*low_rank(40, 40, 3, 2, rng), oversampling, rng)
    for limit in (None, 30):
        result = solvers.complete_matrix(A, 3, rng=0, holdout=0.05, max_iter=limit)
        assert result.determined is False
        assert not result.success
        assert result.status.name == "STALLED"
        assert "do not determine" in result.message
        assert "max_iter" not in result.message
        assert np.isfinite(result.holdout_rmse)
        assert solvers.verify(result, A, 3, holdout=0.05)
        assert not solvers.verify(changed(result, determined=True), A, 3, holdout=0.05)
        optimal = changed(result, status=solvers.Status.CONVERGED, success=True)
        assert not solvers.verify(optimal, A, 3, holdout=0.05)


def test_run_that_was_cut_short_of_its_rank_says_nothing_about_the_data():
    rng = np.random.default_rng(2)
    A = observed_part(*low_rank(60, 50, 4, 3, rng), 5, rng)
    result = solvers.complete_matrix(A, 4, rng=0, max_iter=2)
    assert result.status.name == "MAX_ITER"
    assert result.determined is None


def test_an_answer_that_does_not_fit_says_nothing_of_the_data(monkeypatch):
    from solvers.completion import _claims
    from solvers.completion._uniqueness import at_answer

    assert at_answer(1e-15, fits=True, stationary=True).claim is False
    open_question = at_answer(1e-15, fits=False, stationary=True)
    assert (open_question.claim, open_question.unique) == (None, False)
    rng = np.random.default_rng(8)
    A = observed_part(*low_rank(60, 50, 3, 3, rng), 5, rng)
    result = solvers.complete_matrix(A, 3, rng=0, max_iter=8)
    assert result.determined is None
    assert "before its answer fitted" in result.determination
    assert solvers.verify(result, A, 3)
    assert not solvers.verify(changed(result, determined=False), A, 3)
    monkeypatch.setattr(_claims, "_smallest", lambda *problem: 0.0)
    refused = solvers.verify(changed(result, determined=False), A, 3)
    assert not refused
    assert "does not fit" in refused.message


@pytest.mark.parametrize("known", ["all", "few"])
def test_counting_needs_no_answer(known):
    truth = low_rank(8, 7, 2, 2, np.random.default_rng(9))
    A = (truth[0] * truth[1]) @ truth[2].T
    if known == "few":
        A[2, 1:] = np.nan
    result = solvers.complete_matrix(A, 4, rng=0, max_iter=20)
    assert result.determined is (known == "all")
    assert solvers.verify(result, A, 4)
    assert not solvers.verify(changed(result, determined=known != "all"), A, 4)


def test_scales_of_rows_and_columns_do_not_turn_the_verdict():
    for seed in range(3):
        rng = np.random.default_rng(seed)
        rows, cols, values, shape = observed_part(*low_rank(60, 50, 3, 3, rng), 5, rng)
        values = values * (10.0 ** rng.uniform(-7, 0, 60))[rows] * (10.0 ** rng.uniform(-2, 0, 50))[cols]
        result = solvers.complete_matrix((rows, cols, values, shape), 3, tol=1e-12, rng=0)
        assert result.determined is True
        assert result.tangent_gap > 1e-3
        assert solvers.verify(result, (rows, cols, values, shape), 3)


def test_large_tangent_systems_give_the_value_of_small_ones(monkeypatch):
    from solvers.completion import _claims_tangent as check

    rng = np.random.default_rng(10)
    for oversampling in (1.15, 2.0, 5.0):
        U, s, V = low_rank(40, 35, 3, 3, rng)
        rows, cols, values, shape = observed_part(U, s, V, oversampling, rng)
        if min(np.bincount(rows, minlength=40).min(), np.bincount(cols, minlength=35).min()) < 3:
            continue
        result = solvers.complete_matrix((rows, cols, values, shape), 3, tol=1e-12, rng=0)
        order = np.lexsort((cols, rows))
        whole = check.smallest_tangent_value(shape, rows[order], cols[order], U, V)
        with monkeypatch.context() as patch:
            patch.setattr(check, "DENSE_TANGENT", 0.0)
            assert solvers.verify(result, (rows, cols, values, shape), 3)
            passed = check.smallest_tangent_value(shape, rows[order], cols[order], U, V)
        assert (passed > 1e-12) == (whole > 1e-12)


def test_determined_agrees_between_small_and_large_check():
    rng = np.random.default_rng(3)
    for count in range(12):
        A = observed_part(*low_rank(30, 25, 2, 3, rng), rng.uniform(1.0, 2.0), rng)
        result = solvers.complete_matrix(A, 2, tol=1e-12, rng=count)
        assert solvers.verify(result, A, 2), result.determined


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_listed_outliers_are_those_beyond_the_threshold_and_verified(noise):
    rng = np.random.default_rng(4)
    rows, cols, values, shape = observed_part(*low_rank(120, 110, 2, 2, rng), 6, rng, noise=noise)
    bad = rng.choice(len(values), len(values) // 10, replace=False)
    values[bad] += 30.0
    A = rows, cols, values, shape
    result = solvers.complete_matrix(A, 2, loss="huber", rng=0)
    assert len(result.outliers) == len(bad)
    assert solvers.verify(result, A, 2, loss="huber")
    sound = np.setdiff1d(np.arange(len(values)), bad)[0]
    more = np.vstack([result.outliers, [[rows[sound], cols[sound]]]])
    assert not solvers.verify(changed(result, outliers=more), A, 2, loss="huber")
    assert not solvers.verify(changed(result, outliers=result.outliers[:-1]), A, 2, loss="huber")
    assert not solvers.verify(changed(result, outliers=result.outliers[:0]), A, 2, loss="huber")


@pytest.mark.parametrize("exponent", [-60, -9, 9, 60])
def test_scale_of_the_data_changes_nothing_but_the_scale(exponent):
    rng = np.random.default_rng(5)
    rows, cols, values, shape = observed_part(*low_rank(50, 40, 2, 3, rng), 5, rng, noise=0.05)
    unit = 2.0 ** (3 * exponent)
    reference = solvers.complete_matrix((rows, cols, values, shape), 2, reg=1.0, rng=0)
    scaled = solvers.complete_matrix((rows, cols, unit * values, shape), 2, reg=unit, rng=0)
    np.testing.assert_allclose(scaled.s, unit * reference.s, rtol=1e-4)
    assert scaled.gap <= 1e-6
    assert solvers.verify(scaled, (rows, cols, unit * values, shape), 2, reg=unit)


@pytest.mark.parametrize("size", [1e150, 1e-150, 1e300, 5e-324])
def test_values_whose_squares_leave_the_range_are_refused_with_advice(size):
    with pytest.raises(ValueError, match="out of range"):
        solvers.complete_matrix(np.full((4, 4), size), 1)
    with pytest.raises(ValueError, match="out of range"):
        solvers.complete_matrix(np.ones((4, 4)), 1, weights=np.full((4, 4), size))


def test_single_precision_refuses_what_it_cannot_square():
    with pytest.raises(ValueError, match="single"):
        solvers.complete_matrix(np.full((4, 4), 1e30), 1, options={"precision": "single"})


def test_method_of_the_result_is_the_one_that_ran(recovered):
    A, result = recovered
    assert result.method == "altmin"
    assert solvers.complete_matrix(A, 3, rng=0, method="altmin-sketch").method == "altmin-sketch"


def test_analysed_algorithm_contracts_on_fresh_samples_and_says_when_they_are_used_up():
    rng = np.random.default_rng(6)
    truth = low_rank(300, 280, 2, 2, rng)
    A = np.where(rng.random((300, 280)) < 0.9, (truth[0] * truth[1]) @ truth[2].T, np.nan)
    few, many = (
        solvers.complete_matrix(A, 2, rng=0, history=True, options={"theory": True, "rounds": rounds})
        for rounds in (2, 8)
    )
    assert few.status.name == "STALLED"
    assert "rounds" in few.message
    assert (few.nit, many.nit) == (2, 8)
    # The theorems promise 16 for the squared distance of the subspaces, with more entries than here.
    assert many.history.fun[-1] < 0.25**7 * many.history.fun[0]
    assert relative_error(many, *truth) < 1e-3
    loose = solvers.complete_matrix(A, 2, rng=0, tol=0.1, options={"theory": True, "rounds": 8})
    assert loose.success
    assert solvers.verify(loose, A, 2)


def test_start_of_the_analysed_algorithm_is_clipped():
    from solvers.completion._theory import clipped

    basis = np.linalg.qr(np.vstack([[[10.0, 0.0]], np.random.default_rng(7).standard_normal((99, 2))]))[0]
    fresh = clipped(basis, 1.0)
    assert np.abs(basis).max() > 2.0 * np.sqrt(2 / 100)
    assert abs(fresh[0, 0]) < 1e-12
    np.testing.assert_allclose(fresh.T @ fresh, np.eye(2), atol=1e-12)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"reg": 1.0}, "theory"),
        ({"loss": "huber"}, "theory"),
        ({"method": "altmin-exact"}, "theory"),
        ({"x0": (np.ones((6, 1)), np.ones((5, 1)))}, "theory"),
    ],
)
def test_analysed_algorithm_is_refused_where_its_theorems_do_not_apply(kwargs, words):
    with pytest.raises(ValueError, match=words):
        solvers.complete_matrix(np.ones((6, 5)), 1, options={"theory": True}, **kwargs)
    with pytest.raises(ValueError, match="parts"):
        solvers.complete_matrix(np.ones((2, 2)), 1, options={"theory": True})
    for key, value in (("rounds", 0), ("incoherence", 0.0), ("inner_tol", -1.0)):
        with pytest.raises(ValueError, match=key):
            solvers.complete_matrix(np.ones((6, 5)), 1, options={"theory": True, key: value})
