"""Pivotal sampling: fixed inclusion probabilities, negatively associated, with a count that hardly varies."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from solvers._core.arrays import FloatArray, as_float_array, to_host
from solvers._core.errors import InvalidProblemError
from solvers._core.jit import njit
from solvers._core.options import check_choice
from solvers._core.random import RNG, generator

__all__ = ["local_pivotal_sample", "pivotal_sample"]

# Random numbers are drawn for so many fights at once, so that they stay in the cache.
CHUNK = 16_384


def pivotal_sample(p: Any, *, order: Literal["given", "random"] = "given", rng: RNG = None) -> npt.NDArray[np.bool_]:
    r"""Draw a random subset with given inclusion probabilities by (ordered) pivotal sampling.

    Two undecided units a, b fight: if :math:`p_a + p_b \le 1`, one gets 0 and the other the sum; otherwise one gets 1
    and the other the rest, with odds that keep both expectations. The survivor meets the next unit of the order.

    Parameters
    ----------
    p : (n,) array_like
        Inclusion probabilities in [0, 1].
    order : {"given", "random"}
        Order of the fights. With "given" the count of every prefix is its expectation rounded down or up, but many
        pairs are never drawn together; "random" avoids that and keeps the total.
    rng : int, Generator, SeedSequence or None
        Seed of the draw.

    Returns
    -------
    (n,) bool array

    Notes
    -----
    *Guarantee.* Unit i is drawn with probability p_i; draws are negatively associated (any order fixed in advance); the
    total is the floor or the ceiling of sum(p). *Complexity.* O(n) time, one uniform per fight.

    References
    ----------
    J.-C. Deville and Y. Tillé, Unequal probability sampling without replacement through a splitting method, Biometrika
    85, 1998. A. Srinivasan, Distributions on level-sets with applications to approximation algorithms, FOCS 2001.

    Examples
    --------
    >>> from solvers.matching import pivotal_sample
    >>> int(pivotal_sample([0.5, 0.25, 0.75, 0.5], rng=0).sum())
    2
    """
    probabilities = _inclusion(p)
    check_choice("order", order, ("given", "random"))
    rng = generator(rng)
    sequence = rng.permutation(len(probabilities)) if order == "random" else None
    p = probabilities if sequence is None else probabilities[sequence]
    drawn = np.zeros(len(p), dtype=np.bool_)
    survivor, value = 0, float(p[0])
    for first in range(1, len(p), CHUNK):
        draws = rng.random(min(CHUNK, len(p) - first))
        survivor, value = _fight_on(p, drawn, first, survivor, value, draws)
    drawn[survivor] = rng.random() < value
    if sequence is None:
        return drawn
    taken = np.empty_like(drawn)
    taken[sequence] = drawn
    return taken


def local_pivotal_sample(p: Any, positions: Any, *, rng: RNG = None) -> npt.NDArray[np.bool_]:
    """Draw a spatially balanced subset: a random undecided unit fights its nearest undecided neighbour.

    Parameters
    ----------
    p : (n,) array_like
        Inclusion probabilities in [0, 1].
    positions : (n, d) array_like
        Where the units are; near units repel each other in the sample.
    rng : int, Generator, SeedSequence or None
        Seed of the draw.

    Returns
    -------
    (n,) bool array

    Notes
    -----
    *Guarantee.* Exact inclusion probabilities; the total is the floor or the ceiling of sum(p). *Complexity.* O(n^2)
    worst case: nearest neighbours are found by scanning the undecided units.

    References
    ----------
    A. Grafström, N. Lundström, L. Schelin, Spatially balanced sampling through the pivotal method, Biometrics 68, 2012.

    Examples
    --------
    >>> from solvers.matching import local_pivotal_sample
    >>> [int(local_pivotal_sample([0.5] * 4, [[0], [0.1], [5], [5.1]], rng=seed)[:2].sum()) for seed in range(5)]
    [1, 1, 1, 1, 1]
    """
    probabilities = _inclusion(p)
    points = to_host(as_float_array(positions, "positions", ndim=2, expected="an (n, d) array"))
    if len(points) != len(probabilities):
        raise InvalidProblemError(f"positions must have one row per unit ({len(probabilities)}); got {len(points)}")
    draws = generator(rng).random((len(probabilities), 2))
    return _local(probabilities, np.ascontiguousarray(points), draws)


def _inclusion(p: Any) -> FloatArray:
    probabilities: FloatArray = to_host(as_float_array(p, "p", ndim=1, expected="an (n,) array of probabilities"))
    if probabilities.min() < 0 or probabilities.max() > 1:
        worst = probabilities[np.argmax(np.abs(probabilities - 0.5))]
        raise InvalidProblemError(f"p must hold probabilities in [0, 1]; got {worst!r}")
    return np.ascontiguousarray(probabilities)


@njit()
def fight(a: float, b: float, draw: float) -> tuple[float, float]:
    """The outcome for both; the one left undecided, if any, has a value strictly between 0 and 1."""
    total = a + b
    if total <= 1.0:
        if total == 0.0:
            return 0.0, 0.0
        return (0.0, total) if draw * total < b else (total, 0.0)
    rest = 2.0 - total
    if rest == 0.0:
        return 1.0, 1.0
    # a gets the 1 with probability (1 - b) / (2 - a - b).
    return (1.0, total - 1.0) if draw * rest < 1.0 - b else (total - 1.0, 1.0)


@njit()
def _fight_on(
    p: FloatArray, taken: npt.NDArray[np.bool_], first: int, survivor: int, value: float, draws: FloatArray
) -> tuple[int, float]:
    """Units ``first``, ``first + 1``, ... meet the survivor; returns who is then undecided, and with what value.

    These are the fights of :func:`fight` without branches: which way they go is random, branches would be mispredicted.
    """
    for step in range(len(draws)):
        unit = first + step
        b = p[unit]
        total = value + b
        small = total <= 1.0
        limit = total if small else 2.0 - total
        threshold = b if small else 1.0 - b
        # The survivor is decided (0 if the total is small, else 1) and the newcomer goes on, or the other way round.
        switch = (draws[step] * limit < threshold) | (threshold >= limit)
        taken[survivor if switch else unit] = not small
        survivor = unit if switch else survivor
        value = total if small else total - 1.0
    return survivor, value


@njit()
def _local(p: FloatArray, positions: FloatArray, draws: FloatArray) -> npt.NDArray[np.bool_]:
    n, d = positions.shape
    value = p.copy()
    undecided = np.empty(n, dtype=np.int64)
    count = 0
    for i in range(n):
        if value[i] > 0.0 and value[i] < 1.0:
            undecided[count] = i
            count += 1
    step = 0
    while count > 1:
        place = min(int(draws[step, 0] * count), count - 1)
        unit = undecided[place]
        nearest, closest = -1, np.inf
        for other in range(count):
            if other == place:
                continue
            distance = 0.0
            for c in range(d):
                difference = positions[undecided[other], c] - positions[unit, c]
                distance += difference * difference
            if distance < closest or nearest < 0:
                nearest, closest = other, distance
        rival = undecided[nearest]
        value[unit], value[rival] = fight(value[unit], value[rival], draws[step, 1])
        step += 1
        keep = 0
        for position in (max(place, nearest), min(place, nearest)):
            i = undecided[position]
            if value[i] > 0.0 and value[i] < 1.0:
                keep += 1
            else:
                count -= 1
                undecided[position] = undecided[count]
    if count == 1:
        last = undecided[0]
        value[last] = 1.0 if draws[n - 1, 0] < value[last] else 0.0
    taken = np.zeros(n, dtype=np.bool_)
    for i in range(n):
        taken[i] = value[i] == 1.0
    return taken
