"""Alias: ``solvers.matching`` is the package ``matching``."""

import sys

import matching

sys.modules[__name__] = matching
