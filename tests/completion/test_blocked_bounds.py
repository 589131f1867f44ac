"""Bounds of matrices in files and in memory against the convex optimum, for data of very different scales.

The optimum is approached from above by accelerated proximal gradient steps with full decompositions: the objective of any
matrix is an upper bound, however far they got.
"""

import numpy as np
import pytest
import scipy.sparse

import solvers
from solvers.completion import StoredMatrix, _blocked_certificate, _certificate
from solvers.completion._blocked_problem import blocked_problem
from solvers.completion._observations import read_observations
from solvers.completion._problem import completion_problem


def drawn(rng):
    """Entries, weights, mask and penalty of a small problem."""
    m, n = rng.integers(2, 8, 2)
    A = rng.standard_normal((m, n))
    if rng.random() < 0.5:
        A *= 10.0 ** rng.uniform(-4, 4, (m, 1)) * 10.0 ** rng.uniform(-3, 3, (1, n))
    if rng.random() < 0.3:
        A += 1e6
    A *= 10.0 ** rng.uniform(-8, 8)
    seen = rng.random((m, n)) < 0.7
    seen[0, 0] = True
    W = np.ones((m, n)) if rng.random() < 0.4 else 10.0 ** rng.uniform(-4, 4, (m, n))
    return A, W, seen, np.linalg.norm(np.where(seen, A * W, 0.0), 2) * 10.0 ** rng.uniform(-4, 0.2)


def objective(A, W, seen, reg, scales, X):
    misfit = np.where(seen, X.astype(np.longdouble) - A, 0)
    size = np.linalg.svd(scales[0][:, None] * X * scales[1], compute_uv=False).sum()
    return float(0.5 * np.sum(W * misfit**2) + np.longdouble(reg) * size)


def nearly_optimal(A, W, seen, reg, scales, steps=150):
    """Accelerated proximal gradient in scaled coordinates (Beck and Teboulle 2009)."""
    scale = np.where(scales[0] > 0, scales[0], 1.0)[:, None] * np.where(scales[1] > 0, scales[1], 1.0)
    target, weight = np.where(seen, A * scale, 0.0), np.where(seen, W / scale**2, 0.0)
    length = 1.0 / weight.max()
    X = ahead = np.zeros_like(target)
    momentum = 1.0
    for _ in range(steps):
        u, s, vt = np.linalg.svd(ahead - length * weight * (ahead - target), full_matrices=False)
        fresh = (u * np.maximum(s - reg * length, 0.0)) @ vt
        following = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * momentum**2))
        ahead, X, momentum = fresh + (momentum - 1.0) / following * (fresh - X), fresh, following
    return X / scale


@pytest.mark.parametrize("dense_work", [2e8, 0.0], ids=["decomposed", "deflated"])
@pytest.mark.parametrize("scaling", ["plain", "count"])
def test_no_residual_of_any_factors_proves_more_than_the_optimum(tmp_path, monkeypatch, dense_work, scaling):
    for module in (_certificate, _blocked_certificate):
        monkeypatch.setattr(module, "DENSE_WORK", dense_work)
    for seed in range(25 if dense_work else 10):
        rng = np.random.default_rng([scaling == "count", seed])
        A, W, seen, reg = drawn(rng)
        counts = seen.sum(axis=1), seen.sum(axis=0)
        scales = [np.sqrt(count if scaling == "count" else np.ones(len(count))) for count in counts]
        sparse = [scipy.sparse.csr_array((part[seen], np.nonzero(seen)), shape=A.shape) for part in (A, W)]
        stored, weights = (
            StoredMatrix.write(tmp_path / str(i), part, block_bytes=100) for i, part in enumerate(sparse)
        )
        options = {"reg": reg, "reg_scaling": scaling, "loss": "l2", "delta": "auto", "biases": False}
        observed = read_observations(np.where(seen, A, np.nan), W, "error")
        nobody = observed.keep(np.zeros(observed.size, bool))
        here = completion_problem(observed, nobody, 1, **options)
        there = blocked_problem(stored, 1, weights=weights, holdout=0.0, duplicates="error", **options)
        X = nearly_optimal(A, W, seen, reg, scales)
        best = min(objective(A, W, seen, reg, scales, Y) for Y in (X, 0.0 * X))
        u, s, vt = np.linalg.svd(X, full_matrices=False)
        unit = np.abs(A).max()
        anywhere = rng.standard_normal((len(A), 2)) * unit, rng.standard_normal((A.shape[1], 2))
        for left, right in ((u * s, vt.T), (0.0 * u, vt.T), anywhere):
            for checking in (False, True):
                for bound in (
                    _certificate.dual_bound(here, left, right, np.inf, checking=checking),
                    _blocked_certificate.blocked_dual_bound(there, left, right, checking=checking),
                ):
                    assert 0.0 <= bound.published <= bound.reestablished <= best * (1 + 1e-14)


@pytest.mark.parametrize("biases", [False, True])
def test_weights_and_biases_of_single_precision_entries_are_in_double_precision(tmp_path, biases):
    rng = np.random.default_rng(7)
    A = scipy.sparse.csr_array((rng.standard_normal((9, 7)) + 5.0).astype(np.float32))
    W = scipy.sparse.csr_array(rng.uniform(0.1, 1.0, A.shape))
    stored, weights = (
        StoredMatrix.write(tmp_path / str(part.dtype), part, dtype=part.dtype, block_bytes=100) for part in (A, W)
    )
    problem = {"reg": 1.0, "biases": biases}
    here = solvers.complete_matrix(A, 7, weights=W, tol=1e-9, rng=0, **problem)
    there = solvers.complete_matrix(stored, 7, weights=weights, tol=1e-9, rng=0, **problem)
    assert solvers.verify(here, stored, 7, weights=weights, **problem)
    assert solvers.verify(there, A, 7, weights=W, **problem)
