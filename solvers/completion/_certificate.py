r"""The dual bound of the nuclear-norm problem. Nothing here is used by the iteration.

In scaled coordinates (see :mod:`solvers.completion._problem`) the problem over all X, of any rank, is convex:

    C = min_X  sum_Omega w_ij rho_delta(X_ij - A_ij) + reg ||X||_*,

and for every Y supported on Omega with ||Y||_2 <= reg (and, for the Huber loss, |Y_ij| <= w_ij delta)

    C >= sum_Omega ( Y_ij A_ij - Y_ij^2 / (2 w_ij) ).                                                          (1)

Y = alpha R with R = w * psi(A - X), the clipped residual at any X. At a minimiser ||R||_2 = reg and alpha = 1 closes
the gap. The numbers R_ij *are* the dual point once computed, so their rounding errors do not matter; those of (1)
and of the norm do. Another machine computes other R_ij, though: a published bound leaves room for their drift.

The norm is bounded above, never estimated: by a full singular value decomposition where that is affordable,
otherwise by deflation. With orthonormal P, Q (the factors, and a few more directions) the blocks PᵀRQ, PᵀR(I-QQᵀ),
(I-PPᵀ)RQ are small and their norms computed in full. The norm of the remainder E = (I-PPᵀ)R(I-QQᵀ) comes from q
Lanczos steps on EᵀE from a uniformly random start, drawn after R is fixed: the largest Ritz value theta satisfies
(Kuczynski and Wozniakowski 1992, theorem 3)

    Prob( theta <= (1 - epsilon) ||E||² ) <= 1.648 sqrt(n) exp( -sqrt(epsilon) (2 q - 1) ).

Near the optimum the remainder hardly matters: its norm, a fraction of reg, meets the rest only through the small mixed
blocks. q is therefore the first of a few numbers after which better knowledge of ||E|| would change little, each with its
share of the failure probability. A verification takes twice as many steps as were published, and no other look.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.linalg
import scipy.sparse

from solvers._core.arrays import FloatArray
from solvers._core.linalg import UNIT
from solvers.completion._kernels_bound import misses
from solvers.completion._problem import CompletionProblem

__all__ = [
    "DualBound",
    "DualCertificate",
    "NormBound",
    "TrivialCertificate",
    "affords_dense",
    "best_multiple",
    "deflated_norm",
    "dense_norm",
    "dual_bound",
    "entry_residuals",
    "nuclear_norm",
    "objective",
    "published_steps",
]

# A dense singular value decomposition is used while min(m, n)^2 max(m, n) stays below this.
DENSE_WORK = 2e8
# Roundings of a pairwise sum of products (blocks of 128, then a tree), and of the products themselves.
SUM_ERROR = 96
# Backward error of LAPACK's singular values, per unit of dimension (Higham 2002, section 20).
SVD_ERROR = 10
# Steps after which a run may publish, at most; a verification takes twice those.
PUBLISHED_STEPS = (24, 60)
# A bound is published once more steps could take off no more than this share of what it is above the norm of the blocks
# of the bases, or of itself.
OPEN_SHARE, NOTHING = 0.1, 1e-12
PUBLISHED_FAILURE, CHECKED_FAILURE = 1e-12, 1e-10
# Columns of two bases together are orthonormal up to this.
ORTHOGONAL = 1e-13
# Directions added to the factors before deflating, and rounds of block iteration to find them.
EXTRA, EXTRA_ROUNDS = 8, 4


@dataclass(frozen=True)
class TrivialCertificate:
    """The bound 0: every term of the objective is non-negative."""

    kind: Literal["sign"] = "sign"
    failure_probability: float = 0.0


@dataclass(frozen=True)
class DualCertificate:
    """Factors whose residual is the dual point, and how its norm was bounded.

    Attributes
    ----------
    left, right : (m, r), (n, r) float64
        The residual is taken at left @ right.T.
    delta : float
        Huber threshold; inf for least squares.
    norm : {"dense", "deflated"}
    failure_probability : float
        0 for "dense"; the probability that a verification accepts a wrong bound for "deflated".
    steps : int
        Lanczos steps that the bound was published with; how many a verification takes follows from it.
    """

    left: FloatArray
    right: FloatArray
    delta: float
    norm: Literal["dense", "deflated"]
    failure_probability: float
    steps: int = PUBLISHED_STEPS[-1]
    kind: Literal["dual"] = "dual"


@dataclass(frozen=True)
class Drift:
    """How far a recomputed R may move ||R||_2, <R, A> and sum R² / w."""

    norm: float = 0.0
    linear: float = 0.0
    square: float = 0.0


@dataclass(frozen=True)
class DualBound:
    """(1) at the best multiple of the residual, with rounding slack counted once and twice."""

    reestablished: float
    published: float
    norm: Literal["dense", "deflated"]
    steps: int = PUBLISHED_STEPS[-1]


@dataclass(frozen=True)
class NormBound:
    """An upper bound on a spectral norm, its rounding error, and the Lanczos steps that it took."""

    value: float
    slack: float
    steps: int


def published_steps(claimed: Any) -> int:
    """The number of Lanczos steps in a certificate where runs publish with that many, else the largest they do."""
    return claimed if isinstance(claimed, int) and claimed in PUBLISHED_STEPS else PUBLISHED_STEPS[-1]


def affords_dense(shape: tuple[int, int]) -> bool:
    """Whether spectral norms of such matrices are taken from a full decomposition."""
    return min(shape) ** 2 * max(shape) <= DENSE_WORK


def entry_residuals(problem: CompletionProblem, left: FloatArray, right: FloatArray) -> FloatArray:
    """A - left rightᵀ at the observed entries, less the biases."""
    rows, cols = problem.observed.rows, problem.observed.cols
    out = np.empty(len(rows))
    left, right = (np.ascontiguousarray(factor, dtype=np.float64) for factor in (left, right))
    misses(rows, cols, problem.targets, left, right, out)
    return out


def nuclear_norm(problem: CompletionProblem, left: FloatArray, right: FloatArray) -> float:
    """|| D^{1/2} left rightᵀ E^{1/2} ||_* from two triangular factors."""
    r1 = np.asarray(np.linalg.qr(problem.row_scale[:, None] * left, mode="r"))
    r2 = np.asarray(np.linalg.qr(problem.col_scale[:, None] * right, mode="r"))
    return float(np.sum(scipy.linalg.svdvals(r1 @ r2.T, check_finite=False)))


def objective(problem: CompletionProblem, left: FloatArray, right: FloatArray, delta: float) -> tuple[float, float]:
    """The objective at left rightᵀ and a bound on the rounding error of two such evaluations."""
    residual = entry_residuals(problem, left, right)
    weights = problem.observed.weights
    loss = float(np.sum(weights * problem.rho(residual, delta)))
    norm = nuclear_norm(problem, left, right) if problem.reg > 0 else 0.0
    k = left.shape[1]
    lengths = np.sqrt(np.sum(left * left, axis=1)), np.sqrt(np.sum(right * right, axis=1))
    size = np.abs(problem.targets) + lengths[0][problem.observed.rows] * lengths[1][problem.observed.cols]
    slope = np.minimum(np.abs(residual), delta)
    noise = 4 * UNIT * (k + 4) * size
    error = float(np.sum(weights * np.minimum(slope + noise, delta) * noise)) + 4 * SUM_ERROR * UNIT * loss
    scaled = float(
        np.linalg.norm(problem.row_scale[:, None] * left) * np.linalg.norm(problem.col_scale[:, None] * right)
    )
    return loss + problem.reg * norm, error + problem.reg * 8 * SVD_ERROR * UNIT * k * (max(problem.shape) + k) * scaled


def dual_bound(
    problem: CompletionProblem,
    left: FloatArray,
    right: FloatArray,
    delta: float,
    *,
    checking: bool,
    steps: int = PUBLISHED_STEPS[-1],
) -> DualBound:
    """(1) at the residual of left rightᵀ.

    ``checking`` takes twice the Lanczos ``steps`` that a bound was published with, so that it confirms it.
    """
    dual = problem.observed.weights * problem.clipped(entry_residuals(problem, left, right), delta)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = np.where(problem.entry_scale > 0, dual / problem.entry_scale, 0.0)
    linear_terms = dual * problem.targets
    # In this order the product does not underflow where the linear terms do not.
    square_terms = dual * (dual / problem.observed.weights)
    linear, square = float(np.sum(linear_terms)), float(np.sum(square_terms))
    error = SUM_ERROR * UNIT * float(np.sum(np.abs(linear_terms)))
    if not (np.isfinite(scaled).all() and math.isfinite(linear) and math.isfinite(square)):
        return DualBound(0.0, 0.0, "dense")
    m, n = problem.shape
    matrix = problem.observed.matrix(scaled)
    if affords_dense((m, n)):
        bound, kind = NormBound(*dense_norm(matrix), PUBLISHED_STEPS[-1]), "dense"
    else:
        bases = problem.row_scale[:, None] * left, problem.col_scale[:, None] * right
        bound, kind = _deflated_norm(matrix, *bases, checking=checking, steps=steps), "deflated"
    cap = math.inf
    if problem.loss == "huber":
        active = dual != 0
        ratio = problem.observed.weights[active] * delta / np.abs(dual[active])
        cap = float(np.min(ratio, initial=math.inf)) * (1.0 - 4 * UNIT)
    drift = Drift() if checking else _drift(problem, left, right, dual)
    return best_multiple(problem.reg, bound, kind, linear, square, error, cap, drift)  # type: ignore[arg-type]


def _drift(problem: CompletionProblem, left: FloatArray, right: FloatArray, dual: FloatArray) -> Drift:
    """Two evaluations of a residual differ by their roundings, the sums of its products taken in any order."""
    observed = problem.observed
    lengths = np.sqrt(np.sum(left * left, axis=1)), np.sqrt(np.sum(right * right, axis=1))
    size = np.abs(problem.targets) + lengths[0][observed.rows] * lengths[1][observed.cols]
    moved = 2 * UNIT * (left.shape[1] + 4) * observed.weights * size
    scaled = np.where(problem.entry_scale > 0, moved / np.where(problem.entry_scale > 0, problem.entry_scale, 1.0), 0.0)
    return Drift(
        float(np.linalg.norm(scaled)),
        float(np.sum(moved * np.abs(problem.targets))),
        float(np.sum((2.0 * np.abs(dual) + moved) * (moved / observed.weights))),
    )


def best_multiple(
    reg: float,
    norm: NormBound,
    kind: Literal["dense", "deflated"],
    linear: float,
    square: float,
    error: float,
    cap: float = math.inf,
    drift: Drift = Drift(),
) -> DualBound:
    """(1) at the best multiple of R, with ||R||_2 <= norm, <R, A> = linear up to error, and sum R² / w = square."""

    def value(counted: int) -> float:
        """The bound with every rounding error counted so many times, and the drift of R where it is counted twice."""
        moved = drift if counted > 1 else Drift()
        ball = norm.value + counted * norm.slack + moved.norm
        alpha = min(reg / ball if ball > 0 else math.inf, cap, linear / square if square > 0 else 0.0)
        if not alpha > 0:
            return 0.0
        # Two roundings in alpha itself: it is used as if it were smaller.
        alpha *= 1.0 - 8 * UNIT
        loss = counted * (alpha * error + alpha * alpha * SUM_ERROR * UNIT * square)
        loss += alpha * moved.linear + 0.5 * alpha * alpha * moved.square
        return max(0.0, alpha * linear - 0.5 * alpha * alpha * square - loss)

    return DualBound(value(1), value(2), kind, norm.steps)


def dense_norm(matrix: scipy.sparse.csr_array) -> tuple[float, float]:
    """Spectral norm by a full decomposition, and its error."""
    m, n = matrix.shape
    # The decomposition may overflow or lose everything to underflow at extreme sizes: powers of two are exact.
    largest = float(np.max(np.abs(matrix.data), initial=0.0))
    if largest == 0.0:
        return 0.0, 0.0
    unit = 2.0 ** min(math.frexp(largest)[1], 1023)
    dense = matrix.toarray() / unit
    norm = float(scipy.linalg.svdvals(dense, check_finite=False)[0])
    return norm * unit, SVD_ERROR * UNIT * (m + n) * float(np.linalg.norm(dense)) * unit


def _deflated_norm(
    matrix: scipy.sparse.csr_array, left: FloatArray, right: FloatArray, *, checking: bool, steps: int
) -> NormBound:
    transposed = matrix.T.tocsr()
    depth = int(np.max(np.diff(matrix.indptr))) + int(np.max(np.diff(transposed.indptr)))
    size = float(np.linalg.norm(matrix.data))
    return deflated_norm(matrix, transposed, size, depth, left, right, checking=checking, steps=steps)


def deflated_norm(
    matrix: Any,
    transposed: Any,
    frobenius: float,
    depth: int,
    left: FloatArray,
    right: FloatArray,
    *,
    checking: bool,
    steps: int = PUBLISHED_STEPS[-1],
) -> NormBound:
    """An upper bound on the spectral norm, by deflation and Lanczos: twice ``steps`` of it when ``checking``.

    The matrix and its transpose are used by their products with blocks; ``frobenius`` is its norm, ``depth`` the number
    of terms of the longest row and the longest column together.
    """
    numbers = (2 * steps,) if checking else PUBLISHED_STEPS
    failure = CHECKED_FAILURE if checking else PUBLISHED_FAILURE / len(numbers)
    if matrix.shape[1] > matrix.shape[0]:
        matrix, transposed, left, right = transposed, matrix, right, left
    n = matrix.shape[1]
    own = _basis(left), _basis(right)
    p, q = _enriched(matrix, transposed, *own)
    image, coimage = matrix @ q, transposed @ p
    core = p.T @ image
    column = image - p @ core
    row = coimage - q @ core.T
    # Norms of the blocks of [factors, further directions, the rest] on both sides: their matrix has no smaller norm.
    groups_p = slice(0, own[0].shape[1]), slice(own[0].shape[1], p.shape[1])
    groups_q = slice(0, own[1].shape[1]), slice(own[1].shape[1], q.shape[1])
    blocks = np.zeros((3, 3))
    for a in range(2):
        blocks[a, 2] = _top(row[:, groups_p[a]])
        blocks[2, a] = _top(column[:, groups_q[a]])
        for b in range(2):
            blocks[a, b] = _top(core[groups_p[a], groups_q[b]])

    def with_rest(norm: float) -> float:
        blocks[2, 2] = min(norm, frobenius)
        return _top(blocks)

    known = _top(blocks[:2, :2])
    bound, steps = math.inf, 0
    for steps, theta in _ritz_values(matrix, transposed, p, q, numbers):
        epsilon = (math.log(1.648 * math.sqrt(n) / failure) / (2 * steps - 1)) ** 2
        bound = with_rest(theta / math.sqrt(1.0 - epsilon) if epsilon < 1.0 else frobenius)
        least = with_rest(theta)
        if bound - least <= max(OPEN_SHARE * (least - known), NOTHING * least):
            break
    slack = UNIT * (depth + SVD_ERROR * (p.shape[1] + q.shape[1] + steps) + 40) * frobenius
    return NormBound(bound, slack, steps)


def _basis(factor: FloatArray) -> FloatArray:
    """An orthonormal basis of the columns that matter."""
    u, s, _ = np.linalg.svd(factor, full_matrices=False)
    kept = s > 1e-10 * max(float(s[0]) if len(s) else 0.0, np.finfo(np.float64).tiny)
    return np.ascontiguousarray(u[:, kept])


def _enriched(matrix: Any, transposed: Any, p: FloatArray, q: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The bases and a few more directions in which the matrix is large; the bound holds for any bases."""
    width = min(EXTRA, min(matrix.shape) - max(p.shape[1], q.shape[1]))
    if width <= 0:
        return p, q
    block = np.random.default_rng(0).standard_normal((matrix.shape[1], width))
    for _ in range(EXTRA_ROUNDS):
        block -= q @ (q.T @ block)
        image = matrix @ np.linalg.qr(block)[0]
        image -= p @ (p.T @ image)
        image = np.linalg.qr(image)[0]
        block = transposed @ image
    block -= q @ (q.T @ block)
    return _continued(p, image), _continued(q, block)


