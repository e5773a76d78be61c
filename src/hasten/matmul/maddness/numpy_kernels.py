"""Encode and scan in NumPy: these two functions define the result, every kernel gives the same bits.

**encode.** A row's value, widened to float32 without rounding, is compared with a float32 threshold; `x > t` goes
right, NaN goes left.

**scan, exact.** s = sum over c of luts[m, c, codes[n, c]] as an integer, then

    out = float32(s) * scale[m] + offset[m]

rounded after the conversion, after the product and after the sum (no fused multiply-add). Tables of float32 are added
as float32 in the order c = 0, 1, ..., and then the same.

**scan, avg.** With U and the bias of `averaging` (tables.py), codebooks are padded with zeros to a multiple of U. A
group of U neighbours becomes one byte by a binary tree of rounded averages, (a + b + 1) >> 1, adjacent pairs first; g
is the sum of the groups as an integer, then

    out = float32(g) * (scale[m] * U) + (offset[m] - scale[m] * bias)

each of the five operations rounded to float32 by itself (the product with U is exact, as U is a power of two).
"""

from __future__ import annotations

import numpy as np

from .tables import Tables, averaging

__all__ = ["encode", "scan"]

ROWS = 1024  # rows at once: temporaries stay in a CPU's cache


def encode(x: np.ndarray, dims: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The codes of rows.

    Args:
        x: (N, D), any strides, float32, float16, int8 or uint8.
        dims: (C, L) int32.
        thresholds: (C, K - 1) float32, heap order.

    Returns:
        (N, C) uint8 in [0, K).

    >>> thresholds = np.full((1, 15), np.inf, np.float32)
    >>> thresholds[0, [0, 2, 6, 14]] = 0.5  # the path of a row that always goes right
    >>> encode(np.array([[1.0], [0.0]], np.float32), np.zeros((1, 4), np.int32), thresholds).tolist()
    [[15], [0]]
    """
    codebooks = np.arange(len(dims))
    out = np.zeros((len(x), len(dims)), np.uint8)
    for start in range(0, len(x), ROWS):
        part = x[start : start + ROWS]
        prefix = np.zeros((len(part), len(dims)), np.intp)
        for level in range(dims.shape[1]):
            value = part[:, dims[:, level]].astype(np.float32)
            prefix = 2 * prefix + (value > thresholds[codebooks, (1 << level) - 1 + prefix])
        out[start : start + ROWS] = prefix
    return out


def scan(
    codes: np.ndarray, tables: Tables, accumulate: str = "exact", upcast_every: int = 16, out: np.ndarray | None = None
) -> np.ndarray:
    """Add up table entries: the approximate product.

    Args:
        codes: (N, C) uint8 in [0, K).
        tables: of C codebooks and M outputs.
        accumulate: "exact", or "avg" for tables of 8 bits.
        upcast_every: U of "avg", a power of two.
        out: (N, M) float32 to write to; None: a new array.

    Returns:
        (N, M) float32.
    """
    out = np.empty((len(codes), tables.n_outputs), np.float32) if out is None else out
    scale, offset, columns = tables.scale, tables.offset, tables.luts.transpose(1, 2, 0)  # columns: (C, K, M)
    group = 1
    if accumulate == "avg":
        group, _, bias = averaging(tables.ncodebooks, upcast_every)
        offset = offset - scale * np.float32(bias)
        scale = scale * np.float32(group)
    for start in range(0, len(codes), ROWS):
        part = codes[start : start + ROWS]
        total = _sum(part, columns) if accumulate == "exact" else _averaged(part, columns, group)
        out[start : start + ROWS] = total.astype(np.float32) * scale + offset
    return out


def _sum(codes: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(n, M): the sum over codebooks, int64 or (tables of floats) float32."""
    total = np.zeros((len(codes), columns.shape[2]), np.float32 if columns.dtype == np.float32 else np.int64)
    for c in range(len(columns)):
        total += columns[c][codes[:, c]]
    return total


def _averaged(codes: np.ndarray, columns: np.ndarray, group: int) -> np.ndarray:
    """(n, M) int64: the sum over groups of codebooks of the group's rounded average."""
    total = np.zeros((len(codes), columns.shape[2]), np.int64)
    for start in range(0, len(columns), group):
        values = np.zeros((group, *total.shape), np.uint16)
        for c in range(start, min(start + group, len(columns))):
            values[c - start] = columns[c][codes[:, c]]
        while len(values) > 1:
            values = (values[0::2] + values[1::2] + np.uint16(1)) >> np.uint16(1)
        total += values[0]
    return total
