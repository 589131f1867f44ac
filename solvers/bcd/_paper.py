"""``method="paper"``: exactly the partition, rule and update asked for, one block per iteration."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from solvers._core.arrays import FloatArray, IntArray
from solvers._core.errors import InvalidProblemError
from solvers._core.options import check_choice
from solvers._core.result import Status
from solvers.bcd._forest_kernels import greedy_forest
from solvers.bcd._partitions import PARTITIONS, explicit_blocks, fixed_blocks, forest_partition, red_black
from solvers.bcd._problem import Composite, is_free
from solvers.bcd._quadratic import Quadratic
from solvers.bcd._rules import (
    BLIND_RULES,
    PROXIMAL_RULES,
    RULES,
    SMOOTH_RULES,
    Selection,
    scores,
    solve_psd,
    sparse_model_support,
)
from solvers.bcd._run import Run
from solvers.bcd._separable_term import SeparableTerm
from solvers.bcd._updates import UPDATES, Updater

__all__ = ["PaperSettings", "Plan", "descend", "has_bounds", "plan"]

DEFAULT_BLOCK = 10
# The image is updated block by block; afresh every so many blocks, against drift.
REFRESH = 1000


@dataclass(frozen=True)
class PaperSettings:
    """Options of ``method="paper"``.

    ``check_every`` (10): iterations between certificates. ``approximation``: how "gsq" approximates the best variable block,
    "iht" or "greedy-addition".
    """

    check_every: int = 10
    approximation: str = "iht"


@dataclass(frozen=True)
class Plan:
    """A sensible combination of partition, rule and update for one problem."""

    partition: str
    blocks: list[IntArray] | None
    rule: str
    update: str
    size: int


def plan(problem: Composite, blocks: Any, rule: str, update: str, block_size: int | None) -> Plan:
    """Fill in ``"auto"`` and refuse what makes no sense, with the reason."""
    check_choice("rule", rule, ("auto", *RULES))
    check_choice("update", update, ("auto", *UPDATES))
    named = blocks if isinstance(blocks, str) else "explicit"
    if isinstance(blocks, str):
        check_choice("blocks", blocks, ("auto", *PARTITIONS))
    smooth = is_free(problem.term)
    graph = isinstance(problem.loss, Quadratic)
    if named == "auto":
        named = "variable"
    if rule == "auto":
        rule = "gsl" if smooth else "gsl-q"
    if update == "auto":
        update = "message-passing" if named in ("greedy-forest", "forest-partition") else "hessian"
        if update == "message-passing" and not smooth and not has_bounds(problem):
            update = "lipschitz"
    if rule in SMOOTH_RULES and not smooth:
        raise InvalidProblemError(
            f"rule={rule!r} ranks blocks by the gradient alone, which does not vanish at a penalised minimum; "
            f"use one of {', '.join(PROXIMAL_RULES)}"
        )
    if rule in PROXIMAL_RULES and smooth:
        raise InvalidProblemError(
            f"rule={rule!r} is a rule for penalised problems; without a penalty use one of {', '.join(SMOOTH_RULES)}"
        )
    if named in ("red-black", "forest-partition", "greedy-forest") and not graph:
        raise InvalidProblemError(
            f"blocks={named!r} needs the graph of a Quadratic loss; got {type(problem.loss).__name__}"
        )
    if update == "message-passing":
        if named not in ("forest-partition", "greedy-forest", "red-black"):
            raise InvalidProblemError(
                "update='message-passing' needs blocks that are forests: 'forest-partition', 'greedy-forest' or "
                f"'red-black'; got blocks={named!r}"
            )
        if not (smooth or has_bounds(problem)):
            raise InvalidProblemError(
                "update='message-passing' takes bounds only (Box, NonNegative) besides the quadratic"
            )
    if update == "two-metric" and not has_bounds(problem):
        raise InvalidProblemError(
            "update='two-metric' is a projected Newton step and needs bounds (Box or NonNegative); use 'hessian' or 'newton'"
        )
    if named == "greedy-forest" and rule in (*BLIND_RULES[1:], "gsq"):
        raise InvalidProblemError(
            f"blocks='greedy-forest' grows from scores and has no order; rule={rule!r} gives none"
        )
    if named == "variable" and rule == "cyclic":
        raise InvalidProblemError("rule='cyclic' needs a fixed partition; got blocks='variable'")
    size = min(DEFAULT_BLOCK if block_size is None else block_size, problem.loss.size)
    return Plan(named, _blocks(problem, named, blocks, size), rule, update, size)


def has_bounds(problem: Composite) -> bool:
    """Whether the objective is smooth between bounds, and there are bounds."""
    term = problem.term
    if not isinstance(term, SeparableTerm):
        return False
    one_sided = bool(np.all((term.lam == 0) | (term.lower >= 0)))
    return one_sided and bool(np.any(np.isfinite(term.lower) | np.isfinite(term.upper)))


def _blocks(problem: Composite, named: str, blocks: Any, size: int) -> list[IntArray] | None:
    loss = problem.loss
    if named in ("variable", "greedy-forest"):
        return None
    pieces = problem.term.pieces()
    if named == "explicit":
        return explicit_blocks(blocks, loss.size, pieces)
    if named in ("red-black", "forest-partition"):
        assert isinstance(loss, Quadratic)
        return (
            red_black(loss.graph, loss.lipschitz)
            if named == "red-black"
            else forest_partition(loss.graph, loss.lipschitz)
        )
    return fixed_blocks(named, loss.lipschitz, size, pieces)


def descend(run: Run, chosen: Plan, settings: PaperSettings, x: FloatArray) -> None:
    """The loop: choose a block, move it, certify when due."""
    problem, monitor = run.problem, run.monitor
    updater = Updater(problem, x, problem.loss.image(x))
    chooser = _Chooser(run, chosen, settings, updater)
    first = problem.kkt(x, updater.z)
    while monitor.running():
        g = problem.loss.gradient(updater.z)
        residual = float(np.max(problem.term.distance(updater.x, g)))
        if residual <= 1e-14 * first:
            monitor.finish(Status.CONVERGED)
        else:
            block, hessian = chooser.choose(g)
            updater.update(chosen.update, block, g[block], hessian)
            if monitor.nit % REFRESH == 0:
                updater.refresh()
        if monitor.due(settings.check_every) or monitor.status is not None:
            run.certify(updater.x)
            monitor.checkpoint(residual)
            if run.diverging():
                break


class _Chooser:
    """Yields the next block of a plan."""

    def __init__(self, run: Run, chosen: Plan, settings: PaperSettings, updater: Updater) -> None:
        self.run, self.plan, self.settings, self.updater = run, chosen, settings, updater
        problem = run.problem
        lipschitz = problem.loss.lipschitz
        positive = lipschitz[lipschitz > 0]
        self.constants = np.maximum(lipschitz, float(np.min(positive, initial=1.0)) if len(positive) else 1.0)
        self.pieces = None if isinstance(problem.term, SeparableTerm) else problem.term.pieces()
        for piece in self.pieces or ():
            # A group moves as one, so it needs one constant.
            self.constants[piece] = max(updater.block_constant(piece), float(np.min(self.constants[piece])))
        self.order: Iterator[int] = iter(())
        self.block_constants: FloatArray | None = None
        self.factors: dict[int, FloatArray] = {}
        if chosen.blocks is not None:
            self.order = itertools.cycle(range(len(chosen.blocks)))
            if chosen.rule in ("lipschitz", "gsl", "gsl-q"):
                self.block_constants = np.array([max(updater.block_constant(b), 1e-300) for b in chosen.blocks])
                for block, constant in zip(chosen.blocks, self.block_constants, strict=True):
                    self.constants[block] = constant

    def choose(self, g: FloatArray) -> tuple[IntArray, FloatArray | None]:
        """The next block, and its Hessian bound where the rule formed it."""
        rng, chosen = self.run.monitor.common.rng, self.plan
        if chosen.partition == "greedy-forest":
            return self._forest(g), None
        if chosen.blocks is not None:
            return self._fixed(g)
        size = self.run.problem.loss.size
        if chosen.rule == "random":
            return self._units(rng.random(size)), None
        if chosen.rule == "lipschitz":
            # Exponential clocks: sampling without replacement with probability proportional to L_i.
            return self._units(-rng.exponential(size=size) / self.constants), None
        ranking = scores(chosen.rule, Selection(self.run.problem, self.updater.x, g), self.constants)
        if chosen.rule == "gsq":
            addition = self.settings.approximation == "greedy-addition"
            at = Selection(self.run.problem, self.updater.x, g)
            return sparse_model_support(at, ranking, chosen.size, greedy_addition=addition)
        return self._units(ranking), None

    def _units(self, ranking: FloatArray) -> IntArray:
        """The best coordinates, or the best groups until the block is full."""
        if self.pieces is None:
            return np.sort(np.argsort(-ranking, kind="stable")[: self.plan.size])
        totals = np.array([float(np.sum(ranking[piece])) for piece in self.pieces])
        taken: list[IntArray] = []
        for k in np.argsort(-totals, kind="stable"):
            taken.append(self.pieces[k])
            if sum(map(len, taken)) >= self.plan.size:
                break
        return np.sort(np.concatenate(taken))

    def _fixed(self, g: FloatArray) -> tuple[IntArray, FloatArray | None]:
        rng, chosen = self.run.monitor.common.rng, self.plan
        blocks = chosen.blocks
        assert blocks is not None
        if chosen.rule == "cyclic":
            return blocks[next(self.order)], None
        if chosen.rule == "random":
            return blocks[int(rng.integers(len(blocks)))], None
        if chosen.rule == "lipschitz":
            assert self.block_constants is not None
            weights = self.block_constants / np.sum(self.block_constants)
            return blocks[int(rng.choice(len(blocks), p=weights))], None
        if chosen.rule == "gsq":
            return self._best_model(g, blocks)
        ranking = scores(chosen.rule, Selection(self.run.problem, self.updater.x, g), self.constants)
        totals = [float(np.sum(ranking[block])) for block in blocks]
        return blocks[int(np.argmax(totals))], None

    def _best_model(self, g: FloatArray, blocks: list[IntArray]) -> tuple[IntArray, FloatArray]:
        for k, block in enumerate(blocks):
            if k not in self.factors:
                self.factors[k] = self.run.problem.loss.block_bound(block)
        gains = [float(g[block] @ solve_psd(self.factors[k], g[block])) for k, block in enumerate(blocks)]
        best = int(np.argmax(gains))
        return blocks[best], self.factors[best]

    def _forest(self, g: FloatArray) -> IntArray:
        """The forest grown from the highest scores."""
        problem = self.run.problem
        loss = problem.loss
        assert isinstance(loss, Quadratic)
        if self.plan.rule == "random":
            ranking = self.run.monitor.common.rng.random(loss.size)
        else:
            ranking = scores(self.plan.rule, Selection(problem, self.updater.x, g), self.constants)
        n = loss.size
        parent, stamp, inside = (np.empty(n, dtype=np.int64) for _ in range(3))
        order = np.argsort(-ranking, kind="stable")
        graph = loss.graph
        greedy_forest(order, graph.indices.astype(np.int64), graph.indptr.astype(np.int64), parent, stamp, inside)
        return np.flatnonzero(inside)
