"""Row and column effects, their variances, and the penalty beside them."""

import numpy as np
import pytest

import solvers
from solvers.completion import select_reg
from solvers.completion._biases import _ridges, margin, shrunk_effects


def crossed(seed, shape, share, spread=(1.0, 0.5, 2.0)):
    """Entries mu + r_i + c_j + e_ij at positions of very unequal rows and columns."""
    rng = np.random.default_rng(seed)
    m, n = shape
    chance = np.minimum(1.0, share * np.outer(rng.gamma(1.0, 1.0, m), rng.gamma(1.0, 1.0, n)))
    rows, cols = np.nonzero(rng.random(shape) < chance)
    row, col = spread[0] * rng.standard_normal(m), spread[1] * rng.standard_normal(n)
    return rows, cols, 3.0 + row[rows] + col[cols] + spread[2] * rng.standard_normal(len(rows)), shape


def margins(rows, cols, values, shape, weights=None):
    deviations = values - np.average(values, weights=weights)
    return tuple(margin(index, weights, deviations, size) for index, size in zip((rows, cols), shape, strict=True))


def ratios(unit, spread, count=12):
    """Variances of row and column effects over that of the noise, in the mean over some draws with random weights."""
    found = []
    for seed in range(count):
        rows, cols, values, shape = crossed(seed, (300, 250), 0.1, (*spread, 0.0))
        rng = np.random.default_rng(100 + seed)
        weights = rng.gamma(2.0, 1.0, len(rows))
        values = values + rng.standard_normal(len(rows)) / np.sqrt(weights)
        ridges = _ridges(*margins(rows, cols, values, shape, unit * weights), len(rows))
        found.append(unit / np.array(ridges))
    return np.mean(found, axis=0)


@pytest.mark.parametrize("spread", [(1.0, 0.5), (0.3, 2.0)])
def test_shrinkage_is_the_ratio_of_the_variances_in_any_unit_of_the_weights(spread):
    found = ratios(1.0, spread)
    np.testing.assert_allclose(found, np.square(spread), rtol=0.2)
    np.testing.assert_allclose(ratios(1e-4, spread), found, rtol=1e-8)


def test_effects_are_the_ridge_regression_with_a_free_mean():
    rows, cols, values, shape = crossed(2, (30, 20), 0.3)
    weights = np.random.default_rng(3).uniform(0.5, 2.0, len(rows))
    result = solvers.complete_matrix((rows, cols, values, shape), 1, weights=weights, reg=1e6, biases=True, rng=0)
    row_ridge, col_ridge = _ridges(*margins(rows, cols, values, shape, weights), len(rows))
    design = np.zeros((len(rows), 51))
    at = np.arange(len(rows))
    design[at, rows] = design[at, 30 + cols] = design[:, 50] = 1.0
    penalty = np.diag([row_ridge] * 30 + [col_ridge] * 20 + [0.0])
    effects = np.linalg.solve(design.T @ (weights[:, None] * design) + penalty, design.T @ (weights * values))
    np.testing.assert_allclose(result.row_bias, effects[:30] + effects[50], atol=1e-10)
    np.testing.assert_allclose(result.col_bias, effects[30:50], atol=1e-10)


def test_rows_without_entries_get_the_mean():
    rows, cols, values, _ = crossed(2, (30, 20), 0.3)
    result = solvers.complete_matrix((rows, cols, values, (32, 20)), 1, reg=1e6, biases=True, rng=0)
    assert result.row_bias[31] == pytest.approx(result.row_bias.mean(), rel=1e-12)


@pytest.mark.parametrize(
    "values",
    [np.full(6, 2.0), np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), np.zeros(6)],
    ids=["constant", "one-a-row", "zero"],
)
def test_effects_are_finite_where_variances_cannot_be_told_apart(values):
    for cols in (np.arange(6), np.zeros(6, dtype=int), np.arange(6) % 3):
        result = solvers.complete_matrix((np.arange(6), cols, values, (6, 6)), 1, reg=1.0, biases=True, rng=0)
        assert np.isfinite(result.row_bias).all()
        assert np.isfinite(result.col_bias).all()
        assert np.abs(result.predict(np.arange(6), cols)).max() <= 1.01 * np.abs(values).max()


def test_effects_of_additive_data_leave_little():
    rng = np.random.default_rng(5)
    A = rng.standard_normal((40, 1)) + rng.standard_normal(30)
    A[rng.random(A.shape) < 0.5] = np.nan
    result = solvers.complete_matrix(A, 1, reg=1e6, biases=True, rng=0)
    seen = np.nonzero(~np.isnan(A))
    assert np.std(result.predict(*seen) - A[seen]) < 0.02 * np.std(A[seen])


