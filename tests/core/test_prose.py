"""What the README shows and what the contributor's guide promises, run as written."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def blocks(page: str, language: str) -> list[str]:
    """The fenced code blocks of a Markdown page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)


def test_readme_examples_print_what_is_shown() -> None:
    shown = re.findall(
        r"^```python\n(.*?)^```\n\n```\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S
    )
    assert len(shown) == len(blocks("README.md", "python")) > 0
    names: dict[str, object] = {}
    for code, output in shown:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        assert printed.getvalue() == output


def test_landing_page_shows_the_readme_example() -> None:
    indented = "".join(f"   {line}".rstrip() + "\n" for line in blocks("README.md", "python")[0].splitlines())
    assert indented in (ROOT / "docs" / "index.rst").read_text(encoding="utf-8")


@pytest.mark.slow
def test_worked_method_of_the_guide_passes_the_conformance_suite(tmp_path: Path) -> None:
    for folder in ("solvers", "clustering", "matching", "ranking", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    bound, kernel, front, verifier, entry, warm_up, case = blocks("CONTRIBUTING.md", "python")
    family = tmp_path / "clustering"
    (family / "_k_center_bounds.py").write_text(bound, encoding="utf-8")
    (family / "_k_center.py").write_text(front, encoding="utf-8")
    (family / "_k_center_verify.py").write_text(verifier, encoding="utf-8")
    append(family / "_kernels_numba.py", kernel)
    append(family / "__init__.py", 'from clustering._k_center import k_center\n\n__all__ += ["k_center"]\n')
    append(family / "_warm_up.py", f"from clustering._k_center import k_center as run_k_center\n\n\n{warm_up}")
    catalogue = tmp_path / "solvers" / "_catalogue.py"
    text = catalogue.read_text(encoding="utf-8")
    text = text.replace("ENTRIES: tuple[Entry, ...] = (\n", f"ENTRIES: tuple[Entry, ...] = (\n{entry.rstrip()},\n", 1)
    catalogue.write_text(
        text.replace(
            "EXPORTS: dict[str, str] = {\n", 'EXPORTS: dict[str, str] = {\n    "k_center": "clustering",\n', 1
        ),
        encoding="utf-8",
    )
    helpers, _, arguments = case.partition("\n\nCase(\n")
    imports = "import itertools\nimport dataclasses\n\nfrom scipy.spatial.distance import cdist\n\nimport solvers\n\n\n"
    cases = f"{imports}{helpers}\n\nCASES = (*CASES, Case(\n{arguments.rstrip()})\n"
    append(tmp_path / "tests" / "support" / "cases_clustering.py", cases)

    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/conformance", "-k", "k_center"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    environment |= {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "numba")}
    run = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed is not None
    assert int(passed[1]) > 10


def append(path: Path, text: str) -> None:
    """Add code at the end of a module."""
    path.write_text(f"{path.read_text(encoding='utf-8')}\n\n{text}", encoding="utf-8")
