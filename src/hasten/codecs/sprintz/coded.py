"""A column of floats as integers, exceptions, and a head that says how to go back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from . import exceptions
from .exceptions import EncodeIntegers

__all__ = ["Coded", "Way", "bits_of", "cheapest", "finite_sample", "narrowed", "prefixed", "spread", "unsigned_of"]

SAMPLE = 256  # values on which ways are guessed
COMPARED = 1024  # rows in the middle, on which ways are compared


class Way(Protocol):
    """One way to write a column."""

    @property
    def bits(self) -> np.ndarray:
        """(rows,), unsigned: the column."""
        ...

    @property
    def integers(self) -> np.ndarray:
        """(rows,), unsigned: what stands for it."""
        ...

    def record(self, encode: EncodeIntegers) -> bytes:
        """The record of the column."""
        ...

    def rows(self, wanted: slice) -> Way:
        """The same way for some rows."""
        ...


@dataclass(frozen=True)
class Coded:
    """`head`, then the exceptions, then the record of the integers.

    `integers` are unsigned, `bits` the column as it was, and `bad` says where the integers do not speak for it.
    """

    head: bytes
    integers: np.ndarray
    bits: np.ndarray
    bad: np.ndarray

    def record(self, encode: EncodeIntegers) -> bytes:
        """The record of the column."""
        return self.head + exceptions.pack(self.bits, self.bad, encode) + encode(self.integers)

    def rows(self, wanted: slice) -> Coded:
        """The same way for some rows."""
        return replace(self, integers=self.integers[wanted], bits=self.bits[wanted], bad=self.bad[wanted])


@dataclass(frozen=True)
class _Prefixed:
    prefix: bytes
    way: Way

    @property
    def bits(self) -> np.ndarray:
        return self.way.bits

    @property
    def integers(self) -> np.ndarray:
        return self.way.integers

    def record(self, encode: EncodeIntegers) -> bytes:
        return self.prefix + self.way.record(encode)

    def rows(self, wanted: slice) -> _Prefixed:
        return _Prefixed(self.prefix, self.way.rows(wanted))


def prefixed(prefix: bytes, way: Way) -> Way:
    """A way whose record begins with some bytes more."""
    return _Prefixed(prefix, way)


def cheapest(ways: Sequence[Way], encode: EncodeIntegers) -> Way:
    """The way whose record is the smallest, judged on a sample of rows; the first one where there are several."""
    if len(ways) == 1:
        return ways[0]
    middle = len(ways[0].bits) // 2
    some = slice(max(middle - COMPARED // 2, 0), middle + COMPARED // 2)
    sizes = [len(way.rows(some).record(encode)) for way in ways]
    return ways[sizes.index(min(sizes))]


def unsigned_of(dtype: np.dtype) -> np.dtype:
    """The unsigned dtype of the same size."""
    return np.dtype(f"u{dtype.itemsize}")


def bits_of(values: np.ndarray) -> np.ndarray:
    """The unsigned integers with the bits of a contiguous array."""
    return values.view(unsigned_of(values.dtype))


def narrowed(numbers: np.ndarray, span: int) -> np.ndarray:
    """Numbers from 0 to `span` in the smallest unsigned dtype that holds them."""
    return numbers.astype(next(f"u{size}" for size in (1, 2, 4, 8) if span < 1 << 8 * size))


def spread(values: np.ndarray, count: int) -> np.ndarray:
    """At most `count` values, evenly from all of them."""
    return values[:: max(-(-len(values) // count), 1)]


def finite_sample(values: np.ndarray) -> np.ndarray:
    """Some values that are finite, evenly from all of them; a zero has no sign."""
    sample = spread(values, SAMPLE)
    return sample[np.isfinite(sample)] + sample.dtype.type(0)
