"""What all writers of files share: rows come in blocks, and none may be missing at the end."""

from __future__ import annotations

import math
from typing import Any, BinaryIO, Protocol

import numpy as np

from hasten._core.checks import refuse

from .recording import Recording

__all__ = ["Plain", "Sink", "fill_missing"]


class Sink(Protocol):
    """Where blocks of rows go."""

    def append(self, block: np.ndarray) -> None:
        """Add rows."""

    def close(self) -> None:
        """Write what comes last. Not called after an error."""


class Plain:
    """Writes rows of numbers to an open file, which stays open.

    Args:
        file: Open for writing bytes; it need not be able to seek.
        like: What the rows are.
        rows: How many will come.

    Raises:
        ValueError, TypeError: The format cannot hold this.
    """

    call = ""

    def __init__(self, file: BinaryIO, like: Recording, rows: int) -> None:
        self._file, self._rows, self._done = file, rows, 0
        self.like = like

    def append(self, block: np.ndarray) -> None:
        """Add rows."""
        if isinstance(block, np.ma.MaskedArray):
            if np.ma.is_masked(block):
                what = "no missing values, which this format cannot hold"
                raise refuse(self.call, what, "some", "Pass --fill nan, say, or write CSV.")
            block = np.ma.getdata(block)
        self._file.write(self._pack(block))
        self._done += len(block)

    def _pack(self, block: np.ndarray) -> bytes:
        """Rows as the format's bytes."""
        raise NotImplementedError

    def close(self) -> None:
        """See that all rows came."""
        if self._done != self._rows:
            raise refuse(self.call, f"{self._rows} rows", f"{self._done}", "")


def fill_missing(block: Any, value: float | None) -> np.ndarray:
    """A block with `value` in place of missing values; None: as it is.

    Raises:
        ValueError: A column with missing values cannot hold `value`.
    """
    if value is None or not isinstance(block, np.ma.MaskedArray):
        return block
    data = np.array(np.ma.getdata(block))
    mask: Any = np.ma.getmaskarray(block)
    names = data.dtype.names
    for column, where in [(data, mask)] if names is None else [(data[name], mask[name]) for name in names]:
        if not where.any():
            continue
        if not _holds(column.dtype, value):
            fix = "Pass another value, or write CSV, where the cells stay empty."
            raise refuse("fill", f"a value that {column.dtype} can hold", repr(value), fix)
        column[where] = value
    return data


def _holds(dtype: np.dtype, value: float) -> bool:
    """Can a column of this dtype hold `value`?"""
    if dtype.kind == "f":
        return not math.isfinite(value) or abs(value) <= float(np.finfo(dtype).max)
    if dtype.kind not in "iu":
        return False
    limits = np.iinfo(dtype)
    return math.isfinite(value) and value % 1 == 0 and limits.min <= value <= limits.max
