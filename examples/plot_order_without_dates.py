r"""
An order without dates
======================

Collections of objects of unknown date: hems and sleeves get longer and shorter again, the sleeves a quarter of a cycle behind,
and every collection covers another stretch of the cycle. No measurement tells early from late by itself, so nothing that
scores objects one by one can date them. What *follows* what is in the data: :class:`solvers.ranking.TSPRanker` learns it.
"""

# %%
# Collections
# -----------
# 80 collections of 14 objects, six noisy measurements that mix the two coordinates of the style.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge

from solvers.ranking import TSPRanker, group_mean, kendall_tau, rank_borda

rng = np.random.default_rng(7)
groups, n = 80, 14
mixing = rng.standard_normal((2, 6))
begin = rng.uniform(0, 2 * np.pi, groups)
time = np.sort(rng.uniform(0, 1.6 * np.pi, (groups, n)), axis=1)
phase = begin[:, None] + time
style = np.stack([np.cos(phase), np.sin(phase)], axis=-1)
X = (style @ mixing + 0.15 * rng.standard_normal((groups, n, 6))).reshape(-1, 6)
qid = np.repeat(np.arange(groups), n)
age = -np.tile(np.arange(n), groups).astype(float)  # the oldest object is best
shuffled = rng.permutation(len(X))
X, qid, age = X[shuffled], qid[shuffled], age[shuffled]
train = qid < 60

# %%
# One by one, or one after the other
# ----------------------------------
# The same learnt matrix is also read by Borda counts: the scores are of adjacency, and a path is the decoder that fits.
ranker = TSPRanker(alpha=1e-3, random_state=0).fit(X[train], age[train], qid=qid[train])
test = (X[~train], age[~train], qid[~train])
taus = {}
for name, model in (("ridge", Ridge()), ("boosted trees", HistGradientBoostingRegressor(max_iter=60, random_state=0))):
    taus[name] = group_mean(kendall_tau, test[1], model.fit(X[train], age[train]).predict(test[0]), test[2])[0]
borda = []
for collection, scores in zip(np.unique(test[2]), ranker.decision_matrix(test[0], qid=test[2]), strict=True):
    # Without the depot, the last node.
    borda.append(kendall_tau(test[1][test[2] == collection], -rank_borda(scores[:-1, :-1], rng=0).rank))
taus["learnt scores, Borda"] = np.mean(borda)
taus["learnt scores, path"] = ranker.score(test[0], test[1], qid=test[2])
for name, tau in taus.items():
    print(f"{name:<24}tau {tau:+.3f}")

# %%
# One collection
# --------------
# The path found, in the plane of hems and sleeves, and the taus of all 20 test collections.
collection = np.flatnonzero(~train & (qid == 62))
order = collection[ranker.predict_order(X[collection], group=[n])[0]]
plane = X @ np.linalg.pinv(mixing)
figure, axes = plt.subplots(1, 2, figsize=(9.5, 4.0), layout="constrained")
axes[0].plot(*plane[order].T, color="grey", lw=1)
axes[0].scatter(*plane[order].T, c=-age[order], cmap="viridis", zorder=2)
for position, row in enumerate(order):
    axes[0].annotate(str(position + 1), plane[row], textcoords="offset points", xytext=(5, 4), fontsize=8)
axes[0].set_title("learnt order; colour: true place")
axes[0].set_xlabel("hem")
axes[0].set_ylabel("sleeve")
axes[0].set_aspect("equal")
axes[1].barh(list(taus), list(taus.values()))
axes[1].set_xlabel("Kendall tau with the true order")
plt.show()
