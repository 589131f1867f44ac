"""Coordinate descent against skglm, celer and scikit-learn at equal certified gaps; graphs are in bcd_graphs.py.

The judge rebuilds a Fenchel dual point from every answer and asks for a certified gap of 1e-6 F(0). Each peer runs at the
loosest tolerance of a ladder that the judge accepts, found beforehand and untimed; where its tightest is refused, that is what
is timed and the line says REFUSED. First-call compilation is left out of every figure.

    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/peers/bcd.py [--quick]
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import scipy.sparse
from _compare import Judgement, Solver, TimesOf, Workload, main

import solvers
from solvers import bcd
from solvers.bcd._problem import composite

LADDER = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
GAP = 1e-6


# -- sparse linear models ------------------------------------------------------------------------------------------


@dataclass
class Model:
    """X, y, lam and the objective at zero; tolerances of the peers once found."""

    X: Any
    y: np.ndarray
    lam: float
    logistic: bool
    tolerances: dict[str, float] = field(default_factory=dict)

    def loss(self) -> Any:
        return bcd.Logistic(self.X, self.y) if self.logistic else bcd.LeastSquares(self.X, self.y)

    @property
    def at_zero(self) -> float:
        return len(self.y) * np.log(2.0) if self.logistic else 0.5 * float(self.y @ self.y)

    def certified_gap(self, w: np.ndarray) -> float:
        """Gap of any coefficients, relative to F(0), by our certificate."""
        problem = composite(self.loss(), bcd.L1(self.lam))
        w = np.array(w, dtype=np.float64).reshape(-1)
        z = problem.loss.image(w)
        bound, _ = problem.bound_at(w, z)
        return (problem.objective(w, z) - bound.reestablished) / self.at_zero


def dense_data() -> tuple[np.ndarray, np.ndarray]:
    """Columns of an AR(1) process with correlation 0.5, 100 true coefficients, signal to noise 5."""
    n, p = 1000, 5000
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((n, p))
    X = np.empty((n, p), order="F")
    X[:, 0] = noise[:, 0]
    for j in range(1, p):
        X[:, j] = 0.5 * X[:, j - 1] + np.sqrt(0.75) * noise[:, j]
    return X, _targets(X, rng, 100)


def sparse_data() -> tuple[Any, np.ndarray]:
    """Twenty thousand rows, a hundred thousand columns, one entry in a thousand, 500 true coefficients."""
    n, p = 20_000, 100_000
    rng = np.random.default_rng(0)
    count = n * p // 1000
    values, rows, columns = rng.standard_normal(count), rng.integers(0, n, count), rng.integers(0, p, count)
    X = scipy.sparse.csc_matrix((values, (rows, columns)), shape=(n, p))
    X.sum_duplicates()
    return X, _targets(X, rng, 500)


def _targets(X: Any, rng: np.random.Generator, true: int) -> np.ndarray:
    n, p = X.shape
    w = np.zeros(p)
    w[rng.choice(p, true, replace=False)] = rng.choice([-1.0, 1.0], true)
    z = X @ w
    return z + rng.standard_normal(n) * np.linalg.norm(z) / np.sqrt(n) / 5


@cache
def model(kind: str, fraction: float, logistic: bool) -> Model:
    X, y = dense_data() if kind == "dense" else sparse_data()
    y = np.where(y > 0, 1.0, -1.0) if logistic else y
    largest = float(np.max(np.abs(X.T @ y))) * (0.5 if logistic else 1.0)
    return Model(X, y, fraction * largest, logistic)


def our_fit(data: Model) -> np.ndarray:
    # The gap of a result is relative to fun, the benchmark's to F(0): the ratio is known once a first fit is done.
    if "ours" not in data.tolerances:
        fun = solvers.minimize_bcd(data.loss(), bcd.L1(data.lam)).fun
        data.tolerances["ours"] = 0.99 * GAP * data.at_zero / fun
    return np.asarray(solvers.minimize_bcd(data.loss(), bcd.L1(data.lam), tol=data.tolerances["ours"]).x)


def _peer(name: str, data: Model, tol: float) -> Any:
    alpha = data.lam / len(data.y)
    if name == "skglm":
        import skglm

        kind = skglm.SparseLogisticRegression if data.logistic else skglm.Lasso
        return kind(alpha=alpha, fit_intercept=False, tol=tol)
    if name == "celer":
        import celer

        if data.logistic:
            return celer.LogisticRegression(C=1.0 / data.lam, fit_intercept=False, tol=tol)
        return celer.Lasso(alpha=alpha, fit_intercept=False, tol=tol)
    from sklearn.linear_model import Lasso

    return Lasso(alpha=alpha, fit_intercept=False, tol=tol)


def peer_fit(name: str) -> Callable[[Model], np.ndarray]:
    def fit(data: Model) -> np.ndarray:
        return np.asarray(_peer(name, data, data.tolerances[name]).fit(data.X, data.y).coef_).reshape(-1)

    return fit


def calibrated(kind: str, fraction: float, logistic: bool, peers: tuple[str, ...]) -> Callable[[int], Model]:
    def data(seed: int) -> Model:
        built = model(kind, fraction, logistic)
        our_fit(built)
        for name in peers:
            if name not in built.tolerances:
                for tol in LADDER:
                    built.tolerances[name] = tol
                    try:
                        if built.certified_gap(peer_fit(name)(built)) <= GAP:
                            break
                    except ImportError:
                        break
        return built

    return data


def judge_model(data: Model, w: np.ndarray) -> Judgement:
    gap = data.certified_gap(w)
    return Judgement(gap, f"certified gap {gap:.1e} F(0)", gap <= GAP)


def models() -> list[Workload]:
    rows = (
        ("dense", 0.1, False, (TimesOf("skglm", 0.6), TimesOf("celer", 0.6), TimesOf("scikit-learn", 0.6))),
        ("dense", 0.01, False, (TimesOf("skglm", 0.5), TimesOf("celer", 0.5), TimesOf("scikit-learn", 0.5))),
        ("sparse", 0.1, False, (TimesOf("scikit-learn", 1.0), TimesOf("skglm", 0.55))),
        ("sparse", 0.02, False, (TimesOf("scikit-learn", 1.0), TimesOf("skglm", 0.55))),
        ("dense", 0.1, True, (TimesOf("skglm", 0.8), TimesOf("celer", 0.5))),
        ("dense", 0.02, True, (TimesOf("skglm", 0.8), TimesOf("celer", 0.5))),
        ("sparse", 0.1, True, (TimesOf("skglm", 0.8), TimesOf("celer", 0.5))),
        ("sparse", 0.05, True, (TimesOf("skglm", 0.8), TimesOf("celer", 0.5))),
    )
    made = []
    for kind, fraction, logistic, targets in rows:
        names = ("skglm", "celer") if logistic else ("skglm", "celer", "scikit-learn")
        packages = {"scikit-learn": "sklearn"}
        made.append(
            Workload(
                name=f"{kind}-{'logistic' if logistic else 'lasso'}-{fraction:g}",
                data=calibrated(kind, fraction, logistic, names),
                ours=Solver("minimize_bcd", our_fit, prepare=lambda: solvers.warm_up("minimize_bcd")),
                peers=tuple(Solver(name, peer_fit(name), needs=(packages.get(name, name),)) for name in names),
                judge=judge_model,
                targets=targets,
                quick=kind == "dense" and not logistic,
            )
        )
    return made


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main("Block coordinate descent", models()))
