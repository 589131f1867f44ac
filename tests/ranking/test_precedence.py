"""Precedence scores: bounds against brute force, and the diagnostic that tells them from path scores."""

from __future__ import annotations

import itertools

import networkx
import numpy as np
import pytest
from sklearn.metrics import ndcg_score

import solvers
from ranking import (
    CycleCertificate,
    group_mean,
    kendall_tau,
    mean_average_precision,
    mean_reciprocal_rank,
    ndcg,
    rank_borda,
    rank_linear,
    read_tsplib,
    score_kind,
)
from ranking._precedence_bounds import linear_bound


def test_linear_ordering_bounds_exceed_brute_force():
    rng = np.random.default_rng(0)
    for trial in range(100):
        n = int(rng.integers(1, 7))
        scores = rng.standard_normal((n, n)) * 10.0 ** rng.integers(-8, 9)
        if trial % 3 == 0:
            scores = rng.integers(-2, 3, (n, n)).astype(float)
        best = max(
            sum(scores[a, b] for a, b in itertools.combinations(order, 2)) for order in itertools.permutations(range(n))
        )
        borda, linear = rank_borda(scores), rank_linear(scores, rng=0)
        assert borda.bound >= best
        assert borda.fun <= linear.fun + 1e-12 * abs(linear.fun)
        assert linear.fun <= best + 1e-12 * max(abs(best), np.abs(scores).sum())
        assert linear.fun >= best - 1e-9 * np.abs(scores).sum() or n > 4


def test_cycles_tighten_the_bound_to_the_optimum():
    cycle = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    assert rank_linear(cycle).gap < 1e-12
    assert rank_linear(cycle).fun == 2.0


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_linear_programs_prove_the_value_of_the_three_cycle_relaxation(scale):
    scores = scale * np.random.default_rng(4).standard_normal((12, 12))
    model = solvers.reference_model("rank_linear", scores / scale)
    relaxed = scale * model.solve(solver="CLARABEL")
    result = rank_linear(scores, rng=0)
    assert result.bound == pytest.approx(relaxed, rel=1e-6)
    packed = rank_linear(scores, method="insertion", rng=0)
    assert packed.bound >= result.bound * (1 - 1e-9)
    assert solvers.verify(result, scores)
    assert result.fun <= result.bound


def test_descent_on_cycle_weights_bounds_every_order_at_every_scale():
    rng = np.random.default_rng(11)
    for trial in range(120):
        n = int(rng.integers(3, 7))
        scores = rng.standard_normal((n, n)) * 10.0 ** int(rng.integers(-290, 285))
        if trial % 2:
            scores = rng.integers(-2, 3, (n, n)).astype(float)
        best = max(
            sum(scores[a, b] for a, b in itertools.combinations(order, 2)) for order in itertools.permutations(range(n))
        )
        result = rank_linear(scores, rng=0, options={"lp_items": 0})
        assert solvers.verify(result, scores)
        assert result.bound >= best
        assert result.fun == pytest.approx(best, rel=1e-12)
        assert result.bound <= rank_linear(scores, method="insertion", rng=0).bound


def test_descent_on_cycle_weights_comes_near_the_linear_relaxation():
    rng = np.random.default_rng(12)
    n = 30
    for scores in (rng.random((n, n)), np.triu(np.ones((n, n)), 1) + 0.9 * rng.random((n, n))):
        relaxed, packed = rank_linear(scores, rng=0).bound, rank_linear(scores, method="insertion", rng=0).bound
        descended = rank_linear(scores, rng=0, tol=0, options={"lp_items": 0})
        assert relaxed * (1 - 1e-9) <= descended.bound <= relaxed + 0.1 * (packed - relaxed)
        assert solvers.verify(descended, scores)


def test_any_weights_on_cycles_prove_a_bound():
    rng = np.random.default_rng(6)
    for _ in range(200):
        n = int(rng.integers(3, 6))
        scores = rng.standard_normal((n, n)) * 10.0 ** rng.integers(-3, 4, (n, n))
        np.fill_diagonal(scores, 0.0)
        cycles = np.array([rng.permutation(n)[:3] for _ in range(rng.integers(0, 9))], dtype=np.int64).reshape(-1, 3)
        weights = rng.random(len(cycles)) * 10.0 ** rng.integers(-3, 4)
        best = max(
            sum(scores[a, b] for a, b in itertools.combinations(order, 2)) for order in itertools.permutations(range(n))
        )
        assert linear_bound(scores, CycleCertificate(cycles, weights), 1.0) >= best - 1e-15 * np.abs(scores).sum()


