r"""Prices from moments, for assignments of low rank: the potential of the transport map between Gaussian distributions.

The assignment that maximises inner products <p_i, q_j> transports one cloud of points to the other. For Gaussian points its
potential is the quadratic form

    psi(q) = (q - b)^T A^-1 (q - b) / 2,   A = S_p^-1/2 (S_p^1/2 S_q S_p^1/2)^1/2 S_p^-1/2,

with the covariances S_p, S_q, and for others it is where a search may well begin. A matrix that is only nearly of low rank
gives its points by a cross of rows and columns. Nothing is proved here: bounds are taken at whatever prices there are.
References: Dowson and Landau, J. Multivariate Anal. 12, 1982; Goreinov, Tyrtyshnikov and Zamarashkin, Linear Algebra Appl.
261, 1997.
"""

from __future__ import annotations

import numpy as np

from solvers._core.arrays import FloatArray, IntArray

__all__ = ["low_rank_factors", "transport_potential"]

# Eigenvalues below this part of the largest are no direction of the points.
FLAT = 1e-9
# Rows and columns that show whether a matrix has low rank, and its factors.
CROSS = 64
# Shares of what varies in the crossing: of a direction to be one, and of all that may be left over.
SMALL, LEFT_OVER = 1e-4, 0.02


def low_rank_factors(matrix: FloatArray, perm: IntArray, unit: float) -> tuple[FloatArray, FloatArray] | None:
    """P, Q with unit matrix[perm][:, perm] nearly P Q^T, from a cross of rows and columns; None where the rank is not low.

    With B the crossing of rows I and columns J, a matrix of the rank of B is A[:, J] B^+ A[I, :]. Entries of the
    diagonal are no scores, and in a column of A[:, J] its mean stands for one.
    """
    if len(perm) < 4 * CROSS:
        return None
    rows, columns = perm[:CROSS], perm[CROSS : 2 * CROSS]
    left, values, right = np.linalg.svd(unit * matrix[np.ix_(rows, columns)])
    energy = values * values
    varied = float(energy[1:].sum())
    rank = int(np.count_nonzero(energy > max(SMALL * varied, FLAT * float(energy[0]))))
    if not 0 < rank <= CROSS // 2 or float(energy[rank:].sum()) > LEFT_OVER * varied:
        return None
    along, across = unit * matrix[np.ix_(perm, columns)], unit * matrix[np.ix_(rows, perm)].T
    for part, first in ((along, CROSS), (across, 0)):
        own = np.arange(first, first + CROSS), np.arange(CROSS)
        part[own] = 0.0
        part[own] = part.sum(axis=0) / (len(perm) - 1)
    return along @ (right[:rank].T / values[:rank]), across @ left[:, :rank]


def transport_potential(points: FloatArray, targets: FloatArray) -> FloatArray:
    """psi at the targets for Gaussians with the moments of ``points`` and ``targets``."""
    p, q = points.mean(axis=0), targets.mean(axis=0)
    root_p, _ = _roots(np.cov(points.T, bias=True).reshape(len(p), len(p)))
    middle = root_p @ np.cov(targets.T, bias=True).reshape(len(p), len(p)) @ root_p
    root, inverse_root = _roots(middle)
    _, inverse_p = _roots(root_p @ root_p)
    forward, backward = inverse_p @ root @ inverse_p, root_p @ inverse_root @ root_p
    away = targets - (q - forward @ p)
    potential: FloatArray = 0.5 * np.einsum("ij,jk,ik->i", away, backward, away, optimize=True)
    return potential


def _roots(matrix: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Square root and its pseudo-inverse of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    keep = values > FLAT * max(float(values[-1]), 0.0)
    roots = np.sqrt(np.where(keep, values, 0.0))
    inverse = np.divide(1.0, roots, out=np.zeros_like(roots), where=keep)
    return (vectors * roots) @ vectors.T, (vectors * inverse) @ vectors.T
