"""What the tests of float columns share: columns of every kind, a way there and back, and the format word by word."""

from __future__ import annotations

import functools
import math
import struct

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hasten.codecs.sprintz import planar
from hasten.codecs.sprintz.values import decode_values, encode_values, names_of

RNG = np.random.default_rng(8)
WALK = RNG.integers(-9, 10, 3000).cumsum()
ODD = np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0, 5e-324, -1e-310, 1.7e308, 0.1])
ODD = np.concatenate([ODD, np.array([0x7FF0000000000001, 0xFFF8DEADBEEF0001], np.uint64).view(np.float64)])


def integers(values: np.ndarray) -> bytes:
    """A record of integers."""
    return planar.encode_column(values, "auto")


def pack(column: np.ndarray, max_error: float | None = None, level: int | None = None) -> bytes:
    """The record of a column."""
    return encode_values(column, max_error, integers, level)


def unpack(record: bytes, rows: int, dtype: np.dtype, at: int = 0) -> np.ndarray:
    """The column of a record."""
    return decode_values(memoryview(record), rows, dtype, at, planar.decode_column)


def back(column: np.ndarray, max_error: float | None = None, level: int | None = None) -> np.ndarray:
    """A column there and back."""
    return unpack(pack(column, max_error, level), len(column), column.dtype)


def names(record: bytes) -> list[str]:
    """What a record does with its column."""
    return names_of(memoryview(record))[0]


def with_odd(column: np.ndarray, rows: list[int]) -> np.ndarray:
    """A column with odd values in some rows."""
    column = column.copy()
    with np.errstate(all="ignore"):
        column[rows] = np.resize(ODD, len(rows)).astype(column.dtype)
    return column


@functools.cache
def columns() -> dict[str, np.ndarray]:
    """Columns that are written in every way there is."""
    walk = WALK[:700]
    single = np.float32(9.81 / 16384)
    noise = np.random.default_rng(1).normal(size=700)
    found = {
        "decimals": walk / 100, "whole": walk.astype(float), "quarters": walk * 0.25 + 0.13, "single": walk / 8 + 1000,
        "gain": walk / 81.92, "times": walk * 0.000598754882123, "pi": walk * math.pi, "offset": walk / 340 + 36.53,
        "sum": np.array([0.1 * k + 0.2 for k in walk]), "lattice": np.round(walk * 0.06698 + 1, 3),
        "widened": (walk / 10).astype("f4").astype("f8"), "noise": noise, "float16": noise.astype("f2").astype("f8"),
        "constant": np.full(700, math.e), "zeros": np.zeros(700), "printed": noise.astype("f4").astype("f8"),
    }  # fmt: skip
    found["printed"] = np.nextafter(found["printed"], np.where(walk % 2, np.inf, -np.inf))
    for name in ("decimals", "gain", "offset", "lattice", "noise", "float16"):
        found[f"{name} f4"] = found[name].astype("f4")
    found["times f4"] = walk.astype("f4") * single
    for name in ("decimals", "offset", "noise", "printed", "decimals f4", "noise f4"):
        found[f"{name}, odd"] = with_odd(found[name], [0, 1, 5, 698, 699])
    return found


@st.composite
def floats(draw: st.DrawFn) -> np.ndarray:
    """Columns of any bits, of repeated bits, of decimals and of scaled counts, odd values among them."""
    dtype = np.dtype(draw(st.sampled_from(("f4", "f8"))))
    rows = draw(st.sampled_from((0, 1, 2, 3, 31, 33, 100, 400)))
    kind = draw(st.sampled_from(("bits", "few", "decimals", "counts")))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    with np.errstate(all="ignore"):
        if kind == "bits":
            column = rng.integers(0, 256, rows * dtype.itemsize, np.uint8).view(dtype)
        elif kind == "few":
            choice = np.array(draw(st.lists(hnp.from_dtype(dtype), min_size=1, max_size=4)), dtype)
            column = choice[rng.integers(0, len(choice), rows)]
        else:
            whole = rng.integers(-(10 ** draw(st.integers(1, 15))), 10 ** draw(st.integers(1, 15)), rows)
            scale = 10.0 ** draw(st.integers(0, 15))
            scale = scale if kind == "decimals" else draw(st.floats(1e-9, 1e9))
            column = ((whole.cumsum() if draw(st.booleans()) else whole) / scale).astype(dtype)
        column = column.copy()
        for place, value in draw(st.lists(st.tuples(st.integers(0, 10**6), hnp.from_dtype(dtype)), max_size=4)):
            column[place % rows if rows else slice(0)] = value
    return column


# The text of docs/formats.md, value by value --------------------------------------------------------------------------


def slow_decode(record: bytes, rows: int, dtype: np.dtype) -> list[int]:
    """The bits of the values of a record."""
    kind, width = record[0], 8 * dtype.itemsize
    if kind in (4, 5):
        rounded, bits, factor, offset, divisor, base, multiple = struct.unpack("<BBdddqQ", record[1:43])
        apart, start = _apart(record, 43, dtype)
        values = []
        for v in _whole(record[start:], rows, bits):
            n = (base + multiple * v) % 2**64
            x = float(n - 2**64 if n >= 2**63 else n)
            x = x if factor == 1 else x * factor
            x = x if offset == 0 else x + offset
            x = float(round(x)) if rounded else x
            values.append(_bits(x if divisor == 1 else x / divisor, dtype))
    elif kind == 6:
        apart, start = _apart(record, 2, dtype)
        w = width - record[1]
        values = []
        for t in _whole(record[start:], rows, next(b for b in (8, 16, 32, 64) if w <= b)):
            u = t ^ (1 << (w - 1)) if t >> (w - 1) & 1 else t ^ ((1 << w) - 1)
            values.append((u << record[1]) % 2**width)
    elif kind == 8:
        return [_bits(_float(b, 4), dtype) for b in slow_decode(record[1:], rows, np.dtype("f4"))]
    elif kind == 9:
        apart, start = _apart(record, 1, dtype)
        (length,) = struct.unpack("<I", record[start : start + 4])
        inner, rest = record[start + 4 : start + 4 + length], record[start + 4 + length :]
        zigzag = _whole(rest, rows, 16)
        corrections = [(z >> 1) ^ -(z & 1) for z in zigzag]
        values = [(b + c) % 2**width for b, c in zip(slow_decode(inner, rows, dtype), corrections, strict=True)]
    else:
        return _whole(record, rows, width)
    for row, bits in apart.items():
        values[row] = bits
    return values


def _apart(record: bytes, at: int, dtype: np.dtype) -> tuple[dict[int, int], int]:
    count, at = int.from_bytes(record[at : at + 4], "little"), at + 4
    if not count:
        return {}, at
    g, v = struct.unpack("<II", record[at : at + 8])
    gaps = _whole(record[at + 8 : at + 8 + g], count, 32)
    rows = np.cumsum([gap + 1 for gap in gaps]) - 1
    values = _whole(record[at + 8 + g : at + 8 + g + v], count, 8 * dtype.itemsize)
    return dict(zip(rows.tolist(), values, strict=True)), at + 8 + g + v


def _whole(record: bytes, rows: int, bits: int) -> list[int]:
    return planar.decode_column(memoryview(record), rows, np.dtype(f"u{bits // 8}"), 0).tolist()


def _bits(x: float, dtype: np.dtype) -> int:
    return int.from_bytes(struct.pack("<d" if dtype.itemsize == 8 else "<f", x), "little")


def _float(bits: int, size: int) -> float:
    return struct.unpack("<f" if size == 4 else "<d", bits.to_bytes(size, "little"))[0]
