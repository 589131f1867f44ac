import copy
import dataclasses
import warnings

import numpy as np
import pytest
import scipy.sparse
from completion_problems import low_rank, observed_part, small_dense

import solvers
from solvers.completion import StoredMatrix
from solvers.completion import _certificate as certificate
from solvers.completion._observations import read_observations
from solvers.completion._problem import completion_problem

OPTIONS = [{}, {"reg_scaling": "count"}, {"loss": "huber"}, {"loss": "huber", "reg_scaling": "count"}]


def stated(A, rank, reg, weights=None, **options):
    observed = read_observations(A, weights, "error")
    full = {"reg_scaling": "plain", "loss": "l2", "delta": "auto", "biases": False} | options
    return completion_problem(observed, observed.keep(np.zeros(observed.size, bool)), rank, reg=reg, **full)


def random_problem(rng, **options):
    A = small_dense(rng)
    size = np.nanmax(np.abs(A))
    if options.get("loss") == "huber":
        options["delta"] = size * 10.0 ** rng.uniform(-2, 0.5)
    weights = 10.0 ** rng.uniform(-2, 2, A.shape) if rng.random() < 0.5 else None
    reg = size * 10.0 ** rng.uniform(-4, 1.2)
    return A, min(A.shape), reg, weights, options


@pytest.mark.parametrize("options", OPTIONS)
def test_bound_at_arbitrary_factors_never_exceeds_any_attained_objective(options):
    rng = np.random.default_rng(len(str(options)))
    for _ in range(250):
        A, rank, reg, weights, opts = random_problem(rng, **options)
        result = solvers.complete_matrix(A, rank, reg=reg, weights=weights, tol=1e-9, max_iter=60, rng=0, **opts)
        problem = stated(A, rank, reg, weights, **opts)
        for _ in range(3):
            step = 10.0 ** rng.uniform(-8, 1)
            left = result.U * result.s + step * result.s[0] * rng.standard_normal(result.U.shape)
            bound = certificate.dual_bound(problem, left, result.V, result.delta, checking=False)
            assert bound.published <= bound.reestablished <= result.fun * (1 + 1e-12)


@pytest.mark.parametrize("options", OPTIONS)
def test_full_rank_factors_are_certified_optimal_and_verified(options):
    rng = np.random.default_rng(7)
    certified = 0
    for _ in range(100):
        A, rank, reg, weights, opts = random_problem(rng, **options)
        result = solvers.complete_matrix(A, rank, reg=reg, weights=weights, tol=1e-5, rng=0, **opts)
        certified += result.gap <= 1e-5
        verification = solvers.verify(result, A, rank, reg=reg, weights=weights, **opts)
        assert verification, verification.message
    assert certified >= 90


@pytest.mark.parametrize("options", OPTIONS)
def test_bound_and_objective_agree_with_the_convex_model(options):
    rng = np.random.default_rng(3)
    for _ in range(4):
        A = rng.standard_normal((5, 4))
        A[rng.random(A.shape) < 0.3] = np.nan
        opts = dict(options) | ({"delta": 0.4} if options.get("loss") == "huber" else {})
        result = solvers.complete_matrix(A, 4, reg=0.3, tol=1e-8, rng=0, **opts)
        model = solvers.reference_model("complete_matrix", A, 4, reg=0.3, **opts)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.solve(solver="SCS", eps=1e-9, max_iters=200000)
        assert result.bound <= model.value * (1 + 1e-6)
        assert result.fun == pytest.approx(model.value, rel=1e-5)


