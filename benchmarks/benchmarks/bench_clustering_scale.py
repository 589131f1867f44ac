"""Clustering at scale: blocks, branch and bound, likelihood clustering."""

import numpy as np

import solvers


def blobs(n, p, n_clusters, distance, seed):
    """Gaussian clusters of unit variance, equal sizes, centres at equal pairwise distances."""
    labels = np.repeat(np.arange(n_clusters), n // n_clusters)
    centers = np.zeros((n_clusters, p))
    np.fill_diagonal(centers, distance / np.sqrt(2.0))
    return centers[labels] + np.random.default_rng(seed).standard_normal((len(labels), p))


class Blocks:
    """Relaxations of blocks of 500 rows."""

    params = (1_000, 4_000)
    param_names = ("n",)
    timeout = 120

    def setup(self, n):
        solvers.warm_up("kmeans_sdp")
        self.X = blobs(n, 10, 4, 4.2, seed=20265)

    def time_blocks(self, n):
        solvers.kmeans_sdp(self.X, 4, method="blocks", rng=20266)

    def peakmem_blocks(self, n):
        solvers.kmeans_sdp(self.X, 4, method="blocks", rng=20266)

    def track_gap_blocks(self, n):
        return solvers.kmeans_sdp(self.X, 4, method="blocks", rng=20266).gap


class Exact:
    """Global optima of classical data, proved to 1e-4."""

    params = (("iris", "seeds", "glass"),)
    param_names = ("data",)
    timeout = 120

    def setup(self, data):
        solvers.warm_up("kmeans_sdp")
        self.X = solvers.load_example(data).data
        self.n_clusters = {"iris": 3, "seeds": 3, "glass": 6}[data]

    def time_exact(self, data):
        solvers.kmeans_sdp(self.X, self.n_clusters, method="exact", tol=1e-4, rng=20267)

    def track_gap_exact(self, data):
        return solvers.kmeans_sdp(self.X, self.n_clusters, method="exact", tol=1e-4, rng=20267).gap


class Likelihood:
    """Clusters of different shapes; the gap is that of the labels at the returned covariances, in nats per point."""

    params = (90, 240, 2_000)
    param_names = ("n",)
    timeout = 120

    def setup(self, n):
        solvers.warm_up("ila_sdp")
        rng = np.random.default_rng(20268)
        shapes = rng.standard_normal((3, 4, 4)) + 2.0 * np.eye(4)
        labels = np.arange(n) % 3
        centers = 6.0 * np.eye(3, 4)
        self.X = centers[labels] + np.einsum("ij,ijk->ik", rng.standard_normal((n, 4)), shapes[labels])

    def time_ila(self, n):
        solvers.ila_sdp(self.X, 3, rng=20269)

    def track_gap_ila(self, n):
        gap = solvers.ila_sdp(self.X, 3, rng=20269).assignment_gap
        return gap if np.isfinite(gap) else None
