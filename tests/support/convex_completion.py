r"""The convex problem that bounds are about, solved by CVXPY for any data of one shape.

    minimise  sum_Omega w rho_delta(X - A) + reg ||D^{1/2} X E^{1/2}||_*   over all X.

The model is compiled once per shape and loss, with data, weights and penalty as parameters. Whatever a conic solver returns,
its objective, recomputed here in extended precision, is not below the optimum: no tolerance of the solver is involved.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import warnings

import cvxpy
import numpy as np
from completion_problems import small_dense

import solvers

POLISHING = 30


class Convex:
    """One problem: entries (NaN where unseen), weights, penalty, square roots of D and E, Huber threshold."""

    def __init__(self, A, weights, reg, scaling, delta=np.inf):
        self.seen = ~np.isnan(A)
        self.A = np.where(self.seen, A, 0.0)
        self.W = np.where(self.seen, 1.0 if weights is None else weights, 0.0)
        self.seen &= self.W > 0
        self.reg, self.delta = reg, delta
        counts = [self.seen.sum(axis=axis) if scaling == "count" else np.ones(A.shape[1 - axis]) for axis in (1, 0)]
        self.scale = np.sqrt(np.outer(*counts))

    def objective(self, X):
        """Objective at X, sums in extended precision."""
        misfit = np.where(self.seen, np.abs(X.astype(np.longdouble) - self.A), 0)
        loss = np.where(misfit <= self.delta, 0.5 * misfit**2, self.delta * (misfit - 0.5 * min(self.delta, 1e300)))
        norm = np.linalg.svd(self.scale * X, compute_uv=False).sum()
        return float(np.sum(self.W * loss) + np.longdouble(self.reg) * norm)

    def polished(self, X):
        """Accelerated proximal gradient steps from X in scaled coordinates (Beck and Teboulle 2009)."""
        scale = np.where(self.scale > 0, self.scale, 1.0)
        length = 1.0 / np.max(self.W / scale**2)
        Z = ahead = scale * X
        momentum = 1.0
        for _ in range(POLISHING):
            pull = self.W * np.clip(ahead / scale - self.A, -self.delta, self.delta) / scale
            u, s, vt = np.linalg.svd(ahead - length * pull, full_matrices=False)
            fresh = (u * np.maximum(s - self.reg * length, 0.0)) @ vt
            following = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * momentum**2))
            ahead, Z, momentum = fresh + (momentum - 1.0) / following * (fresh - Z), fresh, following
        return Z / scale

    def upper_bound(self):
        """The least objective among those of the conic solver's answer, of its polished form and of zero."""
        size, weight = float(np.max(np.abs(self.A))), float(np.max(self.W))
        X = np.zeros(self.A.shape)
        if self.reg >= np.linalg.norm(self.W * self.A):
            # The gradient at zero is in the ball of the dual norm.
            return self.objective(X)
        unit = size if self.delta == np.inf else self.delta
        model, given, variable = compiled(self.A.shape, self.delta < np.inf)
        inverse = np.where(self.scale > 0, 1.0 / np.where(self.scale > 0, self.scale, 1.0), 0.0)
        given["A"].value, given["W"].value = self.A / unit, self.W / weight
        given["reg"].value, given["inverse"].value = self.reg / (unit * weight), inverse
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                model.solve(solver="CLARABEL")
            except cvxpy.SolverError:
                variable.value = None
        found = X if variable.value is None else unit * inverse * variable.value
        return min(self.objective(Y) for Y in (X, found, self.polished(found)))


