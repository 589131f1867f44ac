"""``TSPRanker``: a scikit-learn estimator that learns path scores from groups of ranked rows."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from ranking._groups import group_rows, group_weights, target_arcs
from ranking._learning import Group, fit_global, fit_local
from ranking._metrics import kendall_tau
from ranking._rank_tsp_batch import RankingBatch, rank_tsp_batch
from solvers._core.arrays import FloatArray, IntArray
from solvers._core.errors import ConvergenceWarning
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
        paths, by block-coordinate Frank-Wolfe with a certified duality gap. ``"hybrid"``: global around the local
        solution.
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
    depot, both_directions : bool
        Whether to learn ends by a depot, and predecessors beside successors.
    max_iter : int, optional
        L-BFGS iterations (1000 by default), or epochs of Frank-Wolfe (50 by default).
    tol : float
        Gradient (local) or certified duality gap (global) at which training ends.
    random_state : int, Generator or None
        Order of the groups in training; choice between equally good paths.

    Attributes
    ----------
    matrix_ : (d, d) float64
        W, the depot's coordinate last.
    gap_ : float
        Certified duality gap of the global loss at ``matrix_``; nan for the local loss.
    dual_ : float64 array
        Dual value after each epoch.
    converged_ : bool
    n_features_in_ : int

    Notes
    -----
    Relevance is higher for better rows; rows of equal relevance share their arcs, so that no order among them is
    taught. A model of one score per item can at best reproduce sorting by that score: with a lifted base score this
    estimator does no harm, and gains need features that say something about *neighbours*.

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
        depot: bool = True,
        both_directions: bool = True,
        max_iter: int | None = None,
        tol: float = 1e-4,
        random_state: Any = None,
    ) -> None:
        self.loss = loss
        self.embedding = embedding
        self.alpha = alpha
        self.weights = weights
        self.margin = margin
        self.depot = depot
        self.both_directions = both_directions
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, X: Any, y: Any, *, qid: Any = None, group: Any = None, sample_weight: Any = None) -> TSPRanker:
        """Learn from rows X (n, p) of relevance y (n,), grouped by exactly one of ``qid`` (n,) and ``group`` (sizes).

        ``sample_weight`` (n,): a group counts by the mean of its rows' weights.
        """
        self._check()
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        rows = group_rows(len(X), qid, group)
        weights = group_weights(rows, sample_weight)
        scale = X.std(axis=0)
        self._mean, self._scale = X.mean(axis=0), np.where(scale > 0, scale, 1.0)
        groups = [
            self._group(X[r], np.asarray(y[r], dtype=np.float64), float(w)) for r, w in zip(rows, weights, strict=True)
        ]
        size = groups[0].embedding.shape[1]
        rng = self._generator()
        self.gap_, self.dual_ = float("nan"), np.empty(0)
        self.matrix_, self.converged_ = np.zeros((size, size)), True
        if self.loss in ("local", "hybrid"):
            self.matrix_, self.converged_ = fit_local(
                groups,
                size,
                self.alpha,
                both=self.both_directions,
                max_iter=self.max_iter or LOCAL_ITERATIONS,
                tol=self.tol,
            )
        if self.loss in ("global", "hybrid"):
            found = fit_global(
                groups, self.matrix_, self.alpha, epochs=self.max_iter or GLOBAL_EPOCHS, tol=self.tol, rng=rng
            )
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

    def score(self, X: Any, y: Any, *, qid: Any = None, group: Any = None) -> float:
        """Mean Kendall tau-b over the groups in which it is defined."""
        y = np.asarray(y, dtype=np.float64)
        scores = self.predict(X, qid=qid, group=group)
        taus = np.array([kendall_tau(y[r], scores[r]) for r in group_rows(len(y), qid, group)])
        return float(np.nanmean(taus)) if not np.isnan(taus).all() else float("nan")

    def _check(self) -> None:
        check_choice("loss", self.loss, ("local", "global", "hybrid"))
        check_choice("embedding", self.embedding, EMBEDDINGS)
        check_choice("weights", self.weights, ("uniform", "successor_rank", "top", "dcg"))
        check_choice("margin", self.margin, ("edge", "rank"))
        check_number("alpha", self.alpha, low=0.0, strict=True)
        check_number("tol", self.tol, low=0.0)
        if self.max_iter is not None:
            check_integer("max_iter", self.max_iter, low=1)

    def _generator(self) -> np.random.Generator:
        return np.random.default_rng(self.random_state)

    def _scores(self, X: Any, qid: Any, group: Any) -> tuple[list[FloatArray], list[IntArray]]:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        rows = group_rows(len(X), qid, group)
        embedded = [self._embed(X[r]) for r in rows]
        return [e @ self.matrix_ @ e.T for e in embedded], rows

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

    def _group(self, X: FloatArray, y: FloatArray, weight: float) -> Group:
        arcs, ranks = target_arcs(y, self.depot)
        n = len(y)
        if self.weights == "uniform":
            importance = np.ones(len(ranks))
        elif self.weights == "successor_rank":
            importance = ranks + 1.0
        elif self.weights == "top":
            importance = n - ranks + 1.0
        else:
            importance = 1.0 / np.log2(ranks + 2.0)
        charge = np.where(arcs > 0, 0.0, 1.0)
        if self.margin == "rank":
            # The depot precedes rank 1 and follows rank n.
            heads = np.where(np.arange(len(ranks)) == n, n + 1.0, ranks)
            charge = np.where(arcs > 0, 0.0, np.abs(heads[None, :] - ranks[:, None] - 1.0))
        np.fill_diagonal(charge, 0.0)
        return Group(self._embed(X), arcs, importance / importance.mean(), charge, weight, self.depot)


TSPRanker.__module__ = "ranking"
