"""Floats that are nearly what a rule gives: a few steps of their last bit away.

Decimals that were added up (0.1 + 0.2 is 0.30000000000000004), counts times a gain plus an offset, float32 printed and
read again as float64: a rule gives such values but for their last bits. A record is `u8 9 | exceptions | u32 n |
n bytes: a record of floats of kind 4, 5 or 8 | record of u16`. Of each u16 `z` the correction is
`c = (z >> 1) ^ -(z & 1)`; the bits of a value, as an unsigned integer, are those of the rule's value plus `c`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from . import exceptions
from .coded import Way, bits_of, unsigned_of
from .errors import CorruptError
from .exceptions import DecodeIntegers, EncodeIntegers, take

__all__ = ["CORRECTED", "LENGTH", "Corrected", "corrected", "decode_corrected", "near"]

CORRECTED = 9
INNER = (4, 5, 8)
TYPICAL = {4: 8, 8: 64}  # bytes of a float: by how many steps of the last bit values of a sample may be off
MOST = {4: 1 << 7, 8: 1 << 12}  # and any value that is no exception
_KIND, LENGTH = struct.Struct("<B"), struct.Struct("<I")


@dataclass(frozen=True)
class Corrected:
    """A way whose values are off, and by how much; `integers` are those of the way."""

    rule: Way
    zigzag: np.ndarray
    bits: np.ndarray
    bad: np.ndarray

    @property
    def integers(self) -> np.ndarray:
        """(rows,), unsigned."""
        return self.rule.integers

    def record(self, encode: EncodeIntegers) -> bytes:
        """The record of the column."""
        inner = self.rule.record(encode)
        head = _KIND.pack(CORRECTED) + exceptions.pack(self.bits, self.bad, encode)
        return head + LENGTH.pack(len(inner)) + inner + encode(self.zigzag)

    def rows(self, wanted: np.ndarray) -> Corrected:
        """The same way for some rows."""
        return Corrected(self.rule.rows(wanted), self.zigzag[wanted], self.bits[wanted], self.bad[wanted])


def near(values: np.ndarray, others: np.ndarray, steps: int) -> np.ndarray:
    """Where floats are at most so many steps of the last bit apart, and of one sign."""
    return (bits_of(values) - bits_of(others)) + np.array(steps, unsigned_of(values.dtype)) <= 2 * steps


def corrected(values: np.ndarray, others: np.ndarray, rule: Callable[[np.ndarray], Sequence[Way]]) -> list[Corrected]:
    """Ways to write values that are near others, or none if too many are not.

    Args:
        values: (rows,), float32 or float64.
        others: What a rule gives instead, of the same dtype.
        rule: Gives ways to write `others`, told where they do not matter.
    """
    bits = bits_of(values)
    bad = ~near(values, others, MOST[values.itemsize])
    if not exceptions.affordable(bits, bad):
        return []
    signed = (bits - bits_of(others)).astype(np.int16)  # the low bits, which are all where it is not bad
    signed[bad] = 0
    zigzag = ((signed << 1) ^ (signed >> 15)).view(np.uint16)
    return [Corrected(way, zigzag, bits, bad) for way in rule(bad)]


def decode_corrected(
    record: memoryview, nrows: int, dtype: np.dtype, at: int, decode: DecodeIntegers,
    decode_floats: Callable[[memoryview, int, np.dtype, int], np.ndarray],
) -> np.ndarray:  # fmt: skip
    """The values of such a record; `decode_floats` decodes the record within.

    Raises:
        CorruptError: It is none.
    """
    unsigned = unsigned_of(dtype)
    apart, place = exceptions.unpack(record, _KIND.size, nrows, unsigned, at, decode)
    (length,), start = take(record, place, LENGTH, at)
    end = start + length
    if end > len(record):
        raise CorruptError(at + place, "a record within is longer than its record")
    if not length or record[start] not in INNER:
        raise CorruptError(at + start, "not a rule for floats")
    zigzag = decode(record[end:], nrows, np.dtype(np.uint16), at + end)
    signed = (zigzag >> np.uint16(1)).astype(np.int16) ^ -(zigzag & np.uint16(1)).astype(np.int16)
    bits = bits_of(decode_floats(record[start:end], nrows, dtype, at + start)) + signed.astype(unsigned)
    if apart is not None:
        bits[apart[0]] = apart[1]
    return bits.view(dtype)
