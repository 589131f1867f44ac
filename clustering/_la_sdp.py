"""The likelihood-adjusted relaxation at fixed covariances, by a two-block splitting method.

    min sum_k <C_k, Z_k>   subject to   Z_k psd, tr Z_k = 1,   W_k >= 0, (sum_k W_k) 1 = 1,   Z_k = W_k

with C_k of :mod:`clustering._likelihood` (Zhuang, Chen and Yang 2022). Block 1 projects the spectra of
V_k = sym(W_k - Y_k) - C_k / rho on the simplex, block 2 the rows of all T_k = Z_k + Y_k (over-relaxed) together. With
the thresholds tau of block 2, y = -rho tau and B_k = sym rho (tau 1^T - T_k)+ is a dual point.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from clustering import _kernels_numba as spectral_kernels
from clustering import _kernels_rows as kernels
from clustering._likelihood import GaussianModel
from clustering._spectral import LeadingEigenpairs
from solvers._core.arrays import FloatArray, IntArray

__all__ = ["Assignment", "LikelihoodRelaxation", "Rounding"]

# Labels from the row sums (K, n) of the Z_k and, on demand, the K leading eigenvectors (n, K) of their sum.
Rounding = Callable[[FloatArray, Callable[[], FloatArray]], IntArray]

RELAXATION = 1.6
FILTER_DEGREE = 4
CHECK_EVERY = 10
BALANCE_EVERY, BALANCE_UNTIL, BALANCE_DEADBAND = 20, 200, 1.2
# |Z - W| below which the primal value may be compared with the bound.
NEARLY_FEASIBLE = 0.1


@dataclass(frozen=True)
class Assignment:
    """Labels rounded from the relaxation, their NLL at the covariances given, and the dual point (y, B_k)."""

    labels: IntArray
    nll: float
    estimate: float
    y: FloatArray
    multipliers: FloatArray


class LikelihoodRelaxation:
    """State of the method; kept between rounds with different covariances."""

    def __init__(self, points: FloatArray, labels: IntArray, n_clusters: int) -> None:
        n = len(points)
        self.points, self.n_clusters = points, n_clusters
        counts = np.bincount(labels, minlength=n_clusters)
        self.w = np.stack(
            [np.outer(labels == k, labels == k) / max(int(counts[k]), 1) for k in range(n_clusters)]
        ).astype(np.float64)
        self.t = self.w.copy()
        self.tau = np.zeros(n)
        self.rho = 0.0
        self.z = np.empty_like(self.w)
        self.v = np.empty_like(self.w)

    def solve(
        self,
        model: GaussianModel,
        labels: IntArray,
        tol: float,
        max_iter: int,
        rounding: Rounding,
        out_of_time: Callable[[], bool],
    ) -> Assignment:
        """Iterate to a gap of ``tol`` nats per point, from where the state stands; ``labels`` are the ones to beat."""
        n = len(self.points)
        costs = np.stack([model.cost_matrix(self.points, k) for k in range(self.n_clusters)])
        if self.rho == 0.0:
            self.rho = max(_centred_norm(cost) for cost in costs) or 1.0
        spectra = [LeadingEigenpairs(None, 1.0, spectral_kernels, FILTER_DEGREE) for _ in range(self.n_clusters)]
        best, least = labels, model.nll(self.points, labels)
        lower, dual = -math.inf, self._dual(costs)
        for iteration in range(1, max_iter + 1):
            kernels.next_arguments(self.w, self.t, costs, 1.0 / self.rho, self.v)
            for k, spectrum in enumerate(spectra):
                values, vectors = spectrum.project(self.v[k])
                factor = vectors * np.sqrt(values)
                np.matmul(factor, factor.T, out=self.z[k])
            primal, moved = kernels.project_rows(
                self.z, self.w, self.t, self.tau, RELAXATION, kernels.MOST_NEWTON_STEPS
            )
            if iteration % CHECK_EVERY == 0 or iteration == max_iter:
                candidate = self._dual(costs)
                if candidate[0] > lower:
                    lower, dual = candidate[0], candidate
                rounded = rounding(self.w.sum(axis=2), self._leading)
                value = model.nll(self.points, rounded)
                if value < least:
                    best, least = rounded, value
                objective = float(np.sum(costs * self.z))
                solved = abs(objective - lower) <= tol * n and math.sqrt(primal) <= NEARLY_FEASIBLE
                if least - lower <= tol * n or solved or out_of_time():
                    break
            if iteration % BALANCE_EVERY == 0 and iteration <= BALANCE_UNTIL and moved > 0:
                self._balance(math.sqrt(primal / moved), spectra)
        return Assignment(best, least, *dual)

    def _leading(self) -> FloatArray:
        together = self.w.sum(axis=0)
        vectors: FloatArray = np.linalg.eigh(0.5 * (together + together.T))[1][:, -self.n_clusters :]
        return vectors

    def _balance(self, ratio: float, spectra: list[LeadingEigenpairs]) -> None:
        factor = min(2.0, max(0.5, math.sqrt(ratio)))
        if 1.0 / BALANCE_DEADBAND <= factor <= BALANCE_DEADBAND:
            return
        self.rho *= factor
        self.t = self.w + (self.t - self.w) / factor
        self.tau = self.tau / factor
        for spectrum in spectra:
            spectrum.restart()

    def _dual(self, costs: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Estimated bound, y and B_k."""
        n = len(self.tau)
        y = -self.rho * self.tau
        multipliers = self.rho * np.maximum(self.tau[:, None] - self.t, 0.0)
        multipliers = 0.5 * (multipliers + multipliers.transpose(0, 2, 1))
        total = float(np.sum(y))
        for cost, b in zip(costs, multipliers, strict=True):
            slack = cost - 0.5 * (y[:, None] + y) - b
            total += float(scipy.linalg.eigvalsh(slack, subset_by_index=(0, 0), check_finite=False)[0]) if n else 0.0
        return total, y, multipliers


def _centred_norm(cost: FloatArray) -> float:
    centred = cost - cost.mean(axis=0)
    centred = centred - centred.mean(axis=1)[:, None]
    return float(np.linalg.norm(centred))
