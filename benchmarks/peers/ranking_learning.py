"""Learning to rank by paths: training times, duality gaps, and rerankings beside LightGBM and ridge regression.

The synthetic task has groups of 30 rows with Gaussian features and a linear utility, standardised, plus noise 0.3. The
lists are LightGBM's own lambdarank example: whole, if the variable LAMBDARANK_DATA names a folder with rank_train.npz
and rank_test.npz (relevance, CSR parts, group sizes), otherwise the part of it that ships with the package. A base
ranker is fitted on the training queries; TSPRanker sees its out-of-fold scores in training and its scores in the test.

    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/peers/ranking_learning.py [--quick]
"""

from __future__ import annotations

import functools
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from _compare import Judgement, Seconds, Solver, Workload, main
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold

import solvers
from ranking._groups import target_of
from ranking._learning import Group, buckets_of, local_loss
from solvers.ranking import TSPRanker, group_mean, kendall_tau, ndcg

# Folds of the out-of-fold base scores, and what a lift may lose in NDCG@10.
FOLDS = 5
HARM = 0.002


@dataclass(frozen=True)
class Lists:
    """Rows, relevance and groups of training and test queries."""

    X: np.ndarray
    y: np.ndarray
    qid: np.ndarray
    test_X: np.ndarray
    test_y: np.ndarray
    test_qid: np.ndarray


def linear_task(train: int, features: int) -> Any:
    """Groups of 30 rows, ``train`` of them for training and 60 for the test."""

    def data(seed: int) -> Lists:
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((30 * (train + 60), features))
        utility = X @ rng.standard_normal(features)
        y = utility / utility.std() + 0.3 * rng.standard_normal(len(X))
        qid = np.repeat(np.arange(train + 60), 30)
        first = qid < train
        return Lists(X[first], y[first], qid[first], X[~first], y[~first], qid[~first])

    return data


@functools.cache
def letor(seed: int) -> Lists:
    """LightGBM's lambdarank example."""
    folder = Path(os.environ.get("LAMBDARANK_DATA", ""))
    if "LAMBDARANK_DATA" in os.environ and (folder / "rank_train.npz").is_file():
        return Lists(*_read(folder / "rank_train.npz"), *_read(folder / "rank_test.npz"))
    example = solvers.load_example("lambdarank")
    qid, X, y = example.data[:, 0].astype(int), example.data[:, 1:], example.target.astype(float)
    first = qid < 30
    return Lists(X[first], y[first], qid[first], X[~first], y[~first], qid[~first])


