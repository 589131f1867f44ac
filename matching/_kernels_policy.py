"""Compiled policies: one decision of each, whole simulated runs, and the proved value that their prices come from.

Units carry a mark: FREE takes part in everything, POOL was discarded by the official rule and may still be matched by
salvage, GONE is matched. Random numbers are counters put through a hash (key, time, number), so that a decision
depends on nothing but the state: number 0 decides the match, number i + 1 the coin of unit i.
"""

from __future__ import annotations

import numpy as np

from matching._instance import Edges
from solvers._core.arrays import FloatArray, IntArray
from solvers._core.jit import njit

__all__ = [
    "FREE",
    "GONE",
    "LEVEL_SLACK",
    "METHOD_CODES",
    "POOL",
    "advance",
    "best_values",
    "coin_menu",
    "continuation",
    "kept_by_coins",
    "posted_menu",
    "proved_future",
    "proved_gradient",
    "run_policy",
]

METHOD_CODES = {"pivotal": 0, "independent": 1, "rollout": 2, "dual-price": 3, "greedy": 4}
GONE, POOL, FREE = 0, 1, 2
# Prices may lose this fraction of what is proved of the future: where they cost nothing, rounding must not decide.
LEVEL_SLACK = 1e-12


def proved_gradient(
    edges: Edges, p: FloatArray, rates: FloatArray, n_types: int, n_units: int, grid: int
) -> tuple[float, FloatArray]:
    """C(r) and its gradient in r, all units free at the start."""
    value, by_rate, _ = continuation(
        edges.start, edges.node, edges.weight, p, rates, n_types, grid, 0, np.ones(n_units), True
    )
    return value, by_rate


@njit()
def continuation(
    start: IntArray,
    node: IntArray,
    weight: FloatArray,
    p: FloatArray,
    rates: FloatArray,
    n_types: int,
    grid: int,
    begin: int,
    free: FloatArray,
    want_rates: bool,
) -> tuple[float, FloatArray, FloatArray]:
    """Proved value from time ``begin`` on with marginals ``free``; its gradients in the rates and in ``free``.

    Per arrival, law is the forward law of min(1, X) before each edge and ahead[s] the value still to come from state s;
    the derivative in y_i is E[value with i free] - E[value without]. The scan of y is then run backwards.
    """
    n_rows = len(p)
    n_times = n_rows // n_types
    by_rate = np.zeros(len(rates) if want_rates else 0)
    base = start[begin * n_types] if begin < n_times else len(rates)
    y_at = np.zeros(len(rates) - base)
    by_y = np.zeros(len(rates) - base)
    y = free.copy()
    leaving = np.zeros(len(free))
    longest = 0
    for row in range(begin * n_types, n_rows):
        longest = max(longest, start[row + 1] - start[row])
    laws = np.zeros((longest + 1, grid + 1))
    reach = np.zeros(longest + 1, dtype=np.int64)
    chosen = np.zeros(longest, dtype=np.int64)
    ahead = np.zeros(grid + 1)
    value = 0.0
    for t in range(begin, n_times):
        for row in range(t * n_types, (t + 1) * n_types):
            if p[row] == 0.0:
                continue
            count = 0
            for e in range(start[row], start[row + 1]):
                i = node[e]
                y_at[e - base] = y[i]
                leaving[i] += p[row] * rates[e]
                # Where y_i is 0 here, it stays 0 or a factor 0 follows backwards: only gradients in r need the edge.
                if want_rates or (rates[e] > 0.0 and y[i] > 0.0):
                    chosen[count] = e
                    count += 1
            laws[0, 0] = 1.0
            reach[0] = 0
            for c in range(count):
                e = chosen[c]
                q, scaled = y_at[e - base], rates[e] * grid
                low = min(int(scaled), grid - 1)
                part = scaled - low
                top = reach[c]
                reach[c + 1] = min(grid, top + low + 1)
                for s in range(reach[c + 1] + 1):
                    laws[c + 1, s] = laws[c, s] * (1.0 - q) if s <= top else 0.0
                if q == 0.0:
                    continue
                for s in range(top + 1):
                    mass = laws[c, s] * q
                    laws[c + 1, min(grid, s + low)] += mass * (1.0 - part)
                    laws[c + 1, min(grid, s + low + 1)] += mass * part
            # ahead = 0 after the last edge; its expectation at the first is the value of the arrival.
            for s in range(reach[count] + 1):
                ahead[s] = 0.0
            for c in range(count - 1, -1, -1):
                e = chosen[c]
                q, scaled = y_at[e - base], rates[e] * grid
                low = min(int(scaled), grid - 1)
                part = scaled - low
                unit = weight[e] / grid
                slope_y, slope_r = 0.0, 0.0
                # Increasing s: entries above s still hold the values after this edge.
                for s in range(reach[c] + 1):
                    a, b = min(grid, s + low), min(grid, s + low + 1)
                    at_low = unit * (a - s) + ahead[a]
                    at_high = unit * (b - s) + ahead[b]
                    taken = at_low + part * (at_high - at_low)
                    slope_y += laws[c, s] * (taken - ahead[s])
                    slope_r += laws[c, s] * (at_high - at_low)
                    ahead[s] += q * (taken - ahead[s])
                by_y[e - base] = p[row] * slope_y
                if want_rates:
                    by_rate[e] = p[row] * q * grid * slope_r
            value += p[row] * ahead[0]
        for e in range(start[t * n_types], start[(t + 1) * n_types]):
            i = node[e]
            if leaving[i] != 0.0:
                y[i] *= max(0.0, 1.0 - leaving[i])
                leaving[i] = 0.0
    # Backward: bar = dC/dy_i(t + 1) becomes dC/dy_i(t) = sum_k dV_tk/dy_i + (1 - rho_i) bar.
    bar = np.zeros(len(free))
    direct = np.zeros(len(free))
    for t in range(n_times - 1, begin - 1, -1):
        for row in range(t * n_types, (t + 1) * n_types):
            for e in range(start[row], start[row + 1]):
                i = node[e]
                leaving[i] += p[row] * rates[e]
                direct[i] += by_y[e - base]
                if want_rates:
                    by_rate[e] -= p[row] * y_at[e - base] * bar[i]
        for e in range(start[t * n_types], start[(t + 1) * n_types]):
            i = node[e]
            if leaving[i] != 0.0 or direct[i] != 0.0:
                bar[i] = direct[i] + max(0.0, 1.0 - leaving[i]) * bar[i]
                leaving[i] = 0.0
                direct[i] = 0.0
    return value, by_rate, bar


