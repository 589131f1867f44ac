"""Matrix completion beside other libraries: ``python benchmarks/peers/completion.py [--quick] [--only TEXT]``.

Recovery is judged by the distance from the matrix that the entries were taken from, sweeps by their time alone. Ratings have
a script of their own, and so have files and scaling.
"""

from __future__ import annotations

import math
import statistics
import time

import numpy as np
from _compare import Judgement, Quality, Seconds, Solver, Workload, main

import solvers
from solvers.completion import _sweeps as sweeps
from solvers.completion._certificate import dual_bound
from solvers.completion._observations import read_observations
from solvers.completion._problem import completion_problem
from solvers.completion._sweeps import Factors, Orientation, SweepRule, Workspace, sweep


def low_rank(m, n, rank, condition, rng):
    U = np.linalg.qr(rng.standard_normal((m, rank)))[0]
    V = np.linalg.qr(rng.standard_normal((n, rank)))[0]
    return U, math.sqrt(m * n) * np.logspace(0, -math.log10(condition), rank), V


def entries_of(truth, rows, cols):
    U, s, V = truth
    return np.einsum("tk,tk->t", (U * s)[rows], V[cols])


def uniform(truth, count, rng, noise=0.0):
    m, n = len(truth[0]), len(truth[2])
    flat = rng.choice(m * n, count, replace=False)
    rows, cols = flat // n, flat % n
    return rows, cols, entries_of(truth, rows, cols) + noise * rng.standard_normal(count), (m, n)


def error(result, truth):
    U, s, V = truth
    left, right = np.hstack([result.U * result.s, -U * s]), np.hstack([result.V, V])
    return float(np.linalg.norm(np.linalg.qr(left)[1] @ np.linalg.qr(right)[1].T) / np.linalg.norm(s))


def warm():
    solvers.warm_up("complete_matrix")


# -- sweeps ----------------------------------------------------------------------------------------------------------


def big_mask(seed, n=20_000, per_row=250):
    """A uniform mask with equal rows, values of unit variance."""
    rng = np.random.default_rng(seed)
    cols = rng.integers(0, n, (n, per_row))
    rows = np.repeat(np.arange(n), per_row)
    keys = np.unique(rows * n + cols.ravel())
    return keys // n, keys % n, rng.standard_normal(len(keys)), (n, n)


class Sweeps:
    """One side's half sweeps and the other's on given data, timed in the working precision; preparation apart."""

    def __init__(self, data, rank):
        observed = read_observations(data, None, "error")
        problem = completion_problem(
            observed, observed.keep(np.zeros(observed.size, bool)), rank,
            reg=1.0, reg_scaling="plain", loss="l2", delta="auto", biases=False,
        )  # fmt: skip
        self.work = Workspace(problem, np.float32)
        rng = np.random.default_rng(0)
        U, V = (np.linalg.qr(rng.standard_normal((size, rank)))[0].astype(np.float32) for size in observed.shape)
        self.factors = sweep(self.work, Factors(U, np.linspace(2.0, 1.0, rank), V), SweepRule("exact"))[0]

    def seconds(self, inner, steps=0):
        """CPU seconds of a sweep over rows and columns: by normal equations, or by so many conjugate gradient steps."""
        began = time.process_time()
        self.sweep(inner, steps)
        return time.process_time() - began

    def sweep(self, inner, steps):
        if inner == "exact":
            return sweep(self.work, self.factors, SweepRule("exact"))[0]
        chosen = sweeps._modes
        sweeps._modes = lambda side, fixed, rule: np.full(len(side.counts), sweeps.kernels.BY_CG, dtype=np.int8)
        try:
            return sweep(self.work, self.factors, SweepRule("auto", 1e-30, steps))[0]
        finally:
            sweeps._modes = chosen

    def steps_for(self, accuracy):
        """Conjugate gradient steps from zero after which the rows are within a relative distance of their solutions."""
        side = self.work.rows
        part = Orientation(side.indptr[:501], side.indices, side.values, side.weights)
        k = self.factors.rank

        def solved(mode, steps):
            x = np.zeros((500, k), np.float32)
            sweeps.kernels.solve_rows(
                part.indptr, part.indices, part.values, part.weights, self.factors.V, np.zeros(k, np.float32),
                np.ones(k, np.float32), np.full(500, mode, dtype=np.int8), np.empty((0, 0), np.float32), 0.0, steps,
                4 * k + 1, 1, x, np.empty(500),
            )  # fmt: skip
            return x

        exact = solved(sweeps.kernels.BY_GRAM, 0)
        goal = accuracy * np.linalg.norm(exact)
        return next(s for s in range(1, 100) if np.linalg.norm(solved(sweeps.kernels.BY_CG, s) - exact) <= goal)


