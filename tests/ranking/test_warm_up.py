"""After warming up no call compiles: time limits hold from the first one on."""

import subprocess
import sys

PROGRAM = """
import numpy as np
import solvers
from solvers._core.jit import compile_seconds

solvers.warm_up("rank_tsp")
before = compile_seconds()
rng = np.random.default_rng(1)
points = rng.random((30, 2))
for scores in (rng.random((16, 16)), rng.random((30, 30)), -np.hypot(*(points[:, None] - points).T).copy()):
    for method in ("auto", "exact", "heuristic", "greedy"):
        for limit in (None, 5.0):
            solvers.verify(solvers.rank_tsp(scores, method=method, time_limit=limit, rng=0), scores)
assert compile_seconds() == before, compile_seconds() - before
"""


def test_rank_tsp_compiles_nothing_once_warmed_up():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
