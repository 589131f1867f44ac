"""Passes over the panel of a row: the d rows of the fixed factor that belong to its entries, d x k.

Conjugate gradients read the panel twice in every step, for w = P p and for Pᵀ w. Here four of its rows are held in vector
registers while both are formed, so that it is read once:

    r <- r - P x  (or P x),      g <- g + Pᵀ r,      returning |r|².                                             (1)

The normal equations of a narrow panel are formed in registers altogether:

    gram = PᵀP,      slope = Pᵀ r.                                                                               (2)

The first pass also gathers the panel from the fixed factor. Loops over columns whose number is known only at run time
leave half of this unused: compilers take short vectors and keep the sums Pᵀ r in memory. The passes are therefore written
as vectors of 64 bytes, which LLVM splits where registers are shorter, once for every number of them up to ``WIDEST``;
wider panels, and interpreted runs, go through plain loops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config
from numba.core import cgutils
from numba.extending import intrinsic

from solvers._core.jit import njit

__all__ = [
    "BLOCK",
    "FAST",
    "is_narrow",
    "load",
    "load_and_pull",
    "normal_equations",
    "padded_width",
    "plain_pass",
    "pull_residual",
    "push_and_pull",
]

# Rows of a panel that are in registers at once; panels have whole blocks of them.
BLOCK = 4
# Bytes of a vector, and numbers of them that a row of the panel may have in these passes; others are rounded up.
VECTOR, COUNTS = 64, (1, 2, 3, 4, 6, 8)
WIDEST = COUNTS[-1]
# From so many vectors on a block does not fit into the registers and is read again, from the nearest cache.
RELOADED = 5
COMPILED = not config.DISABLE_JIT

# Reassociation and contraction let sums vectorise; NaN and infinity keep their meaning.
FAST = {"reassoc", "contract", "nsz", "arcp"}
# Sums here have their order already: contraction alone makes multiplications and additions one.
FLAGS = ("contract",)

INDEX = ir.IntType(64)
INT32 = ir.IntType(32)


@njit()
def padded_width(k: int, itemsize: int) -> int:
    """Columns of a panel for k unknowns: half a vector, or a number of whole ones that the passes know."""
    lanes = VECTOR // itemsize
    if k <= lanes // 2:
        return lanes // 2
    for count in COUNTS:
        if k <= count * lanes:
            return count * lanes
    return ((k + lanes - 1) // lanes) * lanes


@njit(fastmath=FAST)
def push_and_pull(panel: Any, p: Any, w: Any, q: Any) -> Any:
    """``w = P p`` and ``q += Pᵀ w``; returns the sum of squares of w."""
    if COMPILED and panel.shape[1] * panel.itemsize <= WIDEST * VECTOR:
        return _pass(panel, p, w, q, False)
    return plain_pass(panel, p, w, q, False)


@njit(fastmath=FAST)
def pull_residual(panel: Any, x: Any, r: Any, g: Any) -> Any:
    """``r -= P x`` and ``g += Pᵀ r``; returns the sum of squares of r."""
    if COMPILED and panel.shape[1] * panel.itemsize <= WIDEST * VECTOR:
        return _pass(panel, x, r, g, True)
    return plain_pass(panel, x, r, g, True)


@njit(fastmath=FAST)
def load(indices: Any, begin: Any, d: int, fixed: Any, weights: Any, first: int, panel: Any) -> None:
    """Rows ``indices[begin : begin + d]`` of the fixed factor from the one numbered ``first`` on, times the roots of the
    weights, into the panel; zeros beyond.
    """
    k = fixed.shape[1]
    zero = panel.dtype.type(0.0)
    for t in range(first, d):
        source = fixed[indices[begin + t]]
        target = panel[t]
        root = np.sqrt(weights[begin + t]) if len(weights) > 0 else panel.dtype.type(1.0)
        for l in range(k):
            target[l] = root * source[l]
        for l in range(k, panel.shape[1]):
            target[l] = zero
    for t in range(max(first, d), len(panel)):
        panel[t] = zero


@njit(fastmath=FAST)
def load_and_pull(
    indices: Any, begin: Any, d: int, fixed: Any, weights: Any, panel: Any, x: Any, r: Any, g: Any
) -> Any:
    """:func:`load`, then :func:`pull_residual`; ``r`` holds the weighted values, zero beyond d."""
    done = 0
    square = panel.dtype.type(0.0)
    if COMPILED and len(weights) == 0 and panel.shape[1] * panel.itemsize <= WIDEST * VECTOR:
        done = (d // BLOCK) * BLOCK
        square = _gathering_pass(panel[:done], x, r, g, indices[begin : begin + done], fixed)
    load(indices, begin, d, fixed, weights, done, panel)
    return square + pull_residual(panel[done:], x, r[done:], g)


@njit()
def is_narrow(k: int, itemsize: int) -> bool:
    """Whether panels for k unknowns are one vector wide, so that (2) fits into the registers."""
    return k * itemsize <= VECTOR


@njit(fastmath=FAST)
def normal_equations(
    indices: Any, begin: Any, d: int, fixed: Any, weights: Any, panel: Any, r: Any, slope: Any, gram: Any
) -> None:
    """:func:`load`, then (2) for a narrow panel; gram is as wide as that."""
    slope[:] = panel.dtype.type(0.0)
    gram[:] = panel.dtype.type(0.0)
    done = 0
    if COMPILED and len(weights) == 0:
        done = (d // BLOCK) * BLOCK
        _load_and_square(panel[:done], gram, r, slope, indices[begin : begin + done], fixed)
    load(indices, begin, d, fixed, weights, done, panel)
    if COMPILED:
        _square(panel[done:], gram, r[done:], slope)
    else:
        plain_normal_equations(panel[done:], gram, r[done:], slope)


@njit(fastmath=FAST)
def plain_pass(panel: Any, x: Any, r: Any, g: Any, residual: bool) -> Any:
    """(1) by loops over rows and columns."""
    square = panel.dtype.type(0.0)
    for t in range(len(panel)):
        source = panel[t]
        value = panel.dtype.type(0.0)
        for l in range(len(x)):
            value += x[l] * source[l]
        if residual:
            value = r[t] - value
        for l in range(len(x)):
            g[l] += value * source[l]
        r[t] = value
        square += value * value
    return square


@njit(fastmath=FAST)
def plain_normal_equations(panel: Any, gram: Any, r: Any, slope: Any) -> None:
    """Adds (2) by loops over rows and columns."""
    for t in range(len(panel)):
        source = panel[t]
        for a in range(len(slope)):
            slope[a] += r[t] * source[a]
            for b in range(len(slope)):
                gram[a, b] += source[a] * source[b]


@intrinsic  # type: ignore[untyped-decorator]
def _pass(typing_context: Any, panel: Any, x: Any, r: Any, g: Any, residual: Any) -> Any:
    return panel.dtype(panel, x, r, g, residual), lambda *given: _Pass(*given).write()


@intrinsic  # type: ignore[untyped-decorator]
def _gathering_pass(typing_context: Any, panel: Any, x: Any, r: Any, g: Any, indices: Any, fixed: Any) -> Any:
    return panel.dtype(panel, x, r, g, indices, fixed), lambda *given: _Pass(*given).write()


@intrinsic  # type: ignore[untyped-decorator]
def _square(typing_context: Any, panel: Any, gram: Any, r: Any, slope: Any) -> Any:
    return panel.dtype(panel, gram, r, slope), lambda *given: _Pass(*given).write_normal_equations()


@intrinsic  # type: ignore[untyped-decorator]
def _load_and_square(typing_context: Any, panel: Any, gram: Any, r: Any, slope: Any, indices: Any, fixed: Any) -> Any:
    return panel.dtype(panel, gram, r, slope, indices, fixed), lambda *given: _Pass(*given).write_normal_equations()


class _Pass:
    """Instructions of (1) and (2), whose panel is filled as it is read where indices and the fixed factor follow.

    The arguments are (panel, x, r, g, whether to take P x from r) or (panel, gram, r, slope), contiguous but for rows of
    the fixed factor; rows of the panel, a multiple of ``BLOCK``, are as long as x and g.
    """

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self.builder = builder
        self.residual = ir.Constant(ir.IntType(1), 1)
        if len(arguments) == 5:
            self.residual = builder.trunc(arguments[4], self.residual.type)
            arguments = arguments[:4]
        arrays = [
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args, arguments, strict=False)
        ]
        self.panel, self.x, self.r, self.g = (array.data for array in arrays[:4])
        self.rows, self.width = cgutils.unpack_tuple(builder, arrays[0].shape, 2)
        self.number = context.get_data_type(signature.args[0].dtype)
        self.bytes = signature.args[0].dtype.bitwidth // 8
        self.gathers = len(arrays) > 4
        if self.gathers:
            self.indices, self.fixed = arrays[4].data, arrays[5].data
            self.unknowns = cgutils.unpack_tuple(builder, arrays[5].shape, 2)[1]
            self.row_bytes = cgutils.unpack_tuple(builder, arrays[5].strides, 2)[0]

    def write(self) -> Any:
        """(1), with one case for every width."""
        lanes = VECTOR // self.bytes
        return self._cases([(lanes // 2, 1)] + [(lanes, count) for count in COUNTS], self._residual_loop)

    def write_normal_equations(self) -> Any:
        """(2), with one case for either width."""
        lanes = VECTOR // self.bytes
        return self._cases([(lanes // 2, 1), (lanes, 1)], lambda size, _: self._normal_loop(size))

    def _cases(self, shapes: list[tuple[int, int]], generate: Callable[[int, int], Any]) -> Any:
        """``generate(size, count)`` for a panel whose rows are ``count`` vectors of ``size`` numbers, by its width."""
        b = self.builder
        end, impossible = b.append_basic_block("end"), b.append_basic_block("impossible")
        switch = b.switch(self.width, impossible)
        results = []
        for size, count in shapes:
            case = b.append_basic_block(f"width{size * count}")
            switch.add_case(INDEX(size * count), case)
            b.position_at_end(case)
            results.append((generate(size, count), b.block))
            b.branch(end)
        b.position_at_end(impossible)
        b.unreachable()
        b.position_at_end(end)
        total = b.phi(self.number)
        for value, block in results:
            total.add_incoming(value, block)
        return total

    def _loop(self, first: list[Any], body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
        """Values that ``body(t, values)`` makes of ``first`` over the blocks of rows, which begin at t."""
        b = self.builder
        entry, inside, end = b.block, b.append_basic_block("rows"), b.append_basic_block("done")
        b.cbranch(b.icmp_signed(">", self.rows, INDEX(0)), inside, end)
        b.position_at_end(inside)
        t, values = b.phi(INDEX), [b.phi(value.type) for value in first]
        new = body(t, list(values))
        following = b.add(t, INDEX(BLOCK))
        b.cbranch(b.icmp_signed("<", following, self.rows), inside, end)
        for phi, before, after in zip([t, *values], [INDEX(0), *first], [following, *new], strict=True):
            phi.add_incoming(before, entry)
            phi.add_incoming(after, inside)
        b.position_at_end(end)
        last = [b.phi(value.type) for value in first]
        for phi, before, after in zip(last, first, new, strict=True):
            phi.add_incoming(before, entry)
            phi.add_incoming(after, inside)
        return last

    def _residual_loop(self, size: int, count: int) -> Any:
        b = self.builder
        vector, four = ir.VectorType(self.number, size), ir.VectorType(self.number, BLOCK)
        x = [self._load(self.x, c * size, vector) for c in range(count)]
        sums = [self._load(self.g, c * size, vector) for c in range(count)]

        def body(t: Any, values: list[Any]) -> list[Any]:
            start = b.mul(t, INDEX(size * count))
            rows = [[self._element(i, c, t, start, count, vector) for c in range(count)] for i in range(BLOCK)]
            position = b.gep(self.r, [t])
            r = self._totals([self._product(row, x) for row in rows])
            r = b.select(self.residual, b.fsub(self._load(position, 0, four), r, flags=FLAGS), r)
            self._store(r, position, 0)
            square, *sums = values
            for i, row in enumerate(rows):
                value = self._chosen(r, r, [i] * size)
                if count >= RELOADED:
                    again = b.gep(self.panel, [start])
                    row = [self._load(again, (i * count + c) * size, vector) for c in range(count)]
                sums = [self._plus(total, value, part) for total, part in zip(sums, row, strict=True)]
            return [self._plus(square, r, r), *sums]

        squares, *sums = self._loop([ir.Constant(four, [0.0] * BLOCK), *sums], body)
        for c, total in enumerate(sums):
            self._store(total, self.g, c * size)
        square = b.extract_element(squares, INT32(0))
        for i in range(1, BLOCK):
            square = b.fadd(square, b.extract_element(squares, INT32(i)), flags=FLAGS)
        return square

    def _normal_loop(self, size: int) -> Any:
        b = self.builder
        vector, four = ir.VectorType(self.number, size), ir.VectorType(self.number, BLOCK)
        sums = [
            self._load(pointer, c * size, vector) for pointer, c in [(self.g, 0)] + [(self.x, c) for c in range(size)]
        ]

        def body(t: Any, sums: list[Any]) -> list[Any]:
            start = b.mul(t, INDEX(size))
            r = self._load(b.gep(self.r, [t]), 0, four)
            for i in range(BLOCK):
                row = self._element(i, 0, t, start, 1, vector)
                factors = [self._chosen(r, r, [i] * size)] + [self._chosen(row, row, [a] * size) for a in range(size)]
                sums = [self._plus(total, factor, row) for total, factor in zip(sums, factors, strict=True)]
            return sums

        slope, *gram = self._loop(sums, body)
        self._store(slope, self.g, 0)
        for a, row in enumerate(gram):
            self._store(row, self.x, a * size)
        return ir.Constant(self.number, 0.0)

    def _element(self, i: int, c: int, t: Any, start: Any, count: int, vector: Any) -> Any:
        """Vector c of row t + i of the panel, of ``count`` each, which is filled first where the pass gathers."""
        b, size = self.builder, vector.count
        target = b.gep(self.panel, [start])
        if not self.gathers:
            return self._load(target, (i * count + c) * size, vector)
        index = b.load(b.gep(self.indices, [b.add(t, INDEX(i))]))
        if index.type.width < INDEX.width:
            index = b.sext(index, INDEX)
        address = b.add(b.ptrtoint(self.fixed, INDEX), b.mul(index, self.row_bytes))
        source = b.inttoptr(address, self.number.as_pointer())
        # A panel is this wide only if its rows fill more vectors than the next narrower one has.
        filled = max((narrower for narrower in COUNTS if narrower < count), default=0)
        part = self._load(source, c * size, vector) if c < filled else self._masked(source, c * size, vector)
        self._store(part, target, (i * count + c) * size)
        return part

    def _masked(self, pointer: Any, offset: int, vector: Any) -> Any:
        """A vector of a row of the fixed factor, zero beyond its k numbers, where nothing is read."""
        b = self.builder
        lanes = ir.Constant(ir.VectorType(INDEX, vector.count), list(range(offset, offset + vector.count)))
        limit = b.insert_element(ir.Constant(lanes.type, ir.Undefined), self.unknowns, INT32(0))
        inside = b.icmp_signed("<", lanes, self._chosen(limit, limit, [0] * vector.count))
        place = b.bitcast(b.gep(pointer, [INDEX(offset)]), vector.as_pointer())
        name = f"llvm.masked.load.v{vector.count}f{8 * self.bytes}.p0"
        kind = ir.FunctionType(vector, [place.type, INT32, inside.type, vector])
        function = cgutils.get_or_insert_function(b.module, kind, name)
        return b.call(function, [place, INT32(self.bytes), inside, ir.Constant(vector, [0.0] * vector.count)])

    def _plus(self, total: Any, factor: Any, part: Any) -> Any:
        return self.builder.fadd(total, self.builder.fmul(factor, part, flags=FLAGS), flags=FLAGS)

    def _product(self, row: list[Any], x: list[Any]) -> Any:
        b = self.builder
        total = b.fmul(row[0], x[0], flags=FLAGS)
        for part, factor in zip(row[1:], x[1:], strict=True):
            total = self._plus(total, part, factor)
        return total

    def _totals(self, vectors: list[Any]) -> Any:
        """The sums of four vectors as one: halves are added, then pairs of all four at once."""
        b, size = self.builder, vectors[0].type.count
        while size > BLOCK:
            half = size // 2
            halves = [
                (self._chosen(v, v, list(range(half))), self._chosen(v, v, list(range(half, size)))) for v in vectors
            ]
            vectors, size = [b.fadd(low, high, flags=FLAGS) for low, high in halves], half
        low, high = [
            b.fadd(self._chosen(v, w, [0, 4, 2, 6]), self._chosen(v, w, [1, 5, 3, 7]), flags=FLAGS)
            for v, w in (vectors[:2], vectors[2:])
        ]
        return b.fadd(self._chosen(low, high, [0, 1, 4, 5]), self._chosen(low, high, [2, 3, 6, 7]), flags=FLAGS)

    def _chosen(self, v: Any, w: Any, lanes: list[int]) -> Any:
        return self.builder.shuffle_vector(v, w, ir.Constant(ir.VectorType(INT32, len(lanes)), lanes))

    def _load(self, pointer: Any, offset: int, vector: Any) -> Any:
        b = self.builder
        value = b.load(b.bitcast(b.gep(pointer, [INDEX(offset)]), vector.as_pointer()))
        value.align = self.bytes
        return value

    def _store(self, value: Any, pointer: Any, offset: int) -> None:
        b = self.builder
        store = b.store(value, b.bitcast(b.gep(pointer, [INDEX(offset)]), value.type.as_pointer()))
        store.align = self.bytes