def test_deflated_norm_bounds_the_spectral_norm_and_is_tight_at_the_optimum(monkeypatch):
    rng = np.random.default_rng(5)
    truth = low_rank(150, 200, 2, 2, rng)
    A = observed_part(*truth, 30, rng, noise=0.02)
    result = solvers.complete_matrix(A, 2, reg=8.0, tol=1e-9, rng=0)
    problem = stated(A, 2, 8.0)
    exact = certificate.dual_bound(problem, result.U * result.s, result.V, result.delta, checking=False)
    monkeypatch.setattr(certificate, "DENSE_WORK", 0.0)
    for _ in range(20):
        published = certificate.dual_bound(problem, result.U * result.s, result.V, result.delta, checking=False)
        checked = certificate.dual_bound(
            problem, result.U * result.s, result.V, result.delta, checking=True, steps=published.steps
        )
        assert published.norm == "deflated"
        assert published.published <= checked.reestablished <= exact.reestablished * (1 + 1e-12)
        assert published.published >= exact.published * (1 - 1e-8)


def test_deflated_norm_is_an_upper_bound_for_any_bases(monkeypatch):
    rng = np.random.default_rng(6)
    import scipy.sparse

    for _ in range(60):
        m, n = rng.integers(20, 90, size=2)
        matrix = scipy.sparse.random_array((m, n), density=0.3, rng=rng, data_sampler=rng.standard_normal).tocsr()
        left, right = rng.standard_normal((m, 3)), rng.standard_normal((n, 3))
        steps = int(rng.choice(certificate.PUBLISHED_STEPS))
        bound = certificate._deflated_norm(matrix, left, right, checking=bool(rng.integers(2)), steps=steps)
        assert bound.value + bound.slack >= np.linalg.norm(matrix.toarray(), 2)


def residual_on_few_rows(rng, m, n):
    """Of low rank, with bases among its own rows: nothing is left for further directions."""
    matrix, left = np.zeros((m, n)), np.zeros((m, 5))
    matrix[:10] = rng.standard_normal((10, n)) * np.append(1.0, 10.0 ** rng.uniform(-12, 0, 9))[:, None]
    left[:5] = np.eye(5)
    return matrix, left


def test_deflated_norm_is_confirmed_where_there_are_fewer_dimensions_than_steps():
    rng = np.random.default_rng(13)
    for count in range(45):
        m, n = rng.integers(25, 115, size=2)
        matrix, left = rng.standard_normal((m, n)), rng.standard_normal((m, 3))
        if count % 3 == 0:
            matrix, left = residual_on_few_rows(rng, m, n)
        sparse, right = scipy.sparse.csr_array(matrix), rng.standard_normal((n, left.shape[1]))
        published = certificate._deflated_norm(sparse, left, right, checking=False, steps=60)
        checked = certificate._deflated_norm(sparse, left, right, checking=True, steps=published.steps)
        assert published.steps in certificate.PUBLISHED_STEPS
        assert np.linalg.norm(matrix, 2) <= checked.value + checked.slack <= published.value + 2 * published.slack


def test_further_directions_are_orthogonal_to_the_bases_where_the_matrix_has_no_more():
    rng = np.random.default_rng(14)
    for _ in range(10):
        matrix, left = residual_on_few_rows(rng, 60, 40)
        p, q = certificate._enriched(matrix, matrix.T, left, certificate._basis(rng.standard_normal((40, 2))))
        for basis in (p, q):
            np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-12)


def test_tampered_certificates_and_answers_are_refused():
    rng = np.random.default_rng(8)
    A = rng.standard_normal((8, 6))
    A[0, 0] = np.nan
    result = solvers.complete_matrix(A, 6, reg=1.0, rng=0)
    assert solvers.verify(result, A, 6, reg=1.0)
    for field, value in [
        ("bound", result.bound * (1 + 1e-9)),
        ("fun", result.fun * (1 - 1e-9)),
        ("U", result.U + 1e-6),
        ("certificate", certificate.TrivialCertificate()),
        ("delta", 1.0),
        ("row_bias", result.row_bias + 1.0),
    ]:
        copy = solvers.completion.CompletionResult(result)
        copy[field] = value
        assert not solvers.verify(copy, A, 6, reg=1.0), field
    assert not solvers.verify(result, A * 1.01, 6, reg=1.0)
    assert not solvers.verify(result, A, 6, reg=1.1)


