"""Validation turns input into read-only float64 without touching it; backends follow the data."""

from __future__ import annotations

import array_api_strict
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from solvers import BackendError, DeviceError, InvalidProblemError, MissingDependencyError
from solvers._core import arrays
from solvers._core.arrays import as_float_array, as_integer_labels, kind_of, refuse_beyond_memory, to_host
from solvers._core.backend import choose_backend
from solvers._core.optional import has, require

DEVICE = array_api_strict.Device("device1")


def test_float64_in_the_right_layout_is_not_copied_but_read_only() -> None:
    X = np.ones((3, 2))
    view = as_float_array(X, "X", ndim=2)
    assert np.shares_memory(view, X)
    assert not view.flags.writeable
    assert X.flags.writeable


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_order_is_the_one_asked_for(order: str) -> None:
    X = np.arange(12.0).reshape(3, 4)
    made = as_float_array(X, "X", ndim=2, order=order)  # type: ignore[arg-type]
    assert made.flags[f"{order}_CONTIGUOUS"]
    assert np.array_equal(made, X)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([[1.0, np.nan]], r"1 entries that are NaN or infinite, the first at \(0, 1\)"),
        ([], "dimension"),
        (np.zeros((0, 3)), "empty"),
        ([1.0, 2.0], r"1 dimension.*reshape"),
        ([[1j]], "complex"),
        ([["a"]], "dtype"),
        ([[None]], "object"),
        (pd.DataFrame({"size": [1.0], "name": ["a"]}), "columns that are not numeric: name$"),
        ([[1.0], [2.0, 3.0]], "ragged"),
        (np.ma.masked_array([[1.0, 2.0]], mask=[[True, False]]), "masked"),
    ],
)
def test_bad_values_are_named(value: object, words: str) -> None:
    with pytest.raises(InvalidProblemError, match=rf"X must be .*{words}"):
        as_float_array(value, "X", ndim=2)


def test_labels_that_are_words_are_refused_with_the_way_to_number_them() -> None:
    for words in (["a", "b"], np.array(["a", "b"], dtype=object)):
        with pytest.raises(InvalidProblemError, match=r"np\.unique\(labels, return_inverse=True\)"):
            as_integer_labels(words, "labels", length=2)


def test_sparse_matrices_are_refused_with_the_way_out() -> None:
    with pytest.raises(BackendError, match=r"X\.toarray\(\)"):
        as_float_array(scipy.sparse.eye_array(3, format="csr"), "X", ndim=2)


def test_labels_accept_integral_floats_only() -> None:
    assert as_integer_labels([0.0, 1.0], "labels", length=2).dtype == np.int64
    for bad in ([0.5, 1.0], [-1, 0], [np.nan, 0.0], [1e300, 0.0], ["a", "b"], [[0, 1]]):
        with pytest.raises(InvalidProblemError, match="labels must be 2"):
            as_integer_labels(bad, "labels", length=2)


def test_other_namespaces_keep_their_device_and_come_home_only_on_request() -> None:
    X = array_api_strict.asarray([[1, 2]], device=DEVICE)
    made = as_float_array(X, "X", ndim=2)
    assert made.device == DEVICE
    assert kind_of(made) == "array-api"
    assert np.array_equal(to_host(made), [[1.0, 2.0]])


def test_backend_follows_the_data() -> None:
    both = ("numba", "array", "cupy")
    X = np.ones((40, 20))
    assert choose_backend("clustering", "auto", both, X=X).name == "numba"
    assert choose_backend("clustering", "auto", both, small_below=10_000, X=X).name == "array"
    assert choose_backend("clustering", "array", both, X=X).name == "array"
    strict = choose_backend("clustering", "auto", both, X=array_api_strict.ones((2, 2), device=DEVICE))
    assert (strict.name, strict.device) == ("array", DEVICE)


def test_backend_that_does_not_fit_the_data_is_refused() -> None:
    strict = array_api_strict.ones((2, 2))
    with pytest.raises(BackendError, match="does not take array-api arrays"):
        choose_backend("clustering", "numba", ("numba", "array"), X=strict)
    with pytest.raises(BackendError, match="not available here"):
        choose_backend("clustering", "array", ("numba",), X=np.ones(2))
    with pytest.raises(BackendError, match="convert to NumPy first"):
        choose_backend("clustering", "auto", ("numba",), X=strict)
    with pytest.raises(BackendError, match="one kind"):
        choose_backend("clustering", "auto", ("numba", "array"), X=strict, y=np.ones(2))
    with pytest.raises(BackendError, match="one device"):
        choose_backend("clustering", "auto", ("array",), X=strict, y=array_api_strict.ones(2, device=DEVICE))
    with pytest.raises(BackendError, match="sparse"):
        choose_backend("clustering", "auto", ("numba",), X=scipy.sparse.eye_array(3))


@pytest.mark.skipif(has("cupy"), reason="CuPy is installed")
def test_asking_for_cupy_without_it_says_how_to_get_it() -> None:
    with pytest.raises((MissingDependencyError, DeviceError), match="gpu"):
        choose_backend("clustering", "cupy", ("numba", "array", "cupy"), X=np.ones(2))


def test_missing_package_is_named_with_its_extra() -> None:
    with pytest.raises(MissingDependencyError, match=r"certified-solvers\[plot\]"):
        require("no_such_package_at_all", why="a figure", extra="plot")


def test_memory_estimate_refuses_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "available_memory", lambda: 2**30)
    refuse_beyond_memory(2**29, what="it", instead="-")
    with pytest.raises(InvalidProblemError, match=r"about 4.0 GiB and 1.0 GiB are free; take less"):
        refuse_beyond_memory(2**32, what="it", instead="take less")
