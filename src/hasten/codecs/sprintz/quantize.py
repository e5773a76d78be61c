"""Floats within a given error: `y = q * step + offset` with whole `q`, and `|x - y| < max_error` for every value.

A record is that of scaled.py with the kind 5. The step is a little less than twice the error, which leaves room for
the roundings. That is no proof, so every value is decoded and compared: those that would be off by more, NaN and
infinities are exceptions, stored exactly. A zero may lose its sign.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import exceptions
from .coded import Way, bits_of
from .scaled import QUANTISED, Rule, coded

__all__ = ["as_quantised", "error_of"]

MARGIN = 1 - 2.0**-20
LIMIT = 2.0**31  # of |q|: more bits than that are no gain


def error_of(max_error: float | Sequence[float | None] | None, column: int) -> float | None:
    """The error that a column may have: `max_error` is that of all columns, or holds one for each."""
    return max_error if max_error is None or isinstance(max_error, (int, float)) else max_error[column]


def as_quantised(values: np.ndarray, sample: np.ndarray, max_error: float) -> Way | None:
    """Values within `max_error`; None where too many would be exceptions.

    Args:
        values: (rows,), float32 or float64.
        sample: Some of them, finite.
        max_error: Above 0.
    """
    step = 2 * max_error * MARGIN
    if not len(sample) or not 0 < step < np.inf:
        return None
    rule = Rule(step, float(np.sort(sample)[len(sample) // 2]))
    numbers = rule.numbers(values)
    numbers[np.abs(numbers) >= LIMIT] = 0
    with np.errstate(all="ignore"):
        back = rule.values(numbers, values.dtype).astype(np.float64, copy=False)
        # A rounded difference below the error means that the exact one is below it, as rounding keeps the order.
        bad = ~(np.abs(values.astype(np.float64, copy=False) - back) < max_error)
    if not exceptions.affordable(bits_of(values), bad):
        return None
    return coded(QUANTISED, rule, exceptions.fill(numbers, bad), bits_of(values), bad)
