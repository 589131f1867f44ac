"""What the library offers: static data, so that the front door stays light.

An :class:`Entry` is one public solver. Adding a method means adding its entry here and its names to ``EXPORTS``; the
conformance suite and the command line do the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BATCHES", "DEMOS", "ENTRIES", "EXPORTS", "Entry", "catalogue", "entry_named"]


@dataclass(frozen=True)
class Entry:
    """One solver.

    Attributes
    ----------
    name, family, sense : str
        The function, the package it lives in, and "min" or "max".
    summary, guarantee : str
        What it solves; what ``bound`` proves.
    methods, backends : tuple of str
        Accepted values of ``method`` and of ``backend`` (besides "auto" for the latter).
    omits : tuple of str
        Shared keywords it cannot honour and therefore does not take.
    reference : str
        The source of the method.
    verifier, model, warm_up : str
        ``module:function`` of its independent check, its convex model ("" if none) and its compilation ahead of time.
    """

    name: str
    family: str
    sense: str
    summary: str
    guarantee: str
    methods: tuple[str, ...]
    backends: tuple[str, ...]
    omits: tuple[str, ...]
    reference: str
    verifier: str
    model: str
    warm_up: str


ENTRIES: tuple[Entry, ...] = (
    Entry(
        name="kmeans_sdp",
        family="clustering",
        sense="min",
        summary="k-means clustering with a certified lower bound, by the Peng-Wei semidefinite relaxation",
        guarantee="bound <= cost of every clustering into n_clusters groups",
        methods=("auto", "structured", "admm"),
        backends=("numba", "array", "cupy"),
        omits=(),
        reference="Peng and Wei, Approximating k-means-type clustering via semidefinite programming, SIAM J. Optim. 2007",
        verifier="clustering._verify:verify_kmeans_sdp",
        model="clustering._models:kmeans_sdp_model",
        warm_up="clustering._warm_up:kmeans_sdp",
    ),
    Entry(
        name="certify_kmeans",
        family="clustering",
        sense="min",
        summary="certified optimality gap of a k-means clustering from anywhere",
        guarantee="bound <= cost of every clustering into as many groups",
        methods=("auto", "structured"),
        backends=("numba", "array", "cupy"),
        omits=("x0", "rng"),
        reference="Iguchi, Mixon, Peterson and Villar, Probably certifiably correct k-means clustering, Math. Program. 2017",
        verifier="clustering._verify:verify_certify_kmeans",
        model="clustering._models:certify_kmeans_model",
        warm_up="clustering._warm_up:certify_kmeans",
    ),
    Entry(
        name="rank_tsp",
        family="ranking",
        sense="max",
        summary="the ranking of greatest sum of scores between neighbours, proved best by branch and bound",
        guarantee="bound >= score of every path (<= when minimising)",
        methods=("auto", "exact", "heuristic", "greedy", "dynamic-programming"),
        backends=("numba",),
        omits=(),
        reference="Carpaneto, Dell'Amico and Toth, Exact solution of large-scale asymmetric TSPs, ACM TOMS 1995",
        verifier="ranking._verify:verify_rank_tsp",
        model="ranking._models:rank_tsp_model",
        warm_up="ranking._warm_up:rank_tsp",
    ),
)

# Solvers of many problems at once: the fields of their results are arrays, one row per problem.
BATCHES: tuple[Entry, ...] = (
    Entry(
        name="rank_tsp_batch",
        family="ranking",
        sense="max",
        summary="best paths of thousands of small groups, each with its own proof",
        guarantee="bound[g] >= score of every path of group g (<= when minimising)",
        methods=("auto", "exact"),
        backends=("numba",),
        omits=("x0", "max_iter", "callback", "history"),
        reference="Carpaneto, Dell'Amico and Toth, Exact solution of large-scale asymmetric TSPs, ACM TOMS 1995",
        verifier="ranking._verify:verify_rank_tsp_batch",
        model="",
        warm_up="ranking._warm_up:rank_tsp_batch",
    ),
)

# Functions and Result classes reachable as solvers.<name>; nouns live at solvers.<family>.
EXPORTS: dict[str, str] = {
    "ClusteringResult": "clustering",
    "certify_kmeans": "clustering",
    "kmeans_sdp": "clustering",
    "RankingResult": "ranking",
    "RankingBatch": "ranking",
    "rank_borda": "ranking",
    "rank_tsp": "ranking",
    "rank_tsp_batch": "ranking",
    "History": "solvers._core.result",
    "Result": "solvers._core.result",
    "Status": "solvers._core.result",
    "Verification": "solvers._core.result",
    "BackendError": "solvers._core.errors",
    "CertificateError": "solvers._core.errors",
    "ConvergenceWarning": "solvers._core.errors",
    "DeviceError": "solvers._core.errors",
    "InvalidProblemError": "solvers._core.errors",
    "MissingDependencyError": "solvers._core.errors",
    "PrecisionWarning": "solvers._core.errors",
    "SolverWarning": "solvers._core.errors",
    "SolversError": "solvers._core.errors",
    "catalogue": "solvers._catalogue",
    "load_example": "solvers._examples",
    "reference_model": "solvers._core.proofs",
    "verify": "solvers._core.proofs",
    "warm_up": "solvers._warm_up",
}

# Family -> module with the functions ``table()`` and ``figures(folder)`` of the demo.
DEMOS: dict[str, str] = {"clustering": "clustering._demo", "ranking": "ranking._demo"}


def catalogue() -> tuple[Entry, ...]:
    """Every solver of the library."""
    return (*ENTRIES, *BATCHES)


def entry_named(name: str) -> Entry:
    """The entry of a function; KeyError-like message listing what there is."""
    for entry in catalogue():
        if entry.name == name:
            return entry
    known = ", ".join(entry.name for entry in catalogue())
    raise ValueError(f"no solver is called {name!r}; known: {known}")
