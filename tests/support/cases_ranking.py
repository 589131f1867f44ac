"""Cases of the ranking family for the conformance suite."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
from cases import Bad, Case

from solvers import InvalidProblemError


def one_problem():
    return (np.random.default_rng(20).standard_normal((8, 8)),)


def loose_problem():
    rng = np.random.default_rng(21)
    scores = rng.standard_normal((16, 16))
    return (scores + scores.T + 0.01 * rng.standard_normal((16, 16)),)


def path_score(result, scores):
    order = result.x
    return math.fsum(float(scores[a, b]) for a, b in itertools.pairwise(order.tolist()))


def best_path(scores):
    n = len(scores)
    best = {(1 << j, j): 0.0 for j in range(n)}
    for subset in range(1, 1 << n):
        for last in range(n):
            if (subset, last) in best:
                for j in range(n):
                    if not subset >> j & 1:
                        key, value = (subset | 1 << j, j), best[subset, last] + scores[last, j]
                        best[key] = max(best.get(key, -math.inf), value)
    return max(best[(1 << n) - 1, j] for j in range(n))


def tampered(result):
    certificate = result.certificate
    if hasattr(certificate, "prices"):
        nodes = certificate.prices.shape[-1]
        yield (
            "prices moved",
            type(result)(
                **{
                    **result,
                    "certificate": dataclasses.replace(
                        certificate, prices=certificate.prices + np.linspace(0.0, 1.0, nodes)
                    ),
                }
            ),
        )
    yield "bound too strong", type(result)(**{**result, "bound": result.bound - 0.1 * (1.0 + np.abs(result.bound))})


def precedence_score(result, scores):
    return math.fsum(float(scores[a, b]) for a, b in itertools.combinations(result.x.tolist(), 2))


def best_precedence(scores):
    n = len(scores)
    best = np.zeros(1 << n)
    for subset in range(1, 1 << n):
        members = [j for j in range(n) if subset >> j & 1]
        best[subset] = max(best[subset ^ 1 << j] + sum(scores[i, j] for i in members if i != j) for j in members)
    return best[-1]


def tampered_cycles(result):
    certificate = result.certificate
    if len(certificate.weights):
        heavier = dataclasses.replace(certificate, weights=1.5 * certificate.weights + 1e-3)
        yield "heavier cycles", type(result)(**{**result, "certificate": heavier})
        turned = dataclasses.replace(certificate, cycles=certificate.cycles[:, ::-1].copy())
        yield "cycles turned round", type(result)(**{**result, "certificate": turned})
        negative = dataclasses.replace(certificate, weights=-certificate.weights)
        yield "negative weights", type(result)(**{**result, "certificate": negative})


CASES = (
    Case(
        entry="rank_linear",
        problem=one_problem,
        methods=("auto", "insertion", "borda"),
        objective=precedence_score,
        optimum=best_precedence,
        loose=lambda: (np.random.default_rng(23).standard_normal((24, 24)),),
        bad=(Bad("a rectangle", (np.zeros((2, 3)),), {}, InvalidProblemError, "square"),),
        tampered=tampered_cycles,
    ),
    Case(
        entry="rank_tsp",
        problem=one_problem,
        methods=("auto", "exact", "heuristic", "greedy", "dynamic-programming"),
        objective=path_score,
        optimum=best_path,
        loose=loose_problem,
        bad=(
            Bad("a rectangle", (np.zeros((2, 3)),), {}, InvalidProblemError, "square"),
            Bad("infinite attraction", (np.array([[0.0, np.inf], [0.0, 0.0]]),), {}, InvalidProblemError, "inf"),
            Bad("equal ends", (np.zeros((3, 3)),), {"start": 1, "end": 1}, InvalidProblemError, "differ"),
            Bad("the end of a cycle", (np.zeros((3, 3)),), {"end": 1, "closed": True}, InvalidProblemError, "closed"),
        ),
        tampered=tampered,
    ),
    Case(
        entry="rank_tsp_batch",
        problem=lambda: (np.random.default_rng(22).standard_normal((3, 8, 8)),),
        methods=("auto", "exact"),
        objective=None,
    ),
)
