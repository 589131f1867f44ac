"""Every entry with a CuPy path, on a device: CuPy in, CuPy out, the same proof as on the host.

Runs where CuPy and a CUDA device are (``pytest -m gpu tests/gpu``); imports neither CVXPY nor Clarabel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import Case, all_cases

import solvers
from solvers._catalogue import entry_named
from solvers._core.optional import has

pytestmark = pytest.mark.gpu

RUNS = [
    pytest.param(case, method, id=f"{case.entry}-{method}")
    for case in all_cases()
    for method in case.methods
    if "cupy" in entry_named(case.entry).backends
    and case.array_arguments
    and method not in entry_named(case.entry).host_methods
]


@pytest.fixture(scope="module")
def cupy() -> Any:
    if not has("cupy"):
        pytest.skip("CuPy is not installed")
    import cupy

    if not cupy.cuda.is_available():
        pytest.skip("no CUDA device")
    return cupy


def call(case: Case, args: tuple[Any, ...], **keywords: Any) -> Any:
    merged = {**case.keywords, **keywords}
    if "rng" not in entry_named(case.entry).omits:
        merged.setdefault("rng", 48611)
    return getattr(solvers, case.entry)(*args, **merged)


@pytest.mark.parametrize(("case", "method"), RUNS)
def test_device_arrays_stay_on_the_device_and_prove_the_same(cupy: Any, case: Case, method: str) -> None:
    host = case.problem()
    plain = call(case, host, method=method, backend="array")
    args = list(case.problem())
    for position in case.array_arguments:
        args[position] = cupy.asarray(args[position])
    result = call(case, tuple(args), method=method)
    assert isinstance(result.x, cupy.ndarray)
    assert result.fun == pytest.approx(plain.fun, rel=1e-6)
    assert solvers.verify(result, *args).ok


@pytest.mark.parametrize(("case", "method"), RUNS)
def test_host_arrays_come_home_when_cupy_is_asked_for(cupy: Any, case: Case, method: str) -> None:
    host = case.problem()
    result = call(case, host, method=method, backend="cupy")
    assert not isinstance(result.x, cupy.ndarray)
    assert solvers.verify(result, *host).ok


@pytest.mark.parametrize("method", ["pivotal", "independent", "rollout", "dual-price", "greedy"])
def test_simulated_runs_are_those_of_the_host(cupy: Any, method: str) -> None:
    instance = solvers.matching.display_ads_instance(n_times=60, rng=1)
    plans = {method: solvers.match_online(instance, method=method)}
    here, there = (solvers.matching.simulate(instance, plans, 500, rng=2, backend=name) for name in ("numba", "cupy"))
    assert there["mean"][0] == pytest.approx(here["mean"][0], rel=1e-9)


@pytest.mark.parametrize("form", ["dense", "triplets"])
@pytest.mark.parametrize("method", ["auto", "altmin-exact"])
def test_a_matrix_on_the_device_is_completed_there(cupy: Any, form: str, method: str) -> None:
    rng = np.random.default_rng(3)
    A = rng.standard_normal((300, 12)) @ rng.standard_normal((12, 250)) + 0.1 * rng.standard_normal((300, 250))
    A[rng.random(A.shape) < 0.6] = np.nan
    rows, cols = np.nonzero(~np.isnan(A))
    triplets = *(cupy.asarray(part) for part in (rows, cols, A[rows, cols])), A.shape
    data = cupy.asarray(A) if form == "dense" else triplets
    options = {"reg": 8.0, "tol": 1e-6, "method": method, "rng": 0}
    plain = solvers.complete_matrix(A, 20, **options)
    result = solvers.complete_matrix(data, 20, **options)
    assert result.backend == "cupy"
    assert all(isinstance(part, cupy.ndarray) for part in (result.U, result.s, result.V))
    assert result.fun == pytest.approx(plain.fun, rel=1e-6)
    assert solvers.verify(result, data, 20, reg=8.0).ok
    assert isinstance(result.predict([0, 1], [2, 3]), cupy.ndarray)
    home = solvers.complete_matrix(A, 20, backend="cupy", **options)
    assert isinstance(home.U, np.ndarray)
    assert solvers.verify(home, A, 20, reg=8.0).ok


@pytest.mark.parametrize("kind", ["least-squares", "huber", "logistic", "softmax", "quadratic"])
def test_losses_on_the_device_are_minimised_there(cupy: Any, kind: str) -> None:
    """minimize_bcd takes a loss: its data decide where products are taken and where x comes back."""
    rng = np.random.default_rng(4)
    A, b = rng.standard_normal((30, 8)), rng.standard_normal(30)

    def loss(give: Any) -> Any:
        if kind == "least-squares":
            return solvers.bcd.LeastSquares(give(A), give(b), sample_weight=give(np.abs(b)))
        if kind == "huber":
            return solvers.bcd.Huber(give(A), give(b), 0.4, fit_intercept=True)
        if kind == "logistic":
            return solvers.bcd.Logistic(give(A), give(np.sign(b)), fit_intercept=True)
        if kind == "softmax":
            return solvers.bcd.Softmax(give(A), give(rng.integers(0, 3, 30)))
        return solvers.bcd.Quadratic(give(A.T @ A), give(A.T @ b))

    penalty = solvers.bcd.Box(-0.1, 0.2) if kind == "quadratic" else solvers.bcd.L1(1.0)
    there = loss(cupy.asarray)
    result = solvers.minimize_bcd(there, penalty, tol=1e-7)
    assert result.backend == "cupy"
    assert isinstance(result.x, cupy.ndarray)
    assert isinstance(result.support, cupy.ndarray)
    assert solvers.verify(result, there, penalty).ok
    again = solvers.minimize_bcd(there, penalty, tol=1e-7, x0=result)
    assert again.fun == pytest.approx(result.fun, rel=1e-6)


@pytest.mark.parametrize("form", ["csr", "triplets"])
@pytest.mark.parametrize("bounds", [None, (-0.2, 0.3)])
def test_a_graph_on_the_device_is_propagated_there(cupy: Any, form: str, bounds: Any) -> None:
    import cupyx.scipy.sparse
    import scipy.sparse

    rng = np.random.default_rng(7)
    line = scipy.sparse.diags_array([np.ones(19)] * 2, offsets=[-1, 1])
    host = scipy.sparse.coo_array(scipy.sparse.kronsum(line, line))
    labels = np.where(rng.random(400) < 0.1, rng.standard_normal(400), np.nan)
    graph = cupyx.scipy.sparse.csr_matrix(scipy.sparse.csr_matrix(host))
    if form == "triplets":
        rows, columns = (cupy.asarray(part.astype(np.int64)) for part in host.coords)
        graph = rows, columns, cupy.asarray(host.data), host.shape
    there = cupy.asarray(labels)
    plain = solvers.label_propagation(host, labels, bounds=bounds)
    result = solvers.label_propagation(graph, there, bounds=bounds)
    assert result.backend == "cupy"
    assert isinstance(result.x, cupy.ndarray)
    assert result.fun == pytest.approx(plain.fun, rel=1e-5)
    assert solvers.verify(result, graph, there, bounds=bounds).ok
    Q = cupyx.scipy.sparse.csr_matrix(scipy.sparse.csr_matrix(scipy.sparse.diags_array(np.full(400, 4.5)) - host))
    loss = solvers.bcd.Quadratic(Q, cupy.asarray(rng.standard_normal(400)))
    minimum = solvers.minimize_bcd(loss, None if bounds is None else solvers.bcd.Box(*bounds))
    assert minimum.backend == "cupy"
    assert solvers.verify(minimum, loss, None if bounds is None else solvers.bcd.Box(*bounds)).ok
