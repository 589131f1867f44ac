"""Matrix completion beside other libraries: ``python benchmarks/peers/completion.py [--quick] [--only TEXT]``.

Recovery is judged by the distance from the matrix that the entries were taken from, ratings by held-out error, sweeps by
their time alone. The MovieTweetings workloads read the folder named by the variable MOVIETWEETINGS and are left out
without it.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from pathlib import Path

import numpy as np
from _compare import Judgement, Quality, Seconds, Solver, TimesLess, Workload, main

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


def scaling_points(ranks=(25, 50, 100), sizes=(1_250_000, 2_500_000, 5_000_000), n=20_000, seed=0):
    """Seconds of a sweep of three steps, of one to one per cent, and by normal equations, for ranks and numbers of entries.

    Rows ``(entries, rank, steps, cg3, cg_one_percent, exact)``, medians of five interleaved sweeps.
    """
    points = []
    for size in sizes:
        data = big_mask(seed, n, size // n)
        for rank in ranks:
            here = Sweeps(data, rank)
            steps = here.steps_for(0.01)
            kinds = (("cg", 3), ("cg", steps), ("exact", 0))
            times = [[here.seconds(*kind) for kind in kinds] for _ in range(5)]
            points.append((len(data[2]), rank, steps, *np.median(times, axis=0).tolist()))
    return points


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


# -- ratings ---------------------------------------------------------------------------------------------------------


def ratings(name):
    def data(seed):
        folder = Path(os.environ["MOVIETWEETINGS"])
        if name == "100k":
            stored = np.load(folder / "movietweetings_100k.npz")
            users, films, values = stored["user"], stored["item"], stored["rating"].astype(np.float64)
        else:
            users, films, values = np.loadtxt(folder / f"movietweetings_{name}.csv", delimiter=",", skiprows=1).T
        users, films = users.astype(np.int64), films.astype(np.int64)
        keys = users * (films.max() + 1) + films
        _, first = np.unique(keys, return_index=True)
        users, films, values = users[first], films[first], values[first]
        test = np.random.default_rng(seed).random(len(values)) < 0.1
        return (users, films, values, (int(users.max()) + 1, int(films.max()) + 1)), test

    return data


def training(data):
    (users, films, values, shape), test = data
    return users[~test], films[~test], values[~test], shape


# Settings of every method, written down before any error on a test part was seen, the same for all sets of ratings: per
# family (ranks, kinds of penalty) penalties from strong to weak.
OURS = [
    [(scaling, reg) for reg in regs] for scaling, regs in (("plain", (80, 40, 20, 10)), ("count", (1.0, 0.5, 0.25)))
]
CMFREC = [[(rank, penalty) for penalty in (40.0, 20.0, 10.0, 5.0)] for rank in (10, 20)]
SURPRISE = [[(rank, penalty) for penalty in (0.2, 0.1, 0.05, 0.02)] for rank in (10, 50)]
BIASES = [[80.0, 40.0, 20.0, 10.0, 5.0, 2.5]]


def tuned(fit, families):
    """Settings chosen on a tenth of the training data, each family up to where that error rises; then all of them fitted."""

    def run(data):
        (all_users, all_films, _, shape), test = data
        users, films, values, _ = training(data)
        hold = np.random.default_rng(1).random(len(values)) < 0.1
        part = users[~hold], films[~hold], values[~hold], shape
        best = math.inf, None, None
        for settings in families:
            last, model = math.inf, None
            for setting in settings:
                model, predict = fit(part, setting, model)
                score = float(np.mean((np.clip(predict(users[hold], films[hold]), 0, 10) - values[hold]) ** 2))
                if score >= last:
                    break
                last = score
                if score < best[0]:
                    best = score, setting, model
        _, predict = fit((users, films, values, shape), *best[1:])
        return predict(all_users[test], all_films[test]), best[1]

    return run


def ours_fit(part, setting, last):
    """Rank 10; the path of penalties is followed from solution to solution."""
    scaling, reg = setting
    result = solvers.complete_matrix(
        part, 10, reg=reg, reg_scaling=scaling, biases=True, tol=0.01, x0=last, rng=0, options={"stage_sweeps": 1}
    )
    return result, result.predict


def surprise_fit(part, setting, _):
    """Surprise's SVD: stochastic gradient steps on factors and biases (Funk 2006)."""
    import pandas as pd
    from surprise import SVD, Dataset, Reader

    users, films, values, _ = part
    frame = pd.DataFrame({"user": users, "film": films, "rating": values})
    data = Dataset.load_from_df(frame, Reader(rating_scale=(0, 10))).build_full_trainset()
    model = SVD(n_factors=setting[0], reg_all=setting[1], random_state=0).fit(data)
    return None, lambda u, f: np.array([model.predict(a, b).est for a, b in zip(u.tolist(), f.tolist(), strict=True)])


def cmfrec_fit(part, setting, _):
    import scipy.sparse
    from cmfrec import CMF

    users, films, values, shape = part
    model = CMF(k=setting[0], lambda_=setting[1], nthreads=1, verbose=False, use_float=False)
    model.fit(scipy.sparse.coo_matrix((values, (users, films)), shape=shape))
    return None, model.predict


def bias_fit(part, shrinkage, _):
    """Row and column effects by ridge regression."""
    import scipy.sparse
    from scipy.sparse.linalg import lsqr

    users, films, values, shape = part
    at, mean = np.arange(len(values)), float(np.mean(values))
    ones = np.ones(len(values))
    design = scipy.sparse.hstack(
        [
            scipy.sparse.csr_array((ones, (at, index)), shape=(len(at), size))
            for index, size in zip((users, films), shape, strict=True)
        ]
    )
    effects = lsqr(design.tocsr(), values - mean, damp=math.sqrt(shrinkage), atol=1e-6, btol=1e-6)[0]
    return None, lambda u, f: mean + effects[u] + effects[shape[0] + f]


def rmse(data, answer):
    (_, _, values, _), test = data
    predicted, setting = answer
    miss = math.sqrt(float(np.mean((np.clip(predicted, 0, 10) - values[test]) ** 2)))
    return Judgement(miss, f"RMSE {miss:.4f} at {setting}")


def ratings_workload(name):
    return Workload(
        name=f"ratings-{name}",
        data=ratings(name),
        ours=Solver("complete_matrix", tuned(ours_fit, OURS), prepare=warm),
        peers=(
            Solver("cmfrec", tuned(cmfrec_fit, CMFREC), needs=("cmfrec",)),
            Solver("Surprise", tuned(surprise_fit, SURPRISE), needs=("surprise",)),
            Solver("biases", tuned(bias_fit, BIASES)),
        ),
        judge=rmse,
        targets=(
            *(Quality(1.0, peer) for peer in ("cmfrec", "Surprise", "biases")),
            *(TimesLess(peer, 1.0) for peer in ("cmfrec", "Surprise")),
        ),
        note=f"MovieTweetings {name}, a tenth held out; settings chosen on a tenth of the rest; seconds for all of it",
    )


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
if "MOVIETWEETINGS" in os.environ:
    WORKLOADS += [ratings_workload(name) for name in ("100k", "core15_20", "core20")]

if __name__ == "__main__":
    raise SystemExit(main("Matrix completion", WORKLOADS))
