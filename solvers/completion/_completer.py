"""``MatrixCompleter``: the estimator, for pipelines, new rows and recommendations."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from solvers._core.arrays import FloatArray, IntArray, to_host
from solvers._core.errors import ConvergenceWarning, InvalidProblemError
from solvers._core.options import check_integer
from solvers.completion._blocked_problem import as_blocked
from solvers.completion._complete_matrix import complete_matrix
from solvers.completion._observations import Observations, data_at_home, read_observations
from solvers.completion._result import ARRAYS, CompletionResult

if TYPE_CHECKING:

    class BaseEstimator:
        """What scikit-learn's base class gives: parameters from the signature of ``__init__``."""

        def __sklearn_tags__(self) -> Any: ...

        def get_params(self) -> dict[str, Any]: ...

    class TransformerMixin:
        """What scikit-learn's mixin gives: ``fit_transform``."""

else:
    from sklearn.base import BaseEstimator, TransformerMixin

__all__ = ["MatrixCompleter"]

# Ridge that keeps the rows of too few entries solvable, relative to the mean square of the factor's entries.
SAFEGUARD = 1e-10
# Where the penalty has removed all directions, their ridge is at most 1/FLOOR: finite, also times the number of entries.
FLOOR = 1e-250
PLAIN = (bool, int, float, str)
STORED = (*ARRAYS, "row_shrinkage", "basis", "lengths")


