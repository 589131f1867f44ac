"""Compile the family's kernels on tiny problems."""

from __future__ import annotations

import numpy as np
import scipy.sparse

from solvers.bcd._losses import LeastSquares
from solvers.bcd._minimize_bcd import minimize_bcd as run_minimize_bcd
from solvers.bcd._penalties import L1
from solvers.bcd._quadratic import Quadratic

__all__ = ["minimize_bcd"]


def minimize_bcd() -> None:
    """All engines."""
    A = np.array([[1.0, 0.5], [0.0, 1.0], [1.0, 1.0]])
    path = scipy.sparse.diags_array([[-1.0], [2.5, 2.5], [-1.0]], offsets=[-1, 0, 1], shape=(2, 2), format="csr")
    run_minimize_bcd(LeastSquares(A, [1.0, 0.0, 2.0]), L1(0.5))
    run_minimize_bcd(Quadratic(path, [1.0, 2.0]), blocks="greedy-forest")
