"""Reader of TSPLIB files (TSP and ATSP): full matrices, and distances between points of the plane."""

from __future__ import annotations

from os import PathLike

import numpy as np

from solvers._core.arrays import FloatArray
from solvers._core.errors import InvalidProblemError

__all__ = ["read_tsplib"]

SECTIONS = ("EDGE_WEIGHT_SECTION", "NODE_COORD_SECTION")
PLANAR = ("EUC_2D", "CEIL_2D", "ATT")


def read_tsplib(path: str | PathLike[str]) -> FloatArray:
    """Distances of a TSPLIB file that holds a full matrix (EXPLICIT, FULL_MATRIX) or points of the plane.

    Points are at their Euclidean distance, rounded to the nearest integer (EDGE_WEIGHT_TYPE EUC_2D) or up (CEIL_2D), or
    at the distance over the root of 10, rounded up (ATT). Item i is the point of number i + 1, on whichever line it stands.

    Parameters
    ----------
    path : str or path
        File such as ``ftv33.atsp``.

    Returns
    -------
    (n, n) float64
        Distances; the filler values of the diagonal are replaced by 0.

    References
    ----------
    G. Reinelt, TSPLIB 95, University of Heidelberg, 1995.

    Examples
    --------
    >>> from solvers.ranking import read_tsplib
    >>> from importlib.resources import files
    >>> read_tsplib(files("solvers") / "_data" / "br17.atsp").shape
    (17, 17)
    """
    with open(path, encoding="utf-8", errors="replace") as lines:  # comments may be in any encoding
        text = lines.read()
    if "\0" in text:
        raise InvalidProblemError(f"{path} must be a text file; decompress it first")
    fields, section, body = {}, "", text
    while body and not section:
        line, _, body = body.partition("\n")
        key, colon, value = line.partition(":")
        name = key.strip().upper()
        if name in SECTIONS:
            section = name
        elif colon:
            fields[name] = value.strip()
    kind, form = fields.get("EDGE_WEIGHT_TYPE", ""), fields.get("EDGE_WEIGHT_FORMAT", "")
    explicit = kind == "EXPLICIT" and form == "FULL_MATRIX"
    if section != ("EDGE_WEIGHT_SECTION" if explicit else "NODE_COORD_SECTION") or not (explicit or kind in PLANAR):
        raise InvalidProblemError(
            f"{path} must be a TSPLIB file with EDGE_WEIGHT_TYPE EXPLICIT and EDGE_WEIGHT_FORMAT FULL_MATRIX, or with "
            f"coordinates of EDGE_WEIGHT_TYPE {', '.join(PLANAR)}; got {kind or 'none'}, {form or 'none'} and "
            f"{section or 'no data'}"
        )
    try:
        n = int(fields["DIMENSION"])
        values = np.array([float(word) for word in body.split("EOF")[0].split()])
    except (KeyError, ValueError) as error:
        raise InvalidProblemError(f"{path} must have an integer DIMENSION and numeric data; {error}") from None
    shape = (n, n if explicit else 3)
    if n < 1 or len(values) != n * shape[1]:
        raise InvalidProblemError(f"{path} must hold {n} x {shape[1]} numbers; got {len(values)}")
    if not np.isfinite(values).all():
        raise InvalidProblemError(f"{path} must hold finite numbers; got {values[~np.isfinite(values)][0]}")
    table: FloatArray = values.reshape(shape)
    matrix = table if explicit else _planar(_by_number(table, path), kind)
    np.fill_diagonal(matrix, 0.0)
    return matrix


def _by_number(table: FloatArray, path: str | PathLike[str]) -> FloatArray:
    """Coordinates of the points in the order of their numbers, which the lines need not follow."""
    rows = np.argsort(table[:, 0], kind="stable")
    numbers = table[rows, 0]
    wrong = np.flatnonzero(numbers != np.arange(1, len(table) + 1))
    if len(wrong):
        raise InvalidProblemError(
            f"{path} must number its points from 1 to {len(table)}, each once; got {numbers[wrong[0]]:g} for {wrong[0] + 1}"
        )
    return table[rows, 1:]


def _planar(points: FloatArray, kind: str) -> FloatArray:
    """Distances in the plane, rounded as the library prescribes."""
    difference = points[:, None] - points
    squares = (difference**2).sum(axis=2)
    if kind == "CEIL_2D":
        return np.asarray(np.ceil(np.sqrt(squares)))
    if kind == "ATT":
        distance = np.sqrt(squares / 10.0)
        nearest = np.floor(distance + 0.5)
        return np.asarray(np.where(nearest < distance, nearest + 1.0, nearest))
    return np.asarray(np.floor(np.sqrt(squares) + 0.5))
