"""Completion beyond one memory: ``python benchmarks/peers/completion_platform.py [--quick] [--only TEXT]``.

Sweeps of a matrix in files against sweeps of the same matrix in memory, with a warm page cache; the memory that a process
needs for them; and how a sweep's time grows with the rank and with the number of entries.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _compare import Judgement, Quality, Solver, Workload, main

import solvers
from solvers.completion import StoredMatrix
from solvers.completion._blocked_entries import BlockEntries
from solvers.completion._blocks import Frame
from solvers.completion._observations import read_observations
from solvers.completion._problem import completion_problem
from solvers.completion._sweeps import Factors, SweepRule, Workspace, sweep

ACCURACY = 0.1
BLOCK_BYTES = 8 << 20


def mask(n, per_row):
    """A uniform mask with nearly equal rows, values of unit variance, as CSR in single precision."""

    def data(seed):
        import scipy.sparse

        rng = np.random.default_rng(seed)
        keys = np.unique(np.repeat(np.arange(n), per_row) * n + rng.integers(0, n, n * per_row))
        values = rng.standard_normal(len(keys)).astype(np.float32)
        return scipy.sparse.csr_array((values, (keys // n, keys % n)), shape=(n, n))

    return data


def in_memory(matrix, rank):
    """The entries in memory."""
    observed = read_observations(matrix, None, "error")
    problem = completion_problem(
        observed, observed.keep(np.zeros(observed.size, bool)), rank,
        reg=1.0, reg_scaling="plain", loss="l2", delta="auto", biases=False,
    )  # fmt: skip
    return Workspace(problem, np.float32)


def in_files(stored):
    """The entries in files."""
    return BlockEntries(stored, Frame(), 1.0, 1.0, np.float32)


def start(shape, rank):
    """Random orthonormal factors."""
    rng = np.random.default_rng(0)
    U, V = (np.linalg.qr(rng.standard_normal((size, rank)))[0].astype(np.float32) for size in shape)
    return Factors(U, np.linspace(2.0, 1.0, rank), V)


def seconds_per_sweep(entries, rank, rule, repetitions=5):
    """Median CPU seconds of a sweep over rows and columns, after one that is not counted."""
    factors, _ = sweep(entries, start(entries.shape, rank), rule)
    times = []
    for _ in range(repetitions):
        began = time.process_time()
        sweep(entries, factors, rule)
        times.append(time.process_time() - began)
    return sorted(times)[repetitions // 2]


# -- out of core: time ---------------------------------------------------------------------------------------------


def sweeps_of_both(rank, rule):
    """Seconds a sweep in memory and from files, turn by turn on the same matrix."""

    def run(matrix):
        with tempfile.TemporaryDirectory() as folder:
            stored = StoredMatrix.write(folder, matrix, dtype=np.float32, block_bytes=BLOCK_BYTES)
            here, there = in_memory(matrix, rank), in_files(stored)
            pairs = [[seconds_per_sweep(entries, rank, rule, 2) for entries in (here, there)] for _ in range(3)]
            return np.median(np.array(pairs), axis=0), len(stored.ranges())

    return run


def ratio_of_sweeps(matrix, answer):
    (here, there), blocks = answer
    words = f"{there:.3f} s a sweep from {blocks} blocks of files, {here:.3f} s in memory"
    return Judgement(there / here, words)


# -- out of core: memory -------------------------------------------------------------------------------------------

CHILD = """
import ctypes, json, sys
import numpy as np
from solvers.completion import StoredMatrix
from solvers.completion._blocked_entries import BlockEntries
from solvers.completion._blocks import Frame
from solvers.completion._sweeps import Factors, SweepRule, sweep

folder, tiny, rank, block_bytes = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
rng = np.random.default_rng(0)

def start(shape):
    U, V = (np.linalg.qr(rng.standard_normal((size, rank)).astype(np.float32))[0] for size in shape)
    return Factors(U, np.linspace(2.0, 1.0, rank), V)

def sweeps(folder, count):
    stored = StoredMatrix(folder, block_bytes=block_bytes)
    entries = BlockEntries(stored, Frame(), 1.0, 1.0, np.float32)
    factors = start(stored.shape)
    forget()
    for _ in range(count):
        factors, _ = sweep(entries, factors, SweepRule("auto", 0.1))
    return stored

