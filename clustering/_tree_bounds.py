r"""Rigorous bounds of branch and bound: what one leaf proves, and that the leaves cover everything.

A leaf fixes pairs of points to be together or apart. Together: contract them (see :mod:`clustering._links`), which
leaves a weighted problem and a constant c. Apart: Z_ij = 0, so that the multiplier B_ij may have any sign. With the
valid inequalities, for Z_ij = [i, j together] / (weight of their cluster),

    pair (i, j, j):         Z_ij <= Z_ii,
    triangle (i, j, l):     Z_ij + Z_il <= Z_ii + Z_jl,
    clique Q, |Q| = K + 1:  sum_{i < j in Q} Z_ij >= r,

written as <G_c, Z> <= 0, or -r for the cliques, with multipliers mu_c >= 0, every clustering of the leaf costs at least

    c + T + r sum_{cliques} mu_c - q^T M q - sum_{k < K} lambda_k(P (A + M) P),
    M = B - sum_c mu_c W^{-1/2} G_c W^{-1/2}.

Of K + 1 supernodes two share a cluster, and no cluster is heavier than all supernodes but the K - 1 lightest, because
the K - 1 other clusters hold one at least: r is one over that weight. The rest is by the argument of
:mod:`clustering._ky_fan`, for every symmetric B that is non-negative except at separated pairs. The bound of a tree
is the least of its leaves; the leaves cover the problem if their decisions form a binary tree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from clustering._ky_fan import LowerBound, ky_fan_bound
from clustering._links import Links
from clustering._problem import KMeansProblem
from clustering._result import Decision, LeafProof, TreeCertificate
from solvers._core.arrays import FloatArray, IntArray
from solvers._core.linalg import UNIT

__all__ = ["clique_entries", "clique_level", "covers", "cut_entries", "evaluate_leaf", "evaluate_tree", "is_sound_tree"]

# Rounding of the contraction: sums of squares of p coordinates, twice centred.
CONTRACTION_ERROR = 64
# Of a multiplier's entries: beyond, their squares overflow.
LARGEST_TERM = 1e140


def evaluate_tree(problem: KMeansProblem, certificate: TreeCertificate) -> LowerBound:
    """The bound whose published (re-established) value is the least of the leaves'."""
    user = Links(certificate.must, certificate.cannot)
    bounds = [evaluate_leaf(problem, user, leaf) for leaf in certificate.leaves]
    published = min((bound.published for bound in bounds), default=math.inf)
    reestablished = min((bound.reestablished for bound in bounds), default=math.inf)
    if math.isinf(published):
        return LowerBound(math.inf, 0.0)
    return LowerBound(2.0 * reestablished - published, reestablished - published)


def evaluate_leaf(problem: KMeansProblem, user: Links, leaf: LeafProof) -> LowerBound:
    """The bound of a leaf's dual point; infinite where the leaf is empty because its pairs contradict each other."""
    links = user
    for i, j, together in leaf.path:
        links = links.with_pair((i, j), together)
    smaller, _, conflicts, constant = links.contract(problem)
    if conflicts.diagonal().any() or smaller.n < problem.n_clusters:
        return LowerBound(math.inf, 0.0)
    if leaf.multiplier is None:
        return LowerBound(0.0, 0.0)
    b = np.asarray(leaf.multiplier, dtype=np.float64)
    b = 0.5 * (b + b.T)
    b = np.where(conflicts, b, np.maximum(b, 0.0))
    rows, columns, values = cut_entries(np.asarray(leaf.cuts, dtype=np.int64), smaller.host_weights)
    mu = np.maximum(np.asarray(leaf.cut_multipliers, dtype=np.float64), 0.0)
    cliques = np.asarray(leaf.cliques, dtype=np.int64).reshape(-1, problem.n_clusters + 1)
    nu = np.maximum(np.asarray(leaf.clique_multipliers, dtype=np.float64), 0.0)
    clique_rows, clique_columns, clique_values = clique_entries(cliques, smaller.host_weights)
    if max(_largest(values) * _largest(mu), _largest(clique_values) * _largest(nu)) > LARGEST_TERM:
        return LowerBound(-math.inf, 0.0)
    cuts, sizes = np.zeros_like(b), np.zeros_like(b)
    # Each entry of the lists stands for itself and its mirror image with half the value.
    weighted = values * mu[:, None]
    np.add.at(cuts, (rows, columns), 0.5 * weighted)
    np.add.at(sizes, (rows, columns), 0.5 * np.abs(weighted))
    weighted = clique_values * nu[:, None]
    np.add.at(cuts, (clique_rows, clique_columns), -0.5 * weighted)
    np.add.at(sizes, (clique_rows, clique_columns), 0.5 * weighted)
    gain = clique_level(smaller.host_weights, problem.n_clusters) * float(np.sum(nu))
    cuts, sizes = cuts + cuts.T, sizes + sizes.T
    q = np.asarray(smaller.direction)
    multiplier = b - cuts
    absolute = np.abs(b) + sizes
    form, size_of_form = float(q @ (multiplier @ q)), float(q @ (absolute @ q))
    norm = math.sqrt(float(np.sum(absolute * absolute)))
    bound = ky_fan_bound(smaller, multiplier, norm, form, size_of_form)
    # Sums over the cuts, and the weights of the supernodes, themselves sums.
    terms = 4.0 * len(mu) + float(clique_values.size) + 2.0 * problem.n + 16.0
    extra = UNIT * (
        CONTRACTION_ERROR * (problem.p + 16) * problem.scatter
        + problem.n_clusters * terms * norm
        + terms * (size_of_form + gain)
    )
    return LowerBound(constant + gain + bound.value, bound.error + extra)


