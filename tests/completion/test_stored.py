"""Matrices in files: the same answers as from memory, one block at a time, and offsets of 64 bits."""

import itertools

import numpy as np
import pytest
import scipy.sparse
from completion_problems import low_rank, observed_part, relative_error

import solvers
from solvers.completion import MatrixCompleter, StoredMatrix, select_reg
from solvers.completion import _kernels_numba as kernels
from solvers.completion import _kernels_tangent as tangent

BEYOND = 2**31 + 5


def noisy(shape=(90, 70), rank=3, seed=0):
    rng = np.random.default_rng(seed)
    triplets = observed_part(*low_rank(*shape, rank, 5, rng), 6, rng, noise=0.1)
    return scipy.sparse.csr_array((triplets[2], triplets[:2]), shape=shape)


@pytest.mark.parametrize("block_bytes", [1000, 1 << 26])
@pytest.mark.parametrize(
    "options",
    [
        {"reg": 15.0},
        {"reg": 0.3, "reg_scaling": "count", "biases": True},
        {"method": "altmin-exact", "tol": 1e-5},
    ],
    ids=["plain", "count-and-biases", "without-penalty"],
)
def test_answers_from_files_are_those_from_memory(tmp_path, options, block_bytes):
    A = noisy()
    stored = StoredMatrix.write(tmp_path, A, block_bytes=block_bytes)
    rank = 6 if "reg" in options else 3
    here, there = (solvers.complete_matrix(data, rank, rng=0, **options) for data in (A, stored))
    assert there.status is here.status
    assert there.fun == pytest.approx(here.fun, rel=1e-10)
    assert there.bound == pytest.approx(here.bound, rel=1e-9)
    assert there.determined == here.determined
    mine, other = ((r.U * r.s) @ r.V.T for r in (here, there))
    np.testing.assert_allclose(other, mine, rtol=0, atol=1e-8 * np.abs(mine).max())
    problem = {name: value for name, value in options.items() if name not in ("method", "tol")}
    assert solvers.verify(there, stored, rank, **problem)
    assert solvers.verify(there, A, rank, **problem)
    assert solvers.verify(here, stored, rank, **problem)
    there["bound"] += 1e-6 * there.fun
    assert not solvers.verify(there, stored, rank, **problem)
    assert not list(tmp_path.glob("scratch-*"))


@pytest.mark.parametrize(
    "options",
    [{"reg": 15.0}, {"reg": 0.3, "reg_scaling": "count", "biases": True}, {"method": "altmin-exact", "tol": 1e-5}],
    ids=["plain", "count-and-biases", "without-penalty"],
)
def test_weights_and_held_out_entries_in_files_are_those_in_memory(tmp_path, options):
    A = noisy()
    W = A.copy()
    W.data = np.random.default_rng(1).uniform(0.5, 2.0, A.nnz)
    stored = StoredMatrix.write(tmp_path / "A", A, block_bytes=1500)
    weights = StoredMatrix.write(tmp_path / "W", W, block_bytes=2500)
    rank = 6 if "reg" in options else 3
    here = solvers.complete_matrix(A, rank, weights=W, rng=0, **options)
    there = solvers.complete_matrix(stored, rank, weights=weights, rng=0, **options)
    assert there.fun == pytest.approx(here.fun, rel=1e-9)
    assert there.bound == pytest.approx(here.bound, rel=1e-8)
    assert there.rmse == pytest.approx(here.rmse, rel=1e-9)
    problem = {name: value for name, value in options.items() if name not in ("method", "tol")}
    assert solvers.verify(there, stored, rank, weights=weights, **problem)
    assert solvers.verify(there, A, rank, weights=W, **problem)
    assert solvers.verify(here, stored, rank, weights=weights, **problem)
    assert not solvers.verify(here, stored, rank, **problem)

    apart = solvers.complete_matrix(stored, rank, weights=weights, holdout=0.2, rng=0, **options)
    assert len(np.unique(apart.holdout_index @ [70, 1])) == round(0.2 * A.nnz)
    assert solvers.verify(apart, stored, rank, weights=weights, holdout=0.2, **problem)
    assert solvers.verify(apart, A, rank, weights=W, holdout=0.2, **problem)
    assert not solvers.verify(apart, stored, rank, weights=weights, holdout=0.1, **problem)
    kept = A.tocoo()
    left = ~np.isin(kept.row * 70 + kept.col, apart.holdout_index @ [70, 1])
    triplets = kept.row[left], kept.col[left], kept.data[left], A.shape
    again = solvers.complete_matrix(triplets, rank, weights=W.data[left], rng=0, **options)
    assert apart.fun == pytest.approx(again.fun, rel=1e-6)
    apart["holdout_rmse"] *= 0.9
    assert not solvers.verify(apart, stored, rank, weights=weights, holdout=0.2, **problem)


