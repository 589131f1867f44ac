"""Greedy block coordinate descent with message passing, certified. Part of certified-solvers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from solvers._core.lazy import lazy_names
from solvers.bcd._forest import ForestFactor, NotAForestError, solve_forest
from solvers.bcd._incremental import IncrementalQuadratic
from solvers.bcd._label_problem import PropagationCertificate
from solvers.bcd._label_propagation import PropagationResult, label_propagation
from solvers.bcd._loss import LinearLoss, Loss
from solvers.bcd._losses import Huber, LeastSquares, Logistic, Softmax
from solvers.bcd._minimize_bcd import minimize_bcd
from solvers.bcd._path import bcd_path
from solvers.bcd._penalties import L1, Box, ElasticNet, GroupL2, NonNegative, Penalty
from solvers.bcd._quadratic import Quadratic
from solvers.bcd._result import BCDResult, DualCertificate, PointCertificate

__all__ = [
    "L1",
    "BCDLasso",
    "BCDLogisticRegression",
    "BCDResult",
    "Box",
    "DualCertificate",
    "ElasticNet",
    "ForestFactor",
    "GroupL2",
    "Huber",
    "IncrementalQuadratic",
    "LeastSquares",
    "LinearLoss",
    "Logistic",
    "Loss",
    "NonNegative",
    "NotAForestError",
    "Penalty",
    "PointCertificate",
    "PropagationCertificate",
    "PropagationResult",
    "Quadratic",
    "Softmax",
    "bcd_path",
    "label_propagation",
    "minimize_bcd",
    "solve_forest",
]

# scikit-learn is imported with the first estimator.
__getattr__, __dir__ = lazy_names(
    __name__,
    {"BCDLasso": "solvers.bcd._estimators", "BCDLogisticRegression": "solvers.bcd._estimators"},
)

if TYPE_CHECKING:
    from solvers.bcd._estimators import BCDLasso, BCDLogisticRegression
