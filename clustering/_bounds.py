r"""Rigorous lower bounds on the k-means cost, from any dual point.

Let A = W^{1/2} X X^T W^{1/2} for centred points X (n, p) with weights w, q = sqrt(w)/|sqrt(w)|, P = I - q q^T and
T = tr A. For every clustering the membership matrix Z is positive semidefinite and non-negative, Zq = q, tr Z = K, and
its cost is T - <A, Z>. So for **every** symmetric B >= 0

    LB(B) = T - q^T (A + B) q - sum_{j < K} lambda_j(P (A + B) P)  <=  SDP value  <=  optimal cost,     (1)

because <A, Z> <= <A + B, Z>, Z = q q^T + V with V psd, Vq = 0, tr V = K - 1, lambda_max(V) <= 1, and Ky Fan's maximum
principle bounds <A + B, V>. (q^T A q = 0 for centred points; what rounding leaves of it is the *drift*, which matters
where the points agree to the last digits.) No step needs B to be optimal, so any solver's multiplier gives a true
bound.

The *structured* B of a labelling G_1..G_K with total weights n_k, means mu_k and scales t_kl has zero diagonal
blocks and

    r_i^{kl} = max(0, n_l/2 (|x_i - mu_l|^2 - |x_i - mu_k|^2) - t_kl/2 (1 + n_l/n_k)),  i in G_k,
    B_kl = r^{kl} (r^{lk})^T / sqrt(s_kl s_lk),     s_kl = sum_i w_i r_i^{kl}                           (2)

(for weights, rows scaled by sqrt(w)). Then A + B = F G F^T with F of m = p + (number of pairs) columns and G a
permutation, so (1) needs one tall QR factorisation and an m x m eigenproblem.

Every function returns the value of (1) in floating point and a bound on its error. A published bound is reduced by
**twice** that error and verification subtracts it once: then a correct recomputation elsewhere, which may differ by the
error either way, always re-establishes the claim.

Nothing here is used by the iterations that search for B.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from clustering._problem import Groups, KMeansProblem
from clustering._result import BlockProof, BlocksCertificate, MultiplierCertificate, StructuredCertificate
from solvers._core.arrays import Array, FloatArray, IntArray, to_host
from solvers._core.linalg import CHUNK_ROWS, UNIT, row_chunks, tall_r_factor, top_eigenvalue_sum

__all__ = [
    "LowerBound",
    "dense_multiplier",
    "evaluate",
    "is_sound",
    "lower_bound",
    "multiplier_bound",
    "structured_bound",
]

# Constant of the symmetric eigensolver's and the Gram product's backward errors, relative to dimension times UNIT.
EIGEN_ERROR = 10
# Entries of a multiplier whose products still fit into float64.
LARGEST_MULTIPLIER = 1e140
# Relative error, in UNITs, of the quadratic form q^T B q (pairwise sums of non-negative terms).
FORM_ERROR = 128
# Up to this many rows the orthogonal factorisation costs no more than a Gram matrix.
GRAM_ROWS = 4_096


@dataclass(frozen=True)
class LowerBound:
    """A value of (1) with a bound on its rounding error."""

    value: float
    error: float

    @property
    def published(self) -> float:
        """What a result claims; k-means costs are non-negative."""
        return max(0.0, self.value - 2.0 * self.error)

    @property
    def reestablished(self) -> float:
        """What verification proves."""
        return max(0.0, self.value - self.error)


def evaluate(problem: KMeansProblem, certificate: BlockProof | BlocksCertificate) -> LowerBound:
    """The bound of a certificate, from the data; trees are evaluated in :mod:`clustering._tree_bounds`."""
    take = problem.backend.take
    if isinstance(certificate, MultiplierCertificate):
        return multiplier_bound(problem, take(certificate.multiplier))
    if isinstance(certificate, BlocksCertificate):
        return _blocks_bound(problem, certificate)
    return structured_bound(Groups(problem, take(certificate.labels)), certificate.scales)


def _blocks_bound(problem: KMeansProblem, certificate: BlocksCertificate) -> LowerBound:
    """The bound whose published (re-established) value is the sum of the blocks', each of them at least 0."""
    published = reestablished = 0.0
    for rows, proof in zip(certificate.blocks, certificate.proofs, strict=True):
        if proof is not None:
            bound = evaluate(problem.subset(rows), proof)
            published += bound.published
            reestablished += bound.reestablished
    summation = UNIT * len(certificate.blocks) * reestablished
    return LowerBound(2.0 * reestablished - published, reestablished - published + summation)


