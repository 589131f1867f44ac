"""Arrays of any kind: what they are, how they become read-only float64, how they come home.

Nothing here moves data between devices except :func:`to_host`, which callers name on purpose.
"""

from __future__ import annotations

import math
import os
import sys
import warnings
from types import ModuleType
from typing import Any, Literal, TypeAlias

import array_api_compat
import array_api_compat.numpy as host_namespace
import numpy as np
import numpy.typing as npt

from solvers._core.errors import BackendError, InvalidProblemError, PrecisionWarning

__all__ = [
    "Array",
    "FloatArray",
    "IntArray",
    "Kind",
    "as_float_array",
    "as_integer_labels",
    "as_permutation",
    "available_memory",
    "dimensions",
    "freeze",
    "host_namespace",
    "kind_of",
    "namespace_of",
    "refuse_beyond_memory",
    "to_host",
]

Array: TypeAlias = Any  # any array-API array
FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
Kind: TypeAlias = Literal["numpy", "cupy", "array-api", "sparse"]

# Integers below this are exact in float64.
LARGEST_EXACT_INTEGER = 2.0**53

# Fraction of the memory that is free now which a call may plan to use.
MEMORY_SHARE = 0.8


def kind_of(value: Any) -> Kind:
    """What an argument is; lists, pandas objects and scalars count as NumPy."""
    if type(value) is np.ndarray:
        return "numpy"
    if "scipy.sparse" in sys.modules and sys.modules["scipy.sparse"].issparse(value):
        return "sparse"
    if isinstance(value, (np.ndarray, np.generic)) or not array_api_compat.is_array_api_obj(value):
        return "numpy"
    return "cupy" if array_api_compat.is_cupy_array(value) else "array-api"


def namespace_of(value: Array) -> ModuleType:
    """The array-API namespace of an array."""
    numpy_like = kind_of(value) == "numpy"
    namespace: ModuleType = host_namespace if numpy_like else array_api_compat.array_namespace(value)
    return namespace


def to_host(value: Array) -> npt.NDArray[Any]:
    """A NumPy copy or view of an array, wherever it lives. The explicit transfer."""
    kind = kind_of(value)
    if kind == "numpy":
        return np.asarray(value)
    if kind == "cupy":
        return np.asarray(value.get())
    if array_api_compat.is_torch_array(value):
        return np.asarray(value.detach().cpu().numpy())
    xp = namespace_of(value)
    devices = (
        [str(d) for d in xp.__array_namespace_info__().devices()] if hasattr(xp, "__array_namespace_info__") else []
    )
    for device in xp.__array_namespace_info__().devices() if devices else []:
        if "cpu" in str(device).lower():
            value = array_api_compat.to_device(value, device)
            break
    return np.from_dlpack(value) if hasattr(value, "__dlpack__") else np.asarray(value)


