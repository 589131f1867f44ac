"""Low-rank matrix completion with certificates: robust alternating minimisation."""

from __future__ import annotations

from solvers._core.lazy import lazy_names
from solvers.completion._certificate import DualCertificate, TrivialCertificate
from solvers.completion._complete_matrix import complete_matrix
from solvers.completion._result import CompletionResult
from solvers.completion._select_rank import RankSelection, select_rank
from solvers.completion._select_reg import RegSelection, select_reg
from solvers.completion._stored import StoredMatrix

__all__ = [
    "CompletionResult",
    "DualCertificate",
    "MatrixCompleter",
    "RankSelection",
    "RegSelection",
    "StoredMatrix",
    "TrivialCertificate",
    "complete_matrix",
    "select_rank",
    "select_reg",
]

# The estimator's base class makes scikit-learn load: only where it is asked for.
__getattr__, __dir__ = lazy_names(__name__, {"MatrixCompleter": "solvers.completion._completer"})
