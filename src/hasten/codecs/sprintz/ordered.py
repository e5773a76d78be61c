"""Floats as integers in the same order, so that neighbours differ by little. It works for any floats.

A record is `u8 6 | u8 shift | exceptions | record`. The last record holds unsigned integers `t` of 1, 2, 4 or 8 bytes,
the fewest that hold `w = bits of the column - shift` bits. The bits of a value are `u * 2^shift` modulo 2^(bits of the
column), with `u = t ^ 2^(w-1)` if bit `w-1` of `t` is set, else `u = t ^ (2^w - 1)`. Without this map, values around
zero and of both signs would be far apart. The shift serves floats that were float16, bfloat16 or integers.
"""

from __future__ import annotations

import struct

import numpy as np

from . import exceptions
from .coded import Coded, bits_of, unsigned_of
from .errors import CorruptError
from .exceptions import DecodeIntegers, take

__all__ = ["ORDERED", "as_ordered", "decode_ordered"]

ORDERED = 6
_HEAD = struct.Struct("<BB")


def as_ordered(values: np.ndarray) -> Coded:
    """Values as integers in order. NaN and infinities are exceptions, unless they are many."""
    bits = bits_of(values)
    bad = ~np.isfinite(values)
    if not exceptions.affordable(bits, bad):
        bad = np.zeros(len(bits), bool)
    whole = exceptions.fill(bits, bad)
    every = int(np.bitwise_or.reduce(whole))
    shift = (every & -every).bit_length() - 1 if every else 8 * bits.itemsize - 1
    return Coded(_HEAD.pack(ORDERED, shift), _flipped(whole >> whole.dtype.type(shift), shift, back=False), bits, bad)


def decode_ordered(record: memoryview, nrows: int, dtype: np.dtype, at: int, decode: DecodeIntegers) -> np.ndarray:
    """The values of such a record.

    Raises:
        CorruptError: It is none.
    """
    (_, shift), start = take(record, 0, _HEAD, at)
    if shift >= 8 * dtype.itemsize:
        raise CorruptError(at + 1, f"floats of {8 * dtype.itemsize} bits shifted by {shift}")
    unsigned = unsigned_of(dtype)
    apart, start = exceptions.unpack(record, start, nrows, unsigned, at, decode)
    whole = decode(record[start:], nrows, _dtype(8 * dtype.itemsize - shift), at + start)
    bits = _flipped(whole.astype(unsigned), shift, back=True) << unsigned.type(shift)
    if apart is not None:
        bits[apart[0]] = apart[1]
    return bits.view(dtype)


def _dtype(width: int) -> np.dtype:
    return np.dtype(next(f"u{size}" for size in (1, 2, 4, 8) if width <= 8 * size))


def _flipped(numbers: np.ndarray, shift: int, *, back: bool) -> np.ndarray:
    """Sign and magnitude as a number in order, and `back`."""
    width = 8 * numbers.dtype.itemsize - shift
    kind = numbers.dtype.type
    top, all_ones = kind(1 << (width - 1)), kind((1 << width) - 1)
    signed = (numbers & top) != 0
    found = numbers ^ np.where(signed ^ back, all_ones, top)
    return found if back else found.astype(_dtype(width))
