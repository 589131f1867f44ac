"""No bound ever exceeds the optimum: enumeration against every kind of dual point, at every scale."""

from __future__ import annotations

import dataclasses
import itertools
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from brute_force import best_cost, cost_of

import clustering._ky_fan as ky_fan
import clustering._structured_bounds as structured_bounds
from clustering._bounds import lower_bound
from clustering._ky_fan import LowerBound, multiplier_bound
from clustering._problem import Groups, KMeansProblem, kmeans_problem
from clustering._structured import _row_scales
from clustering._structured_bounds import _cuts_of_clusters, _structure, dense_multiplier, structured_bound
from solvers._core.backend import choose_backend

NUMPY = choose_backend("clustering", "array", ("array",))
N_CASES = 3_000


@dataclass(frozen=True)
class Instance:
    """A small problem with its exact optimum."""

    problem: KMeansProblem
    optimum: float
    labels: np.ndarray
    rng: np.random.Generator


def random_points(rng: np.random.Generator, n: int) -> np.ndarray:
    """Clustered, uniform, duplicated, collinear or integer points; scaled by 1e-8 to 1e8 and perhaps shifted by 1e6."""
    p = int(rng.integers(1, 5))
    style = rng.integers(0, 5)
    X = rng.normal(size=(n, p))
    if style == 0:
        X = 0.1 * X + 3.0 * rng.integers(0, 3, size=(n, 1))
    elif style == 1:
        X = X[rng.integers(0, max(n - 2, 1), size=n)]
    elif style == 2:
        X = np.outer(rng.normal(size=n), rng.normal(size=p))
    elif style == 3:
        X = rng.integers(-3, 4, size=(n, p)).astype(float)
    X = X * 10.0 ** rng.uniform(-8, 8)
    if rng.random() < 0.4:
        X = X + 1e6 * np.abs(X).max() * rng.normal(size=p)
    return X


def instances(seed: int, count: int, weighted: bool = True) -> Iterator[Instance]:
    rng = np.random.default_rng(seed)
    while count:
        n = int(rng.integers(1, 10))
        X = random_points(rng, n)
        weights = None
        if weighted and rng.random() < 0.4:
            weights = 10.0 ** rng.uniform(-3, 3, size=n)
            weights[rng.random(n) < 0.15] = 0.0
            if not weights.any():
                continue
        kept = n if weights is None else int(np.count_nonzero(weights))
        distinct = len(np.unique(X if weights is None else X[weights > 0], axis=0))
        n_clusters = int(rng.integers(1, min(distinct, 6) + 1))
        problem = kmeans_problem(X, n_clusters, weights, NUMPY)
        labels = rng.permutation(
            np.concatenate([np.arange(n_clusters), rng.integers(0, n_clusters, kept - n_clusters)])
        )
        if rng.random() < 0.5:
            labels = good_labels(problem, labels)
        yield Instance(problem, best_cost(X, n_clusters, weights), labels, rng)
        count -= 1


def good_labels(problem: KMeansProblem, labels: np.ndarray) -> np.ndarray:
    for _ in range(30):
        labels, _ = NUMPY.kernels.improve_labels(problem.points, problem.weights, labels, problem.n_clusters)
    return labels


def structured(instance: Instance) -> LowerBound:
    """A structured multiplier with random scales, some of them infinite."""
    groups = Groups(instance.problem, instance.labels)
    k = instance.problem.n_clusters
    scale = instance.problem.scatter * 10.0 ** instance.rng.uniform(-3, 0)
    scales = scale * (
        np.ones((k, k)) if instance.rng.random() < 0.5 else 10.0 ** instance.rng.uniform(-1, 1, size=(k, k))
    )
    if instance.rng.random() < 0.2:
        scales[instance.rng.random((k, k)) < 0.3] = np.inf
    return structured_bound(groups, scales)


def tight(instance: Instance) -> LowerBound:
    """The structured multiplier at the scale with the best value, where errors have nowhere to hide."""
    groups = Groups(instance.problem, good_labels(instance.problem, instance.labels))
    k = instance.problem.n_clusters
    candidates = [np.full((k, k), t) for t in np.geomspace(0.02, 1.0, 6) * max(instance.problem.scatter, 1e-300)]
    return max((structured_bound(groups, scales) for scales in candidates), key=lambda bound: bound.value)


