import pickle

import numpy as np
import pytest
from completion_problems import low_rank, observed_part

import solvers
from solvers.completion import MatrixCompleter, select_rank


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    U, s, V = low_rank(80, 60, 3, 3, rng)
    truth = (U * s) @ V.T
    A = np.where(rng.random(truth.shape) < 0.5, truth, np.nan)
    return A, truth, MatrixCompleter(3, tol=1e-12, random_state=0).fit(A)


def test_estimator_predicts_hidden_entries(fitted):
    A, truth, model = fitted
    hidden = np.nonzero(np.isnan(A))
    np.testing.assert_allclose(model.predict(*hidden), truth[hidden], atol=1e-6)
    assert model.get_params()["rank"] == 3


def test_transform_of_training_rows_gives_their_coordinates(fitted):
    A, truth, model = fitted
    np.testing.assert_allclose(model.transform(A[:7]) @ model.V_.T, truth[:7], atol=1e-5)


def test_top_lists_the_largest_unseen_entries_best_first(fitted):
    A, truth, model = fitted
    columns, values = model.top([4], 5, exclude=A)
    unseen = np.where(np.isnan(A[4]), truth[4], -np.inf)
    np.testing.assert_array_equal(columns[0], np.argsort(-unseen)[:5])
    np.testing.assert_allclose(values[0], unseen[columns[0]], atol=1e-6)


def test_saved_model_predicts_the_same(fitted, tmp_path):
    A, _, model = fitted
    model.save(tmp_path / "model")
    again = MatrixCompleter.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict([1, 2], [3, 4]), model.predict([1, 2], [3, 4]))
    np.testing.assert_array_equal(again.transform(A[:3]), model.transform(A[:3]))
    assert again.get_params() | {"random_state": 0} == model.get_params()


@pytest.mark.parametrize("scaling", ["plain", "count"])
def test_training_rows_are_where_the_fit_put_them_under_either_penalty(scaling):
    rng = np.random.default_rng(4)
    A = rng.standard_normal((40, 4)) @ rng.standard_normal((4, 30)) + 0.1 * rng.standard_normal((40, 30))
    A[rng.random(A.shape) < 0.3] = np.nan
    model = MatrixCompleter(10, reg=6.0 if scaling == "plain" else 0.3, reg_scaling=scaling, tol=1e-11, random_state=0)
    model.fit(A)
    assert model.result_.gap < 1e-10
    np.testing.assert_allclose(model.transform(A), model.U_ * model.s_, atol=1e-4)


@pytest.mark.parametrize("scaling", ["plain", "count"])
def test_new_rows_of_a_fit_without_directions_are_their_effects(scaling):
    A = np.full((6, 5), 2.5)
    A[0, 1] = np.nan
    model = MatrixCompleter(2, reg=1.0, reg_scaling=scaling, biases=True, random_state=0).fit(A)
    assert not model.s_.any()
    with np.errstate(all="raise"):
        assert not model.transform(A).any()
        np.testing.assert_allclose(model.complete_rows(A), 2.5)


def test_new_rows_are_fitted_to_their_entries_with_biases():
    rng = np.random.default_rng(5)
    A = rng.standard_normal((60, 2)) @ rng.standard_normal((2, 30)) + 3.0 + np.arange(30)
    seen = np.where(rng.random(A.shape) < 0.7, A, np.nan)
    model = MatrixCompleter(4, biases=True, tol=1e-10, random_state=0).fit(seen[:50])
    completed = model.complete_rows(seen[50:])
    np.testing.assert_allclose(completed, A[50:], atol=1e-3)
    coordinates, effects = model.transform(seen[50:]), model.row_effects(seen[50:])
    np.testing.assert_allclose(coordinates @ model.V_.T + model.col_bias_ + effects[:, None], completed)


@pytest.mark.parametrize("scaling", ["plain", "count"])
def test_training_rows_get_their_own_effects_and_predictions(scaling):
    rng = np.random.default_rng(7)
    A = rng.standard_normal((50, 1)) + rng.standard_normal(30) + rng.standard_normal((50, 30))
    A[rng.random(A.shape) < 0.4] = np.nan
    reg = 5.0 if scaling == "plain" else 0.3
    model = MatrixCompleter(12, reg=reg, reg_scaling=scaling, biases=True, tol=1e-11, random_state=0).fit(A)
    assert model.result_.gap < 1e-10
    np.testing.assert_allclose(model.row_effects(A), model.row_bias_, atol=1e-10)
    everywhere = model.predict(np.arange(50)[:, None], np.arange(30))
    np.testing.assert_allclose(model.complete_rows(A), everywhere, atol=1e-4)