def _read(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with np.load(path) as file:
        sizes, y = file["group_sizes"], file["relevance"].astype(float)
        shape = (len(y), int(file["n_features"]))
        X = scipy.sparse.csr_array((file["data"].astype(float), file["indices"], file["indptr"]), shape=shape)
    return X.toarray(), y, np.repeat(np.arange(len(sizes)), sizes)


def ranker(name: str, **keywords: Any) -> Solver:
    """TSPRanker on the training groups."""

    def run(data: Lists) -> TSPRanker:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", solvers.ConvergenceWarning)
            return TSPRanker(random_state=0, **keywords).fit(data.X, data.y, qid=data.qid)

    return Solver(name, run, prepare=lambda: run(linear_task(4, 3)(0)))


def tau(model: TSPRanker, data: Lists) -> float:
    """Mean Kendall tau on the test groups."""
    return model.score(data.test_X, data.test_y, qid=data.test_qid)


def gradient_error(data: Lists, answer: TSPRanker) -> Judgement:
    """Relative error of the gradient of the local loss against central differences in random directions."""
    groups = [
        Group(answer._embed(data.X[data.qid == q]), target_of(data.y[data.qid == q], depot=True), 1 / 200)
        for q in np.unique(data.qid)
    ]
    buckets, rng, worst = buckets_of(groups), np.random.default_rng(0), 0.0
    W = rng.standard_normal(answer.matrix_.shape)
    gradient = local_loss(W, buckets, 1e-2, both=True)[1]
    for _ in range(5):
        direction = rng.standard_normal(W.shape)
        step = 1e-5 * direction
        rise = local_loss(W + step, buckets, 1e-2, both=True)[0] - local_loss(W - step, buckets, 1e-2, both=True)[0]
        worst = max(worst, abs(rise / 2e-5 - np.sum(gradient * direction)) / abs(np.sum(gradient * direction)))
    words = f"gradient error {worst:.1e}, tau {tau(answer, data):.3f}"
    return Judgement(worst, words, worst <= 1e-6 and answer.converged_)


def certified(data: Lists, answer: TSPRanker) -> Judgement:
    """Duality gap at most 1e-2 within ten epochs of a dual that never falls."""
    monotone = bool(np.all(np.diff(answer.dual_) >= -1e-12))
    words = f"gap {answer.gap_:.4f} after {len(answer.dual_)} epochs, dual {'rises' if monotone else 'FALLS'}"
    words += f", tau {tau(answer, data):.3f}"
    return Judgement(answer.gap_, words, answer.gap_ <= 1e-2 and len(answer.dual_) <= 10 and monotone)


def depot_pays(data: Lists, answer: TSPRanker) -> Judgement:
    """Tau at least 0.72, and 0.3 above the same model without a depot."""
    without = tau(TSPRanker(depot=False, random_state=0).fit(data.X, data.y, qid=data.qid), data)
    found = tau(answer, data)
    words = f"tau {found:.3f}, without a depot {without:.3f}"
    return Judgement(1.0 - found, words, found >= 0.72 and found >= without + 0.3)


def least_squares(data: Lists, rows: Any, X: np.ndarray) -> np.ndarray:
    """Pointwise ridge regression, its weight chosen by cross-validation on the training rows."""
    return RidgeCV(alphas=np.logspace(0.0, 4.0, 9)).fit(data.X[rows], data.y[rows]).predict(X)


def lambdarank(data: Lists, rows: Any, X: np.ndarray) -> np.ndarray:
    """LightGBM's lambdarank, 100 trees."""
    import lightgbm

    sizes = np.unique(data.qid[rows], return_counts=True)[1]
    model = lightgbm.LGBMRanker(n_estimators=100, n_jobs=1, random_state=0, verbose=-1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(data.X[rows], data.y[rows].astype(int), group=sizes).predict(X)


def alone(name: str, base: Any, needs: tuple[str, ...] = ()) -> Solver:
    """Scores of a base ranker on the test rows."""
    return Solver(name, lambda data: base(data, slice(None), data.test_X), needs=needs)


def lifted(name: str, base: Any, needs: tuple[str, ...] = (), **keywords: Any) -> Solver:
    """The base ranker, then TSPRanker on its out-of-fold scores."""

    def run(data: Lists) -> np.ndarray:
        folded = np.empty(len(data.X))
        for rest, held in GroupKFold(FOLDS).split(data.X, groups=data.qid):
            folded[held] = base(data, rest, data.X[held])
        settings = {"embedding": "quadratic", "random_state": 0} | keywords
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", solvers.ConvergenceWarning)
            model = TSPRanker(**settings).fit(folded[:, None], data.y, qid=data.qid)
        return model.predict(base(data, slice(None), data.test_X)[:, None], qid=data.test_qid)

    return Solver(name, run, needs=needs, prepare=lambda: solvers.warm_up("rank_tsp_batch"))


def no_harm(base: Any) -> Any:
    """Judge: 1 - NDCG@10 with gain 2^y - 1 over the queries with relevant rows; ours may lose ``HARM`` to its base."""

    def judge(data: Lists, scores: np.ndarray) -> Judgement:
        def quality(values: np.ndarray) -> float:
            return group_mean(ndcg, data.test_y, values, data.test_qid, k=10, gain="exponential", empty=float("nan"))[0]

        found = quality(scores)
        order, _ = group_mean(kendall_tau, data.test_y, scores, data.test_qid)
        before = quality(base(data, slice(None), data.test_X))
        return Judgement(
            1.0 - found, f"NDCG@10 {found:.4f}, tau {order:.3f} (base {before:.4f})", found >= before - HARM
        )

    return judge


def informed(judge: Any) -> Any:
    """The judge's words, without its verdict: for solvers of which nothing is asked."""

    def told(data: Lists, scores: np.ndarray) -> Judgement:
        judged = judge(data, scores)
        return Judgement(judged.value, judged.words)

    return told


TREES = ("lightgbm",)
WORKLOADS = (
    Workload(
        "local fit, 200 groups of 30, d = 16", linear_task(200, 14), ranker("local"), gradient_error,
        targets=(Seconds(0.3),), quick=True,
    ),
    Workload(
        "Frank-Wolfe, lambda = 0.1, 150 groups of 30", linear_task(150, 10),
        ranker("global", loss="global", alpha=0.1, max_iter=10, tol=1e-2), certified,
    ),
    Workload(
        "hybrid, lambda = 0.1, 150 groups of 30", linear_task(150, 10),
        ranker("hybrid", loss="hybrid", alpha=0.1, max_iter=10, tol=1e-2), certified,
    ),
    Workload("linear task, 150 groups of 30", linear_task(150, 10), ranker("local"), depot_pays),
    *(
        Workload(
            f"LightGBM lists, {name} + TSPRanker", letor, lifted(f"{name} + TSPRanker", base, needs), no_harm(base),
            peers=peers, seeds=(0,), quick=name == "ridge",
        )
        for name, base, needs, peers in (
            ("ridge", least_squares, (), (alone("ridge", least_squares), alone("lambdarank", lambdarank, TREES))),
            ("lambdarank", lambdarank, TREES, (alone("lambdarank", lambdarank, TREES),)),
        )
    ),
    Workload(
        "LightGBM lists, ridge + TSPRanker, hybrid with spline", letor,
        lifted("hybrid, spline", least_squares, (), loss="hybrid", embedding="spline", alpha=0.1, tol=1e-2, max_iter=10),
        informed(no_harm(least_squares)), seeds=(0,), note="nothing is asked of a flexible lift; reported",
    ),
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main("Learning to rank by paths", WORKLOADS))
