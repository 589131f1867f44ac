"""Instances: what is accepted, what is refused and why, and that storage and constructors keep the numbers."""

from __future__ import annotations

import networkx
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from instances import PLANS, planned, tiny

from matching import BayesianMatching, match_online, optimal_online_value, simulate
from solvers import BackendError, InvalidProblemError, verify

P = np.array([[0.5, 0.25], [0.5, 0.5]])
W = np.array([[[1.0, 2.0, 0.0], [0.5, 0.0, 1.0]], [[3.0, 1.0, 1.0], [1.0, 1.0, 0.0]]])


@pytest.mark.parametrize(
    ("p", "w", "capacities", "words"),
    [
        (-P, W, None, "non-negative"),
        (P * 3, W, None, "sum to at most 1"),
        (P * np.nan, W, None, "finite"),
        (P.astype(object), W, None, "object"),
        (P[:0], W[:0], None, "empty"),
        (P, -W, None, "non-negative"),
        (P, np.where(W > 2, np.inf, W), None, "finite"),
        (P, W[:1], None, "shape"),
        (P, W[0], None, "dimension"),
        (P, W[:, :, :0], None, "empty"),
        (P, W + 1j, None, "complex"),
        (P, W, [1, 1], "3 non-negative integers"),
        (P, W, [1, 1, -1], "3 non-negative integers"),
        (P, W, [1, 1, 0.5], "3 non-negative integers"),
        (P, W * 5e307, None, "rescale"),
        (P, scipy.sparse.csr_array(W[0]), None, "sparse"),
        (P, scipy.sparse.csr_array(np.where(W.reshape(4, 3) > 2, np.nan, 1.0)), None, "finite"),
        ([[0.5, 0.5], [0.5]], W, None, "ragged"),
        (None, W, None, "probabilities"),
        (P, "weights", None, "weights"),
    ],
)
def test_bad_data_are_refused_by_name(p, w, capacities, words):
    with pytest.raises((InvalidProblemError, BackendError), match=words):
        BayesianMatching(p, w, capacities)


@pytest.mark.parametrize(
    "form",
    [
        lambda p, w: (p.tolist(), w.tolist()),
        lambda p, w: (p.astype(np.float32), w.astype(np.float32)),
        lambda p, w: (np.asfortranarray(p), w[::1, ::1, ::1]),
        lambda p, w: (p, scipy.sparse.csr_array(w.reshape(4, 3))),
        lambda p, w: (p, scipy.sparse.coo_matrix(w.reshape(4, 3))),
        lambda p, w: (pd.DataFrame(p), w),
    ],
)
def test_containers_and_types_hold_the_same_instance(form):
    instance = BayesianMatching(*form(P.copy(), W.copy()))
    assert instance == BayesianMatching(P, W)
    assert np.array_equal(instance.weights.toarray(), W.reshape(4, 3))


def test_inputs_are_not_touched_and_attributes_are_read_only():
    p, w = P.copy(), scipy.sparse.csr_array(W.reshape(4, 3))
    before = w.copy()
    instance = BayesianMatching(p, w)
    assert np.array_equal(p, P)
    assert (w != before).nnz == 0
    for array in (instance.probabilities, instance.capacities, instance.edges.weight, instance.edges.node):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_one_type_may_be_written_without_its_axis():
    flat = BayesianMatching([0.5, 1.0], [[1.0, 2.0], [3.0, 0.0]])
    assert flat == BayesianMatching([[0.5], [1.0]], [[[1.0, 2.0]], [[3.0, 0.0]]])


def test_rows_whose_sum_rounds_above_one_are_accepted():
    p = np.full((1, 10), 0.1) + np.array([1e-12] * 10)
    instance = BayesianMatching(p, np.ones((1, 10, 1)))
    assert instance.probabilities.sum() <= 1.0
    assert match_online(instance).fun == pytest.approx(1.0)


def test_kinds_are_recognised():
    assert BayesianMatching(P, np.ones_like(W)).kind == "unweighted"
    assert BayesianMatching(P, (W > 0) * [1.0, 2.0, 3.0]).kind == "vertex-weighted"
    assert BayesianMatching(P, W).kind == "edge-weighted"


def test_capacities_are_copies_of_nodes():
    rng = np.random.default_rng(11)
    for _ in range(60):
        n, n_times = int(rng.integers(1, 4)), int(rng.integers(1, 5))
        p = rng.random((n_times, 2)) / 2
        w = rng.lognormal(size=(n_times, 2, n))
        capacities = rng.integers(0, 3, n)
        if capacities.sum() == 0:
            continue
        grouped = BayesianMatching(p, w, capacities)
        copied = BayesianMatching(p, np.repeat(w, capacities, axis=2))
        assert optimal_online_value(grouped) == pytest.approx(optimal_online_value(copied), rel=1e-12)
        one, other = match_online(grouped, method="pivotal"), match_online(copied, method="pivotal")
        assert one.bound == pytest.approx(other.bound, rel=1e-9)
        assert verify(one, grouped)
        assert one.x.shape == (2 * n_times, n)


@pytest.mark.filterwarnings("error")
def test_nodes_without_capacity_are_as_good_as_absent():
    """Neither the scale of gaps nor the kind of the weights may come from a node that cannot be used."""
    weights = np.concatenate([W, np.array([1e6, 1.0])[:, None, None] * np.ones((2, 2, 1))], axis=2)
    instance = BayesianMatching(P, weights, [1, 1, 1, 0])
    without = BayesianMatching(P, W)
    assert instance.scale == without.scale
    assert BayesianMatching(P, weights * 0 + [[[3.0, 2.0, 1.0, 4.0]], [[3.0, 2.0, 1.0, 5.0]]], [1, 1, 1, 0]).kind == (
        "vertex-weighted"
    )
    nothing = BayesianMatching(P, W, [0, 0, 0])
    assert nothing.scale == 0.0
    result = match_online(nothing)
    assert result.fun == result.bound == result.gap == 0.0
    assert verify(result, nothing)
    for method in ("pivotal", "rollout", "greedy"):
        ours, theirs = match_online(instance, method=method), match_online(without, method=method)
        assert (ours.fun, ours.bound, ours.gap) == pytest.approx((theirs.fun, theirs.bound, theirs.gap), abs=1e-9)