@njit()
def uniform(key: np.uint64, time: int, number: int) -> float:
    """A number in [0, 1) that depends on nothing else (splitmix64 finaliser of a Weyl-like combination)."""
    z = key + np.uint64(time) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(number) * np.uint64(0xD1342543DE82EF95)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return float(z >> np.uint64(11)) * 1.1102230246251565e-16


@njit()
def discard_probability(short: float, leaves: float) -> float:
    """d_i = (rho_i - mu_i) / (1 - mu_i) with short = rho_i - mu_i: tops the probability of leaving up to rho_i."""
    rest = 1.0 - (leaves - short)
    return min(1.0, short / rest) if rest > 0.0 else 0.0


@njit()
def sampled_steps(
    independent: bool,
    salvage: bool,
    first: int,
    kinds: IntArray,
    key: np.uint64,
    marks: IntArray,
    chosen: IntArray,
    start: IntArray,
    node: IntArray,
    weight: FloatArray,
    rate_start: IntArray,
    rate_node: IntArray,
    rate: FloatArray,
    rate_leaves: FloatArray,
    row_total: FloatArray,
    p: FloatArray,
    n_types: int,
    short: FloatArray,
    touched: IntArray,
) -> float:
    """Times ``first``, ``first + 1``, ... under the pivotal or the independent rule; returns the weight matched.

    A free unit proposes with its rate r and is matched with less where heavier proposals leave no room. Over all types
    it is ``short`` of its probability of leaving by sum_k p_k (r - matched), which only rows with rates above 1 in sum
    can cause under the pivotal rule. ``short`` is zero before and after.
    """
    value = 0.0
    for step in range(len(kinds)):
        time, kind = first + step, kinds[step]
        unit = -1
        if kind >= 0:
            draw = uniform(key, time, 0)
            total, room = 0.0, 1.0
            for e in range(rate_start[time * n_types + kind], rate_start[time * n_types + kind + 1]):
                if marks[rate_node[e]] != FREE:
                    continue
                if independent:
                    total += rate[e] * room
                    room -= rate[e] * room
                else:
                    total += rate[e]
                if draw < total:
                    unit = rate_node[e]
                    break
        count = 0
        for row in range(time * n_types, (time + 1) * n_types):
            if p[row] == 0.0 or (row_total[row] <= 1.0 and not independent):
                continue
            room = 1.0
            for e in range(rate_start[row], rate_start[row + 1]):
                i = rate_node[e]
                if marks[i] != FREE:
                    continue
                taken = rate[e] * room if independent else min(rate[e], room)
                room -= taken
                missing = p[row] * (rate[e] - taken)
                # The product may underflow: a unit enters ``touched`` once, with a positive ``short``.
                if missing > 0.0:
                    if short[i] == 0.0:
                        touched[count] = e
                        count += 1
                    short[i] += missing
        for c in range(count):
            i = rate_node[touched[c]]
            if i != unit and uniform(key, time, i + 1) < discard_probability(short[i], rate_leaves[touched[c]]):
                marks[i] = POOL
            short[i] = 0.0
        if kind >= 0:
            row = time * n_types + kind
            if unit >= 0:
                marks[unit] = GONE
                for e in range(start[row], start[row + 1]):
                    if node[e] == unit:
                        value += weight[e]
                        break
            elif salvage:
                for e in range(start[row], start[row + 1]):
                    if marks[node[e]] == POOL:
                        unit = node[e]
                        marks[unit] = GONE
                        value += weight[e]
                        break
        chosen[step] = unit
    return value


