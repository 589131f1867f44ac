"""Coordinate descent: seconds, peak memory and the certified gap of the same calls, side by side."""

import numpy as np
import scipy.sparse

import solvers
from solvers import bcd


class SparseModels:
    """Lasso and L1-logistic regression on random data, dense and sparse."""

    params = (["lasso", "logistic"], ["dense", "sparse"])
    param_names = ("loss", "data")

    def setup(self, loss, data):
        solvers.warm_up("minimize_bcd")
        rng = np.random.default_rng(20262)
        if data == "dense":
            X = np.asfortranarray(rng.standard_normal((500, 2000)))
        else:
            X = scipy.sparse.random_array((5000, 20_000), density=2e-3, rng=rng, format="csc")
        w = np.zeros(X.shape[1])
        w[:50] = 1.0
        z = X @ w
        y = z + 0.2 * np.linalg.norm(z) / np.sqrt(len(z)) * rng.standard_normal(len(z))
        if loss == "logistic":
            y = np.where(y > 0, 1.0, -1.0)
        largest = np.max(np.abs(X.T @ y)) * (0.5 if loss == "logistic" else 1.0)
        self.penalty = bcd.L1(0.1 * largest)
        self.make = lambda: (bcd.Logistic if loss == "logistic" else bcd.LeastSquares)(X, y)
        solvers.minimize_bcd(self.make(), self.penalty)

    def time_minimize(self, loss, data):
        solvers.minimize_bcd(self.make(), self.penalty)

    def peakmem_minimize(self, loss, data):
        solvers.minimize_bcd(self.make(), self.penalty)

    def track_gap_minimize(self, loss, data):
        return solvers.minimize_bcd(self.make(), self.penalty).gap


class Lattices:
    """Label propagation on a square lattice, free and between bounds."""

    params = ([64, 256], ["free", "bounded"])
    param_names = ("side", "bounds")

    def setup(self, side, bounds):
        solvers.warm_up("label_propagation")
        nodes = np.arange(side * side).reshape(side, side)
        rows = np.concatenate([nodes[:, :-1].ravel(), nodes[:-1].ravel()])
        columns = np.concatenate([nodes[:, 1:].ravel(), nodes[1:].ravel()])
        W = scipy.sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=(side * side,) * 2).tocsr()
        self.graph = W + W.T
        rng = np.random.default_rng(20263)
        self.labels = np.full(side * side, np.nan)
        self.labels[rng.choice(side * side, side * side // 25, replace=False)] = (
            rng.standard_normal(side * side // 25) + 0.5
        )
        self.bounds = (0.0, 1.0) if bounds == "bounded" else None

    def time_propagate(self, side, bounds):
        solvers.label_propagation(self.graph, self.labels, bounds=self.bounds)

    def peakmem_propagate(self, side, bounds):
        solvers.label_propagation(self.graph, self.labels, bounds=self.bounds)

    def track_gap_propagate(self, side, bounds):
        return solvers.label_propagation(self.graph, self.labels, bounds=self.bounds).gap
