"""``minimize_bcd``: a smooth loss plus a separable penalty, minimised with a certified duality gap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from solvers._catalogue import entry_named
from solvers._core.arrays import FloatArray, as_float_array, kind_of, to_host
from solvers._core.backend import BACKENDS
from solvers._core.errors import BackendError, InvalidProblemError
from solvers._core.options import check_choice, check_common, check_integer
from solvers._core.random import RNG
from solvers._core.result import Result, Status
from solvers.bcd._box_cg import solve_by_cg
from solvers.bcd._graph import solve_on_graph
from solvers.bcd._loss import LinearLoss
from solvers.bcd._paper import PaperSettings, descend, has_bounds, plan
from solvers.bcd._problem import Composite, composite, is_free
from solvers.bcd._quadratic import Quadratic
from solvers.bcd._result import BCDResult
from solvers.bcd._run import Run
from solvers.bcd._separable_term import SeparableTerm
from solvers.bcd._working_set import solve_working_sets

__all__ = ["minimize_bcd"]

PAPER_ITERATIONS = 10_000
OUTER_ITERATIONS = 1000
# Block size where "auto" falls back on the paper's rules.
AUTO_BLOCK = 50


@dataclass(frozen=True)
class NoSettings:
    """Engines without options."""


def minimize_bcd(
    loss: Any,
    penalty: Any = None,
    *,
    blocks: Any = "auto",
    rule: str = "auto",
    update: str = "auto",
    block_size: int | None = None,
    method: str = "auto",
    x0: Any = None,
    tol: float = 1e-6,
    max_iter: int | None = None,
    time_limit: float | None = None,
    callback: Callable[..., Any] | None = None,
    rng: RNG = None,
    history: bool = False,
    verbose: int = 0,
    backend: str = "auto",
    options: Mapping[str, Any] | None = None,
) -> BCDResult:
    r"""Minimise a smooth convex loss plus a separable penalty by greedy block coordinate descent.

    .. math:: \min_x \; F(x) = f(x) + \varphi(x)

    Parameters
    ----------
    loss : bcd.Loss
        ``bcd.LeastSquares``, ``Logistic``, ``Softmax``, ``Huber`` or ``Quadratic``; it holds the data.
    penalty : bcd.Penalty, optional
        ``bcd.L1``, ``ElasticNet``, ``Box``, ``NonNegative`` or ``GroupL2``; none by default.
    blocks : str or list of index arrays
        Partition for ``method="paper"``: "order", "sorted", "average", "variable", "red-black", "forest-partition",
        "greedy-forest", or one's own disjoint blocks.
    rule : str
        Which block moves: "random", "cyclic", "lipschitz"; without a penalty "gs", "gsl", "gsd", "gsq"; with one "gs-s",
        "gs-r", "gs-q", "gsl-q".
    update : str
        How it moves: "lipschitz", "line-search", "hessian", "newton", "exact", "two-metric", "message-passing".
    block_size : int, optional
        Coordinates per block, 10 by default; graph blocks ignore it.
    method : {"auto", "paper"}
        ``"paper"`` runs exactly the partition, rule and update named. ``"auto"`` does so where one of them (or ``block_size``)
        is named; otherwise linear models with separable penalties are solved on working sets, sparse quadratics (with bounds
        or without a penalty) by the graph engine, dense ones and those on devices by conjugate gradients between the bounds,
        and the rest by the paper's rules with large Newton blocks. The result's ``method`` says which ran: "paper",
        "working-set", "graph" or "conjugate-gradient".
    x0 : BCDResult or array of x's shape, optional
        Where to start; zero (clipped) by default. An array must be of the same kind as the loss's data.
    tol : float
        The run ends as OPTIMAL once ``gap <= tol``.
    max_iter : int, optional
        Blocks ("paper", 10 000 by default) or outer iterations (others, 1000).
    time_limit : float, optional
        Seconds.
    callback : callable, optional
        Called as ``callback(intermediate_result)`` at checkpoints; a true answer or StopIteration ends the run.
    rng : int, Generator, SeedSequence or None
        Randomness of the random rules.
    history : bool
        Keep a :class:`solvers.History` of the checkpoints.
    verbose : {0, 1, 2}
        Silent; a summary line; a table row per checkpoint (standard error).
    backend : {"auto", "numba", "array", "cupy"}
        ``"auto"``: where the loss's data live. Other arrays than NumPy's are for linear models, and for ``Quadratic`` with
        bounds or without a penalty: products, Gram matrices and dual points stay on their device, where ``x``, ``support`` and
        the intercepts come back, too; single coordinates are moved on the host.
    options : mapping, optional
        "paper": ``check_every`` (10), ``approximation`` ("iht" or "greedy-addition", of "gsq" with variable blocks).

    Returns
    -------
    BCDResult
        ``x``, ``intercept``, ``support``, ``fun``, ``bound``, ``gap``, ``kkt``.

    Raises
    ------
    InvalidProblemError
        Bad values or shapes, or a combination of blocks, rule and update that makes no sense (the message says why).

    Notes
    -----
    *Guarantee.* ``bound`` is at most the minimum of F, rounding errors included: it is the Fenchel dual value of a point
    rebuilt from ``x`` by code that the iteration does not use. Losses are non-negative, so ``bound >= 0`` for linear models.
    Where unpenalised directions leave no proved bound (``Quadratic`` that is not positive definite, logistic coordinates
    with zero weight other than the intercept) it is 0 or -inf, and the run ends by its own test.

    *Algorithm.* Working sets are chosen by the GSL-q score among the coordinates that gap-safe screening leaves, and solved by
    proximal Newton steps (greedy descent by buckets on the Gram matrix or on columns, Anderson extrapolation of points and
    dual points, a Cholesky finish once signs are stable). Certificates are computed when they may end the run.
    The graph engine eliminates a colour or a forest exactly and iterates on the Schur complement; bounds are found by projected
    over-relaxation; from an ``x0`` where few gradients stand out, only their surroundings move. Dense quadratics: conjugate
    gradients with proportioning (Dostal 2009).

    *Complexity.* "paper": a full gradient and one block solve per iteration, O(n p + n b^2 + b^3) for dense data.

    References
    ----------
    J. Nutini, I. Laradji, M. Schmidt, Let's make block coordinate descent converge faster, JMLR 23(131), 2022.
    O. Fercoq, A. Gramfort, J. Salmon, Mind the duality gap: safer rules for the Lasso, ICML 2015.
    M. Massias, A. Gramfort, J. Salmon, Celer: a fast solver for the Lasso with dual extrapolation, ICML 2018.

    Examples
    --------
    >>> import numpy as np, solvers
    >>> from solvers import bcd
    >>> A = np.array([[1.0, 0.5], [0.0, 1.0], [1.0, 1.0]])
    >>> result = solvers.minimize_bcd(bcd.LeastSquares(A, [1.0, 0.0, 2.0]), bcd.L1(0.5))
    >>> result.status.name, np.round(result.x, 6)
    ('OPTIMAL', array([1.166667, 0.111111]))
    """
    entry = entry_named("minimize_bcd")
    common = check_common(
        entry.name,
        method=method,
        methods=entry.methods,
        tol=tol,
        max_iter=max_iter,
        time_limit=time_limit,
        callback=callback,
        rng=rng,
        history=history,
        verbose=verbose,
        options=options,
    )
    problem = composite(loss, penalty)
    if block_size is not None:
        block_size = check_integer("block_size", block_size, low=1)
    named = method == "paper" or not (
        isinstance(blocks, str) and blocks == rule == update == "auto" and block_size is None
    )
    engine = _engine(problem, named)
    where = _backend(problem, backend, engine)
    x = first_point(problem, x0)
    if engine == "paper":
        settings = common.settings(PaperSettings)
        check_integer("options['check_every']", settings.check_every, low=1)
        check_choice("options['approximation']", settings.approximation, ("iht", "greedy-addition"))
        if not named:
            update, block_size = "newton", AUTO_BLOCK
        chosen = plan(problem, blocks, rule, update, block_size)
        run = Run(problem, common, method="paper", max_iter=PAPER_ITERATIONS, backend=where)
        run.open(x)
        descend(run, chosen, settings, x)
        return finished(run)
    common.settings(NoSettings)
    run = Run(problem, common, method=engine, max_iter=OUTER_ITERATIONS, backend=where)
    if engine == "graph":
        solve_on_graph(run, x, given=x0 is not None)
    elif engine == "conjugate-gradient":
        solve_by_cg(run, x)
    else:
        solve_working_sets(run, x)
    return finished(run)


def _engine(problem: Composite, named: bool) -> str:
    """Which engine runs."""
    loss, term = problem.loss, problem.term
    if named or not isinstance(term, SeparableTerm):
        return "paper"
    if isinstance(loss, LinearLoss) and loss.n_outputs == 1:
        return "working-set"
    if isinstance(loss, Quadratic) and (is_free(term) or has_bounds(problem)):
        return "conjugate-gradient" if loss.sparse is None else "graph"
    return "paper"


def _backend(problem: Composite, requested: str, engine: str) -> str:
    """The backend of the loss's data; refuses any other, and engines that sweep coordinates off the host."""
    check_choice("backend", requested, BACKENDS)
    kind = getattr(problem.loss, "kind", "numpy")
    name = {"cupy": "cupy", "array-api": "array"}.get(kind, "numba")
    if requested not in ("auto", name) and not (requested == "array" and name == "cupy"):
        raise BackendError(f"backend={requested!r} does not take a loss of {kind} arrays, which runs on {name!r}")
    if name != "numba" and not (isinstance(problem.loss, LinearLoss) or engine == "conjugate-gradient"):
        raise BackendError(
            f"this problem runs on the host only ({engine} engine); build the loss from NumPy arrays, e.g. with .get()"
        )
    return name


