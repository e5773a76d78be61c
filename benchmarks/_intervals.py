"""An interval around a median, from the order of the values alone: that of the package."""

from __future__ import annotations

from hasten._core.timing import median_interval

__all__ = ["median_interval"]
