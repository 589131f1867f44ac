"""The best path against brute force, and its certificate against tampering."""

from __future__ import annotations

import dataclasses
import itertools
import math

import networkx
import numpy as np
import pytest

import solvers
from ranking import _bounds
from ranking._problem import path_problem
from ranking._verify import plain_costs, proved
from solvers import InvalidProblemError, Status, rank_tsp, verify


def path_values(scores, start=None, end=None, closed=False):
    """Scores of all allowed orders."""
    n = len(scores)
    for order in itertools.permutations(range(n)):
        if (start is None or order[0] == start) and (end is None or order[-1] == end):
            arcs = [scores[order[i], order[i + 1]] for i in range(n - 1)]
            if closed and n > 1:
                arcs.append(scores[order[-1], order[0]])
            value = math.fsum(arcs) if all(map(math.isfinite, arcs)) else math.nan
            if not math.isnan(value):
                yield value


def random_scores(rng, n, kind):
    scores = rng.standard_normal((n, n))
    if kind == "ties":
        return rng.integers(-2, 3, (n, n)).astype(float)
    if kind == "scaled":
        return scores * 10.0 ** rng.integers(-12, 13)
    if kind == "integers":
        return np.floor(rng.random((n, n)) * 2.0**53)
    if kind == "uneven":
        return scores * 10.0 ** rng.integers(-8, 9, (n, n))
    if kind == "symmetric":
        return scores + scores.T + 0.01 * rng.standard_normal((n, n))
    if kind == "shifted":
        return scores + 1e8
    return scores


KINDS = ("normal", "ties", "scaled", "integers", "uneven", "symmetric", "shifted")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["auto", "exact", "heuristic"])
def test_bound_and_score_agree_with_brute_force(kind, method):
    rng = np.random.default_rng(KINDS.index(kind))
    for _ in range(60):
        n = int(rng.integers(1, 7))
        scores = random_scores(rng, n, kind)
        maximize, closed = bool(rng.integers(2)), bool(rng.integers(2))
        if rng.random() < 0.4:
            scores[rng.random((n, n)) < rng.random()] = -np.inf if maximize else np.inf
        np.fill_diagonal(scores, 0.0)
        start = int(rng.integers(n)) if rng.random() < 0.3 and n > 1 else None
        end = int(rng.integers(n)) if rng.random() < 0.3 and n > 1 and not closed else None
        problem = {
            "start": start,
            "end": None if end == start else end,
            "closed": closed,
            "maximize": maximize,
        }
        result = rank_tsp(scores, method=method, rng=1, **problem)
        checked = verify(result, scores, **problem)
        assert checked, checked.message
        values = list(path_values(scores, problem["start"], problem["end"], closed))
        if not values:
            assert result.x is None
            assert result.status is Status.INFEASIBLE or method == "heuristic"
            continue
        sign = 1.0 if maximize else -1.0
        best = sign * max(sign * value for value in values)
        assert sign * result.bound >= sign * best - 2.0**-53 * abs(best)
        if method != "heuristic":
            assert result.success
            size = max(abs(result.fun), abs(result.bound), 1e-6 * result.scale)
            assert abs(result.fun - best) <= max(1e-6, result.gap) * size * (1 + 1e-9)


@pytest.mark.parametrize("closed", [False, True])
def test_larger_instances_agree_with_the_subset_recursion(closed):
    rng = np.random.default_rng(3)
    for n in (8, 9, 10, 11, 12):
        for kind in KINDS:
            scores = random_scores(rng, n, kind)
            exact = rank_tsp(scores, closed=closed, method="exact", rng=0)
            recursion = rank_tsp(scores, closed=closed, method="dynamic-programming", rng=0)
            assert verify(exact, scores, closed=closed)
            assert exact.status in (Status.OPTIMAL, Status.CONVERGED)
            assert exact.bound >= recursion.fun * (1 - 1e-15) - 1e-300 or exact.bound >= recursion.fun
            assert (
                abs(exact.fun - recursion.fun) <= max(1e-6, exact.gap) * max(abs(exact.bound), abs(exact.fun)) * 1.001
            )


