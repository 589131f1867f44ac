"""Random and classical instances of online matching, and certificates in rational arithmetic."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

from matching import BayesianMatching, MatchingResult, match_online

# "optimal" stands for a rollout that follows the dynamic program, "rollout" for one that follows the certificate.
PLANS = ("pivotal", "independent", "rollout", "optimal", "dual-price", "greedy")


def planned(instance: BayesianMatching, plan: str, **keywords: Any) -> MatchingResult:
    """The result of one of ``PLANS``."""
    exact = {"rollout": {"exact": False}, "optimal": {"exact": True}}.get(plan, {})
    options = keywords.pop("options", {}) | exact
    return match_online(instance, method="rollout" if plan == "optimal" else plan, options=options, **keywords)


def tiny(rng: np.random.Generator, *, most_units: int = 4, scale: str = "plain") -> BayesianMatching:
    """At most 4 nodes, 5 times, 3 types; edge-weighted, vertex-weighted or unweighted, sometimes with capacities."""
    n, n_times, n_types = int(rng.integers(1, 5)), int(rng.integers(1, 6)), int(rng.integers(1, 4))
    p = rng.random((n_times, n_types))
    if rng.random() < 0.2:
        p[rng.random(p.shape) < 0.4] = 0.0
    p /= np.maximum(1.0, p.sum(axis=1, keepdims=True) * rng.uniform(1.0, 1.5, (n_times, 1)))
    if rng.random() < 0.3:
        p[-1] /= max(p[-1].sum(), 1e-300)
    shape = (n_times, n_types, n)
    kind = rng.integers(3)
    if kind == 0:
        w = rng.lognormal(size=shape)
    elif kind == 1:
        w = np.broadcast_to(rng.lognormal(size=n), shape).copy()
    else:
        w = np.ones(shape)
    if scale == "wild":
        w *= 10.0 ** rng.uniform(-9, 9, shape)
        p *= 10.0 ** -rng.choice([0.0, 0.0, 4.0, 9.0], p.shape)
    elif scale == "large":
        w *= 1e8
    elif scale == "small":
        w *= 1e-8
    w[rng.random(shape) < 0.2] = 0.0
    capacities = rng.integers(0, 3, n) if rng.random() < 0.25 else None
    if capacities is not None and capacities.sum() > most_units:
        capacities = None
    return BayesianMatching(p, w, capacities)


def medium(
    rng: np.random.Generator, n: int, n_times: int, n_types: int, degree: int, kind: str = "edge"
) -> BayesianMatching:
    """Each type sees ``degree`` random nodes."""
    p = rng.random((n_times, n_types))
    if n_types > 1:
        p *= rng.uniform(0.5, 1.0, (n_times, 1)) / p.sum(axis=1, keepdims=True)
    base = rng.lognormal(size=n)
    w = np.zeros((n_times * n_types, n))
    for row in w:
        nodes = rng.choice(n, min(degree, n), replace=False)
        row[nodes] = {"edge": rng.lognormal(size=len(nodes)), "vertex": base[nodes], "unweighted": np.ones(len(nodes))}[
            kind
        ]
    return BayesianMatching(p, w.reshape(n_times, n_types, n))


def early_and_late(n: int, eps: float) -> BayesianMatching:
    """n private arrivals of probability 1 - 1/n worth eps, then a sure one worth 1 to every node: tight for 1 - 1/e."""
    p = np.append(np.full(n, 1.0 - 1.0 / n), 1.0)
    w = np.zeros((n + 1, n))
    w[np.arange(n), np.arange(n)] = eps
    w[n] = 1.0
    return BayesianMatching(p, w)


def exact_optimum(instance):
    """Value of the best online policy, in rational arithmetic and from its definition."""
    w = instance.weights.toarray().reshape(instance.n_times, instance.n_types, -1)

    @cache
    def best_from(t, left):
        if t == instance.n_times:
            return Fraction(0)
        stay = best_from(t + 1, left)
        p = [Fraction(float(q)) for q in instance.probabilities[t]]
        total = (1 - sum(p)) * stay
        for k, q in enumerate(p):
            taken = [
                Fraction(float(w[t, k, i])) + best_from(t + 1, (*left[:i], b - 1, *left[i + 1 :]))
                for i, b in enumerate(left)
                if b > 0 and w[t, k, i] > 0
            ]
            total += q * max([stay, *taken])
        return total

    return best_from(0, tuple(map(int, instance.capacities)))


def exact_dual(instance, prices):
    """D(lambda) in rational arithmetic."""
    w = instance.weights.toarray().reshape(instance.n_times, instance.n_types, -1)
    total = sum(
        Fraction(float(p)) * Fraction(float(q))
        for p, q in zip(instance.probabilities.ravel(), prices.ravel(), strict=True)
    )
    for i in range(instance.n_nodes):
        v = Fraction(0)
        for t in range(instance.n_times - 1, -1, -1):
            gains = [
                Fraction(float(instance.probabilities[t, k]))
                * max(Fraction(0), Fraction(float(w[t, k, i])) - Fraction(float(prices[t, k])) - v)
                for k in range(instance.n_types)
                if w[t, k, i] > 0
            ]
            v += sum(gains)
        total += int(instance.copies[i]) * v
    return total


def exact_proved(instance, rates, grid):
    """C(r) on the grid (or for independent proposals, grid 0) in rational arithmetic."""
    edges, _ = instance.units
    y = [Fraction(1)] * instance.n_units
    total = Fraction(0)
    for t in range(instance.n_times):
        leaving = [Fraction(0)] * instance.n_units
        for k in range(instance.n_types):
            p = Fraction(float(instance.probabilities[t, k]))
            law, none = {0: Fraction(1)}, Fraction(1)
            row = t * instance.n_types + k
            for e in range(edges.start[row], edges.start[row + 1]):
                i, r, w = edges.node[e], Fraction(float(rates[e])), Fraction(float(edges.weight[e]))
                leaving[i] += p * r
                if grid == 0:
                    total += p * w * none * r * y[i]
                    none *= 1 - r * y[i]
                    continue
                low = int(r * grid)
                part = r * grid - low
                before = sum(min(s, grid) * q for s, q in law.items())
                after = {}
                for s, q in law.items():
                    for step, chance in ((0, 1 - y[i]), (low, y[i] * (1 - part)), (low + 1, y[i] * part)):
                        to = min(grid, s + step)
                        after[to] = after.get(to, Fraction(0)) + q * chance
                law = after
                total += p * w * (sum(s * q for s, q in law.items()) - before) / grid
        y = [a * (1 - b) for a, b in zip(y, leaving, strict=True)]
    return total
