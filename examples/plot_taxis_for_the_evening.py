r"""
One last trip: taxis of New York
================================

Sixteen cars wait in Manhattan at 17:00, one in each of the busiest zones, each willing to make one more trip before
22:00. Requests arrive by the laws observed in the first half of March 2019; the second half is kept for the test. Which
request should a car accept, if a better one may come later?
"""

# %%
# A plan with a proof
# -------------------
# A type is a zone of pick-up and a class of fare; serving it is worth the fare less the cost of driving there.
import matplotlib.pyplot as plt
import numpy as np

import solvers

evening = solvers.matching.taxi_instance(slot_minutes=10)
instance = evening.instance
plans = {
    name: solvers.match_online(instance, method=name, options=options)
    for name, options in (
        ("greedy", {}),
        ("dual-price", {}),
        ("pivotal", {}),
        ("rollout", {"ascent_iterations": 100}),
    )
}
pivotal = plans["pivotal"]
print(instance)
print(f"this policy expects at least {pivotal.fun:.2f} dollars, no online policy more than {pivotal.bound:.2f}")
print(solvers.verify(pivotal, instance).message)

# %%
# What the policies earn on simulated evenings
# --------------------------------------------
# All policies meet the same requests. The red line is the certified bound: no policy that decides online can pass it,
# however clever. The green line is proved for the pivotal policy without any simulation.
table = solvers.matching.simulate(instance, plans, 150, rng=7)
figure, ax = plt.subplots(figsize=(7.0, 3.6), layout="constrained")
ax.barh(table["name"], table["mean"], xerr=2 * table["standard_error"], color="tab:blue", alpha=0.8)
ax.axvline(pivotal.bound, color="tab:red", label=f"bound on every online policy, {pivotal.bound:.1f}")
ax.axvline(pivotal.fun, color="tab:green", label=f"proved for pivotal and rollout, {pivotal.fun:.1f}")
ax.set_xlabel("dollars per evening (simulated mean, two standard errors)")
ax.legend(loc="lower left")

# %%
# The days that were not used
# ---------------------------
# The laws are fitted on 15 days and are not the truth, so nothing is proved about the evenings that followed. The
# policies can still be run on what really happened.
earned = {name: [] for name in plans}
weights = instance.weights.toarray()
for arrivals in evening.evenings:
    for name, plan in plans.items():
        policy = plan.policy(rng=7)
        total = 0.0
        for t, kind in enumerate(arrivals):
            if kind >= 0:
                car = policy.arrive(t, int(kind))
                total += weights[t * instance.n_types + kind, car] if car >= 0 else 0.0
        earned[name].append(total)

figure, ax = plt.subplots(figsize=(7.0, 3.6), layout="constrained")
days = np.arange(16, 16 + len(evening.evenings))
for name, marker in zip(plans, "vsoD", strict=True):
    ax.plot(days, earned[name], marker, label=f"{name}: mean {np.mean(earned[name]):.0f}", alpha=0.8)
ax.set_xlabel("day of March 2019")
ax.set_ylabel("dollars that evening")
ax.legend()

# %%
# Prices over the evening
# -----------------------
# The rollout posts a price for each car, halfway between what the proved value of the rest of the evening loses if the
# car leaves now and the price of the linear program's dual. A request is served if it pays more. Prices fall as the
# evening ends, and rise when other cars have left.
policy = plans["rollout"].policy(rng=7)
arrivals = evening.evenings[np.argmax((evening.evenings >= 0).sum(axis=1))]
prices = np.full((instance.n_times, instance.n_nodes), np.nan)
for t, kind in enumerate(arrivals):
    posted = policy.prices(t)
    prices[t] = np.where(np.isfinite(posted), posted, np.nan)
    if kind >= 0:
        policy.arrive(t, int(kind))
    else:
        policy.skip(t)

figure, ax = plt.subplots(figsize=(7.0, 4.0), layout="constrained")
image = ax.imshow(prices.T, aspect="auto", cmap="viridis")
ax.set_yticks(range(instance.n_nodes), evening.zones, fontsize=7)
ax.set_xticks(range(0, instance.n_times, 6), [f"{17 + h}:00" for h in range(5)])
ax.set_title("price of each waiting car in dollars; blank once it has left")
figure.colorbar(image, ax=ax)
