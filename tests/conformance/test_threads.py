"""The number of Numba threads never changes an answer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

PROGRAM = """
import hashlib, pickle, sys
sys.path.insert(0, "tests/support")
import solvers
from cases import all_cases
from solvers._catalogue import entry_named
from solvers._core.arrays import kind_of, to_host
for case in all_cases():
    for method in case.methods:
        seed = {} if "rng" in entry_named(case.entry).omits else {"rng": 92821}
        result = getattr(solvers, case.entry)(*case.problem(), method=method, **{**case.keywords, **seed})
        parts = result.x if isinstance(result.x, tuple) else (result.x,)
        data = [part.toarray() if kind_of(part) == "sparse" else to_host(part) for part in parts if part is not None]
        digest = hashlib.sha256(b"".join(part.tobytes() for part in data)).hexdigest()[:16]
        print(case.entry, method, repr(result.fun), repr(result.bound), digest)
"""


@pytest.mark.slow
def test_one_and_two_numba_threads_give_the_same_bits() -> None:
    outputs = []
    for threads in ("1", "2"):
        environment = {
            **os.environ,
            "NUMBA_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": threads,
        }
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=ROOT, env=environment, check=True
        )
        outputs.append(run.stdout)
    assert outputs[0] == outputs[1]
    assert outputs[0]
