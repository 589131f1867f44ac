"""Rigorous lower bounds on the k-means cost: what each kind of certificate proves, evaluated from the data.

Multipliers and the inequality behind all bounds are in :mod:`clustering._ky_fan`, the multipliers that labels give in
:mod:`clustering._structured_bounds`, leaves of branch and bound in :mod:`clustering._tree_bounds`.
"""

from __future__ import annotations

import numpy as np

from clustering._ky_fan import EIGEN_ERROR, LowerBound, less_drift, multiplier_bound
from clustering._line_bounds import is_sound_line, line_bound
from clustering._problem import Groups, KMeansProblem
from clustering._result import (
    BlockProof,
    BlocksCertificate,
    LineCertificate,
    MultiplierCertificate,
    StructuredCertificate,
)
from clustering._structured_bounds import structured_bound
from solvers._core.arrays import to_host
from solvers._core.linalg import CHUNK_ROWS, UNIT, top_eigenvalue_sum

__all__ = ["evaluate", "is_sound", "lower_bound"]

# Entries of a multiplier whose products still fit into float64.
LARGEST_MULTIPLIER = 1e140
# Cuts of a certificate, at most: each is a column of F.
MOST_CUTS = 500
# Up to this many rows the orthogonal factorisation costs no more than a Gram matrix.
GRAM_ROWS = 4_096


def evaluate(problem: KMeansProblem, certificate: BlockProof | BlocksCertificate | LineCertificate) -> LowerBound:
    """The bound of a certificate, from the data; trees are evaluated in :mod:`clustering._tree_bounds`."""
    take = problem.backend.take
    if isinstance(certificate, MultiplierCertificate):
        return multiplier_bound(problem, take(certificate.multiplier))
    if isinstance(certificate, BlocksCertificate):
        return _blocks_bound(problem, certificate)
    if isinstance(certificate, LineCertificate):
        return line_bound(problem, certificate)
    cuts = (certificate.cuts, certificate.cut_multipliers)
    return structured_bound(Groups(problem, take(certificate.labels)), certificate.scales, *cuts)


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
            and _are_cuts(np.asarray(certificate.cuts), np.asarray(certificate.cut_multipliers), labels)
        )
    if isinstance(certificate, MultiplierCertificate):
        multiplier = np.asarray(certificate.multiplier)
        return (
            multiplier.shape == (n, n)
            and multiplier.dtype.kind in "biuf"
            and bool((np.abs(multiplier) < LARGEST_MULTIPLIER).all())
        )
    if isinstance(certificate, LineCertificate):
        return is_sound_line(problem, certificate)
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


def _are_cuts(cuts: np.ndarray, multipliers: np.ndarray, labels: np.ndarray) -> bool:
    """Whether each cut names a row and a cluster that is not the row's, with a multiplier that fits into float64."""
    if cuts.ndim != 2 or cuts.shape[1] != 2 or cuts.dtype.kind != "i" or len(cuts) > MOST_CUTS:
        return False
    if multipliers.shape != (len(cuts),) or multipliers.dtype.kind != "f":
        return False
    rows, others = cuts.T
    inside = ((rows >= 0) & (rows < len(labels)) & (others >= 0) & (others <= labels.max())).all()
    return bool(
        inside and (labels[rows] != others).all() and ((multipliers >= 0) & (multipliers < LARGEST_MULTIPLIER)).all()
    )


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
    return less_drift(problem, LowerBound(problem.scatter - top, error)), certificate
