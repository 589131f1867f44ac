"""The relaxation with valid inequalities and separated pairs, the work at one node of branch and bound.

The second block of the splitting method (:mod:`clustering._admm`) becomes {Z >= 0, Z_ij = 0 at separated pairs, <G_c,
Z> <= h_c for the cuts c} (h_c = -r for cliques, else 0), on which Hildreth's method projects T approximately: with S
= sum_c mu_c G_c, Z2 = (T - S)+, Y = T - Z2 and B = rho (S - Y), non-negative except at separated pairs whatever the
accuracy. Host arrays only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clustering import _kernels_cuts as kernels
from clustering import _kernels_numba as spectral_kernels
from clustering._problem import KMeansProblem, largest_eigenvalue
from clustering._spectral import LeadingEigenpairs, Spectrum
from clustering._tree_bounds import clique_entries, clique_level, cut_entries
from solvers._core.arrays import FloatArray, IntArray

__all__ = ["CutRelaxation", "Inherited", "separate_cliques"]

RELAXATION = 1.6
HILDRETH_SWEEPS = 2
BALANCE_EVERY, BALANCE_UNTIL, BALANCE_DEADBAND = 20, 200, 1.2
# Cuts added per round, and per first index of a triple, and the least violation relative to the mean entry of Z.
MOST_CUTS, CUTS_PER_ROW = 6_000, 40
LEAST_VIOLATION = 1e-3
# The same for cliques, relative to their right-hand side.
MOST_CLIQUES, LEAST_CLIQUE_VIOLATION = 500, 1e-2
FIRST_PENALTY = 0.5
FILTER_DEGREE = 6
# Sizes of a multiplier that single precision holds with room for its smaller entries.
SINGLE = 1e-25, 1e35


@dataclass
class Inherited:
    """What a node passes on: T, B scaled, the cuts with their multipliers, and the penalty, for its supernodes."""

    t: FloatArray
    z2: FloatArray
    cuts: IntArray
    mu: FloatArray
    cliques: IntArray
    nu: FloatArray
    rho: float

    def contracted(self, groups: IntArray, weights: FloatArray) -> Inherited:
        """The same for supernodes merged into ``groups``; ``weights`` are those before."""
        size = int(groups.max()) + 1
        totals = np.bincount(groups, weights=weights, minlength=size)
        merge = np.zeros((len(groups), size))
        merge[np.arange(len(groups)), groups] = np.sqrt(weights / totals[groups])
        cuts = groups[self.cuts]
        keep = (cuts[:, 0] != cuts[:, 1]) & (cuts[:, 0] != cuts[:, 2])
        if size == len(groups):
            return Inherited(
                self.t.copy(), self.z2.copy(), self.cuts, self.mu.copy(), self.cliques, self.nu.copy(), self.rho
            )
        cliques = np.sort(groups[self.cliques], axis=1)
        apart = (cliques[:, 1:] != cliques[:, :-1]).all(axis=1)
        # A merged cut has another scale; its multiplier is only a first guess.
        return Inherited(
            merge.T @ self.t @ merge,
            np.maximum(merge.T @ self.z2 @ merge, 0.0),
            cuts[keep],
            self.mu[keep],
            cliques[apart],
            self.nu[apart],
            self.rho,
        )


class CutRelaxation:
    """State of the splitting method on the supernodes of one node."""

    def __init__(self, problem: KMeansProblem, forbidden: np.ndarray, start: Inherited) -> None:
        self.problem = problem
        self.forbidden = forbidden
        rows = np.sqrt(problem.host_weights)[:, None] * problem.host_points
        self.norm = largest_eigenvalue(rows) or 1.0
        self.affinity = (rows @ rows.T) / self.norm
        self.q = np.asarray(problem.direction)
        self.eigenpairs = LeadingEigenpairs(self.q, problem.n_clusters - 1.0, spectral_kernels, FILTER_DEGREE)
        self.rho = start.rho
        self.t, self.z2 = np.ascontiguousarray(start.t), np.ascontiguousarray(start.z2)
        self.s = np.zeros_like(self.t)
        self.level = clique_level(problem.host_weights, problem.n_clusters)
        self.use_cuts(start.cuts, start.mu, start.cliques, start.nu)
        self.matrix = 2.0 * self.z2 - self.t + self.affinity / self.rho
        self.z1 = np.empty_like(self.t)
        self.spectrum: Spectrum | None = None
        self.iterations = 0

    def use_cuts(self, cuts: IntArray, mu: FloatArray, cliques: IntArray, nu: FloatArray) -> None:
        """Replace the cuts; S follows from their multipliers."""
        self.cuts, self.mu = np.ascontiguousarray(cuts), np.ascontiguousarray(mu)
        rows, columns, values = cut_entries(self.cuts, self.problem.host_weights)
        self.rows, self.columns = np.ascontiguousarray(rows), np.ascontiguousarray(columns)
        self.values = np.ascontiguousarray(values)
        half = np.zeros_like(self.t)
        np.add.at(half, (self.rows, self.columns), 0.5 * self.values * self.mu[:, None])
        self.cliques, self.nu = cliques, np.ascontiguousarray(nu)
        rows, columns, values = clique_entries(cliques, self.problem.host_weights)
        self.clique_rows, self.clique_columns = np.ascontiguousarray(rows), np.ascontiguousarray(columns)
        self.clique_values = np.ascontiguousarray(values)
        np.add.at(half, (rows, columns), -0.5 * values * self.nu[:, None])
        self.s = half + half.T

    def iterate(self, count: int, out_of_time: Callable[[], bool]) -> None:
        """So many steps of the splitting method at most, the penalty balanced in the first hundreds."""
        for _ in range(count):
            if out_of_time():
                return
            self.spectrum = Spectrum(*self.eigenpairs.project(self.matrix), self.q)
            factor = self.spectrum.factor()
            np.matmul(factor, factor.T, out=self.z1)
            kernels.relax(self.z1, self.z2, self.t, RELAXATION)
            kernels.project_cuts(
                self.t, self.s, self.forbidden, self.rows, self.columns, self.values, self.mu, HILDRETH_SWEEPS
            )
            if len(self.nu):
                rows, columns, values = self.clique_rows, self.clique_columns, self.clique_values
                kernels.project_cliques(self.t, self.s, self.forbidden, rows, columns, values, self.level, self.nu)
            primal, moved = kernels.split(
                self.z1, self.z2, self.t, self.s, self.forbidden, self.affinity, 1.0 / self.rho, self.matrix
            )
            self.iterations += 1
            if self.iterations % BALANCE_EVERY == 0 and self.iterations <= BALANCE_UNTIL and moved > 0:
                self._balance(math.sqrt(primal), self.rho * math.sqrt(moved))

    def _balance(self, primal: float, dual: float) -> None:
        factor = min(2.0, max(0.5, math.sqrt(primal / dual)))
        if max(factor, 1.0 / factor) <= BALANCE_DEADBAND:
            return
        self.rho *= factor
        self.t = self.z2 + (self.t - self.z2) / factor
        self.s /= factor
        self.mu /= factor
        self.nu /= factor
        self.matrix = 2.0 * self.z2 - self.t + self.affinity / self.rho
        self.eigenpairs.restart()

    def membership(self) -> FloatArray:
        """Z (unscaled): 1 / weight of the cluster where two supernodes are together."""
        roots = np.sqrt(self.problem.host_weights)
        z: FloatArray = self.z2 / (roots[:, None] * roots)
        return z

    def refine_cuts(self) -> int:
        """Drop the cuts without force and add the most violated ones; the number added."""
        z = np.ascontiguousarray(self.z1 / np.sqrt(np.outer(self.problem.host_weights, self.problem.host_weights)))
        threshold = LEAST_VIOLATION / float(np.sum(self.problem.host_weights)) * self.problem.n_clusters
        fresh, violation = kernels.separate(z, threshold, CUTS_PER_ROW)
        if len(fresh) > MOST_CUTS:
            fresh = fresh[np.argsort(-violation, kind="stable")[:MOST_CUTS]]
        active = self.mu > 0.0
        kept, mu = self.cuts[active], self.mu[active]
        size = self.problem.n
        code = np.array([size * size, size, 1])
        fresh = fresh[~np.isin(fresh @ code, kept @ code)]
        in_force = self.nu > 0.0
        cliques = separate_cliques(z, self.problem.n_clusters, self.level * (1.0 - LEAST_CLIQUE_VIOLATION))
        known = set(map(tuple, self.cliques[in_force].tolist()))
        cliques = cliques[[tuple(clique) not in known for clique in cliques.tolist()]]
        self.use_cuts(
            np.concatenate([kept, fresh]),
            np.concatenate([mu, np.zeros(len(fresh))]),
            np.concatenate([self.cliques[in_force], cliques]),
            np.concatenate([self.nu[in_force], np.zeros(len(cliques))]),
        )
        self.eigenpairs.restart()
        return len(fresh) + len(cliques)

    def dual(self) -> tuple[np.ndarray, np.ndarray, FloatArray, np.ndarray, FloatArray]:
        """Multiplier (s, s), cuts and cliques int32, each with their multipliers: a valid dual point."""
        scale = self.rho * self.norm
        b = scale * (self.s - self.t)
        b = 0.5 * (b + b.T)
        b = np.where(self.forbidden, b, np.where(self.z2 > 0.0, 0.0, np.maximum(b, 0.0)))
        used = self.mu > 0.0
        tight = self.nu > 0.0
        return (
            b.astype(np.float32) if SINGLE[0] < np.max(np.abs(b)) < SINGLE[1] else b,
            self.cuts[used].astype(np.int32),
            scale * self.mu[used],
            self.cliques[tight].astype(np.int32),
            scale * self.nu[tight],
        )

    def state(self) -> Inherited:
        """What children start from."""
        used = self.mu > 0.0
        tight = self.nu > 0.0
        return Inherited(self.t, self.z2, self.cuts[used], self.mu[used], self.cliques[tight], self.nu[tight], self.rho)


def separate_cliques(z: FloatArray, n_clusters: int, level: float) -> IntArray:
    """Distinct sets of K + 1 rows, in order, over whose pairs Z sums to less than ``level``: greedy from every row."""
    size = len(z)
    if size <= n_clusters:
        return np.empty((0, n_clusters + 1), dtype=np.int64)
    everyone = np.arange(size)
    members, totals, sums = [everyone], np.zeros(size), z.copy()
    np.fill_diagonal(sums, np.inf)
    for _ in range(n_clusters):
        chosen = np.argmin(sums, axis=1)
        totals += sums[everyone, chosen]
        sums += z[chosen]
        sums[everyone, chosen] = np.inf
        members.append(chosen)
    order = np.argsort(totals, kind="stable")[:MOST_CLIQUES]
    order = order[totals[order] < level]
    cliques: IntArray = np.unique(np.sort(np.stack(members, axis=1)[order], axis=1), axis=0)
    return cliques
