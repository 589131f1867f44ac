"""Matrix completion: seconds, peak memory and the certified gap of the same calls, side by side."""

import numpy as np

import solvers


def observations(n, rank, count, noise, seed):
    """Entries of a random n x n matrix of the given rank at a uniform mask."""
    rng = np.random.default_rng(seed)
    left, right = rng.standard_normal((n, rank)), rng.standard_normal((n, rank))
    flat = rng.choice(n * n, count, replace=False)
    rows, cols = flat // n, flat % n
    values = np.einsum("tk,tk->t", left[rows], right[cols]) + noise * rng.standard_normal(count)
    return rows, cols, values, (n, n)


class Recovery:
    """Without penalty: the time to a fit at rounding level, by size."""

    params = (500, 2_000, 8_000)
    param_names = ("n",)

    def setup(self, n):
        solvers.warm_up("complete_matrix")
        self.A = observations(n, 5, 5 * 5 * (2 * n - 5), 0.0, seed=20262)

    def time_complete(self, n):
        solvers.complete_matrix(self.A, 5, tol=1e-12, rng=0)

    def peakmem_complete(self, n):
        solvers.complete_matrix(self.A, 5, tol=1e-12, rng=0)


class Certified:
    """With penalty: the time to a proved optimum, and its gap."""

    params = (300, 3_000)
    param_names = ("n",)

    def setup(self, n):
        solvers.warm_up("complete_matrix")
        self.A = observations(n, 5, 10 * 5 * (2 * n - 5), 0.5, seed=20263)

    def time_complete(self, n):
        solvers.complete_matrix(self.A, 8, reg=15.0, rng=0)

    def peakmem_complete(self, n):
        solvers.complete_matrix(self.A, 8, reg=15.0, rng=0)

    def track_gap_complete(self, n):
        return solvers.complete_matrix(self.A, 8, reg=15.0, rng=0).gap
