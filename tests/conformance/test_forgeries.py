"""Forged results that were once accepted stay refused: each with the claim it makes."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import networkx
import numpy as np
import pytest
import scipy.sparse

import solvers
from solvers import Status, bcd
from solvers._core.proofs import judge


def forged(result: Any, **changes: Any) -> Any:
    copied = copy.deepcopy(result)
    copied.update(changes)
    return copied


def test_overflowing_prices_prove_no_infeasibility() -> None:
    scores = np.random.default_rng(0).random((8, 8))
    result = solvers.rank_tsp(scores, method="exact", rng=1)
    certificate = dataclasses.replace(
        result.certificate,
        parent=np.array([-1]),
        tail=np.array([-1]),
        head=np.array([-1]),
        leaf=np.array([0]),
        ray=np.array([False]),
        prices=np.full((1, 9), 1e308),
    )
    claim = {"x": None, "order": None, "rank": None, "fun": -np.inf, "bound": -np.inf, "gap": np.inf}
    impossible = forged(result, certificate=certificate, status=Status.INFEASIBLE, success=False, **claim)
    assert solvers.verify(result, scores).ok
    assert not solvers.verify(impossible, scores).ok


def test_complex_points_lift_no_quadratic() -> None:
    problem = (bcd.Quadratic([[2.0, 0.5], [0.5, 1.0]], [1.0, 1.0]), bcd.Box(0.0, 5.0))
    result = solvers.minimize_bcd(*problem)
    certificate = bcd.PointCertificate(np.array([100j, 100j]))  # type: ignore[arg-type]
    fun = float(np.array([5.0, 5.0]) @ np.array([[2.0, 0.5], [0.5, 1.0]]) @ np.array([5.0, 5.0]) / 2 - 10.0)
    claim = {"x": np.array([5.0, 5.0]), "fun": fun, "bound": fun, "gap": 0.0}
    assert solvers.verify(result, *problem).ok
    assert not solvers.verify(forged(result, certificate=certificate, **claim), *problem).ok


def test_value_of_the_linear_program_is_checked() -> None:
    instance = solvers.matching.BayesianMatching(np.array([[0.5, 0.0]]), np.array([[[1.0, 0.5], [0.0, 1e12]]]))
    result = solvers.match_online(instance, rng=2)
    assert solvers.verify(result, instance).ok
    for claim in ({"lp_value": np.inf}, {"lp_value": result.lp_value + 1e3}, {"lp_gap": -5.0}):
        assert not solvers.verify(forged(result, **claim), instance).ok


def test_completion_that_the_data_leave_open_is_not_called_determined() -> None:
    rng = np.random.default_rng(3)
    left, right = rng.standard_normal((30, 3)), rng.standard_normal((3, 30))
    A = np.where(rng.random((30, 30)) < 0.17, left @ right, np.nan)
    A[0, 1:] = np.nan
    result = solvers.complete_matrix(A, 3, rng=0)
    assert solvers.verify(result, A, 3).ok
    assert result.determined is False
    claim = {"determined": True, "tangent_gap": 0.5, "status": Status.CONVERGED, "success": True}
    for change in (claim, claim | {"determined": False}, claim | {"determined": True, "short_rows": np.array([])}):
        assert not solvers.verify(forged(result, **change), A, 3).ok


def test_forests_written_to_after_their_check_prove_nothing() -> None:
    n = 12
    path = scipy.sparse.diags_array([[-1.0] * (n - 1), [2.0] * n, [-1.0] * (n - 1)], offsets=[-1, 0, 1], format="csr")
    loss = bcd.Quadratic(path, np.ones(n))
    result = solvers.minimize_bcd(loss)
    parents = result.certificate.parents.copy()
    claim = forged(result, x=np.zeros(n), support=np.zeros(0, dtype=np.int64), fun=0.0)
    claim.certificate = bcd.PointCertificate(np.zeros(n), parents=parents)
    assert solvers.verify(claim, loss).bound <= result.fun
    parents[:] = -1
    assert solvers.verify(claim, loss).bound <= result.fun
    assert not result.certificate.parents.flags.writeable


def test_no_gap_follows_from_an_infinite_bound() -> None:
    X = np.random.default_rng(4).normal(size=(12, 2))
    result = solvers.ila_sdp(X, 2, rng=0)
    assert result.bound == np.inf
    assert solvers.verify(result, X, 2).ok
    optimal = {"gap": 0.0, "status": Status.OPTIMAL, "success": True}
    for claim in (optimal, {"gap": 0.5}, {"gap": -np.inf}, {"assignment_gap": 0.0}, {"assignment_gap": -1.0}):
        assert not solvers.verify(forged(result, **claim), X, 2).ok


def test_nothing_bounded_is_called_unbounded() -> None:
    loss = bcd.Quadratic([[2.0, 0.5], [0.5, 1.0]], [1.0, 1.0])
    result = solvers.minimize_bcd(loss)
    assert solvers.verify(result, loss).ok
    assert not solvers.verify(forged(result, status=Status.UNBOUNDED, success=False), loss).ok


def test_a_proof_that_there_is_no_path_comes_with_no_order_and_no_gap() -> None:
    scores = np.full((4, 4), -np.inf)
    scores[0, 1] = scores[1, 2] = scores[2, 0] = 1.0
    result = solvers.rank_tsp(scores, method="exact")
    assert result.status is Status.INFEASIBLE
    assert solvers.verify(result, scores).ok
    for claim in ({"gap": 0.0}, {"order": np.arange(4)}, {"rank": np.arange(4)}):
        assert not solvers.verify(forged(result, **claim), scores).ok


@pytest.mark.parametrize("size", [1e40, 1e160, 1e300])
def test_points_far_out_are_not_excused_by_their_rounding(size: float) -> None:
    """Losses that grow linearly: a second-order error bound outgrows them, and then anything passes for rounding."""
    rng = np.random.default_rng(5)
    A, b = rng.normal(size=(12, 3)), rng.normal(size=12)
    labels = np.where(b > 0, 1.0, -1.0)
    for loss in (bcd.Logistic(A, labels), bcd.Huber(A, b, 0.5), bcd.Softmax(A, labels)):
        result = solvers.minimize_bcd(loss, bcd.L1(0.1), max_iter=20)
        assert solvers.verify(result, loss, bcd.L1(0.1)).ok
        x = np.full(loss.shape, size)
        claim = forged(result, x=x, support=np.arange(x.size))
        assert not solvers.verify(claim, loss, bcd.L1(0.1)).ok
        assert not solvers.verify(claim, loss).ok


def test_rounding_without_limit_excuses_nothing() -> None:
    result = solvers.minimize_bcd(bcd.Quadratic([[2.0]], [1.0]))
    said = {"bound": result.bound, "scale": 1.0}
    assert judge(result, fun=result.fun, fun_slack=0.0, **said).ok
    for fun in (result.fun, result.fun + 1.0):
        assert not judge(result, fun=fun, fun_slack=np.inf, **said).ok


def test_factors_far_out_are_not_excused_by_their_rounding() -> None:
    A = np.random.default_rng(6).normal(size=(5, 4))
    problem = {"loss": "huber", "delta": 0.5}
    result = solvers.complete_matrix(A, 1, rng=0, **problem)
    assert solvers.verify(result, A, 1, **problem).ok
    s = np.array([1e60])
    residual = A - (result.U * s) @ result.V.T
    claim = forged(result, s=s, x=(result.U, s, result.V), rmse=float(np.sqrt(np.mean(residual**2))))
    claim.outliers = np.empty((0, 2), dtype=np.int64)
    assert "fun is" in solvers.verify(claim, A, 1, **problem).message


SIZED = {
    "kmeans_sdp": lambda: (np.random.default_rng(7).normal(size=(20, 2)), 3),
    "ila_sdp": lambda: (np.random.default_rng(7).normal(size=(20, 2)), 2),
    "minimize_bcd": lambda: (bcd.LeastSquares(np.eye(4), np.arange(4.0)), bcd.L1(0.5)),
    "label_propagation": lambda: (
        scipy.sparse.diags_array([[1.0] * 5] * 2, offsets=[-1, 1], format="csr"),
        np.array([0.0, np.nan, np.nan, np.nan, np.nan, 1.0]),
    ),
    "match_online": lambda: (
        solvers.matching.BayesianMatching(np.full((3, 2), 0.4), np.arange(12.0).reshape(3, 2, 2)),
    ),
}


@pytest.mark.parametrize("entry", SIZED)
def test_size_of_the_problem_is_no_free_number(entry: str) -> None:
    """A gap near zero is relative to it."""
    problem = SIZED[entry]()
    result = getattr(solvers, entry)(*problem)
    assert solvers.verify(result, *problem).ok
    for scale in (2.0 * result.scale, 0.5 * result.scale, np.inf, np.nan, -result.scale, "large", None):
        assert not solvers.verify(forged(result, scale=scale), *problem).ok
    del result["scale"]
    assert "lacks scale" in solvers.verify(result, *problem).message


@pytest.mark.parametrize("name", ["squares", "logistic", "quadratic", "softmax", "groups", "box"])
def test_distance_from_stationarity_is_recomputed(name: str) -> None:
    rng = np.random.default_rng(8)
    A, b = rng.normal(size=(30, 6)), rng.normal(size=30)
    labels = np.where(b > 0, 1.0, -1.0)
    problem = {
        "squares": (bcd.LeastSquares(A, b, fit_intercept=True), bcd.L1(2.0)),
        "logistic": (bcd.Logistic(A, labels), bcd.ElasticNet(1.0, 0.5)),
        "quadratic": (bcd.Quadratic(A.T @ A, A.T @ b),),
        "softmax": (bcd.Softmax(A, np.arange(30) % 3), bcd.L1(0.3)),
        "groups": (bcd.LeastSquares(1e8 * A, b), bcd.GroupL2([0, 0, 1, 1, 2, 2], 1e6)),
        "box": (bcd.Huber(A, b, 0.3), bcd.Box(-0.1, 0.1)),
    }[name]
    for stop in ({"max_iter": 1}, {"tol": 1e-12}):
        result = solvers.minimize_bcd(*problem, **stop)
        assert solvers.verify(result, *problem).ok
        assert solvers.verify(forged(result, kkt=2.0 * result.kkt), *problem).ok
        assert not solvers.verify(forged(result, kkt=np.nan), *problem).ok
    far = forged(result, x=np.zeros_like(result.x), support=np.zeros(0, dtype=np.int64))
    assert "kkt is" in solvers.verify(far, *problem).message


def test_labels_belong_to_the_nodes_that_have_them() -> None:
    graph = networkx.path_graph(5)
    known = {0: 0.0, 4: 1.0}
    result = solvers.label_propagation(graph, known)
    assert solvers.verify(result, graph, known).ok
    assert not solvers.verify(forged(result, nodes=result.nodes[::-1]), graph, known).ok
    assert not solvers.verify(forged(result, nodes=None), graph, known).ok
