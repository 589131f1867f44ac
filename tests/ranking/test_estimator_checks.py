"""scikit-learn's own checks of estimators, which know no groups: every table is one group to them."""

from __future__ import annotations

import numpy as np
import pandas
import pytest
import sklearn
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import _num_samples

from ranking import TSPRanker
from solvers import InvalidProblemError


class OneGroup(TSPRanker):
    """TSPRanker with all rows in one group unless told otherwise."""

    def fit(self, X, y, *, qid=None, sample_weight=None):
        return super().fit(X, y, qid=one_group(X, qid), sample_weight=sample_weight)

    def predict(self, X, *, qid=None, group=None):
        return super().predict(X, qid=one_group(X, qid))

    def score(self, X, y, *, qid=None, sample_weight=None):
        return super().score(X, y, qid=one_group(X, qid), sample_weight=sample_weight)


def one_group(X, qid):
    return np.zeros(_num_samples(X), dtype=int) if qid is None else qid


def expected_failures(estimator):
    return {
        "check_methods_subset_invariance": "a rank depends on the other rows of the group",
        "check_sample_weight_equivalence_on_dense_data": "weights are of groups; repeating a row changes its group",
    }


@parametrize_with_checks([OneGroup(random_state=0, max_iter=200)], expected_failed_checks=expected_failures)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def ranked_groups(count=24, n=6, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((count * n, 3))
    return X, X @ np.array([1.0, -1.0, 0.5]) + 0.1 * rng.standard_normal(len(X)), np.repeat(np.arange(count), n)


@pytest.mark.parametrize("loss", ["local", "global", "hybrid"])
def test_a_weight_of_two_is_a_repeated_group_and_of_zero_none(loss):
    X, y, qid = ranked_groups(8)
    weight = np.where(qid == 0, 2.0, np.where(qid == 1, 0.0, 1.0))
    settings = {
        "embedding": "quadratic",
        "alpha": 0.5,
        "random_state": 0,
        "loss": loss,
        "tol": 1e-6 if loss == "local" else 2e-3,
    }
    weighted = TSPRanker(**settings).fit(X[:, :1], y, qid=qid, sample_weight=weight)
    rows = np.concatenate([np.flatnonzero(qid == 0), np.flatnonzero(qid != 1)])
    names = np.concatenate([np.full(6, 99), qid[qid != 1]])
    repeated = TSPRanker(**settings).fit(X[rows, :1], y[rows], qid=names)
    # Both are within the duality gap of one minimiser, which alpha/2 times the squared distance charges.
    np.testing.assert_allclose(weighted.matrix_, repeated.matrix_, atol=1e-4 if loss == "local" else 0.2)


def test_a_column_qid_of_a_table_is_carried_along_by_cross_validation():
    X, y, qid = ranked_groups()
    table = pandas.DataFrame(X, columns=["a", "b", "c"]).assign(qid=qid)
    model = TSPRanker(random_state=0).fit(table, y)
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    named = pandas.DataFrame(X, columns=["a", "b", "c"])
    np.testing.assert_array_equal(model.predict(table), model.predict(named, qid=qid))
    assert model.score(table, y) > 0.8
    scores = cross_val_score(TSPRanker(random_state=0), table, y, cv=GroupKFold(3), groups=qid)
    assert scores.min() > 0.8
    with pytest.raises(InvalidProblemError, match="column 'qid'"):
        model.predict(table, qid=qid)


def test_grid_search_and_pipelines_route_qid():
    X, y, qid = ranked_groups()
    with sklearn.config_context(enable_metadata_routing=True):
        ranker = TSPRanker(random_state=0).set_fit_request(qid=True).set_score_request(qid=True)
        ranker = ranker.set_predict_request(qid=True)
        search = GridSearchCV(ranker, {"alpha": [1e-3, 1e-1]}, cv=GroupKFold(3)).fit(X, y, qid=qid, groups=qid)
        assert search.best_score_ > 0.8
        pipeline = make_pipeline(StandardScaler(), ranker).fit(X, y, qid=qid)
        assert pipeline.score(X, y, qid=qid) > 0.8


def test_groups_unseen_in_training_are_ranked():
    X, y, qid = ranked_groups()
    model = TSPRanker(random_state=0).fit(X[qid < 12], y[qid < 12], qid=qid[qid < 12])
    names = np.array([f"day {q}" for q in qid])
    np.testing.assert_array_equal(model.predict(X, qid=names)[:6], model.predict(X[:6], group=[6]))
    assert model.score(X[qid >= 12], y[qid >= 12], qid=names[qid >= 12]) > 0.8


def test_score_weighs_groups_and_skips_those_without_an_order():
    X, y, qid = ranked_groups(6)
    model = TSPRanker(random_state=0).fit(X, y, qid=qid)
    worse = np.where(qid == 0, -y, np.where(qid == 1, 0.0, y))
    of = {q: model.score(X[qid == q], worse[qid == q], qid=qid[qid == q]) for q in range(6)}
    assert np.isnan(of[1])
    weight = np.where(qid == 0, 3.0, 1.0)
    expected = (3 * of[0] + sum(of[q] for q in range(2, 6))) / 7
    assert model.score(X, worse, qid=qid, sample_weight=weight) == pytest.approx(expected)


@pytest.mark.parametrize("ties", ["random", "base"])
def test_ties_may_be_broken_by_draws_or_by_the_base_score(ties):
    rng = np.random.default_rng(0)
    base = rng.standard_normal((60, 1))
    qid, coarse = np.repeat(np.arange(10), 6), np.floor(base[:, 0])
    settings = {"embedding": "quadratic", "random_state": 0, "alpha": 1e-3}
    fine = TSPRanker(**settings).fit(base, base[:, 0], qid=qid)
    broken = TSPRanker(**settings, ties=ties).fit(base, coarse, qid=qid)
    if ties == "base":
        np.testing.assert_allclose(broken.matrix_, fine.matrix_, atol=1e-3)
    else:
        averaged = TSPRanker(**settings).fit(base, coarse, qid=qid)
        assert np.abs(broken.matrix_ - averaged.matrix_).max() > 1e-3
    assert broken.score(base, coarse, qid=qid) > 0.7


def test_two_matrices_learn_places_and_one_does_not():
    rng = np.random.default_rng(0)
    X, qid = rng.standard_normal((200, 2)), np.repeat(np.arange(40), 5)
    y = np.tile(np.arange(5.0), 40)
    shuffled = rng.permutation(200)
    one = TSPRanker(random_state=0).fit(X, y, qid=qid)
    two = TSPRanker(two_matrices=True, random_state=0).fit(X, y, qid=qid)
    assert one.matrix_.shape == (4, 4)
    assert two.matrix_.shape == (2, 4, 4)
    assert two.score(X, y, qid=qid) > 0.9 > one.score(X, y, qid=qid) + 0.4
    np.testing.assert_array_equal(one.predict(X, qid=qid)[shuffled], one.predict(X[shuffled], qid=qid[shuffled]))
    assert two.score(X[shuffled], y[shuffled], qid=qid[shuffled]) < 0.4


def test_hybrid_training_has_a_certified_gap_and_a_rising_dual():
    X, y, qid = ranked_groups()
    model = TSPRanker("hybrid", alpha=0.1, tol=1e-2, max_iter=20, random_state=0).fit(X, y, qid=qid)
    assert 0 <= model.gap_ <= 1e-2
    assert np.all(np.diff(model.dual_) >= -1e-12)
    assert model.score(X, y, qid=qid) > 0.8


@pytest.mark.parametrize("groups", ["singles", "equal", "one of each"])
@pytest.mark.parametrize("depot", [False, True])
@pytest.mark.parametrize("loss", ["local", "global", "hybrid"])
@pytest.mark.filterwarnings("ignore::solvers.ConvergenceWarning")
def test_degenerate_groups_train_and_predict(loss, depot, groups):
    X = np.random.default_rng(0).standard_normal((8, 2))
    y, qid = {
        "singles": (np.arange(8.0), np.arange(8)),
        "equal": (np.ones(8), np.repeat([0, 1], 4)),
        "one of each": (np.arange(8.0), np.array([0, *np.ones(7, dtype=int)])),
    }[groups]
    settings = {} if loss == "local" else {"max_iter": 10, "tol": 1e-2}
    model = TSPRanker(loss, depot=depot, alpha=0.1, random_state=0, **settings).fit(X, y, qid=qid)
    scores = model.predict(X, qid=qid)
    for q in np.unique(qid):
        assert sorted(scores[qid == q]) == list(range(1, int(np.sum(qid == q)) + 1))
    assert loss == "local" or model.gap_ >= -1e-12
