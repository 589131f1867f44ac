"""The spectral block of the relaxation: {Z psd, Zq = q, tr Z = K}, projected on exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solvers._core.arrays import Array, FloatArray, namespace_of, to_host
from solvers._core.linalg import simplex_threshold

__all__ = ["Spectrum", "project_spectrum"]


@dataclass(frozen=True)
class Spectrum:
    """Z = vectors diag(values) vectors^T + q q^T; values descending and positive."""

    values: FloatArray
    vectors: Array
    q: Array

    def matrix(self) -> Array:
        """Z as an (n, n) array."""
        xp = namespace_of(self.vectors)
        values = xp.asarray(self.values, device=None if isinstance(self.vectors, np.ndarray) else self.vectors.device)
        return (self.vectors * values) @ self.vectors.T + xp.expand_dims(self.q, axis=1) * self.q


def project_spectrum(matrix: Array, q: Array, trace: float) -> Spectrum:
    """Nearest point of {Z psd, Zq = q, tr Z = trace + 1} to a symmetric matrix.

    The eigenvalues of P matrix P on the complement of q are projected on the simplex of the given sum. The direction q
    itself is moved out of the way by a shift below every eigenvalue, so that it never takes part.
    """
    xp = namespace_of(matrix)
    image = matrix @ q
    inner = float(q @ image)
    column = xp.expand_dims(q, axis=1)
    projected = matrix - xp.expand_dims(image, axis=1) * q - column * image
    low = float(xp.sqrt(xp.sum(matrix * matrix)))
    projected = projected + (inner - 2.0 * low - 1.0) * (column * q)
    values, vectors = xp.linalg.eigh(0.5 * (projected + projected.T))
    spectrum = to_host(values)[1:]
    theta = simplex_threshold(spectrum, trace)
    first = 1 + int(np.searchsorted(spectrum, theta, side="right"))
    count = len(spectrum) + 1 - first
    # Descending order, built by flipping the block of kept columns.
    kept = xp.flip(vectors[:, first:], axis=1)
    return Spectrum(np.ascontiguousarray((spectrum[len(spectrum) - count :] - theta)[::-1]), kept, q)
