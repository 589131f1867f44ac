"""Ranking metrics per group, in the conventions of scikit-learn, LightGBM and the LETOR scripts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from solvers._core.arrays import FloatArray
from solvers._core.errors import InvalidProblemError
from solvers._core.options import check_choice, check_integer

__all__ = ["group_mean", "kendall_tau", "mean_average_precision", "mean_reciprocal_rank", "ndcg"]


def kendall_tau(y: Any, scores: Any) -> float:
    """Kendall's tau-b of relevance and scores (higher is better in both); NaN where either is constant.

    Examples
    --------
    >>> from solvers.ranking import kendall_tau
    >>> kendall_tau([3, 2, 1], [9, 8, 7])
    1.0
    """
    from scipy.stats import kendalltau

    y, scores = _pair(y, scores)
    if len(y) < 2 or np.ptp(y) == 0 or np.ptp(scores) == 0:
        return float("nan")
    return float(kendalltau(y, scores).statistic)


def ndcg(y: Any, scores: Any, *, k: int | None = None, gain: str = "linear", empty: float = 0.0) -> float:
    """Normalised discounted cumulative gain of one group, ties in the scores averaged.

    Parameters
    ----------
    y, scores : (n,) array_like
        Non-negative relevance and predicted scores, higher is better.
    k : int, optional
        Cut-off; none by default.
    gain : {"linear", "exponential"}
        ``y`` (scikit-learn, trec_eval) or ``2**y - 1`` (LightGBM, XGBoost, LETOR).
    empty : float
        Value of a group without relevant items: 0 in scikit-learn, 1 in LightGBM.
    """
    from sklearn.metrics import ndcg_score

    y, scores = _pair(y, scores)
    check_choice("gain", gain, ("linear", "exponential"))
    if k is not None:
        check_integer("k", k, low=1)
    if y.min() < 0:
        raise InvalidProblemError(f"y must be non-negative relevance for ndcg; got {float(y.min())!r}")
    gains = y if gain == "linear" else np.exp2(y) - 1.0
    if gains.max() == 0:
        return float(empty)
    if len(y) == 1:
        return 1.0
    return float(ndcg_score(gains[None, :], scores[None, :], k=k))


def mean_reciprocal_rank(y: Any, scores: Any) -> float:
    """1 / rank that the scores give to the most relevant item of one group; ties in the scores count in full."""
    y, scores = _pair(y, scores)
    return 1.0 / float(np.sum(scores >= scores[y == y.max()].max()))


def mean_average_precision(y: Any, scores: Any, *, k: int) -> float:
    """Average precision of the predicted top k against the true top k of one group, as sets (MAP@k).

    All rows of the relevance that the k-th best has belong to the true top; ties in the scores count in full, against it.
    """
    y, scores = _pair(y, scores)
    check_integer("k", k, low=1)
    k = min(k, len(y))
    wanted = y >= np.sort(y)[-k]
    hits = wanted[np.lexsort((wanted, -scores))[:k]].astype(np.float64)
    precision = np.cumsum(hits) / np.arange(1, k + 1)
    return float(np.sum(precision * hits) / k)


def group_mean(metric: Callable[..., float], y: Any, scores: Any, qid: Any, **options: Any) -> tuple[float, int]:
    """Mean of a metric over the groups, and the number of groups on which it is not defined and which are left out."""
    y, scores = _pair(y, scores)
    qid = np.asarray(qid)
    if qid.shape != y.shape:
        raise InvalidProblemError(f"qid must be one value per row; got shape {qid.shape} for {len(y)} rows")
    values = np.array([metric(y[qid == q], scores[qid == q], **options) for q in np.unique(qid)])
    defined = values[~np.isnan(values)]
    return (float(defined.mean()) if len(defined) else float("nan")), int(len(values) - len(defined))


def _pair(y: Any, scores: Any) -> tuple[FloatArray, FloatArray]:
    a, b = np.asarray(y, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) == 0 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InvalidProblemError(
            f"y and scores must be finite vectors of one length >= 1; got shapes {a.shape} and {b.shape}"
        )
    return a, b
