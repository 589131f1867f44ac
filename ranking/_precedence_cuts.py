r"""The linear relaxation of linear ordering with three-cycle inequalities, by cutting planes.

Over one variable x_ij in [0, 1] per pair i < j (1 - x_ij for the other direction), maximise the score subject to
0 <= x_ij + x_jk - x_ik <= 1 for i < j < k: the two cycles on three items. Violated inequalities are added round by
round; the multipliers of each round are weights of cycles, and whatever they are, they prove a bound.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.optimize
import scipy.sparse

from ranking._precedence_bounds import CycleCertificate
from solvers._core.arrays import FloatArray, IntArray

__all__ = ["cutting_planes"]

# Inequalities added in a round, per pair of items, and the violation from which they are.
CUTS_PER_PAIR = 2.0
VIOLATED = 1e-6
# Sizes of the scores that HiGHS is asked to handle; they are scaled to it.
LARGEST_COEFFICIENT = 1e3


def cutting_planes(scores: FloatArray) -> Iterator[tuple[CycleCertificate, FloatArray]]:
    """Rounds of the relaxation: a certificate, and for each item the expected number of items before it."""
    n = len(scores)
    first, second = np.triu_indices(n, 1)
    place = np.zeros((n, n), dtype=np.int64)
    place[first, second] = np.arange(len(first))
    difference = scores[first, second] - scores[second, first]
    size = float(np.max(np.abs(difference), initial=0.0))
    if size == 0.0:
        return
    objective = -difference * (LARGEST_COEFFICIENT / size)
    triples = np.empty((0, 3), dtype=np.int64)
    upper = np.empty(0, dtype=bool)
    while True:
        rows = _rows(triples, place, len(first))
        signs = np.where(upper, 1.0, -1.0)
        found = scipy.optimize.linprog(
            objective,
            A_ub=scipy.sparse.diags_array(signs) @ rows if len(triples) else None,
            b_ub=np.where(upper, 1.0, 0.0) if len(triples) else None,
            bounds=(0.0, 1.0),
            method="highs",
        )
        if found.status != 0:
            return
        x = np.zeros((n, n))
        values = np.asarray(found.x)
        x[first, second], x[second, first] = values, 1.0 - values
        weights = (
            np.maximum(-found.ineqlin.marginals, 0.0) * (size / LARGEST_COEFFICIENT) if len(triples) else np.empty(0)
        )
        used = weights > 0
        yield CycleCertificate(_cycles(triples[used], upper[used]), weights[used]), x.sum(axis=0)
        new, new_upper = _violated(x, int(CUTS_PER_PAIR * len(first)))
        if not len(new):
            return
        # Inequalities without a multiplier are dropped: they are found again if they matter.
        triples, upper = np.concatenate([triples[used], new]), np.concatenate([upper[used], new_upper])


def _rows(triples: IntArray, place: IntArray, pairs: int) -> scipy.sparse.csr_array:
    """x_ij + x_jk - x_ik of each triple as a sparse row."""
    i, j, k = triples.T
    columns = np.column_stack([place[i, j], place[j, k], place[i, k]]).ravel()
    values = np.tile([1.0, 1.0, -1.0], len(triples))
    return scipy.sparse.csr_array((values, columns, 3 * np.arange(len(triples) + 1)), shape=(len(triples), pairs))


def _cycles(triples: IntArray, upper: IntArray) -> IntArray:
    """The cycle that an inequality breaks: i j k where x_ij + x_jk - x_ik <= 1, i k j where it is >= 0."""
    return np.where(upper[:, None], triples, triples[:, [0, 2, 1]])


def _violated(x: FloatArray, most: int) -> tuple[IntArray, IntArray]:
    """The most violated inequalities, as triples and a flag for the upper one."""
    n = len(x)
    found, flags, sizes = [], [], []
    for i in range(n - 2):
        inner = x[i, i + 1 :, None] + x[i + 1 :, i + 1 :] - x[i, None, i + 1 :]
        inner[np.tril_indices(len(inner))] = 0.5
        for upper, excess in ((True, inner - 1.0), (False, -inner)):
            j, k = np.nonzero(excess > VIOLATED)
            found.append(np.column_stack([np.full(len(j), i), j + i + 1, k + i + 1]))
            flags.append(np.full(len(j), upper))
            sizes.append(excess[j, k])
    if not found:
        return np.empty((0, 3), dtype=np.int64), np.empty(0, dtype=bool)
    chosen = np.argsort(-np.concatenate(sizes), kind="stable")[:most]
    return np.concatenate(found)[chosen], np.concatenate(flags)[chosen]
