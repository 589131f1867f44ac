r"""The smallest singular value of the tangent system, by code of other libraries.

With one row per observed entry, J (dU, dV) = P_Omega(dU Vᵀ + U dVᵀ). Small systems are decomposed in full. For larger ones
each row's part of J in dU is orthonormalised, J_U = Q R, and what is left of the part in dV,

    S = J_Vᵀ (I - QQᵀ) J_V,

is applied by sparse products. Its kernel holds dV = V K; off these directions its smallest eigenvalue comes from inverse
iteration with conjugate gradients of SciPy, from a start that nobody could foresee. An iteration that has not converged
gives a value that is too large.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from solvers._core.arrays import FloatArray, IntArray

__all__ = ["smallest_tangent_value"]

# Entries of a tangent system that is decomposed in full.
DENSE_TANGENT = 4e6
# Rounds of inverse iteration, products with the system in all of them, and the value below which more say nothing.
ROUNDS, PRODUCTS, NOTHING = 8, 600, 1e-14


def smallest_tangent_value(shape: tuple[int, int], rows: Any, cols: Any, U: FloatArray, V: FloatArray) -> float:
    """Square of the smallest singular value off the directions that leave U diag(s) Vᵀ where it is, over the mean one.

    Parameters
    ----------
    shape : (m, n)
    rows, cols : (N,) int
        Observed positions, sorted by rows, k or more in each row.
    U, V : (m, k), (n, k) float64
        Factors; a scaling of their rows changes no kernel, and is taken out first.
    """
    U, V = _of_equal_rows(U), _of_equal_rows(V)
    (m, n), k = shape, U.shape[1]
    unknowns = k * (m + n)
    if len(rows) * unknowns > DENSE_TANGENT:
        return _by_inverse_iteration(n, np.asarray(rows, dtype=np.int64), np.asarray(cols, dtype=np.int64), U, V)
    system = np.zeros((len(rows), m + n, k))
    at = np.arange(len(rows))
    system[at, rows], system[at, m + np.asarray(cols, dtype=np.int64)] = V[cols], U[rows]
    values = np.linalg.svd(system.reshape(len(rows), unknowns), compute_uv=False)
    return float(values[unknowns - k * k - 1] ** 2 * unknowns / np.sum(values**2))


def _by_inverse_iteration(n: int, rows: IntArray, cols: IntArray, U: FloatArray, V: FloatArray) -> float:
    k = U.shape[1]
    basis = _orthonormal_rows(rows, V[cols])
    inner, outer = _spread(rows, len(U), basis), _spread(cols, n, U[rows])
    free = 1.0 - np.einsum("tk,tk->t", basis, basis)
    blocks = np.empty((n, k, k))
    for a in range(k):
        for b in range(a + 1):
            part = np.bincount(cols, free * U[rows, a] * U[rows, b], n)
            blocks[:, a, b] = blocks[:, b, a] = part
    mean = float(np.mean(np.trace(blocks, axis1=1, axis2=2))) / k
    if not mean > 0.0:
        return 0.0
    inverses = np.linalg.inv(blocks + 1e-8 * mean * np.eye(k))

    def off_gauge(w: FloatArray) -> FloatArray:
        free = w.reshape(n, k)
        return np.asarray(free - V @ (V.T @ free)).ravel()

    def product(w: FloatArray) -> FloatArray:
        image = outer @ w.ravel()
        return off_gauge(outer.T @ (image - inner @ (inner.T @ image)))

    def smoothed(w: FloatArray) -> FloatArray:
        return off_gauge(np.einsum("nab,nb->na", inverses, w.reshape(n, k)))

    size = (n * k, n * k)
    operator = scipy.sparse.linalg.LinearOperator(size, matvec=product, dtype=np.float64)
    smoother = scipy.sparse.linalg.LinearOperator(size, matvec=smoothed, dtype=np.float64)
    w = off_gauge(np.random.default_rng().standard_normal(n * k))
    value = np.inf
    for _ in range(ROUNDS):
        w /= float(np.linalg.norm(w))
        fresh, _ = scipy.sparse.linalg.cg(
            operator, w, rtol=0.01 / np.sqrt(n * k), maxiter=PRODUCTS // ROUNDS * 2, M=smoother
        )
        length = float(np.linalg.norm(fresh))
        if not (np.isfinite(length) and length > 0.0):
            break
        w = fresh / length
        previous, value = value, max(0.0, float(w @ product(w))) / mean
        if value < NOTHING or value > 0.5 * previous:
            break
    return float(value)


def _of_equal_rows(factor: FloatArray) -> FloatArray:
    """An orthonormal basis after every row that is not zero was divided by its length."""
    squares = np.einsum("ik,ik->i", factor, factor)
    basis: FloatArray = np.linalg.svd(
        np.divide(factor, np.sqrt(squares)[:, None], out=np.zeros_like(factor), where=squares[:, None] > 0.0),
        full_matrices=False,
    )[0]
    return basis


def _orthonormal_rows(rows: IntArray, entries: FloatArray) -> FloatArray:
    """An orthonormal basis of the columns of each row's block of ``entries`` (N, k), rows of one length at a time."""
    counts = np.bincount(rows)
    starts = np.concatenate([[0], np.cumsum(counts)])[:-1]
    basis = np.empty_like(entries)
    for count in np.unique(counts[counts > 0]).tolist():
        at = starts[counts == count][:, None] + np.arange(count)
        basis[at] = np.linalg.qr(entries[at])[0]
    return basis


def _spread(index: IntArray, count: int, data: FloatArray) -> Any:
    """The sparse matrix whose row t holds ``data[t]`` in the k columns of ``index[t]``."""
    size, k = data.shape
    places = (index[:, None] * k + np.arange(k)).ravel()
    return scipy.sparse.csr_array((data.ravel(), places, np.arange(0, size * k + 1, k)), shape=(size, count * k))
