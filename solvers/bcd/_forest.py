"""Linear-time direct solution of symmetric systems whose graph is a forest.

A x = b with A symmetric positive definite and its off-diagonal pattern free of cycles. Leaves are eliminated one after the
other (a Cholesky factorisation without fill), then values are passed back from the roots. Nodes are renumbered in
elimination order, so that both passes stream through memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

from solvers._core.arrays import FloatArray, IntArray, as_float_array
from solvers._core.errors import InvalidProblemError
from solvers.bcd._design import sparse_matrix
from solvers.bcd._forest_kernels import eliminate, eliminated_positions, sweep
from solvers.bcd._quadratic import compressed, mirrors

__all__ = ["ForestFactor", "NotAForestError", "solve_forest"]

# A pivot below this fraction of the diagonal means a singular component.
SINGULAR = 4 * np.finfo(float).eps


class NotAForestError(InvalidProblemError):
    """The graph of the matrix has a cycle.

    Attributes
    ----------
    cycle : list of int
        Its nodes in order.
    """

    def __init__(self, cycle: list[int]) -> None:
        shown = " - ".join(map(str, [*cycle[:12], *(["..."] if len(cycle) > 12 else []), cycle[0]]))
        super().__init__(f"A must be the matrix of a forest; its graph has the cycle {shown} ({len(cycle)} nodes)")
        self.cycle = cycle


class ForestFactor:
    """The factorisation of a forest's matrix: factor once in O(n), solve many right-hand sides in O(n) each.

    Parameters
    ----------
    A : (n, n) scipy.sparse
        Symmetric, positive definite, without cycles.

    Raises
    ------
    NotAForestError
        Naming a cycle.
    InvalidProblemError
        A is not symmetric, or singular or indefinite on a component (a node of it is named).

    Examples
    --------
    >>> import numpy as np, scipy.sparse
    >>> from solvers import bcd
    >>> path = scipy.sparse.diags_array([[-1.0] * 3, [2.0] * 4, [-1.0] * 3], offsets=[-1, 0, 1])
    >>> bcd.ForestFactor(path).solve(np.ones(4))
    array([2., 3., 3., 2.])
    """

    def __init__(self, A: Any) -> None:
        if not scipy.sparse.issparse(A):
            raise InvalidProblemError(f"A must be a scipy.sparse matrix; got {type(A).__name__}")
        given: Any = A
        if given.ndim == 2 and given.shape[0] != given.shape[1]:
            raise InvalidProblemError(f"A must be square; got shape {given.shape}")
        # The transpose of a CSR matrix is CSC at no cost, and a symmetric matrix is its own transpose.
        matrix = sparse_matrix(given.T if given.format == "csr" else given, "A", "an (n, n) symmetric matrix")
        n = matrix.shape[0]
        diagonal = np.empty(n)
        if not mirrors(*compressed(matrix), diagonal, np.empty(0)):
            raise InvalidProblemError("A must be symmetric; A and A.T differ")
        # One byte a node: it is read out of order.
        inside: Any = np.ones(n, dtype=np.int8)
        order, parent, degree = (np.empty(n, dtype=np.int64) for _ in range(3))
        weight, pivot = np.empty(n), np.empty(n)
        count = eliminate(*compressed(matrix), inside, order, parent, weight, pivot, degree)
        if count < n:
            raise NotAForestError(_find_cycle(*compressed(matrix), degree >= 0))
        bad = np.flatnonzero(~(pivot > SINGULAR * np.abs(diagonal)))
        if len(bad):
            raise InvalidProblemError(
                f"A must be positive definite; it is singular or indefinite on the component of node {int(bad[0])}"
            )
        self.n = n
        self._order = order
        self._up, self._ratio, self._pivot = eliminated_positions(order, parent, weight, pivot)

    def solve(self, b: Any) -> FloatArray:
        """The solution of A x = b for b (n,) or (n, m)."""
        ndim = 2 if np.ndim(b) == 2 else 1
        rhs = as_float_array(b, "b", ndim=ndim, expected="an (n,) vector or (n, m) matrix")
        if rhs.shape[0] != self.n:
            raise InvalidProblemError(f"b must have {self.n} rows; got {rhs.shape[0]}")
        if ndim == 2:
            return np.column_stack([self.solve(column) for column in rhs.T])
        x = np.empty(self.n)
        sweep(self._order, self._up, self._ratio, self._pivot, np.array(rhs), np.empty(self.n), x)
        return x


def solve_forest(A: Any, b: Any) -> FloatArray:
    """Solve A x = b in linear time, for A symmetric positive definite with the graph of a forest.

    Parameters
    ----------
    A : (n, n) scipy.sparse
    b : (n,) or (n, m) array_like

    Returns
    -------
    (n,) or (n, m) array

    Raises
    ------
    NotAForestError
        Naming a cycle.
    InvalidProblemError
        Bad input, or a component on which A is not positive definite.

    Notes
    -----
    :class:`ForestFactor` keeps the factorisation for further right-hand sides.

    *Complexity.* O(n) time and memory.

    Examples
    --------
    >>> import numpy as np, scipy.sparse
    >>> from solvers import bcd
    >>> star = scipy.sparse.csr_array([[4.0, -1, -1], [-1, 1, 0], [-1, 0, 1]])
    >>> bcd.solve_forest(star, np.array([2.0, 0.0, 0.0]))
    array([1., 1., 1.])
    """
    return ForestFactor(A).solve(b)


def _find_cycle(data: FloatArray, indices: IntArray, indptr: IntArray, left: np.ndarray) -> list[int]:
    """Walk among nodes with two or more remaining neighbours until one repeats."""
    current = int(np.argmax(left))
    before, seen, path = -1, {current: 0}, [current]
    while True:
        row = slice(indptr[current], indptr[current + 1])
        near = indices[row][(data[row] != 0.0) & left[indices[row]]]
        current, before = next(int(j) for j in near if j not in (current, before)), current
        if current in seen:
            return path[seen[current] :]
        seen[current] = len(path)
        path.append(current)


for _public in (ForestFactor, NotAForestError):
    _public.__module__ = "solvers.bcd"
