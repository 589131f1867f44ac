"""``TSPRanker``: a scikit-learn estimator that learns path scores from groups of ranked rows."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from ranking._bilinear import score_matrices
from ranking._frank_wolfe import fit_global
from ranking._groups import MARGINS, TIES, WEIGHTS, Target, group_rows, group_shares, target_of
from ranking._learning import Group, fit_local
from ranking._metrics import kendall_tau
from ranking._rank_tsp_batch import RankingBatch, rank_tsp_batch
from solvers._core.arrays import FloatArray, IntArray
from solvers._core.errors import ConvergenceWarning, InvalidProblemError
from solvers._core.options import check_choice, check_integer, check_number

__all__ = ["TSPRanker"]

EMBEDDINGS = ("linear", "quadratic", "spline", "none")
# Default limits of the two trainings.
LOCAL_ITERATIONS = 1000
GLOBAL_EPOCHS = 50
# Interior knots of the spline lift, in within-group standard deviations.
KNOTS = (-1.5, -0.5, 0.5, 1.5)


class TSPRanker(BaseEstimator):  # type: ignore[misc]
    r"""Learn scores for "j comes immediately after i" and rank each group by its best path.

    Scores are bilinear, :math:`A_{ij} = \phi(x_i)^T W \phi(x_j)`, with one matrix W for all groups, so that the order
    of the rows never matters. A depot, a node of its own before the first and after the last item, learns who begins
    and ends.

    Parameters
    ----------
    loss : {"local", "global", "hybrid"}
        ``"local"``: cross-entropy of successors and predecessors, by L-BFGS. ``"global"``: structured hinge on whole
        paths, by block-coordinate Frank-Wolfe with a certified duality gap. ``"hybrid"``: the mean of the two, from the
        local solution on by local and global steps in turn, with the same certificate.
    embedding : {"linear", "quadratic", "spline", "none"}
        phi: ``(1, x)`` with columns standardised on the training rows; or ``(1, z, z^2)`` or hinges of degree 3 of z,
        the columns standardised *within each group*, made for one column with the score of a base ranker (out-of-fold);
        or x as it is, to which a constant column should belong, since without it directions cannot be learnt.
    alpha : float
        Weight of :math:`\tfrac12 \lVert W \rVert^2` beside the mean loss over groups.
    weights : {"uniform", "successor_rank", "top", "dcg"}
        Weight of the row at rank r in a group of n (local loss): 1; r + 1; n - r + 1; 1 / log2(r + 2); scaled to mean
        1.
    margin : {"edge", "rank"}
        Charge of a wrong arc (global loss): 1, or the distance of its ends from being neighbours in true rank.
    ties : {"average", "random", "base"}
        Rows of equal relevance: targets averaged over all their orders, which teaches none; one order drawn by
        ``random_state``; or the order of the first column of X, greater first, meant for the score of a base ranker.
    depot, both_directions : bool
        Whether to learn ends by a depot, and predecessors beside successors.
    two_matrices : bool
        The form of the original model: one matrix for pairs in the order in which rows are presented and one for the
        others. Scores then change with that order, and a model may learn places instead of features; off by default.
    max_iter : int, optional
        L-BFGS iterations (1000 by default), or epochs of Frank-Wolfe (50 by default).
    tol : float
        Gradient (local) or certified duality gap (global, hybrid) at which training ends.
    random_state : int, Generator or None
        Order of the groups in training; choice between equally good paths.

    Attributes
    ----------
    matrix_ : (d, d) float64
        W, the depot's coordinate last; (2, d, d) with ``two_matrices``.
    gap_ : float
        Certified duality gap of the training objective at ``matrix_``; nan for the local loss.
    dual_ : float64 array
        Dual value after each epoch.
    converged_ : bool
    n_features_in_ : int
    feature_names_in_ : (p,) array of str
        Where X was a table with named columns.

    Notes
    -----
    Relevance is higher for better rows. Groups are given as ``qid`` per row, in any order, or as consecutive sizes
    ``group``, or as a column ``qid`` of a table X, which cross-validation then carries along; to route ``qid`` itself,
    use ``set_fit_request(qid=True)``. Groups at prediction need not have been seen in training.

    A model of one score per item can at best reproduce sorting by that score: with a lifted base score this estimator
    does no harm, and gains need features that say something about *neighbours*.

    References
    ----------
    W. Li et al., TSPRank: bridging pairwise and listwise methods with a bilinear travelling salesman model, KDD 2025.
    S. Lacoste-Julien et al., Block-coordinate Frank-Wolfe optimization for structural SVMs, ICML 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from solvers.ranking import TSPRanker
    >>> X = np.random.default_rng(0).standard_normal((200, 1))
    >>> qid = np.repeat(np.arange(20), 10)
    >>> ranker = TSPRanker(embedding="quadratic", random_state=0).fit(X, X[:, 0], qid=qid)
    >>> round(ranker.score(X, X[:, 0], qid=qid), 6)
    1.0
    """

    def __init__(
        self,
        loss: str = "local",
        *,
        embedding: str = "linear",
        alpha: float = 1e-2,
        weights: str = "uniform",
        margin: str = "edge",
        ties: str = "average",
        depot: bool = True,
        both_directions: bool = True,
        two_matrices: bool = False,
        max_iter: int | None = None,
        tol: float = 1e-4,
        random_state: Any = None,
    ) -> None:
        self.loss = loss
        self.embedding = embedding
        self.alpha = alpha
        self.weights = weights
        self.margin = margin
        self.ties = ties
        self.depot = depot
        self.both_directions = both_directions
        self.two_matrices = two_matrices
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, X: Any, y: Any, *, qid: Any = None, group: Any = None, sample_weight: Any = None) -> TSPRanker:
        """Learn from rows X (n, p) of relevance y (n,), grouped by exactly one of ``qid`` (n,) and ``group`` (sizes).

        ``sample_weight`` (n,): a group counts by the mean of its rows' weights.
        """
        self._check()
        X, qid, group = _grouping(X, qid, group)
        if y is None:
            raise ValueError("TSPRanker requires y to be passed, but the target y is None")
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        try:
            y = np.asarray(y, dtype=np.float64)
        except ValueError as error:
            raise ValueError(f"y must be numbers, higher for better rows: {error}") from None
        rows = group_rows(len(X), qid, group)
        rng = self._generator()
        scale = X.std(axis=0)
        self._mean, self._scale = X.mean(axis=0), np.where(scale > 0, scale, 1.0)
        groups = [
            Group(self._embed(X[r]), self._target(X[r], y[r], rng), float(share))
            for r, share in zip(rows, group_shares(rows, sample_weight), strict=True)
        ]
        size = groups[0].embedding.shape[1]
        shape = (2, size, size) if self.two_matrices else (size, size)
        both = self.both_directions
        self.gap_, self.dual_ = float("nan"), np.empty(0)
        if self.loss != "global":
            # Half the local loss and alpha have the minimiser of the whole one and twice alpha.
            alpha = self.alpha if self.loss == "local" else 2.0 * self.alpha
            limit = self.max_iter if self.loss == "local" and self.max_iter is not None else LOCAL_ITERATIONS
            self.matrix_, self.converged_ = fit_local(groups, shape, alpha, both=both, max_iter=limit, tol=self.tol)
        if self.loss != "local":
            start = self.matrix_ if self.loss == "hybrid" else None
            epochs = GLOBAL_EPOCHS if self.max_iter is None else self.max_iter
            found = fit_global(groups, shape, self.alpha, epochs=epochs, tol=self.tol, rng=rng, both=both, start=start)
            self.matrix_, self.gap_, self.dual_ = found.matrix, found.gap, found.dual
            self.converged_ = found.gap <= self.tol
        if not self.converged_:
            warnings.warn(
                f"training stopped at its limit (max_iter={self.max_iter}) short of tol={self.tol:g}",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def predict(self, X: Any, *, qid: Any = None, group: Any = None) -> FloatArray:
        """Scores (n,) that order the rows within each group, higher is better: group size less rank."""
        batch, rows = self.decode(X, qid=qid, group=group)
        scores = np.empty(sum(map(len, rows)))
        for order, r in zip(self._item_orders(batch), rows, strict=True):
            scores[r[order]] = np.arange(len(r), 0, -1)
        return scores

    def predict_order(self, X: Any, *, qid: Any = None, group: Any = None) -> list[IntArray]:
        """Rows of each group, best first, the groups in ascending order of qid."""
        batch, rows = self.decode(X, qid=qid, group=group)
        return [r[order] for order, r in zip(self._item_orders(batch), rows, strict=True)]

    def decision_matrix(self, X: Any, *, qid: Any = None, group: Any = None) -> list[FloatArray]:
        """Score matrices of the groups, the depot last where there is one."""
        return self._scores(X, qid, group)[0]

    def decode(self, X: Any, *, qid: Any = None, group: Any = None) -> tuple[RankingBatch, list[IntArray]]:
        """The certified paths behind ``predict`` and the rows of each group; nodes are rows and then the depot."""
        scores, rows = self._scores(X, qid, group)
        return rank_tsp_batch(scores, closed=self.depot, rng=self._generator()), rows

    def score(self, X: Any, y: Any, *, qid: Any = None, group: Any = None, sample_weight: Any = None) -> float:
        """Mean Kendall tau-b over the groups in which it is defined, weighted by the mean ``sample_weight`` of each."""
        X, qid, group = _grouping(X, qid, group)
        y = np.asarray(y, dtype=np.float64)
        scores = self.predict(X, qid=qid, group=group)
        rows = group_rows(len(y), qid, group)
        taus, shares = np.array([kendall_tau(y[r], scores[r]) for r in rows]), group_shares(rows, sample_weight)
        shares = np.where(np.isnan(taus), 0.0, shares)
        return float(np.average(np.nan_to_num(taus), weights=shares)) if shares.any() else float("nan")

    def _check(self) -> None:
        check_choice("loss", self.loss, ("local", "global", "hybrid"))
        check_choice("embedding", self.embedding, EMBEDDINGS)
        check_choice("weights", self.weights, WEIGHTS)
        check_choice("margin", self.margin, MARGINS)
        check_choice("ties", self.ties, TIES)
        check_number("alpha", self.alpha, low=0.0, strict=True)
        check_number("tol", self.tol, low=0.0)
        if self.max_iter is not None:
            check_integer("max_iter", self.max_iter, low=1)

    def _generator(self) -> np.random.Generator:
        return np.random.default_rng(self.random_state)

    def _scores(self, X: Any, qid: Any, group: Any) -> tuple[list[FloatArray], list[IntArray]]:
        check_is_fitted(self)
        X, qid, group = _grouping(X, qid, group)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        rows = group_rows(len(X), qid, group)
        return [score_matrices(self._embed(X[r]), self.matrix_) for r in rows], rows

    def _item_orders(self, batch: RankingBatch) -> list[IntArray]:
        """Orders of the items; a cycle is read from behind the depot."""
        orders = []
        for order, m in zip(batch.order, batch.lengths, strict=True):
            nodes = order[:m]
            if self.depot:
                at = int(np.flatnonzero(nodes == m - 1)[0])
                nodes = np.concatenate([nodes[at + 1 :], nodes[:at]])
            orders.append(nodes)
        return orders

    def _embed(self, X: FloatArray) -> FloatArray:
        """Rows phi(x) of one group, with the depot's row and coordinate last."""
        n = len(X)
        if self.embedding == "none":
            columns = [X]
        elif self.embedding == "linear":
            columns = [np.ones((n, 1)), (X - self._mean) / self._scale]
        else:
            spread = X.std(axis=0)
            z = (X - X.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
            columns = [np.ones((n, 1)), z]
            columns += (
                [z**2] if self.embedding == "quadratic" else [(np.maximum(z - knot, 0.0) / 3.0) ** 3 for knot in KNOTS]
            )
        phi = np.hstack(columns)
        if not self.depot:
            return phi
        out = np.zeros((n + 1, phi.shape[1] + 1))
        out[:n, :-1] = phi
        out[n, -1] = 1.0
        return out

    def _target(self, X: FloatArray, y: FloatArray, rng: np.random.Generator) -> Target:
        breaker = {"average": None, "random": rng.random(len(y)), "base": X[:, 0]}[self.ties]
        return target_of(y, depot=self.depot, weights=self.weights, margin=self.margin, ties=breaker)


def _grouping(X: Any, qid: Any, group: Any) -> tuple[Any, Any, Any]:
    """A column ``qid`` of a table X serves as qid, and is no feature."""
    if "qid" not in getattr(X, "columns", ()):
        return X, qid, group
    if qid is not None or group is not None:
        raise InvalidProblemError("qid and group must be None where X has a column 'qid'; got both")
    return X.drop(columns="qid"), np.asarray(X["qid"]), None


TSPRanker.__module__ = "ranking"
