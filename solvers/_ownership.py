"""Guard against foreign packages that share the names of our families.

``matching`` and ``ranking`` also exist on PyPI, and pip lets one distribution overwrite another's files silently. Each
family must therefore lie beside this package and name our distribution in its first lines.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

__all__ = ["SHARED_NAMES", "check"]

SHARED_NAMES = ("clustering", "matching", "ranking")
MARKER = "Part of certified-solvers."


def check() -> None:
    """Raise ImportError if a family's name leads to somebody else's package."""
    home = Path(__file__).resolve().parent.parent
    for name in SHARED_NAMES:
        spec = find_spec(name)
        origin = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if origin is None or origin != home / name / "__init__.py" or MARKER not in origin.read_text(encoding="utf-8"):
            raise ImportError(
                f"the package {name!r} found at {origin} does not belong to certified-solvers (expected it in "
                f"{home / name}). Another distribution uses the same name: uninstall it, then reinstall certified-solvers."
            )
