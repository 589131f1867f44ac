"""``python -m solvers demo``: every family solves real data and prints what it proved.

A family plugs in with a module (named in ``_catalogue.DEMOS``) that has a function ``table() -> DemoTable``.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from solvers._catalogue import DEMOS
from solvers._core.jit import compile_seconds
from solvers._core.optional import has
from solvers._core.result import Result, Status

__all__ = ["DemoProblem", "DemoTable", "run"]

READ_ON = "Read on: README.md, docs/ (make docs), python -m solvers info NAME"


@dataclass(frozen=True)
class DemoProblem:
    """One row of a demo table.

    Attributes
    ----------
    data : str
        Name of the data set; also the file name of the figure.
    sizes : sequence
        One value per column of the table's ``size_columns``.
    solve : callable
        ``solve() -> Result``.
    draw : callable or None
        ``draw(result, ax)`` draws the answer on a Matplotlib axes.
    """

    data: str
    sizes: Sequence[Any]
    solve: Callable[[], Result]
    draw: Callable[[Result, Any], None] | None = None


@dataclass(frozen=True)
class DemoTable:
    """A family's part of the demo: a title, its words for sizes and objective, and its problems."""

    title: str
    size_columns: Sequence[str]
    objective: str
    problems: Sequence[DemoProblem]


def run(families: Sequence[str] = (), folder: Path = Path("demo_output")) -> int:
    """Solve and print the demo of the given families (all by default); figures go to ``folder``."""
    for family in families:
        if family not in DEMOS:
            print(f"no demo is called {family!r}; known: {', '.join(DEMOS)}")
            return 2
    drawn, compiling = 0, compile_seconds()
    for family in families or DEMOS:
        table: DemoTable = importlib.import_module(DEMOS[family]).table()
        rows = [_solve(problem) for problem in table.problems]
        print(f"\n{table.title}\n")
        print(_aligned(["data", *table.size_columns, table.objective, "certified bound", "gap", "status", "seconds"], [
            [problem.data, *map(str, problem.sizes), f"{r.fun:.6f}", f"{r.bound:.6f}", f"{r.gap:.1e}", _status(r), f"{s:.2f}"]
            for problem, r, s in rows
        ]))  # fmt: skip
        if has("matplotlib"):
            drawn += sum(_draw(family, problem, result, folder) for problem, result, _ in rows)
    print("\nProved optimal: the gap is within the tolerance of that run. Seconds are without compilation", end="")
    spent = compile_seconds() - compiling
    print(f", which took {spent:.0f} more; the next run reuses it." if spent >= 1 else ".")
    print(f"\n{drawn} figures in {folder}/" if drawn else "\nInstall matplotlib to get the figures.")
    print(READ_ON)
    return 0


def _solve(problem: DemoProblem) -> tuple[DemoProblem, Result, float]:
    began, compiled = time.perf_counter(), compile_seconds()
    result = problem.solve()
    return problem, result, time.perf_counter() - began - (compile_seconds() - compiled)


def _status(result: Result) -> str:
    return "proved optimal" if result.status is Status.OPTIMAL else result.status.name.lower().replace("_", " ")


def _aligned(header: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in [header, ["-" * w for w in widths], *rows]
    ]
    return "\n".join(lines)


def _draw(family: str, problem: DemoProblem, result: Result, folder: Path) -> int:
    if problem.draw is None:
        return 0
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(6.0, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    problem.draw(result, figure.add_subplot())
    figure.savefig(folder / f"{family}_{problem.data}.png", dpi=120)
    return 1
