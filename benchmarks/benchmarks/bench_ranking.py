"""Best paths and the bilinear ranker: seconds, peak memory and the certified gap of the same calls, side by side."""

import numpy as np

import solvers
from solvers.ranking import TSPRanker


class SinglePath:
    """One matrix of uniform or nearly symmetric scores."""

    params = ((30, 100, 200), ("uniform", "near-symmetric"))
    param_names = ("n", "kind")

    def setup(self, n, kind):
        solvers.warm_up("rank_tsp")
        rng = np.random.default_rng(20261)
        self.scores = rng.random((n, n))
        if kind == "near-symmetric":
            points = rng.random((n, 2))
            self.scores = 0.05 * self.scores - np.hypot(*np.moveaxis(points[:, None] - points, -1, 0))

    def time_rank(self, n, kind):
        solvers.rank_tsp(self.scores, rng=0)

    def track_gap_rank(self, n, kind):
        return solvers.rank_tsp(self.scores, rng=0).gap


class LargePath:
    """One large dense matrix."""

    params = (1000, 4000)
    param_names = ("n",)

    def setup(self, n):
        solvers.warm_up("rank_tsp")
        self.scores = np.random.default_rng(20262).random((n, n))

    def time_rank(self, n):
        solvers.rank_tsp(self.scores, tol=1e-5, rng=0)

    def peakmem_rank(self, n):
        solvers.rank_tsp(self.scores, tol=1e-5, rng=0)

    def track_gap_rank(self, n):
        return solvers.rank_tsp(self.scores, tol=1e-5, rng=0).gap


class Batch:
    """Ten thousand groups of 10."""

    def setup(self):
        solvers.warm_up("rank_tsp_batch")
        self.scores = np.random.default_rng(20263).random((10_000, 10, 10))

    def time_batch(self):
        solvers.rank_tsp_batch(self.scores, rng=0)

    def peakmem_batch(self):
        solvers.rank_tsp_batch(self.scores, rng=0)


class LocalFit:
    """Training on 200 groups of 30 rows and 16 features."""

    def setup(self):
        rng = np.random.default_rng(20264)
        self.X = rng.standard_normal((6000, 16))
        self.y = self.X @ rng.standard_normal(16)
        self.qid = np.repeat(np.arange(200), 30)

    def time_fit(self):
        TSPRanker(random_state=0).fit(self.X, self.y, qid=self.qid)


class LinearOrdering:
    """Preferences with noise: linear programs up to 40 items, packed cycles beyond."""

    params = (20, 40, 200)
    param_names = ("n",)

    def setup(self, n):
        solvers.warm_up("rank_linear")
        rng = np.random.default_rng(20265)
        place = rng.permutation(n)
        self.scores = 1 / (1 + np.exp((place[:, None] - place) / 3)) + 0.5 * rng.standard_normal((n, n))

    def time_rank(self, n):
        solvers.rank_linear(self.scores, rng=0)

    def track_gap_rank(self, n):
        return solvers.rank_linear(self.scores, rng=0).gap
