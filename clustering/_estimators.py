"""scikit-learn estimators over the entries of the family; imported on first use, as scikit-learn is."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from clustering._ila_sdp import ila_sdp
from clustering._kmeans_sdp import kmeans_sdp
from clustering._likelihood import log_constant
from clustering._mixture_result import model_of
from solvers._core.arrays import FloatArray, IntArray

__all__ = ["ILASDP", "KMeansSDP"]


def _seed(random_state: Any) -> Any:
    """Seed for the entries from scikit-learn's ``random_state``."""
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    return random_state


class KMeansSDP(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """k-means with a certified lower bound, as a scikit-learn estimator.

    Parameters
    ----------
    n_clusters : int
    method, tol, max_iter, time_limit, backend, options
        See :func:`clustering.kmeans_sdp`.
    random_state : int, RandomState, Generator or None

    Attributes
    ----------
    labels_ : (n,) int64
    cluster_centers_ : (K, p) float64
        In lexicographic order, which numbers the labels; ``result_`` has the numbers of the run.
    inertia_, bound_, gap_ : float
        Cost of the labels, proved bound on the cost of every clustering, relative distance of both.
    n_iter_ : int
    result_ : ClusteringResult
        For :func:`solvers.verify`.

    Examples
    --------
    >>> import solvers
    >>> from solvers.clustering import KMeansSDP
    >>> X = solvers.load_example("ruspini").data
    >>> model = KMeansSDP(n_clusters=4, random_state=7).fit(X)
    >>> model.gap_ < 1e-6, model.predict(X[:1]) == model.labels_[:1]
    (True, array([ True]))
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        method: str = "auto",
        tol: float = 1e-6,
        max_iter: int | None = None,
        time_limit: float | None = None,
        random_state: Any = None,
        backend: str = "auto",
        options: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.method = method
        self.tol = tol
        self.max_iter = max_iter
        self.time_limit = time_limit
        self.random_state = random_state
        self.backend = backend
        self.options = options

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> KMeansSDP:
        """Cluster the rows of X; ``y`` is ignored."""
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=1)
        if sample_weight is not None:
            sample_weight = np.asarray(sample_weight, dtype=np.float64)
        self.result_ = kmeans_sdp(
            X,
            self.n_clusters,
            sample_weight=sample_weight,
            method=self.method,
            tol=self.tol,
            max_iter=self.max_iter,
            time_limit=self.time_limit,
            rng=_seed(self.random_state),
            backend=self.backend,
            options=self.options,
        )
        # Numbered by their centres, so that repeating rows or weighting them gives the same labels.
        centers = np.asarray(self.result_.centers)
        order = np.lexsort(centers.T[::-1])
        self.labels_ = np.argsort(order)[np.asarray(self.result_.labels)].astype(np.int64)
        self.cluster_centers_ = centers[order]
        self.inertia_, self.bound_, self.gap_ = self.result_.fun, self.result_.bound, self.result_.gap
        self.n_iter_ = max(1, self.result_.nit)
        self._n_features_out = len(self.cluster_centers_)
        return self

    def predict(self, X: Any) -> IntArray:
        """Nearest centre of each row."""
        distances: IntArray = np.argmin(self.transform(X), axis=1)
        return distances

    def transform(self, X: Any) -> FloatArray:
        """Distances of each row to the centres, (m, K)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        difference = X[:, None, :] - self.cluster_centers_
        distances: FloatArray = np.sqrt(np.sum(difference * difference, axis=2))
        return distances

    def score(self, X: Any, y: Any = None) -> float:
        """Minus the k-means cost of new rows."""
        return -float(np.sum(np.min(self.transform(X), axis=1) ** 2))


class ILASDP(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Gaussian clusters of different shapes, as a scikit-learn estimator.

    Parameters
    ----------
    n_clusters : int
    covariance_type, mixing, floor, reg_covar, method, tol, max_iter, time_limit, backend, options
        See :func:`clustering.ila_sdp`.
    random_state : int, RandomState, Generator or None

    Attributes
    ----------
    labels_ : (n,) int64
    means_ : (K, p) float64
    covariances_ : array
        Shape by ``covariance_type``, as in GaussianMixture.
    weights_ : (K,) float64
    bound_, gap_ : float
        Proved bound on the log-likelihood (infinite but for one covariance and two clusters), relative distance.
    n_iter_ : int
    result_ : GaussianClusteringResult
        For :func:`solvers.verify`.

    Examples
    --------
    >>> import solvers
    >>> from solvers.clustering import ILASDP
    >>> X = solvers.load_example("iris").data
    >>> model = ILASDP(n_clusters=3, random_state=0, options={"starts": ("kmeans", "ward")}).fit(X)
    >>> model.means_.shape, model.covariances_.shape
    ((3, 4), (3, 4, 4))
    """

    def __init__(
        self,
        n_clusters: int = 1,
        *,
        covariance_type: str = "full",
        mixing: bool = False,
        floor: float = 0.2,
        reg_covar: float = 1e-6,
        method: str = "auto",
        tol: float = 1e-6,
        max_iter: int | None = None,
        time_limit: float | None = None,
        random_state: Any = None,
        backend: str = "auto",
        options: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.covariance_type = covariance_type
        self.mixing = mixing
        self.floor = floor
        self.reg_covar = reg_covar
        self.method = method
        self.tol = tol
        self.max_iter = max_iter
        self.time_limit = time_limit
        self.random_state = random_state
        self.backend = backend
        self.options = options

    def fit(self, X: Any, y: Any = None) -> ILASDP:
        """Cluster the rows of X; ``y`` is ignored."""
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        self.result_ = ila_sdp(
            X,
            self.n_clusters,
            covariance_type=self.covariance_type,
            mixing=self.mixing,
            floor=self.floor,
            reg_covar=self.reg_covar,
            method=self.method,
            tol=self.tol,
            max_iter=self.max_iter,
            time_limit=self.time_limit,
            rng=_seed(self.random_state),
            backend=self.backend,
            options=self.options,
        )
        self.labels_ = np.array(self.result_.labels)
        self.means_, self.covariances_ = np.array(self.result_.centers), np.array(self.result_.covariances)
        self.weights_ = np.array(self.result_.weights)
        self.bound_, self.gap_ = self.result_.bound, self.result_.gap
        self.n_iter_ = max(1, self.result_.nit)
        return self

    def predict(self, X: Any) -> IntArray:
        """Most likely cluster of each row."""
        check_is_fitted(self)
        return self.result_.predict(validate_data(self, X, dtype=np.float64, reset=False))

    def score_samples(self, X: Any) -> FloatArray:
        """Log density of each row under the mixture of the clusters with their shares as weights, as in GaussianMixture."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        model = model_of(self.result_)
        shares = 0.0 if self.result_.mixing else np.log(self.weights_)
        terms = shares - model.discriminants(X, self.means_) - log_constant(1, X.shape[1])
        densities: FloatArray = np.logaddexp.reduce(terms, axis=1)
        return densities

    def score(self, X: Any, y: Any = None) -> float:
        """Mean of ``score_samples``; ``y`` is ignored."""
        return float(np.mean(self.score_samples(X)))


KMeansSDP.__module__ = "clustering"
ILASDP.__module__ = "clustering"
