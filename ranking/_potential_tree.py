"""The branch-and-bound tree over 1-arborescences of a run, grown in rounds; see ``branch_on_arcs``."""

from __future__ import annotations

import numpy as np

from ranking import _potentials_numba as kernels
from ranking._result import ArborescenceCertificate, ArborescenceTreeCertificate
from ranking._run import Run
from ranking._trees import Tree
from solvers._core.arrays import FloatArray

__all__ = ["PotentialTree"]

# Work at a node of the tree, in m^2.
NODE_WORK = 900


class PotentialTree(Tree):
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

    names = (*Tree.names, "forced", "potentials")
    proof_speed = 6e-9

    def __init__(self, run: Run, potentials: FloatArray, lower: float) -> None:
        super().__init__(run, 64, lower)
        self.forced[0] = False
        self.potentials[0] = potentials

    def make(self, room: int) -> None:
        super().make(room)
        self.forced = np.empty(room, np.bool_)
        self.potentials = np.empty((room, self.run.problem.m))

    @property
    def node_work(self) -> float:
        return float(NODE_WORK * self.run.problem.m**2)

    def expand(self, slack: float, budget: int) -> tuple[int, float, int]:
        run = self.run
        answer: tuple[int, float, int] = kernels.branch_on_arcs(
            run.c, run.d, run.problem.m - 1, slack, run.barrier, self.parent, self.tail, self.head, self.forced,
            self.state, self.key, self.potentials, self.heap, self.counts, run.upper, run.tour, budget,
        )  # fmt: skip
        return answer

    def prove(self) -> None:
        run, n = self.run, int(self.counts[0])
        if n == 1:
            root = ArborescenceCertificate(run.renumber(self.potentials[:1])[0], int(run.nodes_of[-1]))
            run.prove(root, root)
            return
        leaves, leaf = self.leaves()
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
