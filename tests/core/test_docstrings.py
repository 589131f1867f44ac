"""Public docstrings are complete, and their examples run."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import warnings

import pytest
from numpydoc.validate import validate

import solvers
from solvers._catalogue import ENTRIES, EXPORTS

# Codes of numpydoc that are matters of taste here: summary wording and line breaks, "See Also", parameter punctuation.
ACCEPTED = {"GL01", "GL03", "SS03", "SS05", "SS06", "ES01", "SA01", "PR08", "PR09", "RT02", "RT03", "RT05", "YD01"}
FUNCTIONS = sorted(name for name in EXPORTS if inspect.isfunction(getattr(solvers, name)))


@pytest.mark.parametrize("entry", [entry.name for entry in ENTRIES])
def test_numpydoc_has_nothing_to_say(entry: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = EXPORTS[entry]
        errors = validate(f"{module}.{entry}")["errors"]
    assert [error for error in errors if error[0] not in ACCEPTED] == []


@pytest.mark.parametrize("entry", [entry.name for entry in ENTRIES])
def test_docstring_states_guarantee_complexity_and_source(entry: str) -> None:
    text = inspect.getdoc(getattr(solvers, entry)) or ""
    for word in (
        "Parameters\n",
        "Returns\n",
        "Raises\n",
        "References\n",
        "Examples\n",
        "*Guarantee",
        "*Complexity",
        ".. math::",
    ):
        assert word in text, f"{entry} has no {word.strip()}"


def modules() -> list[str]:
    families = [importlib.import_module(name) for name in dict.fromkeys(entry.family for entry in ENTRIES)]
    found = ["solvers._core.proofs", "solvers._examples"]
    for package in families:
        found += [package.__name__, *(m.name for m in pkgutil.walk_packages(package.__path__, package.__name__ + "."))]
    return [name for name in found if not name.endswith("torch")]


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings_run(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert outcome.failed == 0
