"""What every call returns: an answer, its objective, a proved bound, and how the run ended.

The relative gap of an answer is

    gap = (fun - bound) / max(|fun|, |bound|, 1e-6 * scale)        when minimising,

negated when maximising, with ``scale`` the entry's documented size of the problem.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import OptimizeResult
from scipy.sparse import issparse

__all__ = ["History", "Result", "Sense", "Status", "Verification", "relative_gap"]

Sense = Literal["min", "max"]

# Below this fraction of the problem's size an objective counts as zero in a relative gap.
NEGLIGIBLE = 1e-6


class Status(IntEnum):
    """Why a run ended; one meaning for every solver."""

    OPTIMAL = 0
    CONVERGED = 1
    MAX_ITER = 2
    TIME_LIMIT = 3
    CALLBACK_STOP = 4
    STALLED = 5
    INFEASIBLE = 6
    UNBOUNDED = 7
    NUMERICAL_ERROR = 8

    def __str__(self) -> str:
        return self.name

    def __format__(self, spec: str) -> str:
        return format(int(self) if spec.endswith("d") else self.name, spec)

    @property
    def success(self) -> bool:
        """Whether the run met its own goal."""
        return self in (Status.OPTIMAL, Status.CONVERGED)

    @property
    def advice(self) -> str:
        """One sentence: what the status means and what to do next."""
        return _ADVICE[self]


_ADVICE = {
    Status.OPTIMAL: "Proved: no answer is better by more than the tolerance.",
    Status.CONVERGED: "The method met its own test; the gap says how much of it is proved.",
    Status.MAX_ITER: "The iteration limit was reached; raise max_iter or start from this result with x0.",
    Status.TIME_LIMIT: "The time limit was reached; raise time_limit or start from this result with x0.",
    Status.CALLBACK_STOP: "The callback asked to stop; the best point so far is returned.",
    Status.STALLED: "No further progress at this precision; try another method or a looser tol.",
    Status.INFEASIBLE: "No answer satisfies the constraints; the certificate holds the proof.",
    Status.UNBOUNDED: "The objective has no finite optimum; add a penalty or bounds.",
    Status.NUMERICAL_ERROR: "Arithmetic broke down; rescale the data or choose another method.",
}


def relative_gap(fun: float, bound: float, sense: Sense, scale: float) -> float:
    """Relative distance of an objective from its bound, infinite where nothing is proved.

    Negative where the bound is past the objective; callers decide whether that is rounding.
    """
    if not (math.isfinite(fun) and math.isfinite(bound)):
        return math.inf
    signed = fun - bound if sense == "min" else bound - fun
    size = max(abs(fun), abs(bound), NEGLIGIBLE * scale)
    return signed / size if size > 0 else (0.0 if signed == 0 else math.copysign(math.inf, signed))


@dataclass(frozen=True)
class History:
    """One row per checkpoint; columns are float64 arrays of equal length."""

    nit: npt.NDArray[np.float64]
    time: npt.NDArray[np.float64]
    fun: npt.NDArray[np.float64]
    bound: npt.NDArray[np.float64]
    gap: npt.NDArray[np.float64]
    residual: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.nit)


@dataclass(frozen=True)
class Verification:
    """What an independent check of a result established.

    Attributes
    ----------
    ok : bool
        True iff the answer is feasible, ``fun`` is right and ``bound`` is no stronger than what was re-established.
    fun, bound, gap : float
        The values as recomputed.
    message : str
        What was checked, or the first thing that failed.
    """

    ok: bool
    fun: float
    bound: float
    gap: float
    message: str

    def __bool__(self) -> bool:
        return self.ok


class Result(OptimizeResult):
    """A :class:`scipy.optimize.OptimizeResult` with a proof.

    Attributes
    ----------
    entry : str
        Name of the function that produced it.
    x : array or None
        The answer.
    fun, bound, gap : float
        Objective of ``x``; proved bound on the best objective; their relative distance.
    sense : {"min", "max"}
        Direction of optimisation.
    status, success, message
        How the run ended, whether that met its goal, and a sentence of advice.
    nit : int
        Iterations.
    time : float
        Wall seconds, compilation excluded.
    backend, method : str
        What ran.
    certificate : dataclass or None
        What :func:`solvers.verify` needs to re-establish ``bound``.
    history : History or None
        Progress, where ``history=True``.
    scale, tol : float
        Size of the problem that gaps of small objectives are relative to, and the tolerance of the call.
    """

    entry: str
    x: Any
    fun: float
    bound: float
    gap: float
    sense: Sense
    status: Status
    success: bool
    message: str
    nit: int
    time: float
    backend: str
    method: str
    certificate: Any
    history: History | None
    scale: float
    tol: float

    if TYPE_CHECKING:  # a family's fields are keywords too

        def __init__(self, *parts: Any, **fields: Any) -> None: ...

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.keys()})

    def __repr__(self) -> str:
        """The claim first; sparse matrices and certificates, which may be large, in one line."""
        first = ("message", "success", "status", "fun", "bound", "gap")
        shown: dict[str, Any] = {name: self[name] for name in (*first, *self) if name in self}
        for name, value in shown.items():
            if name in ("certificate", "history") and value is not None:
                shown[name] = f"<{type(value).__name__}>"
            elif issparse(value):
                shown[name] = " ".join(repr(value).split())
        return OptimizeResult.__repr__(Result(shown, _order_keys=list(shown))) if shown else "Result()"