class MatrixCompleter(TransformerMixin, BaseEstimator):
    """Low-rank matrix completion as an estimator.

    Parameters
    ----------
    rank : int
        Number of columns of the factors; this and the next as in :func:`solvers.complete_matrix`.
    reg : float
        Multiplier of the nuclear norm.
    reg_scaling : {"plain", "count"}
        Whether factor rows are penalised by their numbers of entries.
    loss : {"l2", "huber"}
        Loss of a residual.
    delta : float or "auto"
        Huber threshold.
    biases : bool
        Fit row and column effects first.
    holdout : float
        Fraction of the entries kept out of the fit.
    duplicates : {"error", "mean"}
        What repeated positions mean.
    method : str
        How rows are solved.
    tol : float
        Tolerance of the run.
    max_iter : int, optional
        Sweeps at most.
    options : mapping, optional
        Settings of the method.
    random_state : int, Generator or None
        Seeds the held-out draw and the start.

    Attributes
    ----------
    U_, s_, V_ : array
        ``A ~ U_ diag(s_) V_ᵀ`` plus biases.
    result_ : CompletionResult
        With bound, gap and ``determined``; absent after :meth:`load`.
    row_shrinkage_ : float
        Weight with which row effects are pulled to their mean.
    basis_, lengths_ : (n, k), (k,)
        Where the penalty of a row with coordinates y in the basis is reg/2 y² / lengths: ``V_`` and ``s_`` for the plain
        norm.
    n_features_in_, n_iter_ : int
        Columns; sweeps.

    Examples
    --------
    >>> import numpy as np
    >>> from solvers.completion import MatrixCompleter
    >>> A = np.outer([1.0, 2.0, 3.0], [1.0, 2.0, 4.0, 8.0])
    >>> A[0, 3] = np.nan
    >>> MatrixCompleter(1, random_state=0).fit(A).predict([0], [3]).round(4)
    array([8.])
    """

    U_: FloatArray
    s_: FloatArray
    V_: FloatArray
    row_bias_: FloatArray
    col_bias_: FloatArray
    row_shrinkage_: float
    basis_: FloatArray
    lengths_: FloatArray
    n_features_in_: int
    n_iter_: int

    def __init__(
        self,
        rank: int = 10,
        *,
        reg: float = 0.0,
        reg_scaling: str = "plain",
        loss: str = "l2",
        delta: Any = "auto",
        biases: bool = False,
        holdout: float = 0.0,
        duplicates: str = "error",
        method: str = "auto",
        tol: float = 1e-6,
        max_iter: int | None = None,
        options: Any = None,
        random_state: Any = None,
    ) -> None:
        self.rank = rank
        self.reg = reg
        self.reg_scaling = reg_scaling
        self.loss = loss
        self.delta = delta
        self.biases = biases
        self.holdout = holdout
        self.duplicates = duplicates
        self.method = method
        self.tol = tol
        self.max_iter = max_iter
        self.options = options
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Complete X; ``sample_weight`` are the weights of its entries."""
        result = complete_matrix(
            X,
            self.rank,
            weights=sample_weight,
            reg=self.reg,
            reg_scaling=self.reg_scaling,
            loss=self.loss,
            delta=self.delta,
            biases=self.biases,
            holdout=self.holdout,
            duplicates=self.duplicates,
            method=self.method,
            tol=self.tol,
            max_iter=self.max_iter,
            rng=self.random_state,
            options=self.options,
        )
        if not result.success:
            warnings.warn(result.message, ConvergenceWarning, stacklevel=2)
        self.result_ = result
        for name in ARRAYS:
            setattr(self, f"{name}_", to_host(result[name]))
        self.row_shrinkage_ = result.row_shrinkage
        self.n_features_in_, self.n_iter_ = len(self.V_), result.nit
        self._keep_basis(X, sample_weight)
        return self

    def predict(self, rows: Any, cols: Any) -> FloatArray:
        """Completed entries at the given positions."""
        completed: FloatArray = self._predictor().predict(rows, cols)
        return completed

    def transform(self, X: Any) -> FloatArray:
        """Coordinates of new rows in the basis ``V_``, (r, k): a ridge regression of each row's entries.

        ``X`` takes any of the forms of the training data and has its columns. The column biases and :meth:`row_effects`
        are subtracted first; :meth:`complete_rows` adds them again. The ridge is that of the fit, times the number of the
        row's entries with ``reg_scaling="count"``: at the optimum, the training rows get their own coordinates ``U_ * s_``.
        """
        observed = self._rows_of(X)
        effects = self._effects(observed)
        out = np.zeros((observed.shape[0], len(self.s_)))
        longest = float(self.lengths_[0])
        if self.reg > 0 and longest == 0.0:
            # Every direction is penalised beyond any gain, as it was in the fit.
            return out
        ridge = self.reg / np.maximum(self.lengths_, max(1e-14 * longest, FLOOR * max(self.reg, 1.0)))
        safeguard = SAFEGUARD * float(np.mean(self.basis_**2))
        for i in range(observed.shape[0]):
            part = slice(observed.indptr[i], observed.indptr[i + 1])
            cols = observed.cols[part]
            panel = self.basis_[cols]
            target = observed.values[part] - self.col_bias_[cols] - effects[i]
            penalty = (len(cols) if self.reg_scaling == "count" else 1) * ridge + safeguard
            out[i] = np.linalg.solve(panel.T @ panel + np.diag(penalty), panel.T @ target)
        coordinates: FloatArray = out @ (self.basis_.T @ self.V_)
        return coordinates

    def row_effects(self, X: Any) -> FloatArray:
        """Row biases of new rows, (r,), shrunk as those of the training rows, which get their own; zeros without biases."""
        return self._effects(self._rows_of(X))

    def complete_rows(self, X: Any) -> FloatArray:
        """New rows completed, (r, n): ``transform(X) @ V_.T`` plus the effects of columns and rows."""
        completed: FloatArray = self.transform(X) @ self.V_.T + self.col_bias_ + self.row_effects(X)[:, None]
        return completed

    def score(self, A: Any, y: Any = None) -> float:
        """Coefficient of determination R² of the predictions at the entries of A, a matrix of the training shape.

        As scikit-learn's regressors have it: 1 is perfect, and the mean of these entries scores 0. Hold entries out before
        ``fit`` to judge predictions by it; to choose ``rank`` or ``reg``, see :func:`solvers.completion.select_rank` and
        :func:`solvers.completion.select_reg`: entries are what is split there, where ``GridSearchCV`` splits rows.
        """
        seen, predictor = self._rows_of(A), self._predictor()
        if seen.shape[0] != len(self.U_):
            raise InvalidProblemError(
                f"A must have the shape of the training data, ({len(self.U_)}, {len(self.V_)}); got {seen.shape} (select_rank "
                "and select_reg split entries, where GridSearchCV splits rows)"
            )
        if seen.size == 0:
            raise InvalidProblemError(f"A must have at least one observed entry; got none in shape {seen.shape}")
        misses = seen.values - predictor.predict(seen.rows, seen.cols)
        spread = float(np.sum((seen.values - np.mean(seen.values)) ** 2))
        if spread == 0.0:
            raise InvalidProblemError("A must have two entries that differ; R2 is not defined on a constant")
        return 1.0 - float(np.sum(misses**2)) / spread

    def top(self, rows: Any, count: int = 10, *, exclude: Any = None) -> tuple[IntArray, FloatArray]:
        """The ``count`` columns of largest completed value in each of the given rows, best first, with the values.

        ``exclude`` (scipy.sparse or dense with NaN, of the training shape) marks entries that are not to be listed,
        such as those seen already; where too few remain, the list ends with column -1 and value -inf.
        """
        predictor = self._predictor()
        rows = np.atleast_1d(np.asarray(rows))
        n = len(self.V_)
        check_integer("count", count, low=1, high=n)
        seen = None if exclude is None else read_observations(exclude, None, "mean", may_be_empty=True)
        if seen is not None and seen.shape != (len(self.U_), n):
            raise InvalidProblemError(f"exclude must have shape ({len(self.U_)}, {n}); got {seen.shape}")
        columns, values = np.empty((len(rows), count), dtype=np.int64), np.empty((len(rows), count))
        predictor.predict(rows, 0)
        for position, row in enumerate(rows):
            scores = self.V_ @ (self.U_[row] * self.s_) + (self.row_bias_[row] + self.col_bias_)
            if seen is not None:
                scores[seen.cols[seen.indptr[row] : seen.indptr[row + 1]]] = -np.inf
            best = np.argpartition(-scores, count - 1)[:count]
            best = best[np.lexsort((best, -scores[best]))]
            values[position] = scores[best]
            columns[position] = np.where(np.isfinite(scores[best]), best, -1)
        return columns, values

    def save(self, path: str | Path) -> None:
        """Write factors, biases and parameters (those that are plain) to a file in NumPy's ``.npz`` format, without pickles."""
        self._predictor()
        stored = {name: getattr(self, f"{name}_") for name in STORED}
        plain = {name: value for name, value in self.get_params().items() if isinstance(value, PLAIN)}
        with open(path, "wb") as file:  # a file, because NumPy appends .npz to names
            np.savez(file, parameters=json.dumps(plain), **stored)

    @classmethod
    def load(cls, path: str | Path) -> MatrixCompleter:
        """Read what :meth:`save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            fresh = cls(**json.loads(str(stored["parameters"])))
            for name in STORED:
                setattr(fresh, f"{name}_", stored[name])
        fresh.row_shrinkage_ = float(fresh.row_shrinkage_)
        fresh.n_features_in_ = len(fresh.V_)
        return fresh

    def __sklearn_tags__(self) -> Any:
        """NaN means unseen; in sparse input, what is not stored."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = True
        return tags

    def _keep_basis(self, X: Any, weights: Any) -> None:
        """Basis and lengths in which the penalty of a row is a ridge."""
        self.basis_, self.lengths_ = self.V_, self.s_
        if self.reg_scaling != "count" or self.reg == 0:
            return
        matrix = as_blocked(X)
        if matrix is not None:
            counts = matrix.counts(), matrix.counts(columns=True)
        else:
            observed = read_observations(*data_at_home(X, weights), self.duplicates)
            counts = observed.row_counts, observed.col_counts
        held = np.asarray(self.result_.holdout_index).T
        fitted = tuple(side - np.bincount(index, minlength=len(side)) for side, index in zip(counts, held, strict=True))
        rows, cols = (np.sqrt(count.astype(np.float64)) for count in fitted)
        left, right = (self.U_ * self.s_) * rows[:, None], self.V_ * cols[:, None]
        q, r = np.linalg.qr(right)
        _, self.lengths_, turn = np.linalg.svd(np.linalg.qr(left, mode="r") @ r.T)
        self.basis_ = (q @ turn.T) / np.where(cols > 0, cols, np.inf)[:, None]

    def _rows_of(self, X: Any) -> Observations:
        """New rows, with the columns of the training data."""
        self._predictor()
        observed = read_observations(*data_at_home(X, None), self.duplicates, may_be_empty=True)
        if observed.shape[1] != len(self.V_):
            raise InvalidProblemError(
                f"X must have {len(self.V_)} columns; X has {observed.shape[1]} features, but MatrixCompleter is expecting "
                f"{len(self.V_)} features as input"
            )
        return observed

    def _effects(self, observed: Observations) -> FloatArray:
        """Given the column effects, row effects have a closed form."""
        if self.row_shrinkage_ == 0.0:
            return np.zeros(observed.shape[0])
        mean = float(np.mean(self.row_bias_))
        deviations = observed.values - self.col_bias_[observed.cols] - mean
        totals = np.bincount(observed.rows, deviations, observed.shape[0])
        effects: FloatArray = mean + totals / (observed.row_counts + self.row_shrinkage_)
        return effects

    def _predictor(self) -> CompletionResult:
        if not hasattr(self, "U_"):
            from sklearn.exceptions import NotFittedError

            raise NotFittedError("this MatrixCompleter is not fitted yet; call fit first")
        return CompletionResult({name: getattr(self, f"{name}_") for name in ARRAYS})


MatrixCompleter.__module__ = "solvers.completion"