def test_any_prices_and_any_potentials_bound_the_optimum():
    rng = np.random.default_rng(5)
    for _ in range(300):
        n = int(rng.integers(2, 6))
        scores = random_scores(rng, n, KINDS[int(rng.integers(len(KINDS)))])
        problem = path_problem(scores, None, None, False, True)
        c = plain_costs(problem)
        best = max(path_values(scores))
        prices = np.append(rng.standard_normal(n) * np.abs(c[np.isfinite(c)]).max(), 0.0)
        leaf = solvers.ranking.BranchCertificate(
            np.array([-1]), np.array([-1]), np.array([-1]), np.array([0]), np.array([False]), prices[None, :]
        )
        tree = solvers.ranking.ArborescenceCertificate(prices, int(rng.integers(n + 1)))
        for certificate in (leaf, tree):
            assert -proved(problem, certificate) >= best
            assert _bounds.cycle_bound(c, certificate, 4.0) <= _bounds.cycle_bound(c, certificate, 2.0)


def test_relabelling_the_items_relabels_the_answer():
    rng = np.random.default_rng(8)
    for n in (5, 12, 30):
        scores = rng.standard_normal((n, n))
        order = rank_tsp(scores, rng=0, tol=0).order
        perm = rng.permutation(n)
        np.testing.assert_array_equal(perm[rank_tsp(scores[np.ix_(perm, perm)], rng=1, tol=0).order], order)


def test_ties_are_broken_by_the_generator_and_not_by_the_input_order():
    firsts = {int(rank_tsp(np.ones((9, 9)), rng=seed).order[0]) for seed in range(40)}
    assert len(firsts) > 5
    np.testing.assert_array_equal(rank_tsp(np.ones((9, 9)), rng=4).order, rank_tsp(np.ones((9, 9)), rng=4).order)


def test_row_and_column_terms_move_only_the_ends():
    rng = np.random.default_rng(2)
    scores, a, b = rng.standard_normal((7, 7)), rng.standard_normal(7), rng.standard_normal(7)
    shifted = scores + a[:, None] + b
    for order in itertools.islice(itertools.permutations(range(7)), 50):
        path = list(itertools.pairwise(order))
        moved = sum(shifted[i, j] - scores[i, j] for i, j in path)
        assert moved == pytest.approx(a.sum() + b.sum() - a[order[-1]] - b[order[0]], abs=1e-12)


def test_rank_one_symmetric_scores_give_the_organ_pipe_order():
    u = np.arange(1.0, 9.0)
    order = (rank_tsp(np.outer(u, u), rng=0).order + 1).tolist()
    assert order in ([2, 4, 6, 8, 7, 5, 3, 1], [1, 3, 5, 7, 8, 6, 4, 2])


def test_an_end_slope_turns_the_organ_pipe_into_sorting():
    u = np.arange(-3.5, 4.0)
    scores = np.outer(u, u) + 5.0 * (u[:, None] - u)
    np.testing.assert_array_equal(rank_tsp(scores, rng=0).order, np.argsort(-u))


@pytest.mark.parametrize("closed", [False, True])
def test_bounds_of_whole_scores_are_whole(closed):
    rng = np.random.default_rng(14)
    for n in (6, 12, 25):
        scores = rng.integers(-9, 9, (n, n)).astype(float)
        for method in ("auto", "heuristic"):
            result = rank_tsp(scores, closed=closed, method=method, rng=0)
            assert verify(result, scores, closed=closed)
            assert result.bound == np.round(result.bound)
            if method == "auto":
                assert result.bound == result.fun
        stronger = type(result)(**{**result, "bound": result.bound - 0.5})
        assert not verify(stronger, scores, closed=closed)


def test_an_unwatched_run_and_a_watched_one_prove_the_same_path():
    rng = np.random.default_rng(15)
    for n in (8, 20, 40):
        for kind in KINDS:
            scores = random_scores(rng, n, kind)
            alone = rank_tsp(scores, rng=0)
            watched = rank_tsp(scores, history=True, rng=0)
            assert verify(alone, scores)
            assert verify(watched, scores)
            if alone.success and watched.success:
                size = max(abs(alone.bound), 1e-6 * alone.scale)
                assert abs(alone.fun - watched.fun) <= max(1e-6, alone.gap, watched.gap) * size * 1.001


