"""Encode and scan by the compiled kernels, or in NumPy where there are none: the same bits (numpy_kernels.py).

Rows may lie in memory as they like: columns side by side (as PyTorch and NumPy give them), rows side by side, or with
any other strides. Nothing is copied; of a row only the columns that some tree looks at are read. Codes are kept as the
kernels of this machine want them, and `multiply` never writes them to memory at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from hasten._core import dispatch
from hasten._core.checks import check, whole
from hasten._native import ext

from ..base import Encoded
from . import numpy_kernels
from .tables import Tables, averaging
from .trees import Trees

__all__ = ["Codes", "Filter", "convolve", "encode", "multiply", "patches", "scan"]

Pair = tuple[int, int]  # down, across

ROWS = 64  # of a block; kernels.hpp
ROW_DTYPES = (np.dtype(np.float32), np.dtype(np.int8), np.dtype(np.uint8))
LARGEST_GROUP = 16
MOST_GROUPS = 256  # whose bytes a sum of 16 bits holds
QUADS, QUARTERS = 1, 2  # layouts of codes in which each of four codebooks has its own quarter of 64 table entries
HALVES = np.arange(ROWS).reshape(2, -1).T.reshape(-1)  # rows in the order of a plane: r and r + 32 side by side


@dataclass(frozen=True, eq=False)
class Codes(Encoded):
    """The codes of rows. `values` holds them as the kernels want them; `array()` gives them in the usual order.

    Args:
        ncodebooks: C.
        leaves: K.
        padded: codebooks in `values`, C and some that add nothing.
        layout: of `values`; None: (N, C).
        isa: the instruction set whose layout it is.
    """

    ncodebooks: int
    leaves: int
    padded: int = 0
    layout: int | None = None
    isa: str = ""

    def array(self) -> np.ndarray:
        """The codes as (N, C) uint8 in [0, K)."""
        if self.layout is None:
            return self.values
        blocks = self.values.reshape(-1, self.padded, ROWS)
        if self.layout == QUADS:  # (block, quad, row, codebook)
            rows = blocks.reshape(-1, self.padded // 4, ROWS, 4).transpose(0, 2, 1, 3)
        else:
            rows = np.empty((len(blocks), ROWS, self.padded), np.uint8)
            rows[:, HALVES] = blocks.transpose(0, 2, 1)
        rows = rows & np.uint8(self.leaves - 1)
        return np.ascontiguousarray(rows.reshape(-1, self.padded)[: self.n, : self.ncodebooks])


def encode(
    x: np.ndarray, trees: Trees, accumulate: str = "exact", upcast_every: int = 16, *, bfloat16: bool = False,
    threads: int = 1,
) -> Codes:  # fmt: skip
    """The codes of rows.

    Args:
        x: (N, D) float32, float16, int8 or uint8, any strides; or the bits of bfloat16 as uint16.
        trees: of C codebooks.
        accumulate, upcast_every: of the `scan` that follows, which decide how codes are laid out; any scan reads any.
        bfloat16: whether `x` holds such bits.
        threads: how many encode at once, some rows each.

    Raises:
        ValueError: rows without a column that some tree looks at.
    """
    whole("encode", "threads", threads, low=1)
    _check_rows(x, trees)
    if not _readable(x, bfloat16):
        x = _widened(x) if bfloat16 else x
        return _plain(numpy_kernels.encode(x, trees.dims, trees.thresholds), trees)
    assert ext is not None
    isa = dispatch.isa()
    layout, padded = _layout(trees.ncodebooks, trees.leaves, accumulate, upcast_every, isa)
    dims, nodes = _packed_trees(trees, padded)
    values = _aligned(-(-len(x) // ROWS) * ROWS * padded)
    ext.maddness_encode(x, dims, nodes, layout, values, isa, threads)
    return Codes(values, len(x), trees.ncodebooks, trees.leaves, padded, layout, isa)


@dataclass(frozen=True)
class Filter:
    """How a convolution goes over images: `padding` before the first line and column, `places` where it stops."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    places: Pair

    def numbers(self) -> np.ndarray:
        """As the kernels take it, (10,) int64."""
        parts = (self.kernel, self.stride, self.padding, self.dilation, self.places)
        return np.array([number for pair in parts for number in pair], np.int64)


