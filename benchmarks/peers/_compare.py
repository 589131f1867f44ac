"""Comparisons with other libraries. Three things that never mix: data, solvers, and the judge of their answers.

A family's script imports this module first, lists workloads and calls :func:`main`::

    Workload(
        name="gmm(200,10,4,1.0)",
        data=lambda seed: gmm(200, 10, 4, 1.0, seed),                # a dataset: seed -> anything
        ours=Solver("kmeans_sdp", lambda d: kmeans_sdp(d.X, 4)),      # a solver: data -> answer
        peers=(Solver("CVXPY+SCS", solve_by_scs, needs=("cvxpy", "scs")),),
        judge=certified_gap,                                          # the objective: (data, answer) -> Judgement
        targets=(TimesLess("CVXPY+SCS", 30.0),),
    )

The judge is the same for every solver and looks at the answer only: what a solver says about itself does not count, and a
target is missed whatever the time if the judge refuses our answer. Times are CPU seconds of this process (all its threads),
medians over the seeds, ours and the peers' in turn on the same data; set the BLAS threads to one, as ``main`` checks.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["Judgement", "Quality", "Seconds", "Solver", "TimesLess", "TimesOf", "Workload", "main"]

# Scripts here bear the names of the family packages, which they would shadow; import this module before ``solvers``.
HERE = Path(__file__).resolve().parent
sys.path[:] = [str(HERE.parent.parent), *(entry for entry in sys.path if Path(entry).resolve() != HERE)]


@dataclass(frozen=True)
class Judgement:
    """What an answer is worth: a figure (smaller is better), a few words, and whether the answer counts at all."""

    value: float
    words: str
    accepted: bool = True


@dataclass(frozen=True)
class Solver:
    """``run(data) -> answer``; skipped with a line unless every package in ``needs`` is installed.

    ``prepare`` runs once, untimed (compilation). ``seeds`` limits the runs of a slow solver to the first few seeds.
    """

    name: str
    run: Callable[[Any], Any]
    needs: tuple[str, ...] = ()
    prepare: Callable[[], Any] | None = None
    seeds: int | None = None


@dataclass(frozen=True)
class Outcome:
    """Median CPU seconds of one solver on one workload, and the judgements of its answers."""

    seconds: float
    judgements: tuple[Judgement, ...]

    @property
    def accepted(self) -> bool:
        return all(judgement.accepted for judgement in self.judgements)

    @property
    def value(self) -> float:
        return statistics.median(judgement.value for judgement in self.judgements)


@dataclass(frozen=True)
class TimesLess:
    """We take at least ``factor`` times less CPU than ``peer``."""

    peer: str
    factor: float

    def check(self, ours: Outcome, peers: dict[str, Outcome]) -> tuple[str, float, bool]:
        ratio = peers[self.peer].seconds / ours.seconds
        return f">= {self.factor:g}x less than {self.peer}", ratio, ratio >= self.factor


@dataclass(frozen=True)
class TimesOf:
    """We take at most ``factor`` times the CPU of ``peer``."""

    peer: str
    factor: float

    def check(self, ours: Outcome, peers: dict[str, Outcome]) -> tuple[str, float, bool]:
        ratio = ours.seconds / peers[self.peer].seconds
        return f"<= {self.factor:g}x of {self.peer}", ratio, ratio <= self.factor


@dataclass(frozen=True)
class Seconds:
    """We take at most ``limit`` CPU seconds."""

    limit: float
    peer: None = None

    def check(self, ours: Outcome, peers: dict[str, Outcome]) -> tuple[str, float, bool]:
        return f"<= {self.limit:g} CPU-s", ours.seconds, ours.seconds <= self.limit


@dataclass(frozen=True)
class Quality:
    """Our median judgement is at most ``limit`` times that of ``peer``, or at most ``limit`` where no peer is named."""

    limit: float
    peer: str | None = None

    def check(self, ours: Outcome, peers: dict[str, Outcome]) -> tuple[str, float, bool]:
        if self.peer is None:
            return f"judged <= {self.limit:g}", ours.value, ours.value <= self.limit
        ratio = ours.value / peers[self.peer].value
        return f"judged <= {self.limit:g}x of {self.peer}", ratio, ratio <= self.limit


Target = TimesLess | TimesOf | Seconds | Quality


@dataclass(frozen=True)
class Workload:
    """A named problem family, who solves it, who judges, and what is asked of us. ``quick`` ones run under ``--quick``.

    ``beside`` gives a line on our figures that the race does not time, such as compilation and memory.
    """

    name: str
    data: Callable[[int], Any]
    ours: Solver
    judge: Callable[[Any, Any], Judgement]
    peers: tuple[Solver, ...] = ()
    targets: tuple[Target, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    quick: bool = False
    note: str = ""
    beside: Callable[[], str] | None = None


def main(title: str, workloads: Sequence[Workload], arguments: Sequence[str] | None = None) -> int:
    """Run the workloads that the command line asks for and print the table; exit status 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--quick", action="store_true", help="only the quick workloads, one seed each")
    parser.add_argument("--only", default="", metavar="TEXT", help="only workloads whose name contains TEXT")
    parser.add_argument("--list", action="store_true", help="name the workloads and stop")
    asked = parser.parse_args(arguments)
    chosen = [w for w in workloads if asked.only in w.name and (w.quick or not asked.quick)]
    if asked.list:
        print("\n".join(w.name for w in chosen))
        return 0
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1" or os.environ.get("OMP_NUM_THREADS") != "1":
        print("note: set OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 for comparable CPU seconds", file=sys.stderr)
    print(f"{title}\nCPU seconds, medians over the seeds; answers judged by the comparison, not by the solver\n")
    missed = sum(_report(workload, workload.seeds[:1] if asked.quick else workload.seeds) for workload in chosen)
    print(f"\n{missed} target(s) missed" if missed else "\nevery target met")
    return 1 if missed else 0


