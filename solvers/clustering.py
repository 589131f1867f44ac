"""Alias: ``solvers.clustering`` is the package ``clustering``."""

import sys

import clustering

sys.modules[__name__] = clustering