def cut_entries(cuts: IntArray, weights: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
    """Rows, columns and values (m, 4) of the scaled cuts W^{-1/2} G_c W^{-1/2}: <G_c, Z> = sum_e value_e Z_e.

    Pairs have two entries; theirs are padded with zeros.
    """
    i, j, l = cuts.reshape(-1, 3).T
    is_pair = j == l
    rows = np.stack([i, i, i, j], axis=1)
    columns = np.stack([j, i, np.where(is_pair, i, l), np.where(is_pair, j, l)], axis=1)
    signs = np.stack([np.ones(len(i)), -np.ones(len(i)), np.where(is_pair, 0.0, 1.0), np.where(is_pair, 0.0, -1.0)], 1)
    return rows, columns, signs / np.sqrt(weights[rows] * weights[columns])


def _largest(values: FloatArray) -> float:
    return float(np.max(np.abs(values), initial=0.0))


def clique_entries(cliques: IntArray, weights: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
    """Rows, columns and values (c, K (K + 1) / 2) of the scaled sum of Z over the pairs of each clique."""
    i, j = np.triu_indices(cliques.shape[1], 1)
    rows, columns = cliques[:, i], cliques[:, j]
    return rows, columns, 1.0 / np.sqrt(weights[rows] * weights[columns])


def clique_level(weights: FloatArray, n_clusters: int) -> float:
    """One over the weight of all supernodes but the K - 1 lightest."""
    return 1.0 / float(np.sum(np.sort(weights)[n_clusters - 1 :]))


def covers(paths: Sequence[tuple[Decision, ...]]) -> bool:
    """Whether the decisions of the leaves form a complete binary tree."""
    if len(paths) == 1:
        return len(paths[0]) == 0
    if not paths or any(not path for path in paths):
        return False
    if len({path[0][:2] for path in paths}) != 1:
        return False
    together = [path[1:] for path in paths if path[0][2]]
    apart = [path[1:] for path in paths if not path[0][2]]
    return covers(together) and covers(apart)


def is_sound_tree(problem: KMeansProblem, certificate: TreeCertificate) -> bool:
    """Whether a certificate from outside has the shapes and values that the evaluation relies on, and covers."""
    user = Links(certificate.must, certificate.cannot)
    pairs = [*user.must, *user.cannot, *((i, j) for leaf in certificate.leaves for i, j, _ in leaf.path)]
    if any(not (0 <= i < problem.n and 0 <= j < problem.n and i != j) for i, j in pairs):
        return False
    if not covers([tuple((i, j, bool(together)) for i, j, together in leaf.path) for leaf in certificate.leaves]):
        return False
    return all(_is_sound_leaf(problem, user, leaf) for leaf in certificate.leaves)


def _is_sound_leaf(problem: KMeansProblem, user: Links, leaf: LeafProof) -> bool:
    if leaf.multiplier is None:
        return True
    links = user
    for i, j, together in leaf.path:
        links = links.with_pair((i, j), together)
    size = int(links.supernodes(problem.n).max()) + 1
    cuts, mu = np.asarray(leaf.cuts), np.asarray(leaf.cut_multipliers)
    if np.asarray(leaf.multiplier).shape != (size, size) or cuts.ndim != 2 or cuts.shape != (len(mu), 3):
        return False
    if cuts.dtype.kind not in "iu" or (cuts.size and (cuts.min() < 0 or cuts.max() >= size)):
        return False
    cliques, nu = np.asarray(leaf.cliques), np.asarray(leaf.clique_multipliers)
    if nu.ndim != 1 or cliques.ndim != 2 or len(cliques) != len(nu) or not np.isfinite(nu).all():
        return False
    if len(nu):
        if cliques.shape[1] != problem.n_clusters + 1 or cliques.dtype.kind not in "iu":
            return False
        ordered = np.sort(cliques, axis=1)
        if ordered.min() < 0 or ordered.max() >= size or (ordered[:, 1:] == ordered[:, :-1]).any():
            return False
    distinct = (cuts[:, 0] != cuts[:, 1]) & (cuts[:, 0] != cuts[:, 2]) if len(cuts) else np.ones(0, dtype=np.bool_)
    return bool(np.isfinite(leaf.multiplier).all() and np.isfinite(mu).all() and distinct.all())