def finished(run: Run) -> BCDResult:
    """The result of a run that has ended."""
    run.monitor.finish(Status.CONVERGED)
    run.settle()
    result = run.monitor.result()
    assert isinstance(result, BCDResult)
    return result


def first_point(problem: Composite, x0: Any) -> FloatArray:
    """A starting point along the flat coordinates, made feasible."""
    loss, term = problem.loss, problem.term
    if x0 is None:
        return term.start()
    tail: Any = np.zeros(loss.n_free)
    if isinstance(x0, Result):
        value: Any = getattr(x0, "x", None)
        if value is None or tuple(value.shape) != loss.shape:
            got = "no x" if value is None else tuple(value.shape)
            raise InvalidProblemError(f"x0 must be a result with x of shape {loss.shape}; got {got}")
        if loss.n_free:
            tail = np.broadcast_to(to_host(x0.get("intercept", 0.0)).astype(np.float64), (loss.n_free,))
    else:
        value, kind = x0, getattr(loss, "kind", "numpy")
        if kind_of(value) != ("numpy" if kind == "sparse" else kind):
            raise BackendError(f"x0 holds {kind_of(value)} data and the loss {kind} data; convert one explicitly")
    array = to_host(as_float_array(value, "x0", ndim=len(loss.shape), expected=f"a {loss.shape} array"))
    if array.shape != loss.shape:
        raise InvalidProblemError(f"x0 must have shape {loss.shape}; got {array.shape}")
    return np.array(term.project(np.concatenate([array.reshape(-1), tail])))
