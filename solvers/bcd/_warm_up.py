"""Compile the family's kernels on tiny problems."""

from __future__ import annotations

import numpy as np
import scipy.sparse

from solvers.bcd._forest import solve_forest
from solvers.bcd._incremental import IncrementalQuadratic
from solvers.bcd._label_propagation import label_propagation as run_label_propagation
from solvers.bcd._losses import LeastSquares, Logistic
from solvers.bcd._minimize_bcd import minimize_bcd as run_minimize_bcd
from solvers.bcd._penalties import L1, Box
from solvers.bcd._quadratic import Quadratic
from solvers.bcd._red_black import RedBlackSystem
from solvers.bcd._schur import SchurSystem

__all__ = ["label_propagation", "minimize_bcd"]


def minimize_bcd() -> None:
    """All engines."""
    A = np.array([[1.0, 0.5], [0.0, 1.0], [1.0, 1.0]])
    path = scipy.sparse.diags_array([[-1.0], [2.5, 2.5], [-1.0]], offsets=[-1, 0, 1], shape=(2, 2), format="csr")
    run_minimize_bcd(LeastSquares(A, [1.0, 0.0, 2.0]), L1(0.5))
    run_minimize_bcd(Logistic(scipy.sparse.csc_array(A), [1.0, -1.0, 1.0]), L1(0.1))
    # Columns so short that their Gram matrix is not formed.
    diagonal, signs = scipy.sparse.eye_array(8, format="csc"), np.array([1.0, -1.0] * 4)
    run_minimize_bcd(LeastSquares(diagonal, signs), L1(0.5))
    run_minimize_bcd(Logistic(diagonal, signs), L1(0.1))
    run_minimize_bcd(Quadratic(path, [1.0, 2.0]), blocks="greedy-forest")
    run_minimize_bcd(Quadratic(path, [1.0, 2.0]), Box(0.0, 0.5))
    run_minimize_bcd(Quadratic(path, [1.0, 2.0]), x0=[0.5, 0.9])
    run_minimize_bcd(Quadratic(path.toarray(), [1.0, 2.0]), Box(0.0, 0.5))
    _graph_kernels()
    label_propagation()


def _graph_kernels() -> None:
    """What only larger graphs reach."""
    line = scipy.sparse.diags_array([[-1.0] * 3, [2.0] * 4, [-1.0] * 3], offsets=[-1, 0, 1])
    lattice = scipy.sparse.kronsum(line, line)
    loss = Quadratic(scipy.sparse.csr_array(lattice), np.ones(16))
    for system in (SchurSystem(loss.graph), RedBlackSystem.of(loss.graph)):
        assert system is not None
        system.begin(np.zeros(16), loss.host_c)
        system.step(5, 0.1)
    IncrementalQuadratic(loss).update([0], [2.0])
    solve_forest(scipy.sparse.eye_array(2, format="csr"), np.ones(2))


def label_propagation() -> None:
    """A cycle with one label, free and bounded; a clique with a tail, which is peeled."""
    import networkx

    ones = np.ones(4)
    cycle = scipy.sparse.coo_array(
        (np.tile(ones, 2), ([0, 1, 2, 3, 1, 2, 3, 0], [1, 2, 3, 0, 0, 1, 2, 3])), shape=(4, 4)
    )
    labels = np.array([1.0, np.nan, np.nan, np.nan])
    run_label_propagation(cycle, labels)
    run_label_propagation(cycle, labels, bounds=(0.0, 0.5))
    # The indices of graphs from networkx are of 64 bits.
    tailed = networkx.to_scipy_sparse_array(networkx.lollipop_graph(4, 2), dtype=np.float64)
    run_label_propagation(tailed, np.array([1.0] + 5 * [np.nan]))
