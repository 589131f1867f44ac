"""Command line: ``python -m solvers list | info NAME | demo [FAMILY ...] | doctor``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import metadata

from solvers._catalogue import DEMOS, ENTRIES, entry_named


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m solvers", description="Solvers whose every answer carries its proof."
    )
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("list", help="the solvers, a line each")
    info = commands.add_parser("info", help="what one solver does, guarantees and runs on")
    info.add_argument("name", choices=[entry.name for entry in ENTRIES])
    demo = commands.add_parser("demo", help="solve real data and print what was proved")
    demo.add_argument("families", nargs="*", metavar="FAMILY", help=f"any of {', '.join(DEMOS)}; all by default")
    commands.add_parser("doctor", help="versions, backends and threads of this installation")
    chosen = parser.parse_args(arguments)
    if chosen.command is None:
        parser.print_help()
        return 0
    if chosen.command == "list":
        return _list()
    if chosen.command == "info":
        return _info(chosen.name)
    if chosen.command == "doctor":
        return _doctor()
    from solvers._demo import run

    return run(chosen.families)


def _list() -> int:
    width = max(len(entry.name) for entry in ENTRIES)
    for entry in ENTRIES:
        print(f"{entry.name:<{width}}  {entry.summary}")
    return 0


def _info(name: str) -> int:
    entry = entry_named(name)
    print(f"solvers.{entry.name}: {entry.summary}")
    print(f"  guarantee  {entry.guarantee}")
    print(f"  methods    {', '.join(entry.methods)}")
    print(f"  backends   {', '.join(entry.backends)}")
    if entry.host_methods:
        print(f"  host only  {', '.join(entry.host_methods)}")
    if entry.omits:
        print(f"  omits      {', '.join(entry.omits)}")
    print(f"  source     {entry.reference}")
    print(f"  more       help(solvers.{entry.name})")
    return 0


def _doctor() -> int:
    from solvers import __version__
    from solvers._core.optional import has

    print(f"certified-solvers {__version__}, Python {sys.version.split()[0]}")
    for package in ("numpy", "scipy", "numba", "array-api-compat", "scikit-learn", "networkx", "cvxpy", "matplotlib"):
        try:
            print(f"  {package:<18}{metadata.version(package)}")
        except metadata.PackageNotFoundError:
            print(f"  {package:<18}missing")
    import numba

    print(f"  numba threads     {numba.config.NUMBA_NUM_THREADS}")
    if not has("cupy"):
        print("  cupy              missing (extra 'gpu'); everything runs without it")
        return 0
    import cupy

    print(f"  cupy              {cupy.__version__}, device usable: {cupy.cuda.is_available()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
