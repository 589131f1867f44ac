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
from solvers.completion import MatrixCompleter, select_reg

ratings = solvers.load_example("movietweetings").data
users, films = ratings[:, :2].astype(int).T
A = (users, films, ratings[:, 2], (users.max() + 1, films.max() + 1))
result = solvers.complete_matrix(A, 20, reg=14.0, biases=True, rng=0)
print(f"{result.status.name}: objective {result.fun:.6f}, no matrix below {result.bound:.6f}")
print(solvers.verify(result, A, 20, reg=14.0, biases=True).message)

# %%
# The penalty decides the error
# -----------------------------
# The path begins where the effects of users and films are all that is fitted. Too small a penalty fits the noise of single
# ratings.
choice = select_reg(A, 20, n_splits=4, biases=True, rng=1)
figure, axis = plt.subplots()
axis.plot(choice.regs, choice.holdout_rmse, "o-")
axis.set_xlabel("reg")
axis.set_ylabel("held-out RMSE, mean of four splits")
axis.annotate("effects alone", (choice.regs[0], choice.holdout_rmse[0]), textcoords="offset points", xytext=(-60, 8))
axis.set_title(f"Held-out error against the penalty; least at {choice.reg:.1f}")

# %%
# What to watch next
# ------------------
# The estimator lists the unseen films of the highest completed rating, for users that it knows and for new ones.
model = MatrixCompleter(20, reg=choice.reg, biases=True, tol=1e-2, random_state=0).fit(A)
seen = np.full(A[3], np.nan)
seen[users, films] = 1.0
films_of, values = model.top([0, 1, 2], 3, exclude=seen)
for user, (best, value) in enumerate(zip(films_of, values, strict=True)):
    print(f"user {user}: films {best.tolist()}, completed ratings {np.round(value, 1).tolist()}")
newcomer = model.complete_rows(([0, 0], [3, 8], [9.0, 4.0], (1, A[3][1])))[0]
print(f"two ratings of a new user, then: {np.argsort(-newcomer)[:3].tolist()}")
plt.show()