def test_penalties_are_chosen_from_files_as_from_memory(tmp_path):
    A, biases = noisy(), True
    stored = StoredMatrix.write(tmp_path, A, block_bytes=20000)
    here, there = (select_reg(data, 4, 12, biases=biases, reg_scaling="count", rng=0) for data in (A, stored))
    assert there.regs[0] == pytest.approx(here.regs[0], rel=2e-3)
    assert not solvers.complete_matrix(stored, 4, reg=there.regs[0], biases=biases, reg_scaling="count", rng=0).s.any()
    assert there.reg < there.regs[0]
    assert there.holdout_rmse.min() == pytest.approx(here.holdout_rmse.min(), rel=0.3)


def test_weights_of_other_positions_or_without_a_meaning_are_refused(tmp_path):
    A = noisy()
    stored = StoredMatrix.write(tmp_path / "A", A)
    moved, flat = A.copy(), A.copy()
    moved.indices[moved.indptr[3]] = np.setdiff1d(np.arange(70), moved.indices[moved.indptr[3] : moved.indptr[4]])[0]
    flat.data = np.zeros(A.nnz)
    for name, other, words in (("M", moved, "positions of A"), ("F", flat, "positive")):
        with pytest.raises(ValueError, match=words):
            solvers.complete_matrix(stored, 2, weights=StoredMatrix.write(tmp_path / name, other), rng=0)


def test_the_norm_of_a_large_residual_is_bounded_by_passes(tmp_path, monkeypatch):
    from solvers.completion import _blocked_certificate, _certificate

    A = noisy()
    stored = StoredMatrix.write(tmp_path, A, block_bytes=3000)
    dense = solvers.complete_matrix(stored, 6, reg=15.0, rng=0)
    for module in (_certificate, _blocked_certificate):
        monkeypatch.setattr(module, "DENSE_WORK", 0.0)
    result = solvers.complete_matrix(stored, 6, reg=15.0, rng=0)
    assert result.certificate.norm == "deflated"
    assert result.bound == pytest.approx(dense.bound, rel=1e-6)
    assert solvers.verify(result, stored, 6, reg=15.0)
    assert solvers.verify(result, A, 6, reg=15.0)


def test_both_orientations_hold_the_matrix(tmp_path):
    A = noisy((40, 300)).astype(np.float64)
    A = (
        scipy.sparse.diags_array((np.arange(40) != 7) * 1.0)
        @ A
        @ scipy.sparse.diags_array((np.arange(300) != 11) * 1.0)
    )
    A.eliminate_zeros()
    stored = StoredMatrix.write(tmp_path, A, block_bytes=2000, dtype=np.float32)
    assert len(stored.ranges()) > 3
    assert len(stored.ranges(columns=True)) > 3
    for columns, whole in ((False, A), (True, A.T.tocsr())):
        parts = [
            stored.block(i, columns=columns).matrix(stored.block(i, columns=columns).values).copy()
            for i in range(len(stored.ranges(columns=columns)))
        ]
        assert (scipy.sparse.vstack(parts) != whole.astype(np.float32)).nnz == 0
        assert stored.counts(columns=columns).tolist() == np.diff(whole.indptr).tolist()


