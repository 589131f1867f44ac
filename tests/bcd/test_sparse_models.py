"""The working-set engine on real data and at the edges, paths and estimators."""

from __future__ import annotations

from pathlib import Path

import array_api_strict
import numpy as np
import pandas
import pytest
import scipy.sparse
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import Lasso, LogisticRegression
from sklearn.utils.estimator_checks import check_estimator

import solvers
from solvers import bcd

# Minimum of the mean logistic loss plus lam |w|_1 on standardised data, at 0.1 and 0.01 of the largest useful lam, computed
# by another solver to a duality gap below 1e-9.
IONOSPHERE = {0.02490234689178623 / 0.2490234689178623: 0.42456109903838096, 0.01: 0.23237512945844}


def ionosphere():
    example = solvers.load_example("ionosphere")
    X = (example.data - example.data.mean(axis=0)) / example.data.std(axis=0)
    return X, example.target.astype(float)


@pytest.mark.parametrize("fraction", list(IONOSPHERE))
@pytest.mark.parametrize("container", [np.asarray, scipy.sparse.csr_array])
def test_ionosphere_minima_are_matched(fraction, container):
    X, y = ionosphere()
    lam = fraction * 0.2490234689178623 * len(y)
    loss, penalty = bcd.Logistic(container(X), y), bcd.L1(lam)
    result = solvers.minimize_bcd(loss, penalty, tol=1e-10)
    assert result.fun / len(y) == pytest.approx(IONOSPHERE[fraction], abs=1e-9)
    assert result.gap <= 1e-10
    assert solvers.verify(result, loss, penalty)


# As above; "agaricus" is one-hot encoded mushrooms, as they are.
AGARICUS = {0.1: (0.020198065407646248, 0.31843742471422426), 0.01: (0.0020198065407646248, 0.08271000624509528)}


@pytest.mark.parametrize("fraction", list(AGARICUS))
def test_agaricus_minima_are_matched(fraction):
    """Columns are dependent: every question's answers sum to one."""
    held = np.load(Path(__file__).parent / "data" / "agaricus_train.npz")
    y = held["y"].astype(float)
    X = scipy.sparse.csr_array((np.ones(len(held["indices"])), held["indices"].astype(np.int32), held["indptr"]))
    lam, minimum = AGARICUS[fraction]
    loss, penalty = bcd.Logistic(X, y), bcd.L1(lam * len(y))
    result = solvers.minimize_bcd(loss, penalty, tol=1e-10)
    assert result.fun / len(y) == pytest.approx(minimum, abs=1e-9)
    assert result.gap <= 1e-10
    assert solvers.verify(result, loss, penalty)


class SquaredHinge(bcd.LinearLoss):
    """max(0, 1 - y z)^2 / 2, a loss of one's own by the documented protocol: theta = y u, -l*(-theta) = u - u^2/2, u >= 0."""

    curvature_bound = 1.0

    def __init__(self, A, y, *, sample_weight=None, fit_intercept=False):
        super().__init__(A, sample_weight, fit_intercept)
        self.y = np.asarray(y, dtype=float)
        self.shape, self.n_free = (self.plain.p,), int(self.fit_intercept)

    def terms(self, z):
        return 0.5 * np.maximum(1.0 - self.y * z, 0.0) ** 2

    def slopes(self, z):
        return self.y * np.maximum(1.0 - self.y * z, 0.0)

    def curvature(self, z):
        return (self.y * z < 1.0).astype(float)

    def project_dual(self, theta):
        return self.y * np.maximum(self.y * theta, 0.0)

    def dual_terms(self, theta):
        u = self.y * theta
        return u - 0.5 * u * u, np.abs(u) + 0.5 * u * u


class Adaptive(bcd.Penalty):
    """L1 with weights from a pilot estimate, a penalty of one's own."""

    def __init__(self, lam, pilot):
        self.inner = bcd.L1(lam / (np.abs(pilot) + 0.1))

    def term(self, shape, n_free):
        return self.inner.term(shape, n_free)