def is_sound(problem: KMeansProblem, certificate: object) -> bool:
    """Whether a certificate from outside has the shapes and values that :func:`evaluate` relies on."""
    k, n = problem.n_clusters, problem.n
    if isinstance(certificate, StructuredCertificate):
        labels, scales = np.asarray(certificate.labels), np.asarray(certificate.scales)
        return bool(
            labels.shape == (n,)
            and labels.dtype.kind in "iu"
            and np.array_equal(np.unique(labels), np.arange(k))
            and scales.shape == (k, k)
            and scales.dtype.kind in "iuf"
            and not np.isnan(scales).any()
        )
    if isinstance(certificate, MultiplierCertificate):
        multiplier = np.asarray(certificate.multiplier)
        return (
            multiplier.shape == (n, n)
            and multiplier.dtype.kind in "biuf"
            and bool((np.abs(multiplier) < LARGEST_MULTIPLIER).all())
        )
    if isinstance(certificate, BlocksCertificate):
        blocks = [np.asarray(rows) for rows in certificate.blocks]
        if len(blocks) != len(certificate.proofs) or any(rows.ndim != 1 or rows.dtype.kind != "i" for rows in blocks):
            return False
        if not np.array_equal(np.sort(np.concatenate(blocks)), np.arange(n)):
            return False
        return all(
            proof is None or (len(rows) > k and is_sound(problem.subset(rows), proof))
            for rows, proof in zip(blocks, certificate.proofs, strict=True)
        )
    return False


def lower_bound(problem: KMeansProblem) -> tuple[LowerBound, StructuredCertificate]:
    """The bound with B = 0: total scatter less the K - 1 largest principal components. One matrix product.

    The Gram matrix costs more digits than the orthogonal factorisation of :func:`structured_bound`, which verifies it.
    """
    labels = np.zeros(problem.n, dtype=np.int64)
    labels[: problem.n_clusters] = np.arange(problem.n_clusters)
    scales = np.full((problem.n_clusters, problem.n_clusters), np.inf)
    certificate = StructuredCertificate(labels, scales)
    if problem.n <= GRAM_ROWS:
        return evaluate(problem, certificate), certificate
    xp = problem.backend.xp
    rows = xp.expand_dims(xp.sqrt(problem.weights), axis=1) * problem.points
    gram = rows.T @ rows if problem.p <= problem.n else rows @ rows.T
    count = min(problem.n_clusters - 1, gram.shape[0])
    top = top_eigenvalue_sum(to_host(gram), count)
    # Verification re-establishes this bound by another route, so the error must exceed twice the error of that one too:
    # the rows that the orthogonal factorisation passes through are at most the smaller of these two numbers.
    rows_passed = min(4 * (problem.n + problem.n_clusters * (problem.p + 1)), 64 * CHUNK_ROWS) + 20
    spectral = 2 * EIGEN_ERROR * max(problem.n_clusters - 1, 1) * (problem.n + problem.p)
    error = 2 * UNIT * (2 * problem.p * rows_passed + spectral) * problem.scatter
    return _less_drift(problem, LowerBound(problem.scatter - top, error)), certificate


def multiplier_bound(problem: KMeansProblem, multiplier: Array) -> LowerBound:
    """(1) for a dense symmetric multiplier, made non-negative and symmetric first. O(n^3) time, O(n^2) memory."""
    xp = problem.backend.xp
    q = problem.direction
    b = 0.5 * (multiplier + multiplier.T)
    b = xp.where(b > 0, b, xp.zeros_like(b))
    form = float(q @ (b @ q))
    largest = float(xp.max(b)) or 1.0
    norm = largest * math.sqrt(float(xp.sum((b / largest) ** 2)))
    return ky_fan_bound(problem, b, norm, form, form)