def test_borda_results_verify_and_ties_do_not_follow_the_input():
    scores = np.random.default_rng(5).standard_normal((9, 9))
    result = rank_borda(scores, rng=0)
    assert result.entry == "rank_linear"
    assert solvers.verify(result, scores)
    firsts = {int(rank_borda(np.zeros((5, 5)), rng=seed).order[0]) for seed in range(30)}
    assert len(firsts) > 2


def test_forged_orders_and_cycles_are_refused():
    scores = np.random.default_rng(8).standard_normal((7, 7))
    result = rank_linear(scores, rng=0)
    cycles, weights = result.certificate.cycles, result.certificate.weights
    order = result.order

    def forged(**changes):
        return type(result)(**{**result, **changes})

    for changes in (
        {"rank": np.roll(result.rank, 1)},
        {"x": order[::-1].copy()},
        {"x": order[:-1], "order": order[:-1]},
        {"x": np.zeros(7, dtype=int), "order": np.zeros(7, dtype=int)},
        {"certificate": CycleCertificate(cycles + 7, weights)},
        {"certificate": CycleCertificate(cycles[:, [0, 0, 1]], weights)},
        {"certificate": CycleCertificate(cycles, weights.astype(np.float32))},
        {"certificate": CycleCertificate(cycles, np.full_like(weights, np.inf))},
        {"certificate": CycleCertificate(cycles, np.full_like(weights, 1e308))},
    ):
        assert not solvers.verify(forged(**changes), scores), changes


def test_negative_weights_prove_nothing():
    scores = np.triu(np.ones((3, 3)), 1)
    result = rank_linear(scores, rng=0)
    certificate = CycleCertificate(np.array([[0, 2, 1]]), np.array([-1.0]))
    # Taken at its word, the formula would put the bound below the order's own value.
    assert linear_bound(scores, certificate, 1.0) < result.fun
    worse = np.array([1, 0, 2])
    forged = type(result)(
        **{**result, "x": worse, "order": worse, "rank": worse, "fun": 2.0, "bound": 2.0 + 1e-12, "gap": 5e-13}
        | {"certificate": certificate}
    )
    assert not solvers.verify(forged, scores)


def test_scores_of_any_size_are_proved_or_refused():
    scores = np.random.default_rng(9).standard_normal((6, 6))
    for size in (1e-300, 1e-150, 1e150, 1e290):
        result = rank_linear(size * scores, rng=0)
        assert solvers.verify(result, size * scores)
        assert result.gap < 0.2
    with pytest.raises(solvers.InvalidProblemError, match="2\\*\\*970"):
        rank_linear(1e300 * scores)


def test_graphs_may_lack_edges_and_name_their_nodes():
    graph = networkx.DiGraph([("c", "a"), ("a", "b"), ("c", "b")])
    result = rank_linear(graph, rng=0)
    assert [result.nodes[i] for i in result.order] == ["c", "a", "b"]
    assert solvers.verify(result, graph)


def kinds(n, rng):
    u = rng.permutation(n).astype(float)
    gap = u[None, :] - u[:, None]
    return u, 1 / (1 + np.exp(-gap / 3)), np.exp(-np.abs(gap - 1) / 2)


@pytest.mark.parametrize("n", [10, 30])
def test_each_kind_of_score_has_its_decoder(n):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        u, precedence, adjacency = kinds(n, rng)
        adjacency = adjacency + 0.05 * rng.standard_normal((n, n))
        assert score_kind(precedence).kind == "precedence"
        assert score_kind(adjacency).kind == "adjacency"
        assert score_kind(rng.random((30, 30))).kind == "unclear"
        assert kendall_tau(-u, -rank_borda(precedence).rank) > 1 - 1e-12
        assert kendall_tau(-u, -solvers.rank_tsp(adjacency, rng=0).rank) > 0.9