@pytest.mark.parametrize("container", [np.asarray, scipy.sparse.csr_array])
@pytest.mark.parametrize(
    "keywords", [{}, {"update": "newton"}, {"rule": "gs-r", "update": "lipschitz", "max_iter": 50}]
)
def test_losses_and_penalties_of_ones_own_are_certified(container, keywords):
    import cvxpy

    rng = np.random.default_rng(9)
    A, y = rng.standard_normal((40, 12)), np.where(rng.random(40) < 0.5, 1.0, -1.0)
    pilot, weights = rng.standard_normal(12), rng.random(40) + 0.1
    loss, penalty = SquaredHinge(container(A), y, sample_weight=weights), Adaptive(1.0, pilot)
    result = solvers.minimize_bcd(loss, penalty, **{"tol": 1e-8, **keywords})
    x = cvxpy.Variable(12)
    hinge = 0.5 * cvxpy.sum(cvxpy.multiply(weights, cvxpy.square(cvxpy.pos(1.0 - cvxpy.multiply(y, A @ x)))))
    model = cvxpy.Problem(cvxpy.Minimize(hinge + cvxpy.sum(cvxpy.multiply(1.0 / (np.abs(pilot) + 0.1), cvxpy.abs(x)))))
    model.solve(solver=cvxpy.CLARABEL)
    assert solvers.verify(result, loss, penalty)
    assert result.bound <= model.value * (1 + 1e-7)
    assert result.fun >= model.value * (1 - 1e-7)
    if "max_iter" not in keywords:
        assert result.status is solvers.Status.OPTIMAL
        assert result.fun == pytest.approx(model.value, rel=1e-6)


def test_dense_sparse_and_device_data_agree():
    rng = np.random.default_rng(1)
    A = rng.standard_normal((80, 200)) * (rng.random((80, 200)) < 0.3)
    b = rng.standard_normal(80)
    device = array_api_strict.Device("device1")
    for penalty in (bcd.L1(1.0), bcd.ElasticNet(0.5, 0.3), bcd.NonNegative(0.5), bcd.Box(-0.05, 0.1)):
        dense = solvers.minimize_bcd(bcd.LeastSquares(A, b, fit_intercept=True), penalty, tol=1e-9)
        sparse = solvers.minimize_bcd(
            bcd.LeastSquares(scipy.sparse.coo_array(A), b, fit_intercept=True), penalty, tol=1e-9
        )
        moved = bcd.LeastSquares(
            array_api_strict.asarray(A, device=device), array_api_strict.asarray(b, device=device), fit_intercept=True
        )
        array = solvers.minimize_bcd(moved, penalty, tol=1e-9)
        assert array.backend == "array"
        assert solvers.verify(array, moved, penalty)
        assert dense.fun == pytest.approx(sparse.fun, rel=1e-8)
        assert dense.fun == pytest.approx(array.fun, rel=1e-8)


def test_compiled_and_array_scores_agree():
    from solvers.bcd import _kernels_array, _kernels_numba

    rng = np.random.default_rng(8)
    for _ in range(50):
        n = int(rng.integers(1, 30))
        lower = np.where(rng.random(n) < 0.3, -rng.random(n), -np.inf)
        upper = np.where(rng.random(n) < 0.3, rng.random(n), np.inf)
        x = np.clip(rng.standard_normal(n) * (rng.random(n) < 0.5), lower, upper)
        curvature = rng.random(n) * (rng.random(n) < 0.9)
        parts = (x, rng.standard_normal(n), curvature, rng.random(n), rng.random(n), lower, upper)
        one, other = np.empty(n), np.empty(n)
        assert _kernels_numba.violations(*parts, one) == pytest.approx(_kernels_array.violations(*parts, other))
        assert np.allclose(one, other)


