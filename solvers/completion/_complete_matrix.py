"""``complete_matrix``: the low-rank matrix behind a few of its entries, and what is proved about it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from solvers._catalogue import entry_named
from solvers._core.arrays import kind_of, refuse_beyond_memory
from solvers._core.backend import BACKENDS, Backend, choose_backend
from solvers._core.errors import BackendError, InvalidProblemError, SolverWarning
from solvers._core.options import Common, check_choice, check_common, check_integer, check_number
from solvers._core.random import RNG
from solvers._core.result import Status
from solvers.completion._altmin import WITHOUT_PENALTY, Sweeper, alternate, polish
from solvers.completion._blocked_problem import as_blocked, blocked_problem
from solvers.completion._blocked_run import BlockedRun
from solvers.completion._blocks import BlockedMatrix
from solvers.completion._near_limit import near_limit, within_reach
from solvers.completion._observations import Observations, data_at_home, read_observations, split_holdout
from solvers.completion._problem import CompletionProblem, completion_problem
from solvers.completion._result import CompletionResult
from solvers.completion._robust import robust_alternate
from solvers.completion._run import Run, Settings
from solvers.completion._sweeps import Factors, Workspace
from solvers.completion._theory import split_alternate

__all__ = ["complete_matrix"]

DEFAULT_SWEEPS = 500
# Bytes per observed entry: both orientations, the caller's copy and scratch.
BYTES_PER_ENTRY = 96
# Largest entry, and reciprocal of it, whose squares and sums stay well inside the range of float32.
SINGLE_RANGE = 1e12
HOST_METHODS = ("altmin-sketch", "gauss-newton")
INNER = {"auto": "auto", "gauss-newton": "exact", "altmin": "auto", "altmin-exact": "exact", "altmin-sketch": "sketch"}


def complete_matrix(
    A: Any,
    rank: int,
    *,
    weights: Any = None,
    reg: float = 0.0,
    reg_scaling: str = "plain",
    loss: str = "l2",
    delta: Any = "auto",
    biases: bool = False,
    holdout: float = 0.0,
    duplicates: str = "error",
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
) -> CompletionResult:
    r"""Complete a partially observed matrix by one of low rank, and say what is proved about it.

    .. math:: \min_{\operatorname{rank} X \le k} \; \sum_{(i,j) \in \Omega} w_{ij}\, \rho(X_{ij} - A_{ij})
              + \mathrm{reg} \cdot \lVert X \rVert_*

    with :math:`\rho(t) = t^2/2` or the Huber loss, and X = U diag(s) Vᵀ, never formed.

    Parameters
    ----------
    A : scipy.sparse array, tuple (rows, cols, values, shape), (m, n) array_like, or a matrix in blocks
        Observed entries. In sparse input every stored entry is data, explicit zeros too; in a dense array NaN means
        unseen. Not modified. Blocks are those of a :class:`solvers.completion.StoredMatrix` (files, for data larger than
        memory) or of a dask array (on the workers of its cluster): least squares, not ``loss="huber"``.
    rank : int
        k, from 1 to min(m, n).
    weights : array_like or scipy.sparse, optional
        Non-negative w: one per entry in the order given, or of A's shape. Weight 0 means unseen. For a matrix in
        blocks, another one with the same positions and positive values.
    reg : float
        Multiplier of the nuclear norm, equal to reg/2 (‖F‖² + ‖G‖²) over factors X = F Gᵀ.
    reg_scaling : {"plain", "count"}
        "count" penalises the factor rows by their numbers of entries (the convention of ALS-WR and Spark): the norm of
        D^{1/2} X E^{1/2} with row and column counts on the diagonals.
    loss : {"l2", "huber"}
        "huber" withstands gross outliers; with ``reg=0`` and ``delta="auto"`` entries further off than 4 delta are
        listed as outliers, and their loss is capped at that of 4 delta.
    delta : float or "auto"
        Huber threshold in the unit of A; "auto" takes 1.345 robust standard deviations of the residuals.
    biases : bool
        Fit row and column effects first, shrunk by variances that are estimated by moments, and complete the remainder.
        ``fun`` and ``bound`` hold for these effects.
    holdout : float
        Fraction of the entries kept out of the fit to measure ``holdout_rmse``.
    duplicates : {"error", "mean"}
        What repeated positions mean: a mistake, or measurements to be averaged (their weights add).
    method : {"auto", "altmin", "altmin-exact", "altmin-sketch", "gauss-newton"}
        How rows are solved: "altmin" chooses per row by operation counts between a Gram matrix with Cholesky factor and
        conjugate gradients in an orthonormal basis; "altmin-exact" always takes the first; "altmin-sketch"
        refines from the Gram matrix of a leverage sample of the row, the analysed algorithm ("altmin" uses it for long
        rows of uneven leverage). "gauss-newton" (``reg=0``, least squares): truncated Gauss-Newton steps on both factors,
        then variable projection, for masks near the information limit. "auto" is "altmin", and "gauss-newton" where
        that stalls with at most 2.5 entries per degree of freedom; the result's ``method`` says which it was.
    x0 : CompletionResult, (U, s, V) or (U, V), optional
        Where to start; fewer columns than the rank are added to.
    tol : float
        With ``reg > 0`` the run ends as OPTIMAL once ``gap <= tol``, and as CONVERGED if sweeps stop improving first
        (the rank is then too small for the convex optimum). With ``reg == 0`` it ends once the root mean square
        residual is below 1e-3 sqrt(tol) times that of A (OPTIMAL: nothing fits better; the default gives six digits,
        1e-12 gives nine), or falls by less than a fraction tol per sweep (CONVERGED).
    max_iter : int, optional
        Sweeps over rows and columns; 500 by default.
    time_limit : float, optional
        Seconds.
    callback : callable, optional
        Called as ``callback(intermediate_result)`` after each sweep; a true answer or StopIteration ends the run.
    rng : int, Generator, SeedSequence or None
        Seeds the held-out draw and the start.
    history : bool
        Keep a :class:`solvers.History` of the sweeps.
    verbose : {0, 1, 2}
        Silent; a summary line; a table row per sweep (standard error).
    backend : {"auto", "numba", "array", "cupy"}
        "auto" runs where the data live: compiled kernels for NumPy and scipy.sparse, array code on the device of
        CuPy arrays and of other array-API libraries (A dense, or a tuple of arrays), where rows of like length are
        solved together. Sweeps and growth run there; objective and bound are computed on the host, from one copy of
        the entries. ``loss="huber"``, "altmin-sketch" and "gauss-newton" are for the host.
    options : mapping, optional
        ``precision`` ("double" or "single"): arithmetic of the sweeps; the answer's objective and bound are always
        computed in double. ``stage_sweeps``: sweeps per rank of the continuation (1 with a penalty, 3 without).
        ``certify`` (True): with False the bound is the trivial 0, and a penalised run ends where a sweep lowers the
        objective by less than a fraction ``tol``: for searches among many fits.
        ``theory`` (False): the literal algorithm of the theorems, with fresh samples in each of ``rounds`` (10) rounds, a
        start clipped for the incoherence ``incoherence`` (3.0) and rows solved to the fixed accuracy ``inner_tol``
        (1e-10); it needs reg=0, loss="l2" and 2 rounds + 1 times the data.

    Returns
    -------
    CompletionResult
        ``U`` (m, k), ``s`` (k,), ``V`` (n, k), ``fun``, ``bound``, ``gap``, ``predict(rows, cols)``, ``determined``, …

    Raises
    ------
    InvalidProblemError
        Bad values, shapes or options.

    Notes
    -----
    *Guarantee.* With ``reg > 0``, ``bound`` is at most the objective of every X of any rank: a dual point of the convex
    problem, its spectral norm bounded in full for small matrices and with failure probability 1e-10 otherwise. With
    ``reg == 0`` it is 0, and ``determined`` says whether the entries fix the completion returned locally, or that they
    fix none; an answer that they do not fix has ``success=False``, however small its residual: STALLED, or the limit that
    ended the run.

    *Algorithm.* The rank grows from 1 to k by leading singular pairs of the residual, with a few sweeps at each. A
    sweep solves rows, then columns, as small least-squares problems in the singular basis of the iterate, to an
    accuracy tied to the last sweep's progress. With outliers: Huber weights at a falling threshold, rejection
    that is tried on a copy, and under noise several starts, of which the least capped loss is kept.

    *Complexity.* A sweep takes O(N k) operations per conjugate gradient step for N entries, or O(N k² + (m + n) k³)
    exactly; memory O(N + (m + n) k).

    References
    ----------
    P. Jain, P. Netrapalli and S. Sanghavi, Low-rank matrix completion using alternating minimization, STOC 2013.
    Y. Gu, Z. Song, J. Yin and L. Zhang, Low rank matrix completion via robust alternating minimization in nearly linear
    time, ICLR 2024.
    J. Kuczynski and H. Wozniakowski, Estimating the largest eigenvalue by the power and Lanczos algorithms with a
    random start, SIAM J. Matrix Anal. Appl. 13, 1992.

    Examples
    --------
    >>> import numpy as np, solvers
    >>> A = np.outer([1.0, 2.0, 3.0, 4.0], [1.0, -1.0, 2.0])
    >>> A[0, 1] = A[3, 2] = np.nan
    >>> result = solvers.complete_matrix(A, 1, tol=1e-12, rng=0)
    >>> result.predict([0, 3], [1, 2]).round(6), result.determined
    (array([-1.,  8.]), True)
    """
    entry = entry_named("complete_matrix")
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
    settings = common.settings(Settings)
    check_choice("options['precision']", settings.precision, ("double", "single"))
    if settings.stage_sweeps is not None:
        check_integer("options['stage_sweeps']", settings.stage_sweeps, low=1)
    check_integer("options['rounds']", settings.rounds, low=1)
    check_number("options['incoherence']", settings.incoherence, low=0.0, strict=True)
    check_number("options['inner_tol']", settings.inner_tol, low=0.0, strict=True)
    for name in ("theory", "certify"):
        if getattr(settings, name) not in (True, False):
            raise TypeError(f"options[{name!r}] must be True or False; got {getattr(settings, name)!r}")
    data: dict[str, Any] = {
        "weights": weights, "reg": reg, "reg_scaling": reg_scaling, "loss": loss, "delta": delta, "biases": biases,
        "holdout": holdout, "duplicates": duplicates,
    }  # fmt: skip
    matrix = as_blocked(A)
    if matrix is not None:
        run: Run = _blocked_run(matrix, rank, data, backend, common, settings)
    else:
        run = _run_in_memory(A, rank, data, x0, backend, common, settings)
    start = run.start_from(x0)
    run.open(start)
    if run.monitor.status is None:
        _solve(run, start, method)
    run.monitor.finish(Status.CONVERGED, "" if run.problem.reg > 0.0 else WITHOUT_PENALTY)
    return run.conclude()


def _run_in_memory(
    A: Any, rank: int, data: dict[str, Any], x0: Any, backend: str, common: Common, settings: Settings
) -> Run:
    """Validate data in memory and set them up for the chosen kernels."""
    weights, holdout, duplicates = (data.pop(name) for name in ("weights", "holdout", "duplicates"))
    reg, loss = data["reg"], data["loss"]
    chosen, method = _backend(backend, A, weights), common.method
    if chosen.name != "numba" and (loss == "huber" or method in HOST_METHODS or settings.theory):
        raise BackendError(
            f"loss='huber', theory and the methods {', '.join(HOST_METHODS)} run on the host; got loss={loss!r}, "
            f"method={method!r} with backend={chosen.name!r}: convert to NumPy first"
        )
    everything = read_observations(*data_at_home(A, weights), duplicates)
    if isinstance(A, np.ndarray) or hasattr(A, "columns"):
        _warn_of_triplets(everything)
    observed, held = split_holdout(everything, holdout, common.rng)
    problem = completion_problem(observed, held, rank, **data)
    refuse_beyond_memory(
        BYTES_PER_ENTRY * observed.size + 64.0 * sum(problem.shape) * problem.rank,
        what=f"completing {observed.size} entries at rank {problem.rank}",
        instead="lower the rank, or write the matrix to files (solvers.completion.StoredMatrix)",
    )
    if method == "gauss-newton" and (problem.reg > 0.0 or problem.loss == "huber" or settings.precision == "single"):
        raise InvalidProblemError(
            "method='gauss-newton' needs reg=0, loss='l2' and double precision; "
            f"got reg={reg!r}, loss={loss!r}, precision={settings.precision!r}"
        )
    _check_range(float(np.max(np.abs(problem.targets))), settings)
    if settings.theory and not _analysed(problem, method, settings, x0):
        raise InvalidProblemError(
            "options['theory'] needs reg=0, loss='l2', double precision, no x0, and method 'auto' or 'altmin-sketch'; got "
            f"reg={reg!r}, loss={loss!r}, precision={settings.precision!r}, method={method!r}"
        )
    run = Run(problem, common, settings, DEFAULT_SWEEPS)
    if chosen.name != "numba":
        run.on_device(chosen)
    return run


def _warn_of_triplets(observed: Observations) -> None:
    """Warn where an array looks like a table of entries: full, of three columns, two of them row and column numbers."""
    m, n = observed.shape
    if n != 3 or observed.size != m * n or m <= n:
        return
    pairs = observed.values.reshape(m, n)[:, :2]
    if (pairs >= 0).all() and (pairs == np.floor(pairs)).all() and len(np.unique(pairs, axis=0)) == m:
        warnings.warn(
            f"A of shape ({m}, 3) is read as a dense matrix without missing entries; if its columns are rows, columns and "
            "values of entries, pass the tuple (rows, cols, values, shape)",
            SolverWarning,
            stacklevel=4,
        )


def _check_range(largest: float, settings: Settings) -> None:
    """Refuse single precision where squares would leave its range."""
    if settings.precision == "single" and largest and not 1.0 / SINGLE_RANGE <= largest <= SINGLE_RANGE:
        raise InvalidProblemError(
            f"options['precision']='single' needs entries of sizes between {1 / SINGLE_RANGE:g} and {SINGLE_RANGE:g}; the "
            f"largest is {largest:.3g}: rescale A, or use precision='double'"
        )


def _blocked_run(
    matrix: BlockedMatrix, rank: int, data: dict[str, Any], backend: str, common: Common, settings: Settings
) -> Run:
    """Validate a problem whose entries are in files or on workers."""
    if check_choice("backend", backend, BACKENDS) not in ("auto", "numba"):
        raise BackendError(f"a {type(matrix).__name__} runs on backend 'numba'; got {backend!r}")
    if common.method == "gauss-newton" or settings.theory:
        raise InvalidProblemError(
            f"method='gauss-newton' and options['theory'] need the entries in memory; got a {type(matrix).__name__}"
        )
    problem = blocked_problem(matrix, rank, **data, rng=common.rng)
    _check_range(problem.largest_target, settings)
    return BlockedRun(problem, common, settings, DEFAULT_SWEEPS)


def _solve(run: Run, start: Factors, method: str) -> None:
    """Alternating minimisation, and near the information limit what succeeds where it stalls."""
    if run.settings.theory:
        run.monitor.method = "altmin-sketch"
        split_alternate(run)
        return
    if run.problem.loss == "huber":
        robust_alternate(run, start, INNER[method])
        return
    if method == "gauss-newton":
        factors = near_limit(run)
    else:
        watch = method == "auto" and type(run.work) is Workspace and within_reach(run)
        factors = alternate(run, start, INNER[method], watch=watch)
        if not watch or run.monitor.status is not None:
            return
        run.monitor.method = "gauss-newton"
        near_limit(run)
        factors = run.monitor.x
    polish(run, Sweeper(run, "exact"), factors)


def _analysed(problem: CompletionProblem, method: str, settings: Settings, x0: Any) -> bool:
    """Whether the literal algorithm applies."""
    plain = problem.reg == 0.0 and problem.loss == "l2" and settings.precision == "double" and x0 is None
    return plain and method in ("auto", "altmin-sketch")


def _backend(requested: str, A: Any, weights: Any) -> Backend:
    """Kernels for the data's kind of array; scipy.sparse lives on the host."""
    parts = dict(zip(("rows", "cols", "values"), A, strict=False)) if isinstance(A, tuple) else {"A": A}
    parts["weights"] = weights
    plain: dict[str, Any] = {
        name: np.empty(0) if kind_of(value) == "sparse" else value for name, value in parts.items()
    }
    return choose_backend(__package__, requested, entry_named("complete_matrix").backends, **plain)