def convolve(
    x: np.ndarray, geometry: Filter, trees: Trees, tables: Tables, accumulate: str = "exact", upcast_every: int = 16,
    out: np.ndarray | None = None, *, bfloat16: bool = False, threads: int = 1,
) -> np.ndarray:  # fmt: skip
    """The approximate products of the patches that a filter covers, read out of the images themselves.

    Args:
        x: (images, channels, height, width) as the rows of `encode`, any strides. What is beside an image is 0.
        geometry: of the filter.
        trees: over channels * kernel[0] * kernel[1] columns, channel first.
        tables, accumulate, upcast_every, bfloat16, threads: as of `multiply`.
        out: (images, M, places[0] * places[1]) float32 to write to, any strides; None: a new array.
    """
    whole("convolve", "threads", threads, low=1)
    places = geometry.places[0] * geometry.places[1]
    check(places > 0, "convolve", "a filter that fits the images", geometry.places, "Pass larger images.")
    _check_tables("convolve", trees.ncodebooks, trees.leaves, tables)
    shape = (len(x), tables.n_outputs, places)
    out = _output(shape, out)
    if np.may_share_memory(x, out):
        x = x.copy()
    if not _readable(x, bfloat16) or not _compiled(tables, accumulate, upcast_every):
        rows = patches(_widened(x) if bfloat16 else x, geometry)
        found = multiply(rows, trees, tables, accumulate, upcast_every, threads=threads)
        out[...] = found.reshape(len(x), places, tables.n_outputs).transpose(0, 2, 1)
        return out
    assert ext is not None
    isa = dispatch.isa()
    layout, padded = _layout(trees.ncodebooks, trees.leaves, accumulate, upcast_every, isa)
    dims, nodes = _packed_trees(trees, padded)
    packed = _packed_tables(tables, accumulate, upcast_every, padded)
    ext.maddness_convolve(x, geometry.numbers(), dims, nodes, layout, *packed, out, isa, threads)
    return out


def patches(x: np.ndarray, geometry: Filter) -> np.ndarray:
    """The patches as rows, (images * places, channels * kernel[0] * kernel[1]), places line by line.

    >>> patches(np.arange(4.0).reshape(1, 1, 2, 2), Filter((1, 2), (1, 1), (0, 1), (1, 1), (2, 1))).tolist()
    [[0.0, 0.0], [0.0, 2.0]]
    """
    spans = [d * (k - 1) + 1 for k, d in zip(geometry.kernel, geometry.dilation, strict=True)]
    sides = []
    for size, before, step, count, span in zip(
        x.shape[2:], geometry.padding, geometry.stride, geometry.places, spans, strict=True
    ):
        sides.append((before, max((count - 1) * step + span - before - size, 0)))
    x = np.pad(x, ((0, 0), (0, 0), *sides))
    windows = np.lib.stride_tricks.sliding_window_view(x, tuple(spans), axis=(2, 3))  # type: ignore[call-overload]
    (down, across), (height, width) = geometry.stride, geometry.places
    windows = windows[:, :, ::down, ::across, :: geometry.dilation[0], :: geometry.dilation[1]][:, :, :height, :width]
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, x.shape[1] * geometry.kernel[0] * geometry.kernel[1])


