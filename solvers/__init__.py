"""Classical solvers whose every answer carries its proof.

A call returns the answer, its objective, a rigorous bound on the best possible objective and their gap;
:func:`solvers.verify` re-checks the claim. ``solvers.catalogue()`` lists what there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from solvers import _ownership
from solvers._catalogue import EXPORTS
from solvers._core.lazy import lazy_names

__version__ = "0.1.0"

_FAMILIES = ("bcd", "clustering", "completion", "matching", "ranking")

__all__ = [*EXPORTS, "__version__"]

_ownership.check()

_lazy_getattr, __dir__ = lazy_names(__name__, EXPORTS)


def __getattr__(name: str) -> object:
    if name in _FAMILIES:
        import importlib

        return importlib.import_module(f"{__name__}.{name}")
    try:
        return _lazy_getattr(name)
    except AttributeError as error:
        homes = ", ".join(f"{__name__}.{family}" for family in _FAMILIES)
        raise AttributeError(f"{error}; estimators, helpers and problem objects are in {homes}") from None


if TYPE_CHECKING:
    from clustering import ClusteringResult as ClusteringResult
    from clustering import GaussianClusteringResult as GaussianClusteringResult
    from clustering import certify_kmeans as certify_kmeans
    from clustering import ila_sdp as ila_sdp
    from clustering import kmeans_sdp as kmeans_sdp
    from matching import MatchingResult as MatchingResult
    from matching import match_online as match_online
    from matching import pivotal_sample as pivotal_sample
    from ranking import PrecedenceRanking as PrecedenceRanking
    from ranking import RankingBatch as RankingBatch
    from ranking import RankingResult as RankingResult
    from ranking import rank_borda as rank_borda
    from ranking import rank_linear as rank_linear
    from ranking import rank_tsp as rank_tsp
    from ranking import rank_tsp_batch as rank_tsp_batch
    from solvers._catalogue import catalogue as catalogue
    from solvers._core.errors import BackendError as BackendError
    from solvers._core.errors import CertificateError as CertificateError
    from solvers._core.errors import ConvergenceWarning as ConvergenceWarning
    from solvers._core.errors import DeviceError as DeviceError
    from solvers._core.errors import InvalidProblemError as InvalidProblemError
    from solvers._core.errors import MissingDependencyError as MissingDependencyError
    from solvers._core.errors import PrecisionWarning as PrecisionWarning
    from solvers._core.errors import SolversError as SolversError
    from solvers._core.errors import SolverWarning as SolverWarning
    from solvers._core.proofs import reference_model as reference_model
    from solvers._core.proofs import verify as verify
    from solvers._core.result import History as History
    from solvers._core.result import Result as Result
    from solvers._core.result import Status as Status
    from solvers._core.result import Verification as Verification
    from solvers._examples import load_example as load_example
    from solvers._warm_up import warm_up as warm_up
    from solvers.bcd import BCDResult as BCDResult
    from solvers.bcd import PropagationResult as PropagationResult
    from solvers.bcd import label_propagation as label_propagation
    from solvers.bcd import minimize_bcd as minimize_bcd
    from solvers.completion import CompletionResult as CompletionResult
    from solvers.completion import complete_matrix as complete_matrix
