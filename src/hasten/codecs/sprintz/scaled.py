"""Floats as integers with a rule: `(n * factor + offset) / divisor`, the sum rounded to a whole number or not.

A record is `u8 kind | u8 rounded | u8 bits | f64 factor | f64 offset | f64 divisor | i64 base | u64 multiple |
exceptions | record`. The last record holds unsigned integers `v` of `bits` bits, and `n = base + multiple * v` modulo
2^64, taken as signed. `n` and the result of each operation are rounded to float64, to nearest with ties to even; a
factor of 1, an offset of 0 and a divisor of 1 are left out; with `rounded` 1 the sum is rounded to a whole number, ties
to even. At the end the value is rounded to the column's dtype.

Decimals have a divisor, multiples of a step a factor, counts of a converter that were written with a few decimals
have both. The kind is 4 where this gives the values, and 5 where it only comes near enough to them (quantize.py). The
encoder goes the way of the decoder for every value. Where that does not give the same bits, as for NaN, infinities,
-0.0 and strays, the value is an exception.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from . import exceptions
from .coded import Coded, bits_of, narrowed, spread, unsigned_of
from .corrected import Corrected, corrected
from .errors import CorruptError
from .exceptions import DecodeIntegers, take

__all__ = ["EXACT", "HEAD", "QUANTISED", "SCALED", "Rule", "coded", "decode_scaled", "followed"]

SCALED, QUANTISED = 4, 5
EXACT = float(1 << 53)  # integers up to here are floats
HEAD = struct.Struct("<BBBdddqQ")


@dataclass(frozen=True)
class Rule:
    """How to go from integers to floats."""

    factor: float = 1.0
    offset: float = 0.0
    divisor: float = 1.0
    rounded: bool = False

    def numbers(self, values: np.ndarray) -> np.ndarray:
        """The integers, as float64, that are nearest to some values; 0 where there is none up to 2^53."""
        with np.errstate(all="ignore"):
            wide = values.astype(np.float64, copy=False)
            wide = wide if self.divisor == 1 else wide * self.divisor
            wide = wide if self.offset == 0 else wide - self.offset
            found = np.rint(wide if self.factor == 1 else wide / self.factor)
            return np.where(np.abs(found) <= EXACT, found, 0.0) + 0.0  # an integer has no -0.0

    def values(self, numbers: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """The floats that integers stand for."""
        with np.errstate(all="ignore"):
            wide = numbers.astype(np.float64)
            if self.factor != 1:
                wide *= self.factor
            if self.offset != 0:
                wide += self.offset
            if self.rounded:
                np.rint(wide, out=wide)
            if self.divisor != 1:
                wide /= self.divisor
            return wide.astype(dtype, copy=False)


def followed(values: np.ndarray, rule: Rule) -> Coded | Corrected | None:
    """Values by a rule, exactly or but for their last bits; None if too many are neither."""
    numbers, bits = rule.numbers(values), bits_of(values)
    others = rule.values(numbers, values.dtype)
    bad = bits_of(others) != bits
    if exceptions.affordable(bits, bad):
        return coded(SCALED, rule, exceptions.fill(numbers, bad), bits, bad)
    none = np.zeros(len(bits), bool)
    ways = corrected(values, others, lambda off: [coded(SCALED, rule, exceptions.fill(numbers, off), bits, none)])
    return ways[0] if ways else None


def coded(kind: int, rule: Rule, numbers: np.ndarray, bits: np.ndarray, bad: np.ndarray) -> Coded:
    """Integers, given as float64, in the smallest unsigned dtype, with their head."""
    whole = numbers.astype(np.int64)
    base = int(whole.min())
    whole -= base
    multiple = _divisor(whole)
    if multiple > 1:
        whole //= multiple
    integers = narrowed(whole, int(whole.max()))
    numbers_of = (rule.factor, rule.offset, rule.divisor, base, multiple)
    return Coded(HEAD.pack(kind, rule.rounded, 8 * integers.itemsize, *numbers_of), integers, bits, bad)


def _divisor(numbers: np.ndarray) -> int:
    """The greatest common divisor; 1 if all are 0."""
    few = int(np.gcd.reduce(spread(numbers, 64)))
    return max(few if few == 1 else int(np.gcd.reduce(numbers)), 1)


def decode_scaled(record: memoryview, nrows: int, dtype: np.dtype, at: int, decode: DecodeIntegers) -> np.ndarray:
    """The values of such a record.

    Raises:
        CorruptError: It is none.
    """
    (_, rounded, width, factor, offset, divisor, base, multiple), start = take(record, 0, HEAD, at)
    if rounded > 1:
        raise CorruptError(at + 1, f"the unknown rule {rounded}")
    if width not in (8, 16, 32, 64):
        raise CorruptError(at + 2, f"integers of {width} bits")
    if not (0 < factor < np.inf and 0 < divisor < np.inf and np.isfinite(offset)):
        raise CorruptError(at + 3, "a rule whose factor or divisor is not positive, or whose offset is no number")
    apart, start = exceptions.unpack(record, start, nrows, unsigned_of(dtype), at, decode)
    numbers = decode(record[start:], nrows, np.dtype(f"u{width // 8}"), at + start).astype(np.uint64)
    if multiple != 1:
        numbers *= np.uint64(multiple)
    if base:
        numbers += np.uint64(base & 0xFFFFFFFFFFFFFFFF)
    values = Rule(factor, offset, divisor, bool(rounded)).values(numbers.view(np.int64), dtype)
    if apart is not None:
        bits_of(values)[apart[0]] = apart[1]
    return values
