"""Which kernels a call runs on: decided by where the data live, never by copying them silently."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import array_api_compat
import numpy as np

from solvers._core.arrays import Array, host_namespace, kind_of, namespace_of, to_host
from solvers._core.errors import BackendError, DeviceError
from solvers._core.optional import has, require
from solvers._core.options import check_choice

__all__ = ["BACKENDS", "Backend", "choose_backend"]

BACKENDS = ("auto", "numba", "array", "cupy")


@dataclass(frozen=True)
class Backend:
    """Kernels, array namespace and device of one call.

    Attributes
    ----------
    name : {"numba", "array", "cupy"}
    kernels : module
        ``_kernels_<name>`` of the family, the table of functions for this kind of array.
    xp : module
        Array-API namespace of the arrays inside the call.
    device : object
        Where they live; None for NumPy.
    copies_home : bool
        True for ``backend="cupy"`` with NumPy input: answers go back as NumPy.
    """

    name: str
    kernels: ModuleType
    xp: ModuleType
    device: Any = None
    copies_home: bool = False

    def give(self, array: Array) -> Array:
        """An answer in the caller's array kind."""
        return to_host(array) if self.copies_home else array

    def take(self, array: Array) -> Array:
        """A host array on this call's device (a draw, a start, a stored certificate)."""
        if self.device is None:
            return array
        return self.xp.asarray(array, device=self.device)


def choose_backend(
    package: str, requested: str, available: Sequence[str], *, small_below: int = 0, **arrays: Any
) -> Backend:
    """Choose kernels for the arguments given by name.

    Parameters
    ----------
    package : str
        The family's package, home of ``_kernels_numba.py``, ``_kernels_array.py`` and perhaps ``_kernels_cupy.py``.
    requested : {"auto", "numba", "array", "cupy"}
    available : sequence of str
        What this entry has.
    small_below : int
        NumPy problems with fewer entries than this use array code under ``auto``: compiling would not pay.
    **arrays
        The data arguments; None is skipped.
    """
    check_choice("backend", requested, BACKENDS)
    kinds = {name: kind_of(value) for name, value in arrays.items() if value is not None}
    if "sparse" in kinds.values():
        name = next(key for key, kind in kinds.items() if kind == "sparse")
        raise BackendError(f"{name} is a scipy.sparse matrix, which this entry does not take; pass {name}.toarray()")
    if len(set(kinds.values())) > 1:
        listing = ", ".join(f"{name}: {kind}" for name, kind in kinds.items())
        raise BackendError(f"all arrays must be of one kind; got {listing}. Convert explicitly, e.g. with .get()")
    kind = next(iter(kinds.values()), "numpy")
    small = kind == "numpy" and _entries(arrays.values()) < small_below
    name = _resolve(kind, requested, available, small)
    if kind == "numpy":
        return _cupy_for_host(package) if name == "cupy" else Backend(name, _kernels(package, name), host_namespace)
    values = [value for value in arrays.values() if value is not None]
    devices = {str(array_api_compat.device(value)) for value in values}
    if len(devices) > 1:
        raise BackendError(f"all arrays must be on one device; got {', '.join(sorted(devices))}")
    return Backend(name, _kernels(package, name), namespace_of(values[0]), array_api_compat.device(values[0]))


def _resolve(kind: str, requested: str, available: Sequence[str], small: bool) -> str:
    runs_on = {"numpy": ("numba", "array", "cupy"), "cupy": ("cupy", "array"), "array-api": ("array",)}[kind]
    usable = [name for name in runs_on if name in available]
    if requested == "auto":
        automatic = [name for name in usable if not (kind == "numpy" and name == "cupy")]
        if not automatic:
            hint = "call .get() first" if kind == "cupy" else "convert to NumPy first"
            raise BackendError(f"this entry has no code for {kind} arrays (available: {', '.join(available)}); {hint}")
        return "array" if small and "array" in automatic else automatic[0]
    if requested not in available:
        raise BackendError(f"backend={requested!r} is not available here; available: {', '.join(available)}")
    if requested not in usable:
        raise BackendError(f"backend={requested!r} does not take {kind} arrays; usable: {', '.join(usable) or 'none'}")
    return requested


def _entries(values: Iterable[Any]) -> float:
    """Size of the largest argument, infinite where it has no rectangular shape (validation will say so)."""
    try:
        return max(np.size(value) for value in values)
    except ValueError:
        return math.inf


def _kernels(package: str, name: str) -> ModuleType:
    if name == "cupy" and not has(f"{package}._kernels_cupy"):
        name = "array"
    return importlib.import_module(f"{package}._kernels_{name}")


def _cupy_for_host(package: str) -> Backend:
    cupy = require("cupy", why="backend='cupy'", extra="gpu")
    if not cupy.cuda.is_available():
        raise DeviceError("backend='cupy' needs a CUDA device and a driver; none is usable here")
    xp = importlib.import_module("array_api_compat.cupy")
    return Backend("cupy", _kernels(package, "cupy"), xp, cupy.cuda.Device(), copies_home=True)
