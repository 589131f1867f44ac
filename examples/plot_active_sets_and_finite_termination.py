r"""
Active sets and finite termination
==================================

Non-negative least squares with an L1 penalty. Greedy variable blocks find the coordinates that stay at zero; from then on only
the others move. Once one block holds them all, a Newton-type update ends in a step (Nutini, Laradji and Schmidt
2022, figure 7).
"""

# %%
# Data with 30 true coordinates
# -----------------------------
import matplotlib.pyplot as plt
import numpy as np

import solvers
from solvers import bcd

rng = np.random.default_rng(7)
A = rng.standard_normal((200, 600)) + 0.5
A *= 10.0 ** rng.uniform(-0.5, 0.5, 600)
w = np.zeros(600)
w[rng.choice(600, 30, replace=False)] = rng.random(30) + 0.5
b = A @ w + 0.5 * rng.standard_normal(200)
loss, penalty = bcd.LeastSquares(A, b), bcd.NonNegative(0.02 * np.max(A.T @ b))
best = solvers.minimize_bcd(loss, penalty, tol=1e-12)
print(f"{len(best.support)} coordinates away from zero, certified gap {best.gap:.0e}")

# %%
# Updates and block sizes
# -----------------------
figure, axes = plt.subplots(1, 2, figsize=(9.0, 4.0), layout="constrained", sharey=True)
for ax, size in zip(axes, (5, 100), strict=True):
    for update, name in (("lipschitz", "gradient"), ("two-metric", "two-metric Newton"), ("hessian", "exact model")):
        run = solvers.minimize_bcd(
            loss, penalty, rule="gsl-q", update=update, block_size=size, max_iter=150, tol=0.0, history=True,
            options={"check_every": 1},
        )  # fmt: skip
        ax.semilogy(run.history.nit, np.maximum(run.history.fun - best.fun, 1e-10), label=name)
        there = np.flatnonzero(run.history.fun - best.fun <= 1e-9 * best.fun)
        when = f"after {int(run.history.nit[there[0]])} blocks" if len(there) else "not in 150 blocks"
        print(f"blocks of {size:>3}, {name:<18}minimum reached {when}, support {len(run.support)}")
    ax.set_title(f"variable blocks of {size}")
    ax.set_xlabel("blocks")
axes[0].set_ylabel("objective above the minimum")
axes[1].legend()
plt.show()
