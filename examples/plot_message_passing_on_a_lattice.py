r"""
Message passing on a lattice
============================

A quadratic on a 50 x 50 lattice with 100 labelled nodes, from the seed of Nutini, Laradji and Schmidt (2022, figure 6). One
block per iteration; the same cost allows blocks of very different sizes, because a forest is solved in linear time.
"""

# %%
# The problem
# -----------
import matplotlib.pyplot as plt
import numpy as np
import scipy.sparse

import solvers
from solvers import bcd

side, weight = 50, 1e5
state = np.random.RandomState(1)
n = side * side
nodes = np.arange(n).reshape(side, side)
rows = np.concatenate([nodes[:, :-1].ravel(), nodes[:-1].ravel()])
columns = np.concatenate([nodes[:, 1:].ravel(), nodes[1:].ravel()])
W = scipy.sparse.coo_array((np.full(len(rows), weight), (rows, columns)), shape=(n, n)).tocsr()
W = W + W.T
L = scipy.sparse.csr_array(scipy.sparse.diags_array(W.sum(axis=1)) - W)
known = state.choice(n, 100, replace=False)
labels = state.randn(100) * 10
unknown = np.setdiff1d(np.arange(n), known)
loss = bcd.Quadratic(L[unknown][:, unknown], W[unknown][:, known] @ labels)
best = solvers.minimize_bcd(loss, tol=0.0)
print(f"minimum {best.fun:.6f}, certified gap {best.gap:.0e}")

# %%
# Blocks of every kind
# --------------------
# A general block of 13 coordinates costs as much as a forest of 1600.
kinds = {
    "13 coordinates": {"blocks": "variable", "rule": "gsl", "update": "hessian", "block_size": 13},
    "red-black": {"blocks": "red-black", "rule": "gsl", "update": "message-passing"},
    "forest partition": {"blocks": "forest-partition", "rule": "cyclic", "update": "message-passing"},
    "random forest": {"blocks": "greedy-forest", "rule": "random", "update": "message-passing"},
    "greedy forest": {"blocks": "greedy-forest", "rule": "gsd", "update": "message-passing"},
}
figure, ax = plt.subplots(figsize=(7.0, 4.5), layout="constrained")
for name, keywords in kinds.items():
    run = solvers.minimize_bcd(
        loss, max_iter=500, tol=0.0, history=True, rng=1, options={"check_every": 10}, **keywords
    )
    ax.semilogy(run.history.nit, np.maximum(run.history.fun - best.fun, 1e-7), label=name)
    print(f"{name:<18}{run.fun - best.fun:12.3e} above the minimum after 500 blocks")
ax.set_xlabel("blocks")
ax.set_ylabel("objective above the minimum")
ax.legend()
plt.show()
