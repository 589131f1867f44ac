"""The branch-and-bound tree over 1-arborescences of a run, grown in rounds; see ``branch_on_arcs``."""

from __future__ import annotations

import math

import numpy as np

from ranking import _potentials_numba as kernels
from ranking._result import ArborescenceCertificate, ArborescenceTreeCertificate
from ranking._run import INNER, OPEN, Run
from solvers._core.arrays import FloatArray

__all__ = ["PotentialTree"]

# Work at a node of the tree, in m^2.
NODE_WORK = 900
# Seconds per arc and node of the tree when it is proved.
PROOF_SPEED = 6e-9


class PotentialTree:
    """Tree of forced and forbidden arcs with one vector of potentials per node.

    Parameters
    ----------
    run : Run
        With a tour of allowed arcs.
    potentials : (m,) float64
        Those of the root of the tree, in the run's numbering.
    lower : float
        Their bound.
    """

    def __init__(self, run: Run, potentials: FloatArray, lower: float) -> None:
        self.run = run
        self.counts = np.array([1, 1])
        self.expanded = 0
        self._arrays(64)
        self.parent[0] = self.tail[0] = self.head[0] = -1
        self.forced[0] = False
        self.state[0] = OPEN
        self.key[0] = lower
        self.potentials[0] = potentials
        self.heap[0] = 0

    def _arrays(self, room: int) -> None:
        self.parent, self.tail, self.head = (np.empty(room, np.int64) for _ in range(3))
        self.state, self.heap = np.empty(room, np.int64), np.empty(room, np.int64)
        self.forced, self.key = np.empty(room, np.bool_), np.empty(room)
        self.potentials = np.empty((room, self.run.problem.m))

    @property
    def lower(self) -> float:
        """Least bound of the open nodes: what the tree would prove but for rounding."""
        return float(self.key[self.heap[0]]) if self.counts[1] else math.inf

    @property
    def nbytes(self) -> int:
        """Memory of the nodes in use."""
        return int(self.counts[0]) * 8 * (self.run.problem.m + 7)

    @property
    def proof_seconds(self) -> float:
        """Time that a proof takes."""
        return PROOF_SPEED * self.run.problem.m**2 * float(self.counts[0])

    @property
    def node_work(self) -> float:
        """Arc inspections per expansion."""
        return float(NODE_WORK * self.run.problem.m**2)

    def grow(self) -> None:
        """Double the room."""
        names = ("parent", "tail", "head", "forced", "state", "heap", "key", "potentials")
        old = [getattr(self, name) for name in names]
        self._arrays(2 * len(self.parent))
        for name, array in zip(names, old, strict=True):
            getattr(self, name)[: len(array)] = array

    def advance(self, budget: int, slack: float) -> bool:
        """Expand up to ``budget`` nodes; True if none is left that could beat the incumbent by more than ``slack``."""
        run = self.run
        before = run.upper
        while True:
            reason, run.upper, expanded = kernels.branch_on_arcs(
                run.c,
                run.d,
                run.problem.m - 1,
                slack,
                run.barrier,
                self.parent,
                self.tail,
                self.head,
                self.forced,
                self.state,
                self.key,
                self.potentials,
                self.heap,
                self.counts,
                run.upper,
                run.tour,
                budget,
            )
            self.expanded += expanded
            budget -= expanded
            if reason != 2:
                break
            self.grow()
        if run.upper < before:
            run.offer(run.tour)
        return bool(reason == 0)

    def prove(self) -> None:
        """Publish the bound of the leaves."""
        run, n = self.run, int(self.counts[0])
        if n == 1:
            root = ArborescenceCertificate(run.renumber(self.potentials[:1])[0], int(run.nodes_of[-1]))
            run.prove(root, root)
            return
        leaves = (self.state[:n] != INNER).nonzero()[0]
        leaf = np.full(n, -1)
        leaf[leaves] = np.arange(len(leaves))
        names = np.append(run.nodes_of, -1)
        certificate = ArborescenceTreeCertificate(
            self.parent[:n].copy(),
            names[self.tail[:n]],
            names[self.head[:n]],
            self.forced[:n].copy(),
            leaf,
            run.renumber(self.potentials[leaves]),
            int(run.nodes_of[-1]),
        )
        run.prove(certificate, certificate)
