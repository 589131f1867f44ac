"""The completion entry for the conformance suite."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from cases import Bad, Case

from solvers import InvalidProblemError
from solvers.completion import DualCertificate


def noisy() -> np.ndarray:
    """A 9 x 8 matrix near rank 2 with a quarter of its entries unseen."""
    rng = np.random.default_rng(7103)
    A = rng.standard_normal((9, 2)) @ rng.standard_normal((2, 8)) + 0.1 * rng.standard_normal((9, 8))
    A[rng.random(A.shape) < 0.25] = np.nan
    return A


def larger() -> np.ndarray:
    """A 70 x 60 matrix of noise around rank 3: no sweep ends it at once."""
    rng = np.random.default_rng(7104)
    A = rng.standard_normal((70, 3)) @ rng.standard_normal((3, 60)) + 0.3 * rng.standard_normal((70, 60))
    A[rng.random(A.shape) < 0.5] = np.nan
    return A


def penalised(reg: float) -> Any:
    def objective(result: Any, A: np.ndarray, *_: Any) -> float:
        X = (result.U * result.s) @ result.V.T
        return 0.5 * float(np.nansum((X - A) ** 2)) + reg * float(np.linalg.norm(X, "nuc"))

    return objective


def convex_optimum(A: np.ndarray, *_: Any) -> float:
    """The nuclear-norm optimum by proximal gradient steps, to rounding."""
    seen, X = ~np.isnan(A), np.zeros(A.shape)
    for _step in range(5000):
        gradient = np.where(seen, X - np.nan_to_num(A), 0.0)
        u, s, vt = np.linalg.svd(X - gradient, full_matrices=False)
        X = (u * np.maximum(s - 1.0, 0.0)) @ vt
    return 0.5 * float(np.nansum((X - A) ** 2)) + float(np.linalg.norm(X, "nuc"))


def forged(result: Any) -> Iterator[tuple[str, Any]]:
    """Results that are not what they claim."""
    certificate = result.certificate
    if isinstance(certificate, DualCertificate) and result.bound > 0:
        for what, changes in {
            "factors moved": {"left": certificate.left + 0.1},
            "other threshold": {"delta": 1.0},
            "factors with NaN": {"left": certificate.left * np.nan},
            "factors of wrong shape": {"left": certificate.left[1:]},
        }.items():
            copied = copy.deepcopy(result)
            copied["certificate"] = dataclasses.replace(certificate, **changes)
            yield what, copied
    for field, value in (("U", result.U * 1.001), ("s", result.s[::-1] + 0.1), ("delta", 0.5)):
        copied = copy.deepcopy(result)
        copied[field] = value
        yield field, copied


BAD = (
    Bad("no entry", (np.full((3, 3), np.nan), 1), {}, InvalidProblemError, "at least one observed"),
    Bad("infinite", (np.full((3, 3), np.inf), 1), {}, InvalidProblemError, "finite or NaN"),
    Bad("complex", (np.ones((3, 3)) * 1j, 1), {}, InvalidProblemError, "dtype"),
    Bad("object", (np.ones((3, 3), dtype=object), 1), {}, InvalidProblemError, "dtype"),
    Bad("one dimension", (np.ones(3), 1), {}, InvalidProblemError, "dimension"),
    Bad("rank zero", (noisy(), 0), {}, ValueError, "rank"),
    Bad("rank too large", (noisy(), 9), {}, InvalidProblemError, "at most min"),
    Bad("negative reg", (noisy(), 1), {"reg": -1.0}, ValueError, "reg"),
    Bad("negative weights", (noisy(), 1), {"weights": -np.ones((9, 8))}, InvalidProblemError, "non-negative"),
    Bad("unknown loss", (noisy(), 1), {"loss": "l1"}, ValueError, "loss"),
    Bad("all held out", (noisy(), 1), {"holdout": 1.0}, ValueError, "holdout"),
)

CASES = (
    Case(
        entry="complete_matrix",
        problem=lambda: (noisy(), 8),
        loose=lambda: (larger(), 20),
        methods=("auto", "altmin", "altmin-exact", "altmin-sketch"),
        objective=penalised(1.0),
        optimum=convex_optimum,
        array_arguments=(),
        keywords={"reg": 1.0},
        tampered=forged,
        bad=BAD,
        tolerance=1e-8,
    ),
    Case(
        entry="complete_matrix",
        problem=lambda: (noisy(), 2),
        loose=lambda: (larger(), 3),
        methods=("auto", "altmin", "altmin-exact", "altmin-sketch", "gauss-newton"),
        objective=penalised(0.0),
        array_arguments=(),
        tampered=forged,
        bad=BAD,
        tolerance=1e-8,
    ),
)