@njit()
def priced_steps(
    greedy: bool,
    first: int,
    kinds: IntArray,
    marks: IntArray,
    chosen: IntArray,
    start: IntArray,
    node: IntArray,
    weight: FloatArray,
    price: FloatArray,
    n_types: int,
) -> float:
    """Times ``first``, ``first + 1``, ...: the free unit of largest weight, or of largest weight less price."""
    value = 0.0
    for step in range(len(kinds)):
        unit, worth, best = -1, 0.0, 0.0
        if kinds[step] >= 0:
            row = (first + step) * n_types + kinds[step]
            for e in range(start[row], start[row + 1]):
                gain = weight[e] if greedy else weight[e] - price[e]
                if marks[node[e]] == FREE and gain > best:
                    best = gain
                    unit, worth = node[e], weight[e]
                    if greedy:
                        break
        if unit >= 0:
            marks[unit] = GONE
            value += worth
        chosen[step] = unit
    return value


@njit()
def kept_by_coins(
    time: int,
    key: np.uint64,
    marks: IntArray,
    start: IntArray,
    node: IntArray,
    rate: FloatArray,
    rate_leaves: FloatArray,
    p: FloatArray,
    n_types: int,
) -> FloatArray:
    """1 for the free units whose discard coin C_i ~ Bernoulli(d_i) says stay, drawn before the buyer speaks."""
    kept = np.zeros(len(marks))
    short = np.zeros(len(marks))
    leaves = np.zeros(len(marks))
    for row in range(time * n_types, (time + 1) * n_types):
        room = 1.0
        for e in range(start[row], start[row + 1]):
            i = node[e]
            if marks[i] == FREE:
                taken = min(rate[e], room)
                room -= taken
                short[i] += p[row] * (rate[e] - taken)
                leaves[i] = rate_leaves[e]
    for i in range(len(marks)):
        if marks[i] == FREE:
            kept[i] = 1.0
            if short[i] > 0.0 and uniform(key, time, i + 1) < discard_probability(short[i], leaves[i]):
                kept[i] = 0.0
    return kept


@njit()
def proved_future(
    start: IntArray,
    node: IntArray,
    weight: FloatArray,
    p: FloatArray,
    rate: FloatArray,
    n_types: int,
    grid: int,
    future: FloatArray,
    time: int,
    marks: IntArray,
) -> tuple[float, FloatArray]:
    """L(time, free), the proved value of the future with the units marked free, and what it loses without each unit.

    ``future`` is empty, or holds the values of the best online policy by time and set of free units.
    """
    n_units = len(marks)
    if future.size > 0:
        free_set = 0
        for i in range(n_units):
            if marks[i] == FREE:
                free_set |= 1 << i
        value = future[time, free_set]
        lost = np.zeros(n_units)
        for i in range(n_units):
            if marks[i] == FREE:
                lost[i] = value - future[time, free_set ^ (1 << i)]
        return value, lost
    free = np.zeros(n_units)
    for i in range(n_units):
        if marks[i] == FREE:
            free[i] = 1.0
    whole, _, loss = continuation(start, node, weight, p, rate, n_types, grid, time, free, False)
    return whole, loss


