r"""
Ratings, completed and certified
================================

Film ratings from MovieTweetings, 196 users by 99 films, of which a quarter are known. The completion is proved optimal for its
penalty; the penalty is chosen by held-out error.
"""

# %%
# One completion and its proof
# ----------------------------
import matplotlib.pyplot as plt
import numpy as np

import solvers
from solvers.completion import MatrixCompleter

ratings = solvers.load_example("movietweetings").data
users, films = ratings[:, :2].astype(int).T
A = (users, films, ratings[:, 2], (users.max() + 1, films.max() + 1))
result = solvers.complete_matrix(A, 20, reg=14.0, biases=True, rng=0)
print(f"{result.status.name}: objective {result.fun:.6f}, no matrix below {result.bound:.6f}")
print(solvers.verify(result, A, 20, reg=14.0, biases=True).message)

# %%
# The penalty decides the rank and the error
# ------------------------------------------
# Too small a penalty fits the noise of single ratings; too large a one leaves the biases alone.
penalties = np.array([9.0, 11.0, 13.0, 15.0, 18.0, 22.0])
errors, ranks = [], []
for reg in penalties:
    fit = solvers.complete_matrix(A, 20, reg=reg, biases=True, holdout=0.1, tol=1e-2, max_iter=60, rng=1)
    errors.append(fit.holdout_rmse)
    ranks.append(int(np.sum(fit.s > 1e-6)))
figure, axis = plt.subplots()
axis.plot(penalties, errors, "o-")
axis.set_xlabel("reg")
axis.set_ylabel("held-out RMSE")
for reg, error, rank in zip(penalties, errors, ranks, strict=True):
    axis.annotate(f"rank {rank}", (reg, error), textcoords="offset points", xytext=(4, 6))
axis.set_title("Held-out error against the penalty")

# %%
# What to watch next
# ------------------
# The estimator lists the unseen films of the highest completed rating.
model = MatrixCompleter(20, reg=13.0, biases=True, tol=1e-2, random_state=0).fit(A)
seen = np.full(A[3], np.nan)
seen[users, films] = 1.0
films_of, values = model.top([0, 1, 2], 3, exclude=seen)
for user, (best, value) in enumerate(zip(films_of, values, strict=True)):
    print(f"user {user}: films {best.tolist()}, completed ratings {np.round(value, 1).tolist()}")
plt.show()