def test_conjugate_gradients_solve_for_effects_whatever_the_products_come_from():
    rng = np.random.default_rng(8)
    W = rng.random((12, 9)) * (rng.random((12, 9)) < 0.6)
    rows, cols = np.nonzero(W)
    values = rng.standard_normal(len(rows))
    sides = margins(rows, cols, values, W.shape, W[rows, cols])
    row, col, _ = shrunk_effects(lambda v: W @ v, lambda u: W.T @ u, *sides, len(rows))
    row_ridge, col_ridge = _ridges(*sides, len(rows))
    np.testing.assert_allclose(W.T @ row + (sides[1][0] + col_ridge) * col, sides[1][2], atol=1e-12)
    np.testing.assert_allclose(sides[0][0] * row + row_ridge * (row - row.mean()) + W @ col, sides[0][2], atol=1e-12)


def test_nothing_but_effects_is_chosen_where_factors_do_not_predict():
    data = crossed(4, (200, 150), 0.1)
    selection = select_reg(data, 5, biases=True, n_splits=3, rng=0)
    assert selection.reg == selection.regs[0]
    assert not solvers.complete_matrix(data, 5, reg=selection.reg, biases=True, rng=0).s.any()


@pytest.mark.parametrize("scaling", ["plain", "count"])
def test_path_begins_where_zero_is_optimal_and_finds_a_penalty_that_predicts(scaling):
    rng = np.random.default_rng(6)
    A = rng.standard_normal((90, 2)) @ rng.standard_normal((2, 70)) + 0.5 * rng.standard_normal((90, 70))
    A[rng.random(A.shape) < 0.6] = np.nan
    selection = select_reg(A, 6, reg_scaling=scaling, rng=0)
    first = selection.regs[0]
    assert not solvers.complete_matrix(A, 6, reg=first, reg_scaling=scaling, rng=0).s.any()
    assert solvers.complete_matrix(A, 6, reg=0.95 * first, reg_scaling=scaling, rng=0).s[0] > 0.0
    assert selection.holdout_rmse.min() < 0.8
    assert selection.holdout_rmse.min() == selection.holdout_rmse[selection.regs == selection.reg]


def test_given_penalties_are_all_tried_from_large_to_small():
    rng = np.random.default_rng(9)
    A = rng.standard_normal((40, 30))
    selection = select_reg(A, 3, [1.0, 8.0, 4.0], rng=0)
    assert selection.regs.tolist() == [8.0, 4.0, 1.0]


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"regs": 0}, "regs"),
        ({"regs": []}, "regs"),
        ({"regs": [1.0, 0.0]}, "regs"),
        ({"holdout": 0.0}, "holdout"),
        ({"n_splits": 0}, "n_splits"),
    ],
)
def test_wrong_penalties_to_choose_from_are_refused(keywords, words):
    with pytest.raises(ValueError, match=words):
        select_reg(np.eye(5), 2, **keywords)


def test_path_of_data_that_biases_explain_is_refused():
    with pytest.raises(ValueError, match="biases do not explain"):
        select_reg(np.full((5, 4), 3.0), 2, biases=True, rng=0)


def test_run_without_a_bound_says_so_and_agrees_with_the_proved_one():
    rng = np.random.default_rng(2)
    A = rng.standard_normal((40, 30))
    A[rng.random(A.shape) < 0.3] = np.nan
    proved = solvers.complete_matrix(A, 12, reg=8.0, tol=1e-8, rng=0)
    plain = solvers.complete_matrix(A, 12, reg=8.0, tol=1e-12, rng=0, options={"certify": False})
    assert plain.bound == 0.0
    assert plain.status is solvers.Status.CONVERGED
    assert "no bound" in plain.message
    assert plain.fun == pytest.approx(proved.fun, rel=1e-8)
    assert solvers.verify(plain, A, 12, reg=8.0)
    with pytest.raises(TypeError, match="certify"):
        solvers.complete_matrix(A, 2, reg=8.0, options={"certify": 3})


def test_shrinkage_that_is_not_that_of_the_data_is_refused():
    data = crossed(3, (40, 30), 0.3)
    result = solvers.complete_matrix(data, 2, reg=5.0, biases=True, rng=0)
    assert solvers.verify(result, data, 2, reg=5.0, biases=True)
    result["row_shrinkage"] *= 1.01
    assert not solvers.verify(result, data, 2, reg=5.0, biases=True)
