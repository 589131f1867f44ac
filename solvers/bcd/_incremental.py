r"""A solved quadratic whose linear term changes in a few entries at a time.

Keep x and g = Q x - c. A change of c_i changes g_i only, and over-relaxation of its surroundings spreads it as far as the
tolerance sees, until |g|^2 is back to what it was before, but for one percent of (tol |c|)^2. The work is that of the nodes
moved; nothing of the size of the graph is touched. Only when those percents add up to the whole tolerance, once in some hundred
updates, a few iterations on the whole system, whose factors are kept, take the residual out again.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from solvers._core.arrays import FloatArray, IntArray, as_float_array, freeze
from solvers._core.errors import InvalidProblemError
from solvers._core.options import check_number
from solvers.bcd._local import LocalDescent
from solvers.bcd._minimize_bcd import minimize_bcd
from solvers.bcd._peel import FreeSystem
from solvers.bcd._quadratic import Quadratic
from solvers.bcd._result import BCDResult

__all__ = ["IncrementalQuadratic"]

# Local steps per node before the whole system is solved instead.
BUDGET = 0.5
MOST_ROUNDS = 40
# Share of the squared tolerance that one update may use up.
SHARE = 0.01
# Steps are taken where the gradient exceeds this share of the largest, and less and less of it each round.
FIRST_THRESHOLD = 0.25
NEXT_THRESHOLD = 0.35
# Rounding of an update of the sums of squares, as a share of the numbers added: some hundred roundings.
DRIFT = 1e-14
# Residuals that stand out at more than this share of the nodes are left to the whole system.
FEW = 0.01


class IncrementalQuadratic:
    r"""The minimiser of x^T Q x / 2 - c^T x, kept up to date while entries of c change.

    Parameters
    ----------
    loss : bcd.Quadratic
        Sparse, with a positive diagonal and positive definite.
    x0 : (n,) array_like or BCDResult, optional
        The minimiser for the present c, if it is known; it is computed otherwise.
    tol : float
        Relative residual: :math:`\lVert Qx - c \rVert \le tol \lVert c \rVert` after every update.

    Attributes
    ----------
    x : (n,) array
        The present point, a read-only view that follows updates.
    moves : int
        Coordinates that the last update moved, counted as often as they moved; -1 where it solved the whole system.

    Notes
    -----
    *Guarantee.* :meth:`result` certifies the present point like any other; it costs a pass over the graph, updates do not.

    *Complexity.* An update costs the degrees of the nodes that move; one in about a hundred costs some iterations on the whole
    system besides.

    Examples
    --------
    >>> import numpy as np, scipy.sparse
    >>> from solvers import bcd
    >>> path = scipy.sparse.diags_array([[-1.0] * 3, [2.0] * 4, [-1.0] * 3], offsets=[-1, 0, 1], format="csr")
    >>> state = bcd.IncrementalQuadratic(bcd.Quadratic(path, np.ones(4)), tol=1e-12)
    >>> state.update([0], [6.0])
    >>> state.x.round(6)
    array([6., 6., 5., 3.])
    """

    def __init__(self, loss: Quadratic, x0: Any = None, *, tol: float = 1e-6) -> None:
        if loss.sparse is None:
            raise InvalidProblemError("loss must be a sparse bcd.Quadratic; got a dense one")
        if not np.all(loss.lipschitz > 0):
            j = int(np.argmin(loss.lipschitz))
            raise InvalidProblemError(
                f"Q must have a positive diagonal; Q[{j}, {j}] is {float(loss.lipschitz[j])!r}: nothing holds coordinate {j}"
            )
        self.tol = check_number("tol", tol, low=0.0, strict=True)
        n = loss.size
        self._base, self._c = loss, np.array(loss.host_c)
        if x0 is None:
            x = np.zeros(n)
        else:
            x = np.array(
                as_float_array(x0.x if isinstance(x0, BCDResult) else x0, "x0", ndim=1, expected=f"an ({n},) vector")
            )
            if x.shape != (n,):
                raise InvalidProblemError(f"x0 must have shape ({n},); got {x.shape}")
        endless = np.full(n, np.inf)
        self._local = LocalDescent(loss.graph, loss.lipschitz, -endless, endless, x, loss.graph @ x - self._c)
        self._size = float(self._c @ self._c)
        self._residual = float(self._local.g @ self._local.g)
        # What rounding may have done to the two sums that follow updates.
        self._size_doubt = self._residual_doubt = 0.0
        # Before the first update, so that none has to wait for the factors.
        self._system = FreeSystem(loss.graph)
        self.moves = 0
        if x0 is None:
            self._solve()
        else:
            self._sweep()

    @property
    def x(self) -> FloatArray:
        """The present point."""
        return freeze(self._local.x)

    @property
    def loss(self) -> Quadratic:
        """The quadratic with the present c."""
        return self._base.with_linear(self._c.copy())

    def update(self, nodes: Any, values: Any) -> None:
        """Set c[nodes] = values and move x accordingly.

        Parameters
        ----------
        nodes : (k,) array_like of int
            Distinct. Without any, nothing happens.
        values : (k,) array_like of float
        """
        index = np.asarray(nodes)
        if index.size == 0 and np.size(values) == 0:
            return
        fresh = as_float_array(values, "values", ndim=1, expected="one number per node")
        n = len(self._c)
        if index.ndim != 1 or index.dtype.kind not in "iu" or index.shape != fresh.shape:
            raise InvalidProblemError(f"nodes must be a vector of {len(fresh)} integers, one per value; got {nodes!r}")
        if int(index.min()) < 0 or int(index.max()) >= n:
            raise InvalidProblemError(f"nodes must be from 0 to {n - 1}; got {int(index.min())} to {int(index.max())}")
        if len(np.unique(index)) < len(index):
            raise InvalidProblemError("nodes must be distinct")
        before = self._c[index]
        self._c[index] = fresh
        self._size = max(self._size + float(np.sum((fresh - before) * (fresh + before))), 0.0)
        self._size_doubt += DRIFT * float(np.sum(fresh * fresh + before * before))
        if self._size_doubt > SHARE * self._size:
            self._size, self._size_doubt = float(self._c @ self._c), 0.0
        slope = self._local.g[index]
        lifted = float(np.sum((before - fresh) * (before - fresh + 2.0 * slope)))
        self._local.g[index] = slope + before - fresh
        self._residual += lifted
        self._residual_doubt += DRIFT * (abs(lifted) + abs(self._residual))
        self._settle(index, lifted - SHARE * self._allowed)

    def result(self, *, tol: float = 1e-6) -> BCDResult:
        """The present point with its certified gap, improved if it is above ``tol``."""
        return minimize_bcd(self.loss, x0=self._local.x, tol=tol)

    @property
    def _allowed(self) -> float:
        """Square of the residual that the tolerance allows."""
        return self.tol**2 * self._size

    def _settle(self, nodes: IntArray, excess: float) -> None:
        """Descend around the nodes until |g|^2 has fallen by ``excess``, in rounds of falling thresholds."""
        self.moves = 0
        budget = int(BUDGET * len(self._c)) + 100
        threshold = FIRST_THRESHOLD * float(np.max(np.abs(self._local.g[nodes])))
        least = 0.1 * math.sqrt(self._allowed / len(self._c))
        while excess > 0 and threshold > least and self.moves < budget:
            taken, change, nodes = self._local.descend(nodes, threshold, budget, excess=excess)
            self.moves += budget if taken < 0 else taken
            excess += change
            self._residual += change
            threshold *= NEXT_THRESHOLD
        if self._residual_doubt > SHARE * self._allowed:
            self._measure()
        if self._residual > self._allowed:
            self._sweep()

    def _measure(self) -> None:
        """g and its square afresh."""
        local = self._local
        local.g[:] = self._base.graph @ local.x - self._c
        self._residual, self._residual_doubt = float(local.g @ local.g), 0.0

    def _sweep(self) -> None:
        """A pass over all nodes; the whole system where too many stand out."""
        local = self._local
        n = len(self._c)
        threshold = 0.5 * math.sqrt(self._allowed / n)
        nodes = local.outstanding(threshold)
        taken = -1
        if len(nodes) <= FEW * n + 100:
            taken, _, _ = local.descend(nodes, threshold, int(BUDGET * n) + 100)
        if taken < 0:
            self._solve()
        else:
            self.moves += taken
            self._measure()
            if self._residual > self._allowed:
                self._solve()

    def _solve(self) -> None:
        """The whole system, by the graph engine's factors."""
        local = self._local
        if self._system.sound:
            self._system.begin(local.x, self._c)
        for _ in range(MOST_ROUNDS):
            shrink = min(max(0.05 * self._allowed / max(self._residual, 1e-300), 1e-8), 0.3)
            x = self._system.step(400, shrink) if self._system.sound else None
            if x is None:
                break
            local.x[:] = x
            self._measure()
            if self._residual <= 0.25 * self._allowed:
                self.moves = -1
                return
        raise InvalidProblemError(
            f"Q must be positive definite, and well enough conditioned for tol={self.tol:g}; the residual stays at "
            f"{math.sqrt(self._residual / max(self._size, 1e-300)):.1e} |c|"
        )


IncrementalQuadratic.__module__ = "solvers.bcd"
