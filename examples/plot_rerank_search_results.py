r"""
Reranking search results: what a path adds to a score
=====================================================

Fifty queries of LightGBM's lambdarank example, 40 features, relevance 0 to 4. A base ranker scores every document by itself;
:class:`solvers.ranking.TSPRanker` then learns which document should follow which from the base's scores. A model that sees one
score per document can at best sort by that score, so the honest expectation is: no harm, and no gain.
"""

# %%
# Out-of-fold base scores
# -----------------------
# The reranker has to be trained on scores that the base gives to queries which it has not seen.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold, cross_val_predict

import solvers
from solvers.ranking import TSPRanker, group_mean, kendall_tau, ndcg

lists = solvers.load_example("lambdarank")
qid, X, relevance = lists.data[:, 0].astype(int), lists.data[:, 1:], lists.target.astype(float)
train = qid < 30
bases = {
    "ridge": RidgeCV(alphas=np.logspace(0, 4, 9)),
    "boosted trees": HistGradientBoostingRegressor(max_iter=60, learning_rate=0.05, random_state=0),
}


def quality(scores):
    """NDCG@10 with gain 2^relevance - 1 and Kendall's tau on the 20 test queries."""
    test = (relevance[~train], scores, qid[~train])
    return group_mean(ndcg, *test, k=10, gain="exponential")[0], group_mean(kendall_tau, *test)[0]


rows = {"random order": quality(np.random.default_rng(0).random(int(np.sum(~train))))}
for name, base in bases.items():
    folded = cross_val_predict(base, X[train], relevance[train], cv=GroupKFold(5), groups=qid[train])
    score = base.fit(X[train], relevance[train]).predict(X[~train])
    ranker = TSPRanker(embedding="quadratic", random_state=0)
    ranker.fit(folded[:, None], relevance[train], qid=qid[train])
    rows[name] = quality(score)
    rows[f"{name} + path"] = quality(ranker.predict(score[:, None], qid=qid[~train]))
for name, (gain, tau) in rows.items():
    print(f"{name:<24}NDCG@10 {gain:.3f}   tau {tau:+.3f}")

# %%
# The paths are proved
# --------------------
# ``decode`` returns the certified paths behind a prediction, the depot being the last node of every group.
batch, _ = ranker.decode(score[:, None], qid=qid[~train])
matrices = ranker.decision_matrix(score[:, None], qid=qid[~train])
print(batch.message, solvers.verify(batch, matrices, closed=True).message)

# %%
# What the model has learnt
# -------------------------
# The scores of the arcs of one query, without the depot, rows and columns in predicted order. The best should follow the best
# and the worst the worst, the two bright corners; nothing good should follow something bad, the dark corner below.
order = ranker.predict_order(score[qid[~train] == 30][:, None], group=[int(np.sum(qid == 30))])[0]
picture = matrices[0][np.ix_(order, order)]
np.fill_diagonal(picture, np.nan)
figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
image = axes[0].imshow(picture, cmap="viridis")
figure.colorbar(image, ax=axes[0], label="score of the arc")
axes[0].set_xlabel("position of the successor")
axes[0].set_ylabel("position")
axes[1].barh(list(rows), [gain for gain, _ in rows.values()])
axes[1].set_xlim(0.4, None)
axes[1].set_xlabel("NDCG@10, 20 test queries")
plt.show()
