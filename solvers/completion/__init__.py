"""Low-rank matrix completion with certificates: robust alternating minimisation."""

from __future__ import annotations

from solvers.completion._certificate import DualCertificate, TrivialCertificate
from solvers.completion._complete_matrix import complete_matrix
from solvers.completion._result import CompletionResult

__all__ = ["CompletionResult", "DualCertificate", "TrivialCertificate", "complete_matrix"]