def test_infeasible_problems_are_proved_so():
    scores = np.zeros((20, 20))
    scores[3, :] = scores[7, :] = -np.inf
    result = rank_tsp(scores, rng=0)
    assert result.status is Status.INFEASIBLE
    assert result.x is None
    assert (result.fun, result.bound) == (-np.inf, -np.inf)
    assert verify(result, scores)
    lying = result.copy()
    lying = type(result)(**result)
    assert not verify(lying, np.zeros((20, 20)))


def test_two_separate_cycles_are_proved_infeasible_by_branching():
    scores = np.full((10, 10), -np.inf)
    for i in range(10):
        scores[i, (i + 1) % 5 + 5 * (i // 5)] = 1.0
    result = rank_tsp(scores, closed=True, rng=0)
    assert result.status is Status.INFEASIBLE
    assert verify(result, scores, closed=True)


def test_tampered_certificates_are_refused():
    scores = np.random.default_rng(24).random((24, 24))
    for seed in range(20):
        scores = np.random.default_rng(seed).random((24, 24))
        result = rank_tsp(scores, rng=0)
        if len(result.certificate.parent) > 4:
            break
    assert len(result.certificate.parent) > 4
    certificate = result.certificate
    refused = {
        "prices": dataclasses.replace(certificate, prices=certificate.prices + np.linspace(0, 1, 25)),
        "arc": dataclasses.replace(certificate, head=(certificate.head + 1) % 25),
        "ray": dataclasses.replace(certificate, ray=~certificate.ray),
        "leaf": dataclasses.replace(certificate, leaf=np.where(certificate.leaf < 0, 0, certificate.leaf)),
        "shape": dataclasses.replace(certificate, prices=certificate.prices[:, :-1]),
        "pruned": dataclasses.replace(
            certificate,
            parent=certificate.parent[:-1],
            tail=certificate.tail[:-1],
            head=certificate.head[:-1],
            leaf=certificate.leaf[:-1],
            ray=certificate.ray[:-1],
        ),
    }
    for what, changed in refused.items():
        copy = type(result)(**{**result, "certificate": changed})
        assert not verify(copy, scores), what
    worse = type(result)(**{**result, "fun": result.fun + 1e-3})
    assert not verify(worse, scores)


def test_graphs_and_their_paths_round_trip():
    graph = networkx.DiGraph()
    graph.add_weighted_edges_from([("a", "b", 3.0), ("b", "c", 1.0), ("c", "a", 2.0), ("a", "c", 1.0), ("c", "b", 5.0)])
    result = rank_tsp(graph, start="a")
    assert [result.nodes[i] for i in result.order] == ["a", "c", "b"]
    assert result.fun == 6.0
    assert verify(result, graph, start="a")
    assert list(result.to_networkx().edges) == [("a", "c"), ("c", "b")]


@pytest.mark.parametrize(
    ("scores", "problem", "words"),
    [
        (np.zeros((2, 3)), {}, "square"),
        (np.array([[0.0, np.nan], [1.0, 0.0]]), {}, "NaN"),
        (np.array([[0.0, np.inf], [1.0, 0.0]]), {}, "inf"),
        (np.zeros((3, 3)), {"start": 1, "end": 1}, "differ"),
        (np.zeros((3, 3)), {"end": 1, "closed": True}, "closed"),
        (np.zeros((3, 3)), {"x0": [0, 1, 1]}, "permutation"),
        (np.zeros((30, 30)), {"method": "dynamic-programming"}, "up to"),
        (np.zeros((0, 0)), {}, "empty"),
        (np.zeros((3, 3), dtype=complex), {}, "dtype"),
        (networkx.Graph([(0, 1)]), {}, "directed"),
    ],
)
def test_wrong_input_is_named(scores, problem, words):
    with pytest.raises(InvalidProblemError, match=words):
        rank_tsp(scores, **problem)


def test_limits_return_the_best_path_and_a_true_bound():
    scores = random_scores(np.random.default_rng(1), 60, "symmetric")
    limited = rank_tsp(scores, method="exact", max_iter=2, rng=0)
    assert limited.status is Status.MAX_ITER
    assert verify(limited, scores)
    timed = rank_tsp(scores, method="exact", time_limit=1e-6, rng=0)
    assert timed.status is Status.TIME_LIMIT
    assert verify(timed, scores)
    stopped = rank_tsp(scores, method="exact", callback=lambda intermediate_result: True, rng=0)
    assert stopped.status is Status.CALLBACK_STOP
    again = rank_tsp(scores, method="exact", x0=timed, max_iter=1, rng=3)
    assert again.fun >= timed.fun


@pytest.mark.parametrize("name", ["lower", "assignment"])
def test_the_reference_model_bounds_the_path(name):
    scores = random_scores(np.random.default_rng(4), 5, "symmetric")
    best = max(path_values(scores))
    model = solvers.reference_model("rank_tsp", scores)
    model.solve(solver="CLARABEL")
    assert model.value >= best - 1e-6
    assert model.value <= rank_tsp(scores, method="heuristic", rng=0, max_iter=1).bound + 1e-6 or name == "lower"


@pytest.mark.parametrize("maximize", [False, True])
def test_scores_over_many_orders_of_magnitude_are_solved_or_refused(maximize):
    rng = np.random.default_rng(6)
    for span in (12, 50, 150, 300):
        for n in (9, 12, 20, 30):
            exponents = rng.uniform(-span, min(span, 150), (n, n))
            scores = rng.random((n, n)) * 10.0**exponents
            result = rank_tsp(scores, maximize=maximize, rng=0)
            assert verify(result, scores, maximize=maximize)
            if result.status is Status.NUMERICAL_ERROR:
                assert span > 12
                assert n > 16
                assert "magnitude" in result.message
                continue
            assert result.status is Status.OPTIMAL
            if n <= 12:
                best = rank_tsp(scores, maximize=maximize, method="dynamic-programming", rng=0)
                assert abs(result.fun - best.fun) <= 1e-6 * abs(best.fun)


def test_ties_are_relabelled_with_the_items():
    rng = np.random.default_rng(9)
    scores = rng.integers(0, 2, (6, 6)).astype(float)
    np.fill_diagonal(scores, 0.0)
    perm = rng.permutation(6)
    draws = 400
    seen = [{}, {}]
    for seed in range(draws):
        one = tuple(rank_tsp(scores, rng=seed).order.tolist())
        other = tuple(perm[rank_tsp(scores[np.ix_(perm, perm)], rng=draws + seed).order].tolist())
        for counts, order in zip(seen, (one, other), strict=True):
            counts[order] = counts.get(order, 0) + 1
    assert len(seen[0]) > 1
    # The same distribution over the same best orders, up to sampling.
    for order in seen[0].keys() | seen[1].keys():
        assert abs(seen[0].get(order, 0) - seen[1].get(order, 0)) <= 5 * math.sqrt(2 * draws / 4)


def test_bilinear_scores_without_a_constant_do_not_know_direction():
    rng = np.random.default_rng(11)
    X, W = rng.standard_normal((12, 4)), rng.standard_normal((4, 4))
    one, other = rank_tsp((X @ W, X), rng=0), rank_tsp((-X @ W, -X), rng=0)
    np.testing.assert_array_equal(one.order, other.order)
    assert one.fun == other.fun


def test_functions_of_one_score_reproduce_its_order():
    u = np.random.default_rng(12).standard_normal(20)
    difference = u[:, None] - u
    scores = -(difference**2) + 1e-3 * difference
    np.testing.assert_array_equal(rank_tsp(scores, rng=0).order, np.argsort(-u))
    lift = np.stack([np.ones_like(u), u, u * u], axis=1)
    weights = np.array([[0.0, -1e-3, -1.0], [1e-3, 2.0, 0.0], [-1.0, 0.0, 0.0]])
    np.testing.assert_array_equal(rank_tsp((lift @ weights, lift), rng=0).order, np.argsort(-u))


def test_row_constants_cancel_in_a_softmax_and_decide_who_is_last():
    rng = np.random.default_rng(13)
    scores = rng.standard_normal((8, 8))
    weights = np.exp(scores)
    for last in range(8):
        shifted = scores.copy()
        shifted[last] -= 100.0
        moved = np.exp(shifted)
        np.testing.assert_allclose(
            moved / moved.sum(axis=1, keepdims=True), weights / weights.sum(axis=1, keepdims=True)
        )
        assert rank_tsp(shifted, rng=0).order[-1] == last
