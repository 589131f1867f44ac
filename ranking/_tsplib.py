"""Reader of explicit TSPLIB matrices (TSP and ATSP)."""

from __future__ import annotations

from os import PathLike

import numpy as np

from solvers._core.arrays import FloatArray
from solvers._core.errors import InvalidProblemError

__all__ = ["read_tsplib"]


def read_tsplib(path: str | PathLike[str]) -> FloatArray:
    """Distances of a TSPLIB file with EDGE_WEIGHT_TYPE EXPLICIT and EDGE_WEIGHT_FORMAT FULL_MATRIX.

    Parameters
    ----------
    path : str or path
        File such as ``ftv33.atsp``.

    Returns
    -------
    (n, n) float64
        Distances; the filler values of the diagonal are replaced by 0.

    Examples
    --------
    >>> from solvers.ranking import read_tsplib
    >>> from importlib.resources import files
    >>> read_tsplib(files("solvers") / "_data" / "br17.atsp").shape
    (17, 17)
    """
    with open(path, encoding="ascii") as lines:
        text = lines.read()
    head, found, body = text.partition("EDGE_WEIGHT_SECTION")
    fields = {}
    for line in head.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields[key.strip().upper()] = value.strip()
    kind, form = fields.get("EDGE_WEIGHT_TYPE", ""), fields.get("EDGE_WEIGHT_FORMAT", "")
    if not found or kind != "EXPLICIT" or form != "FULL_MATRIX":
        raise InvalidProblemError(
            f"{path} must be a TSPLIB file with EDGE_WEIGHT_TYPE EXPLICIT and EDGE_WEIGHT_FORMAT FULL_MATRIX; "
            f"got {kind or 'none'} and {form or 'none'}"
        )
    try:
        n = int(fields["DIMENSION"])
        values = np.array([float(word) for word in body.split("EOF")[0].split()])
    except (KeyError, ValueError) as error:
        raise InvalidProblemError(f"{path} must have an integer DIMENSION and numeric weights; {error}") from None
    if n < 1 or len(values) < n * n:
        raise InvalidProblemError(f"{path} must hold {n} x {n} weights; got {len(values)}")
    matrix: FloatArray = values[: n * n].reshape(n, n).copy()
    np.fill_diagonal(matrix, 0.0)
    return matrix