def one_sweep(rank, inner, steps=0):
    """Median of five sweeps."""

    def run(data):
        sweeps_here = Sweeps(data, rank)
        sweeps_here.seconds(inner, steps)
        return statistics.median(sweeps_here.seconds(inner, steps) for _ in range(5))

    return run


def cmfrec_sweep(rank, use_cg):
    """Seconds of one of cmfrec's iterations: the difference of a long fit and one with one iteration."""

    def run(data):
        import scipy.sparse
        from cmfrec import CMF

        rows, cols, values, shape = data
        matrix = scipy.sparse.coo_matrix((values.astype(np.float32), (rows, cols)), shape=shape)
        seconds = []
        for iterations in (1, 3 if not use_cg else 7):
            model = CMF(
                k=rank, lambda_=1.0, method="als", use_cg=use_cg, max_cg_steps=3, finalize_chol=False, niter=iterations,
                user_bias=False, item_bias=False, center=False, use_float=True, nthreads=1, verbose=False,
                precompute_for_predictions=False,
            )  # fmt: skip
            began = time.process_time()
            model.fit(matrix)
            seconds.append(time.process_time() - began)
        return (seconds[1] - seconds[0]) / (6.0 if use_cg else 2.0)

    return run


def seconds_per_sweep(data, answer):
    return Judgement(answer, f"{answer:.3f} s a sweep")


def sweep_workload(name, rank, inner, use_cg, factor):
    return Workload(
        name=name,
        data=big_mask,
        ours=Solver("complete_matrix", one_sweep(rank, inner, 3), prepare=warm),
        peers=(Solver("cmfrec", cmfrec_sweep(rank, use_cg), needs=("cmfrec",)),),
        judge=seconds_per_sweep,
        targets=(Quality(1.0 / factor, "cmfrec"),),
        seeds=(0,),
        note=f"20,000 x 20,000, 5e6 entries, rank {rank}, float32; judged by seconds a sweep",
    )


def scaling(name, inner, limit, *, accuracy=0.0, steps=3):
    """Time at rank 100 over that at rank 50, medians of interleaved sweeps."""

    def run(data):
        small, large = Sweeps(data, 50), Sweeps(data, 100)
        counts = [s.steps_for(accuracy) if accuracy else steps for s in (small, large)]
        ratios = [large.seconds(inner, counts[1]) / small.seconds(inner, counts[0]) for _ in range(5)]
        return statistics.median(ratios[1:]), counts

    def judge(data, answer):
        ratio, counts = answer
        words = f"rank 100 takes {ratio:.2f} times as long as rank 50"
        return Judgement(ratio, words + (f" ({counts[0]} and {counts[1]} steps)" if inner == "cg" else ""))

    return Workload(
        name=name,
        data=big_mask,
        ours=Solver("complete_matrix", run, prepare=warm),
        judge=judge,
        targets=(Quality(limit),) if limit else (),
        seeds=(0,),
    )


def entries_scaling():
    """Time of a sweep with all entries over that with half of them, per entry."""

    def run(data):
        rows, cols, values, shape = data
        few = rows[::2], cols[::2], values[::2], shape
        half, full = Sweeps(few, 50), Sweeps(data, 50)
        return statistics.median(full.seconds("cg", 3) / half.seconds("cg", 3) for _ in range(5))

    return Workload(
        name="scaling-entries",
        data=big_mask,
        ours=Solver("complete_matrix", run, prepare=warm),
        judge=lambda data, ratio: Judgement(ratio, f"twice as many entries take {ratio:.2f} times as long"),
        targets=(Quality(2.2),),
        seeds=(0,),
        note="20,000 x 20,000, 2.5e6 and 5e6 entries, rank 50, three conjugate gradient steps",
    )


# -- recovery --------------------------------------------------------------------------------------------------------


def recovery(limit):
    def judge(data, result):
        distance = error(result, data[1])
        return Judgement(distance, f"relative error {distance:.1e}", distance <= limit)

    return judge


def ill_conditioned(seed):
    rng = np.random.default_rng(seed)
    truth = low_rank(2000, 2000, 5, 100, rng)
    return uniform(truth, 5 * 5 * 3995, rng), truth


def outliers(share, oversampling):
    def data(seed):
        rng = np.random.default_rng(seed)
        truth = low_rank(500, 500, 5, 2, rng)
        rows, cols, values, shape = uniform(truth, int(oversampling * 5 * 995), rng)
        bad = rng.choice(len(values), round(share * len(values)), replace=False)
        values[bad] += np.abs(values).max() * rng.uniform(1.7, 3.3, len(bad)) * rng.choice([-1, 1], len(bad))
        return (rows, cols, values, shape), truth

    return data


