"""Compilation ahead of time."""

from __future__ import annotations

import importlib

from solvers._catalogue import ENTRIES, entry_named

__all__ = ["warm_up"]


def warm_up(name: str | None = None) -> None:
    """Compile the kernels of one entry, or of all, so that the first real call does not.

    Parameters
    ----------
    name : str, optional
        An entry of :func:`solvers.catalogue`; None means every entry.
    """
    for entry in ENTRIES if name is None else (entry_named(name),):
        module, _, function = entry.warm_up.partition(":")
        getattr(importlib.import_module(module), function)()