def test_capacities_beyond_every_use_are_cut():
    for plenty in (10**9, 10**18, 2.0**60):
        instance = BayesianMatching(P, W, [plenty, 0, 1])
        assert instance.n_units == 3
        result = match_online(instance)
        assert result.bound == pytest.approx(optimal_online_value(instance), rel=1e-3)
        assert verify(result, instance)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [5e-324, 1e-310, 1e-300, 1e300])
def test_values_at_the_ends_of_floating_point(size):
    instance = BayesianMatching(P, W * size if size < 1 else W / W.max() * size / 20)
    optimum = optimal_online_value(instance)
    for plan in PLANS:
        result = planned(instance, plan)
        assert result.fun <= optimum <= result.bound
        assert verify(result, instance)
        row = simulate(instance, {plan: result}, 20, rng=1)[0]
        assert np.isfinite([row["mean"], row["standard_error"]]).all()


def test_constructors_agree():
    iid = BayesianMatching.from_iid(P[0], W[0], n_times=3)
    assert iid == BayesianMatching(np.tile(P[0], (3, 1)), np.tile(W[0], (3, 1, 1)))
    assert iid == BayesianMatching.from_iid(P[0], scipy.sparse.csr_array(W[0]), n_times=3)
    samples = [[0, 1], [1, 1], [-1, 0], [0, -1]]
    observed = BayesianMatching.from_samples(samples, W)
    assert observed.probabilities == pytest.approx(np.array([[0.5, 0.25], [0.25, 0.5]]))
    assert observed == BayesianMatching.from_samples(samples, scipy.sparse.csr_array(W.reshape(4, 3)))
    graph = networkx.Graph()
    graph.add_node("a", capacity=2)
    graph.add_node("b")
    graph.add_node(1, probability=0.25)
    graph.add_edge(1, "a", weight=3.0)
    graph.add_edge(2, "b")
    drawn = BayesianMatching.from_networkx(graph, [2, 1])
    assert drawn == BayesianMatching([1.0, 0.25], [[0.0, 1.0], [3.0, 0.0]], [2, 1])
    assert drawn.nodes == ["a", "b"]


def test_constructors_refuse_nonsense():
    with pytest.raises(InvalidProblemError, match="one row per type"):
        BayesianMatching.from_iid([0.5], W[0], 3)
    with pytest.raises(ValueError, match="n_times"):
        BayesianMatching.from_iid(P[0], W[0], 0)
    with pytest.raises(InvalidProblemError, match="below the number of types"):
        BayesianMatching.from_samples([[0, 2]], W)
    with pytest.raises(InvalidProblemError, match="integers >= -1"):
        BayesianMatching.from_samples([[0.5, 0]], W)
    path = networkx.path_graph(3)
    with pytest.raises(InvalidProblemError, match="bipartite"):
        BayesianMatching.from_networkx(path, [0])
    with pytest.raises(InvalidProblemError, match="no edge between arrivals"):
        BayesianMatching.from_networkx(path, [0, 1])
    with pytest.raises(InvalidProblemError, match="distinct nodes"):
        BayesianMatching.from_networkx(path, [0, 9])


def test_saving_keeps_every_bit(tmp_path):
    rng = np.random.default_rng(12)
    for trial in range(10):
        instance = tiny(rng)
        instance.save(tmp_path / f"{trial}")
        loaded = BayesianMatching.load(tmp_path / f"{trial}")
        assert loaded == instance
        assert hash(loaded) == hash(instance)
        assert verify(match_online(instance), loaded)


@pytest.mark.parametrize(
    ("p", "w"),
    [
        (np.zeros((2, 2)), W),
        (P, np.zeros_like(W)),
        ([[1.0, 0.0]], W[:1]),
        (np.ones((3, 1)), np.ones((3, 1, 2))),
        (np.array([[1e-300]]), np.array([[[1e-300]]])),
        (P * 1e-12, W * 1e12),
    ],
)
def test_edges_of_the_model_have_right_answers(p, w):
    instance = BayesianMatching(p, w)
    optimum = optimal_online_value(instance)
    for method in ("auto", "pivotal", "independent", "rollout", "dual-price", "greedy"):
        result = match_online(instance, method=method)
        assert result.fun <= optimum * (1 + 1e-12)
        assert result.bound >= optimum
        assert verify(result, instance)
        assert result.policy(rng=0).arrive(0, 0) in range(-1, instance.n_nodes)


def test_arrays_of_other_libraries_are_brought_home():
    strict = pytest.importorskip("array_api_strict")
    device = strict.Device("device1")
    instance = BayesianMatching(strict.asarray(P, device=device), strict.asarray(W, device=device))
    assert instance == BayesianMatching(P, W)


def test_instances_beyond_memory_are_refused_before_the_work(monkeypatch):
    monkeypatch.setattr("solvers._core.arrays.available_memory", lambda: 1000)
    with pytest.raises(InvalidProblemError, match="GiB"):
        BayesianMatching(P, W)
    monkeypatch.undo()
    with pytest.raises(InvalidProblemError, match="at most 18 units"):
        optimal_online_value(BayesianMatching([1.0], np.ones((1, 20))))
