"""The estimators follow scikit-learn's rules and say what the entries say."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
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
