"""A column of floats as integers, exceptions, and a head that says how to go back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from . import exceptions
from .exceptions import EncodeIntegers

__all__ = [
    "Coded",
    "Way",
    "bits_of",
    "cheapest",
    "finite_sample",
    "narrowed",
    "prefixed",
    "shortest",
    "spread",
    "unsigned_of",
]

SAMPLE = 256  # values on which ways are guessed
STRETCHES, STRETCH = 8, 128  # rows on which ways are compared


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

    def rows(self, wanted: np.ndarray) -> Way:
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

    def rows(self, wanted: np.ndarray) -> Coded:
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

    def rows(self, wanted: np.ndarray) -> _Prefixed:
        return _Prefixed(self.prefix, self.way.rows(wanted))


def prefixed(prefix: bytes, way: Way) -> Way:
    """A way whose record begins with some bytes more."""
    return _Prefixed(prefix, way)


def cheapest(ways: Sequence[Way], encode: EncodeIntegers) -> Way:
    """The way whose record is the smallest, judged on stretches of rows; the first one where there are several."""
    if len(ways) == 1:
        return ways[0]
    some = _stretches(len(ways[0].bits))
    sizes = [len(way.rows(some).record(encode)) for way in ways]
    return ways[sizes.index(min(sizes))]


def _stretches(rows: int) -> np.ndarray:
    """Rows in some stretches, evenly from all of them; all rows where they are few."""
    if rows <= STRETCHES * STRETCH:
        return np.arange(rows)
    starts = np.arange(STRETCHES) * (rows - STRETCH) // (STRETCHES - 1)
    return (starts[:, None] + np.arange(STRETCH)).reshape(-1)


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


def shortest(low: float, high: float) -> float:
    """The number with the fewest digits from `low` to `high`.

    >>> shortest(0.3329, 0.3334), shortest(-0.1, 0.2)
    (0.333, 0.0)
    """
    if low <= 0 <= high:
        return 0.0
    middle = (low + high) / 2
    for digits in range(17):
        found = float(f"{middle:.{digits}e}")
        if low <= found <= high:
            return found
    return middle