def scan(
    codes: Codes, tables: Tables, accumulate: str = "exact", upcast_every: int = 16, out: np.ndarray | None = None,
    *, threads: int = 1,
) -> np.ndarray:  # fmt: skip
    """The approximate product of encoded rows.

    Args:
        codes: of `encode`.
        tables: of the same codebooks and leaves, with M outputs.
        accumulate: "exact", or "avg" for tables of 8 bits.
        upcast_every: U of "avg", a power of two.
        out: (N, M) float32 to write to, any strides; None: a new array.
        threads: how many scan at once, some rows each.

    Returns:
        (N, M) float32: `out`, or a new array whose rows are contiguous.

    Raises:
        ValueError: codes or an output that do not fit the tables.
    """
    whole("scan", "threads", threads, low=1)
    _check_tables("scan", codes.ncodebooks, codes.leaves, tables)
    out = _output((codes.n, tables.n_outputs), out)
    if ext is None or not _compiled(tables, accumulate, upcast_every):
        return numpy_kernels.scan(codes.array(), tables, accumulate, upcast_every, out)
    isa = dispatch.isa()
    layout, padded = _layout(tables.ncodebooks, tables.leaves, accumulate, upcast_every, isa)
    if (codes.layout, codes.padded, codes.isa) != (layout, padded, isa):
        codes = _laid_out(codes.array(), codes.leaves, layout, padded, isa)
    packed = _packed_tables(tables, accumulate, upcast_every, padded)
    ext.maddness_scan(codes.values, codes.n, layout, *packed, out, isa, threads)
    return out


def multiply(
    x: np.ndarray, trees: Trees, tables: Tables, accumulate: str = "exact", upcast_every: int = 16,
    out: np.ndarray | None = None, *, bfloat16: bool = False, threads: int = 1,
) -> np.ndarray:  # fmt: skip
    """The approximate product of rows, as `scan(encode(x, trees), tables)`, some rows at a time.

    Args, Returns and Raises:
        As of `encode` and `scan`. `out` may lie in the memory of `x`.
    """
    whole("multiply", "threads", threads, low=1)
    _check_rows(x, trees)
    _check_tables("multiply", trees.ncodebooks, trees.leaves, tables)
    if not _readable(x, bfloat16) or not _compiled(tables, accumulate, upcast_every):
        codes = encode(x, trees, accumulate, upcast_every, bfloat16=bfloat16, threads=threads)
        return scan(codes, tables, accumulate, upcast_every, out, threads=threads)
    assert ext is not None
    out = _output((len(x), tables.n_outputs), out)
    if np.may_share_memory(x, out):  # or rows would be written over before they are read
        x = x.copy()
    isa = dispatch.isa()
    layout, padded = _layout(trees.ncodebooks, trees.leaves, accumulate, upcast_every, isa)
    dims, nodes = _packed_trees(trees, padded)
    packed = _packed_tables(tables, accumulate, upcast_every, padded)
    ext.maddness_multiply(x, dims, nodes, layout, *packed, out, isa, threads)
    return out


def _check_rows(x: np.ndarray, trees: Trees) -> None:
    last = int(trees.dims.max())
    fix = "Pass rows like those that the trees were learned from."
    check(x.ndim == 2 and last < x.shape[1], "encode", f"rows (N, D) with column {last}", x, fix)


def _check_tables(call: str, ncodebooks: int, leaves: int, tables: Tables) -> None:
    fits = (tables.ncodebooks, tables.leaves) == (ncodebooks, leaves)
    expected, fix = f"tables of {ncodebooks} codebooks and {leaves} leaves", "Pass those made for these trees."
    check(fits, call, expected, tables.luts, fix)


def _readable(x: np.ndarray, bfloat16: bool) -> bool:
    """Do compiled kernels read such rows where they are?"""
    if bfloat16:
        check(x.dtype == np.uint16, "encode", "the bits of bfloat16 as uint16", x, "Pass bfloat16=False.")
    whole_steps = not any(stride % x.itemsize for stride in x.strides)
    return ext is not None and (bfloat16 or x.dtype in ROW_DTYPES) and whole_steps and x.flags.aligned


