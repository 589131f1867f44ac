"""Online Bayesian bipartite matching. Part of certified-solvers."""

from __future__ import annotations

__all__: list[str] = []