@njit()
def best_values(
    start: IntArray, node: IntArray, weight: FloatArray, p: FloatArray, n_types: int, n_units: int
) -> FloatArray:
    """Value of the best online policy from each time on with each set of free units, (T + 1, 2^units)."""
    n_times = len(p) // n_types
    future = np.zeros((n_times + 1, 1 << n_units))
    for t in range(n_times - 1, -1, -1):
        nobody = 1.0
        for row in range(t * n_types, (t + 1) * n_types):
            nobody -= p[row]
        nobody = max(0.0, nobody)
        for free_set in range(1 << n_units):
            stay = future[t + 1, free_set]
            total = nobody * stay
            for row in range(t * n_types, (t + 1) * n_types):
                best = stay
                for e in range(start[row], start[row + 1]):
                    if (free_set >> node[e]) & 1:
                        best = max(best, weight[e] + future[t + 1, free_set ^ (1 << node[e])])
                total += p[row] * best
            future[t, free_set] = total
    return future


@njit()
def posted_menu(
    time: int,
    level: float,
    blend: float,
    marks: IntArray,
    start: IntArray,
    node: IntArray,
    weight: FloatArray,
    price: FloatArray,
    rate_start: IntArray,
    rate_node: IntArray,
    rate_weight: FloatArray,
    rate: FloatArray,
    p: FloatArray,
    n_types: int,
    grid: int,
    future: FloatArray,
) -> tuple[bool, FloatArray, float, FloatArray]:
    """Prices of the units at ``time``: whether they are blended, and what is proved of the future after each sale.

    With L the proved value of the future and ``level`` = L(time, free), prices between the differences of L and the
    bid prices of the dual are taken where their expected sale and future are proved to be worth at least ``level``.
    Otherwise the menu of :func:`coin_menu` is. Returns blended, prices, L after no sale, and L after each sale.
    """
    whole, loss = proved_future(rate_start, rate_node, rate_weight, p, rate, n_types, grid, future, time + 1, marks)
    ask = (1.0 - blend) * loss
    for e in range(start[time * n_types], start[(time + 1) * n_types]):
        ask[node[e]] = (1.0 - blend) * loss[node[e]] + blend * price[e]
    expected, nobody = 0.0, 1.0
    for row in range(time * n_types, (time + 1) * n_types):
        nobody -= p[row]
        worth, best = whole, 0.0
        for e in range(start[row], start[row + 1]):
            i = node[e]
            if marks[i] == FREE and weight[e] - ask[i] > best:
                best = weight[e] - ask[i]
                worth = weight[e] + (whole - loss[i])
        expected += p[row] * worth
    expected += max(0.0, nobody) * whole
    return expected >= level * (1.0 - LEVEL_SLACK), ask, whole, whole - loss


@njit()
def coin_menu(
    time: int,
    whole: float,
    sold: FloatArray,
    marks: IntArray,
    kept: FloatArray,
    start: IntArray,
    node: IntArray,
    weight: FloatArray,
    rate: FloatArray,
    p: FloatArray,
    n_types: int,
    grid: int,
) -> tuple[FloatArray, float, FloatArray, bool, FloatArray]:
    """Prices, the proved value of the future after no sale and after each, and whether the discards follow each.

    An entry of the menu is followed by the better of the free set as it is (proved values ``whole``, ``sold``) and the
    free set after the coins; the base policy's own action is always among them. One adjoint pass gives all entries, as
    the value is multi-affine.
    """
    n_units = len(marks)
    coins = 0
    for i in range(n_units):
        if marks[i] == FREE and kept[i] == 0.0:
            coins += 1
    after = sold.copy()
    dropped = np.zeros(n_units)
    nothing, drop_all = whole, False
    if coins > 0:
        thinned, _, loss = continuation(start, node, weight, p, rate, n_types, grid, time + 1, kept, False)
        if thinned > nothing:
            nothing, drop_all = thinned, True
        for i in range(n_units):
            other = thinned - loss[i] * kept[i]
            if other > after[i]:
                after[i] = other
                dropped[i] = 1.0
    return nothing - after, nothing, after, drop_all, dropped


