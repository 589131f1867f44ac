"""The exception tree. A message names the argument, the value it had and what was expected."""

from __future__ import annotations

__all__ = [
    "BackendError",
    "CertificateError",
    "ConvergenceWarning",
    "DeviceError",
    "InvalidProblemError",
    "MissingDependencyError",
    "PrecisionWarning",
    "SolverWarning",
    "SolversError",
]


class SolversError(Exception):
    """Base of every exception raised on purpose by this library."""


class InvalidProblemError(SolversError, ValueError):
    """The problem as stated has no meaning: wrong shape, NaN, contradictory arguments."""


class BackendError(SolversError, ValueError):
    """The arrays and the requested backend do not go together."""


class MissingDependencyError(SolversError, ImportError):
    """An optional package is needed and not installed."""


class DeviceError(SolversError, RuntimeError):
    """The accelerator asked for is not usable."""


class CertificateError(SolversError, RuntimeError):
    """A bound contradicts an attained objective: a bug in this library, never hidden."""


class SolverWarning(UserWarning):
    """Base of the library's warnings."""


class ConvergenceWarning(SolverWarning):
    """An estimator returns an answer that did not meet its tolerance."""


class PrecisionWarning(SolverWarning):
    """The input loses digits that the answer would need."""
