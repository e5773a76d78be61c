"""An interval around a median, from the order of the values alone."""

from __future__ import annotations

import math
import statistics

__all__ = ["median_interval"]


def median_interval(values: list[float]) -> tuple[float, list[float]]:
    """The median, and order statistics around it that hold that of the law with 95 % (of fewer than six: all)."""
    n, ordered = len(values), sorted(values)
    tail, k = 0.0, 0  # tail: how probable it is that k values or fewer lie below
    while k < n // 2 and tail + math.comb(n, k) / 2**n <= 0.025:
        tail += math.comb(n, k) / 2**n
        k += 1
    k = max(k - 1, 0)
    return statistics.median(ordered), [ordered[k], ordered[n - 1 - k]]
