"""Are floats whole multiples of a step that nobody told us? Counts of a converter times its gain are.

The step is guessed as a greatest common divisor is found, with numbers that are only nearly multiples: the smallest
difference of two values, then the smallest rest that another difference leaves, until none leaves one. Large multiples
then make the guess exact to the rounding of the values. Which float it was that the counts were multiplied with or
divided by is tried: the shortest decimal in reach, what single values give, and the neighbours. Values that are so far
from zero that they have an offset are written with one, and corrections of their last bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from .coded import SAMPLE, Coded, bits_of, shortest, spread
from .corrected import TYPICAL, Corrected, near
from .exceptions import SHARE
from .scaled import Rule, followed

__all__ = ["as_multiples", "rules"]

LEAST = 2.0**-100  # the smallest step, so that no value is subnormal
ROUNDS = 32
NEIGHBOURS = 2
TRIES = 2  # the second one also with values that the first one did not give
FIXED_BITS = 31  # of fixed-point numbers worth trying


def as_multiples(values: np.ndarray, sample: np.ndarray) -> list[Coded | Corrected]:
    """Ways to write values as whole multiples of a step, or as whole numbers over a divisor; none if too many are not.

    Args:
        values: (rows,), float32 or float64.
        sample: Some of them, finite.
    """
    way = None
    for _ in range(TRIES):
        rule, exact = _best(sample)
        way = None if rule is None else followed(values, rule)
        if rule is None or not exact or isinstance(way, Coded):
            break
        strays = values[bits_of(rule.values(rule.numbers(values), values.dtype)) != bits_of(values)]
        sample = np.concatenate([sample, spread(strays[np.isfinite(strays)], SAMPLE)])
    fixed = None if isinstance(way, Coded) else _fixed(sample)
    ways = (way, None if fixed is None else followed(values, fixed))
    return [way for way in ways if way is not None]


def _best(sample: np.ndarray) -> tuple[Rule | None, bool]:
    """The rule that gives most values of a sample, and whether it gives all of them exactly."""
    best: Rule | None = None
    least = (len(sample) // SHARE + 1, 0)
    for rule in rules(sample):
        back = rule.values(rule.numbers(sample), sample.dtype)
        far = int(np.count_nonzero(~near(back, sample, TYPICAL[sample.itemsize])))
        score = (far, int(np.count_nonzero(bits_of(back) != bits_of(sample))))
        if score < least:
            best, least = rule, score
        if score == (0, 0):
            break
    return best, least == (0, 0)


def rules(sample: np.ndarray) -> Iterator[Rule]:
    """Rules that may give the values.

    Args:
        sample: (values,), float32 or float64, finite.

    >>> next(rules(np.arange(-50, 50) / 81.92))
    Rule(factor=1.0, offset=0.0, divisor=81.92, rounded=False)
    """
    values = np.unique(sample[sample != 0]).astype(np.float64)
    if len(values) < 3:
        return
    error = float(np.abs(values).max()) * float(np.finfo(sample.dtype).eps)  # of a difference
    with np.errstate(all="ignore"):
        step = _step(values, error)
        if step is None:
            return
        exact = _sharpened(step, np.abs(values), error)
        if exact is not None:
            yield from _near(np.abs(values), exact, sample.dtype)
        yield Rule(step, float(values[len(values) // 2]))


def _step(values: np.ndarray, error: float) -> float | None:
    """The greatest common divisor of the differences of values, which are off by up to `error`."""
    gaps = np.diff(values)
    step = float(gaps.min())
    for _ in range(ROUNDS):
        if not (step > 16 * error and step > LEAST):
            return None
        counts = np.rint(gaps / step)
        rests = np.abs(gaps - counts * step)
        rests = rests[rests > 4 * error * (1 + counts)]
        if not len(rests):
            return _sharpened(step, values - values[0], error)
        step = float(rests.min())
    return None


def _sharpened(step: float, sizes: np.ndarray, error: float) -> float | None:
    """A step made more exact by larger and larger multiples; None if they are none."""
    doubt = error / step
    for _ in range(ROUNDS):
        counts = np.rint(sizes / step)
        sure = counts * doubt < 0.2
        if np.any(np.abs(sizes[sure] / step - counts[sure]) > 0.4) or counts[sure].max(initial=0) < 1:
            return None
        largest = int(np.argmax(np.where(sure, counts, 0)))
        step, doubt = float(sizes[largest] / counts[largest]), error / float(sizes[largest])
        if sure.all():
            return step
    return None


def _near(sizes: np.ndarray, step: float, dtype: np.dtype) -> Iterator[Rule]:
    """Rules with a factor near a step, such that the multiples are rounded to these values of a dtype."""
    counts = np.maximum(np.rint(sizes / step), 1)
    half = np.spacing(sizes.astype(dtype)).astype(np.float64) / 2
    low = float(((sizes - half) / counts).max()) * (1 - 2.0**-51)
    high = float(((sizes + half) / counts).min()) * (1 + 2.0**-51)
    if not LEAST < low <= high < 1 / LEAST:
        if LEAST < step < 1 / LEAST:
            yield Rule(step)
        return
    yield Rule(divisor=shortest(1 / high, 1 / low))
    yield Rule(shortest(low, high))
    smallest = int(np.argmin(counts))
    single, middle = float(sizes[smallest] / counts[smallest]), (low + high) / 2
    for guess in (single, middle):
        yield from (Rule(factor) for factor in _around(guess))
    for guess in (float(counts[smallest] / sizes[smallest]), 1 / middle):
        yield from (Rule(divisor=divisor) for divisor in _around(guess))


def _around(guess: float) -> Iterator[float]:
    """A number and its nearest neighbours."""
    yield guess
    for end in (0.0, math.inf):
        other = guess
        for _ in range(NEIGHBOURS):
            other = math.nextafter(other, end)
            yield other


def _fixed(sample: np.ndarray) -> Rule | None:
    """The power of two of which all values are multiples, if the multiples are small."""
    values = sample[sample != 0].astype(np.float64)
    if not len(values):
        return None
    mantissas, exponents = np.frexp(values)
    whole = (mantissas * 2.0**53).astype(np.int64)
    lowest = exponents - 54 + np.frexp((whole & -whole).astype(np.float64))[1]
    exponent = int(lowest.min())
    small = -100 <= exponent <= 100 and float(np.abs(values).max()) < math.ldexp(1.0, exponent + FIXED_BITS)
    return Rule(math.ldexp(1.0, exponent)) if small else None
