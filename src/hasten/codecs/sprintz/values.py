"""A column of any dtype as a record: floats become integers first, where they can.

Integers and booleans go to the coder of integers as they are. Floats are tried as decimals, as float32 in float64, as
multiples of a step, and as ordered integers, which always works; with a `max_error` also as multiples of a step within
it. What is smallest on a sample of rows is taken. Without a `max_error` every value comes back bit for bit, and with
one so do NaN of every payload and infinities.

The kinds of records here are 4 and 5 (scaled.py), 6 (ordered.py), 7 (lz.py), 9 (corrected.py) and 8: `u8 8 | record of
float32` of a float64 column whose values are float32. Inside them stand records of integers, of kinds 0, 1, 3 and 7.
"""

from __future__ import annotations

import numpy as np

from . import exceptions, lz
from .coded import Coded, Way, bits_of, cheapest, finite_sample, prefixed, unsigned_of
from .corrected import CORRECTED, LENGTH, TYPICAL, corrected, decode_corrected, near
from .decimals import as_decimals
from .errors import CorruptError
from .exceptions import DecodeIntegers, EncodeIntegers
from .lattice import as_lattice
from .multiples import as_multiples
from .ordered import ORDERED, as_ordered, decode_ordered
from .quantize import as_quantised
from .scaled import HEAD, QUANTISED, SCALED, decode_scaled

__all__ = ["FLOAT32", "NAMES", "decode_values", "encode_values", "names_of"]

FLOAT32 = 8
NAMES = {
    SCALED: "scaled", QUANTISED: "quantised", ORDERED: "ordered", lz.LZ: "zstd", FLOAT32: "float32",
    CORRECTED: "corrected",
}  # fmt: skip
HEADS = {SCALED: HEAD.size, QUANTISED: HEAD.size, ORDERED: 2, CORRECTED: 1}  # bytes before the exceptions
_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
_NORMAL = np.finfo(np.float32).smallest_normal


def encode_values(
    column: np.ndarray, max_error: float | None, encode_integers: EncodeIntegers, level: int | None = None
) -> bytes:
    """The record of a column.

    Args:
        column: (rows,), contiguous, native: (u)int8 to 64, bool, float32 or float64.
        max_error: By how much floats may be off; None: not at all. Of no effect on other dtypes.
        encode_integers: Gives the record of an unsigned array.
        level: Of zstd, which is tried on all integers; None: it is not.
    """

    def encode(integers: np.ndarray) -> bytes:
        record = encode_integers(integers)
        packed = None if level is None else lz.maybe_zstd(integers, len(record), level)
        return record if packed is None else packed

    bits = bits_of(column)
    if column.dtype.kind != "f" or not len(column):
        return encode(bits)
    record = cheapest(_ways(column, max_error), encode_integers).record(encode)
    return record if len(record) <= bits.nbytes else encode(bits)


def decode_values(
    record: memoryview, nrows: int, dtype: np.dtype, at: int, decode_integers: DecodeIntegers
) -> np.ndarray:
    """The values of a record, (nrows,) of `dtype`; perhaps read-only.

    Args:
        record: The record of the column.
        nrows: Rows of the chunk.
        dtype: Of the column, native.
        at: Where the record begins, for the offsets of errors.
        decode_integers: Gives the integers of a record: called with it, rows, an unsigned dtype, and where it begins.

    Raises:
        CorruptError: Not a record of such a column. ImportError: It needs zstandard, which is not installed.
    """

    def integers(inner: memoryview, rows: int, unsigned: np.dtype, place: int) -> np.ndarray:
        if len(inner) and inner[0] == lz.LZ:
            return lz.decode_zstd(inner, rows, unsigned, place)
        return decode_integers(inner, rows, unsigned, place)

    def floats(inner: memoryview, rows: int, wanted: np.dtype, place: int) -> np.ndarray:
        kind = inner[0] if len(inner) else -1
        if kind in (SCALED, QUANTISED):
            return decode_scaled(inner, rows, wanted, place, integers)
        if kind == ORDERED:
            return decode_ordered(inner, rows, wanted, place, integers)
        if kind == CORRECTED:  # within which there is none but in a float32
            return decode_corrected(inner, rows, wanted, place, integers, floats)
        if kind == FLOAT32:
            if wanted != _DOUBLE:
                raise CorruptError(place, "float32 in a column that is none of float64")
            return _widened(floats(inner[1:], rows, _SINGLE, place + 1))
        return integers(inner, rows, unsigned_of(wanted), place).view(wanted)

    if dtype.kind == "f":
        return floats(record, nrows, dtype, at)
    return integers(record, nrows, unsigned_of(dtype), at).view(dtype)


