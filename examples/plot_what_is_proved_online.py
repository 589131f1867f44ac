r"""
How much of an online policy can be proved?
===========================================

A policy for online matching is compared with the best one that decides online, whose value is out of reach for all but
tiny instances. :func:`solvers.match_online` encloses it: a proved value below, a proved bound above.
"""

# %%
# The instance that costs 1 - 1/e
# -------------------------------
# n cheap early arrivals, one for each node, and a sure late one worth 1 to every node. A policy that follows the
# linear program uses up its nodes too early. Two fixed ways of damping early use help; ascent on the proved value
# helps more.
import matplotlib.pyplot as plt
import networkx
import numpy as np

import solvers
from solvers.matching import BayesianMatching


def early_and_late(n, eps):
    w = np.zeros((n + 1, n))
    w[np.arange(n), np.arange(n)] = eps
    w[n] = 1.0
    return BayesianMatching(np.append(np.full(n, 1 - 1 / n), 1.0), w)


sizes = (2, 3, 5, 8, 13, 20, 35, 50)
scalings = {"none": "rates of the linear program", "two-step": "two-step", "cubic": "cubic", "ascent": "ascent"}
figure, ax = plt.subplots(figsize=(7.0, 3.8), layout="constrained")
for scaling, label in scalings.items():
    plans = [solvers.match_online(early_and_late(n, 1e-6), method="pivotal", scaling=scaling) for n in sizes]
    ax.plot(sizes, [plan.fun / plan.bound for plan in plans], "o-", label=label)
ax.axhline(1 - np.exp(-1), color="gray", linestyle=":", label="1 - 1/e")
ax.set_xscale("log")
ax.set_xlabel("number of nodes")
ax.set_ylabel("proved value / bound")
ax.legend()

# %%
# Where the truth is known
# ------------------------
# On small random instances the best online policy and the exact value of ours can be computed. From left to right on
# each line: proved value, exact value of the policy, best online policy, bound. (With so few units the default method
# would follow the dynamic program and close the gap; here we look at what is proved without it.)
rng = np.random.default_rng(5)
figure, ax = plt.subplots(figsize=(7.0, 4.2), layout="constrained")
for row in range(14):
    p = rng.random((6, 2)) * 0.5
    instance = BayesianMatching(p, rng.lognormal(size=(6, 2, 4)) if row % 2 else np.ones((6, 2, 4)))
    plan = solvers.match_online(instance, method="pivotal", scaling="none")
    truth = [
        plan.fun,
        solvers.matching.exact_policy_value(instance, plan),
        solvers.matching.optimal_online_value(instance),
        plan.bound,
    ]
    assert sorted(truth) == truth
    share = np.array(truth) / plan.bound
    ax.plot(share, [row] * 4, color="lightgray", zorder=0)
    ax.scatter(share, [row] * 4, c=["tab:green", "tab:blue", "black", "tab:red"], s=30)
ax.set_yticks([])
ax.set_xlabel("share of the bound: proved (green), exact (blue), best online policy (black), bound (red)")

# %%
# Invitations in the Davis graph
# ------------------------------
# Eighteen women of the 1930s and fourteen events of which each takes place with probability 0.8: whom to invite to
# each, everyone once, so that as many events as possible have a guest? The answer is proved optimal: the bound is
# attained.
graph = networkx.davis_southern_women_graph()
events = graph.graph["bottom"]
networkx.set_node_attributes(graph, dict.fromkeys(events, 0.8), "probability")
davis = BayesianMatching.from_networkx(graph, events)
plan = solvers.match_online(davis)
print(plan.status.name, f"proved {plan.fun:.4f}, bound {plan.bound:.4f}")
position = networkx.bipartite_layout(graph, events, align="horizontal", aspect_ratio=2.0)
chance = [
    plan.x[events.index(b if b in events else a), davis.nodes.index(a if b in events else b)] for a, b in graph.edges
]
figure, ax = plt.subplots(figsize=(7.0, 4.4), layout="constrained")
colors = ["tab:orange" if node in events else "tab:blue" for node in graph]
networkx.draw_networkx_nodes(graph, position, node_size=60, node_color=colors, ax=ax)
networkx.draw_networkx_edges(graph, position, width=[0.2 + 4 * float(x) for x in chance], edge_color="gray", ax=ax)
networkx.draw_networkx_labels(
    graph, {node: (x, y + (0.11 if node in events else -0.11)) for node, (x, y) in position.items()},
    {node: str(node).split()[0] for node in graph}, font_size=6, ax=ax,
)  # fmt: skip
ax.set_title("events (orange) and women; width: how often the bound's solution invites", fontsize=9)
ax.margins(0.05, 0.3)
ax.set_axis_off()

policy = plan.policy(rng=1)
for t, event in enumerate(events[:5]):
    guest = policy.arrive(t, 0)
    print(event, "->", davis.nodes[guest] if guest >= 0 else "nobody")
