r"""
Is my k-means answer optimal?
=============================

scikit-learn finds a clustering; :func:`solvers.certify_kmeans` proves how far it can be from the best one. Both are run here
on the Ruspini data, 75 points in the plane, for several numbers of clusters and with one random start against ten.
"""

# %%
# A clustering and its proof
# --------------------------
# The labels may come from anywhere. The certificate needs no further search: it builds a dual point of the semidefinite
# relaxation from the labels and evaluates a rigorous bound.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans

import solvers

X = solvers.load_example("ruspini").data
labels = KMeans(n_clusters=4, n_init=10, random_state=7).fit_predict(X)
proof = solvers.certify_kmeans(X, labels)
print(proof.status.name, f"cost {proof.fun:.6f}, no clustering below {proof.bound:.6f}")

# %%
# Anybody can check the claim from the data, without the solver that made it.
print(solvers.verify(proof, X, labels).message)

# %%
# A clustering that stopped too early
# -----------------------------------
# One unlucky random start ends in a local optimum. Nothing in scikit-learn's output says so; the gap does.
seeds = range(30)
single = [KMeans(4, init="random", n_init=1, random_state=seed).fit(X) for seed in seeds]
worst = max(single, key=lambda fit: fit.inertia_)
doubt = solvers.certify_kmeans(X, worst.labels_)
better = solvers.kmeans_sdp(X, 4, x0=worst.labels_, rng=7)
print(f"gap of the unlucky start {doubt.gap:.1%}; after kmeans_sdp {better.gap:.0e}, {better.status.name}")

figure, axes = plt.subplots(1, 2, figsize=(9.0, 4.0), layout="constrained", sharey=True)
for ax, found, title in (
    (axes[0], doubt, f"one random start: cost {doubt.fun:.0f}, gap {doubt.gap:.0%}"),
    (axes[1], better, f"proved optimal: cost {better.fun:.0f}"),
):
    ax.scatter(*X.T, c=found.labels, cmap="tab10", s=18)
    ax.scatter(*found.centers.T, marker="x", c="black", s=70)
    ax.set_title(title)
    ax.set_aspect("equal")

# %%
# Which numbers of clusters can be certified
# ------------------------------------------
# Where the data have clear groups, the bound meets the cost. Elsewhere the relaxation itself leaves a gap: the labels may still
# be the best ones, but this bound can not show it.
counts = np.arange(2, 8)
results = [solvers.kmeans_sdp(X, int(k), tol=1e-4, rng=7) for k in counts]
cost = np.array([result.fun for result in results])
bound = np.array([result.bound for result in results])

figure, ax = plt.subplots(figsize=(6.5, 4.0), layout="constrained")
ax.fill_between(counts, bound, cost, alpha=0.25, label="where the optimum must lie")
ax.plot(counts, cost, "o-", label="cost of the clustering found")
ax.plot(counts, bound, "_", markersize=14, label="proved lower bound")
for k, result in zip(counts, results, strict=True):
    ax.annotate(f"{result.gap:.1%}", (k, result.fun), textcoords="offset points", xytext=(6, 6))
ax.set_yscale("log")
ax.set_xlabel("number of clusters K")
ax.set_ylabel("k-means cost")
ax.legend()

# %%
# How many restarts are enough
# ----------------------------
# Sixty-four tumour cell lines, described by the expression of 6830 genes. Branch and bound proves the best clustering into each
# number of groups within a second or two, and so tells what restarts of k-means miss: with eight or more groups, a hundred of
# them are not enough.
X = solvers.load_example("nci60").data
counts = np.arange(2, 11)
optimal = [solvers.kmeans_sdp(X, int(k), method="exact", tol=1e-4, rng=7, time_limit=20) for k in counts]
print(
    *(f"K={k}: {result.status.name}, gap {result.gap:.0e}" for k, result in zip(counts, optimal, strict=True)), sep="\n"
)

figure, ax = plt.subplots(figsize=(6.5, 4.0), layout="constrained")
for n_init, marker in ((1, "x"), (10, "o"), (100, "s")):
    costs = [KMeans(int(k), n_init=n_init, random_state=7).fit(X).inertia_ for k in counts]
    excess = [cost / result.fun - 1.0 for cost, result in zip(costs, optimal, strict=True)]
    ax.plot(counts, 100 * np.maximum(excess, 0.0), marker, linestyle=":", label=f"best of {n_init} starts")
ax.set_xlabel("number of clusters K")
ax.set_ylabel("cost above the proved optimum, %")
ax.legend()
