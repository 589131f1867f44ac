"""What the conformance suite needs to know about an entry.

Each family has a module ``cases_<family>.py`` beside this one with a tuple ``CASES``; the suite does the rest.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from solvers._catalogue import ENTRIES


@dataclass(frozen=True)
class Bad:
    """Arguments that must be refused: what they are, the arguments, the exception and words of its message."""

    what: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    error: type[Exception]
    words: str


@dataclass(frozen=True)
class Case:
    """One entry with a small, quick problem.

    Attributes
    ----------
    entry : str
    problem : callable
        Returns fresh positional problem arguments; NumPy float64 arrays where arrays are taken.
    methods : tuple of str
        Methods to run through every check.
    objective : callable
        ``objective(result, *args)`` recomputes the objective of ``result.x`` independently (None: not recomputable).
    optimum : callable or None
        ``optimum(*args)``: the best objective by brute force.
    array_arguments : tuple of int
        Positions of the arguments that are converted to other array kinds and dtypes; empty for problem objects.
    loose : callable or None
        Fresh arguments of a problem that is not finished at the first checkpoint, for limits and callbacks.
    keywords : mapping
        Problem options and common keywords for every call.
    bad : tuple of Bad
        Refused input, besides what the suite makes from ``array_arguments`` itself.
    tampered : callable or None
        ``tampered(result)`` yields (what, copy) of results with a corrupted certificate, for ``verify`` to reject.
    warm_start : bool
        Whether ``x0`` takes a previous result.
    tolerance : float
        Relative agreement of objectives between backends and dtypes.
    """

    entry: str
    problem: Callable[[], tuple[Any, ...]]
    methods: tuple[str, ...]
    objective: Callable[..., float] | None
    optimum: Callable[..., float] | None = None
    array_arguments: tuple[int, ...] = (0,)
    loose: Callable[[], tuple[Any, ...]] | None = None
    keywords: Mapping[str, Any] = field(default_factory=dict)
    bad: tuple[Bad, ...] = ()
    tampered: Callable[[Any], Any] | None = None
    warm_start: bool = True
    tolerance: float = 1e-9


def all_cases() -> list[Case]:
    """Every family's cases; a family without a module fails here, which is the point."""
    families = dict.fromkeys(entry.family for entry in ENTRIES)
    return [case for family in families for case in importlib.import_module(f"cases_{family}").CASES]
