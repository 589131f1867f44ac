r"""Row and column effects, shrunk as much as the data say.

Entries are modelled as

    A_ij = mu + r_i + c_j + e_ij,    var r_i = a,  var c_j = b,  var e_ij = s / w_ij,

and the effects are their best linear predictions: ridge regression with penalties s/a on the rows, s/b on the columns
and none on mu. Every sum of squared deviations is, in expectation, linear in (a, b, s): that within rows, that within
columns and that around the mean are three equations (Henderson 1953; Gao and Owen 2017 for one pass over the data). With
W_i the weight of row i and N entries,

    E sum_ij w (A - mean_i)^2 = b (W - sum_i sum_j w_ij^2 / W_i) + s (N - rows)
    E sum_ij w (A - mean)^2   = a (W - sum_i W_i^2 / W) + b (W - sum_j W_j^2 / W) + s (N - 1).

What factors would explain counts as noise here. C. R. Henderson, Estimation of variance and covariance components,
Biometrics 9, 1953; K. Gao and A. B. Owen, Efficient moment calculations for variance components in large unbalanced
crossed random effects models, Electronic Journal of Statistics 11, 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize

from solvers._core.arrays import FloatArray
from solvers.completion._observations import Observations

__all__ = ["MAD_TO_SIGMA", "margin", "shrunk_effects", "two_way_effects"]

# Median absolute deviation of a normal law, in standard deviations.
MAD_TO_SIGMA = 1.4826
# Values further than so many robust standard deviations from the median are clipped where outliers are expected.
CLIP = 3.0
# Penalties, in entries of average weight: estimates of a variance that is nil, or of no noise, stay solvable.
LEAST_RIDGE, LARGEST_RIDGE = 1e-2, 1e4
SWEEPS = 100


def two_way_effects(observed: Observations, *, robust: bool) -> tuple[FloatArray, FloatArray, float]:
    """Effects of the observed entries, the mean among those of the rows, and the penalty of the latter."""
    values, weights = observed.values, observed.weights
    if robust:
        middle = float(np.median(values))
        width = CLIP * MAD_TO_SIGMA * float(np.median(np.abs(values - middle)))
        values = np.clip(values, middle - width, middle + width)
    mean = float(np.sum(weights * values) / np.sum(weights))
    matrix = observed.matrix(weights)
    rows, cols = (
        margin(index, weights, values - mean, count)
        for index, count in zip((observed.rows, observed.cols), observed.shape, strict=True)
    )
    row, col, ridge = shrunk_effects(lambda v: matrix @ v, lambda u: matrix.T @ u, rows, cols, observed.size)
    return row + mean, col, ridge


def margin(index: Any, weights: FloatArray | None, deviations: FloatArray, count: int) -> FloatArray:
    """Sums of w, w^2, w d and w d^2 over the entries of each row, (4, count); None for weights of one."""
    weighted = deviations if weights is None else weights * deviations
    totals = np.bincount(index, weights, count)
    squares = totals if weights is None else np.bincount(index, weights * weights, count)
    sums, second = (np.bincount(index, terms, count) for terms in (weighted, weighted * deviations))
    return np.stack([totals, squares, sums, second]).astype(np.float64)


def shrunk_effects(
    forward: Callable[[FloatArray], FloatArray],
    backward: Callable[[FloatArray], FloatArray],
    rows: FloatArray,
    cols: FloatArray,
    size: int,
) -> tuple[FloatArray, FloatArray, float]:
    """Effects from the margins of rows and columns, and the penalty of the rows; W, the matrix of weights, by its products.

    The mean of the row effects carries mu: only deviations from it are penalised. Row effects are eliminated in closed
    form, and conjugate gradients, preconditioned by the diagonal, solve what is left for the column effects.
    """
    row_ridge, col_ridge = _ridges(rows, cols, size)
    row_total, col_total = rows[0] + row_ridge, cols[0] + col_ridge
    # diag(row_total) - row_ridge 1 1' / m is inverted by the formula of Sherman and Morrison.
    lift = row_ridge / float(np.sum(rows[0] / row_total)) / row_total

    def row_solution(right: FloatArray) -> FloatArray:
        alone = right / row_total
        solution: FloatArray = alone + float(np.sum(alone)) * lift
        return solution

    col = np.zeros(len(col_total))
    residual = cols[2] - backward(row_solution(rows[2]))
    goal = 1e-14 * float(np.linalg.norm(residual))
    step = residual / col_total
    slope = float(residual @ step)
    for _ in range(SWEEPS):
        if not float(np.linalg.norm(residual)) > goal:
            break
        image = col_total * step - backward(row_solution(forward(step)))
        length = slope / float(step @ image)
        col += length * step
        residual -= length * image
        fresh = residual / col_total
        slope, previous = float(residual @ fresh), slope
        step = fresh + (slope / previous) * step
    return row_solution(rows[2] - forward(col)), col, row_ridge


def _ridges(rows: FloatArray, cols: FloatArray, size: int) -> tuple[float, float]:
    """Penalties s/a of the row effects and s/b of the column effects, by moments."""
    weight, total = float(np.sum(rows[0])), float(np.sum(rows[3]))
    around = total - float(np.sum(rows[2])) ** 2 / weight
    equations, sums = [], []
    for side in (rows, cols):
        totals, squares, deviations, _ = side[:, side[0] > 0]
        equations.append((weight - float(np.sum(squares / totals)), float(size - len(totals))))
        sums.append(total - float(np.sum(deviations**2 / totals)))
    spread_rows, spread_cols = (weight - float(np.sum(side[0] ** 2)) / weight for side in (rows, cols))
    system = np.array(
        [
            (0.0, *equations[0]),
            (equations[1][0], 0.0, equations[1][1]),
            (spread_rows, spread_cols, size - 1.0),
        ]
    )
    average = weight / size
    system[:, :2] /= average
    scale = max(around, np.finfo(float).tiny)
    (row_part, col_part, noise), _ = scipy.optimize.nnls(system / size, np.maximum([*sums, around], 0.0) / scale)
    low, high = LEAST_RIDGE * average, LARGEST_RIDGE * average
    row_ridge, col_ridge = (
        float(np.clip(average * noise / part, low, high)) if part > 0.0 else high for part in (row_part, col_part)
    )
    return row_ridge, col_ridge
