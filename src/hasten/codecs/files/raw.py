"""Raw: nothing but rows of numbers of one dtype, one row behind the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hasten._core.checks import refuse, refuse_type, whole

from .recording import Opened, Recording
from .sink import Plain

__all__ = ["Sink", "open_file"]


def open_file(path: Path, *, dtype: Any = None, columns: int = 1) -> Opened:
    """Open a file of raw numbers; its rows are mapped into memory.

    Args:
        path: Of the file.
        dtype: Of the numbers, with their byte order: "int16", ">i2", "float32".
        columns: How many numbers make a row.

    Raises:
        ValueError: The file is no whole number of rows. TypeError: No such dtype.
    """
    if dtype is None:
        raise refuse("raw", "the dtype of the numbers", "none", "Pass dtype='int16' and columns=12, say.")
    whole("raw", "columns", columns, low=1)
    try:
        found = np.dtype(dtype)
    except TypeError as error:
        raise refuse_type("raw", "a dtype of numbers", repr(dtype), f"Pass dtype='int16', say ({error}).") from None
    if found.kind not in "iufb" or not found.itemsize:
        raise refuse_type("raw", "a dtype of numbers", f"dtype {found}", "Pass dtype='int16', say.")
    size, row = path.stat().st_size, found.itemsize * columns
    if size % row:
        got = f"{path} of {size} bytes, {size % row} too many for {size // row} rows"
        raise refuse("raw", f"a whole number of rows of {row} bytes", got, "Check dtype and columns.")
    shape = (size // row, columns)
    data = np.memmap(path, found, "r", shape=shape) if size else np.empty(shape, found)
    return Opened.of(Recording(data))


class Sink(Plain):
    """Writes raw numbers: records of a structured array without padding, everything else in the order of its bytes."""

    call = "raw"

    def _pack(self, block: np.ndarray) -> bytes:
        names = block.dtype.names
        if names is not None:
            block = block.astype(np.dtype([(name, block.dtype[name]) for name in names]), copy=False)
        return np.ascontiguousarray(block).tobytes()
