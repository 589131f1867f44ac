r"""
Page views for advertisers under contract
=========================================

Each page view of a day is shown to one advertiser who wants its kind of reader, and each advertiser has bought a number of
views. With few views under contract the best offers can be awaited; with many, waiting is dear. How close do policies come
to what any policy could reach, from one end to the other?
"""

# %%
# A day of traffic
# ----------------
# :func:`solvers.matching.display_ads_instance` draws a day: traffic peaks at noon, the mix of readers drifts, values are
# lognormal, and late views are worth more to some advertisers.
import matplotlib.pyplot as plt
import numpy as np

import solvers

day = solvers.matching.display_ads_instance(8, 4, 40, scarcity=0.6, rng=1)
print(day, "- views under contract:", day.capacities.tolist())

# %%
# Policies against the certified bound
# ------------------------------------
# Everything is divided by ``bound``, which no online policy can exceed in expectation, however clever. Lines with markers
# are simulated means on the same arrivals; the shaded part is what is proved of the pivotal policy without simulation. The
# best matching in hindsight is no online policy, so that it may lie above 1.
shares = (0.2, 0.4, 0.6, 0.8, 1.0)
policies = ("rollout", "pivotal", "dual-price", "greedy")
means = {name: [] for name in (*policies, "offline optimum")}
proved = []
for scarcity in shares:
    instance = solvers.matching.display_ads_instance(8, 4, 40, scarcity=scarcity, rng=1)
    plans = {name: solvers.match_online(instance, method=name) for name in policies}
    table = solvers.matching.simulate(instance, plans, 150, rng=7, offline_runs=150)
    bound = min(plan.bound for plan in plans.values())
    proved.append(plans["pivotal"].fun / bound)
    for row in table:
        means[str(row["name"])].append(row["mean"] / bound)

figure, ax = plt.subplots(figsize=(7.0, 4.0), layout="constrained")
ax.fill_between(shares, 0, proved, color="tab:green", alpha=0.15, label="proved without simulation")
for name, marker in zip(means, "oDsv^", strict=True):
    ax.plot(shares, means[name], marker=marker, label=name, linestyle=":" if name == "offline optimum" else "-")
ax.axhline(1.0, color="tab:red", label="bound on every online policy")
ax.set_ylim(0.6, 1.15)
ax.set_xlabel("views under contract, as a share of the expected views")
ax.set_ylabel("share of the bound")
ax.legend(fontsize=8, ncols=2)

# %%
# What a view costs over the day
# ------------------------------
# Before a view is known the rollout has a price for each advertiser's next view. A view is given to the advertiser who
# values it most above that price. Prices fall while nothing is sold and rise when a view of the same kind has been.
plan = solvers.match_online(day, method="rollout")
policy = plan.policy(rng=3)
rng = np.random.default_rng(3)
prices = []
for t in range(day.n_times):
    prices.append(policy.prices(t))
    kinds = rng.choice(day.n_types + 1, p=np.append(day.probabilities[t], 1 - day.probabilities[t].sum()))
    if kinds < day.n_types:
        policy.arrive(t, int(kinds))
    else:
        policy.skip(t)

figure, ax = plt.subplots(figsize=(7.0, 3.6), layout="constrained")
ax.plot(np.where(np.isfinite(prices), prices, np.nan), drawstyle="steps-post")
ax.set_xlabel("time of day")
ax.set_ylabel("price of the next view, one line per advertiser")
