"""Is a column of floats one of decimals, such as 21.5 and 21.75? How many digits stand behind the point?

Sensors, CSV files and databases give decimals, and a float holds the nearest number to each. With `n = rint(x * 10^k)`
the quotient `n / 10^k` is rounded correctly as long as `|n| <= 2^53` and `k <= 22`, so it is exactly that number: `n`
gives `x` back bit for bit. float32 takes one rounding more, from the float64 quotient.
"""

from __future__ import annotations

import numpy as np

from .coded import SAMPLE, Coded, bits_of, spread
from .corrected import TYPICAL, Corrected, near
from .exceptions import SHARE
from .scaled import EXACT, Rule, followed

__all__ = ["as_decimals", "places"]

POWERS = np.array([10.0**k for k in range(16)])  # each is exact
TRIES = 3  # of how many digits, each also on values that the one before left out
APART = 16  # times as far as their values may be off, neighbouring decimals must be, or any value is near one


def as_decimals(values: np.ndarray, sample: np.ndarray) -> tuple[Coded | Corrected, Rule] | None:
    """Values as decimals, and the rule; None if too many are none.

    Args:
        values: (rows,), float32 or float64.
        sample: Some of them, finite.
    """
    tried = -1
    for _ in range(TRIES):
        digits = places(sample)
        if digits is None or digits == tried:
            return None
        tried, rule = digits, Rule(divisor=float(POWERS[digits]))
        found = followed(values, rule)
        if found is not None:
            return found, rule
        back = rule.values(rule.numbers(values), values.dtype)
        strays = values[np.isfinite(values) & ~near(values, back, TYPICAL[values.itemsize]) & (values != 0)]
        sample = np.concatenate([sample[: SAMPLE // 2], spread(strays, SAMPLE)])
    return None


def places(sample: np.ndarray) -> int | None:
    """The fewest digits behind the point, up to 15, that nearly all values have; None if none is enough.

    Args:
        sample: (values,), float32 or float64, finite.

    >>> places(np.array([21.5, 21.75, -3.0])), places(np.array([1 / 3, 2 / 3]))
    (2, None)
    """
    if not len(sample):
        return None
    off = TYPICAL[sample.itemsize]
    with np.errstate(all="ignore"):
        numbers = np.rint(sample.astype(np.float64) * POWERS[:, None]) + 0.0
        back = (numbers / POWERS[:, None]).astype(sample.dtype)
        coarse = np.spacing(np.abs(sample)).astype(np.float64) * (2 * APART * off) < 1 / POWERS[:, None]
    fits = (bits_of(back) == bits_of(sample)) | (coarse & near(back, sample, off))
    fits &= np.abs(numbers) <= EXACT
    enough = np.count_nonzero(fits, axis=1) >= len(sample) - len(sample) // SHARE
    return int(np.argmax(enough)) if enough.any() else None
