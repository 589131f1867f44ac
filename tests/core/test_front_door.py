"""The front door: light, complete, guarded; the command line tells what there is."""

from __future__ import annotations

import ast
import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import solvers
from solvers import _ownership
from solvers.__main__ import main
from solvers._catalogue import DEMOS, ENTRIES, EXPORTS

ROOT = Path(solvers.__file__).resolve().parent.parent
FAMILIES = ("clustering", "matching", "ranking", "solvers.bcd", "solvers.completion")
HEAVY = ("numba", "scipy", "cvxpy", "sklearn", "networkx", "numpy")


def in_fresh_python(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return run.stdout.strip()


def test_importing_the_front_door_loads_nothing_heavy_and_is_quick() -> None:
    code = "import time; t = time.process_time(); import solvers; s = time.process_time() - t; import sys; "
    code += f"print([m for m in {HEAVY!r} if m in sys.modules], s)"
    loaded, _, seconds = in_fresh_python(code).rpartition(" ")
    assert loaded == "[]"
    assert float(seconds) < 0.1


def test_optional_and_slow_packages_are_imported_on_use_only() -> None:
    families = [name for name in FAMILIES if (ROOT / Path(*name.split(".")) / "__init__.py").exists()]
    code = (
        f"import sys, {', '.join(families)}; print([m for m in ('cvxpy', 'sklearn', 'networkx') if m in sys.modules])"
    )
    assert in_fresh_python(code) == "[]"


def family_of(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return ".".join(parts[:2]) if parts[0] == "solvers" and len(parts) > 2 else parts[0]


def imported_modules(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.append(node.module or "")
    return found


def test_families_import_the_spine_and_never_each_other() -> None:
    for family in FAMILIES:
        folder = ROOT / Path(*family.split("."))
        for path in folder.rglob("*.py"):
            for module in imported_modules(path):
                for other in FAMILIES:
                    assert other == family or not (module == other or module.startswith(other + ".")), (path, module)
                alias = f"solvers.{family.rpartition('.')[2]}"
                assert family.startswith("solvers.") or not module.startswith(alias), (path, module)


def test_the_spine_imports_no_family() -> None:
    for path in (ROOT / "solvers" / "_core").rglob("*.py"):
        for module in imported_modules(path):
            assert not any(module == family or module.startswith(family + ".") for family in FAMILIES), (path, module)


def test_exports_are_the_families_functions_and_results() -> None:
    for name, module in EXPORTS.items():
        value = getattr(solvers, name)
        assert value is getattr(importlib.import_module(module), name)
        if not module.startswith("solvers._"):
            assert name in importlib.import_module(module).__all__
    for module in {module for module in EXPORTS.values() if not module.startswith("solvers._")}:
        for name in importlib.import_module(module).__all__:
            value = getattr(importlib.import_module(module), name)
            is_result = isinstance(value, type) and issubclass(value, solvers.Result)
            if is_result or any(entry.name == name for entry in ENTRIES):
                assert EXPORTS.get(name) == module, f"{module}.{name} is not exported"


def test_type_checkers_see_every_export() -> None:
    tree = ast.parse((ROOT / "solvers" / "__init__.py").read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    names = {alias.asname for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert names == set(EXPORTS)


def test_public_classes_belong_to_their_family() -> None:
    for module in {module for module in EXPORTS.values() if not module.startswith("solvers._")}:
        package = importlib.import_module(module)
        for name in package.__all__:
            value = getattr(package, name)
            if isinstance(value, type):
                assert value.__module__ == module, f"{name}.__module__ is {value.__module__}"


def test_aliases_are_the_families_themselves() -> None:
    for name in ("clustering", "matching", "ranking"):
        assert importlib.import_module(f"solvers.{name}") is importlib.import_module(name)
        assert getattr(solvers, name) is importlib.import_module(name)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = solvers.nonsense


def test_everything_public_is_listed() -> None:
    assert set(EXPORTS) <= set(dir(solvers))
    assert set(solvers.__all__) == {*EXPORTS, "__version__"}


def test_a_foreign_package_of_the_same_name_is_refused(tmp_path: Path) -> None:
    for package in ("solvers", *_ownership.SHARED_NAMES):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "matching" / "__init__.py").write_text('"""Somebody else\'s matching."""\n')
    run = subprocess.run(
        [sys.executable, "-c", "import solvers"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert run.returncode != 0
    assert "does not belong to certified-solvers" in run.stderr


def test_command_line_lists_and_explains_every_entry(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    listing = capsys.readouterr().out
    for entry in ENTRIES:
        assert entry.name in listing
        assert main(["info", entry.name]) == 0
        assert entry.guarantee in capsys.readouterr().out


def test_doctor_reports_versions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    assert "numba" in capsys.readouterr().out


def test_demo_of_an_unknown_family_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "astrology"]) == 2
    assert "clustering" in capsys.readouterr().out


def test_every_family_of_the_catalogue_has_a_demo() -> None:
    assert set(DEMOS) == {entry.family.rpartition(".")[2] for entry in ENTRIES}
    for module in DEMOS.values():
        assert importlib.import_module(module).table().problems


def test_examples_load_offline_and_unknown_names_are_refused() -> None:
    from solvers._examples import EXAMPLES

    for name in EXAMPLES:
        assert solvers.load_example(name).source
    with pytest.raises(ValueError, match="ruspini"):
        solvers.load_example("mnist")