def ky_fan_bound(
    problem: KMeansProblem, multiplier: Array, norm: float, form: float, size_of_form: float
) -> LowerBound:
    """T - form - sum of the K - 1 largest eigenvalues of P (A + multiplier) P, for a symmetric multiplier.

    ``norm`` bounds the Frobenius norm of the terms that make up the multiplier and ``size_of_form`` the sum of the
    absolute terms of the quadratic form q^T multiplier q = ``form``; both only enter the error.
    """
    xp = problem.backend.xp
    q = problem.direction
    rows = xp.sqrt(problem.weights)[:, None] * problem.points
    matrix = rows @ rows.T + multiplier
    size = problem.scatter + norm
    image = matrix @ q
    matrix = matrix - xp.expand_dims(image, axis=1) * q - xp.expand_dims(q, axis=1) * image
    matrix = matrix + float(q @ image) * (xp.expand_dims(q, axis=1) * q)
    count = problem.n_clusters - 1
    if count == 0:
        top = 0.0
    elif problem.backend.device is None:
        top = top_eigenvalue_sum(0.5 * (matrix + matrix.T), count)
    else:
        top = float(xp.sum(xp.linalg.eigvalsh(0.5 * (matrix + matrix.T))[-count:]))
    value = problem.scatter - form - top
    error = UNIT * (
        2 * max(count, 1) * EIGEN_ERROR * (problem.n + problem.p) * size + (FORM_ERROR + 2 * problem.n) * size_of_form
    )
    return _less_drift(problem, LowerBound(value, error))


def structured_bound(groups: Groups, scales: FloatArray) -> LowerBound:
    """(1) for the multiplier (2). O(n (p + K)^2) time and O(n (p + K)) memory, or dense where that is smaller."""
    problem = groups.problem
    factors, rho, partners = _structure(groups, scales)
    m = problem.p + sum(len(partner) for partner in partners)
    if m + 1 >= problem.n:
        return multiplier_bound(problem, dense_multiplier(groups, scales))
    return _factored_bound(groups, factors, rho, partners, m)


def dense_multiplier(groups: Groups, scales: FloatArray) -> Array:
    """B of (2) as an (n, n) array in the problem's row order."""
    problem = groups.problem
    xp, device = problem.backend.xp, problem.backend.device
    factors, rho, partners = _structure(groups, scales)
    columns = [_columns(groups, factors, rho, partners, k) for k in range(problem.n_clusters)]
    bands = []
    for k in range(problem.n_clusters):
        blocks = []
        for l in range(problem.n_clusters):
            if rho[k, l] > 0:
                mine = columns[k][:, int(np.flatnonzero(partners[k] == l)[0])]
                theirs = columns[l][:, int(np.flatnonzero(partners[l] == k)[0])]
                blocks.append(xp.expand_dims(mine, axis=1) * theirs)
            else:
                shape = (columns[k].shape[0], columns[l].shape[0])
                blocks.append(xp.zeros(shape, dtype=xp.float64, device=device))
        bands.append(xp.concat(blocks, axis=1))
    inverse = xp.argsort(groups.order, stable=True)
    return xp.take(xp.take(xp.concat(bands, axis=0), inverse, axis=0), inverse, axis=1)


def _structure(groups: Groups, scales: FloatArray) -> tuple[list[Array], FloatArray, list[IntArray]]:
    """The r^{kl} of each cluster, rho_kl = sqrt(s_kl s_lk) (zero where either sum is), and the pairs with rho > 0."""
    factors = [_factor_of(groups, scales, k) for k in range(groups.problem.n_clusters)]
    sums = np.stack([to_host(groups.weights[rows] @ r) for rows, r in zip(groups.slices, factors, strict=True)])
    np.fill_diagonal(sums, 0.0)
    rho = np.sqrt(sums) * np.sqrt(sums.T)
    return factors, rho, [np.flatnonzero(row > 0) for row in rho]


def _factor_of(groups: Groups, scales: FloatArray, k: int) -> Array:
    """r^{kl} of (2) for cluster k, one column per cluster l; zero for l = k and for infinite scales."""
    xp = groups.problem.backend.xp
    take = groups.problem.backend.take
    x = groups.points[groups.slices[k], :]
    offset = groups.means - groups.means[k, :]
    # |x - mu_l|^2 - |x - mu_k|^2 with the origin at mu_k, where it cancels least.
    excess = xp.sum(offset * offset, axis=1) - 2.0 * ((x - groups.means[k, :]) @ offset.T)
    used = np.isfinite(scales[k])
    used[k] = False
    n_l = np.where(used, groups.totals, 0.0)
    threshold = np.where(used, scales[k], 0.0) * (1.0 + groups.totals / groups.totals[k])
    r = 0.5 * take(n_l) * excess - 0.5 * take(np.where(used, threshold, 0.0))
    return xp.where(r > 0, r, xp.zeros_like(r))


