r"""
Can these data be completed?
============================

A small residual is no recovery. Random matrices of rank 4 are completed from more and fewer entries; the true error, the
residual and the verdict of the solver are compared.
"""

# %%
# Residual, error and verdict
# ---------------------------
import matplotlib.pyplot as plt
import numpy as np

import solvers

rng = np.random.default_rng(5)
n, rank = 80, 4
freedom = rank * (2 * n - rank)
truth = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, n))

ratios = [0.9, 1.1, 1.3, 1.5, 1.8, 2.2, 3.0, 4.0]
errors, residuals, verdicts = [], [], []
for ratio in ratios:
    flat = rng.choice(n * n, int(ratio * freedom), replace=False)
    A = (flat // n, flat % n, truth.flat[flat], (n, n))
    result = solvers.complete_matrix(A, rank, tol=1e-12, max_iter=400, rng=0)
    completed = (result.U * result.s) @ result.V.T
    errors.append(np.linalg.norm(completed - truth) / np.linalg.norm(truth))
    residuals.append(result.rmse / np.sqrt(np.mean(truth**2)))
    verdicts.append(result.determined)
    print(f"{ratio:.1f} entries per degree of freedom: residual {residuals[-1]:.0e}, error {errors[-1]:.0e}, "
          f"determined {result.determined}, short lines {len(result.short_rows) + len(result.short_cols)}")  # fmt: skip

# %%
# Only where the solver says that the data determine the completion does a small residual mean a small error.
figure, axis = plt.subplots()
axis.semilogy(ratios, np.maximum(errors, 1e-16), "o-", label="error of the completion")
axis.semilogy(ratios, np.maximum(residuals, 1e-16), "s--", label="residual at the observed entries")
for ratio, error, verdict in zip(ratios, errors, verdicts, strict=True):
    words = {True: "determined", False: "not determined", None: "left open"}[verdict]
    axis.annotate(words, (ratio, max(error, 1e-16)), rotation=30, fontsize=7)
axis.set_xlabel("observed entries per degree of freedom")
axis.legend()
axis.set_title("What the data determine")
plt.show()
