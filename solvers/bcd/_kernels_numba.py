"""Compiled coordinate descent on a separable model of a working set.

The model, with Hessian G (a Gram matrix, or A^T diag(h) A kept as a product), is

    m(d) = g^T d + d^T G d / 2 + sum_j lam_j |x_j + d_j| + l2_j (x_j + d_j)^2 / 2,   lower <= x + d <= upper.

Columns of A are reached through ``column_dot`` and ``column_add``, which exist for a dense matrix and for the triple
(data, indices, indptr) of a CSC matrix, so every kernel is written once.

Descent goes by buckets: an epoch passes over all coordinates and moves those whose scaled step sqrt(G_jj) |delta_j| lies within
a factor of the largest of the pass before. On a Gram matrix a pass over scores costs no more than a few moves: the factor is
``BUCKET`` there, and a quarter of the moves of a cyclic epoch are spared.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import overload

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.jit import njit

__all__ = [
    "add_row_products",
    "column_norms",
    "column_products",
    "gram_descent",
    "principal",
    "residual_descent",
    "screened",
    "violations",
]

BUCKET = 0.15


def column_dot(matrix: Any, j: int, h: FloatArray | None, u: FloatArray) -> float:
    """a_j^T (h * u); h None stands for ones. Compiled code takes the overload for its storage, here and below."""
    rows, values = _column(matrix, j)
    return float(values @ (u[rows] if h is None else h[rows] * u[rows]))


def column_add(matrix: Any, j: int, step: float, h: FloatArray | None, u: FloatArray, v: FloatArray) -> None:
    """u += step a_j and v += step h * a_j; h None stands for ones, and v for u itself."""
    rows, values = _column(matrix, j)
    u[rows] += step * values
    if h is not None:
        v[rows] += h[rows] * (step * values)


def column_square(matrix: Any, j: int, h: FloatArray) -> float:
    """a_j^T (h * a_j)."""
    rows, values = _column(matrix, j)
    return float(values @ (h[rows] * values))


def _column(matrix: Any, j: int) -> tuple[Any, FloatArray]:
    """Rows and entries of a_j, by either storage."""
    if not isinstance(matrix, tuple):
        return slice(None), matrix[:, j]
    data, indices, indptr = matrix
    part = slice(indptr[j], indptr[j + 1])
    return indices[part], data[part]


@overload(column_dot)  # type: ignore[untyped-decorator]
def _column_dot(matrix: Any, j: Any, h: Any, u: Any) -> Any:
    def dense(matrix: Any, j: Any, h: Any, u: Any) -> Any:
        total = 0.0
        for i in range(len(u)):
            total += matrix[i, j] * (h[i] * u[i])
        return total

    def dense_plain(matrix: Any, j: Any, h: Any, u: Any) -> Any:
        total = 0.0
        for i in range(len(u)):
            total += matrix[i, j] * u[i]
        return total

    def sparse(matrix: Any, j: Any, h: Any, u: Any) -> Any:
        data, indices, indptr = matrix
        total = 0.0
        for k in range(indptr[j], indptr[j + 1]):
            i = indices[k]
            total += data[k] * (h[i] * u[i])
        return total

    def sparse_plain(matrix: Any, j: Any, h: Any, u: Any) -> Any:
        data, indices, indptr = matrix
        total = 0.0
        for k in range(indptr[j], indptr[j + 1]):
            total += data[k] * u[indices[k]]
        return total

    if isinstance(h, types.NoneType):
        return dense_plain if isinstance(matrix, types.Array) else sparse_plain
    return dense if isinstance(matrix, types.Array) else sparse


@overload(column_add)  # type: ignore[untyped-decorator]
def _column_add(matrix: Any, j: Any, step: Any, h: Any, u: Any, v: Any) -> Any:
    def dense(matrix: Any, j: Any, step: Any, h: Any, u: Any, v: Any) -> Any:
        for i in range(len(u)):
            change = step * matrix[i, j]
            u[i] += change
            v[i] += h[i] * change

    def dense_plain(matrix: Any, j: Any, step: Any, h: Any, u: Any, v: Any) -> Any:
        for i in range(len(u)):
            u[i] += step * matrix[i, j]

    def sparse(matrix: Any, j: Any, step: Any, h: Any, u: Any, v: Any) -> Any:
        data, indices, indptr = matrix
        for k in range(indptr[j], indptr[j + 1]):
            i = indices[k]
            change = step * data[k]
            u[i] += change
            v[i] += h[i] * change

    def sparse_plain(matrix: Any, j: Any, step: Any, h: Any, u: Any, v: Any) -> Any:
        data, indices, indptr = matrix
        for k in range(indptr[j], indptr[j + 1]):
            u[indices[k]] += step * data[k]

    if isinstance(h, types.NoneType):
        return dense_plain if isinstance(matrix, types.Array) else sparse_plain
    return dense if isinstance(matrix, types.Array) else sparse


@overload(column_square)  # type: ignore[untyped-decorator]
def _column_square(matrix: Any, j: Any, h: Any) -> Any:
    def dense(matrix: Any, j: Any, h: Any) -> Any:
        total = 0.0
        for i in range(len(h)):
            total += h[i] * matrix[i, j] * matrix[i, j]
        return total

    def sparse(matrix: Any, j: Any, h: Any) -> Any:
        data, indices, indptr = matrix
        total = 0.0
        for k in range(indptr[j], indptr[j + 1]):
            total += h[indices[k]] * data[k] * data[k]
        return total

    return dense if isinstance(matrix, types.Array) else sparse


@njit()
def _prox(v: float, curvature: float, lam: float, l2: float, lower: float, upper: float) -> float:
    """argmin_u curvature (u - v)^2 / 2 + lam |u| + l2 u^2 / 2 on [lower, upper]."""
    pull = v * curvature
    if pull > lam:
        u = (pull - lam) / (curvature + l2)
    elif pull < -lam:
        u = (pull + lam) / (curvature + l2)
    else:
        u = 0.0
    return min(max(u, lower), upper)


@njit()
def gram_descent(
    gram: FloatArray,
    g: FloatArray,
    x: FloatArray,
    lam: FloatArray,
    l2: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    epochs: int,
    tolerance: float,
) -> int:
    """Greedy descent in place on x and g = the model's gradient; returns the epochs used.

    Stops when no coordinate's scaled step exceeds ``tolerance`` in an epoch. Rows of ``gram`` may be longer than x.
    """
    size = len(x)
    threshold = 0.0
    for epoch in range(epochs):
        largest = 0.0
        for j in range(size):
            curvature = gram[j, j]
            if curvature <= 0.0:
                continue
            fresh = _prox(x[j] - g[j] / curvature, curvature, lam[j], l2[j], lower[j], upper[j])
            delta = fresh - x[j]
            move = abs(delta) * curvature**0.5
            largest = max(largest, move)
            if move > threshold:
                x[j] = fresh
                for k in range(size):
                    g[k] += gram[j, k] * delta
        if largest <= tolerance:
            return epoch + 1
        threshold = BUCKET * largest
    return epochs


@njit()
def principal(gram: FloatArray, index: IntArray, out: FloatArray) -> None:
    """out = gram on the rows and columns of ``index``."""
    for j in range(len(index)):
        row = gram[index[j]]
        for k in range(len(index)):
            out[j, k] = row[index[k]]


@njit()
def residual_descent(
    matrix: Any,
    columns: IntArray,
    h: FloatArray | None,
    squares: FloatArray,
    g: FloatArray,
    u: FloatArray,
    v: FloatArray,
    x: FloatArray,
    lam: FloatArray,
    l2: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    threshold: float,
) -> float:
    """One epoch in place on x, u = A d and v = h * u for the model with G = A^T diag(h) A; returns the largest scaled step.

    ``g`` is the model's gradient at d = 0 and ``squares`` the diagonal of G; all indexed like ``columns``. Steps up to
    ``threshold`` are left for later. h None stands for ones, and v for u itself.
    """
    largest = 0.0
    for k in range(len(columns)):
        curvature = squares[k]
        if curvature <= 0.0:
            continue
        slope = g[k] + column_dot(matrix, columns[k], None, v)
        fresh = _prox(x[k] - slope / curvature, curvature, lam[k], l2[k], lower[k], upper[k])
        delta = fresh - x[k]
        move = abs(delta) * curvature**0.5
        largest = max(largest, move)
        if move > threshold:
            x[k] = fresh
            column_add(matrix, columns[k], delta, h, u, v)
    return largest


@njit()
def column_norms(matrix: Any, columns: IntArray, h: FloatArray, out: FloatArray) -> None:
    """out_k = a_k^T (h * a_k)."""
    for k in range(len(columns)):
        out[k] = column_square(matrix, columns[k], h)


@njit()
def column_products(matrix: Any, columns: IntArray, h: FloatArray | None, v: FloatArray, out: FloatArray) -> None:
    """out_k = a_k^T (h * v)."""
    for k in range(len(columns)):
        out[k] = column_dot(matrix, columns[k], h, v)


@njit()
def violations(
    x: FloatArray,
    g: FloatArray,
    curvature: FloatArray,
    lam: FloatArray,
    l2: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    out: FloatArray,
) -> float:
    """The GSL-q score of each coordinate: how much its own prox step lowers the model; returns the largest."""
    largest = 0.0
    for j in range(len(x)):
        # Most coordinates rest at zero, which needs no division.
        if curvature[j] <= 0.0 or (x[j] == 0.0 and abs(g[j]) <= lam[j] and lower[j] <= 0.0 <= upper[j]):
            out[j] = 0.0
            continue
        fresh = _prox(x[j] - g[j] / curvature[j], curvature[j], lam[j], l2[j], lower[j], upper[j])
        p = fresh - x[j]
        change = lam[j] * (abs(fresh) - abs(x[j])) + 0.5 * l2[j] * (fresh * fresh - x[j] * x[j])
        out[j] = max(-(g[j] * p + 0.5 * curvature[j] * p * p + change), 0.0)
        largest = max(largest, out[j])
    return largest


@njit()
def screened(
    x: FloatArray,
    q: FloatArray,
    radius: float,
    curvature: FloatArray,
    lam: FloatArray,
    l2: FloatArray,
    lower: FloatArray,
    upper: FloatArray,
    alive: Any,
) -> int:
    """Strike out in ``alive`` the coordinates that rest where every dual point near q keeps them; returns how many are left.

    x_j stays at a kink or an end r of its penalty where q_j +- radius sqrt(curvature_j) is inside the subdifferential at r.
    """
    left = 0
    for j in range(len(x)):
        if not alive[j]:
            continue
        r = x[j]
        spread = radius * curvature[j] ** 0.5
        low, high = q[j] - spread, q[j] + spread
        bent = l2[j] * r
        above = bent + (lam[j] if r >= 0.0 else -lam[j])
        below = bent + (-lam[j] if r <= 0.0 else lam[j])
        if (r >= upper[j] or high < above) and (r <= lower[j] or low > below):
            alive[j] = False
        else:
            left += 1
    return left


@njit()
def add_row_products(data: FloatArray, indices: IntArray, indptr: IntArray, h: FloatArray, gram: FloatArray) -> None:
    """gram += A^T diag(h) A for A by rows (CSR with sorted columns)."""
    for i in range(len(indptr) - 1):
        for k in range(indptr[i], indptr[i + 1]):
            weighted = h[i] * data[k]
            row = indices[k]
            for m in range(indptr[i], k + 1):
                gram[row, indices[m]] += weighted * data[m]
    for j in range(len(gram)):
        for k in range(j + 1, len(gram)):
            gram[j, k] = gram[k, j]
