"""The monitor keeps the best of a run and is the only one to end it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.sparse

import solvers
from solvers._core.monitor import Monitor
from solvers._core.options import check_common
from solvers._core.result import Result, Status, relative_gap


def package(monitor: Monitor) -> Result:
    return Result(**monitor.fields())


def monitor_with(sense: str = "min", fun_slack: float = 0.0, **keywords: Any) -> Monitor:
    settings: dict[str, Any] = {
        "method": "auto",
        "methods": ("auto",),
        "tol": 1e-6,
        "max_iter": None,
        "time_limit": None,
        "callback": None,
        "history": False,
        "verbose": 0,
        "options": None,
    }
    common = check_common("toy", **{**settings, **keywords})
    return Monitor(
        common,
        sense=sense,  # type: ignore[arg-type]
        scale=1.0,
        max_iter=5,
        package=package,
        method="auto",
        backend="numba",
        fun_slack=fun_slack,
    )


def test_best_answer_and_strongest_bound_are_kept() -> None:
    monitor = monitor_with()
    assert monitor.incumbent("a", 5.0)
    assert not monitor.incumbent("b", 6.0)
    assert monitor.incumbent("c", 4.0)
    assert monitor.prove(1.0, "weak")
    assert monitor.prove(2.0, "strong")
    assert not monitor.prove(1.5, "weaker")
    result = monitor.result()
    assert (result.x, result.fun, result.bound, result.certificate) == ("c", 4.0, 2.0, "strong")
    assert result.gap == 0.5


def test_maximising_mirrors_minimising() -> None:
    monitor = monitor_with("max")
    monitor.incumbent("a", 1.0)
    monitor.incumbent("b", 3.0)
    monitor.prove(9.0, None)
    monitor.prove(4.0, "tight")
    assert (monitor.x, monitor.fun, monitor.bound) == ("b", 3.0, 4.0)
    assert monitor.gap == 0.25


def test_a_gap_within_tol_is_optimal_even_after_another_reason_to_stop() -> None:
    monitor = monitor_with(tol=0.1)
    monitor.incumbent("a", 10.0)
    monitor.finish(Status.CALLBACK_STOP)
    monitor.prove(9.5, "proof")
    assert monitor.result().status is Status.OPTIMAL
    assert not monitor.running()


def test_first_reason_to_stop_stands() -> None:
    monitor = monitor_with()
    monitor.finish(Status.STALLED, "no progress")
    monitor.finish(Status.CONVERGED)
    monitor.incumbent("a", 1.0)
    assert (monitor.result().status, monitor.result().message) == (Status.STALLED, "no progress")


def test_iterations_are_counted_and_limited() -> None:
    monitor = monitor_with(max_iter=3)
    monitor.incumbent("a", 1.0)
    count = 0
    while monitor.running():
        count += 1
    assert count == monitor.nit == 3
    assert monitor.status is Status.MAX_ITER


def test_time_limit_ends_the_run() -> None:
    monitor = monitor_with(time_limit=1e-9)
    monitor.incumbent("a", 1.0)
    assert not monitor.running()
    assert monitor.status is Status.TIME_LIMIT
    assert not monitor.affords(0.0)


def test_a_bound_past_the_objective_is_an_error_unless_it_is_rounding() -> None:
    monitor = monitor_with(fun_slack=1e-9)
    monitor.incumbent("a", 1.0)
    monitor.prove(1.0 + 1e-12, "rounding")
    assert monitor.result().bound == 1.0
    with pytest.raises(solvers.CertificateError, match="contradicts"):
        monitor.prove(1.0 + 1e-6, "wrong")


@pytest.mark.parametrize("how", ["truthy", "StopIteration"])
def test_callback_ends_the_run(how: str) -> None:
    def callback(intermediate_result: Result) -> bool:
        if how == "StopIteration":
            raise StopIteration
        return True

    monitor = monitor_with(callback=callback)
    monitor.incumbent("a", 1.0)
    assert monitor.running()
    monitor.checkpoint()
    assert not monitor.running()
    assert monitor.status is Status.CALLBACK_STOP


def test_stall_needs_patience() -> None:
    monitor = monitor_with(max_iter=100)
    monitor.incumbent("a", 1.0)
    stalls = []
    while monitor.running():
        stalls.append(monitor.stalled(max(1.0 - 0.1 * monitor.nit, 0.5), patience=10))
    assert stalls.index(True) == 14


def test_due_comes_at_its_rhythm_and_at_the_last_iteration() -> None:
    monitor = monitor_with(max_iter=7)
    monitor.incumbent("a", 1.0)
    due = []
    while monitor.running():
        if monitor.due(3):
            due.append(monitor.nit)
    assert due == [3, 6, 7]


def test_gap_of_an_unproved_answer_is_infinite_and_of_zero_over_zero_none() -> None:
    assert relative_gap(1.0, -math.inf, "min", 1.0) == math.inf
    assert relative_gap(0.0, 0.0, "min", 0.0) == 0.0
    assert relative_gap(1e-9, 0.0, "min", 1.0) == pytest.approx(1e-3)
    assert relative_gap(3.0, 4.0, "max", 1.0) == 0.25


def test_every_status_has_advice() -> None:
    assert all(status.advice.endswith(".") for status in Status)
    assert [status for status in Status if status.success] == [Status.OPTIMAL, Status.CONVERGED]


def test_printed_results_name_status_and_certificate_and_begin_with_the_claim() -> None:
    monitor = monitor_with()
    monitor.incumbent("a", 1.0)
    monitor.prove(0.5, np.zeros((50, 50)))
    monitor.finish(Status.STALLED)
    lines = [line.split(":")[0].strip() for line in repr(monitor.result()).splitlines()]
    assert lines[:6] == ["message", "success", "status", "fun", "bound", "gap"]
    assert "status: STALLED" in repr(monitor.result())
    assert "certificate: <ndarray>" in repr(monitor.result())
    assert (f"{Status.STALLED}", f"{Status.STALLED:d}", str(Status.STALLED)) == ("STALLED", "5", "STALLED")
    assert "x: <Compressed" in repr(Result(x=scipy.sparse.eye_array(30, format="csr"))).splitlines()[0]
    assert repr(Result()) == "Result()"


@pytest.mark.parametrize(
    ("bound", "words"), [(-math.inf, "proves next to nothing"), (0.0, "next to nothing"), (0.9, "gap says")]
)
def test_an_answer_without_a_useful_bound_says_so(bound: float, words: str) -> None:
    monitor = monitor_with()
    monitor.incumbent("a", 1.0)
    monitor.prove(bound, None)
    monitor.finish(Status.CONVERGED)
    assert words in monitor.result().message
