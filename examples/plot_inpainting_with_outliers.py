r"""
Inpainting with wrong pixels
============================

A pattern of low rank is seen at 40 % of its pixels, and a tenth of these are wrong. Least squares smears the wrong pixels over
whole rows and columns; the Huber loss with guarded rejection finds them and restores the pattern to rounding level.
"""

# %%
# The picture, as seen
# --------------------
import matplotlib.pyplot as plt
import numpy as np

import solvers

rng = np.random.default_rng(2)
x, y = np.linspace(0.0, 1.0, 160), np.linspace(0.0, 1.0, 200)
picture = np.outer(np.sin(6 * np.pi * x), np.cos(4 * np.pi * y)) + np.outer(x, 1.0 - y) + np.outer((x > 0.4), (y < 0.7))
seen = np.where(rng.random(picture.shape) < 0.4, picture, np.nan)
wrong = rng.choice(np.flatnonzero(~np.isnan(seen)), 1280, replace=False)
seen.flat[wrong] += rng.choice([-6.0, 6.0], len(wrong))

# %%
# Least squares and Huber
# -----------------------
squares = solvers.complete_matrix(seen, 3, rng=0)
robust = solvers.complete_matrix(seen, 3, loss="huber", rng=0)
panels = {"seen": seen}
for name, result in (("least squares", squares), ("Huber with rejection", robust)):
    panels[name] = (result.U * result.s) @ result.V.T
    error = np.linalg.norm(panels[name] - picture) / np.linalg.norm(picture)
    print(f"{name}: relative error {error:.1e}")
listed = {tuple(pair) for pair in robust.outliers}
spoilt = set(zip(*np.unravel_index(wrong, picture.shape), strict=True))
print(f"{len(spoilt & listed)} of {len(spoilt)} wrong pixels listed, and {len(listed - spoilt)} sound ones")

figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
for axis, (name, panel) in zip(axes, panels.items(), strict=True):
    axis.imshow(panel, vmin=-1.5, vmax=2.5, cmap="viridis")
    axis.set_title(name)
    axis.set_axis_off()
plt.show()
