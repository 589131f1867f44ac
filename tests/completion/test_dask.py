"""A matrix on the workers of a cluster: the same answer as from memory."""

import numpy as np
import pytest
import scipy.sparse
from completion_problems import low_rank, observed_part, relative_error
from convex_completion import proves_no_more_than_the_optimum, random_case

import solvers

distributed = pytest.importorskip("distributed")
dask_array = pytest.importorskip("dask.array")


@pytest.fixture(scope="module")
def client():
    """Two workers in this process, without a dashboard."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, protocol="inproc"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def noisy(seed=0, shape=(50, 40)):
    rng = np.random.default_rng(seed)
    triplets = observed_part(*low_rank(*shape, 2, 3, rng), 6, rng, noise=0.1)
    return scipy.sparse.csr_array((triplets[2], triplets[:2]), shape=shape)


def dense(A):
    full = np.full(A.shape, np.nan)
    triplets = A.tocoo()
    full[triplets.row, triplets.col] = triplets.data
    return full


def test_without_a_cluster_the_message_says_how_to_start_one():
    with pytest.raises(ValueError, match="running cluster"):
        solvers.complete_matrix(dask_array.ones((4, 4), chunks=2), 1)


@pytest.mark.parametrize(
    "options",
    [
        {"reg": 10.0, "tol": 1e-4},
        {"reg": 0.5, "reg_scaling": "count", "biases": True, "tol": 1e-3},
        {"method": "altmin-exact", "tol": 1e-5},
    ],
    ids=["plain", "count-and-biases", "without-penalty"],
)
def test_answers_from_a_cluster_are_those_from_memory(client, options):
    A = noisy()
    X = dask_array.from_array(dense(A), chunks=(25, 20))
    rank = 3 if "reg" in options else 2
    here = solvers.complete_matrix(A, rank, rng=0, **options)
    there = solvers.complete_matrix(X, rank, rng=0, **options)
    assert there.status is here.status
    assert there.fun == pytest.approx(here.fun, rel=1e-10)
    assert there.bound == pytest.approx(here.bound, rel=1e-9)
    assert there.determined == here.determined
    mine, other = ((r.U * r.s) @ r.V.T for r in (here, there))
    np.testing.assert_allclose(other, mine, rtol=0, atol=1e-10 * np.abs(mine).max())
    options.pop("method", None)
    options.pop("tol", None)
    assert solvers.verify(there, X, rank, **options)
    assert solvers.verify(there, A, rank, **options)


def test_an_exact_matrix_is_recovered_on_a_cluster(client):
    rng = np.random.default_rng(3)
    truth = low_rank(60, 40, 2, 10, rng)
    triplets = observed_part(*truth, 6, rng)
    A = scipy.sparse.csr_array((triplets[2], triplets[:2]), shape=(60, 40))
    X = dask_array.from_array(dense(A), chunks=(30, 40))
    result = solvers.complete_matrix(X, 2, tol=1e-12, rng=0)
    assert result.determined is True
    assert relative_error(result, *truth) < 1e-8


def test_weights_and_held_out_entries_on_a_cluster_are_those_in_memory(client):
    A = noisy()
    W = A.copy()
    W.data = np.random.default_rng(1).uniform(0.5, 2.0, A.nnz)
    X, weights = (dask_array.from_array(dense(part), chunks=(25, 20)) for part in (A, W))
    there = solvers.complete_matrix(X, 2, weights=weights, reg=10.0, tol=1e-3, rng=0)
    assert there.fun == pytest.approx(solvers.complete_matrix(A, 2, weights=W, reg=10.0, tol=1e-3, rng=0).fun, rel=1e-9)
    apart = solvers.complete_matrix(X, 2, weights=weights, reg=10.0, holdout=0.2, tol=1e-3, rng=0)
    assert apart.holdout_rmse > 0
    assert solvers.verify(apart, X, 2, weights=weights, reg=10.0, holdout=0.2)
    assert solvers.verify(apart, A, 2, weights=W, reg=10.0, holdout=0.2)


def agreement(X, A, rank, weights, W, **options):
    """A run on a cluster with entries held out, and one in memory on what it has fitted: the same answer and bound."""
    there = solvers.complete_matrix(X, rank, weights=weights, holdout=0.2, rng=0, **options)
    held = there.holdout_index @ [A.shape[1], 1]
    kept, used = A.tocoo(), W.tocoo()
    left = ~np.isin(kept.row * A.shape[1] + kept.col, held)
    triplets = kept.row[left], kept.col[left], kept.data[left], A.shape
    source = np.random.default_rng(0)
    source.integers(2**63)  # the draw of the held-out entries
    here = solvers.complete_matrix(triplets, rank, weights=used.data[left], rng=source, **options)
    assert there.fun == pytest.approx(here.fun, rel=1e-10)
    assert there.bound == pytest.approx(here.bound, rel=1e-9)
    assert there.nit == here.nit
    mine, other = (r.predict(np.arange(A.shape[0])[:, None], np.arange(A.shape[1])) for r in (here, there))
    np.testing.assert_allclose(other, mine, rtol=0, atol=1e-10 * np.abs(mine).max())
    misses = kept.data[~left] - here.predict(kept.row[~left], kept.col[~left])
    assert there.holdout_rmse == pytest.approx(np.sqrt(np.mean(misses**2)), rel=1e-9)
    return there


def test_certificates_with_weights_biases_and_held_out_entries_are_those_from_memory(client):
    A = noisy()
    W = A.copy()
    W.data = np.random.default_rng(1).uniform(0.5, 2.0, A.nnz)
    X, weights = (dask_array.from_array(dense(part), chunks=(25, 20)) for part in (A, W))
    options = {"reg": 6.0, "biases": True}
    there = agreement(X, A, 3, weights, W, tol=1e-3, **options)
    assert there.gap < 1e-3
    assert solvers.verify(there, X, 3, weights=weights, holdout=0.2, **options)
    assert solvers.verify(there, A, 3, weights=W, holdout=0.2, **options)


@pytest.mark.slow
@pytest.mark.parametrize("scaling", ["plain", "count"])
@pytest.mark.parametrize("seed", range(3))
def test_larger_matrices_in_uneven_chunks_agree_too(client, scaling, seed):
    A = noisy(seed, (400, 300))
    W = A.copy()
    W.data = np.random.default_rng(seed).uniform(0.5, 2.0, A.nnz)
    chunks = ((100, 37, 263), (171, 129))
    X, weights = (dask_array.from_array(dense(part), chunks=chunks) for part in (A, W))
    options = {"reg": 20.0 if scaling == "plain" else 0.8, "reg_scaling": scaling, "biases": True}
    there = agreement(X, A, 5, weights, W, tol=1e-4, **options)
    assert solvers.verify(there, A, 5, weights=W, holdout=0.2, **options)


@pytest.mark.slow
def test_workers_may_be_processes():
    A = noisy()
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", memory_limit=0
        ) as cluster,
        distributed.Client(cluster),
    ):
        X = dask_array.from_array(dense(A), chunks=(25, 20))
        there = solvers.complete_matrix(X, 2, reg=10.0, holdout=0.1, tol=1e-3, rng=0)
        assert solvers.verify(there, X, 2, reg=10.0, holdout=0.1)
    assert solvers.verify(there, A, 2, reg=10.0, holdout=0.1)


def test_chunks_may_be_sparse(client):
    A = noisy()
    X = dask_array.from_array(dense(A), chunks=(25, 20)).map_blocks(
        lambda part: scipy.sparse.csr_array((part[~np.isnan(part)], np.nonzero(~np.isnan(part))), shape=part.shape),
        dtype=np.float64,
        meta=np.empty((0, 0)),
    )
    here, there = (solvers.complete_matrix(data, 2, reg=10.0, tol=1e-3, rng=0) for data in (A, X))
    assert there.fun == pytest.approx(here.fun, rel=1e-10)


def test_wrong_chunks_and_options_are_refused_with_a_reason(client):
    A = dense(noisy())
    X = dask_array.from_array(A, chunks=(25, 20))
    for keywords, words in [
        ({"weights": np.ones(A.shape)}, "weights must be a DaskMatrix"),
        ({"weights": dask_array.ones(A.shape, chunks=(25, 20))}, "positions of A"),
        ({"loss": "huber"}, "huber"),
        ({"method": "gauss-newton"}, "in memory"),
        ({"rank": 41}, "at most min"),
        ({"rank": 0}, "rank"),
    ]:
        options = {"rank": 2} | keywords
        with pytest.raises(ValueError, match=words):
            solvers.complete_matrix(X, options.pop("rank"), **options)
    with pytest.raises(solvers.BackendError, match="numba"):
        solvers.complete_matrix(X, 2, backend="array")
    with pytest.raises(ValueError, match="two-dimensional"):
        solvers.complete_matrix(X[0], 2)
    A[3, 4] = np.inf
    with pytest.raises(ValueError, match="finite"):
        solvers.complete_matrix(dask_array.from_array(A, chunks=(25, 20)), 2)
    with pytest.raises(ValueError, match="at least one observed"):
        solvers.complete_matrix(dask_array.from_array(np.full((6, 5), np.nan), chunks=3), 2)


def check_proofs(count, seed):
    """Bounds of so many problems, verified on a cluster whatever their chunks, and against the conic solver."""
    for position in range(count):
        rng = np.random.default_rng([seed, position])
        posed = random_case(rng, blocked=True)
        weights = posed.problem.get("weights")
        if weights is not None:
            weights[np.isnan(posed.A)] = np.nan
        chunks = tuple(rng.integers((size + 1) // 2, size + 1) for size in posed.A.shape)
        A, W = (part if part is None else dask_array.from_array(part, chunks=chunks) for part in (posed.A, weights))
        assert proves_no_more_than_the_optimum(posed, A, W, solve=False) >= -1e-14


def test_proofs_from_memory_hold_on_a_cluster_and_exceed_no_optimum(client):
    check_proofs(5, 0)


@pytest.mark.slow
def test_a_hundred_proofs_from_memory_hold_on_a_cluster_and_exceed_no_optimum(client):
    check_proofs(100, 1)
