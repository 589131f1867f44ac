"""Certified online matching: taxis of New York, advertising, and invitations in the Davis women graph."""

from __future__ import annotations

from typing import Any

from matching._generators import display_ads_instance, taxi_instance
from matching._instance import BayesianMatching
from matching._match_online import match_online
from matching._simulate import simulate
from solvers._core.result import Result
from solvers._demo import DemoProblem, DemoTable

__all__ = ["davis_instance", "table"]


def table() -> DemoTable:
    """What is left open is mostly the distance between the relaxation and the best online policy."""
    taxi = taxi_instance(slot_minutes=10).instance
    ads = display_ads_instance(8, 5, 60, rng=1)
    return DemoTable(
        title="Online matching (match_online): proved value of the policy, and a proved bound on every online policy",
        size_columns=("nodes", "times", "types"),
        objective="proved value",
        problems=[_problem("taxi", taxi), _problem("advertising", ads), _problem("davis_women", davis_instance())],
    )


def davis_instance(chance: float = 0.8) -> BayesianMatching:
    """Fourteen events take place with the given chance each; one of the women who would attend is invited to each."""
    import networkx

    graph = networkx.davis_southern_women_graph()
    events = graph.graph["bottom"]
    networkx.set_node_attributes(graph, dict.fromkeys(events, chance), "probability")
    return BayesianMatching.from_networkx(graph, events)


def _problem(name: str, instance: BayesianMatching) -> DemoProblem:
    def solve() -> Result:
        return match_online(instance, method="pivotal")

    def draw(result: Result, ax: Any) -> None:
        others: dict[str, Any] = {"greedy": match_online(instance, method="greedy", tol=1e-2), "this policy": result}
        rows = simulate(instance, others, 500, rng=7)
        names = ["greedy, simulated", "this policy, simulated", "this policy, proved", "bound on every policy"]
        values = [*rows["mean"], result.fun, result.bound]
        ax.barh(names, values, color=["tab:gray", "tab:blue", "tab:green", "tab:red"])
        for place, value in enumerate(values):
            ax.text(value, place, f" {value / result.bound:.3f}", va="center")
        ax.set_xlim(0, 1.15 * result.bound)
        ax.set_title(f"{name}: shares of the bound")
        ax.set_xlabel("expected value")

    return DemoProblem(name, (instance.n_nodes, instance.n_times, instance.n_types), solve, draw)
