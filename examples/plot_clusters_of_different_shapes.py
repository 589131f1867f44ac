r"""
Clusters of different shapes
============================

k-means cuts space halfway between centres, whatever the clusters look like. :func:`solvers.ila_sdp` gives every cluster a
covariance of its own and finds labels by a semidefinite relaxation of the likelihood, from six different starts. Then it proves
how likely any other labels could be with the covariances it returns.
"""

# %%
# Three stretched clouds
# ----------------------
# Equal numbers of points, centres at equal distances, shapes of random orientation.
from itertools import permutations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Ellipse
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

import solvers

rng = np.random.default_rng(6)
truth = np.repeat([0, 1, 2], 60)
angles, lengths = np.array([0.15, 1.7, 2.5]), np.array([[2.6, 0.35], [2.2, 0.3], [1.2, 0.5]])
centers = np.array([[0.0, 0.0], [3.0, 1.2], [-1.0, 2.4]])
turns = np.array([[[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]] for a in angles])
X = centers[truth] + np.einsum("ij,ijk->ik", rng.standard_normal((180, 2)) * lengths[truth], turns[truth])


def errors(labels):
    """Misclassified points under the best matching of the names."""
    return min(int(np.sum(np.array(names)[labels] != truth)) for names in permutations(range(3)))


kmeans = KMeans(3, n_init=10, random_state=0).fit(X)
result = solvers.ila_sdp(X, 3, rng=0)
print(f"k-means: {errors(kmeans.labels_)} of 180 points wrong; ila_sdp: {errors(result.labels)}")
print(f"log-likelihood {result.fun:.2f}; no labels exceed {result.assignment_bound:.2f} at these covariances")
print(solvers.verify(result, X, 3).message)

figure, axes = plt.subplots(1, 2, figsize=(9.5, 4.0), layout="constrained", sharex=True, sharey=True)
for ax, labels, title in ((axes[0], kmeans.labels_, "k-means"), (axes[1], result.labels, "ila_sdp")):
    ax.scatter(*X.T, c=labels, cmap="tab10", vmax=9, s=14)
    ax.set_title(f"{title}: {errors(labels)} of 180 points wrong")
    ax.set_aspect("equal")
for center, covariance in zip(result.centers, result.covariances, strict=True):
    variances, directions = np.linalg.eigh(covariance)
    turn = np.degrees(np.arctan2(directions[1, 1], directions[0, 1]))
    width, height = 4.0 * np.sqrt(variances[::-1])
    axes[1].add_patch(Ellipse(center, width, height, angle=turn, fill=False, linewidth=1.2))

# %%
# Where EM starts to struggle: more dimensions
# --------------------------------------------
# Ninety points in ten dimensions. EM with ten restarts keeps the restart of highest likelihood, which in small samples is often
# one that overfits. Each dot is one data set.


def draw(seed, p=10, condition=10.0):
    """Three Gaussians of random orientation, thirty points each."""
    rng = np.random.default_rng(seed)
    spread = np.sqrt(np.geomspace(condition**-0.5, condition**0.5, p))
    points = []
    for k in range(3):
        axes_k = np.linalg.qr(rng.standard_normal((p, p)))[0]
        points.append(4.0 / np.sqrt(2.0) * np.eye(p)[k] + rng.standard_normal((30, p)) * spread @ axes_k.T)
    return np.concatenate(points)


truth = np.repeat([0, 1, 2], 30)
seeds = range(1000, 1006)
shares = []
for seed in seeds:
    Y = draw(seed)
    found = (
        KMeans(3, n_init=10, random_state=0).fit_predict(Y),
        GaussianMixture(3, n_init=10, random_state=0).fit_predict(Y),
        solvers.ila_sdp(Y, 3, rng=0).labels,
    )
    shares.append([errors(labels) / 90 for labels in found])
shares = np.array(shares)

names = ("k-means", "EM, 10 starts", "ila_sdp")
figure, ax = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
for place, name in enumerate(names):
    ax.plot(np.full(len(seeds), place), shares[:, place], "o", alpha=0.5, color=f"C{place}")
    ax.plot([place - 0.2, place + 0.2], [shares[:, place].mean()] * 2, color=f"C{place}", linewidth=2.5)
    print(f"{name}: mean share of wrong labels {shares[:, place].mean():.3f}")
ax.set_xticks(range(3), names)
ax.set_ylabel("share of wrong labels")
ax.set_title("ten dimensions, thirty points a cluster; bars: means")

# %%
# Real data: the iris
# -------------------
# Standardised measurements of three species, two of which overlap in elongated clouds.
iris = solvers.load_example("iris")
Z = (iris.data - iris.data.mean(axis=0)) / iris.data.std(axis=0)
truth = np.unique(iris.target, return_inverse=True)[1]
flowers = solvers.ila_sdp(Z, 3, rng=0)
wrong = errors(KMeans(3, n_init=10, random_state=0).fit_predict(Z)), errors(flowers.labels)
print(f"iris: k-means mixes up {wrong[0]} flowers, ila_sdp {wrong[1]}")
print(f"a new flower with mean measurements belongs to cluster {flowers.predict(np.zeros((1, 4)))[0]}")

figure, ax = plt.subplots(figsize=(5.5, 4.0), layout="constrained")
ax.scatter(iris.data[:, 0], iris.data[:, 2], c=flowers.labels, cmap="tab10", vmax=9, s=16)
ax.set_xlabel("sepal length (cm)")
ax.set_ylabel("petal length (cm)")
ax.set_title(f"iris: {wrong[1]} of 150 flowers in another group than their species")
