"""Kernel modules of a family are one table: the same names, the same parameters."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

import solvers
from solvers._catalogue import ENTRIES

FAMILIES = sorted({entry.family for entry in ENTRIES})


def kernel_modules(family: str) -> list[str]:
    folder = Path(importlib.import_module(f"solvers.{family}").__file__ or "").parent
    backends = ("array", "cupy", "numba")
    return [f"_kernels_{name}" for name in backends if (folder / f"_kernels_{name}.py").exists()]


def parameters(module: object, name: str) -> list[str]:
    function = getattr(module, name)
    return list(inspect.signature(getattr(function, "py_func", function)).parameters)


@pytest.mark.parametrize("family", FAMILIES)
def test_kernels_of_every_backend_have_the_same_names_and_parameters(family: str) -> None:
    package = importlib.import_module(f"solvers.{family}").__name__
    modules = [importlib.import_module(f"{package}.{name}") for name in kernel_modules(family)]
    tables = {module.__name__: set(module.__all__) for module in modules}
    shared = set.intersection(*tables.values())
    assert shared, f"{family} has no kernel in common: {tables}"
    for name in (name for name in shared if callable(getattr(modules[0], name))):
        first, *others = [parameters(module, name) for module in modules]
        assert all(other == first for other in others), name


def test_backends_of_the_catalogue_have_kernels() -> None:
    for entry in ENTRIES:
        present = {name.removeprefix("_kernels_") for name in kernel_modules(entry.family)}
        # CuPy arrays run on array code unless a family has kernels of its own for them.
        assert set(entry.backends) - {"cupy"} <= present, entry.name
        assert "cupy" not in entry.backends or present & {"cupy", "array"}
        assert solvers.catalogue() == ENTRIES
