"""The interval of a median as records write it."""

from __future__ import annotations

from hasten._core import timing

__all__ = ["median_interval"]


def median_interval(values: list[float]) -> tuple[float, list[float]]:
    """The median, and order statistics around it that hold that of the law with 95 % (of fewer than six: all)."""
    median, interval = timing.median_interval(values)
    return median, list(interval)
