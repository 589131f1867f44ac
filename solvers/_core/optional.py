"""Optional packages: ask whether one is there without importing it, or say how to get it."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from types import ModuleType

from solvers._core.errors import MissingDependencyError

__all__ = ["has", "require"]


def has(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    return find_spec(package) is not None


def require(package: str, *, why: str, extra: str | None = None) -> ModuleType:
    """Import an optional package or raise a message that says how to install it."""
    if not has(package.partition(".")[0]):
        install = f"pip install 'certified-solvers[{extra}]'" if extra else f"pip install {package}"
        raise MissingDependencyError(f"{why} needs the package {package!r}; {install}")
    return importlib.import_module(package)
