"""Branch-and-bound trees of a run, grown in rounds: what all share, and the tree over assignments."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np

from ranking import _kernels_numba as kernels
from ranking._result import BranchCertificate
from ranking._run import Run
from solvers._core.arrays import IntArray

__all__ = ["AssignmentTree", "Tree"]

OPEN, INNER, CUT, EMPTY = range(4)


class Tree(ABC):
    """Nodes as rows of arrays, children behind their parents, and a heap of the open ones, least bound first.

    Attributes
    ----------
    counts : (2,) int64
        Nodes, and open ones.
    expanded : int
        Nodes expanded so far.
    """

    names: tuple[str, ...] = ("parent", "tail", "head", "state", "heap", "key")
    # Seconds per arc and node of the tree when it is proved.
    proof_speed: float

    def __init__(self, run: Run, room: int, lower: float) -> None:
        self.run = run
        self.counts = np.array([1, 1])
        self.expanded = 0
        self.make(room)
        self.parent[0] = self.tail[0] = self.head[0] = -1
        self.state[0], self.heap[0] = OPEN, 0
        self.key[0] = lower

    def make(self, room: int) -> None:
        """Arrays for ``room`` nodes."""
        self.parent, self.tail, self.head = (np.empty(room, np.int64) for _ in range(3))
        self.state, self.heap = np.empty(room, np.int64), np.empty(room, np.int64)
        self.key = np.empty(room)

    def grow(self) -> None:
        """Double the room."""
        old = [getattr(self, name) for name in self.names]
        self.make(2 * len(self.parent) + self.run.problem.m)
        for name, array in zip(self.names, old, strict=True):
            getattr(self, name)[: len(array)] = array

    @property
    def lower(self) -> float:
        """Least bound of the open nodes: what the tree would prove but for rounding."""
        return float(self.key[self.heap[0]]) if self.counts[1] else math.inf

    @property
    def nbytes(self) -> int:
        """Memory of the nodes in use."""
        return int(self.counts[0]) * sum(int(getattr(self, name)[0].nbytes) for name in self.names)

    @property
    def proof_seconds(self) -> float:
        """Time that a proof takes."""
        return self.proof_speed * self.run.problem.m**2 * float(self.counts[0])

    @property
    @abstractmethod
    def node_work(self) -> float:
        """Arc inspections per expansion."""

    @abstractmethod
    def expand(self, slack: float, budget: int) -> tuple[int, float, int]:
        """Expand up to ``budget`` nodes: (why it stopped, cost of the best tour, nodes expanded); see the kernels."""

    @abstractmethod
    def prove(self) -> None:
        """Publish the bound of the leaves."""

    def advance(self, budget: int, slack: float) -> bool:
        """Expand up to ``budget`` nodes; True if none is left that could beat the incumbent by more than ``slack``."""
        run = self.run
        before = run.upper
        while True:
            reason, run.upper, expanded = self.expand(slack, budget)
            self.expanded += expanded
            budget -= expanded
            if reason != 2:
                break
            self.grow()
        if run.upper < before:
            run.offer(run.tour)
        return bool(reason == 0)

    def leaves(self) -> tuple[IntArray, IntArray]:
        """The leaves, and each node's number among them, -1 for inner nodes."""
        n = int(self.counts[0])
        leaves = (self.state[:n] != INNER).nonzero()[0]
        leaf = np.full(n, -1)
        leaf[leaves] = np.arange(len(leaves))
        return leaves, leaf


class AssignmentTree(Tree):
    """Children forbid the arcs of a short cycle one by one; every node has an assignment X and its prices U, V."""

    names = (*Tree.names, "X", "U", "V")
    proof_speed = 1e-9

    def __init__(self, run: Run) -> None:
        super().__init__(run, max(64, 4 * run.problem.m), run.lower)
        self.X[0], self.U[0], self.V[0] = run.x, run.u, run.v

    def make(self, room: int) -> None:
        super().make(room)
        m = self.run.problem.m
        self.X = np.empty((room, m), np.int64)
        self.U, self.V = np.empty((room, m)), np.empty((room, m))

    @property
    def node_work(self) -> float:
        return float(self.run.problem.m**3)

    def expand(self, slack: float, budget: int) -> tuple[int, float, int]:
        run = self.run
        answer: tuple[int, float, int] = kernels.branch(
            run.c, run.d, slack, run.barrier, self.parent, self.tail, self.head, self.state, self.key, self.X, self.U,
            self.V, self.heap, self.counts, run.upper, run.tour, run.near, budget,
        )  # fmt: skip
        return answer

    def prove(self) -> None:
        leaves, leaf = self.leaves()
        n = len(leaf)
        parent, ray = self.parent[:n].copy(), self.state[:n] == EMPTY
        tail, head, prices = self.tail[:n].copy(), self.head[:n].copy(), self.V[leaves]
        mine = BranchCertificate(parent, tail, head, leaf, ray, prices)
        names = np.append(self.run.nodes_of, -1)
        theirs = BranchCertificate(parent, names[tail], names[head], leaf, ray, self.run.renumber(prices))
        self.run.prove(mine, theirs)
