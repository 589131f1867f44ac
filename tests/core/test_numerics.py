"""Shared linear algebra, random numbers and compilation."""

from __future__ import annotations

import numpy as np
import pytest

from solvers._core import jit
from solvers._core.arrays import host_namespace
from solvers._core.linalg import row_chunks, simplex_threshold, tall_r_factor, top_eigenvalue_sum
from solvers._core.random import generator


@pytest.mark.parametrize("rows", [3, 1000, 5000])
def test_tall_factorisation_keeps_the_gram_matrix(rows: int) -> None:
    rng = np.random.default_rng([rows, 52])
    A = rng.normal(size=(rows, 7)) * 10.0 ** rng.uniform(-6, 6, size=7)
    R, height = tall_r_factor(host_namespace, row_chunks(A))
    norms = np.linalg.norm(A, axis=0)
    assert R.shape[1] == 7
    assert height >= min(rows, 1024)
    assert np.max(np.abs(R.T @ R - A.T @ A) / np.outer(norms, norms)) < 1e-13


def test_tall_factorisation_of_one_row_blocks_terminates() -> None:
    A = np.random.default_rng(3).normal(size=(5, 3))
    R, _ = tall_r_factor(host_namespace, (A[i : i + 1] for i in range(5)))
    np.testing.assert_allclose(R.T @ R, A.T @ A, atol=1e-12)


def test_sum_of_top_eigenvalues() -> None:
    rng = np.random.default_rng(4)
    A = rng.normal(size=(9, 9))
    A = A + A.T
    expected = np.sort(np.linalg.eigvalsh(A))[::-1]
    for count in range(10):
        assert top_eigenvalue_sum(A, count) == pytest.approx(expected[:count].sum(), abs=1e-10)
    assert top_eigenvalue_sum(A, 50) == pytest.approx(np.trace(A), abs=1e-10)


def test_simplex_threshold_gives_the_sum() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        values = rng.normal(size=int(rng.integers(1, 12))) * 10.0 ** rng.uniform(-3, 3)
        total = 10.0 ** rng.uniform(-2, 2)
        theta = simplex_threshold(values, total)
        assert np.sum(np.maximum(values - theta, 0.0)) == pytest.approx(total, rel=1e-9)


def test_seeds_of_every_kind_make_generators() -> None:
    assert generator(7).random() == generator(np.random.SeedSequence(7)).random() == generator(np.int64(7)).random()
    own = np.random.default_rng(1)
    assert generator(own) is own
    for bad in ("7", 1.5, True, np.random.RandomState(3)):
        with pytest.raises(TypeError, match="rng must be"):
            generator(bad)  # type: ignore[arg-type]


def test_compilation_is_timed() -> None:
    # A function without a file has no cache on disk, so it is compiled in every run.
    scope: dict[str, object] = {}
    exec("def square(x):\n    return x * x\n", scope)
    before = jit.compile_seconds()
    assert jit.njit()(scope["square"])(3.0) == 9.0  # type: ignore[arg-type]
    assert jit.compile_seconds() > before


def test_kernels_compile_without_a_writable_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    real = jit.numba.njit

    def no_locator(**settings: object) -> object:
        if settings.get("cache"):
            raise RuntimeError("cannot cache function 'f': no locator available for file 'f.py'")
        return real(**settings)

    monkeypatch.setattr(jit.numba, "njit", no_locator)

    @jit.njit()
    def cube(x: float) -> float:
        return x**3

    assert cube(2.0) == 8.0
