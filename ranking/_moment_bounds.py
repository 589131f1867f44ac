r"""A bound for scores <p_i, q_j> from the points' moments, in time proportional to n.

For matrices S, R and centres a, b, with E = I - R^T S,

    <p, q>  =  <p - a, q - b> + <p, b> + <a, q> - <a, b>,
    <p - a, q - b>  <=  |S (p - a)|^2 / 2 + |R (q - b)|^2 / 2 + |E (p - a)| |q - b|,                             (1)

so that every arc from i to j scores at most f_i + g_j - <a, b>, and a path at most the sum of all f and g but those of its
last and its first item. The best S = G^1/2, R = G^-1/2 for points with covariances S_p, S_q come from the transport map
between Gaussian distributions, G = S_p^-1/2 (S_p^1/2 S_q S_p^1/2)^1/2 S_p^-1/2; for Gaussian points (1) then is the limit
of the assignment's value for many items (Gelbrich, Math. Nachr. 147, 1990). Whatever the matrices are, the bound holds.

Points are scaled by powers of two to moduli below 1, where nothing overflows and underflow is charged as one constant.
"""

from __future__ import annotations

import math

import numpy as np

from ranking._factors import Factors
from ranking._large_bounds import TINY, factor_error
from ranking._problem import PathProblem
from ranking._result import MomentCertificate
from solvers._core.arrays import FloatArray
from solvers._core.linalg import UNIT

__all__ = ["moment_bound", "moment_certificate", "moments_are_sound"]

# Entries of a certificate, and what all underflows together cost in the scaled unit: fewer than 2**80 products of at most
# two such entries lose 2**-1074 each.
LARGEST_ENTRY = 2.0**200
UNDERFLOW = 2.0**-500
# Part of its trace that a covariance is raised by, so that flat directions have an inverse.
FLAT = 1e-9


def moment_certificate(factors: Factors, sign: float) -> MomentCertificate:
    """The certificate of the Gaussian transport map between the points of costs sign * <U_i, V_j>."""
    p, q, _ = _scaled(factors, sign)
    covariance_p, covariance_q = _covariance(p), _covariance(q)
    root_p, inverse_p = _powers(covariance_p, 0.5), _powers(covariance_p, -0.5)
    G = inverse_p @ _powers(root_p @ covariance_q @ root_p, 0.5) @ inverse_p
    return MomentCertificate(_powers(G, 0.5), _powers(G, -0.5), p.mean(axis=0), q.mean(axis=0))


def moment_bound(problem: PathProblem, certificate: MomentCertificate, units: float) -> float:
    """Lower bound on the cost of every cycle by (1), less its rounding error, once for 2 units and twice for 4."""
    assert isinstance(problem.scores, Factors)
    S, R, a, b = certificate.left, certificate.right, certificate.left_centre, certificate.right_centre
    p, q, exponent = _scaled(problem.scores, problem.sign)
    n, d = p.shape
    z, w = (p - a) @ S.T, (q - b) @ R.T
    f = 0.5 * np.einsum("ij,ij->i", z, z) + p @ b
    g = 0.5 * np.einsum("ij,ij->i", w, w) + q @ a
    rest = (p - a) - z @ R
    # The same with moduli, which bound every intermediate result.
    p_size, q_size = np.abs(p) + np.abs(a), np.abs(q) + np.abs(b)
    z_size, w_size = p_size @ np.abs(S).T, q_size @ np.abs(R).T
    reach = math.sqrt(float((q_size * q_size).sum(axis=1).max()))
    size = (
        float((z_size * z_size).sum() + (w_size * w_size).sum() + (p_size @ np.abs(b)).sum() + (q_size @ np.abs(a)).sum())
        + reach * float((p_size + z_size @ np.abs(R)).sum())
        + n * float(np.abs(a) @ np.abs(b))
    )  # fmt: skip
    arcs = n - problem.depot
    value = (
        math.fsum(f.tolist()) + math.fsum(g.tolist()) - arcs * float(a @ b)
        + reach * math.fsum(np.sqrt((rest * rest).sum(axis=1)).tolist())
    )  # fmt: skip
    if problem.depot:
        value -= float(f.min() if problem.end < 0 else f[problem.end])
        value -= float(g.min() if problem.start < 0 else g[problem.start])
    # Each of f and g is within 3 d + 10 roundoffs of its moduli, the rest within 2 d + 8, sums and lengths a few more.
    error = 16.0 * (d + 4) * UNIT * size + UNDERFLOW
    largest, rounding = factor_error(problem.scores)
    bound = float(np.ldexp(-(value + 0.5 * units * error), exponent)) - 0.5 * units * (rounding + TINY)
    return bound if math.isfinite(bound) and math.isfinite(largest) else -math.inf


def moments_are_sound(certificate: MomentCertificate, d: int) -> bool:
    """Whether a certificate has the shapes of factors of d coordinates and entries that allow no overflow."""
    parts = (certificate.left, certificate.right, certificate.left_centre, certificate.right_centre)
    return all(
        type(part) is np.ndarray
        and part.dtype == np.float64
        and part.shape == shape
        and bool((np.abs(part) <= LARGEST_ENTRY).all())
        for part, shape in zip(parts, ((d, d), (d, d), (d,), (d,)), strict=True)
    )


def _scaled(factors: Factors, sign: float) -> tuple[FloatArray, FloatArray, int]:
    """Points p, q with moduli below 1 and the exponent of 2 by which costs are -<p, q>."""
    exponents = [int(np.frexp(np.abs(part).max())[1]) for part in (factors.left, factors.right)]
    p = -sign * np.ldexp(factors.left, -exponents[0])
    return p, np.ldexp(factors.right, -exponents[1]), sum(exponents)


def _covariance(points: FloatArray) -> FloatArray:
    """Covariance of some points, raised to full rank."""
    d = points.shape[1]
    covariance = np.cov(points.T, bias=True).reshape(d, d)
    return covariance + (FLAT * float(np.trace(covariance)) or 1.0) * np.eye(d)


def _powers(matrix: FloatArray, exponent: float) -> FloatArray:
    """A power of a positive definite matrix."""
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    values = np.maximum(values, FLAT**2 * max(float(values[-1]), FLAT))
    power: FloatArray = (vectors * values**exponent) @ vectors.T
    return power
