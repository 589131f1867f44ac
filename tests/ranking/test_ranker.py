"""The estimator: convex losses, certified gaps, groups, ties, and no harm to a base score."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
import sklearn
from scipy.optimize import check_grad
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, cross_val_score

from ranking import TSPRanker
from ranking._groups import target_arcs, target_of
from ranking._learning import Group, buckets_of, cross_entropy, local_loss
from solvers import ConvergenceWarning, InvalidProblemError, verify


def linear_task(n, count, seed=0, noise=0.3):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n * count, 10))
    utility = X @ rng.standard_normal(10)
    y = utility / utility.std() + noise * rng.standard_normal(len(X))
    return X, y, np.repeat(np.arange(count), n)


@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize("depot", [False, True])
@pytest.mark.parametrize("both", [False, True])
def test_gradient_of_the_local_loss(depot, both, two):
    rng = np.random.default_rng(0)
    groups = []
    for _ in range(3):
        target = target_of(rng.integers(0, 3, 6).astype(float), depot=depot, weights="dcg")
        groups.append(Group(rng.standard_normal((6 + depot, 3)), target, rng.random()))
    buckets, shape = buckets_of(groups), (2, 3, 3) if two else (3, 3)

    def value(flat):
        return local_loss(flat.reshape(shape), buckets, 0.1, both=both)[0]

    def gradient(flat):
        return local_loss(flat.reshape(shape), buckets, 0.1, both=both)[1].ravel()

    w = rng.standard_normal(int(np.prod(shape)))
    assert check_grad(value, gradient, w) <= 1e-6 * np.linalg.norm(gradient(w))


def test_cross_entropy_survives_scores_of_any_spread():
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((4, 5, 5)) * np.array([1.0, 30.0, 1e3, 1e6])[:, None, None]
    weight = rng.random((4, 5))
    arcs = np.stack([target_of(rng.random(4), depot=True).arcs for _ in range(4)])
    value, derivative = cross_entropy(scores, arcs, weight, both=True)
    expected = 0.0
    for a, y, w in zip(scores, arcs, weight, strict=True):
        off = np.where(np.eye(5) > 0, -np.inf, a)
        pull = w[:, None] * y
        expected += np.sum(pull.sum(axis=1) * logsumexp(off, axis=1)) - np.sum(pull * a)
        expected += np.sum(pull.sum(axis=0) * logsumexp(off, axis=0)) - np.sum(pull * a)
    assert value == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(derivative.sum(axis=(1, 2)), 0.0, atol=1e-12)
    assert np.isfinite(derivative).all()


def test_target_arcs_are_doubly_stochastic_and_average_over_ties():
    y = np.array([2.0, 0.0, 2.0, 1.0, 0.0, 0.0])
    arcs, _ = target_arcs(y, True)
    np.testing.assert_allclose(arcs.sum(axis=0), 1.0)
    np.testing.assert_allclose(arcs.sum(axis=1), 1.0)
    rng = np.random.default_rng(0)
    mean = np.zeros((7, 7))
    for _ in range(20000):
        order = np.append(np.lexsort((rng.random(6), -y)), 6)
        mean[np.roll(order, 1), order] += 1 / 20000
    np.testing.assert_allclose(arcs, mean, atol=0.02)


def test_the_depot_makes_linear_utilities_learnable():
    X, y, qid = linear_task(30, 210)
    train = qid < 150
    fitted = {d: TSPRanker(depot=d, random_state=0).fit(X[train], y[train], qid=qid[train]) for d in (True, False)}
    taus = {d: model.score(X[~train], y[~train], qid=qid[~train]) for d, model in fitted.items()}
    assert taus[True] >= 0.72
    assert taus[True] >= taus[False] + 0.3


def test_direction_can_not_be_learnt_without_a_constant_or_a_depot():
    X, y, qid = linear_task(12, 60)
    train = qid < 40
    raw = TSPRanker(embedding="none", depot=False, random_state=0).fit(X[train], y[train], qid=qid[train])
    for a, b in zip(raw.decision_matrix(X, qid=qid), raw.decision_matrix(-X, qid=qid), strict=True):
        np.testing.assert_array_equal(a, b)
    assert abs(raw.score(X[~train], y[~train], qid=qid[~train])) < 0.3
    with_depot = TSPRanker(embedding="none", random_state=0).fit(X[train], y[train], qid=qid[train])
    assert with_depot.score(X[~train], y[~train], qid=qid[~train]) > 0.6


def test_global_loss_has_a_certified_gap_and_a_rising_dual():
    X, y, qid = linear_task(12, 40)
    model = TSPRanker("global", alpha=0.1, max_iter=20, tol=5e-2, random_state=0).fit(X, y, qid=qid)
    assert 0 <= model.gap_ <= 5e-2
    assert np.all(np.diff(model.dual_) >= -1e-12)
    assert model.score(X, y, qid=qid) > 0.6
    hybrid = TSPRanker("hybrid", alpha=0.1, margin="rank", max_iter=5, tol=1.0, random_state=0).fit(X, y, qid=qid)
    assert hybrid.score(X, y, qid=qid) > 0.6


@pytest.mark.parametrize("embedding", ["quadratic", "spline"])
def test_a_lifted_base_score_is_not_harmed(embedding):
    X, y, qid = linear_task(15, 80)
    train = qid < 50
    base = Ridge().fit(X[train], y[train]).predict(X)[:, None]
    model = TSPRanker(embedding=embedding, random_state=0).fit(base[train], y[train], qid=qid[train])
    predicted = model.predict(base[~train], qid=qid[~train])
    mine = model.score(base[~train], y[~train], qid=qid[~train])
    from ranking import group_mean, kendall_tau

    alone, _ = group_mean(kendall_tau, y[~train], base[~train, 0], qid[~train])
    assert mine >= alone - 0.002
    if embedding == "quadratic":
        same, _ = group_mean(kendall_tau, base[~train, 0], predicted, qid[~train])
        assert same > 0.999


def test_rows_may_come_in_any_order_and_group_means_the_same():
    X, y, qid = linear_task(8, 20)
    model = TSPRanker(random_state=0).fit(X, y, qid=qid)
    np.testing.assert_array_equal(model.predict(X, qid=qid), model.predict(X, group=np.full(20, 8)))
    perm = np.random.default_rng(1).permutation(len(X))
    shuffled = TSPRanker(random_state=0).fit(X[perm], y[perm], qid=qid[perm])
    np.testing.assert_allclose(shuffled.matrix_, model.matrix_, atol=1e-4)
    np.testing.assert_array_equal(model.predict(X[perm], qid=qid[perm]), model.predict(X, qid=qid)[perm])


def test_paths_behind_the_prediction_are_certified():
    X, y, qid = linear_task(8, 20)
    model = TSPRanker(random_state=0).fit(X, y, qid=qid)
    batch, _ = model.decode(X, qid=qid)
    assert verify(batch, model.decision_matrix(X, qid=qid), closed=True)
    assert batch.success


def test_small_groups_equal_labels_and_weights():
    X, y, qid = linear_task(5, 12)
    qid = qid.copy()
    qid[:3] = [100, 101, 102]
    y = np.where(qid == 4, 1.0, y)
    model = TSPRanker(random_state=0).fit(X, y, qid=qid, sample_weight=(qid != 5).astype(float))
    assert np.isfinite(model.predict(X, qid=qid)).all()
    without = TSPRanker(random_state=0, tol=1e-7).fit(X[qid != 5], y[qid != 5], qid=qid[qid != 5])
    assert without.matrix_.shape == model.matrix_.shape
    single = TSPRanker(random_state=0).fit(X[:1], y[:1], qid=[7])
    np.testing.assert_array_equal(single.predict(X[:1], qid=[7]), [1.0])


def test_estimator_conventions():
    X, y, qid = linear_task(6, 15)
    model = TSPRanker(alpha=0.5, random_state=0)
    assert clone(model).get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        model.predict(X, qid=qid)
    model.fit(X, y, qid=qid)
    assert model.n_features_in_ == 10
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X, qid=qid), model.predict(X, qid=qid))
    with sklearn.config_context(enable_metadata_routing=True):
        routed = TSPRanker(random_state=0).set_fit_request(qid=True).set_score_request(qid=True)
        scores = cross_val_score(routed, X, y, cv=GroupKFold(3), params={"qid": qid, "groups": qid})
    assert np.all(scores > 0.1)


@pytest.mark.parametrize(
    ("parameters", "fit", "error", "words"),
    [
        ({}, {}, InvalidProblemError, "exactly one"),
        ({}, {"qid": [0] * 4, "group": [4]}, InvalidProblemError, "both"),
        ({}, {"group": [3]}, InvalidProblemError, "sum to"),
        ({}, {"qid": [0] * 3}, InvalidProblemError, "one value per row"),
        ({}, {"qid": [0.0, np.nan, 0.0, 1.0]}, InvalidProblemError, "NaN"),
        ({}, {"qid": [0] * 4, "sample_weight": [-1, 1, 1, 1]}, InvalidProblemError, "non-negative"),
        ({"loss": "locale"}, {"qid": [0] * 4}, ValueError, "local"),
        ({"alpha": 0.0}, {"qid": [0] * 4}, ValueError, "alpha"),
    ],
)
def test_wrong_input_is_named(parameters, fit, error, words):
    with pytest.raises(error, match=words):
        TSPRanker(**parameters).fit(np.eye(4), np.arange(4.0), **fit)


def test_feature_count_and_short_training_are_reported():
    X, y, qid = linear_task(6, 15)
    model = TSPRanker(random_state=0).fit(X, y, qid=qid)
    with pytest.raises(ValueError, match="features"):
        model.predict(X[:, :3], qid=qid)
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        TSPRanker("global", max_iter=1, tol=0.0, random_state=0).fit(X, y, qid=qid)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TSPRanker(random_state=0).fit(X, y, qid=qid)