def with_cuts(instance: Instance) -> LowerBound:
    """Random cuts of random rows on top of random scales."""
    problem, rng = instance.problem, instance.rng
    k, count = problem.n_clusters, int(rng.integers(0, 4)) if problem.n_clusters > 1 else 0
    rows = rng.integers(0, problem.n, size=count)
    cuts = np.stack([rows, (instance.labels[rows] + rng.integers(1, max(k, 2), size=count)) % k], axis=1)
    multipliers = problem.scatter * 10.0 ** rng.uniform(-4, 1, size=count)
    scales = np.full((k, k), problem.scatter * 10.0 ** rng.uniform(-3, 0))
    scales[rng.random((k, k)) < 0.1] = np.inf
    return structured_bound(Groups(problem, instance.labels), scales, cuts, multipliers)


def tight_cuts(instance: Instance) -> LowerBound:
    """The scale with the best value where no row is clipped, for every row between clusters is cut."""
    groups = Groups(instance.problem, good_labels(instance.problem, instance.labels))
    top = max(instance.problem.scatter, 1e-300)
    return max((cut_where_clipped(groups, t) for t in np.geomspace(0.02, 1.0, 6) * top), key=lambda bound: bound.value)


def cut_where_clipped(groups: Groups, scale: float) -> LowerBound:
    """The structured bound at one scale with a cut for each row that is clipped towards its nearest other cluster."""
    k = groups.problem.n_clusters
    cuts, multipliers = [], []
    for own, rows in enumerate(groups.slices):
        limits = np.asarray(_row_scales(groups, own))
        for row in np.flatnonzero(limits.min(axis=1) < scale):
            cuts.append((int(groups.order[rows.start + row]), int(limits[row].argmin())))
            multipliers.append(float(groups.weights[rows.start + row]) * (scale - max(limits[row].min(), 0.0)))
    return structured_bound(
        groups, np.full((k, k), scale), np.array(cuts, dtype=np.int64).reshape(-1, 2), np.array(multipliers)
    )


def multiplier(instance: Instance) -> LowerBound:
    """A random multiplier, neither symmetric nor non-negative before the bound makes it so."""
    n = instance.problem.n
    B = instance.rng.normal(size=(n, n)) * instance.problem.scatter * 10.0 ** instance.rng.uniform(-4, 1) / n
    return multiplier_bound(instance.problem, B)


def components(instance: Instance) -> LowerBound:
    return lower_bound(instance.problem)[0]


KINDS: dict[str, Callable[[Instance], LowerBound]] = {
    "structured": structured,
    "tight": tight,
    "cuts": with_cuts,
    "tight cuts": tight_cuts,
    "multiplier": multiplier,
    "components": components,
}


@cache
def stream(seed: int) -> tuple[list[Instance], Iterator[Instance]]:
    return [], instances(seed, sys.maxsize)


def known(seed: int) -> Iterator[Instance]:
    """Instances with their optima, which all kinds of bounds share: enumeration takes most of the time."""
    found, more = stream(seed)
    for number in itertools.count():
        if number == len(found):
            found.append(next(more))
        yield found[number]


def violations(kind: str, count: int, seed: int = 1618) -> Iterator[int]:
    """Which published bounds exceed the optimum found by enumeration."""
    for number, instance in enumerate(itertools.islice(known(seed), count)):
        bound = KINDS[kind](dataclasses.replace(instance, rng=np.random.default_rng([seed, number])))
        assert bound.error >= 0
        if bound.published > instance.optimum:
            yield number


def amount(kind: str) -> int:
    return N_CASES // 3 if kind.startswith("tight") else N_CASES


