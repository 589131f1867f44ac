"""Forged results that were once accepted stay refused: one per family, each with the claim it makes."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np

import solvers
from solvers import Status, bcd


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


def test_half_precision_multipliers_lose_no_square() -> None:
    loss = bcd.LeastSquares(np.ones((200, 1)), np.where(np.arange(200) % 2, 1e-4, -1e-4))
    result = solvers.minimize_bcd(loss, bcd.L1(1e-9))
    assert solvers.verify(result, loss, bcd.L1(1e-9)).ok
    half = dataclasses.replace(result.certificate, theta=np.full(200, 2e-4, dtype=np.float16))
    assert not solvers.verify(forged(result, certificate=half, bound=1.001 * result.fun), loss, bcd.L1(1e-9)).ok


def test_complex_factors_have_no_hidden_rank() -> None:
    A = np.random.default_rng(5).normal(size=(8, 2)) @ np.random.default_rng(6).normal(size=(2, 7))
    result = solvers.complete_matrix(A, 1, rng=3)
    assert result.fun > 1e-3
    u, s, v = np.linalg.svd(A)
    c = np.sqrt(s[1] / s[0])
    left, right = (u[:, :1] + 1j * c * u[:, 1:2]), (v[:1].T - 1j * c * v[1:2].T)
    claim = {"x": (left, s[:1], right), "U": left, "s": s[:1], "V": right, "fun": 0.0, "gap": 0.0}
    assert not solvers.verify(forged(result, **claim), A, 1).ok


def test_value_of_the_linear_program_is_checked() -> None:
    instance = solvers.matching.BayesianMatching(np.array([[0.5, 0.0]]), np.array([[[1.0, 0.5], [0.0, 1e12]]]))
    result = solvers.match_online(instance, rng=2)
    assert solvers.verify(result, instance).ok
    for claim in ({"lp_value": np.inf}, {"lp_value": result.lp_value + 1e3}, {"lp_gap": -5.0}):
        assert not solvers.verify(forged(result, **claim), instance).ok