def test_memory_maps_and_blocks_of_rows_are_written_alike(tmp_path):
    A = noisy()
    maps = []
    for name, part in (("data", A.data), ("indices", A.indices), ("indptr", A.indptr)):
        part.tofile(tmp_path / name)
        maps.append(np.memmap(tmp_path / name, dtype=part.dtype, mode="r"))
    mapped = scipy.sparse.csr_array(tuple(maps), shape=A.shape)
    one = StoredMatrix.write(tmp_path / "one", mapped, block_bytes=1000)
    other = StoredMatrix.write(tmp_path / "other", (A[i : i + 40] for i in range(0, 90, 40)))
    assert one.shape == other.shape == A.shape
    for name in ("rows.indptr", "rows.indices", "rows.values", "columns.indptr", "columns.indices", "columns.values"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_single_precision_values_are_swept_as_they_are_and_judged_in_double(tmp_path):
    A = noisy().astype(np.float32)
    stored = StoredMatrix.write(tmp_path, A, dtype=np.float32)
    result = solvers.complete_matrix(stored, 6, reg=15.0, tol=1e-4, rng=0, options={"precision": "single"})
    assert result.gap <= 1e-4
    assert solvers.verify(result, stored, 6, reg=15.0)
    assert result.fun == pytest.approx(solvers.complete_matrix(A, 6, reg=15.0, rng=0).fun, rel=1e-4)


def test_an_exact_matrix_is_recovered_from_files_and_its_estimator_predicts(tmp_path):
    rng = np.random.default_rng(3)
    truth = low_rank(80, 60, 3, 10, rng)
    rows, cols, values, shape = observed_part(*truth, 5, rng)
    stored = StoredMatrix.write(tmp_path, scipy.sparse.csr_array((values, (rows, cols)), shape=shape), block_bytes=4000)
    result = solvers.complete_matrix(stored, 3, tol=1e-12, rng=0)
    assert result.determined is True
    assert relative_error(result, *truth) < 1e-8
    model = MatrixCompleter(3, tol=1e-12, random_state=0).fit(stored)
    np.testing.assert_allclose(model.predict(rows, cols), values, atol=1e-6)


def test_too_few_entries_are_reported_from_files_too(tmp_path):
    A = noisy().tocoo()
    kept = (A.row != 4) | (np.arange(A.nnz) == np.flatnonzero(A.row == 4)[0])
    A = scipy.sparse.csr_array((A.data[kept], (A.row[kept], A.col[kept])), shape=A.shape)
    result = solvers.complete_matrix(StoredMatrix.write(tmp_path, A), 3, rng=0, max_iter=20)
    assert result.determined is False
    assert result.short_rows.tolist() == [4]
    assert not result.success


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"weights": np.ones((90, 70))}, "weights must be a StoredMatrix"),
        ({"loss": "huber"}, "huber"),
        ({"holdout": 1.0}, "holdout"),
        ({"duplicates": "mean"}, "duplicates"),
        ({"method": "gauss-newton"}, "in memory"),
        ({"reg": -1.0}, "reg"),
        ({"rank": 71}, "at most min"),
        ({"rank": 0}, "rank"),
        ({"x0": (np.ones((2, 1)), np.ones((3, 1)))}, "x0"),
        ({"backend": "array"}, "numba"),
    ],
)
def test_what_needs_the_entries_in_memory_is_refused_by_name(tmp_path, keywords, words):
    stored = StoredMatrix.write(tmp_path, noisy())
    options = {"rank": 2} | keywords
    with pytest.raises(ValueError, match=words):
        solvers.complete_matrix(stored, options.pop("rank"), **options)


def test_matrices_that_have_no_meaning_are_not_written(tmp_path):
    A = noisy()
    csr = scipy.sparse.csr_array
    twice = csr((np.ones(2), np.array([1, 1]), np.array([0, 2])), shape=(1, 3))
    outside = csr((1, 3))
    outside.data, outside.indices, outside.indptr = np.ones(1), np.array([3]), np.array([0, 1])
    for bad, words in [
        (A.toarray(), "CSR"),
        (A.tocsc(), "CSR"),
        ([A, A[:, :5]], "70 columns"),
        (csr(A.shape), "at least one"),
        ([], "at least one"),
        (A * np.nan, "finite"),
        (A * 1j, "real"),
        (twice, "duplicate"),
        (outside, r"0\.\.2"),
    ]:
        with pytest.raises(ValueError, match=words):
            StoredMatrix.write(tmp_path / "bad", bad)
    with pytest.raises(ValueError, match="float32 or float64"):
        StoredMatrix.write(tmp_path / "bad", A, dtype=np.int64)
    with pytest.raises(ValueError, match=r"matrix\.json"):
        StoredMatrix(tmp_path)
    StoredMatrix.write(tmp_path / "good", A)
    with open(tmp_path / "good" / "columns.values", "ab") as file:
        file.write(b"1234")
    with pytest.raises(ValueError, match="do not hold"):
        StoredMatrix(tmp_path / "good")


def hole(path, dtype, tail):
    """A file of zeros that take no room on disk, up to ``BEYOND`` entries, and then the given ones."""
    with open(path, "wb") as file:
        file.truncate(np.dtype(dtype).itemsize * BEYOND)
        file.seek(np.dtype(dtype).itemsize * BEYOND)
        np.asarray(tail, dtype=dtype).tofile(file)


