r"""
Proving the best tour of TSPLIB instances
=========================================

Asymmetric travelling-salesman instances from TSPLIB, solved and proved by :func:`solvers.rank_tsp`; the proof is then checked
from the distances alone.
"""

# %%
# Solve and verify
# ----------------
from importlib.resources import files

import matplotlib.pyplot as plt
import numpy as np

import solvers
from solvers.ranking import read_tsplib

results = {}
for name in ("br17", "ftv33", "ry48p"):
    distances = read_tsplib(files("solvers") / "_data" / f"{name}.atsp")
    results[name] = solvers.rank_tsp(distances, closed=True, maximize=False, history=True, rng=0)
    check = solvers.verify(results[name], distances, closed=True, maximize=False)
    print(
        f"{name}: length {results[name].fun:g}, gap {results[name].gap:.1e}, {results[name].status.name}; {check.message}"
    )

# %%
# What the certificate of ftv33 holds
# -----------------------------------
# A tree of assignment problems: inner nodes split on the arcs of a short cycle, each leaf has its column prices.
tree = results["ftv33"].certificate
print(f"{len(tree.parent)} nodes, {len(tree.prices)} leaves, {int(tree.ray.sum())} of them without any assignment")

# %%
# A hard one
# ----------
# ry48p is nearly symmetric. The tour found is optimal; the cheap bounds stay about one percent below it. Given a second,
# branching narrows the gap.
distances = read_tsplib(files("solvers") / "_data" / "ry48p.atsp")
longer = solvers.rank_tsp(distances, closed=True, maximize=False, method="exact", time_limit=1.0, history=True, rng=0)
figure, axis = plt.subplots(figsize=(6.0, 3.6), layout="constrained")
axis.plot(longer.history.time, longer.history.fun, label="tour")
axis.plot(longer.history.time, longer.history.bound, label="proved bound")
axis.set_xlabel("seconds")
axis.set_ylabel("length")
axis.set_ylim(np.min(longer.history.bound[1:]) * 0.995, np.max(longer.history.fun) * 1.005)
axis.legend()
plt.show()
