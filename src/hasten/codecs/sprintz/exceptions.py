"""Values that a rule does not give back: stored exactly, apart from the integers of all others.

`u32 count`, and if that is not 0 `u32 g | u32 v | g bytes | v bytes`: a record of `count` u32, how many rows lie
between an exception and the one before it (before the first one: how many rows there are), and a record of `count`
values, their bits. Both are records of integers, so a gap full of NaN costs next to nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

from .errors import CorruptError

__all__ = ["DecodeIntegers", "EncodeIntegers", "Exceptions", "affordable", "fill", "pack", "skip", "take", "unpack"]

EncodeIntegers = Callable[[np.ndarray], bytes]  # of an unsigned array
DecodeIntegers = Callable[[memoryview, int, np.dtype, int], np.ndarray]  # record, rows, unsigned dtype, where it begins
Exceptions = tuple[np.ndarray, np.ndarray] | None  # rows, bits

SHARE = 50  # of so many values one may be an exception
_COUNT, _LENGTHS = struct.Struct("<I"), struct.Struct("<II")
_GAP = np.dtype(np.uint32)


def affordable(bits: np.ndarray, bad: np.ndarray) -> bool:
    """Are the exceptions at most 2 % of the values? One that equals the exception before it is not counted."""
    most = max(len(bits) // SHARE, 1)
    if np.count_nonzero(bad) <= most:
        return True
    found = bits[bad]
    return int(np.count_nonzero(found[1:] != found[:-1])) < most


def fill(numbers: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Numbers in which exceptions repeat the value before them (at the beginning, the first one that is none)."""
    if not bad.any():
        return numbers
    if bad.all():
        return np.zeros_like(numbers)
    before = np.maximum.accumulate(np.where(bad, 0, np.arange(len(bad))))
    return numbers[np.maximum(before, int(np.argmin(bad)))]


def pack(bits: np.ndarray, bad: np.ndarray, encode: EncodeIntegers) -> bytes:
    """The exceptions of a column as bytes.

    Args:
        bits: (rows,), unsigned: the column.
        bad: (rows,) bool: which are exceptions.
        encode: Gives the record of an unsigned array.
    """
    rows = np.flatnonzero(bad)
    if not len(rows):
        return _COUNT.pack(0)
    gaps, values = encode(np.diff(rows, prepend=-1).astype(_GAP) - _GAP.type(1)), encode(bits[rows])
    return _COUNT.pack(len(rows)) + _LENGTHS.pack(len(gaps), len(values)) + gaps + values


def unpack(
    record: memoryview, start: int, nrows: int, dtype: np.dtype, at: int, decode: DecodeIntegers
) -> tuple[Exceptions, int]:
    """The exceptions that stand from byte `start` of a record on, and where they end.

    Args:
        record: Of the column.
        start: Where they begin.
        nrows: Rows of the column.
        dtype: Unsigned, of the column's size.
        at: Where the record begins, for the offsets of errors.
        decode: Gives the integers of a record.

    Raises:
        CorruptError: They are not what `pack` writes.
    """
    (count,), place = take(record, start, _COUNT, at)
    if not count:
        return None, place
    if count > nrows:
        raise CorruptError(at + start, f"{count} exceptions in {nrows} rows")
    (gaps_length, values_length), place = take(record, place, _LENGTHS, at)
    middle, end = place + gaps_length, place + gaps_length + values_length
    if end > len(record):
        raise CorruptError(at + place - _LENGTHS.size, "exceptions are longer than their record")
    gaps = decode(record[place:middle], count, _GAP, at + place)
    rows = np.cumsum(gaps, dtype=np.int64) + np.arange(count)
    if rows[-1] >= nrows:
        raise CorruptError(at + place, f"an exception in row {rows[-1]} of {nrows}")
    return (rows, decode(record[middle:end], count, dtype, at + middle)), end


def skip(record: memoryview, start: int) -> int:
    """Where the exceptions end that stand from byte `start` of a record on.

    Raises:
        CorruptError: The record is too short.
    """
    (count,), place = take(record, start, _COUNT, 0)
    if not count:
        return place
    lengths, place = take(record, place, _LENGTHS, 0)
    return place + sum(lengths)


def take(record: memoryview, start: int, form: struct.Struct, at: int) -> tuple[tuple, int]:
    """The numbers that stand from byte `start` of a record on, and where they end.

    Raises:
        CorruptError: The record is too short.
    """
    end = start + form.size
    if end > len(record):
        raise CorruptError(at + len(record), "a record ends inside its head")
    return form.unpack(record[start:end]), end