def test_kernels_reach_entries_beyond_two_to_the_31(tmp_path):
    rng = np.random.default_rng(5)
    indices = np.concatenate([np.sort(rng.choice(50, 20, replace=False)) for _ in range(4)]).astype(np.int32)
    values = rng.standard_normal(80).astype(np.float32)
    hole(tmp_path / "indices", np.int32, indices)
    hole(tmp_path / "values", np.float32, values)
    hole(tmp_path / "out", np.float32, values)
    far = [np.memmap(tmp_path / name, dtype=t, mode="r+") for name, t in
           (("indices", np.int32), ("values", np.float32), ("out", np.float32))]  # fmt: skip
    near = indices, values, np.empty_like(values)
    fixed = np.linalg.qr(rng.standard_normal((50, 4)))[0].astype(np.float32)
    indptr = np.arange(0, 81, 20)
    nothing, one = np.empty(0, np.float32), np.ones(4, np.float32)
    for mode in (kernels.BY_GRAM, kernels.BY_CG, kernels.BY_SKETCH):
        answers = []
        for offset, (positions, data, out) in ((0, near), (BEYOND, far)):
            x, losses = np.zeros((4, 4), np.float32), np.zeros(4)
            kernels.solve_rows(
                indptr + offset, positions, data, nothing, fixed, one, one, np.full(4, mode, dtype=np.int8),
                np.empty((0, 0), np.float32), 1e-6, 20, 17, 1, x, losses,
            )  # fmt: skip
            kernels.residuals(indptr + offset, positions, data, x, fixed, out)
            answers.append((x, losses, np.array(out[offset:])))
        for mine, other in zip(*answers, strict=True):
            np.testing.assert_allclose(other, mine, rtol=2e-3, atol=1e-4)
    systems = []
    left, right = (np.linalg.qr(rng.standard_normal((size, 2)))[0] for size in (4, 50))
    for offset, (positions, data, _) in ((0, near), (BEYOND, far)):
        inner, blocks, work = np.empty((4, 2, 2)), np.empty((50, 2, 2)), np.empty(20)
        pulled, pushed, normal = np.empty((4, 2)), np.empty((50, 2)), (np.empty((4, 2)), np.empty((50, 2)))
        structure = indptr + offset, positions, np.empty(0)
        tangent.factor_rows(*structure, right, 1e-16, inner)
        tangent.schur_blocks(*structure, left, right, inner, blocks)
        schur = np.empty((50, 2))
        tangent.apply_schur(*structure, left, right, inner, right, work, schur, (0, 0))
        tangent.truncated_steps(*structure, left, right, left.copy(), right.copy(), 3, *normal, (0, 0))
        tangent.pull_back(indptr + offset, positions, data, left, right, pulled, pushed)
        systems.append((inner, blocks, schur, *normal, pulled, pushed))
    for mine, other in zip(*systems, strict=True):
        np.testing.assert_array_equal(other, mine)
    del far, positions, data, out


def test_blocks_beyond_two_to_the_31_entries_are_read_from_where_they_are(tmp_path):
    n, tail = 1 << 16, 6
    for side in ("rows", "columns"):
        hole(tmp_path / f"{side}.indices", np.int32, np.arange(tail))
        hole(tmp_path / f"{side}.values", np.float32, np.arange(tail) + 1.0)
    full = BEYOND // n
    indptr = np.concatenate([np.arange(full + 1) * n, [BEYOND, BEYOND + 2, BEYOND + tail]])
    indptr.astype(np.int64).tofile(tmp_path / "rows.indptr")
    across = np.minimum(np.arange(n + 1) * (full + 1), BEYOND + tail)
    across[-1] = BEYOND + tail
    across.astype(np.int64).tofile(tmp_path / "columns.indptr")
    (tmp_path / "matrix.json").write_text(
        f'{{"shape": [{len(indptr) - 1}, {n}], "size": {BEYOND + tail}, "dtype": "float32"}}'
    )
    stored = StoredMatrix(tmp_path, block_bytes=1 << 20)
    assert stored.size == BEYOND + tail
    assert stored.counts().sum() == BEYOND + tail
    last = stored.block(len(stored.ranges()) - 1)
    assert last.values[-tail:].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert last.indices[-tail:].tolist() == [0, 1, 2, 3, 4, 5]
    assert last.indptr[-1] == len(last.values) < 2**20
    ranges = stored.ranges()
    assert ranges[0][0] == 0
    assert all(a[1] == b[0] for a, b in itertools.pairwise(ranges))
    assert ranges[-1][1] == len(indptr) - 1
