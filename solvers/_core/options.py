"""The eleven keywords that every entry shares, validated once and in one place."""

from __future__ import annotations

import difflib
import math
import numbers
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np

from solvers._core.random import RNG, generator

__all__ = ["COMMON_KEYWORDS", "Common", "check_choice", "check_common", "check_integer", "check_number"]

COMMON_KEYWORDS = (
    "method",
    "x0",
    "tol",
    "max_iter",
    "time_limit",
    "callback",
    "rng",
    "history",
    "verbose",
    "backend",
    "options",
)

S = TypeVar("S")


@dataclass(frozen=True)
class Common:
    """The shared keywords after validation; ``started`` is the wall clock at the call."""

    entry: str
    method: str
    tol: float
    max_iter: int | None
    time_limit: float | None
    callback: Callable[..., Any] | None
    rng: np.random.Generator
    history: bool
    verbose: int
    options: Mapping[str, Any]
    started: float

    def settings(self, kind: type[S]) -> S:
        """The method's options as a settings dataclass; an unknown key names its nearest known one."""
        if not self.options:
            return kind()
        known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
        for key in self.options:
            if key not in known:
                raise TypeError(
                    f"options of {self.entry}(method={self.method!r}) has no key {key!r}; {_nearest(key, known)}"
                )
        return kind(**self.options)


def check_common(
    entry: str,
    *,
    method: str,
    methods: Sequence[str],
    tol: float,
    max_iter: int | None,
    time_limit: float | None,
    callback: Callable[..., Any] | None,
    history: bool,
    verbose: int,
    options: Mapping[str, Any] | None,
    rng: RNG = None,
) -> Common:
    """Validate the shared keywords of one call; raises before any work."""
    started = time.perf_counter()
    check_choice("method", method, methods)
    tol = check_number("tol", tol, low=0.0)
    if max_iter is not None:
        max_iter = check_integer("max_iter", max_iter, low=1)
    if time_limit is not None:
        time_limit = check_number("time_limit", time_limit, low=0.0, strict=True, finite=False)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable or None; got {callback!r}")
    if not isinstance(history, (bool, np.bool_)):
        raise TypeError(f"history must be True or False; got {history!r}")
    verbose = check_integer("verbose", verbose, low=0, high=2)
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f"options must be a mapping or None; got {options!r}")
    return Common(
        entry=entry,
        method=method,
        tol=tol,
        max_iter=max_iter,
        time_limit=time_limit,
        callback=callback,
        rng=generator(rng),
        history=bool(history),
        verbose=verbose,
        options=dict(options or {}),
        started=started,
    )


def check_choice(name: str, value: str, choices: Sequence[str]) -> str:
    """A string among a few; the message names the nearest."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, one of {', '.join(choices)}; got {value!r}")
    if value not in choices:
        raise ValueError(f"{name}={value!r} is not known; {_nearest(value, choices)}")
    return value


def check_integer(name: str, value: Any, *, low: int, high: int | None = None) -> int:
    """An integer (not a bool) in a closed range."""
    kind: type[Exception] = ValueError
    if not _is_number(value, int, numbers.Integral):
        kind = TypeError
    elif low <= value and (high is None or value <= high):
        return int(value)
    expected = f"an integer >= {low}" if high is None else f"an integer from {low} to {high}"
    raise kind(f"{name} must be {expected}; got {value!r}")


def check_number(name: str, value: Any, *, low: float, strict: bool = False, finite: bool = True) -> float:
    """A real number at or (``strict``) above ``low``."""
    kind: type[Exception] = ValueError
    if not _is_number(value, float, numbers.Real):
        kind = TypeError
    else:
        try:
            number = float(value)
        except OverflowError:
            number = -math.inf if value < 0 else math.inf
        if (low < number or (number == low and not strict)) and (number < math.inf or not finite):
            return number
    expected = f"a {'finite ' if finite else ''}number {'>' if strict else '>='} {low:g}"
    raise kind(f"{name} must be {expected}; got {value!r}")


def _is_number(value: Any, usual: type, kind: type) -> bool:
    """Whether a value is of a kind of number; booleans are none. The usual type is recognised without a look-up."""
    return type(value) is usual or (isinstance(value, kind) and not isinstance(value, (bool, np.bool_)))


def _nearest(word: Any, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(word), known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"