def _continued(basis: FloatArray, block: FloatArray) -> FloatArray:
    """An orthonormal basis whose first columns are the given ones.

    Columns that QR makes up where the block has nothing more to give may lie in the basis, and are left out.
    """
    for _ in range(2):
        block = np.linalg.qr(block - basis @ (basis.T @ block))[0]
    new = np.linalg.norm(basis.T @ block, axis=0) <= ORTHOGONAL
    return np.ascontiguousarray(np.hstack([basis, block[:, new]]))


def _top(block: FloatArray) -> float:
    return float(scipy.linalg.svdvals(block, check_finite=False)[0]) if block.size else 0.0


def _ritz_values(
    matrix: Any, transposed: Any, p: FloatArray, q: FloatArray, numbers: Sequence[int]
) -> Iterator[tuple[int, float]]:
    """Numbers of steps, ascending, and the root of the largest Ritz value of EᵀE after each, from a uniform start.

    Golub-Kahan bidiagonalisation with full reorthogonalisation. The start comes from fresh entropy on purpose: it
    must not be predictable from anything that the matrix was made from.
    """
    m, n = matrix.shape
    last = min(numbers[-1], n)
    start = np.random.default_rng().standard_normal(n)
    v = start / np.linalg.norm(start)
    vs, us = np.zeros((last, n)), np.zeros((last, m))
    bidiagonal = np.zeros((last, last + 1))
    following = 1.0
    for j in range(last):
        # What is exhausted stays zero: further steps add nothing.
        if following > 0.0:
            vs[j] = v
            # The projections act on both sides, so that the start need not lie in the range of I - QQᵀ.
            inner = v - q @ (q.T @ v)
            u = matrix @ inner
            u -= p @ (p.T @ u)
            u = _orthogonal_to(us[:j], u)
            following = bidiagonal[j, j] = float(np.linalg.norm(u))
        for number in numbers:
            # As many steps as there are dimensions leave nothing to more of them.
            if min(number, n) == j + 1:
                yield number, _top(bidiagonal[: j + 1, : j + 1])
        if following > 0.0 and j + 1 < last:
            us[j] = u / following
            w = us[j] - p @ (p.T @ us[j])
            v = transposed @ w
            v -= q @ (q.T @ v)
            v = _orthogonal_to(vs[: j + 1], v)
            following = bidiagonal[j, j + 1] = float(np.linalg.norm(v))
            v /= following or 1.0


def _orthogonal_to(basis: FloatArray, vector: FloatArray) -> FloatArray:
    """Gram-Schmidt, repeated where it cancelled digits (twice is enough: Kahan, in Parlett 1980, section 6.9).

    What cancels in the repetition as well is rounding, and comes back as zero: it would bring back directions of the basis.
    """
    for _ in range(2):
        before = float(np.linalg.norm(vector))
        vector = vector - basis.T @ (basis @ vector)
        if float(np.linalg.norm(vector)) > 0.5 * before:
            return vector
    return np.zeros_like(vector)
