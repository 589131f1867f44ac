"""Sphinx configuration. Nothing is fetched from the network; every warning is an error (see the Makefile)."""

from __future__ import annotations

import importlib
import inspect
import sys
import warnings
from pathlib import Path
from types import FunctionType

import matplotlib

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
matplotlib.use("Agg")

import solvers  # noqa: E402
from solvers._catalogue import ENTRIES, EXPORTS  # noqa: E402

project = "certified-solvers"
author = "The certified-solvers developers"
copyright = "The certified-solvers developers, BSD-3-Clause"
version = release = solvers.__version__

extensions = ["sphinx.ext.mathjax", "numpydoc", "sphinx_gallery.gen_gallery"]
exclude_patterns = ["_build", "**/README.rst", "**/GALLERY_HEADER.rst"]
suppress_warnings = ["config.cache"]  # the gallery's settings are not picklable
default_role = "literal"

numpydoc_show_class_members = False
autodoc_typehints = "none"

html_theme = "pydata_sphinx_theme"
html_title = "certified-solvers"
html_show_sourcelink = False
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": False,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
}

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "min_reported_time": 1,
    "capture_repr": (),
}
warnings.filterwarnings("ignore", message=".*FigureCanvasAgg is non-interactive.*", category=UserWarning)


def write_reference(app: object) -> None:
    """One page of the reference per family, and one for what is shared, from the catalogue."""
    folder = HERE / "api" / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    families = list(dict.fromkeys(entry.family for entry in ENTRIES))
    pages = {
        "solvers": _page(
            "solvers", "solvers", [name for name, module in EXPORTS.items() if module.startswith("solvers._")]
        )
    }
    for family in families:
        home = next(module for module in (EXPORTS[entry.name] for entry in ENTRIES if entry.family == family))
        pages[family] = _page(home, f"solvers.{family}", list(importlib.import_module(home).__all__))
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for stale in set(folder.glob("*.rst")) - {folder / f"{name}.rst" for name in pages}:
        stale.unlink()


def _page(module: str, public: str, names: list[str]) -> str:
    """Functions first, then classes, in the package's own order; exceptions last."""
    package = importlib.import_module(module)
    functions, classes, errors = [], [], []
    for name in names:
        value = getattr(package, name)
        if inspect.isclass(value):
            (errors if issubclass(value, BaseException) else classes).append(name)
        elif callable(value):
            functions.append(name)
    title = f"``{public}``"
    lines = [title, "=" * len(title), ""]
    for heading, directive, group in (
        ("Functions", "autofunction", functions),
        ("Classes", "autoclass", classes),
        ("Errors and warnings", "autoexception", errors),
    ):
        if group:
            lines += [heading, "-" * len(heading), ""]
        for name in group:
            qualified = f"solvers.{name}" if name in EXPORTS else f"{public}.{name}"
            lines += [
                f".. {directive}:: {qualified}",
                *([] if directive == "autofunction" else [_methods(getattr(package, name))]),
                "",
            ]
    return "\n".join(lines)


def _methods(value: type) -> str:
    """The option that shows a class's own methods, without what scikit-learn adds to every estimator."""
    own = [
        name for name, part in vars(value).items() if isinstance(part, (FunctionType, classmethod)) and name[0] != "_"
    ]
    return f"   :members: {', '.join(own)}" if own else "   :no-members:"


def setup(app: object) -> None:
    """Sphinx calls this."""
    app.connect("builder-inited", write_reference, priority=1)  # type: ignore[attr-defined]