def _columns(groups: Groups, factors: list[Array], rho: FloatArray, partners: list[IntArray], k: int) -> Array:
    """sqrt(w) r^{kl} / sqrt(rho_kl) for the partners l of cluster k."""
    xp, take = groups.problem.backend.xp, groups.problem.backend.take
    chosen = xp.take(factors[k], take(partners[k]), axis=1)
    root = xp.sqrt(groups.weights[groups.slices[k]])
    return xp.expand_dims(root, axis=1) * chosen * take(1.0 / np.sqrt(rho[k, partners[k]]))


def _factored_bound(
    groups: Groups, factors: list[Array], rho: FloatArray, partners: list[IntArray], m: int
) -> LowerBound:
    """(1) from R of the QR factorisation of [q, F]: dropping its first row and column leaves R of P F."""
    problem = groups.problem
    xp = problem.backend.xp
    n_clusters, p = problem.n_clusters, problem.p
    begin = np.concatenate([[0], np.cumsum([len(partner) for partner in partners])])
    norms: dict[tuple[int, int], float] = {}
    triangles, depth = [], 0
    for k in range(n_clusters):
        rows = groups.slices[k]
        columns = _columns(groups, factors, rho, partners, k)
        for position, l in enumerate(partners[k]):
            norms[k, int(l)] = float(xp.sqrt(xp.sum(columns[:, position] ** 2)))
        root = xp.expand_dims(xp.sqrt(groups.weights[rows]), axis=1)
        stacked = xp.concat(
            [root / math.sqrt(float(np.sum(groups.totals))), root * groups.points[rows, :], columns], axis=1
        )
        chunks = row_chunks(stacked)
        triangle, path = tall_r_factor(xp, chunks)
        depth = max(depth, path)
        left, right = int(begin[k]), int(begin[-1] - begin[k + 1])
        zeros = [
            xp.zeros((triangle.shape[0], width), dtype=xp.float64, device=problem.backend.device)
            for width in (left, right)
        ]
        triangles.append(xp.concat([triangle[:, : 1 + p], zeros[0], triangle[:, 1 + p :], zeros[1]], axis=1))
    merged, path = tall_r_factor(xp, triangles)
    depth += path
    r = to_host(merged)[1:, 1:]
    place = {(k, int(l)): p + int(begin[k]) + j for k in range(n_clusters) for j, l in enumerate(partners[k])}
    swap = np.arange(m)
    for (k, l), index in place.items():
        swap[index] = place[l, k]
    matrix = r[:, swap] @ r.T
    count = min(n_clusters - 1, matrix.shape[0])
    # Beyond the m eigenvalues all are zero, so negative ones among the largest K - 1 do not count.
    values = np.linalg.eigvalsh(0.5 * (matrix + matrix.T))[::-1][:count]
    top = float(np.sum(np.maximum(values, 0.0)))
    form = float(np.sum(rho)) / float(np.sum(groups.totals))
    size = problem.scatter + sum(norms[k, l] * norms[l, k] for k, l in norms)
    # The sums s_kl are inner products over a cluster, with no order of summation assumed.
    per_entry = depth + 20
    per_sum = max(rows.stop - rows.start for rows in groups.slices) + FORM_ERROR
    error = UNIT * (
        (2 * m * per_entry + 2 * EIGEN_ERROR * max(n_clusters - 1, 1) * m) * size + (per_entry + per_sum) * form
    )
    return _less_drift(problem, LowerBound(problem.scatter - form - top, error))


def _less_drift(problem: KMeansProblem, bound: LowerBound) -> LowerBound:
    """Subtract q^T A q = |sum_i w_i x_i|^2 / sum_i w_i, with the error of an inner product of n terms."""
    xp = problem.backend.xp
    total = xp.sum(problem.weights)
    residue = problem.weights @ problem.points
    drift = float(xp.sum(residue * residue) / total)
    relative = UNIT * (problem.n + problem.p + 8)
    error = relative * (2.0 * math.sqrt(drift * problem.scatter) + relative * problem.scatter)
    # |sqrt(OPT) - sqrt(OPT of the exact rows)| <= blur, and OPT <= scatter.
    error += problem.blur * (2.0 * math.sqrt(problem.scatter) + problem.blur)
    return LowerBound(bound.value - drift, bound.error + error)
