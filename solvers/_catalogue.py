"""What the library offers: static data, so that the front door stays light.

An :class:`Entry` is one public solver. Adding a method means adding its entry here and its names to ``EXPORTS``; the
conformance suite and the command line do the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEMOS", "ENTRIES", "EXPORTS", "Entry", "catalogue", "entry_named"]


@dataclass(frozen=True)
class Entry:
    """One solver.

    Attributes
    ----------
    name, family, sense : str
        The function, its family (importable as ``solvers.<family>``), and "min" or "max".
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
    batch : bool
        True where one call answers many problems: ``fun``, ``bound``, ``gap`` and ``status`` are arrays, and item i of the
        result is the answer of problem i.
    host_methods : tuple of str
        Methods that take NumPy arrays only, of an entry with other backends: their work is sequential.
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
    batch: bool = False
    host_methods: tuple[str, ...] = ()


ENTRIES: tuple[Entry, ...] = (
    Entry(
        name="kmeans_sdp",
        family="clustering",
        sense="min",
        summary="k-means clustering with a certified lower bound, by the Peng-Wei semidefinite relaxation",
        guarantee="bound <= cost of every clustering into n_clusters groups",
        methods=("auto", "structured", "admm", "low-rank", "blocks", "exact"),
        backends=("numba", "array", "cupy"),
        omits=(),
        reference="Peng and Wei, Approximating k-means-type clustering via semidefinite programming, SIAM J. Optim. 2007",
        verifier="clustering._verify:verify_kmeans_sdp",
        model="clustering._models:kmeans_sdp_model",
        warm_up="clustering._warm_up:kmeans_sdp",
        host_methods=("exact",),
    ),
    Entry(
        name="certify_kmeans",
        family="clustering",
        sense="min",
        summary="certified optimality gap of a k-means clustering from anywhere",
        guarantee="bound <= cost of every clustering into as many groups",
        methods=("auto", "structured", "admm", "blocks"),
        backends=("numba", "array", "cupy"),
        omits=("x0", "rng"),
        reference="Iguchi, Mixon, Peterson and Villar, Probably certifiably correct k-means clustering, Math. Program. 2017",
        verifier="clustering._verify:verify_certify_kmeans",
        model="clustering._models:certify_kmeans_model",
        warm_up="clustering._warm_up:certify_kmeans",
    ),
    Entry(
        name="ila_sdp",
        family="clustering",
        sense="max",
        summary="Gaussian clusters of different shapes, by the likelihood-adjusted semidefinite relaxation",
        guarantee="assignment_bound >= likelihood of every labelling at the returned covariances",
        methods=("auto", "relaxation", "low-rank", "subsample"),
        backends=("numba",),
        omits=(),
        reference="Zhuang, Chen and Yang, Likelihood adjusted semidefinite programs for clustering heterogeneous data, 2022",
        verifier="clustering._verify_likelihood:verify_ila_sdp",
        model="clustering._models:ila_sdp_model",
        warm_up="clustering._warm_up:ila_sdp",
    ),
    Entry(
        name="minimize_bcd",
        family="bcd",
        sense="min",
        summary="loss plus separable penalty (Lasso, logistic, bounds, graphs) by greedy block coordinate descent",
        guarantee="bound <= loss + penalty at every x",
        methods=("auto", "paper"),
        backends=("numba", "array", "cupy"),
        omits=(),
        reference="Nutini, Laradji and Schmidt, Let's make block coordinate descent converge faster, JMLR 2022",
        verifier="solvers.bcd._verify:verify_minimize_bcd",
        model="solvers.bcd._models:minimize_bcd_model",
        warm_up="solvers.bcd._warm_up:minimize_bcd",
    ),
    Entry(
        name="label_propagation",
        family="bcd",
        sense="min",
        summary="smoothest extension of labels over a weighted graph, by message passing",
        guarantee="bound <= energy of every extension",
        methods=("auto",),
        backends=("numba", "array", "cupy"),
        omits=(),
        reference="Zhu, Ghahramani and Lafferty, Semi-supervised learning using Gaussian fields, ICML 2003",
        verifier="solvers.bcd._verify:verify_label_propagation",
        model="solvers.bcd._models:label_propagation_model",
        warm_up="solvers.bcd._warm_up:label_propagation",
    ),
    Entry(
        name="complete_matrix",
        family="completion",
        sense="min",
        summary="low-rank matrix completion by robust alternating minimisation, with a dual certificate",
        guarantee="bound <= objective of every matrix of any rank (0 without a nuclear-norm term)",
        methods=("auto", "altmin", "altmin-exact", "altmin-sketch", "gauss-newton"),
        backends=("numba", "array", "cupy"),
        omits=(),
        reference="Gu, Song, Yin and Zhang, Low rank matrix completion via robust alternating minimization, ICLR 2024",
        verifier="solvers.completion._verify:verify_complete_matrix",
        model="solvers.completion._models:complete_matrix_model",
        warm_up="solvers.completion._warm_up:complete_matrix",
    ),
    Entry(
        name="match_online",
        family="matching",
        sense="max",
        summary="online Bayesian bipartite matching: a policy, its proved value and a bound on every online policy",
        guarantee="fun <= expected value of the policy <= value of the best online policy <= bound",
        methods=("auto", "pivotal", "independent", "rollout", "dual-price", "greedy"),
        backends=("numba", "array", "cupy"),
        omits=("x0",),
        reference="Braverman, Derakhshan, Pollner, Saberi and Wajc, New philosopher inequalities, SODA 2025",
        verifier="matching._verify:verify_match_online",
        model="matching._models:match_online_model",
        warm_up="matching._warm_up:match_online",
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
    Entry(
        name="rank_tsp_batch",
        family="ranking",
        sense="max",
        summary="best paths of thousands of small groups, each with its own proof",
        guarantee="bound[g] >= score of every path of group g (<= when minimising)",
        methods=("auto", "exact"),
        backends=("numba", "array", "cupy"),
        omits=("x0", "max_iter", "callback", "history"),
        reference="Carpaneto, Dell'Amico and Toth, Exact solution of large-scale asymmetric TSPs, ACM TOMS 1995",
        verifier="ranking._verify:verify_rank_tsp_batch",
        model="ranking._models:rank_tsp_batch_model",
        warm_up="ranking._warm_up:rank_tsp_batch",
        batch=True,
    ),
    Entry(
        name="rank_linear",
        family="ranking",
        sense="max",
        summary="the ranking of greatest total precedence score (linear ordering), with bounds from three-cycles",
        guarantee="bound >= total score of every order",
        methods=("auto", "insertion", "borda"),
        backends=("numba",),
        omits=(),
        reference="Martí and Reinelt, The linear ordering problem, Springer 2011",
        verifier="ranking._precedence_verify:verify_rank_linear",
        model="ranking._models:rank_linear_model",
        warm_up="ranking._warm_up:rank_linear",
    ),
)

_BY_NAME = {entry.name: entry for entry in ENTRIES}

# Functions and Result classes reachable as solvers.<name>; nouns live at solvers.<family>.
EXPORTS: dict[str, str] = {
    "BCDResult": "solvers.bcd",
    "PropagationResult": "solvers.bcd",
    "label_propagation": "solvers.bcd",
    "minimize_bcd": "solvers.bcd",
    "ClusteringResult": "clustering",
    "GaussianClusteringResult": "clustering",
    "certify_kmeans": "clustering",
    "ila_sdp": "clustering",
    "kmeans_sdp": "clustering",
    "CompletionResult": "solvers.completion",
    "complete_matrix": "solvers.completion",
    "MatchingResult": "matching",
    "match_online": "matching",
    "pivotal_sample": "matching",
    "PrecedenceRanking": "ranking",
    "RankingResult": "ranking",
    "RankingBatch": "ranking",
    "rank_borda": "ranking",
    "rank_linear": "ranking",
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
DEMOS: dict[str, str] = {
    "clustering": "clustering._demo",
    "bcd": "solvers.bcd._demo",
    "completion": "solvers.completion._demo",
    "matching": "matching._demo",
    "ranking": "ranking._demo",
}


def catalogue() -> tuple[Entry, ...]:
    """Every solver of the library, as a tuple of entries with ``name``, ``family``, ``guarantee``, ``methods`` and more."""
    return ENTRIES


def entry_named(name: str) -> Entry:
    """The entry of a function; KeyError-like message listing what there is."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    raise ValueError(f"no solver is called {name!r}; known: {', '.join(_BY_NAME)}")