def test_lasso_agrees_with_scikit_learn_in_its_units():
    X, y = load_breast_cancer(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    for alpha in (0.1, 0.01, 0.001):
        ours = bcd.BCDLasso(alpha, tol=1e-10).fit(X, y.astype(float))
        theirs = Lasso(alpha, tol=1e-10, max_iter=100_000).fit(X, y)
        assert np.allclose(ours.coef_, theirs.coef_, atol=1e-5)
        assert ours.intercept_ == pytest.approx(theirs.intercept_)


def test_penalty_above_the_largest_useful_returns_zero_at_once():
    rng = np.random.default_rng(2)
    A, b = rng.standard_normal((20, 50)), rng.standard_normal(20)
    result = solvers.minimize_bcd(bcd.LeastSquares(A, b), bcd.L1(np.abs(A.T @ b).max() * (1 + 1e-9)))
    assert result.status is solvers.Status.OPTIMAL
    assert not result.x.any()
    assert result.nit == 0


def test_zero_duplicate_and_unpenalised_columns():
    rng = np.random.default_rng(3)
    A = rng.standard_normal((30, 8))
    A[:, 2] = 0.0
    A[:, 5] = A[:, 4]
    lam = np.full(8, 2.0)
    lam[[0, 1]] = 0.0
    loss, penalty = bcd.LeastSquares(A, rng.standard_normal(30), fit_intercept=True), bcd.L1(lam)
    result = solvers.minimize_bcd(loss, penalty, tol=1e-9)
    assert result.status is solvers.Status.OPTIMAL
    assert result.x[2] == 0.0
    assert solvers.verify(result, loss, penalty)


def test_zero_sample_weights_leave_rows_out():
    rng = np.random.default_rng(4)
    A, b, w = rng.standard_normal((40, 10)), rng.standard_normal(40), np.r_[np.zeros(10), rng.random(30) + 0.5]
    for make in (bcd.LeastSquares, lambda A, b, **k: bcd.Logistic(A, np.sign(b), **k)):
        kept = solvers.minimize_bcd(
            make(A[10:], b[10:], sample_weight=w[10:], fit_intercept=True), bcd.L1(1.0), tol=1e-10
        )
        everyone = solvers.minimize_bcd(make(A, b, sample_weight=w, fit_intercept=True), bcd.L1(1.0), tol=1e-10)
        assert everyone.fun == pytest.approx(kept.fun, rel=1e-9)
        assert everyone.intercept == pytest.approx(kept.intercept, abs=1e-5)


def test_separable_logistic_without_penalty_claims_nothing():
    X = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    result = solvers.minimize_bcd(bcd.Logistic(X, np.sign(X[:, 0])), max_iter=50)
    assert result.bound == 0.0
    assert result.fun < 1e-3
    assert result.status is not solvers.Status.INFEASIBLE


def test_multinomial_iris_is_certified():
    X, y = load_iris(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    loss, penalty = bcd.Softmax(X, y, fit_intercept=True), bcd.L1(1.0)
    result = solvers.minimize_bcd(loss, penalty)
    assert result.status is solvers.Status.OPTIMAL
    assert result.x.shape == (4, 3)
    assert np.mean(np.argmax(X @ result.x + result.intercept, axis=1) == y) > 0.95


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: bcd.Logistic(np.eye(3), [0.0, 1.0, 1.0]), "labels -1 or"),
        (lambda: bcd.LeastSquares(np.eye(3), np.ones(2)), "one entry per row"),
        (lambda: bcd.LeastSquares([[1.0, np.nan]], [1.0]), "NaN or infinite"),
        (lambda: bcd.LeastSquares(scipy.sparse.csr_array([[1.0, np.inf]]), [1.0]), "NaN or infinite"),
        (lambda: bcd.LeastSquares(np.zeros((0, 3)), []), "empty"),
        (lambda: bcd.LeastSquares(np.eye(2, dtype=complex), np.ones(2)), "dtype complex"),
        (lambda: bcd.LeastSquares(np.eye(2).astype(object), np.ones(2)), "dtype object"),
        (lambda: bcd.LeastSquares(np.eye(2) * 1e200, np.ones(2)), "rescale"),
        (lambda: bcd.Huber(np.eye(2), np.ones(2), 0.0), "delta"),
        (lambda: bcd.Softmax(np.eye(2), [1, 1]), "two classes"),
        (lambda: bcd.L1(-1.0), "lam must be a number"),
        (lambda: bcd.L1(np.nan), "NaN"),
        (lambda: bcd.Box(1.0, 0.0), "non-empty"),
        (lambda: bcd.LeastSquares(np.eye(2), np.ones(2), sample_weight=[-1.0, 1.0]), "non-negative"),
    ],
)
def test_bad_problems_are_refused_with_the_reason(make, words):
    with pytest.raises((solvers.SolversError, ValueError), match=words):
        make()