def test_the_path_decoder_warns_of_precedence_scores():
    _, precedence, adjacency = kinds(30, np.random.default_rng(0))
    with pytest.warns(solvers.SolverWarning, match="rank_borda"):
        solvers.rank_tsp(precedence, rng=0)
    solvers.rank_tsp(adjacency, rng=0)


def test_metrics_follow_the_conventions():
    rng = np.random.default_rng(1)
    y, scores = rng.integers(0, 4, 12), rng.random(12)
    assert ndcg(y, scores, k=5) == pytest.approx(ndcg_score([y], [scores], k=5))
    assert ndcg(y, scores, gain="exponential") == pytest.approx(ndcg_score([2.0**y - 1], [scores]))
    assert ndcg(np.zeros(3), np.arange(3.0)) == 0.0
    assert ndcg(np.zeros(3), np.arange(3.0), empty=1.0) == 1.0
    assert mean_reciprocal_rank([0, 1, 0], [0.9, 0.5, 0.1]) == 0.5
    assert mean_average_precision([3, 2, 1, 0], [3, 2, 1, 0], k=2) == 1.0
    for permuted in itertools.permutations([(2, 1.0), (2, 0.5), (0, 0.5), (1, 0.1)]):
        relevance, tied = np.array(permuted).T
        assert mean_average_precision(relevance, tied, k=2) == 0.5  # the tie is lost, whoever stands first
        assert mean_average_precision(tied, relevance, k=2) == 1.0  # three rows belong to the top two
    assert np.isnan(kendall_tau([1], [2]))
    mean, skipped = group_mean(kendall_tau, [1, 2, 5], [1, 2, 3], [0, 0, 1])
    assert (mean, skipped) == (1.0, 1)


@pytest.mark.parametrize(("name", "optimum"), [("br17", 39), ("ftv33", 1286), ("ry48p", 14422)])
def test_tsplib_instances_reach_their_optima(name, optimum):
    distances = read_tsplib(f"solvers/_data/{name}.atsp")
    result = solvers.rank_tsp(distances, closed=True, maximize=False, rng=0)
    assert result.fun == optimum
    assert solvers.verify(result, distances, closed=True, maximize=False)
    assert result.status is solvers.Status.OPTIMAL or name == "ry48p"


def test_other_files_are_refused(tmp_path):
    file = tmp_path / "x.tsp"
    for kind, data, message in (
        ("GEO", "1 0 0\n2 1 1\n", "FULL_MATRIX"),
        ("EXPLICIT", "1 0 0\n2 1 1\n", "FULL_MATRIX"),
        ("EUC_2D", "1 0 0\n2 1\n", "2 x 3 numbers"),
        ("EUC_2D", "1 0 0\n2 1 x\n", "numeric data"),
        ("EUC_2D", "1 0 0\n2 1 nan\n", "finite numbers"),
        ("EUC_2D", "1 0 0\n1 1 1\n", "from 1 to 2, each once"),
        ("EUC_2D", "1 0 0 0\n2 1 1 1\n", "2 x 3 numbers"),
    ):
        file.write_text(f"DIMENSION: 2\nEDGE_WEIGHT_TYPE: {kind}\nNODE_COORD_SECTION\n{data}EOF\n")
        with pytest.raises(solvers.InvalidProblemError, match=message):
            read_tsplib(file)
    file.write_bytes(b"\x1f\x8b\x08\x00\xff")
    with pytest.raises(solvers.InvalidProblemError, match="decompress"):
        read_tsplib(file)


@pytest.mark.parametrize(("kind", "distances"), [("EUC_2D", (5, 1, 4)), ("CEIL_2D", (5, 2, 4)), ("ATT", (2, 1, 2))])
def test_points_of_a_tsplib_file_are_at_their_rounded_distances(tmp_path, kind, distances):
    file = tmp_path / "x.tsp"
    points = "1 0 0\n3 1 1\n2 3.0e0 4\n"
    head = f"NAME : x\nCOMMENT : Städte\nDIMENSION : 3\nEDGE_WEIGHT_TYPE : {kind}\n"
    file.write_text(f"{head}NODE_COORD_SECTION\n{points}EOF\n", encoding="latin-1")
    a, b, c = distances
    assert read_tsplib(file).tolist() == [[0, a, b], [a, 0, c], [b, c, 0]]