def forget():
    # What making the start has left behind in the heap, and the peak until now.
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")

def peak():
    with open("/proc/self/status", encoding="ascii") as lines:
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

sweeps(tiny, 2)  # libraries and kernels are loaded, as much as they will be
forget()
before = peak()
stored = sweeps(folder, 3)
print(json.dumps({"bytes": peak() - before, "shape": stored.shape, "size": stored.size}))
"""


def peak_memory(rank, block_bytes):
    """Bytes that sweeps of a matrix in files add to a process, its allowance, and what the files hold."""

    def run(matrix):
        with tempfile.TemporaryDirectory() as folder:
            StoredMatrix.write(Path(folder) / "whole", matrix, dtype=np.float32)
            StoredMatrix.write(Path(folder) / "tiny", matrix[:100, :100].tocsr(), dtype=np.float32)
            arguments = [f"{folder}/whole", f"{folder}/tiny", str(rank), str(block_bytes)]
            out = subprocess.run(
                [sys.executable, "-c", CHILD, *arguments], stdout=subprocess.PIPE, check=True, text=True, cwd=folder
            )
        seen = json.loads(out.stdout)
        factors = 4 * rank * sum(seen["shape"])
        return seen["bytes"], factors, block_bytes, 16 * seen["size"]

    return run


def share_of_allowance(matrix, answer):
    used, factors, block, whole = (part / 2**20 for part in answer)
    words = (
        f"{used:.1f} MiB more than before, for factors of {factors:.0f} MiB and blocks of {block:.0f} MiB; "
        f"the files hold {whole:.0f} MiB"
    )
    return Judgement(used / (factors + 2 * block), words)


# -- scaling -------------------------------------------------------------------------------------------------------

RANKS = (10, 20, 40, 80, 160)
PER_ROW = (30, 60, 125, 250, 500)


def curve(kind):
    """Seconds a sweep along the ranks (at 250 entries a row), or along the entries (at rank 50)."""

    def run(_):
        points = {}
        for rule, name in ((SweepRule("auto", ACCURACY), "by cost"), (SweepRule("exact"), "normal equations")):
            points[name] = []
            for value in RANKS if kind == "rank" else PER_ROW:
                rank, per_row = (value, 250) if kind == "rank" else (50, value)
                matrix = mask(4000, per_row)(0)
                points[name].append((value, seconds_per_sweep(in_memory(matrix, rank), rank, rule, 2)))
        return points

    return run


def slope(_, points):
    """Exponent of the last doubling, by cost; the whole table in words."""
    table = "; ".join(f"{name}: {', '.join(f'{v}: {s:.3f} s' for v, s in rows)}" for name, rows in points.items())
    (v0, s0), (v1, s1) = points["by cost"][-2:]
    return Judgement(float(np.log(s1 / s0) / np.log(v1 / v0)), table)


def warm():
    solvers.warm_up("complete_matrix")


WORKLOADS = [
    Workload(
        name="out-of-core-time",
        data=mask(20_000, 250),
        ours=Solver("files against memory", sweeps_of_both(50, SweepRule("auto", ACCURACY)), prepare=warm),
        judge=ratio_of_sweeps,
        targets=(Quality(1.3),),
        seeds=(0,),
        note="20,000 x 20,000, 5e6 entries, rank 50, float32, page cache warm; ratio of the sweeps' CPU seconds",
    ),
    Workload(
        name="out-of-core-memory",
        data=mask(20_000, 250),
        ours=Solver("files", peak_memory(20, BLOCK_BYTES), prepare=warm),
        judge=share_of_allowance,
        targets=(Quality(1.0),),
        seeds=(0,),
        note="20,000 x 20,000, 5e6 entries, rank 20, float32; peak memory over that of factors and two blocks",
    ),
    *(
        Workload(
            name=f"scaling-{kind}",
            data=lambda seed: None,
            ours=Solver("complete_matrix", curve(kind), prepare=warm),
            judge=slope,
            seeds=(0,),
            note="4,000 x 4,000, float32, seconds a sweep; the figure is the exponent of the last doubling",
        )
        for kind in ("rank", "entries")
    ),
]

if __name__ == "__main__":
    raise SystemExit(main("Matrix completion: files and scaling", WORKLOADS))
