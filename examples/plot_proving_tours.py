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
# What the certificates hold
# --------------------------
# One vector of node potentials proves the tour of ftv33. That of ry48p, which is nearly symmetric, takes a tree: each inner
# node decides on an arc, which one child forbids and the other forces, and each leaf has its potentials.
print(f"ftv33: {results['ftv33'].certificate.potentials.shape[0]} potentials, no branching")
tree = results["ry48p"].certificate
print(f"ry48p: {len(tree.parent)} nodes, of which {len(tree.potentials)} leaves")

# %%
# The bound rises, the tour falls
# -------------------------------
# The first bound on ry48p is that of an assignment, 13 % below the shortest tour. Potentials leave less than 1 % open, and
# branching closes that.
rounds = results["ry48p"].history
figure, axis = plt.subplots(figsize=(6.0, 3.6), layout="constrained")
axis.plot(rounds.time, rounds.fun, "o-", label="tour")
axis.plot(rounds.time, rounds.bound, "o-", label="proved bound")
axis.set_xlabel("seconds")
axis.set_ylabel("length")
axis.legend()
plt.show()
