"""Predicting ratings beside other libraries: ``python benchmarks/peers/completion_ratings.py [--quick] [--only TEXT]``.

A tenth of the ratings is the test part, which the judge sees once, at the very end. Every method chooses its settings on a
tenth of the rest, along paths of penalties that begin where hardly anything is fitted and go on until the error there
rises: no grid has an end that knowledge of the data would have put there. Then it is fitted to all but the test part.
The MovieTweetings workloads read the folder named by the variable MOVIETWEETINGS and are left out without it.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import numpy as np
from _compare import Judgement, Quality, Solver, TimesLess, Workload, main
from numba import njit

import solvers
from solvers.completion import select_reg

# MovieTweetings' scale; all predictions are clipped to it.
LEAST, MOST = 0.0, 10.0
# The splits: none of their test parts was looked at while methods or settings were being developed.
SEEDS = (3, 4, 5)


def ratings(name):
    """Users, films, values and shape, each pair once, and which of them are the test part."""

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


def miss(predicted, values):
    """Root mean square error of predictions on the scale."""
    return math.sqrt(float(np.mean((np.clip(predicted, LEAST, MOST) - values) ** 2)))


def predictions(data, choose, fit):
    """Predictions at the test part, the settings chosen, and CPU seconds of the last fit."""
    (users, films, values, shape), test = data
    part = users[~test], films[~test], values[~test], shape
    setting = choose(part)
    began = time.process_time()
    predict = fit(part, setting)
    seconds = time.process_time() - began
    return predict(users[test], films[test]), setting, seconds


def rmse(data, answer):
    (_, _, values, _), test = data
    predicted, setting, seconds = answer
    error = miss(predicted, values[test])
    return Judgement(error, f"RMSE {error:.4f} at {setting}, {seconds:.3f} s the fit")


# -- ours --------------------------------------------------------------------------------------------------------------

RANK = 10
# Like the peers' answers these come without a bound, which would take longer than everything else.
FIT = {"biases": True, "tol": 1e-3, "max_iter": 20, "options": {"certify": False}, "rng": 0}


def chosen_penalty(part):
    """The better of the paths for both kinds of penalty."""
    found = {kind: select_reg(part, RANK, reg_scaling=kind, **FIT) for kind in ("plain", "count")}
    kind = min(found, key=lambda name: found[name].holdout_rmse.min())
    return kind, found[kind].reg


def completed(part, setting):
    kind, reg = setting
    return solvers.complete_matrix(part, RANK, reg=reg, reg_scaling=kind, **FIT).predict


def ours(data):
    return predictions(data, chosen_penalty, completed)


def warm():
    solvers.warm_up("complete_matrix")


# -- peers -------------------------------------------------------------------------------------------------------------


def by_path(fit, strongest, ranks=(0,)):
    """A peer: per rank, penalties halved until the error on a tenth of the training part rises."""

    def choose(part):
        users, films, values, shape = part
        hold = np.random.default_rng(0).random(len(values)) < 0.1
        kept = users[~hold], films[~hold], values[~hold], shape
        best = math.inf, None
        for rank in ranks:
            last, penalty = math.inf, strongest
            while True:
                error = miss(fit(kept, (rank, penalty))(users[hold], films[hold]), values[hold])
                if error >= last:
                    break
                best = min(best, (error, (rank, penalty)))
                last, penalty = error, penalty / 2
        return best[1]

    return lambda data: predictions(data, choose, fit)


def cmfrec(part, setting):
    """cmfrec's collective factors: alternating least squares with biases."""
    import scipy.sparse
    from cmfrec import CMF

    users, films, values, shape = part
    model = CMF(k=setting[0], lambda_=setting[1], nthreads=1, verbose=False, use_float=False)
    model.fit(scipy.sparse.coo_matrix((values, (users, films)), shape=shape))
    return model.predict


@njit(cache=True)
def descend(users, films, values, mean, penalty, rate, epochs, p, q, user_bias, film_bias):
    """Stochastic gradient steps on factors and biases, rating by rating (Funk 2006), as Surprise takes them."""
    for _ in range(epochs):
        for t in range(len(values)):
            u, f = users[t], films[t]
            error = values[t] - mean - user_bias[u] - film_bias[f] - np.dot(p[u], q[f])
            user_bias[u] += rate * (error - penalty * user_bias[u])
            film_bias[f] += rate * (error - penalty * film_bias[f])
            for l in range(p.shape[1]):
                old = p[u, l]
                p[u, l] += rate * (error * q[f, l] - penalty * old)
                q[f, l] += rate * (error * old - penalty * q[f, l])


def sgd(part, setting, rate=0.005, epochs=20):
    """Surprise's SVD with its defaults but for rank and penalty: 20 epochs at rate 0.005 from normal factors of size 0.1."""
    users, films, values, shape = part
    rng = np.random.default_rng(0)
    p, q = (rng.normal(0.0, 0.1, (size, setting[0])) for size in shape)
    user_bias, film_bias = (np.zeros(size) for size in shape)
    mean = float(np.mean(values))
    descend(users, films, values, mean, setting[1], rate, epochs, p, q, user_bias, film_bias)
    return lambda u, f: mean + user_bias[u] + film_bias[f] + np.einsum("tl,tl->t", p[u], q[f])


def compile_sgd():
    one = np.zeros(1, np.int64), np.zeros(1, np.int64), np.ones(1), (1, 1)
    sgd(one, (1, 0.1))


def bias_model(part, setting):
    """Row and column effects by ridge regression around the mean, one penalty for both."""
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
    effects = lsqr(design.tocsr(), values - mean, damp=math.sqrt(setting[1]), atol=1e-6, btol=1e-6)[0]
    return lambda u, f: mean + effects[u] + effects[shape[0] + f]


def workload(name):
    return Workload(
        name=f"ratings-{name}",
        data=ratings(name),
        ours=Solver("complete_matrix", ours, prepare=warm),
        peers=(
            Solver("cmfrec", by_path(cmfrec, 80.0, (10, 20)), needs=("cmfrec",)),
            Solver("SVD by SGD", by_path(sgd, 0.4, (10, 50)), prepare=compile_sgd),
            Solver("biases", by_path(bias_model, 80.0)),
        ),
        judge=rmse,
        targets=(
            *(Quality(1.0, peer) for peer in ("cmfrec", "SVD by SGD", "biases")),
            *(TimesLess(peer, 1.0) for peer in ("cmfrec", "SVD by SGD")),
        ),
        seeds=SEEDS,
        note=f"MovieTweetings {name}, a tenth held out; seconds of choosing the settings and fitting",
    )


WORKLOADS = [workload(name) for name in ("100k", "core15_20", "core20")] if "MOVIETWEETINGS" in os.environ else []

if __name__ == "__main__":
    raise SystemExit(main("Ratings", WORKLOADS))
