"""Decimals that were something coarser before: counts of a converter, scaled, and written with a few digits.

A converter of 12 bits whose counts are printed with three decimals gives 5.827, 5.693, 5.157: whole thousandths, but
only every 67th of them, sometimes the 66th. The thousandths are `rint(q * factor + offset)` with small whole `q`. The
factor is guessed from neighbouring values and made more exact with distant ones. Then the line through all values is
laid such that the largest distance from it is least: if that is below 1/2, rounding gives every value back.
"""

from __future__ import annotations

import numpy as np

from .coded import SAMPLE, Way, shortest, spread
from .corrected import TYPICAL, near
from .scaled import Rule, followed

__all__ = ["as_lattice", "lattice"]

SPARSE = 4  # the least factor
FEWEST = 8  # different values
ROUNDS, CUTS = 32, 60
SLACK = 0.02  # by which a line may be shifted to have fewer digits


def as_lattice(values: np.ndarray, integers: np.ndarray, decimals: Rule) -> Way | None:
    """Decimals as rounded multiples of a factor; None if they are dense.

    Args:
        values: (rows,), float32 or float64.
        integers: (rows,), which stand for them.
        decimals: The rule by which they do.
    """
    if not _sparse(np.unique(spread(integers, SAMPLE)).astype(np.float64)):
        return None
    numbers = decimals.numbers(values)
    fits = near(decimals.values(numbers, values.dtype), values, TYPICAL[values.itemsize])
    found = lattice(np.unique(numbers[fits]))
    return None if found is None else followed(values, Rule(*found, decimals.divisor, rounded=True))


def lattice(numbers: np.ndarray) -> tuple[float, float] | None:
    """Factor and offset with which rounded multiples give nearly all of some whole numbers.

    Args:
        numbers: (values,), float64, whole, sorted, all different.

    >>> factor, offset = lattice(np.rint(np.arange(20) * 35.54))
    >>> round(factor, 1)
    35.5
    """
    if not _sparse(numbers):
        return None
    gaps = np.diff(numbers)
    usual = float(np.sort(gaps)[len(gaps) // 8])  # of the small ones, but not the smallest, which strays make
    single = gaps[np.abs(gaps - usual) <= 0.3 * usual]
    factor = float(single.sum() / len(single))
    middle = float(numbers[len(numbers) // 2])
    sizes = numbers - middle
    found = _sharpened(sizes, factor, 1 / (factor * np.sqrt(len(single))))
    if found is None:
        return None
    counts = np.rint(sizes / found)
    rests = sizes - counts * found
    inside = np.abs(rests - np.median(rests)) <= 1
    if np.count_nonzero(inside) * 10 < 9 * len(inside):
        return None
    factor, offset = _line(counts[inside], sizes[inside], found)
    return _rounder(numbers, factor, offset + middle)


def _rounder(numbers: np.ndarray, factor: float, offset: float) -> tuple[float, float]:
    """Factor and offset, or some of fewer digits near them that give as many values: ties then fall as they did."""
    reach = SLACK / max(float(np.abs(numbers).max()) / factor, 1.0)
    nice = shortest(factor - reach, factor + reach)
    near_zero = offset - float(np.rint(offset / nice)) * nice
    best, most = (factor, offset), -1
    for guess in ((nice, shortest(near_zero - SLACK, near_zero + SLACK)), (nice, near_zero), (factor, offset)):
        rule = Rule(*guess, rounded=True)
        count = int(np.count_nonzero(rule.values(rule.numbers(numbers), numbers.dtype) == numbers))
        if count > most:
            best, most = guess, count
    return best


def _sparse(numbers: np.ndarray) -> bool:
    """Are sorted whole numbers far apart, and often by the same?"""
    gaps = np.diff(numbers)
    if len(numbers) < FEWEST or np.median(gaps) < SPARSE:
        return False
    return bool(np.count_nonzero(gaps < SPARSE - 1) * 20 <= len(gaps))


def _sharpened(sizes: np.ndarray, factor: float, doubt: float) -> float | None:
    """A factor made more exact by larger and larger multiples; None if too many are none."""
    for _ in range(ROUNDS):
        counts = np.rint(sizes / factor)
        rests = np.abs(sizes - counts * factor)
        sure = np.abs(counts) * doubt < 0.35
        if np.count_nonzero(rests[sure] > 0.4 * factor) * 20 > np.count_nonzero(sure):
            return None
        largest = int(np.argmax(np.where(sure & (rests < 0.4 * factor), np.abs(counts), 0)))
        if not counts[largest]:
            return None
        factor, doubt = float(sizes[largest] / counts[largest]), 1 / abs(float(sizes[largest]))
        if sure.all():
            return factor
    return None


def _line(counts: np.ndarray, sizes: np.ndarray, factor: float) -> tuple[float, float]:
    """Factor and offset of the line whose largest distance from points is least: thirds are cut off a range of factors,
    as the spread of the distances is convex in the factor."""

    def ends(slope: float) -> tuple[float, float]:
        rests = sizes - slope * counts
        return float(rests.min()), float(rests.max())

    reach = 2 / max(float(np.abs(counts).max()), 1.0)
    low, high = factor - reach, factor + reach
    for _ in range(CUTS):
        third = (high - low) / 3
        (a, b), (c, d) = ends(low + third), ends(high - third)
        low, high = (low, high - third) if b - a < d - c else (low + third, high)
    bottom, top = ends((low + high) / 2)
    return (low + high) / 2, (bottom + top) / 2
