"""Alias: ``solvers.ranking`` is the package ``ranking``."""

import sys

import ranking

sys.modules[__name__] = ranking
