"""The quadratic loss f(x) = x^T Q x / 2 - c^T x with Q symmetric and positive semidefinite, sparse or dense, on any device."""

from __future__ import annotations

import copy
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse

from solvers._core.arrays import Array, FloatArray, IntArray, as_float_array, freeze, kind_of, namespace_of, to_host
from solvers._core.errors import BackendError, InvalidProblemError
from solvers._core.jit import njit
from solvers._core.linalg import UNIT
from solvers.bcd._design import sparse_matrix
from solvers.bcd._device_matrix import DeviceMatrix, device_triplets
from solvers.bcd._loss import Loss

__all__ = ["Quadratic", "compressed", "diagonal_and_sums", "mirrors"]

# Dense matrices up to this size are factorised to prove that they are positive semidefinite.
DENSE_CHECK = 2000


def compressed(matrix: Any) -> tuple[Any, Any, Any]:
    """The three arrays of a CSR or CSC matrix, as kernels take them."""
    return matrix.data, matrix.indices, matrix.indptr


class Quadratic(Loss):
    """f(x) = x^T Q x / 2 - c^T x.

    Parameters
    ----------
    Q : (n, n) array_like or scipy.sparse, or (rows, columns, values, (n, n))
        Symmetric and positive semidefinite; graph Laplacians with some nodes removed are the sparse case in mind. Dense
        arrays, and the triplets of sparse matrices without duplicates, may be CuPy's or any array-API library's; they stay
        on their device. CuPy's own sparse matrices are taken, too.
    c : (n,) array_like
        Of the same kind as Q; NumPy's beside a scipy.sparse one.

    Raises
    ------
    InvalidProblemError
        Q is not symmetric (the entry is named), or has a negative diagonal entry or (where it can be factorised) a
        negative eigenvalue.
    """

    def __init__(self, Q: Any, c: Any) -> None:
        self.remote: DeviceMatrix | None = None
        triplets = device_triplets(Q, "Q")
        self.kind = kind_of(Q if triplets is None else triplets[2])
        expected = "an (n, n) symmetric matrix"
        self.sparse: scipy.sparse.csc_array | None = None
        self.dense: Array = None
        if triplets is not None:
            self.remote = DeviceMatrix(*triplets)
            shape = self.remote.shape
        elif self.kind == "sparse":
            # The transpose of a CSR matrix is CSC at no cost, and a symmetric matrix is its own transpose.
            flip = Q.format == "csr" and Q.ndim == 2
            self.sparse = sparse_matrix(Q.T if flip else Q, "Q", expected)
            shape = self.sparse.shape[::-1] if flip else self.sparse.shape
        else:
            self.dense = as_float_array(Q, "Q", ndim=2, expected=expected)
            shape = tuple(self.dense.shape)
        if kind_of(c) != ("numpy" if self.sparse is not None else self.kind):
            raise BackendError(f"c is a {kind_of(c)} array and Q is {self.kind}; convert one explicitly")
        self.c = as_float_array(c, "c", ndim=1, expected="an (n,) vector")
        if shape[0] != shape[1] or self.c.shape[0] != shape[0]:
            raise InvalidProblemError(f"Q must be (n, n) and c (n,); got {tuple(shape)} and {tuple(self.c.shape)}")
        self.shape = (int(shape[0]),)
        self.device = None if isinstance(self.c, np.ndarray) else self.c.device
        self.host_c: FloatArray = to_host(self.c)
        # What certificates have checked about Q; shared by all right-hand sides.
        self.proofs: dict[str, Any] = {}
        self._check()

    @property
    def xp(self) -> ModuleType:
        """Array namespace of the data; not stored, so that problems pickle."""
        return namespace_of(self.c)

    def with_linear(self, c: Array) -> Quadratic:
        """The same Q with another c of the same kind; Q is not checked again."""
        other = copy.copy(self)
        other.c = freeze(np.asarray(c, dtype=np.float64)) if self.device is None else c
        other.host_c = to_host(other.c)
        return other

    def _check(self) -> None:
        self._require_symmetry()
        diagonal = self.lipschitz
        if np.any(diagonal < 0):
            j = int(np.argmin(diagonal))
            raise InvalidProblemError(f"Q must be positive semidefinite; Q[{j}, {j}] is {float(diagonal[j])!r}")
        if self.dominance < 0 and not self.weakly_dominant and self.size <= DENSE_CHECK:
            slack = 64 * UNIT * self.size * max(float(np.max(self.row_sums)), 0.0)
            if self.curvature < -2 * slack:
                raise InvalidProblemError(
                    f"Q must be positive semidefinite; its least eigenvalue is about {self.curvature + slack:.6g}"
                )

    def _require_symmetry(self) -> None:
        if self.sparse is not None:
            diagonal, sums = np.empty(self.size), np.empty(self.size)
            if mirrors(*compressed(self.sparse), diagonal, sums):
                self._rows = diagonal, sums
                return
            difference = abs(self.sparse - self.sparse.T).tocoo()
            worst = int(np.argmax(difference.data)) if difference.nnz else -1
            most = float(difference.data[worst]) if worst >= 0 else 0.0
            row, column = (int(difference.row[worst]), int(difference.col[worst])) if worst >= 0 else (0, 0)
        elif self.remote is not None:
            row, column, most = self.remote.asymmetry()
        else:
            difference = self.xp.abs(self.dense - self.dense.T)
            row, column = divmod(int(self.xp.argmax(self.xp.reshape(difference, (-1,)))), self.size)
            most = float(difference[row, column])
        if most > 0:
            raise InvalidProblemError(
                f"Q must be symmetric; Q[{row}, {column}] and Q[{column}, {row}] differ by {most!r} "
                "(pass (Q + Q.T) / 2 if that is rounding)"
            )

    @property
    def matrix(self) -> Any:
        """Q, sparse or dense, wherever it is."""
        if self.remote is not None:
            return self.remote
        return self.dense if self.sparse is None else self.sparse

    @cached_property
    def lipschitz(self) -> FloatArray:
        """The diagonal of Q."""
        if self.sparse is not None:
            return self._rows[0]
        if self.remote is not None:
            return np.array(to_host(self.remote.diagonal))
        return np.array(to_host(self.xp.linalg.diagonal(self.dense)))

    @cached_property
    def row_sums(self) -> FloatArray:
        """Sums of the absolute values of the rows."""
        if self.sparse is not None:
            return self._rows[1]
        if self.remote is not None:
            ones = self.xp.ones(self.size, dtype=self.xp.float64, device=self.device)
            return np.array(to_host(self.remote.absolute_product(ones)))
        return np.array(to_host(self.xp.sum(self.xp.abs(self.dense), axis=1)))

    @cached_property
    def row_counts(self) -> FloatArray:
        """Stored entries of each row."""
        if self.sparse is not None:
            return np.diff(self.sparse.indptr).astype(np.float64)
        if self.remote is not None:
            return self.remote.counts
        return np.full(self.size, float(self.size))

    @cached_property
    def dominance(self) -> float:
        """A lower bound on the least eigenvalue from Gershgorin's discs, rounding included."""
        return _least_slack(self.lipschitz, self.row_sums, self.row_counts, -2 * UNIT)

    @cached_property
    def weakly_dominant(self) -> bool:
        """Whether no diagonal entry is below the sum of the others in its row by more than rounding explains."""
        return _least_slack(self.lipschitz, self.row_sums, self.row_counts, 8 * UNIT) >= 0.0

    @cached_property
    def curvature(self) -> float:
        """A proved lower bound on the least eigenvalue: Gershgorin's, or for small matrices a full eigensolver's.

        Weakly dominant sparse matrices have better proofs than their least eigenvalue.
        """
        best = self.dominance
        plain = self.dense is not None or (self.sparse is not None and not self.weakly_dominant)
        if best < 0 and self.size <= DENSE_CHECK and plain:
            if self.sparse is None and self.device is not None:
                least = float(self.xp.linalg.eigvalsh(self.dense)[0])
            else:
                full = self.dense if self.sparse is None else self.sparse.toarray()
                least = float(scipy.linalg.eigvalsh(full, subset_by_index=(0, 0), check_finite=False)[0])
            # Tridiagonalisation is backward stable: 10 n UNIT |Q|_2, and |Q|_2 is below the largest row sum.
            best = max(best, least - 64 * UNIT * self.size * float(np.max(self.row_sums)))
        return best

    def image(self, x: FloatArray) -> Array:
        """Q x."""
        if self.sparse is not None:
            return np.asarray(self.sparse @ x)
        return self.matrix @ (x if self.device is None else self.xp.asarray(x, device=self.device))

    def value(self, x: FloatArray, z: Array) -> float:
        """f."""
        return float(np.sum(x * (0.5 * to_host(z) - self.host_c)))

    def value_error(self, x: FloatArray, z: Array) -> float:
        """Rounding of Q x and of the sum."""
        size = np.abs(x)
        most = self.image_and_size(x)[1] + np.abs(self.host_c)
        return float(np.sum(size * most)) * UNIT * 2 * (float(np.max(self.row_counts)) + 64)

    def image_and_size(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """``Q x`` and ``|Q| |x|``, on the host."""
        if self.sparse is not None:
            image, most = np.empty(self.size), np.empty(self.size)
            _image_and_size(*compressed(self.sparse), np.asarray(x), image, most)
            return image, most
        there = x if self.device is None else self.xp.asarray(x, device=self.device)
        if self.remote is not None:
            return to_host(self.remote @ there), to_host(self.remote.absolute_product(self.xp.abs(there)))
        return to_host(self.dense @ there), to_host(self.xp.abs(self.dense) @ self.xp.abs(there))

    def gradient(self, z: Array) -> FloatArray:
        """Q x - c."""
        return np.asarray(to_host(z) - self.host_c)

    def moved(self, z: Array, block: IntArray, d: FloatArray) -> Array:
        """z + Q_b d."""
        return z + np.asarray(self.matrix[:, block] @ d)

    def block_gradient(self, z: Array, block: IntArray) -> FloatArray:
        """(Q x - c)_b."""
        return np.asarray(z[block] - self.host_c[block])

    def block_hessian(self, z: Array, block: IntArray) -> FloatArray:
        """Q_bb."""
        return self.block_bound(block)

    def block_bound(self, block: IntArray) -> FloatArray:
        """Q_bb."""
        if self.sparse is not None:
            return np.asarray(self.sparse[block][:, block].toarray())
        return np.asarray(self.dense[np.ix_(block, block)])

    @cached_property
    def graph(self) -> scipy.sparse.csr_array:
        """Q as CSR: its off-diagonal pattern is the graph of the coordinates."""
        if self.sparse is not None:
            # Q is symmetric: its CSC arrays are its CSR arrays.
            return scipy.sparse.csr_array(
                (self.sparse.data, self.sparse.indices, self.sparse.indptr), shape=self.sparse.shape
            )
        graph = scipy.sparse.csr_array(self.dense)
        freeze(graph.data)
        return graph


@njit()
def mirrors(data: FloatArray, indices: IntArray, indptr: IntArray, diagonal: FloatArray, sums: FloatArray) -> bool:
    """Whether a canonical CSC matrix equals its transpose, structure included; fills the diagonal, and the sums of |Q|
    unless ``sums`` is empty.

    Columns are walked like rows: the mirror image of an entry is the next of its row that has not been met.
    """
    n = len(indptr) - 1
    ahead = indptr[:-1].copy()
    summed = len(sums) > 0
    for j in range(n):
        diagonal[j] = total = 0.0
        for k in range(indptr[j], indptr[j + 1]):
            i = indices[k]
            if summed:
                total += abs(data[k])
            if i == j:
                diagonal[j] = data[k]
            mirror = ahead[i]
            if mirror >= indptr[i + 1] or indices[mirror] != j or data[mirror] != data[k]:
                return False
            ahead[i] = mirror + 1
        if summed:
            sums[j] = total
    return True


@njit()
def _least_slack(diagonal: FloatArray, sums: FloatArray, counts: FloatArray, rounding: float) -> float:
    """min of Q_ii - sum_j |Q_ij| over j other than i, plus a share of the roundings of a row."""
    least = np.inf
    for i in range(len(diagonal)):
        least = min(least, 2.0 * diagonal[i] - sums[i] + rounding * (counts[i] + 4.0) * sums[i])
    return least


@njit()
def diagonal_and_sums(
    data: FloatArray, indices: IntArray, indptr: IntArray, diagonal: FloatArray, sums: FloatArray
) -> None:
    for j in range(len(diagonal)):
        diagonal[j] = sums[j] = 0.0
        for k in range(indptr[j], indptr[j + 1]):
            sums[j] += abs(data[k])
            if indices[k] == j:
                diagonal[j] = data[k]


@njit()
def _image_and_size(
    data: FloatArray, indices: IntArray, indptr: IntArray, x: FloatArray, image: FloatArray, most: FloatArray
) -> None:
    """Q x and |Q| |x| of a symmetric matrix in one pass."""
    for j in range(len(x)):
        total = size = 0.0
        for k in range(indptr[j], indptr[j + 1]):
            part = data[k] * x[indices[k]]
            total += part
            size += abs(part)
        image[j], most[j] = total, size


Quadratic.__module__ = "solvers.bcd"