def test_score_is_the_coefficient_of_determination_at_the_given_entries(fitted):
    from sklearn.metrics import r2_score

    A, truth, model = fitted
    rng = np.random.default_rng(1)
    rows, cols = np.nonzero(np.isnan(A))
    values = truth[rows, cols] + rng.standard_normal(len(rows))
    expected = r2_score(values, model.predict(rows, cols))
    assert model.score((rows, cols, values, A.shape)) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="shape"):
        model.score(A[:3])
    with pytest.raises(ValueError, match="constant"):
        model.score(([0, 1], [0, 1], [2.0, 2.0], A.shape))
    with pytest.raises(ValueError, match="at least one observed"):
        model.score(np.full(A.shape, np.nan))


def test_new_row_without_entries_gets_the_mean():
    rng = np.random.default_rng(5)
    A = 3.0 + rng.standard_normal((30, 1)) + rng.standard_normal(20) + 0.1 * rng.standard_normal((30, 20))
    model = MatrixCompleter(2, reg=1.0, biases=True, random_state=0).fit(A)
    expected = np.mean(model.row_bias_) + model.col_bias_
    np.testing.assert_allclose(model.complete_rows(np.full((1, 20), np.nan))[0], expected, rtol=1e-12)
    np.testing.assert_allclose(model.complete_rows(([1], [3], [4.0], (2, 20)))[0], expected, rtol=1e-12)


def test_estimator_follows_the_conventions(fitted):
    from sklearn.base import clone

    A, _, model = fitted
    before = A.copy()
    fresh = clone(model)
    assert fresh.get_params() == model.get_params()
    assert not hasattr(fresh, "U_")
    assert fresh.fit(A) is fresh
    np.testing.assert_array_equal(A, before)
    np.testing.assert_array_equal(fresh.U_, model.U_)
    assert fresh.n_features_in_ == A.shape[1]
    assert fresh.set_params(rank=2).rank == 2
    copied = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copied.transform(A[:2]), model.transform(A[:2]))
    assert "rank=3" in repr(model)
    with pytest.raises(ValueError, match="60 columns"):
        model.transform(A[:, :5])
    with pytest.raises(ValueError, match="exclude"):
        model.top([0], exclude=A[:3])
    with pytest.raises(ValueError, match=r"0\.\.79"):
        model.top([80])
    with pytest.raises(ValueError, match="count"):
        model.top([0], 61)


def test_lists_end_where_everything_is_excluded(fitted):
    model = fitted[2]
    left_out = np.where(np.arange(60) < 58, 1.0, np.nan) * np.ones((80, 1))
    columns, values = model.top([3], 4, exclude=left_out)
    assert set(columns[0, :2]) == {58, 59}
    assert columns[0, 2:].tolist() == [-1, -1]
    assert np.isneginf(values[0, 2:]).all()


def test_fit_that_does_not_hold_warns():
    A = np.full((6, 5), np.nan)
    A[0, 0], A[1, 1] = 1.0, 2.0
    with pytest.warns(solvers.ConvergenceWarning, match="do not determine"):
        MatrixCompleter(1, random_state=0).fit(A)


@pytest.mark.parametrize("method", ["predict", "transform", "complete_rows", "score", "top", "save"])
def test_unfitted_estimator_says_so(method, tmp_path):
    new = np.ones((1, 2))
    arguments = {"predict": ([0], [0]), "transform": (new,), "complete_rows": (new,), "score": (new,), "top": ([0],)}
    arguments["save"] = (tmp_path / "m.npz",)
    with pytest.raises(ValueError, match="not fitted"):
        getattr(MatrixCompleter(2), method)(*arguments[method])


def test_prediction_does_not_form_the_matrix():
    rng = np.random.default_rng(6)
    m, n = 200_000, 100_000
    rows, cols = rng.integers(0, m, 40_000), rng.integers(0, n, 40_000)
    keys = np.unique(rows * n + cols)
    result = solvers.complete_matrix((keys // n, keys % n, np.ones(len(keys)), (m, n)), 1, reg=1.0, rng=0, max_iter=2)
    assert result.predict(keys // n, keys % n).shape == keys.shape


@pytest.mark.parametrize(
    ("ranks", "options", "words"),
    [
        (0, {}, "positive integers"),
        ([], {}, "positive integers"),
        ([1.5], {}, "positive integers"),
        ([9], {}, "at most min"),
        (2, {"holdout": 0.0}, "holdout"),
        (2, {"n_splits": 0}, "n_splits"),
    ],
)
def test_wrong_ranks_to_choose_from_are_refused(ranks, options, words):
    with pytest.raises(ValueError, match=words):
        select_rank(np.ones((5, 5)), ranks, **options)


def test_rank_with_least_held_out_error_is_selected():
    rng = np.random.default_rng(1)
    A = observed_part(*low_rank(120, 100, 4, 2, rng), 6, rng, noise=0.05)
    selection = select_rank(A, 7, rng=0)
    assert selection.rank == 4
    assert selection.holdout_rmse.shape == (7,)
