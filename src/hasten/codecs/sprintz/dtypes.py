"""Which NumPy dtypes a column may have, and how each is written down."""

from __future__ import annotations

from typing import Any

import numpy as np

from hasten._core.checks import refuse_type

__all__ = ["column_dtype", "dtype_from_code", "dtype_to_code", "stored_dtype"]

# Codes of the format; never change one.
STORED = {1: "i1", 2: "i2", 3: "i4", 4: "i8", 5: "u1", 6: "u2", 7: "u4", 8: "u8", 9: "f4", 10: "f8"}
PLAIN, BOOL, DATETIME, TIMEDELTA = range(4)
UNITS = ("generic", "Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as")

_CODES = {name: code for code, name in STORED.items()}
_FIXES = {
    "O": "Convert it to numbers first: x.astype(numpy.float64).",
    "c": "Store real and imaginary part as two columns.",
    "f": "Convert it without loss: x.astype(numpy.float32).",
    "S": "Text cannot be stored.",
    "U": "Text cannot be stored.",
}


def column_dtype(call: str, dtype: Any) -> np.dtype:
    """The dtype of a column in native byte order, or a `TypeError` if columns cannot have it."""
    found = np.dtype(dtype)
    if found.kind == "b":
        return np.dtype(bool)
    if found.kind in "Mm":
        if found.kind == "M" and np.datetime_data(found)[0] == "generic":
            raise refuse_type(call, "datetime64 with a unit", f"dtype {found}", "Use x.astype('datetime64[ns]').")
        return found.newbyteorder("=")
    if f"{found.kind}{found.itemsize}" in _CODES:
        return np.dtype(f"{found.kind}{found.itemsize}")
    what = "integers of 8 to 64 bits, float32, float64, bool, datetime64 or timedelta64"
    raise refuse_type(call, what, f"dtype {found}", _FIXES.get(found.kind, "Store its fields as columns of their own."))


def stored_dtype(dtype: np.dtype) -> np.dtype:
    """What the codec sees of a column: datetimes are integers."""
    return np.dtype(np.int64) if dtype.kind in "Mm" else dtype


def dtype_to_code(dtype: np.dtype) -> tuple[int, int, int, int]:
    """Stored type, meaning, unit, and how many units one count is."""
    if dtype.kind == "b":
        return _CODES["u1"], BOOL, 0, 0
    if dtype.kind in "Mm":
        unit, count = np.datetime_data(dtype)
        return _CODES["i8"], DATETIME if dtype.kind == "M" else TIMEDELTA, UNITS.index(unit), count
    return _CODES[f"{dtype.kind}{dtype.itemsize}"], PLAIN, 0, 0


def dtype_from_code(stored: int, meaning: int, unit: int, count: int) -> np.dtype | None:
    """The dtype that these four numbers mean; None if they mean nothing."""
    name = STORED.get(stored)
    if name is None:
        return None
    if meaning == PLAIN:
        return np.dtype(name) if unit == count == 0 else None
    if meaning == BOOL:
        return np.dtype(bool) if name == "u1" and unit == count == 0 else None
    if meaning not in (DATETIME, TIMEDELTA) or name != "i8" or unit >= len(UNITS) or not 1 <= count < 1 << 31:
        return None
    kind = "M8" if meaning == DATETIME else "m8"
    if unit == 0:
        return np.dtype(kind) if meaning == TIMEDELTA and count == 1 else None
    return np.dtype(f"{kind}[{count}{UNITS[unit]}]")