@pytest.mark.parametrize("kind", KINDS)
def test_bound_never_exceeds_the_brute_force_optimum(kind: str) -> None:
    assert not list(violations(kind, amount(kind)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_bound_never_exceeds_the_optimum_of_many_more_instances(kind: str) -> None:
    assert not list(violations(kind, 2 * amount(kind), seed=141421))


@pytest.mark.parametrize("weighted", [False, True])
def test_cuts_make_the_multiplier_exact_where_single_rows_lie_between(weighted: bool) -> None:
    """Two far groups and a few rows near the middle: clipping leaves a gap at every scale, cuts leave none."""
    rng = np.random.default_rng(3)
    labels = np.arange(300) % 3
    X = 14.0 * np.eye(3)[labels] + rng.normal(size=(300, 3))
    X[:3] = [[7.2, 6.8, 0.0], [0.0, 7.1, 6.9], [6.8, 0.0, 7.2]]
    labels[:3] = [0, 1, 2]
    weights = rng.uniform(0.5, 2.0, size=300) if weighted else None
    problem = kmeans_problem(X, 3, weights, NUMPY)
    groups = Groups(problem, labels)
    scales = np.geomspace(0.001, 0.2, 20) * problem.scatter
    clipped = max(structured_bound(groups, np.full((3, 3), t)).value for t in scales)
    cut = max((cut_where_clipped(groups, t) for t in scales), key=lambda bound: bound.value)
    assert clipped < groups.cost * (1 - 1e-4)
    assert groups.cost * (1 - 1e-9) <= cut.value - cut.error <= groups.cost


def test_cuts_in_factors_and_as_a_dense_matrix_are_one_bound() -> None:
    rng = np.random.default_rng(6)
    X = rng.normal(size=(40, 2)) + 6.0 * np.eye(2)[np.arange(40) % 2]
    problem = kmeans_problem(X, 2, rng.uniform(0.5, 2.0, size=40), NUMPY)
    groups = Groups(problem, np.arange(40) % 2)
    scales, cuts, given = np.full((2, 2), 0.1 * problem.scatter), np.array([[4, 1], [9, 0]]), np.array([30.0, 7.0])
    mine = _cuts_of_clusters(groups, cuts, given)
    factors, _, _ = _structure(groups, scales, mine)
    columns = np.zeros((40, 2))
    for k, rows in enumerate(groups.slices):
        columns[groups.order[rows], k] = factors[k][:, 1 - k]
    root, sums = np.sqrt(problem.weights), problem.weights @ columns
    M = np.outer(root * columns[:, 0], root * columns[:, 1]) / math.sqrt(sums[0] * sums[1])
    M = M + M.T
    assert columns[4, 0] == columns[9, 1] == 0.0
    for (row, other), multiplier in zip(cuts, given, strict=True):
        e = (np.arange(40) == row) / root
        a, b = (root * columns[:, k] / sums[k] for k in (other, 1 - other))
        M += 0.5 * multiplier * (np.outer(e - a, e - b) + np.outer(e - b, e - a))
    q = np.asarray(problem.direction)
    dense = ky_fan.ky_fan_bound(problem, M, float(np.linalg.norm(M)), float(q @ M @ q), float(q @ np.abs(M) @ q))
    factored = structured_bound(groups, scales, cuts, given)
    assert abs(factored.value - dense.value) <= factored.error + dense.error


def test_rows_that_agree_to_the_last_digit_have_no_cost_and_no_bound() -> None:
    """Centring at a large offset leaves a common residue, which is not scatter."""
    X = np.tile([2.24144028e8, 1.55699275e8, 1.59394653e8], (4, 1))
    weights = np.array([0.00185055, 0.01510108, 0.13544515, 0.21131737])
    problem = kmeans_problem(X, 1, weights, NUMPY)
    assert lower_bound(problem)[0].published == 0.0


def test_two_evaluations_differ_by_less_than_their_error() -> None:
    """Published bounds survive recomputation: the factored and the dense evaluation agree within one error."""
    rng = np.random.default_rng(2718)
    for _ in range(60):
        n, k = int(rng.integers(60, 200)), int(rng.integers(2, 5))
        X = random_points(rng, n)
        labels = rng.permutation(np.arange(n) % k)
        problem = kmeans_problem(X + 0.01 * np.abs(X).max() * rng.normal(size=X.shape), k, None, NUMPY)
        groups = Groups(problem, labels)
        scales = np.full((k, k), problem.scatter * rng.uniform(0.01, 0.3))
        factored = structured_bound(groups, scales)
        dense = multiplier_bound(problem, dense_multiplier(groups, scales))
        assert abs(factored.value - dense.value) <= factored.error + dense.error
        assert dense.published <= factored.reestablished or dense.error > factored.error


def test_error_bound_is_small_against_the_cost() -> None:
    """A rigorous slack is worth nothing if it hides the answer."""
    X = np.random.default_rng(5).normal(size=(3000, 10)) + 8.0 * np.eye(10)[np.arange(3000) % 4]
    problem = kmeans_problem(X, 4, None, NUMPY)
    groups = Groups(problem, np.arange(3000) % 4)
    bound = structured_bound(groups, np.full((4, 4), 0.3 * problem.scatter / 4))
    assert bound.error < 1e-9 * groups.cost


def test_offset_of_the_data_does_not_cost_digits() -> None:
    rng = np.random.default_rng(77)
    X = rng.normal(size=(300, 3)) + 8.0 * np.eye(3)[np.arange(300) % 3]
    labels = np.arange(300) % 3
    near = Groups(kmeans_problem(X, 3, None, NUMPY), labels)
    far_points = np.round(X * 2**20) / 2**20
    far = Groups(kmeans_problem(far_points + 2.0**26, 3, None, NUMPY), labels)
    scales = np.full((3, 3), 0.2 * near.problem.scatter)
    assert structured_bound(far, scales).published == pytest.approx(structured_bound(near, scales).published, rel=1e-6)
    assert far.cost == pytest.approx(near.cost, rel=1e-6)


def test_weights_mean_repeated_rows() -> None:
    rng = np.random.default_rng(11)
    X = rng.normal(size=(40, 2)) + 4.0 * rng.integers(0, 2, size=(40, 1))
    repeats = rng.integers(1, 4, size=40)
    labels = (X[:, 0] > 2).astype(np.int64)
    weighted = Groups(kmeans_problem(X, 2, repeats.astype(float), NUMPY), labels)
    repeated = Groups(kmeans_problem(np.repeat(X, repeats, axis=0), 2, None, NUMPY), np.repeat(labels, repeats))
    assert weighted.cost == pytest.approx(repeated.cost, rel=1e-12)
    scales = np.full((2, 2), 0.1 * weighted.problem.scatter)
    assert structured_bound(weighted, scales).value == pytest.approx(structured_bound(repeated, scales).value, rel=1e-9)


def test_cost_is_the_k_means_cost() -> None:
    for instance in instances(31, 200, weighted=False):
        groups = Groups(instance.problem, instance.labels)
        exact = cost_of(np.asarray(instance.problem.points), instance.labels)
        assert abs(groups.cost - exact) <= groups.cost_slack


MUTATIONS: dict[str, Callable[[Any], None]] = {
    "one eigenvalue too few": lambda patch: patch.setattr(
        ky_fan, "top_eigenvalue_sum", lambda matrix, count: float(np.sum(np.linalg.eigvalsh(matrix)[::-1][: count - 1]))
    ),
    "quadratic form dropped": lambda patch: patch.setattr(
        LowerBound, "published", property(lambda self: max(0.0, self.value * 1.01 + self.error))
    ),
    "cuts without Z_ss": lambda patch: patch.setattr(
        structured_bounds,
        "_cut_entries",
        lambda *given, entries=structured_bounds._cut_entries: {
            place: value for place, value in entries(*given).items() if place[0] != place[1]
        },
    ),
    "slack added instead of subtracted": lambda patch: patch.setattr(
        LowerBound, "published", property(lambda self: max(0.0, self.value + 1e-9 * abs(self.value)))
    ),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_fuzz_notices_a_wrong_bound(mutation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite above is able to fail: break the certificate and it does."""
    MUTATIONS[mutation](monkeypatch)
    kind = {"one eigenvalue too few": "multiplier", "cuts without Z_ss": "tight cuts"}.get(mutation, "tight")
    assert any(True for _ in violations(kind, 400))


def test_a_bound_of_infinite_scales_is_the_principal_component_bound() -> None:
    rng = np.random.default_rng(8)
    X = rng.normal(size=(50, 4))
    problem = kmeans_problem(X, 3, None, NUMPY)
    squares = np.linalg.svd(X - X.mean(axis=0), compute_uv=False) ** 2
    bound, _ = lower_bound(problem)
    assert bound.value == pytest.approx(float(np.sum(squares[2:])), rel=1e-12)
    assert math.isclose(bound.published, bound.value, rel_tol=1e-9)
