import numpy as np
import pytest
from completion_problems import low_rank, observed_part

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
    model.save(tmp_path / "model.npz")
    again = MatrixCompleter.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(again.predict([1, 2], [3, 4]), model.predict([1, 2], [3, 4]))
    np.testing.assert_array_equal(again.transform(A[:3]), model.transform(A[:3]))


def test_unfitted_estimator_says_so():
    with pytest.raises(ValueError, match="not fitted"):
        MatrixCompleter(2).predict([0], [0])


def test_rank_with_least_held_out_error_is_selected():
    rng = np.random.default_rng(1)
    A = observed_part(*low_rank(120, 100, 4, 2, rng), 6, rng, noise=0.05)
    selection = select_rank(A, 7, rng=0)
    assert selection.rank == 4
    assert selection.holdout_rmse.shape == (7,)