def freeze(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A read-only view."""
    view = array.view()
    view.flags.writeable = False
    return view


def as_float_array(
    value: Any,
    name: str,
    *,
    ndim: int,
    order: Literal["C", "F"] = "C",
    finite: bool = True,
    expected: str = "",
) -> Array:
    """Validate one real array argument: float64, finite, non-empty, of the given number of dimensions.

    NumPy-like input becomes a read-only view or copy in the given memory order; other array kinds keep their namespace
    and device. ``expected`` describes the meaning in messages, as in ``"(n, p) points"``.
    """
    what = f"{name} must be {expected or f'a {ndim}-dimensional array'} of finite real numbers"
    kind = kind_of(value)
    if kind == "sparse":
        raise BackendError(f"{what}; got a scipy.sparse {type(value).__name__}: pass {name}.toarray()")
    array = _numpy_float(value, what, order) if kind == "numpy" else _namespace_float(value, what)
    if array.ndim != ndim:
        hint = " (reshape a single column with [:, None], a row with [None, :])" if (ndim, array.ndim) == (2, 1) else ""
        raise InvalidProblemError(f"{what}; got {array.ndim} dimension(s), shape {tuple(array.shape)}{hint}")
    if math.prod(array.shape) == 0:
        raise InvalidProblemError(f"{what}; got an empty array, shape {tuple(array.shape)}")
    if finite:
        _require_finite(array, what)
    return array


def as_integer_labels(value: Any, name: str, *, length: int) -> Array:
    """Validate a vector of non-negative integers; integral floats are accepted. Stays where it is."""
    what = f"{name} must be {length} non-negative integers, one per row"
    kind = kind_of(value)
    if kind == "sparse":
        raise BackendError(f"{what}; got a scipy.sparse {type(value).__name__}")
    xp = namespace_of(value)
    numbered = f"{what} (np.unique({name}, return_inverse=True)[1] numbers labels of any type)"
    array = _numpy_plain(value, numbered) if kind == "numpy" else value
    if array.ndim != 1 or array.shape[0] != length:
        raise InvalidProblemError(f"{what}; got shape {tuple(array.shape)}")
    if not xp.isdtype(array.dtype, ("integral", "real floating")):
        raise InvalidProblemError(f"{numbered}; got dtype {array.dtype}")
    if xp.isdtype(array.dtype, "real floating"):
        whole = xp.isfinite(array) & (xp.abs(array) < LARGEST_EXACT_INTEGER) & (array == xp.floor(array))
        if not bool(xp.all(whole)):
            raise InvalidProblemError(f"{what}; got values that are not integers")
    labels = xp.astype(array, xp.int64)
    if length and int(xp.min(labels)) < 0:
        raise InvalidProblemError(f"{what}; got {int(xp.min(labels))}")
    return freeze(labels) if kind == "numpy" else labels


def as_permutation(value: Any, length: int) -> IntArray | None:
    """A permutation of 0..length-1 given on the host; None if the value is none."""
    if kind_of(value) != "numpy":
        return None
    try:
        order = np.asarray(value)
    except ValueError:
        return None
    if order.dtype.kind not in "iuf" or order.shape != (length,):
        return None
    return order.astype(np.int64) if np.array_equal(np.sort(order), np.arange(length)) else None


def dimensions(value: Any) -> int:
    """Number of dimensions of an array_like; -1 of a ragged one."""
    try:
        return int(np.ndim(value))
    except ValueError:
        return -1


def available_memory() -> int:
    """Bytes of memory free on the host now; a very large number where the system does not tell."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return sys.maxsize


def refuse_beyond_memory(needed: float, *, what: str, instead: str) -> None:
    """Raise before any work if ``needed`` bytes would not fit; the message gives the estimate and a way out."""
    free = available_memory()
    if needed > MEMORY_SHARE * free:
        raise InvalidProblemError(
            f"{what} would need about {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free; {instead}"
        )


def _numpy_plain(value: Any, what: str) -> npt.NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InvalidProblemError(f"{what}; got a ragged sequence ({error})") from None
    if np.ma.isMaskedArray(value) and np.ma.getmaskarray(value).any():
        raise InvalidProblemError(f"{what}; got a masked array with masked entries")
    if array.dtype == object:
        raise InvalidProblemError(f"{what}; got {_not_numeric(value)}")
    return array


def _not_numeric(value: Any) -> str:
    """What makes a value an array of objects, by the names of a table's columns where there are any."""
    try:
        columns = [str(name) for name, kind in value.dtypes.items() if getattr(kind, "kind", "O") not in "bifu"]
    except (AttributeError, TypeError):
        columns = []
    return f"columns that are not numeric: {', '.join(columns[:5])}" if columns else "dtype object"


def _numpy_float(value: Any, what: str, order: Literal["C", "F"]) -> FloatArray:
    array = _numpy_plain(value, what)
    if array.dtype.kind not in "bifu":
        raise InvalidProblemError(f"{what}; got dtype {array.dtype}")
    converted: FloatArray = np.asarray(array, dtype=np.float64, order=order)
    if array.dtype.itemsize >= 8 and array.dtype != np.float64 and array.size and _loses_digits(array, converted):
        warnings.warn(f"{what}; {array.dtype} values were rounded to float64", PrecisionWarning, stacklevel=4)
    return freeze(converted)


def _loses_digits(array: npt.NDArray[Any], converted: FloatArray) -> bool:
    """Whether conversion to float64 changed a value."""
    if array.dtype.kind in "iu":
        return bool((np.abs(converted) > LARGEST_EXACT_INTEGER).any())
    return not np.array_equal(converted.astype(array.dtype), array, equal_nan=True)


def _namespace_float(value: Array, what: str) -> Array:
    xp = namespace_of(value)
    if not xp.isdtype(value.dtype, ("bool", "integral", "real floating")):
        raise InvalidProblemError(f"{what}; got dtype {value.dtype}")
    return xp.astype(value, xp.float64, copy=False)


def _require_finite(array: Array, what: str) -> None:
    xp = namespace_of(array)
    finite = xp.isfinite(array)
    if bool(xp.all(finite)):
        return
    bad = int(xp.sum(xp.astype(~finite, xp.int64)))
    first = tuple(int(i) for i in np.argwhere(to_host(~finite))[0])
    where = f", the first at {first[0] if len(first) == 1 else first}" if first else ""
    raise InvalidProblemError(f"{what}; got {bad} entries that are NaN or infinite{where}")
