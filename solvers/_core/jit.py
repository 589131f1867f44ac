"""Numba compilation through one door: cached on disk where possible, timed, typed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
from numba.core import event

__all__ = ["compile_seconds", "njit"]

P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger("solvers.jit")


class _CompileClock(event.Listener):  # type: ignore[misc]
    """Seconds this process has spent compiling; nested compilations count once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0
        self._since = 0.0
        self._lock = threading.Lock()

    def on_start(self, event: event.Event) -> None:
        with self._lock:
            if self._depth == 0:
                self._since = time.perf_counter()
            self._depth += 1

    def on_end(self, event: event.Event) -> None:
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                self.seconds += time.perf_counter() - self._since


_clock = _CompileClock()
event.register("numba:compile", _clock)


def compile_seconds() -> float:
    """Seconds spent compiling so far in this process; time limits do not count them."""
    return _clock.seconds


def njit(*, parallel: bool = False, fastmath: bool | set[str] = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Compile a kernel in nopython mode, without the GIL, cached on disk.

    Where no cache folder is writable Numba refuses to define a cached function at all; the kernel is then compiled
    afresh in each process.
    """

    def decorate(kernel: Callable[P, R]) -> Callable[P, R]:
        settings: dict[str, Any] = {"nogil": True, "parallel": parallel, "fastmath": fastmath}
        try:
            return cast("Callable[P, R]", numba.njit(cache=True, **settings)(kernel))
        except RuntimeError as error:
            if "no locator available" not in str(error):
                raise
            _log.debug("no writable cache folder for %s: compiling without one", kernel.__qualname__)
            return cast("Callable[P, R]", numba.njit(**settings)(kernel))

    return decorate
