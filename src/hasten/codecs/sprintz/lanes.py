"""Records in eight lanes, read in NumPy: the reference of _native/sprintz/record_decode.cpp."""

from __future__ import annotations

import numpy as np

from .errors import CorruptError

__all__ = ["LANES", "decode_lanes", "references_of"]

LANES = 3  # the kind of record


def references_of(record: memoryview, dtype: np.dtype, at: int) -> list[int]:
    """The columns that a record refers to."""
    return []


def decode_lanes(record: memoryview, nrows: int, dtype: np.dtype, at: int, earlier: list[np.ndarray]) -> np.ndarray:
    """The values of a record, (nrows,) of the unsigned `dtype`.

    Args:
        earlier: The columns that it refers to, decoded.

    Raises:
        CorruptError: Not a record of so many values; offsets count from `at`, where the record begins.
    """
    raise CorruptError(at, "records in lanes need the compiled module")