def _report(workload: Workload, seeds: Sequence[int]) -> int:
    """Print the lines of one workload; returns the number of targets missed."""
    print(f"{workload.name}{': ' + workload.note if workload.note else ''}")
    peers = []
    for peer in workload.peers:
        absent = [package for package in peer.needs if find_spec(package) is None]
        if absent:
            print(f"  {peer.name:<24}skipped: {', '.join(absent)} not installed")
        else:
            peers.append(peer)
    outcomes = _race(workload, (workload.ours, *peers), seeds)
    for name, outcome in outcomes.items():
        worst = max(outcome.judgements, key=lambda judgement: (not judgement.accepted, judgement.value))
        runs = f"  (worst of {len(outcome.judgements)})" if len(outcome.judgements) > 1 else ""
        refused = "" if outcome.accepted else "  REFUSED"
        print(f"  {name:<24}{outcome.seconds:>9.3f} CPU-s  {worst.words}{runs}{refused}", flush=True)
    if workload.beside is not None:
        print(f"  {workload.beside()}", flush=True)
    ours = outcomes[workload.ours.name]
    missed = 0
    for target in workload.targets:
        if target.peer is not None and target.peer not in outcomes:
            continue
        text, figure, met = target.check(ours, outcomes)
        met = met and ours.accepted
        missed += not met
        print(f"  target {text:<40}{figure:>10.3g}  {'met' if met else 'MISSED'}", flush=True)
    return missed


def _race(workload: Workload, solvers: Sequence[Solver], seeds: Sequence[int]) -> dict[str, Outcome]:
    """Every solver on every seed's data in turn, so that a busy machine slows all of them alike."""
    for solver in solvers:
        if solver.prepare is not None:
            solver.prepare()
    seconds: dict[str, list[float]] = {solver.name: [] for solver in solvers}
    judged: dict[str, list[Judgement]] = {solver.name: [] for solver in solvers}
    for position, seed in enumerate(seeds):
        data = workload.data(seed)
        for solver in solvers:
            if solver.seeds is not None and position >= solver.seeds:
                continue
            gc.collect()
            began = time.process_time()
            answer = solver.run(data)
            seconds[solver.name].append(time.process_time() - began)
            judged[solver.name].append(workload.judge(data, answer))
    return {name: Outcome(statistics.median(times), tuple(judged[name])) for name, times in seconds.items()}