def noisy_outliers(seed):
    """A tenth of gross errors among noise, four entries per degree of freedom, and which entries are sound."""
    rng = np.random.default_rng(seed)
    truth = low_rank(300, 300, 4, 3, rng)
    rows, cols, values, shape = uniform(truth, 4 * 4 * 596, rng, noise=0.05)
    bad = rng.random(len(values)) < 0.1
    values[bad] += np.abs(values).max() * rng.uniform(1.7, 3.3, bad.sum()) * rng.choice([-1, 1], bad.sum())
    return (rows, cols, values, shape), truth, ~bad


def against_sound_entries(data, result):
    """Error over that of least squares on the sound entries, started at the truth."""
    (rows, cols, values, shape), truth, sound = data
    part = rows[sound], cols[sound], values[sound], shape
    known = solvers.complete_matrix(part, 4, x0=truth, rng=0, method="altmin-exact", tol=1e-9)
    ratio = error(result, truth) / error(known, truth)
    return Judgement(ratio, f"{ratio:.3f} times the error of least squares on the sound entries", bool(result.success))


def noisy(seed):
    rng = np.random.default_rng(seed)
    truth = low_rank(1000, 1000, 5, 10, rng)
    return uniform(truth, 8 * 5 * 1995, rng, noise=0.05), truth


def against_oracle(data, result):
    observations, truth = data
    m, n = observations[3]
    rmse = error(result, truth) * np.linalg.norm(truth[1]) / math.sqrt(m * n)
    ratio = rmse / (0.05 * math.sqrt(5 * (m + n - 5) / len(observations[2])))
    return Judgement(ratio, f"{ratio:.3f} times sigma sqrt(freedom / entries)", ratio <= 1.25)


def sparse_mask(n, count, least, rng):
    """A uniform mask whose rows and columns are then filled up to ``least`` entries from the fullest ones."""
    mask = np.zeros((n, n), dtype=bool)
    mask.flat[rng.choice(n * n, count, replace=False)] = True
    for _ in range(3):
        for side in (mask, mask.T):
            for i in np.flatnonzero(side.sum(axis=1) < least):
                while side[i].sum() < least:
                    donor = rng.choice(np.flatnonzero(side.sum(axis=1) > least + 2))
                    j = rng.choice(np.flatnonzero(side[donor]))
                    if not side[i, j]:
                        side[donor, j], side[i, j] = False, True
    return np.nonzero(mask)


def near_limit(ratio, condition, count=10):
    def data(seed):
        instances = []
        for position in range(count):
            rng = np.random.default_rng([seed, position])
            truth = low_rank(1000, 1000, 5, condition, rng)
            rows, cols = sparse_mask(1000, int(ratio * 5 * 1995), 6, rng)
            instances.append(((rows, cols, entries_of(truth, rows, cols), (1000, 1000)), truth))
        return instances

    return data


def solve_all(instances):
    answers = []
    for observations, _ in instances:
        began = time.process_time()
        answers.append((solvers.complete_matrix(observations, 5, tol=1e-12, rng=0), time.process_time() - began))
    return answers


def failures(instances, answers):
    """Share of the determined instances that were not recovered to 1e-4."""
    determined = [(error(r, truth), s) for (_, truth), (r, s) in zip(instances, answers, strict=True)]
    lost = sum(e > 1e-4 for e, _ in determined)
    slowest = max(s for _, s in determined)
    return Judgement(lost / len(determined), f"{len(determined) - lost} of {len(determined)}, slowest {slowest:.1f} s")


def near_limit_workload(ratio, condition, allowed):
    return Workload(
        name=f"near-limit-{ratio:g}-{condition:g}",
        data=near_limit(ratio, condition),
        ours=Solver("complete_matrix", solve_all, prepare=warm),
        judge=failures,
        targets=() if allowed is None else (Quality(allowed),),
        seeds=(0,),
        note=f"1000 x 1000, rank 5, condition {condition:g}, {ratio:g} entries per freedom; share not recovered",
    )


# -- certificate -----------------------------------------------------------------------------------------------------


def penalised(seed):
    rng = np.random.default_rng(seed)
    truth = low_rank(20_000, 20_000, 10, 3, rng)
    return uniform(truth, 3_200_000, rng, noise=0.1), truth


# Those on the way to the full rank among them.
CERTIFIED_SWEEPS = 10


