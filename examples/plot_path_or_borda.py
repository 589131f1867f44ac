r"""
Path or Borda?
==============

A best path (:func:`solvers.rank_tsp`) is the right decoder for scores that say "immediately before", and the wrong one for
scores that say "anywhere before". Here are both kinds, both decoders, and the diagnostic that tells them apart.
"""

# %%
# Two kinds of scores
# -------------------
# Thirty items in a hidden order. Successor scores peak at rank distance one; preference scores are a smooth step.
import warnings

import matplotlib.pyplot as plt
import numpy as np

import solvers
from solvers.ranking import kendall_tau, score_kind

rng = np.random.default_rng(3)
n = 30
hidden = rng.permutation(n)
distance = hidden[None, :] - hidden[:, None]


def noisy(kind, noise):
    """Scores of one kind with Gaussian noise."""
    clean = np.exp(-np.abs(distance - 1) / 2) if kind == "successor" else 1 / (1 + np.exp(-distance / 4))
    return clean + noise * rng.standard_normal((n, n))


# %%
# The diagnostic
# --------------
for kind in ("successor", "preference"):
    print(kind, score_kind(noisy(kind, 0.1)))

# %%
# Who recovers the hidden order?
# ------------------------------
# Kendall's tau with the truth, median of 15 draws, against the noise.
levels = np.linspace(0.0, 0.5, 6)
figure, axes = plt.subplots(1, 2, figsize=(9.0, 3.6), layout="constrained", sharey=True)
for axis, kind in zip(axes, ("successor", "preference"), strict=True):
    taus = {"best path": [], "Borda": []}
    for level in levels:
        draws = [noisy(kind, level) for _ in range(15)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", solvers.SolverWarning)  # the warning is this example's subject
            paths = [solvers.rank_tsp(scores, rng=0).rank for scores in draws]
        taus["best path"].append(np.median([kendall_tau(hidden, rank) for rank in paths]))
        taus["Borda"].append(np.median([kendall_tau(hidden, solvers.rank_borda(scores).rank) for scores in draws]))
    for name, values in taus.items():
        axis.plot(levels, values, marker="o", label=name)
    axis.set_title(f"{kind} scores")
    axis.set_xlabel("noise")
axes[0].set_ylabel("Kendall tau with the truth")
axes[0].legend()
plt.show()
