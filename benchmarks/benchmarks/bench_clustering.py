"""Certified k-means: seconds, peak memory and the certified gap of the same calls, side by side."""

import numpy as np

import solvers


def blobs(n, p, n_clusters, distance, seed):
    """Gaussian clusters of unit variance, equal sizes, centres at equal pairwise distances; and their labels."""
    labels = np.repeat(np.arange(n_clusters), n // n_clusters)
    centers = np.zeros((n_clusters, p))
    np.fill_diagonal(centers, distance / np.sqrt(2.0))
    return centers[labels] + np.random.default_rng(seed).standard_normal((len(labels), p)), labels


class CertifyLabels:
    """The structured certificate of given labels, up to a size where no n x n matrix would fit."""

    params = (1_000, 10_000, 50_000)
    param_names = ("n",)

    def setup(self, n):
        solvers.warm_up("certify_kmeans")
        self.X, self.labels = blobs(n, 20, 4, 12.0, seed=20261)

    def time_certify(self, n):
        solvers.certify_kmeans(self.X, self.labels)

    def peakmem_certify(self, n):
        solvers.certify_kmeans(self.X, self.labels)

    def track_gap_certify(self, n):
        return solvers.certify_kmeans(self.X, self.labels).gap


class Relaxation:
    """The semidefinite relaxation where the structured certificate does not close the gap."""

    params = (100, 200)
    param_names = ("n",)
    timeout = 120

    def setup(self, n):
        solvers.warm_up("kmeans_sdp")
        self.X, _ = blobs(n, 10, 4, 6.0, seed=20262)

    def time_relaxation(self, n):
        solvers.kmeans_sdp(self.X, 4, method="admm", tol=1e-4, rng=20263)

    def peakmem_relaxation(self, n):
        solvers.kmeans_sdp(self.X, 4, method="admm", tol=1e-4, rng=20263)

    def track_gap_relaxation(self, n):
        return solvers.kmeans_sdp(self.X, 4, method="admm", tol=1e-4, rng=20263).gap


class RealData:
    """The demo's data sets."""

    params = (("ruspini", "iris", "seeds", "glass"),)
    param_names = ("data",)
    timeout = 120

    def setup(self, data):
        solvers.warm_up("kmeans_sdp")
        self.X = solvers.load_example(data).data
        self.n_clusters = {"ruspini": 4, "iris": 3, "seeds": 3, "glass": 6}[data]

    def time_solve(self, data):
        solvers.kmeans_sdp(self.X, self.n_clusters, tol=1e-4, rng=20264)

    def track_gap_solve(self, data):
        return solvers.kmeans_sdp(self.X, self.n_clusters, tol=1e-4, rng=20264).gap