def certified(data):
    result = solvers.complete_matrix(data[0], 10, reg=20.0, tol=0.0, max_iter=CERTIFIED_SWEEPS, rng=0)
    return result, solvers.verify(result, data[0], 10, reg=20.0)


def gap_of(data, answer):
    result, verification = answer
    words = f"gap {result.gap:.1e} after {result.nit} sweeps, {verification.message}"
    return Judgement(result.gap, words, bool(verification))


def bounds_of(data):
    """CPU seconds of the bound that a run publishes and of the one that verification establishes."""
    observed = read_observations(data[0], None, "error")
    problem = completion_problem(
        observed, observed.keep(np.zeros(observed.size, bool)), 10,
        reg=20.0, reg_scaling="plain", loss="l2", delta="auto", biases=False,
    )  # fmt: skip
    result = solvers.complete_matrix(data[0], 10, reg=20.0, tol=1e-9, rng=0)
    seconds, steps = [], result.certificate.steps
    for checking in (False, True):
        began = time.process_time()
        bound = dual_bound(problem, result.U * result.s, result.V, result.delta, checking=checking, steps=steps)
        seconds.append(time.process_time() - began)
        # As a verification does, which takes twice the steps that the bound was published with.
        steps = bound.steps
    return seconds


def slower_bound(data, seconds):
    return Judgement(max(seconds), "published in {:.2f} s, verified in {:.2f} s".format(*seconds))


WORKLOADS = [
    sweep_workload("sweep-cg", 50, "cg", True, 6.0),
    sweep_workload("sweep-exact", 50, "exact", False, 5.0),
    scaling("scaling-fixed-steps", "cg", 2.2),
    scaling("scaling-one-percent", "cg", 3.0, accuracy=0.01),
    scaling("scaling-normal-equations", "exact", None),
    entries_scaling(),
    Workload(
        name="ill-conditioned",
        data=ill_conditioned,
        ours=Solver("complete_matrix", lambda d: solvers.complete_matrix(d[0], 5, tol=1e-12, rng=0), prepare=warm),
        judge=recovery(1e-8),
        targets=(Seconds(0.2),),
        seeds=tuple(range(40)),
        quick=True,
        note="2000 x 2000, rank 5, condition 100, 5 entries per degree of freedom; every seed to 1e-8",
    ),
    near_limit_workload(1.5, 10, 0.05),
    near_limit_workload(1.3, 10, 0.15),
    near_limit_workload(1.2, 10, 0.5),
    near_limit_workload(1.5, 1e5, None),
    *(
        Workload(
            name=f"outliers-{share:g}-{oversampling:g}",
            data=outliers(share, oversampling),
            ours=Solver(
                "complete_matrix", lambda d: solvers.complete_matrix(d[0], 5, loss="huber", rng=0), prepare=warm
            ),
            judge=recovery(1e-8),
            targets=(Quality(1e-8),),
            seeds=tuple(range(20)),
            quick=True,
            note=f"500 x 500, rank 5, {100 * share:g} % gross outliers; every seed to 1e-8",
        )
        for share, oversampling in ((0.1, 4), (0.2, 8), (0.3, 10))
    ),
    Workload(
        name="outliers-among-noise",
        data=noisy_outliers,
        ours=Solver("complete_matrix", lambda d: solvers.complete_matrix(d[0], 4, loss="huber", rng=0), prepare=warm),
        judge=against_sound_entries,
        targets=(Quality(1.1),),
        seeds=tuple(range(20)),
        note="300 x 300, rank 4, noise and 10 % gross outliers, 4 entries per degree of freedom",
    ),
    Workload(
        name="noise",
        data=noisy,
        ours=Solver("complete_matrix", lambda d: solvers.complete_matrix(d[0], 5, rng=0), prepare=warm),
        judge=against_oracle,
        targets=(Quality(1.25),),
        quick=True,
        note="1000 x 1000, rank 5, 8 entries per degree of freedom",
    ),
    Workload(
        name="certificate",
        data=penalised,
        ours=Solver("complete_matrix", certified, prepare=warm),
        judge=gap_of,
        targets=(Quality(1e-9),),
        seeds=(0,),
        note="20,000 x 20,000, 3.2e6 entries, rank 10, reg > 0; ten sweeps in all, then verified",
    ),
    Workload(
        name="certificate-time",
        data=penalised,
        ours=Solver("complete_matrix", bounds_of, prepare=warm),
        judge=slower_bound,
        targets=(Quality(2.0),),
        seeds=(0,),
        note="the same; CPU seconds of the slower of the two bounds",
    ),
]
if __name__ == "__main__":
    raise SystemExit(main("Matrix completion", WORKLOADS))
