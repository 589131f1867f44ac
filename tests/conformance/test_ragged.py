"""Arguments that NumPy itself cannot read are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse

import solvers
from solvers import bcd

X = np.random.default_rng(0).normal(size=(6, 2))
LOSS = bcd.LeastSquares(X, np.ones(6))
RAGGED = [[1, 2], [3]]
RECORDS = np.zeros(3, dtype=[("a", float)])


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("x0", lambda: solvers.kmeans_sdp(X, 2, x0=RAGGED)),
        ("x0", lambda: solvers.ila_sdp(X, 2, x0=RAGGED)),
        ("x0", lambda: solvers.rank_tsp(np.ones((3, 3)), x0=RAGGED)),
        ("x0", lambda: solvers.rank_tsp(np.ones((3, 3)), x0=RECORDS)),
        ("x0", lambda: solvers.rank_linear(np.ones((3, 3)), x0=RAGGED)),
        ("x0", lambda: solvers.rank_linear(np.ones((3, 3)), x0=RECORDS)),
        ("scores", lambda: solvers.rank_tsp((RAGGED, X))),
        ("lengths", lambda: solvers.rank_tsp_batch(np.ones((2, 3, 3)), RAGGED)),
        ("lengths", lambda: solvers.rank_tsp_batch(np.ones((2, 3, 3)), scipy.sparse.csr_array([[1, 2]]))),
        ("blocks", lambda: solvers.minimize_bcd(LOSS, blocks=None)),
        ("blocks", lambda: solvers.minimize_bcd(LOSS, blocks=3)),
        ("blocks", lambda: solvers.minimize_bcd(LOSS, blocks=[RAGGED, [1]])),
    ],
)
def test_what_numpy_cannot_read_is_named(name: str, call: Callable[[], Any]) -> None:
    with pytest.raises((solvers.InvalidProblemError, solvers.BackendError, TypeError), match=f"^{name}"):
        call()