@njit()
def rollout_steps(
    salvage: bool,
    blend: float,
    first: int,
    kinds: IntArray,
    key: np.uint64,
    marks: IntArray,
    level: FloatArray,
    chosen: IntArray,
    start: IntArray,
    node: IntArray,
    weight: FloatArray,
    price: FloatArray,
    rate_start: IntArray,
    rate_node: IntArray,
    rate_weight: FloatArray,
    rate: FloatArray,
    rate_leaves: FloatArray,
    p: FloatArray,
    n_types: int,
    grid: int,
    future: FloatArray,
) -> float:
    """Times ``first``, ``first + 1``, ... at the prices of :func:`posted_menu`; returns the weight matched.

    ``level[0]`` is the proved value of the future, before and after.
    """
    value = 0.0
    for step in range(len(kinds)):
        time, kind = first + step, kinds[step]
        blended, ask, nothing, sold = posted_menu(
            time, level[0], blend, marks, start, node, weight, price,
            rate_start, rate_node, rate_weight, rate, p, n_types, grid, future,
        )  # fmt: skip
        drop = False
        dropped = np.zeros(len(marks))
        kept = dropped
        if not blended:
            kept = kept_by_coins(time, key, marks, rate_start, rate_node, rate, rate_leaves, p, n_types)
            ask, nothing, sold, drop, dropped = coin_menu(
                time, nothing, sold, marks, kept, rate_start, rate_node, rate_weight, rate, p, n_types, grid
            )
        unit, worth, best = -1, 0.0, 0.0
        level[0] = nothing
        if kind >= 0:
            row = time * n_types + kind
            for e in range(start[row], start[row + 1]):
                i = node[e]
                if marks[i] == FREE and weight[e] - ask[i] > best:
                    best = weight[e] - ask[i]
                    unit, worth = i, weight[e]
            if unit >= 0:
                drop = dropped[unit] == 1.0
                level[0] = sold[unit]
        if drop:
            for i in range(len(marks)):
                if marks[i] == FREE and kept[i] == 0.0:
                    marks[i] = POOL
        if unit < 0 and kind >= 0 and salvage:
            row = time * n_types + kind
            for e in range(start[row], start[row + 1]):
                if marks[node[e]] == POOL:
                    unit, worth = node[e], weight[e]
                    break
        if unit >= 0:
            marks[unit] = GONE
            value += worth
        chosen[step] = unit
    return value


@njit()
def advance(
    code: int,
    salvage: bool,
    blend: float,
    first: int,
    kinds: IntArray,
    key: np.uint64,
    marks: IntArray,
    level: FloatArray,
    chosen: IntArray,
    short: FloatArray,
    touched: IntArray,
    start: IntArray,
    node: IntArray,
    weight: FloatArray,
    price: FloatArray,
    rate_start: IntArray,
    rate_node: IntArray,
    rate_weight: FloatArray,
    rate: FloatArray,
    rate_leaves: FloatArray,
    row_total: FloatArray,
    p: FloatArray,
    n_types: int,
    grid: int,
    future: FloatArray,
) -> float:
    """Decide times ``first``, ``first + 1``, ... where types ``kinds`` come (-1: nobody).

    Updates the marks and the level (of the rollout), writes the units matched (or -1) to ``chosen`` and returns their
    weight.
    """
    if code <= 1:
        return sampled_steps(
            code == 1, salvage, first, kinds, key, marks, chosen, start, node, weight,
            rate_start, rate_node, rate, rate_leaves, row_total, p, n_types, short, touched,
        )  # fmt: skip
    if code == 2:
        return rollout_steps(
            salvage, blend, first, kinds, key, marks, level, chosen, start, node, weight, price,
            rate_start, rate_node, rate_weight, rate, rate_leaves, p, n_types, grid, future,
        )  # fmt: skip
    return priced_steps(code == 4, first, kinds, marks, chosen, start, node, weight, price, n_types)


@njit()
def run_policy(
    code: int,
    salvage: bool,
    blend: float,
    keys: np.ndarray,
    arrivals: IntArray,
    n_units: int,
    start: IntArray,
    node: IntArray,
    weight: FloatArray,
    price: FloatArray,
    rate_start: IntArray,
    rate_node: IntArray,
    rate_weight: FloatArray,
    rate: FloatArray,
    rate_leaves: FloatArray,
    row_total: FloatArray,
    p: FloatArray,
    n_types: int,
    grid: int,
    future: FloatArray,
) -> FloatArray:
    """Total weight of each run; ``arrivals`` (runs, T) holds the type that came or -1, ``keys`` one key a run."""
    short = np.zeros(n_units)
    touched = np.zeros(n_units, dtype=np.int64)
    marks = np.empty(n_units, dtype=np.int64)
    chosen = np.empty(arrivals.shape[1], dtype=np.int64)
    totals = np.zeros(len(keys))
    level = np.zeros(1)
    marks[:] = FREE
    whole = 0.0
    if code == 2:
        whole, _ = proved_future(rate_start, rate_node, rate_weight, p, rate, n_types, grid, future, 0, marks)
    for run in range(len(keys)):
        marks[:] = FREE
        level[0] = whole
        totals[run] = advance(
            code, salvage, blend, 0, arrivals[run], keys[run], marks, level, chosen, short, touched, start, node,
            weight, price, rate_start, rate_node, rate_weight, rate, rate_leaves, row_total, p, n_types, grid,
            future,
        )  # fmt: skip
    return totals
