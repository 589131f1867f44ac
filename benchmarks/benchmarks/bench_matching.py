"""Certified online matching: seconds, peak memory and the certified gap of the same calls, side by side."""

import numpy as np

import solvers


def random_instance(n, n_times, n_types, degree, seed):
    """Each type sees ``degree`` random nodes with lognormal weights."""
    rng = np.random.default_rng(seed)
    p = rng.random((n_times, n_types))
    p *= rng.uniform(0.5, 1.0, (n_times, 1)) / p.sum(axis=1, keepdims=True)
    w = np.zeros((n_times * n_types, n))
    for row in w:
        row[rng.choice(n, degree, replace=False)] = rng.lognormal(size=degree)
    return solvers.matching.BayesianMatching(p, w.reshape(n_times, n_types, n))


class Plan:
    """The linear program, the certificate and its ascent."""

    params = (40, 100, 200)
    param_names = ("n_nodes",)
    timeout = 120

    def setup(self, n_nodes):
        solvers.warm_up("match_online")
        self.instance = random_instance(n_nodes, 2 * n_nodes, 5, 10, seed=20266)

    def time_plan(self, n_nodes):
        solvers.match_online(self.instance, method="pivotal")

    def time_linear_program(self, n_nodes):
        solvers.match_online(self.instance, method="greedy")

    def peakmem_plan(self, n_nodes):
        solvers.match_online(self.instance, method="pivotal")

    def track_gap_plan(self, n_nodes):
        return solvers.match_online(self.instance, method="pivotal").gap


class Decide:
    """Policies at work: a simulated day, and single decisions."""

    params = ("pivotal", "rollout", "dual-price", "greedy")
    param_names = ("method",)

    def setup(self, method):
        solvers.warm_up("match_online")
        self.instance = random_instance(40, 80, 5, 6, seed=20267)
        self.result = solvers.match_online(self.instance, method=method)

    def time_simulate(self, method):
        solvers.matching.simulate(self.instance, {method: self.result}, 20, rng=1)

    def time_arrive(self, method):
        policy = self.result.policy(rng=1)
        for t in range(self.instance.n_times):
            policy.arrive(t, 0)


class PivotalSample:
    """A million units."""

    def setup(self):
        solvers.warm_up("match_online")
        self.p = np.random.default_rng(20268).random(1_000_000)

    def time_given_order(self):
        solvers.pivotal_sample(self.p, rng=1)

    def time_random_order(self):
        solvers.pivotal_sample(self.p, order="random", rng=1)
