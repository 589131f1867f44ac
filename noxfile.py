#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["nox>=2024.10.9"]
# ///
"""Developers' sessions; the two commands that users need are in the Makefile.

``nox`` runs lint and tests, ``nox -s docs`` builds the documentation, ``nox -s nightly`` what is too slow for every push.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "venv"

PROJECT = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
GROUPS = nox.project.dependency_groups(PROJECT, "test")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "Agg"}


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """The default tests; arguments go to pytest."""
    session.install("-e", ".[plot]", *GROUPS)
    session.run("pytest", *session.posargs, env=ONE_THREAD | _cache(session))


@nox.session
def lint(session: nox.Session) -> None:
    """Style, types and spelling."""
    session.install("-e", ".", *nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("codespell")


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """The documentation, warnings as errors."""
    session.install("-e", ".[plot]", *nox.project.dependency_groups(PROJECT, "docs"))
    session.run("sphinx-build", "-W", "--keep-going", "docs", "docs/_build/html", env=ONE_THREAD | _cache(session))


@nox.session(default=False, tags=["nightly"])
@nox.parametrize("check", ["floors", "bounds", "coverage"])
def nightly(session: nox.Session, check: str) -> None:
    """Oldest supported versions; kernels with bounds checks; coverage with the kernels as plain Python."""
    if check == "floors":
        floors = Path(session.create_tmp()) / "floors.txt"
        floors.write_text("\n".join(_floors()) + "\n", encoding="utf-8")
        session.install("-e", ".[plot]", *GROUPS, "--constraint", str(floors))
        session.run("pytest", "-W", "default", env=ONE_THREAD | _cache(session))
        return
    session.install("-e", ".[plot]", *GROUPS, "coverage[toml]>=7.6")
    if check == "bounds":
        env = ONE_THREAD | _cache(session) | {"NUMBA_BOUNDSCHECK": "1"}
        session.run("pytest", "-m", "not gpu", env=env)
        return
    # Kernels as plain Python are a hundred times slower: the suites of small problems, which reach every entry and method.
    env = ONE_THREAD | {"NUMBA_DISABLE_JIT": "1"}
    suites = ["tests/core", "tests/conformance", "--deselect=tests/core/test_numerics.py::test_compilation_is_timed"]
    session.run("coverage", "run", "-m", "pytest", *suites, env=env)
    session.run("coverage", "report", "--show-missing", "--skip-covered")


def _cache(session: nox.Session) -> dict[str, str]:
    """A Numba cache of the session's own: compiler flags differ between sessions."""
    return {"NUMBA_CACHE_DIR": str(Path(session.create_tmp()) / "numba")}


def _floors() -> list[str]:
    """``name==lowest`` of every run-time dependency in pyproject.toml."""
    return [requirement.replace(">=", "==") for requirement in PROJECT["project"]["dependencies"]]


if __name__ == "__main__":
    nox.main()
