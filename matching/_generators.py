"""Instances with a story: taxis of New York with observed arrival laws, and display advertising."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import shortest_path

from matching._instance import BayesianMatching
from solvers._core.arrays import FloatArray, IntArray
from solvers._core.errors import InvalidProblemError
from solvers._core.options import check_integer
from solvers._core.random import RNG, generator
from solvers._examples import load_example

__all__ = ["TaxiEvening", "display_ads_instance", "taxi_instance"]

FIRST_HOUR, LAST_HOUR = 17, 22
FIT_DAYS = 15


@dataclass(frozen=True)
class TaxiEvening:
    """Cars waiting for one more trip each, evenings from 17:00 to 22:00.

    Attributes
    ----------
    instance : BayesianMatching
        Nodes are cars, one per zone; types are zone of pick-up x fare class; weights are dollars.
    zones : list of str
        Names of the zones, in the order of the cars; type 2 z is a short and 2 z + 1 a long trip from zone z.
    evenings : (D, T) int64
        What came on the days that were not used for fitting: type of the first request of each time, -1 where none.
    """

    instance: BayesianMatching
    zones: list[str]
    evenings: IntArray


def taxi_instance(*, slot_minutes: int = 5, dollars_per_mile: float = 2.5) -> TaxiEvening:
    """New York taxi requests of March 2019, arrival laws fitted on its first half.

    Parameters
    ----------
    slot_minutes : int
        Length of a time; a divisor of 60.
    dollars_per_mile : float
        Cost of driving empty to the pick-up. Distances between zones are medians of observed trips, completed by
        shortest paths.

    Returns
    -------
    TaxiEvening

    Notes
    -----
    The probability of a type at a time is its average number of requests over the days fitted in the hour around, per
    time. The value of serving it is the mean fare of its class less the cost of getting there; pairs that lose money
    are left out.

    Examples
    --------
    >>> from solvers.matching import taxi_instance
    >>> evening = taxi_instance()
    >>> evening.instance.n_nodes, evening.instance.n_times, evening.instance.n_types, evening.evenings.shape
    (16, 60, 32, (16, 60))
    """
    slot_minutes = check_integer("slot_minutes", slot_minutes, low=1, high=60)
    if 60 % slot_minutes:
        raise InvalidProblemError(f"slot_minutes must divide 60; got {slot_minutes}")
    example = load_example("taxi")
    day, minute, fare, miles, pickup, dropoff = example.data.T
    assert example.target is not None
    n_zones = int(pickup.max()) + 1
    zones = [str(example.target[np.flatnonzero(pickup == z)[0]]) for z in range(n_zones)]
    zone, n_types = pickup.astype(np.int64), 2 * n_zones
    kind = 2 * zone + (fare > np.median(fare))
    mean_fare = np.array([fare[kind == k].mean() for k in range(n_types)])
    slot = ((minute - 60 * FIRST_HOUR) // slot_minutes).astype(np.int64)
    n_times = 60 * (LAST_HOUR - FIRST_HOUR) // slot_minutes
    evening = (slot >= 0) & (slot < n_times)
    per_hour = 60 // slot_minutes
    fit = evening & (day <= FIT_DAYS)
    counts = np.zeros((LAST_HOUR - FIRST_HOUR, n_types))
    np.add.at(counts, (slot[fit] // per_hour, kind[fit]), 1.0)
    p = np.repeat(counts / (FIT_DAYS * per_hour), per_hour, axis=0)
    p /= np.maximum(1.0, p.sum(axis=1, keepdims=True))
    reach = _zone_distances(n_zones, zone, dropoff.astype(np.int64), miles)
    value = np.maximum(mean_fare[:, None] - dollars_per_mile * reach[np.arange(n_types) // 2], 0.0)
    days = np.arange(FIT_DAYS + 1, 32)
    evenings = np.full((len(days), n_times), -1, dtype=np.int64)
    for row in np.flatnonzero(evening & (day > FIT_DAYS))[::-1]:
        evenings[int(day[row]) - FIT_DAYS - 1, slot[row]] = kind[row]
    return TaxiEvening(BayesianMatching(p, np.broadcast_to(value, (n_times, *value.shape))), zones, evenings)


def display_ads_instance(
    n_advertisers: int = 20,
    n_types: int = 8,
    n_times: int = 200,
    *,
    eligible: float = 0.4,
    scarcity: float = 0.5,
    rng: RNG = None,
) -> BayesianMatching:
    """Page views of known types arriving over a day, for advertisers with contracts for a number of views.

    Parameters
    ----------
    n_advertisers, n_types, n_times : int
        Nodes, types and times.
    eligible : float
        Share of the advertisers that want a type.
    scarcity : float
        Views under contract, as a share of the expected views.
    rng : int, Generator, SeedSequence or None

    Returns
    -------
    BayesianMatching
        Traffic peaks in the middle of the horizon; each type's share drifts over time; values are lognormal around a
        level per type and noise per pair, and views late in the day are worth more.

    Examples
    --------
    >>> from solvers.matching import display_ads_instance
    >>> display_ads_instance(5, 3, 40, rng=0).kind
    'edge-weighted'
    """
    rng = generator(rng)
    time = (np.arange(n_times) + 0.5) / n_times
    traffic = 0.35 + 0.55 * np.sin(np.pi * time)
    drift = rng.uniform(0.3, 1.0, n_types) + np.outer(time, rng.uniform(0.0, 1.0, n_types))
    p = traffic[:, None] * drift / drift.sum(axis=1, keepdims=True)
    wants = rng.random((n_types, n_advertisers)) < eligible
    level = rng.lognormal(0.0, 0.6, (n_types, 1)) * rng.lognormal(0.0, 0.4, (n_types, n_advertisers))
    late = 1.0 + time[:, None, None] * rng.uniform(0.0, 1.0, n_advertisers)
    contracts = rng.multinomial(max(1, round(scarcity * float(p.sum()))), np.full(n_advertisers, 1.0 / n_advertisers))
    return BayesianMatching(p, wants * level * late, contracts)


def _zone_distances(n_zones: int, pickup: IntArray, dropoff: IntArray, miles: FloatArray) -> FloatArray:
    """Median miles between zones in either direction, completed by shortest paths; zero within a zone."""
    legs = scipy.sparse.lil_array((n_zones, n_zones))
    for a in range(n_zones):
        for b in range(a + 1, n_zones):
            seen = miles[((pickup == a) & (dropoff == b)) | ((pickup == b) & (dropoff == a))]
            if len(seen):
                legs[a, b] = max(float(np.median(seen)), 0.1)
    distances: FloatArray = shortest_path(legs.tocsr(), directed=False)
    return distances


TaxiEvening.__module__ = "matching"
