"""The estimators follow scikit-learn's rules and say what the entries say."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.mixture import GaussianMixture
from sklearn.mixture._gaussian_mixture import _compute_precision_cholesky
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import solvers
from clustering import ILASDP, KMeansSDP


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [
        KMeansSDP(n_clusters=2, method="structured"),
        ILASDP(n_clusters=2, max_iter=2, options={"starts": ("kmeans",)}),
    ]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([KMeansSDP(n_clusters=2), ILASDP(n_clusters=2)])
def test_scikit_learn_checks_of_the_default_settings(estimator, check):
    check(estimator)


def test_kmeans_estimator_is_the_entry():
    X = solvers.load_example("iris").data
    model = KMeansSDP(3, method="exact", tol=1e-4, random_state=0).fit(X)
    result = solvers.kmeans_sdp(X, 3, method="exact", tol=1e-4, rng=0)
    assert model.inertia_ == result.fun
    assert model.bound_ == result.bound
    assert np.array_equal(model.predict(X), model.labels_)
    assert len(np.unique(np.stack([model.labels_, result.labels]), axis=1).T) == 3
    assert model.score(X) == pytest.approx(-result.fun)
    assert solvers.verify(model.result_, X, 3)


def test_mixture_estimator_clones_and_pipes():
    X = solvers.load_example("iris").data
    model = make_pipeline(StandardScaler(), clone(ILASDP(3, random_state=0, options={"starts": ("kmeans",)})))
    assert len(np.unique(model.fit_predict(X))) == 3


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("mixing", [False, True])
def test_mixture_score_is_that_of_a_gaussian_mixture_with_the_same_parameters(covariance_type, mixing):
    X = solvers.load_example("iris").data
    settings = {"covariance_type": covariance_type, "mixing": mixing, "random_state": 0}
    model = ILASDP(3, max_iter=1, options={"starts": ("ward",)}, **settings).fit(X)
    peer = GaussianMixture(3, covariance_type=covariance_type)
    peer.weights_, peer.means_, peer.covariances_ = model.weights_, model.means_, model.covariances_
    inverse = _compute_precision_cholesky(model.covariances_, covariance_type)
    peer.precisions_cholesky_ = inverse
    assert model.score_samples(X) == pytest.approx(peer.score_samples(X), rel=1e-10)
    assert model.score(X) == pytest.approx(peer.score(X), rel=1e-12)


def test_results_label_new_points_by_their_nearest_centre():
    X = solvers.load_example("iris").data
    result = solvers.kmeans_sdp(X, 3, method="structured", rng=0)
    assert np.array_equal(result.predict(X), result.labels)
    far = solvers.kmeans_sdp(X + 1e8, 3, method="structured", rng=0)
    assert np.array_equal(far.predict(X + 1e8), far.labels)
    judged = solvers.certify_kmeans(X, result.labels)
    assert np.array_equal(judged.predict(result.centers.tolist()), [0, 1, 2])
    xp = pytest.importorskip("array_api_strict")
    there = solvers.kmeans_sdp(xp.asarray(X), 3, method="structured", rng=0)
    assert np.array_equal(np.asarray(there.predict(xp.asarray(X))), np.asarray(there.labels))
    with pytest.raises(solvers.InvalidProblemError, match="4 columns; got 3"):
        result.predict(X[:, :3])