def test_inputs_of_every_kind_give_the_same_answer_and_stay_untouched():
    rng = np.random.default_rng(5)
    A, b = np.round(rng.standard_normal((12, 4)) * 4), np.round(rng.standard_normal(12) * 4)
    expected = solvers.minimize_bcd(bcd.LeastSquares(A, b), bcd.L1(2.0)).fun
    strided = np.repeat(A, 2, axis=0)[::2]
    frozen = A.copy()
    frozen.flags.writeable = False
    frame = pandas.DataFrame(A)
    for version in (A.tolist(), A.astype(np.float32), A.astype(int), np.asfortranarray(A), strided, frozen, frame):
        assert solvers.minimize_bcd(bcd.LeastSquares(version, b.tolist()), bcd.L1(2.0)).fun == pytest.approx(expected)
    sparse = scipy.sparse.coo_array(A)
    doubled = scipy.sparse.coo_array(
        (np.r_[sparse.data, sparse.data] / 2, tuple(np.r_[c, c] for c in sparse.coords)), A.shape
    )
    before = doubled.data.copy()
    assert solvers.minimize_bcd(bcd.LeastSquares(doubled, b), bcd.L1(2.0)).fun == pytest.approx(expected)
    assert np.array_equal(before, doubled.data)


def test_paths_are_certified_throughout():
    X, y = ionosphere()
    loss = bcd.Logistic(X, y)
    lams = 0.5 * np.abs(X.T @ y).max() * np.array([1.0, 0.3, 0.1, 0.03])
    results = bcd.bcd_path(loss, bcd.L1, lams)
    assert [len(r.support) for r in results] == sorted(len(r.support) for r in results)
    assert all(r.success and solvers.verify(r, loss, bcd.L1(lam)) for r, lam in zip(results, lams, strict=True))


def test_estimators_follow_scikit_learn():
    X, y = ionosphere()
    ours = bcd.BCDLogisticRegression(0.1, fit_intercept=False, tol=1e-9).fit(X, y)
    theirs = LogisticRegression(
        C=0.1, l1_ratio=1, solver="liblinear", fit_intercept=False, tol=1e-9, max_iter=10_000, random_state=0
    ).fit(X, y)
    assert np.allclose(ours.coef_, theirs.coef_, atol=1e-4)
    assert ours.result_.gap <= 1e-9
    assert np.array_equal(ours.predict(X), ours.classes_[np.argmax(ours.predict_proba(X), axis=1)])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", [bcd.BCDLasso(), bcd.BCDLogisticRegression()])
def test_estimators_pass_scikit_learns_checks(estimator):
    check_estimator(estimator)


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("make", [bcd.BCDLasso, bcd.BCDLogisticRegression])
def test_weights_of_rows_are_their_repetitions(make, fit_intercept):
    rng = np.random.default_rng(12)
    X, times = rng.normal(size=(40, 6)), rng.integers(0, 4, size=40)
    y = X @ rng.normal(size=6) + rng.normal(size=40) + 1.0
    y = y if make is bcd.BCDLasso else np.where(y > 0, "yes", "no")
    settings = {"fit_intercept": fit_intercept, "tol": 1e-12} | ({"alpha": 0.1} if make is bcd.BCDLasso else {"C": 0.7})
    weighted = make(**settings).fit(X, y, sample_weight=times)
    repeated = make(**settings).fit(np.repeat(X, times, axis=0), np.repeat(y, times))
    assert weighted.coef_ == pytest.approx(repeated.coef_, abs=1e-6)
    assert weighted.intercept_ == pytest.approx(repeated.intercept_, abs=1e-6)
    assert weighted.result_.fun == pytest.approx(repeated.result_.fun, rel=1e-11)
    assert not np.allclose(weighted.coef_, make(**settings).fit(X, y).coef_, atol=1e-4)
    assert weighted.score(X, y, sample_weight=times) == pytest.approx(
        repeated.score(np.repeat(X, times, axis=0), np.repeat(y, times)), abs=1e-6
    )
    with pytest.raises(solvers.InvalidProblemError, match="sample_weight"):
        make(**settings).fit(X, y, sample_weight=-np.ones(40))


def test_weighted_lasso_is_scikit_learns():
    rng = np.random.default_rng(13)
    X, weights = rng.normal(size=(50, 8)), rng.uniform(0.0, 3.0, size=50)
    y = X @ rng.normal(size=8) + rng.normal(size=50)
    ours = bcd.BCDLasso(0.2, tol=1e-12).fit(X, y, sample_weight=weights)
    peer = Lasso(0.2, tol=1e-12).fit(X, y, sample_weight=weights)
    assert ours.coef_ == pytest.approx(peer.coef_, abs=1e-6)
