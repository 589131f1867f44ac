"""Sweeps in array code: the same answers as the compiled kernels, on the device where the data live."""

import numpy as np
import pytest
from completion_problems import low_rank, observed_part, relative_error
from kinds import NAMESPACES

import solvers
from solvers._core.arrays import to_host
from solvers.completion import _array_entries, _kernels_array
from solvers.completion._observations import read_observations
from solvers.completion._problem import completion_problem
from solvers.completion._sweeps import Factors, SweepRule, Workspace, half_sweep

IN_EVERY_NAMESPACE = pytest.mark.parametrize("namespace", NAMESPACES)


def ratings(seed=0, m=70, n=55, rank=3, share=0.4):
    """Noisy low rank with rows of very different lengths, one of them and one column empty."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((m, rank)) @ rng.standard_normal((rank, n)) + 0.1 * rng.standard_normal((m, n))
    A[rng.random((m, n)) > np.linspace(0.05, 2 * share, m)[:, None]] = np.nan
    A[7], A[:, 5] = np.nan, np.nan
    return A


@pytest.mark.parametrize("inner", ["exact", "auto"])
@pytest.mark.parametrize("reg", [0.0, 0.7])
def test_a_half_sweep_in_array_code_is_that_of_the_compiled_kernels(inner, reg, monkeypatch):
    rng = np.random.default_rng(1)
    monkeypatch.setattr(_kernels_array, "STACK", 4000)  # several stacks per bucket
    for weights in (None, rng.uniform(0.5, 2.0, (70, 55))):
        A = ratings()
        observed = read_observations(A, weights, "error")
        problem = completion_problem(
            observed, observed, 12, reg=reg, reg_scaling="count", loss="l2", delta="auto", biases=False
        )
        U, V = (np.linalg.qr(rng.standard_normal((size, 12)))[0] for size in A.shape)
        start = Factors(U, np.logspace(0, -3, 12), V)
        backend = solvers._core.backend.choose_backend("solvers.completion", "array", ("array",), A=A)
        here, there = Workspace(problem), _array_entries.ArrayEntries(problem, np.float64, backend)
        for columns in (False, True):
            rule = SweepRule(inner, 1e-13, 200)
            (mine, value), (other, same) = (half_sweep(w, start, rule, columns=columns) for w in (here, there))
            assert same == pytest.approx(value, rel=1e-10)
            if reg:
                # Without a ridge, rows with fewer entries than unknowns have many solutions.
                X, Y = ((f.U * f.s) @ f.V.T for f in (mine, other))
                np.testing.assert_allclose(Y, X, atol=1e-8 * np.abs(X).max())


@IN_EVERY_NAMESPACE
@pytest.mark.parametrize("form", ["dense", "triplets"])
def test_data_on_a_device_are_completed_there_and_verified(namespace, form):
    A = ratings(m=40, n=35)
    rows, cols = np.nonzero(~np.isnan(A))
    give = NAMESPACES[namespace]
    data = give(A) if form == "dense" else (give(rows), give(cols), give(A[rows, cols]), A.shape)
    options = {"reg": 4.0, "biases": True, "tol": 1e-5}
    plain = solvers.complete_matrix(A, 8, rng=0, **options)
    result = solvers.complete_matrix(data, 8, rng=0, **options)
    assert result.backend == "array"
    assert result.gap <= 1e-5
    assert result.fun == pytest.approx(plain.fun, rel=1e-9)
    for name in ("U", "s", "V", "row_bias", "col_bias"):
        assert type(result[name]) is type(give(A))
        assert result[name].device == give(A).device
    assert solvers.verify(result, data, 8, reg=4.0, biases=True)
    assert solvers.verify(result, A, 8, reg=4.0, biases=True)
    completed = result.predict(np.arange(40)[:, None], np.arange(35))
    np.testing.assert_allclose(to_host(completed), plain.predict(np.arange(40)[:, None], np.arange(35)), atol=1e-6)
    assert solvers.complete_matrix(data, 8, rng=0, x0=result, **options).nit <= 2


@pytest.mark.parametrize("method", ["auto", "altmin", "altmin-exact"])
def test_matrices_are_recovered_on_a_device(method):
    rng = np.random.default_rng(2)
    truth = low_rank(90, 80, 12, 20, rng)
    A = observed_part(*truth, 3.0, rng)
    give = NAMESPACES["array_api_strict"]
    data = *(give(part) for part in A[:3]), A[3]
    result = solvers.complete_matrix(data, 12, method=method, tol=1e-12, rng=0, holdout=0.02)
    assert result.determined is True
    result["U"], result["s"], result["V"] = (to_host(part) for part in result.x)
    assert relative_error(result, *truth) < 1e-8
    assert result.holdout_rmse < 1e-7


def test_single_precision_on_a_device_is_judged_in_double():
    A = ratings()
    options = {"reg": 2.0, "tol": 1e-4, "rng": 0, "options": {"precision": "single"}}
    result = solvers.complete_matrix(A, 10, backend="array", **options)
    assert result.gap <= 1e-4
    assert result.U.dtype == np.float64


def test_what_runs_on_the_host_only_is_refused_by_name():
    data = NAMESPACES["array_api_strict"](ratings())
    for keywords in ({"loss": "huber"}, {"method": "altmin-sketch"}, {"method": "gauss-newton"}):
        with pytest.raises(solvers.BackendError, match="run on the host"):
            solvers.complete_matrix(data, 2, **keywords)


def test_mixed_kinds_are_refused():
    A = ratings()
    give = NAMESPACES["array_api_strict"]
    rows, cols = np.nonzero(~np.isnan(A))
    with pytest.raises(solvers.BackendError, match="one kind"):
        solvers.complete_matrix((rows, cols, give(A[rows, cols]), A.shape), 2)
    with pytest.raises(solvers.BackendError, match="one kind"):
        solvers.complete_matrix(give(A), 2, weights=np.ones(A.shape))


def test_the_estimator_takes_device_arrays_and_keeps_its_attributes_on_the_host():
    A = ratings()
    model = solvers.completion.MatrixCompleter(8, reg=4.0, tol=1e-3, random_state=0)
    model.fit(NAMESPACES["array_api_strict"](A))
    assert isinstance(model.U_, np.ndarray)
    plain = solvers.completion.MatrixCompleter(8, reg=4.0, tol=1e-3, random_state=0).fit(A)
    np.testing.assert_allclose(model.predict([0, 1], [2, 3]), plain.predict([0, 1], [2, 3]), atol=1e-9)