@functools.cache
def compiled(shape, huber):
    """Model, its parameters, its variable; residuals in units of the threshold where there is one."""
    given = {name: cvxpy.Parameter(shape) for name in ("A", "inverse")}
    given |= {"W": cvxpy.Parameter(shape, nonneg=True), "reg": cvxpy.Parameter(nonneg=True)}
    scaled, residual = cvxpy.Variable(shape), cvxpy.Variable(shape)
    loss = cvxpy.huber(residual, 1.0) if huber else cvxpy.square(residual)
    fit = 0.5 * cvxpy.sum(cvxpy.multiply(given["W"], loss))
    model = cvxpy.Problem(
        cvxpy.Minimize(fit + given["reg"] * cvxpy.normNuc(scaled)),
        [residual == cvxpy.multiply(given["inverse"], scaled) - given["A"]],
    )
    assert model.is_dcp(dpp=True)
    return model, given, scaled


@dataclasses.dataclass
class Posed:
    """A problem as the front door takes it."""

    A: np.ndarray
    rank: int
    problem: dict
    how: dict


def random_case(rng, *, blocked=False):
    """Any scale, mask, weights, penalty, loss, rank, precision, biases and held-out part; least squares for blocks."""
    A = small_dense(rng, 8)
    if rng.random() < 0.3:
        A *= 10.0 ** rng.uniform(-4, 4, size=(len(A), 1))
    if rng.random() < 0.2:
        A = A.astype(np.float32)
    size = float(np.nanmax(np.abs(A)))
    problem = {"reg": size * 10.0 ** rng.uniform(-3, 0.7), "reg_scaling": str(rng.choice(["plain", "count"]))}
    if rng.random() < 0.4:
        problem["weights"] = 10.0 ** rng.uniform(-3, 3, A.shape)
        if not blocked:
            problem["weights"][(rng.random(A.shape) < 0.1) & (np.abs(A) < size)] = 0.0
    if not blocked and rng.random() < 0.4:
        problem |= {"loss": "huber", "delta": size * 10.0 ** rng.uniform(-2, 0.3) if rng.random() < 0.7 else "auto"}
    problem["biases"] = bool(rng.random() < 0.2)
    problem["holdout"] = 0.2 if rng.random() < 0.1 and np.sum(~np.isnan(A)) > 9 else 0.0
    how = {"method": str(rng.choice(["auto", "altmin", "altmin-exact", "altmin-sketch"]))}
    # Float32 in the working precision where its squares stay in range.
    if np.nanmin(np.abs(A)) > 1e-6 and size < 1e6 and rng.random() < 0.2:
        how["options"] = {"precision": "single"}
    rank = min(A.shape) if rng.random() < 0.7 else int(rng.integers(1, min(A.shape) + 1))
    return Posed(A, rank, problem, how)


def proves_no_more_than_the_optimum(posed, data=None, weights=None, *, solve=True):
    """Solve, verify, compare; returns the bound's distance from the conic solver's answer, relative.

    ``data`` and ``weights`` are the same entries in another form, files or a cluster's, for the verification and, with
    ``solve``, for the run.
    """
    here = posed.problem
    there = here | ({} if weights is None else {"weights": weights})
    data = posed.A if data is None else data
    matrix, problem = (data, there) if solve else (posed.A, here)
    result = solvers.complete_matrix(matrix, posed.rank, tol=1e-6, max_iter=40, rng=0, **problem, **posed.how)
    verification = solvers.verify(result, data, posed.rank, **there)
    assert verification, verification.message
    fitted = posed.A.astype(np.float64) - result.row_bias[:, None] - result.col_bias
    fitted[tuple(result.holdout_index.T)] = np.nan
    convex = Convex(fitted, here.get("weights"), here["reg"], here["reg_scaling"], result.delta)
    optimum = convex.upper_bound()
    assert result.bound <= optimum * (1 + 1e-14), posed
    assert verification.bound <= optimum * (1 + 1e-14), posed
    if solve:
        too_high = copy.copy(result)
        too_high["bound"] = optimum * (1 + 1e-9) + np.finfo(float).tiny
        assert not solvers.verify(too_high, data, posed.rank, **there), posed
    return (optimum - result.bound) / optimum if optimum else 0.0
