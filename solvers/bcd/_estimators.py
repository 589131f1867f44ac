"""scikit-learn estimators over :func:`solvers.minimize_bcd`: drop-in names, a certified gap in ``result_``."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from solvers._core.arrays import FloatArray
from solvers._core.errors import ConvergenceWarning
from solvers._core.options import check_number
from solvers.bcd._losses import LeastSquares, Logistic
from solvers.bcd._minimize_bcd import minimize_bcd
from solvers.bcd._penalties import L1
from solvers.bcd._result import BCDResult

__all__ = ["BCDLasso", "BCDLogisticRegression"]


def _weights(sample_weight: Any) -> FloatArray | None:
    return None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)


def _announce(result: BCDResult) -> None:
    if not result.success:
        warnings.warn(
            f"{result.status.name}: {result.message} (gap {result.gap:.1e})", ConvergenceWarning, stacklevel=3
        )


class BCDLasso(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Lasso, ``|y - X w - c|^2 / (2 n) + alpha |w|_1``, with a certified gap.

    Sample weights v make it ``sum_i v_i (y_i - x_i^T w - c)^2 / (2 sum_i v_i) + alpha |w|_1``, as in scikit-learn.

    Parameters
    ----------
    alpha : float
        As in scikit-learn's ``Lasso``: the loss is a mean here, so ``L1(n * alpha)`` underneath.
    fit_intercept : bool
    tol : float
        Certified relative gap.
    max_iter : int or None
        Outer iterations.

    Attributes
    ----------
    coef_ : (p,) array
    intercept_ : float
    n_iter_ : int
    result_ : BCDResult
        With ``bound``, ``gap`` and certificate (of the sum, not the mean).
    """

    def __init__(
        self, alpha: float = 1.0, *, fit_intercept: bool = True, tol: float = 1e-6, max_iter: int | None = None
    ) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> BCDLasso:
        """Fit to rows X (n, p), dense or sparse, and targets y (n,); a row of weight w counts as w equal rows."""
        X, y = validate_data(self, X, y, accept_sparse="csc", dtype=np.float64, y_numeric=True)
        alpha = check_number("alpha", self.alpha, low=0.0)
        weights = _weights(sample_weight)
        y = np.asarray(y, dtype=np.float64)
        loss = LeastSquares(X, y, sample_weight=weights, fit_intercept=self.fit_intercept)
        rows = len(y) if weights is None else float(np.sum(weights))
        result = minimize_bcd(loss, L1(rows * alpha), tol=self.tol, max_iter=self.max_iter)
        _announce(result)
        self.coef_, self.intercept_ = result.x, result.intercept
        self.n_iter_, self.result_ = max(result.nit, 1), result
        return self

    def predict(self, X: Any) -> FloatArray:
        """X w + c."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float64, reset=False)
        return np.asarray(X @ self.coef_ + self.intercept_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class BCDLogisticRegression(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Sparse logistic regression for two classes, with a certified gap.

    Minimises ``|w|_1 + C sum_i v_i log(1 + exp(-y_i (x_i^T w + c)))`` with sample weights v, ones by default.

    Parameters
    ----------
    C : float
        As in scikit-learn's ``LogisticRegression(penalty="l1")``: the penalty underneath is ``L1(1 / C)``.
    fit_intercept : bool
        The intercept is not penalised (liblinear's is).
    tol : float
        Certified relative gap.
    max_iter : int or None
        Outer iterations.

    Attributes
    ----------
    classes_ : (2,) array
    coef_ : (1, p) array
    intercept_ : (1,) array
    n_iter_ : int
    result_ : BCDResult
    """

    def __init__(
        self, C: float = 1.0, *, fit_intercept: bool = True, tol: float = 1e-6, max_iter: int | None = None
    ) -> None:
        self.C = C
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> BCDLogisticRegression:
        """Fit to rows X (n, p), dense or sparse, and labels y (n,) of two classes; a row of weight w counts as w equal rows."""
        X, y = validate_data(self, X, y, accept_sparse="csc", dtype=np.float64)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) > 2:
            raise ValueError(f"Only binary classification is supported. y has {len(self.classes_)} classes")
        if len(self.classes_) < 2:
            raise ValueError(f"This solver needs samples of two classes; y contains one class: {self.classes_[0]!r}")
        C = check_number("C", self.C, low=0.0, strict=True, finite=False)
        weights = _weights(sample_weight)
        loss = Logistic(X, 2.0 * codes - 1.0, sample_weight=weights, fit_intercept=self.fit_intercept)
        result = minimize_bcd(loss, L1(1.0 / C), tol=self.tol, max_iter=self.max_iter)
        _announce(result)
        self.coef_, self.intercept_ = result.x[None, :], np.atleast_1d(result.intercept)
        self.n_iter_, self.result_ = max(result.nit, 1), result
        return self

    def decision_function(self, X: Any) -> FloatArray:
        """X w + c."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float64, reset=False)
        return np.asarray(X @ self.coef_[0] + self.intercept_[0])

    def predict_proba(self, X: Any) -> FloatArray:
        """Probabilities of the two classes, (n, 2)."""
        positive = 1.0 / (1.0 + np.exp(-np.clip(self.decision_function(X), -500.0, 500.0)))
        return np.column_stack([1.0 - positive, positive])

    def predict(self, X: Any) -> Any:
        """The likelier class of each row."""
        check_is_fitted(self)
        return self.classes_[(self.decision_function(X) > 0).astype(int)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.sparse = True
        return tags


for _public in (BCDLasso, BCDLogisticRegression):
    _public.__module__ = "solvers.bcd"
