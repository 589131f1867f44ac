"""The Gram matrix of a working set, kept from one outer iteration to the next and extended by new columns only."""

from __future__ import annotations

import numpy as np
import scipy.sparse

from solvers._core.arrays import Array, FloatArray, IntArray, to_host
from solvers.bcd._design import SparseDesign
from solvers.bcd._kernels_numba import add_row_products
from solvers.bcd._loss import LinearLoss

__all__ = ["GRAM_SIZE", "GramCache", "weighted_gram"]

# Largest working set whose Gram matrix is formed.
GRAM_SIZE = 2500
# Columns of past working sets are dropped once the present one fills less than this share.
SHARE_IN_USE = 0.75


class GramCache:
    """Columns of past working sets and their Gram matrix with the sample weights.

    Attributes
    ----------
    columns : (m,) int64
        What is held, in the order of the Gram matrix.
    gram : (capacity, capacity) array
        Its leading (m, m) part is A^T W A on ``columns``; rows are longer so that growth moves nothing.
    """

    def __init__(self, loss: LinearLoss) -> None:
        self.loss = loss
        self.columns: IntArray = np.zeros(0, dtype=np.int64)
        self.gram: FloatArray = np.zeros((0, 0))
        self._block: Array = None
        self._place = np.full(loss.design.p, -1, dtype=np.int64)

    @property
    def block(self) -> Array:
        """The columns held, (n, m)."""
        return self._block[:, : len(self.columns)]

    def take(self, working: IntArray) -> IntArray:
        """Hold a working set; returns all columns held, its own or not: a few more do no harm."""
        old = len(self.columns)
        if old and len(working) < SHARE_IN_USE * old:
            self._keep(working)
        fresh = working[self._place[working] < 0]
        if len(fresh) == 0:
            return self.columns
        if len(self.columns) + len(fresh) > GRAM_SIZE:
            self._place[:] = -1
            self.columns, self._block, fresh = self.columns[:0], None, working
        self._append(fresh)
        return self.columns

    def _keep(self, working: IntArray) -> None:
        """Drop the columns outside the working set."""
        kept = np.sort(self._place[working])
        kept = kept[kept >= 0]
        size = len(kept)
        self.gram[:size, :size] = self.gram[np.ix_(kept, kept)]
        self._place[:] = -1
        self.columns = self.columns[kept]
        self._place[self.columns] = np.arange(size)
        if self.loss.device is None:
            self._block[:, :size] = self._block[:, kept]
        else:
            self._block = self.loss.xp.take(self._block, self.loss.xp.asarray(kept, device=self.loss.device), axis=1)

    def _append(self, fresh: IntArray) -> None:
        loss, old = self.loss, len(self.columns)
        size = old + len(fresh)
        block = loss.design.columns(fresh)
        self._reserve(size)
        if old:
            cross = _product(loss, block, self.block)
            self.gram[old:size, :old] = cross
            self.gram[:old, old:size] = cross.T
        self.gram[old:size, old:size] = _product(loss, block, block)
        if loss.device is None:
            self._block[:, old:size] = block
        else:
            self._block = block if old == 0 else loss.xp.concat([self.block, block], axis=1)
        self.columns = np.concatenate([self.columns, fresh])
        self._place[fresh] = np.arange(old, size)

    def _reserve(self, size: int) -> None:
        """Room for ``size`` columns, doubled at a time."""
        if size > len(self.gram):
            capacity = min(max(2 * len(self.gram), size, 256), max(GRAM_SIZE, size))
            wider = np.empty((capacity, capacity))
            held = len(self.columns)
            wider[:held, :held] = self.gram[:held, :held]
            self.gram = wider
            if self.loss.device is None:
                block = np.empty((self.loss.design.n, capacity), order="F")
                if held:
                    block[:, :held] = self._block[:, :held]
                self._block = block
        elif self._block is None and self.loss.device is None:
            self._block = np.empty((self.loss.design.n, len(self.gram)), order="F")


def _product(loss: LinearLoss, left: Array, right: Array) -> FloatArray:
    weighted = left if loss.weights is None else left * loss.weights[:, None]
    return to_host(weighted.T @ right)


def weighted_gram(loss: LinearLoss, working: IntArray, h: Array, block: Array | None = None) -> FloatArray:
    """A_W^T diag(h) A_W on the host; ``block`` is A_W where it is at hand as a dense matrix."""
    if isinstance(loss.design, SparseDesign):
        rows = scipy.sparse.csr_array(loss.design.matrix[:, working])
        gram = np.zeros((len(working), len(working)))
        add_row_products(rows.data, rows.indices.astype(np.int64), rows.indptr.astype(np.int64), h, gram)
        return gram
    scaled = (loss.design.columns(working) if block is None else block) * loss.xp.sqrt(h)[:, None]
    return to_host(scaled.T @ scaled)