def test_zero_matrix_is_optimal_when_reg_reaches_the_spectral_norm():
    A = np.diag([3.0, 2.0, 1.0])
    result = solvers.complete_matrix(A, 3, reg=3.0, rng=0)
    assert result.status.name == "OPTIMAL"
    assert not result.s.any()
    soft = solvers.complete_matrix(A, 3, reg=0.5, tol=1e-10, rng=0)
    np.testing.assert_allclose(soft.s, [2.5, 1.5, 0.5], rtol=1e-6)


def test_rank_too_small_leaves_an_honest_gap():
    A = np.diag([3.0, 2.0, 1.0])
    result = solvers.complete_matrix(A, 1, reg=0.5, rng=0)
    assert result.status.name == "CONVERGED"
    assert result.gap > 0.1
    assert "rank" in result.message


def test_optimum_at_the_first_threshold_is_no_verdict_at_the_threshold_found():
    A = np.full((2, 3), np.nan)
    A[:, 0] = 7.1e-4, 1.7e-6
    problem = {"reg": 1e-4, "reg_scaling": "count", "loss": "huber"}
    result = solvers.complete_matrix(A, 1, tol=1e-6, rng=0, **problem)
    assert (result.status.name == "OPTIMAL") == (result.gap <= 1e-6)
    assert solvers.verify(result, A, 1, **problem)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("scaling", ["plain", "count"])
@pytest.mark.parametrize("share", [1e-2, 1e-6, 1e-10])
def test_a_claim_survives_another_order_of_summation(tmp_path, share, scaling, stored):
    """Residuals far below the data are mostly rounding, which differs between machines: as for permuted columns of factors."""
    rng = np.random.default_rng(11)
    A = rng.normal(size=(20, 6)) @ rng.normal(size=(6, 15)) + 5.0
    reg = share * float(np.linalg.norm(A, 2)) / (np.sqrt(20 * 15) if scaling == "count" else 1.0)
    data = StoredMatrix.write(tmp_path / "a", scipy.sparse.csr_array(A), block_bytes=600) if stored else A
    result = solvers.complete_matrix(data, 10, reg=reg, reg_scaling=scaling, rng=0, tol=1e-12, max_iter=200)
    assert result.gap < 1e-5
    for _ in range(5):
        columns = rng.permutation(result.certificate.left.shape[1])
        left, right = (
            np.ascontiguousarray(part[:, columns]) for part in (result.certificate.left, result.certificate.right)
        )
        elsewhere = copy.deepcopy(result)
        elsewhere["certificate"] = dataclasses.replace(result.certificate, left=left, right=right)
        assert solvers.verify(elsewhere, data, 10, reg=reg, reg_scaling=scaling)


def test_a_verification_takes_twice_the_steps_published_and_no_other_number(monkeypatch):
    rng = np.random.default_rng(11)
    A = observed_part(*low_rank(150, 200, 2, 2, rng), 30, rng, noise=0.02)
    monkeypatch.setattr(certificate, "DENSE_WORK", 0.0)
    taken = []

    def counted(matrix, transposed, p, q, numbers, ritz_values=certificate._ritz_values):
        taken.append(list(numbers))
        return ritz_values(matrix, transposed, p, q, numbers)

    monkeypatch.setattr(certificate, "_ritz_values", counted)
    result = solvers.complete_matrix(A, 2, reg=8.0, tol=1e-9, rng=0)
    assert result.certificate.steps == min(certificate.PUBLISHED_STEPS)
    assert solvers.verify(result, A, 2, reg=8.0)
    assert taken[-1] == [2 * result.certificate.steps]
    for claim in (1, 10**9, -3, "24", None, 24.0):
        result["certificate"] = dataclasses.replace(result.certificate, steps=claim)
        assert solvers.verify(result, A, 2, reg=8.0)
        assert taken[-1] == [2 * max(certificate.PUBLISHED_STEPS)]
