"""Random completion problems for the tests."""

from __future__ import annotations

import numpy as np


def low_rank(n, m, rank, condition, rng):
    """Orthonormal U, V and log-spaced s with the given condition number, s_1 = sqrt(mn)."""
    U = np.linalg.qr(rng.standard_normal((n, rank)))[0]
    V = np.linalg.qr(rng.standard_normal((m, rank)))[0]
    return U, np.sqrt(n * m) * np.logspace(0, -np.log10(condition), rank), V


def observed_part(U, s, V, oversampling, rng, noise=0.0):
    """Triplets at a uniform mask with ``oversampling`` times as many entries as degrees of freedom."""
    m, n, rank = len(U), len(V), len(s)
    count = min(m * n, int(oversampling * rank * (m + n - rank)))
    flat = rng.choice(m * n, count, replace=False)
    rows, cols = flat // n, flat % n
    values = np.einsum("tk,tk->t", (U * s)[rows], V[cols]) + noise * rng.standard_normal(count)
    return rows, cols, values, (m, n)


def relative_error(result, U, s, V):
    """Frobenius distance of the completion from U diag(s) Vᵀ, relative."""
    left, right = np.hstack([result.U * result.s, -U * s]), np.hstack([result.V, V])
    product = np.linalg.qr(left, mode="r") @ np.linalg.qr(right, mode="r").T
    return np.linalg.norm(product) / np.linalg.norm(s)


def small_dense(rng, largest=7):
    """A small dense matrix with NaN, possibly badly scaled; at least one entry is seen."""
    m, n = rng.integers(2, largest, size=2)
    A = rng.standard_normal((m, n)) * 10.0 ** rng.uniform(-8, 8)
    if rng.random() < 0.3:
        A += np.abs(A).max() * 10.0 ** rng.uniform(0, 3)
    if rng.random() < 0.3:
        A *= 10.0 ** rng.uniform(-3, 3, size=(1, n))
    A[rng.random((m, n)) < rng.uniform(0, 0.7)] = np.nan
    if np.isnan(A).all():
        A[0, 0] = 1.0
    return A
