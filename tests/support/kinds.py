"""The same numbers as other kinds of array."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np


def read_only(array: np.ndarray) -> np.ndarray:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def strided(array: np.ndarray) -> np.ndarray:
    wide = np.zeros(tuple(2 * size for size in array.shape), dtype=array.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def pandas_frame(array: np.ndarray) -> Any:
    import pandas

    return pandas.DataFrame(array) if array.ndim == 2 else pandas.Series(array)


def strict_on_device(array: np.ndarray) -> Any:
    """On the fake second device, from which NumPy conversion is refused: hidden copies to the host fail."""
    import array_api_strict

    return array_api_strict.asarray(array, device=array_api_strict.Device("device1"))


def torch_tensor(array: np.ndarray) -> Any:
    import torch

    return torch.asarray(array.copy())


# Layouts and containers that must give the very same answer as the float64 array.
SAME_VALUES: dict[str, Callable[[np.ndarray], Any]] = {
    "list": lambda array: array.tolist(),
    "read-only": read_only,
    "strided": strided,
    "fortran": np.asfortranarray,
    "pandas": pandas_frame,
}

NAMESPACES: dict[str, Callable[[np.ndarray], Any]] = {"array_api_strict": strict_on_device}
if importlib.util.find_spec("torch") is not None:
    NAMESPACES["torch"] = torch_tensor
