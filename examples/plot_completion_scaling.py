r"""
What a sweep costs
==================

Alternating minimisation solves a least-squares problem per row and per column. By normal equations that takes
:math:`O(|\Omega| k^2)` operations a sweep. In an orthonormal basis of the fixed factor a few steps of conjugate gradients at
:math:`O(|\Omega| k)` do. Which is cheaper is decided row by row, from operation counts.
"""

# %%
# Sweeps by cost and by normal equations
# --------------------------------------
# Small matrices here, so that this page builds in seconds; ``benchmarks/peers/completion_platform.py --only scaling`` does the
# same for larger ones. Each point is the least CPU time of three sweeps.
import time

import matplotlib.pyplot as plt
import numpy as np

import solvers
from solvers.completion._observations import read_observations
from solvers.completion._problem import completion_problem
from solvers.completion._sweeps import Factors, SweepRule, Workspace, sweep

solvers.warm_up("complete_matrix")
n = 1000
rng = np.random.default_rng(0)


def seconds(per_row, rank, inner):
    """CPU seconds of a sweep over rows and columns at relative accuracy 0.1, single precision."""
    keys = np.unique(np.repeat(np.arange(n), per_row) * n + rng.integers(0, n, n * per_row))
    A = (keys // n, keys % n, rng.standard_normal(len(keys)), (n, n))
    observed = read_observations(A, None, "error")
    nothing = observed.keep(np.zeros(observed.size, bool))
    options = {"reg": 1.0, "reg_scaling": "plain", "loss": "l2", "delta": "auto", "biases": False}
    entries = Workspace(completion_problem(observed, nothing, rank, **options), np.float32)
    U, V = (np.linalg.qr(rng.standard_normal((n, rank)))[0].astype(np.float32) for _ in range(2))
    factors, times = Factors(U, np.linspace(2.0, 1.0, rank), V), []
    for _ in range(4):
        began = time.process_time()
        factors, _ = sweep(entries, factors, SweepRule(inner, 0.1))
        times.append(time.process_time() - began)
    return len(keys), min(times[1:])


ranks, rows = [10, 20, 40, 80, 160], [50, 100, 200, 400]
names = {"auto": "chosen by cost", "exact": "normal equations"}
by_rank = {inner: [seconds(300, rank, inner)[1] for rank in ranks] for inner in names}
by_size = {inner: [seconds(per_row, 40, inner) for per_row in rows] for inner in names}

# %%
# Time against rank and against entries
# -------------------------------------
# At fixed accuracy the number of steps grows slowly with the rank, by the law :math:`\sqrt{k/d}` of their contraction; the
# slope stays near one where that of the normal equations goes to two.
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
for inner, name in names.items():
    left.loglog(ranks, by_rank[inner], "o-", label=name)
    right.loglog([size for size, _ in by_size[inner]], [time_ for _, time_ in by_size[inner]], "o-", label=name)
for axis, label in ((left, "rank k"), (right, r"entries $|\Omega|$ at rank 40")):
    axis.set_xlabel(label)
    axis.set_ylabel("CPU seconds a sweep")
    axis.legend()
guide = by_rank["auto"][0] * np.array(ranks) / ranks[0]
left.loglog(ranks, guide, ":", color="gray")
left.annotate("slope 1", (ranks[-1], guide[-1]), ha="right", va="top", color="gray")
doubling = {name: by_rank[inner][-1] / by_rank[inner][-2] for inner, name in names.items()}
print("rank 160 over rank 80: " + ", ".join(f"{name} {ratio:.1f} times" for name, ratio in doubling.items()))
plt.show()
