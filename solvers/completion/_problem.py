r"""The completion problem as data: what was observed, with which weights, and in which coordinates.

With observed set Omega, loss rho and nuclear norm the problem is

    min over X of rank at most k:   sum_Omega w_ij rho(X_ij - A_ij) + reg * || D^{1/2} X E^{1/2} ||_*

with D = E = I (``reg_scaling="plain"``) or the diagonal matrices of row and column counts ("count"). In the *scaled*
coordinates X~ = D^{1/2} X E^{1/2} the second is an instance of the first: the entries become A_ij sqrt(d_i e_j), the
weights w_ij / (d_i e_j) and a Huber threshold delta sqrt(d_i e_j).

Without a penalty, factors can bend to gross outliers and pay less Huber loss than the truth: one row that runs through
a few of them by a spike is enough. Where the threshold is the run's to choose, the loss is therefore capped at
rho(4 delta): entries beyond are outliers, and pull at nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.errors import InvalidProblemError
from solvers._core.options import check_choice, check_integer, check_number
from solvers.completion._biases import MAD_TO_SIGMA, two_way_effects
from solvers.completion._observations import Observations

__all__ = ["CompletionProblem", "completion_problem", "refuse_extreme"]

# Entries further off than so many Huber thresholds (5.4 standard deviations of normal noise) are outliers.
OUTLYING = 4.0
# Largest absolute entry, and reciprocal of the smallest such: sums of products of four such numbers stay finite.
EXTREME = 1e70


@dataclass(frozen=True)
class CompletionProblem:
    """Everything that defines the objective, in the caller's units.

    Attributes
    ----------
    observed : Observations
        The entries that are fitted (those held out are not among them), with the caller's values.
    held : Observations
        The entries that were held out; may be empty.
    targets : (N,) float64
        Observed values less the biases.
    rank : int
    reg : float
    row_scale, col_scale : (m,), (n,) float64
        Square roots of D and E; ones for the plain norm, 0 for empty rows and columns under "count".
    loss : {"l2", "huber"}
    delta : float or None
        Huber threshold; None where the run chooses it.
    row_bias, col_bias : (m,), (n,) float64
    row_shrinkage : float
        Weight with which row effects are pulled to their mean; 0 without biases.
    """

    observed: Observations
    held: Observations
    targets: FloatArray
    rank: int
    reg: float
    row_scale: FloatArray
    col_scale: FloatArray
    loss: str
    delta: float | None
    row_bias: FloatArray
    col_bias: FloatArray
    row_shrinkage: float = 0.0
    counted: bool = field(default=False)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.observed.shape

    @property
    def size(self) -> int:
        """Number of fitted entries."""
        return self.observed.size

    @property
    def row_counts(self) -> IntArray:
        """Fitted entries per row."""
        return self.observed.row_counts

    @property
    def col_counts(self) -> IntArray:
        """Fitted entries per column."""
        return self.observed.col_counts

    @property
    def typical(self) -> float:
        """Root mean square of the targets; a median where outliers are expected."""
        return math.sqrt(float(np.mean(self.targets**2))) if self.loss == "l2" else self.spread

    @property
    def largest(self) -> float:
        """Greatest absolute value among the entries."""
        return float(np.max(np.abs(self.observed.values)))

    @property
    def capped(self) -> bool:
        """Whether outliers cost a constant and are listed."""
        return self.loss == "huber" and self.delta is None and self.reg == 0.0

    @cached_property
    def entry_scale(self) -> FloatArray:
        """sqrt(d_i e_j) of each observed entry."""
        return self.row_scale[self.observed.rows] * self.col_scale[self.observed.cols]

    @cached_property
    def spread(self) -> float:
        """1.4826 times the median absolute target: a scale that outliers do not move."""
        spread = MAD_TO_SIGMA * float(np.median(np.abs(self.targets)))
        return spread if spread > 0 else float(np.max(np.abs(self.targets), initial=0.0)) or 1.0

    def size_of(self, delta: float) -> float:
        """The objective at X = 0, the documented size of the problem."""
        return float(np.sum(self.observed.weights * self.rho(self.targets, delta)))

    def rho(self, residual: FloatArray, delta: float) -> FloatArray:
        """Loss of each residual."""
        if self.loss == "l2":
            return 0.5 * residual * residual
        size = np.abs(residual)
        if self.capped:
            size = np.minimum(size, OUTLYING * delta)
        return np.where(size <= delta, 0.5 * size * size, delta * (size - 0.5 * delta))

    def clipped(self, residual: FloatArray, delta: float) -> FloatArray:
        """Derivative of the loss at each residual; of the loss before it is capped."""
        return residual if self.loss == "l2" else np.clip(residual, -delta, delta)

    def outlying(self, residual: FloatArray, delta: float) -> npt.NDArray[np.bool_]:
        """Which entries are outliers; none where all would be."""
        beyond: npt.NDArray[np.bool_] = np.abs(residual) > (OUTLYING * delta if self.capped else math.inf)
        return beyond & ~beyond.all()


def completion_problem(
    observed: Observations,
    held: Observations,
    rank: int,
    *,
    reg: float,
    reg_scaling: str,
    loss: str,
    delta: Any,
    biases: bool,
) -> CompletionProblem:
    """Validate the problem options and fit the biases."""
    m, n = observed.shape
    rank = check_integer("rank", rank, low=1)
    if rank > min(m, n):
        triplets = "; pass a table of triplets as (rows, cols, values, shape)" if n == 3 else ""
        raise InvalidProblemError(
            f"rank must be at most min(m, n) = {min(m, n)} for a {m} x {n} matrix; got {rank}{triplets}"
        )
    reg = check_number("reg", reg, low=0.0)
    check_choice("reg_scaling", reg_scaling, ("plain", "count"))
    check_choice("loss", loss, ("l2", "huber"))
    if not isinstance(biases, (bool, np.bool_)):
        raise TypeError(f"biases must be True or False; got {biases!r}")
    if isinstance(delta, str):
        check_choice("delta", delta, ("auto",))
        threshold = None if loss == "huber" else math.inf
    else:
        if loss == "l2":
            raise InvalidProblemError(f"delta belongs to loss='huber'; got delta={delta!r} with loss='l2'")
        threshold = check_number("delta", delta, low=0.0, strict=True)
    counted = reg_scaling == "count" and reg > 0
    refuse_extreme(float(np.max(np.abs(observed.values))), float(np.max(observed.weights)))
    effects = two_way_effects(observed, robust=loss == "huber") if biases else (np.zeros(m), np.zeros(n), 0.0)
    row_bias, col_bias, row_shrinkage = effects
    return CompletionProblem(
        observed=observed,
        held=held,
        targets=observed.values - row_bias[observed.rows] - col_bias[observed.cols],
        rank=rank,
        reg=reg,
        row_scale=np.sqrt(observed.row_counts.astype(np.float64)) if counted else np.ones(m),
        col_scale=np.sqrt(observed.col_counts.astype(np.float64)) if counted else np.ones(n),
        loss=loss,
        delta=threshold,
        row_bias=row_bias,
        col_bias=col_bias,
        row_shrinkage=row_shrinkage,
        counted=counted,
    )


def refuse_extreme(largest: float, heaviest: float) -> None:
    """The objective sums squares: outside this range they overflow, or lose the data to underflow."""
    for name, size in (("A", largest), ("weights", math.sqrt(heaviest)), ("weighted A", largest * math.sqrt(heaviest))):
        if size and not 1.0 / EXTREME <= size <= EXTREME:
            raise InvalidProblemError(
                f"{name} is out of range: squares of {size:.3g} leave the range of float64; divide A by a number near "
                f"its largest entry, {largest:.3g} (a factor c in A scales fun by c^2 and reg by c)"
            )
