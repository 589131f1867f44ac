"""Random numbers: one seed, one generator, all draws on the host (SPEC 7)."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

__all__ = ["RNG", "generator", "sklearn_seed"]

RNG: TypeAlias = np.random.Generator | np.random.SeedSequence | int | None


def generator(rng: RNG) -> np.random.Generator:
    """The generator meant by ``rng``; a Generator is used as it is, and advanced."""
    if isinstance(rng, bool) or not isinstance(
        rng, (np.random.Generator, np.random.SeedSequence, int, np.integer, type(None))
    ):
        raise TypeError(f"rng must be None, an int, a numpy SeedSequence or a numpy Generator; got {rng!r}")
    if isinstance(rng, (int, np.integer)) and rng < 0:
        raise ValueError(f"rng as an int must be non-negative; got {rng!r}")
    return np.random.default_rng(rng)


def sklearn_seed(rng: np.random.Generator) -> int:
    """A seed for scikit-learn's ``random_state``, drawn from our generator."""
    return int(rng.integers(2**31 - 1))
