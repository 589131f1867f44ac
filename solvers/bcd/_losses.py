r"""The losses of linear models: least squares, logistic, softmax, Huber.

Each class gives l(z), its derivatives and the concave dual -l*(-theta), with theta = -l'(z) at a score z:

    least squares   (z - b)^2 / 2        b theta - theta^2 / 2
    Huber           same for |z-b|<=d    the same, |theta| <= d
    logistic        log(1 + e^{-y z})    -u log u - (1-u) log(1-u),  theta = y u,  u in [0, 1]
    softmax         lse(z) - z_y         -sum_k p_k log p_k,         theta = e_y - p,  p a distribution
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np

from solvers._core.arrays import Array, FloatArray, IntArray, kind_of, to_host
from solvers._core.errors import BackendError, InvalidProblemError
from solvers._core.linalg import UNIT
from solvers._core.options import check_number
from solvers.bcd._loss import LinearLoss

__all__ = ["Huber", "LeastSquares", "Logistic", "Softmax"]


class LeastSquares(LinearLoss):
    """Half the sum of squared residuals, f(x) = sum_i w_i (a_i^T x + c - b_i)^2 / 2.

    Parameters
    ----------
    A : (n, p) array_like or scipy.sparse
        Dense of any array kind, or sparse.
    b : (n,) array_like
        Targets.
    sample_weight : (n,) array_like, optional
        Non-negative weights w, ones by default.
    fit_intercept : bool
        Fit the constant c, which no penalty touches.

    Notes
    -----
    The loss is a sum. scikit-learn's and skglm's ``Lasso(alpha)`` divide it by n: ``L1(n * alpha)`` here is the same
    problem. With a penalty ``ElasticNet(lam, l2)``, scikit-learn's ``ElasticNet(alpha, l1_ratio)`` is
    ``lam = n * alpha * l1_ratio``, ``l2 = n * alpha * (1 - l1_ratio)``.
    """

    def __init__(self, A: Any, b: Any, *, sample_weight: Any = None, fit_intercept: bool = False) -> None:
        super().__init__(A, sample_weight, fit_intercept)
        self.b = self._per_row(b, "b", "(n,) targets")
        self.shape = (self.plain.p,)
        self.n_free = int(self.fit_intercept)

    def terms(self, z: Array) -> Array:
        """(z - b)^2 / 2."""
        r = z - self.b
        return 0.5 * r * r

    def slopes(self, z: Array) -> Array:
        """The residual b - z."""
        return self.b - z

    def curvature(self, z: Array) -> Array:
        """One."""
        return self.xp.ones_like(z)

    def project_dual(self, theta: Array) -> Array:
        """Every theta is feasible."""
        return theta

    def dual_terms(self, theta: Array) -> tuple[Array, Array]:
        """b theta - theta^2 / 2."""
        linear, square = self.b * theta, 0.5 * theta * theta
        return linear - square, self.xp.abs(linear) + square

    def residual_radius(self, level: float) -> float:
        """sqrt(2 level)."""
        return math.sqrt(2.0 * level)


class Huber(LinearLoss):
    """Huber's robust loss of r = z - b: ``r^2/2`` up to ``|r| = delta``, and ``delta |r| - delta^2/2`` beyond.

    Parameters
    ----------
    A, b, sample_weight, fit_intercept
        As in :class:`LeastSquares`.
    delta : float
        Where squares turn into absolute values; positive, in the unit of b.
    """

    def __init__(self, A: Any, b: Any, delta: float, *, sample_weight: Any = None, fit_intercept: bool = False) -> None:
        super().__init__(A, sample_weight, fit_intercept)
        self.b = self._per_row(b, "b", "(n,) targets")
        self.delta = self.steepest = check_number("delta", delta, low=0.0, strict=True)
        self.shape = (self.plain.p,)
        self.n_free = int(self.fit_intercept)

    def terms(self, z: Array) -> Array:
        """The loss of each row."""
        r = self.xp.abs(z - self.b)
        return self.xp.where(r <= self.delta, 0.5 * r * r, self.delta * (r - 0.5 * self.delta))

    def slopes(self, z: Array) -> Array:
        """The residual b - z, clipped at delta."""
        return self.project_dual(self.b - z)

    def curvature(self, z: Array) -> Array:
        """One inside, zero outside."""
        return self.xp.astype(self.xp.abs(z - self.b) <= self.delta, self.xp.float64)

    def project_dual(self, theta: Array) -> Array:
        """Clip at delta."""
        return self.xp.clip(theta, -self.delta, self.delta)

    def dual_terms(self, theta: Array) -> tuple[Array, Array]:
        """b theta - theta^2 / 2."""
        linear, square = self.b * theta, 0.5 * theta * theta
        return linear - square, self.xp.abs(linear) + square

    def residual_radius(self, level: float) -> float:
        """From ``sum w (delta |r| - delta^2/2) <= level``, since sqrt(w) r is shorter than w r over the least sqrt(w)."""
        if self.weights is None:
            smallest = 1.0
        else:
            weights = to_host(self.weights)
            smallest = float(np.min(weights[weights > 0]))
        return (level / self.delta + 0.5 * self.total_weight * self.delta) / math.sqrt(smallest)


class Logistic(LinearLoss):
    """Logistic loss, f(x) = sum_i w_i log(1 + exp(-y_i (a_i^T x + c))).

    Parameters
    ----------
    A, sample_weight, fit_intercept
        As in :class:`LeastSquares`.
    y : (n,) array_like
        Labels, -1 or +1.

    Notes
    -----
    The loss is a sum: scikit-learn's ``LogisticRegression(C)`` with an L1 penalty is ``L1(1 / C)`` here.
    """

    curvature_bound = 0.25
    steepest = 1.0

    def __init__(self, A: Any, y: Any, *, sample_weight: Any = None, fit_intercept: bool = False) -> None:
        super().__init__(A, sample_weight, fit_intercept)
        self.y = self._per_row(y, "y", "(n,) labels, each -1 or +1")
        wrong = to_host(self.y)[np.abs(to_host(self.y)) != 1.0]
        if len(wrong):
            raise InvalidProblemError(
                f"y must hold labels -1 or +1, as np.where(y == positive, 1, -1) makes them; got {float(wrong[0]):g}"
            )
        self.shape = (self.plain.p,)
        self.n_free = int(self.fit_intercept)

    def terms(self, z: Array) -> Array:
        """log(1 + exp(-y z)), without overflow."""
        xp = self.xp
        margin = self.y * z
        return xp.log1p(xp.exp(-xp.abs(margin))) + xp.where(margin < 0, -margin, xp.zeros_like(margin))

    def slopes(self, z: Array) -> Array:
        """y sigma(-y z)."""
        xp = self.xp
        margin = self.y * z
        small = xp.exp(-xp.abs(margin))
        return self.y * xp.where(margin >= 0, small / (1.0 + small), 1.0 / (1.0 + small))

    def curvature(self, z: Array) -> Array:
        """sigma (1 - sigma)."""
        small = self.xp.exp(-self.xp.abs(z))
        return small / ((1.0 + small) * (1.0 + small))

    def project_dual(self, theta: Array) -> Array:
        """y u with u clipped to [0, 1]."""
        return self.y * self.xp.clip(self.y * theta, 0.0, 1.0)

    def dual_terms(self, theta: Array) -> tuple[Array, Array]:
        """The entropy of u = y theta."""
        xp = self.xp
        u = self.y * theta
        zero, one = xp.zeros_like(u), xp.ones_like(u)
        head = xp.where(u > 0, -u * xp.log(xp.where(u > 0, u, one)), zero)
        tail = xp.where(u < 1, -(1.0 - u) * xp.log1p(-xp.where(u < 1, u, zero)), zero)
        return head + tail, head + tail

    def intercept_radius(self, level: float, reach: float) -> float:
        """Both classes bound the intercept: w_i log(1 + exp(-y_i z_i)) <= level gives y_i z_i >= -level / w_i."""
        weights = np.ones(self.design.n) if self.weights is None else to_host(self.weights)
        radius = 0.0
        for sign in (-1.0, 1.0):
            heaviest = float(np.max(weights[to_host(self.y) == sign], initial=0.0))
            radius = max(radius, level / heaviest if heaviest > 0 else math.inf)
        return radius + reach


class Softmax(LinearLoss):
    """Multinomial logistic loss, f(X) = sum_i w_i (log sum_k exp z_ik - z_{i y_i}) with z_i = X^T a_i + c.

    Parameters
    ----------
    A, sample_weight, fit_intercept
        As in :class:`LeastSquares`.
    y : (n,) array_like
        Labels 0 to K-1, or any values of which the sorted distinct ones are the classes.

    Attributes
    ----------
    classes : (K,) array
        The distinct labels; column k of x belongs to ``classes[k]``.
    """

    # diag(p) - p p^T is below (I - 11^T/K)/2 (Boehning 1992), whose diagonal is at most 1/2.
    curvature_bound = 0.5
    # In the largest coordinate of a move of the scores: the entries of p - e_y sum to at most two in modulus.
    steepest = 2.0

    def __init__(self, A: Any, y: Any, *, sample_weight: Any = None, fit_intercept: bool = False) -> None:
        super().__init__(A, sample_weight, fit_intercept)
        if kind_of(y) not in ("numpy", self.kind):
            raise BackendError(f"y is a {kind_of(y)} array and A is {self.kind}; convert one explicitly")
        labels = np.asarray(to_host(y))
        if labels.ndim != 1 or len(labels) != self.plain.n or labels.dtype.kind not in "biufUS":
            raise InvalidProblemError(
                f"y must be ({self.plain.n},) class labels; got shape {labels.shape}, dtype {labels.dtype}"
            )
        if labels.dtype.kind == "f" and not np.isfinite(labels).all():
            raise InvalidProblemError("y must be class labels; got NaN or infinite entries")
        self.classes, codes = np.unique(labels, return_inverse=True)
        self.codes: IntArray = codes.astype(np.int64)
        if len(self.classes) < 2:
            raise InvalidProblemError(f"y must have at least two classes; got only {self.classes[0]!r}")
        self.n_outputs = len(self.classes)
        self.shape = (self.plain.p, self.n_outputs)
        self.n_free = self.n_outputs if self.fit_intercept else 0
        self.indicator = self.to_device((self.codes[:, None] == np.arange(self.n_outputs)).astype(np.float64))

    def _shifted(self, z: Array) -> tuple[Array, Array]:
        """Scores less their row maximum, and the log of the sum of their exponentials."""
        shifted = z - self.xp.max(z, axis=1, keepdims=True)
        return shifted, self.xp.log(self.xp.sum(self.xp.exp(shifted), axis=1))

    def terms(self, z: Array) -> Array:
        """log-sum-exp less the score of the label."""
        shifted, logs = self._shifted(z)
        return logs - self.xp.sum(self.indicator * shifted, axis=1)

    def _probabilities(self, z: Array) -> Array:
        shifted, logs = self._shifted(z)
        return self.xp.exp(shifted - logs[:, None])

    def value_error(self, x: FloatArray, z: Array) -> float:
        """The sum of exponentials is at least one and rounds relatively, so its logarithm rounds absolutely."""
        return super().value_error(x, z) + 2 * (self.n_outputs + 8) * UNIT * self.total_weight

    def slopes(self, z: Array) -> Array:
        """e_y - p, (n, K)."""
        return self.indicator - self._probabilities(z)

    def curvature(self, z: Array) -> Array:
        """The bound; blocks use the exact form in ``block_hessian``."""
        return self.curvature_bound * self.xp.ones(z.shape[0], dtype=self.xp.float64, device=self.device)

    def project_dual(self, theta: Array) -> Array:
        """e_y - p with p clipped at zero and normalised; exact to a few roundings, which the certificate charges."""
        xp = self.xp
        p = self.indicator - theta
        p = xp.where(p > 0, p, xp.zeros_like(p))
        total = xp.sum(p, axis=1, keepdims=True)
        p = xp.where(total > 0, p / xp.where(total > 0, total, xp.ones_like(total)), self.indicator)
        return self.indicator - p

    def dual_terms(self, theta: Array) -> tuple[Array, Array]:
        """The entropy of p = e_y - theta; the magnitude covers a relative perturbation of p."""
        xp = self.xp
        p = self.indicator - theta
        one = xp.ones_like(p)
        positive = xp.where(p > 0, p, xp.zeros_like(p))
        logs = xp.where(p > 0, xp.log(xp.where(p > 0, p, one)), xp.zeros_like(p))
        # e_y - theta is exact to UNIT in absolute terms, which moves -p log p by at most UNIT (1 + |log UNIT|) an entry.
        return -xp.sum(positive * logs, axis=1), xp.sum(xp.abs(positive * logs), axis=1) + 40.0 * self.n_outputs

    def intercept_radius(self, level: float, reach: float) -> float:
        """Differences of intercepts are bounded through one row of each class; their mean may be taken as zero."""
        weights = np.ones(self.design.n) if self.weights is None else to_host(self.weights)
        heaviest = [float(np.max(weights[self.codes == k])) for k in range(self.n_outputs)]
        return level / min(heaviest) + 2.0 * reach if min(heaviest) > 0 else math.inf

    def block_hessian(self, z: Array, block: IntArray) -> FloatArray:
        """Entries sum_i w_i a_ij a_ij' p_ik (delta_kk' - p_ik')."""
        probabilities = to_host(self._probabilities(z))
        weights = np.ones(self.design.n) if self.weights is None else to_host(self.weights)
        rows, outputs = block // self.n_outputs, block % self.n_outputs
        columns = to_host(self.design.columns(rows))
        spread = columns * probabilities[:, outputs] * np.sqrt(weights)[:, None]
        hessian: FloatArray = -(spread.T @ spread)
        for k in np.unique(outputs):
            mine = np.flatnonzero(outputs == k)
            part = columns[:, mine] * np.sqrt(weights * probabilities[:, k])[:, None]
            hessian[np.ix_(mine, mine)] += part.T @ part
        return hessian

    def block_bound(self, block: IntArray) -> FloatArray:
        """(I - 11^T/K)/2 (x) A^T W A."""
        rows, outputs = block // self.n_outputs, block % self.n_outputs
        distinct, inverse = np.unique(rows, return_inverse=True)
        gram = self.design.gram(distinct, self.weights)[np.ix_(inverse, inverse)]
        same = (outputs[:, None] == outputs[None, :]).astype(np.float64)
        return np.asarray(0.5 * (same - 1.0 / self.n_outputs) * gram)

    @cached_property
    def lipschitz(self) -> FloatArray:
        """(1 - 1/K)/2 |a_j|^2 of each coordinate."""
        return np.repeat(0.5 * (1.0 - 1.0 / self.n_outputs) * self.column_norms, self.n_outputs)

    @cached_property
    def row_sums(self) -> FloatArray:
        """(1 - 1/K) sum_j' |a_j^T W a_j'|: the K entries of a row of (I - 11^T/K)/2 sum to that in modulus."""
        return np.repeat((1.0 - 1.0 / self.n_outputs) * self._gram_row_sums(), self.n_outputs)


for _public in (Huber, LeastSquares, Logistic, Softmax):
    _public.__module__ = "solvers.bcd"