def names_of(record: memoryview) -> tuple[list[str], memoryview]:
    """What a record of a float column turns values into, from the outside in, and the record of integers within.

    Raises:
        CorruptError: It ends too early.
    """
    names: list[str] = []
    while len(record) and record[0] in NAMES:
        kind = record[0]
        names.append(NAMES[kind])
        if kind == lz.LZ:
            break
        start = exceptions.skip(record, HEADS[kind]) if kind != FLOAT32 else 1
        stop = len(record)
        if kind == CORRECTED:
            (length,), start = exceptions.take(record, start, LENGTH, 0)
            stop = start + length
        record = record[start:stop]
    return names, record


def _ways(column: np.ndarray, max_error: float | None) -> list[Way]:
    """Ways to write a column of floats."""
    sample = finite_sample(column)
    ways = _exact(column, sample)
    coarse = None if max_error is None else as_quantised(column, sample, max_error)
    return ways if coarse is None else [*ways, coarse]


def _exact(column: np.ndarray, sample: np.ndarray) -> list[Way]:
    """Ways without loss."""
    ways: list[Way] = []
    decimals = as_decimals(column, sample)
    if decimals is None and column.dtype == _DOUBLE:
        ways += _singles(column, sample)
    if not ways and not (decimals and _settled(decimals[0], column.dtype)):
        ways += as_multiples(column, sample)
    if decimals is not None:
        way, rule = decimals
        small = any(isinstance(other, Coded) and other.integers.itemsize <= 2 for other in ways)
        coarse = None if small else as_lattice(column, way.integers, rule)
        ways += [way] if coarse is None else [coarse, way]
    return [*ways, as_ordered(column)]


def _settled(way: Way, dtype: np.dtype) -> bool:
    """Are decimals good enough? Any float32 is one, but perhaps one of many digits; and corrections cost."""
    return isinstance(way, Coded) and (dtype == _DOUBLE or way.integers.itemsize <= 2)


def _singles(column: np.ndarray, sample: np.ndarray) -> list[Way]:
    """Ways to write a column of float64 as float32, if it is one but for the last bits."""
    with np.errstate(all="ignore"):
        if not np.all(near(sample.astype(_SINGLE).astype(_DOUBLE), sample, TYPICAL[8])):
            return []
        single = column.astype(_SINGLE)
    size = np.abs(single)
    if np.any((size < _NORMAL) & (size > 0)):  # which some settings of the processor flush to zero
        return []
    wide = _widened(single)
    if np.array_equal(bits_of(wide), bits_of(column)):
        return _within(single)
    return [*corrected(column, wide, lambda bad: _within(exceptions.fill(single, bad)))]


def _within(single: np.ndarray) -> list[Way]:
    """Ways to write a column of float32 in one of float64."""
    return [prefixed(bytes([FLOAT32]), way) for way in _exact(single, finite_sample(single))]


def _widened(single: np.ndarray) -> np.ndarray:
    """float32 as float64. The bits of a NaN are moved, since processors convert it differently."""
    nan = np.isnan(single)
    with np.errstate(all="ignore"):
        wide = single.astype(_DOUBLE)
    if nan.any():
        bits = bits_of(single)[nan].astype(np.uint64)
        sign, rest = bits >> np.uint64(31), bits & np.uint64(0x7FFFFF)
        bits_of(wide)[nan] = (sign << np.uint64(63)) | np.uint64(0x7FF << 52) | (rest << np.uint64(29))
    return wide
