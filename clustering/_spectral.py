"""The spectral block of the relaxations: projections that need only the leading eigenpairs of a slowly changing matrix.

Consecutive iterations of a splitting method project nearly equal matrices, and of the projected spectrum only the
eigenvalues above a threshold theta survive. :class:`LeadingEigenpairs` keeps a block that spans a little more than the
surviving eigenvectors, improves it with one Chebyshev filter per matrix, and falls back to a full decomposition where
the block does not reach below theta. The result steers the iteration only: a vector missing from the block costs
convergence, never the validity of a bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np

from solvers._core.arrays import Array, FloatArray, namespace_of, to_host
from solvers._core.linalg import simplex_threshold

__all__ = ["LeadingEigenpairs", "Spectrum", "full_spectrum"]

# Columns kept beyond the surviving ones, after a filter and after a full decomposition.
EXTRA, EXTRA_AFTER_FULL = 3, 7
# A block of more than n / WIDEST columns costs as much as the full decomposition.
WIDEST = 3
# Below this size a full decomposition is cheaper than a filter.
SMALLEST = 48
# From this size on a wider block is tried before a full decomposition.
LARGE = 100
SWEEPS_WHEN_WIDER = 2
LANCZOS_STEPS = 12
# The damped interval is widened downwards by this share of the spectrum, which moves between decompositions.
MARGIN = 0.1


@dataclass(frozen=True)
class Spectrum:
    """Z = vectors diag(values) vectors^T + q q^T; values descending and positive."""

    values: FloatArray
    vectors: Array
    q: Array

    def factor(self) -> Array:
        """U with Z = U U^T, q its last column."""
        xp = namespace_of(self.vectors)
        roots = _on_device(np.sqrt(self.values), self.vectors)
        return xp.concat([self.vectors * roots, xp.expand_dims(self.q, axis=1)], axis=1)

    def matrix(self) -> Array:
        """Z as an (n, n) array."""
        factor = self.factor()
        return factor @ factor.T


class LeadingEigenpairs:
    """Eigenpairs of a sequence of symmetric matrices on the complement of ``q`` (everywhere if None) above a threshold.

    The threshold is given, or else that of the projection of the eigenvalues on the simplex of sum ``trace``. ``kernels`` is
    the table of functions for the kind of array, ``degree`` that of the filters: the more crowded the spectrum is near the
    threshold, the higher.
    """

    def __init__(
        self, q: Array | None, trace: float, kernels: ModuleType, degree: int, threshold: float | None = None
    ) -> None:
        self._degree = degree
        self._fixed = threshold
        self.q = q
        self._kernels = kernels
        self.trace = trace
        self.full_decompositions = 0
        self._block: Array | None = None
        self._low = 0.0
        self._restart = True

    def restart(self) -> None:
        """The next matrix differs much from the last: decompose it in full."""
        self._restart = True

    def project(self, matrix: Array) -> tuple[FloatArray, Array]:
        """Positive parts of the shifted eigenvalues, descending, and their vectors."""
        n = matrix.shape[0]
        if self._block is None or n <= SMALLEST or (self._restart and n < LARGE):
            return self._decompose(matrix)
        block, sweeps, extra = self._block, 1, EXTRA
        if self._restart:
            self._low, block, sweeps, extra = (
                self._lowest(matrix),
                self._wider(block),
                SWEEPS_WHEN_WIDER,
                EXTRA_AFTER_FULL,
            )
        while block.shape[1] * WIDEST <= n:
            for _ in range(sweeps):
                values, block = self._filtered(matrix, block, self._low)
            theta = self._threshold(values)
            if self._low <= values[0] <= theta:
                self._restart = False
                return self._keep(values, block, theta, extra)
            if n < LARGE:
                break
            self._low, block, sweeps, extra = (
                self._lowest(matrix),
                self._wider(block),
                SWEEPS_WHEN_WIDER,
                EXTRA_AFTER_FULL,
            )
        return self._decompose(matrix)

    def estimate(self, matrix: Array, count: int, scale: float) -> float:
        """Sum of the ``count`` largest eigenvalues of ``scale`` times the last matrix less one between 0 and 1.

        Apart from rounding it is not above the true sum.
        """
        block = self._block
        if block is None or block.shape[1] < count:
            return float(np.sum(full_spectrum(matrix, self.q)[0][-count:]))
        for _ in range(2):
            values, block = self._filtered(matrix, block, scale * (self._low - 1.0))
        return float(np.sum(values[-count:]))

    def _decompose(self, matrix: Array) -> tuple[FloatArray, Array]:
        self.full_decompositions += 1
        self._restart = False
        values, vectors = full_spectrum(matrix, self.q)
        self._low = float(values[0] - MARGIN * (values[-1] - values[0]))
        return self._keep(values, vectors, self._threshold(values), EXTRA_AFTER_FULL)

    def _threshold(self, values: FloatArray) -> float:
        return simplex_threshold(values, self.trace) if self._fixed is None else self._fixed

    def _keep(self, values: FloatArray, vectors: Array, theta: float, extra: int) -> tuple[FloatArray, Array]:
        """Split ascending eigenpairs into the surviving ones and those that stay in the block."""
        xp = namespace_of(vectors)
        size = len(values)
        active = size - int(np.searchsorted(values, theta, side="right"))
        self._block = vectors[:, max(0, size - active - extra) :]
        kept = xp.flip(vectors[:, size - active :], axis=1)
        # A copy: a reversed array of one entry counts as contiguous, with a stride that other libraries refuse.
        return (values[size - active :] - theta)[::-1].copy(), kept

    def _wider(self, block: Array) -> Array:
        """The block with half as many random columns again; which ones does not matter."""
        xp = namespace_of(block)
        columns = max(EXTRA_AFTER_FULL, block.shape[1] // 2)
        fresh = np.random.default_rng(block.shape[1]).standard_normal((block.shape[0], columns))
        return xp.linalg.qr(self._deflate(xp.concat([block, _on_device(fresh, block)], axis=1))).Q

    def _lowest(self, matrix: Array) -> float:
        """A number below the spectrum as a few Lanczos steps see it, by their residual and the margin."""
        xp = namespace_of(matrix)
        start = np.random.default_rng(0).standard_normal((matrix.shape[0], 1))
        vector = self._deflate(_on_device(start, matrix))
        vector = vector / xp.sqrt(xp.sum(vector * vector))
        before, beta = xp.zeros_like(vector), 0.0
        diagonal, beside = [], []
        for _ in range(LANCZOS_STEPS):
            image = self._apply(matrix, vector) - beta * before
            alpha = float(xp.sum(image * vector))
            image = image - alpha * vector
            beta = float(xp.sqrt(xp.sum(image * image)))
            diagonal.append(alpha)
            beside.append(beta)
            if beta <= 1e-12 * abs(alpha):
                break
            before, vector = vector, image / beta
        values = np.linalg.eigvalsh(np.diag(diagonal) + np.diag(beside[:-1], 1) + np.diag(beside[:-1], -1))
        return float(values[0] - beta - MARGIN * (values[-1] - values[0]))

    def _filtered(self, matrix: Array, block: Array, low: float) -> tuple[FloatArray, Array]:
        """One Chebyshev filter, orthonormalisation and Rayleigh-Ritz step; ascending Ritz pairs."""
        xp = namespace_of(matrix)
        image = self._apply(matrix, block)
        quotients = to_host(xp.sum(block * image, axis=0))
        high, top = float(np.min(quotients)), float(np.max(quotients))
        if top > high > low:
            block = self._chebyshev(matrix, block, image, low, high, top)
        basis = xp.linalg.qr(self._deflate(block)).Q
        small = basis.T @ self._apply(matrix, basis)
        values, rotation = xp.linalg.eigh(0.5 * (small + small.T))
        return to_host(values), basis @ rotation

    def _chebyshev(self, matrix: Array, block: Array, image: Array, low: float, high: float, top: float) -> Array:
        """Scaled Chebyshev polynomial that is small on [low, high] (Zhou and Saad 2007)."""
        half, centre = (high - low) / 2.0, (high + low) / 2.0
        sigma = first = half / (top - centre)
        before, now = block, (image - centre * block) * (sigma / half)
        for _ in range(self._degree - 1):
            following = 1.0 / (2.0 / first - sigma)
            after = self._kernels.filter_step(
                matrix @ now, now, before, self.q, centre, 2.0 * following / half, sigma * following
            )
            before, now, sigma = now, after, following
        return now

    def _apply(self, matrix: Array, block: Array) -> Array:
        return self._deflate(matrix @ block)

    def _deflate(self, block: Array) -> Array:
        return block if self.q is None else self._kernels.deflate(block, self.q)


def full_spectrum(matrix: Array, q: Array | None) -> tuple[FloatArray, Array]:
    """All eigenpairs, ascending, of a symmetric matrix, or of its restriction to the complement of ``q``.

    The direction q is moved out of the way by a shift below every eigenvalue, so that it never takes part.
    """
    xp = namespace_of(matrix)
    if q is None:
        values, vectors = xp.linalg.eigh(0.5 * (matrix + matrix.T))
        return to_host(values), vectors
    image = matrix @ q
    inner = float(q @ image)
    column = xp.expand_dims(q, axis=1)
    projected = matrix - xp.expand_dims(image, axis=1) * q - column * image
    low = float(xp.sqrt(xp.sum(matrix * matrix)))
    projected = projected + (inner - 2.0 * low - 1.0) * (column * q)
    values, vectors = xp.linalg.eigh(0.5 * (projected + projected.T))
    return to_host(values)[1:], vectors[:, 1:]


def _on_device(host: FloatArray, like: Array) -> Array:
    return host if isinstance(like, np.ndarray) else namespace_of(like).asarray(host, device=like.device)
