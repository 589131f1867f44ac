"""Trees of 1-arborescences: near-symmetric scores proved, and what the proof refuses."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest

import solvers
from ranking import _ascent_numba, _bounds
from ranking._problem import path_problem
from ranking._verify import plain_costs, proved
from solvers import rank_tsp, verify
from solvers.ranking import ArborescenceTreeCertificate


def near_symmetric(rng, n, kind="points"):
    if kind == "ties":
        scores = rng.integers(0, 4, (n, n)).astype(float)
        return scores + scores.T
    points = rng.random((n, 2))
    return -np.hypot(*(points[:, None] - points).T) + 0.05 * (points[:, :1] - points[:, 0])


def least_cycle(c):
    """Cost of the best cycle, by trying all; inf without one."""
    m = len(c)
    return min(
        math.fsum(c[a, b] for a, b in itertools.pairwise((0, *order, 0)))
        for order in itertools.permutations(range(1, m))
    )


def grown_tree(rng, m, leaves):
    """A random tree of decisions that covers all cycles, with random potentials."""
    parent, tail, head, forced, open_nodes = [-1], [-1], [-1], [False], [0]
    while len(open_nodes) < leaves:
        node = open_nodes.pop(int(rng.integers(len(open_nodes))))
        i, j = rng.choice(m, 2, replace=False)
        for force in (True, False):
            open_nodes.append(len(parent))
            parent.append(node)
            tail.append(int(i))
            head.append(int(j))
            forced.append(force)
    leaf = np.full(len(parent), -1)
    leaf[open_nodes] = np.arange(leaves)
    arrays = (np.array(parent), np.array(tail), np.array(head), np.array(forced), leaf)
    return ArborescenceTreeCertificate(*arrays, rng.standard_normal((leaves, m)), int(rng.integers(m)))


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e12])
def test_any_tree_of_arborescences_bounds_every_cycle(scale):
    rng = np.random.default_rng(1)
    finite = 0
    for _ in range(200):
        m = int(rng.integers(2, 7))
        c = rng.standard_normal((m, m)) * scale + 1e6 * scale * rng.integers(2)
        c[rng.random((m, m)) < 0.3 * rng.random()] = np.inf
        np.fill_diagonal(c, np.inf)
        tree = grown_tree(rng, m, int(rng.integers(1, 6)))
        tree = dataclasses.replace(tree, potentials=tree.potentials * scale)
        assert _bounds.sound(tree, m)
        bound = _bounds.cycle_bound(c, tree, 2.0)
        assert bound <= least_cycle(c)
        assert _bounds.cycle_bound(c, tree, 4.0) <= bound
        finite += math.isfinite(bound)
    assert finite > 100


@pytest.mark.parametrize("closed", [False, True])
def test_near_symmetric_paths_are_proved_by_a_tree_and_agree_with_the_recursion(closed):
    rng = np.random.default_rng(2)
    kinds = set()
    for n in (8, 10, 12):
        for kind in ("points", "ties"):
            for forbidden in (0.0, 0.3):
                scores = near_symmetric(rng, n, kind)
                scores[rng.random((n, n)) < forbidden] = -np.inf
                found = rank_tsp(scores, closed=closed, rng=0)
                best = rank_tsp(scores, closed=closed, method="dynamic-programming", rng=0)
                assert verify(found, scores, closed=closed)
                assert found.fun == pytest.approx(best.fun, rel=1e-6)
                if found.x is not None:
                    assert found.gap <= 1e-6
                    kinds.add(found.certificate.kind)
    assert kinds & {"arborescence", "arborescence-tree"}


@pytest.mark.parametrize("kind", ["points", "ties"])
def test_near_symmetric_scores_of_forty_items_are_proved(kind):
    scores = near_symmetric(np.random.default_rng(3), 40, kind)
    for tol in (1e-6, 0.0):
        result = rank_tsp(scores, tol=tol, method="exact", rng=0)
        assert result.success
        assert verify(result, scores)
        assert result.gap <= 1e-6
    perm = np.random.default_rng(4).permutation(40)
    again = rank_tsp(scores[np.ix_(perm, perm)], rng=5)
    assert again.fun == pytest.approx(result.fun, rel=1e-6)


def test_a_leaf_whose_root_no_arc_enters_is_empty():
    c = np.ones((4, 4))
    np.fill_diagonal(c, np.inf)
    c[[0, 1], 3] = np.inf
    parent, side = np.array([-1, 0, 0]), np.array([False, True, False])
    tails, heads, leaf = np.array([-1, 2, 2]), np.array([-1, 3, 3]), np.array([-1, 0, 1])
    tree = ArborescenceTreeCertificate(parent, tails, heads, side, leaf, np.zeros((2, 4)), 3)
    assert _bounds.sound(tree, 4)
    assert _bounds.cycle_bound(c, tree, 4.0) == 4.0
    c[2, 3] = np.inf
    assert _bounds.cycle_bound(c, tree, 4.0) == np.inf


def test_cycles_with_one_arc_into_the_root_are_proved():
    scores = near_symmetric(np.random.default_rng(2), 30)
    scores[np.arange(30) != 1, 0] = -np.inf
    seed = next(s for s in itertools.count() if np.random.default_rng(s).permutation(30)[-1] == 0)
    result = rank_tsp(scores, closed=True, rng=seed)
    assert verify(result, scores, closed=True)
    assert result.gap <= 1e-6


def test_damaged_trees_are_refused():
    for seed in itertools.count():
        scores = near_symmetric(np.random.default_rng(seed), 25)
        result = rank_tsp(scores, rng=0)
        tree = result.certificate
        if tree.kind == "arborescence-tree" and len(tree.parent) > 4:
            break
    assert verify(result, scores)
    shifted = tree.potentials + 0.1 * np.random.default_rng(0).random(tree.potentials.shape)
    last = len(tree.parent) - 1
    refused = {
        "potentials": dataclasses.replace(tree, potentials=shifted),
        "sides": dataclasses.replace(tree, forced=np.zeros_like(tree.forced)),
        "swapped": dataclasses.replace(tree, forced=np.roll(tree.forced, 1)),
        "arc": dataclasses.replace(tree, head=np.where(np.arange(last + 1) == last, (tree.head + 1) % 26, tree.head)),
        "leaf": dataclasses.replace(tree, leaf=np.where(tree.leaf < 0, 0, tree.leaf)),
        "row": dataclasses.replace(tree, leaf=np.where(tree.leaf >= 0, tree.leaf + 1, tree.leaf)),
        "root": dataclasses.replace(tree, root=26),
        "shape": dataclasses.replace(tree, potentials=tree.potentials[:, :-1]),
        "pruned": dataclasses.replace(
            tree, parent=tree.parent[:-1], tail=tree.tail[:-1], head=tree.head[:-1], forced=tree.forced[:-1],
            leaf=tree.leaf[:-1],
        ),
        "loop": dataclasses.replace(tree, parent=np.where(np.arange(last + 1) == last, last, tree.parent)),
        "type": dataclasses.replace(tree, forced=tree.forced.astype(np.int64)),
    }  # fmt: skip
    for what, changed in refused.items():
        assert not verify(type(result)(**{**result, "certificate": changed}), scores), what


@pytest.mark.parametrize(
    ("field", "value"),
    [("tail", [-1, 1, 0]), ("head", [-1, 2, 3]), ("forced", [False, True, True]), ("leaf", [-1, 0, 2])],
)
def test_children_cover_their_parent_only_by_forcing_and_forbidding_one_arc(field, value):
    tree = solvers.ranking.ArborescenceTreeCertificate(
        parent=np.array([-1, 0, 0]),
        tail=np.array([-1, 1, 1]),
        head=np.array([-1, 2, 2]),
        forced=np.array([False, True, False]),
        leaf=np.array([-1, 0, 1]),
        potentials=np.zeros((2, 5)),
        root=4,
    )
    assert _bounds.sound(tree, 5)
    assert not _bounds.sound(dataclasses.replace(tree, **{field: np.array(value)}), 5)


def test_the_contraction_of_the_search_agrees_with_that_of_the_proof():
    rng = np.random.default_rng(6)
    for _ in range(100):
        m = int(rng.integers(3, 15))
        scores = near_symmetric(rng, m - 1, "ties" if rng.random() < 0.3 else "points")
        c = plain_costs(path_problem(scores, None, None, False, True))
        p = rng.standard_normal(m)
        certificate = solvers.ranking.ArborescenceCertificate(p.copy(), m - 1)
        found, _, _ = _ascent_numba.ascend(c, p, m - 1, -np.inf, 1.0, 1, np.zeros(m, np.int64))
        proof = -proved(path_problem(scores, None, None, False, True), certificate)
        assert proof == pytest.approx(-found, abs=1 if np.all(scores == np.round(scores)) else 1e-9)
