"""Small real data sets, shipped with the package; nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.resources import files

import numpy as np
import numpy.typing as npt

__all__ = ["EXAMPLES", "Example", "load_example"]


@dataclass(frozen=True)
class Example:
    """A data set: ``data`` (n, p) float64, ``target`` (n,) class labels or None, where it comes from."""

    name: str
    data: npt.NDArray[np.float64] = field(repr=False)
    target: npt.NDArray[np.str_] | None = field(repr=False)
    source: str


_SOURCES = {
    "ecoli": "UCI Ecoli (K. Nakai, 1996), seven attributes; CC BY 4.0",
    "glass": "UCI Glass Identification (B. German, 1987), scaled to [-1, 1] per column; CC BY 4.0",
    "ionosphere": "UCI Ionosphere (V. Sigillito et al., 1989), constant column removed; CC BY 4.0",
    "iris": "Iris (R. A. Fisher, 1936), scikit-learn's copy; CC BY 4.0 / BSD-3-Clause",
    "lambdarank": "LightGBM's lambdarank example, 50 queries, 40 features; the query number is the first column; MIT",
    "movietweetings": "MovieTweetings 100K (S. Dooms et al., 2013), dense core: user, film, rating 0-10; MIT",
    "nci60": "NCI60 gene expression (D. Ross et al., 2000), 64 cell lines, principal coordinates of 6830 genes; BSD (ISLP)",
    "pbmc": "PBMC 68k, 700 cells (G. Zheng et al., 2017; scanpy), 20 principal components; BSD-3-Clause / CC BY 4.0",
    "ruspini": "E. H. Ruspini, Numerical methods for fuzzy clustering, Information Sciences 2, 1970",
    "seeds": "UCI Seeds (M. Charytanowicz et al., 2012); CC BY 4.0",
    "taxi": "NYC Taxi and Limousine Commission, trips of March 2019 (sample, busiest zones): day, minute, fare, miles, zones "
    "of pick-up and drop-off; city open data",
}

EXAMPLES = tuple(sorted(_SOURCES))


def load_example(name: str) -> Example:
    """Load a data set that ships with the package.

    Parameters
    ----------
    name : str
        One of "ecoli", "glass", "ionosphere", "iris", "lambdarank", "movietweetings", "nci60", "pbmc", "ruspini", "seeds",
        "taxi".

    Returns
    -------
    Example
        With ``data`` (n, p) float64, ``target`` (n,) or None, which are strings even where they are numbers, and
        ``source``, which says what the columns are where they have different meanings.

    Examples
    --------
    >>> import solvers
    >>> solvers.load_example("ruspini").data.shape
    (75, 2)
    """
    if name not in EXAMPLES:
        raise ValueError(f"no example data set is called {name!r}; known: {', '.join(EXAMPLES)}")
    folder = files("solvers") / "_data"
    data = np.loadtxt((folder / f"{name}.csv").read_text().splitlines(), delimiter=",", dtype=np.float64, ndmin=2)
    labels = folder / f"{name}_labels.txt"
    target = np.array(labels.read_text().split("\n")[: len(data)]) if labels.is_file() else None
    return Example(name, data, target, _SOURCES[name])
