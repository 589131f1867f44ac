"""Path ranking on top of any PyTorch backbone (``pip install 'certified-solvers[torch]'``).

>>> from solvers.ranking.torch import BilinearTSPLayer, global_loss, local_loss  # doctest: +SKIP

Nothing else in the package imports PyTorch.
"""

from __future__ import annotations

from ranking._torch import BilinearTSPLayer, decode, global_loss, local_loss

__all__ = ["BilinearTSPLayer", "decode", "global_loss", "local_loss"]