def _widened(x: np.ndarray) -> np.ndarray:
    """bfloat16, as bits, in float32."""
    return (x.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _output(shape: tuple[int, ...], out: np.ndarray | None) -> np.ndarray:
    if out is None:
        return np.empty(shape, np.float32)
    good = out.shape == shape and out.dtype == np.float32 and out.flags.writeable and out.flags.aligned
    check(good, "scan", f"out of shape {shape} and dtype float32 that can be written", out, "Leave out= away.")
    return out


def _plain(codes: np.ndarray, trees: Trees) -> Codes:
    return Codes(codes, len(codes), trees.ncodebooks, trees.leaves)


def _compiled(tables: Tables, accumulate: str, upcast_every: int) -> bool:
    """Do compiled kernels sum such tables?"""
    if accumulate == "exact" or tables.bits != 8:
        return tables.bits == 8
    group, padded, _ = averaging(tables.ncodebooks, upcast_every)
    return group <= LARGEST_GROUP and padded // group <= MOST_GROUPS


def _layout(ncodebooks: int, leaves: int, accumulate: str, upcast_every: int, isa: str) -> tuple[int, int]:
    """The layout of codes that this scan reads fastest, and how many codebooks it has."""
    assert ext is not None
    layout = ext.maddness_layout(leaves, accumulate == "exact", isa)
    if accumulate == "avg":
        return layout, averaging(ncodebooks, upcast_every)[1]
    return layout, -(-ncodebooks // 4) * 4 if layout == QUADS else ncodebooks


def _laid_out(codes: np.ndarray, leaves: int, layout: int, padded: int, isa: str) -> Codes:
    """Codes (N, C) in another layout."""
    n, ncodebooks = codes.shape
    rows = np.zeros((-(-n // ROWS) * ROWS, padded), np.uint8)
    rows[:n, :ncodebooks] = codes
    values = _aligned(rows.size)
    if layout in (QUADS, QUARTERS):
        rows += np.resize(np.arange(0, 64, 16, dtype=np.uint8), padded)
    if layout == QUADS:
        blocks = values.reshape(-1, padded // 4, ROWS, 4)
        blocks[...] = rows.reshape(-1, ROWS, padded // 4, 4).transpose(0, 2, 1, 3)
    else:
        values.reshape(-1, padded, ROWS)[...] = rows.reshape(-1, ROWS, padded)[:, HALVES].transpose(0, 2, 1)
    return Codes(values, n, ncodebooks, leaves, padded, layout, isa)


def _aligned(size: int) -> np.ndarray:
    """Bytes that begin at a multiple of 64, as a cache does."""
    memory = np.empty(size + 64, np.uint8)
    first = -memory.ctypes.data % 64
    return memory[first : first + size]


@dataclass
class _Packed:
    """What kernels read of trees or tables, made once for as long as these live."""

    ready: dict[Any, tuple[Any, ...]] = field(default_factory=dict)


_PACKED: WeakKeyDictionary[Trees | Tables, _Packed] = WeakKeyDictionary()


def _packed_trees(trees: Trees, padded: int) -> tuple[np.ndarray, np.ndarray]:
    """The columns and thresholds, with codebooks added whose code is always 0."""
    assert ext is not None
    ready = _PACKED.setdefault(trees, _Packed()).ready
    if padded not in ready:
        dims = np.zeros((padded, trees.levels), np.int32)
        dims[: trees.ncodebooks] = trees.dims
        nodes = np.full((padded, ext.MADDNESS_NODES), np.inf, np.float32)
        nodes[: trees.ncodebooks, : trees.leaves - 1] = trees.thresholds
        ready[padded] = dims, nodes
    return ready[padded]  # type: ignore[return-value]


def _packed_tables(tables: Tables, accumulate: str, upcast_every: int, padded: int) -> tuple[Any, ...]:
    """The bytes, with tables of zeros added, the size of a group (0: none), and scale and offset of a sum."""
    ready = _PACKED.setdefault(tables, _Packed()).ready
    key = accumulate, upcast_every if accumulate == "avg" else 0, padded
    if key not in ready:
        shape = (tables.n_outputs, padded, tables.leaves)
        luts = _aligned(tables.n_outputs * padded * tables.leaves).reshape(shape)
        luts[:, : tables.ncodebooks] = tables.luts
        luts[:, tables.ncodebooks :] = 0
        group, scale, offset = 0, tables.scale, tables.offset
        if accumulate == "avg":
            group, _, bias = averaging(tables.ncodebooks, upcast_every)
            scale, offset = scale * np.float32(group), offset - scale * np.float32(bias)
        ready[key] = luts, group, *(np.require(numbers, requirements=["C", "A"]) for numbers in (scale, offset))
    return ready[key]
