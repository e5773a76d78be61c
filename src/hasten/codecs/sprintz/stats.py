"""What the index says of a chunk: per column the smallest and largest value, the sum, and how many count as missing.

A value counts as missing if it is masked or NaN; the others are counted in. Sums of integers are exact. Sums of floats
are float64, added in an order that the format fixes, so that every machine writes the same bytes.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from hasten._core import dispatch
from hasten._native import ext

from .dtypes import stored_dtype
from .header import Header
from .table import Table

__all__ = ["chunk_entry", "column_entries", "entry_dtype", "fill_stats", "fold", "record_dtype", "sums"]


@lru_cache(maxsize=64)
def record_dtype(dtype: np.dtype) -> np.dtype:
    """The entry of one column."""
    name = "<u1" if dtype.kind == "b" else stored_dtype(dtype).newbyteorder("<")
    total = [("sum", "<f8")] if dtype.kind == "f" else [("sum", "<i8")]
    if np.dtype(name).kind in "iu" and np.dtype(name).itemsize == 8:
        total = [("low", "<u8"), ("high", "<i8")]  # of 128 bits
    return np.dtype([("min", name), ("max", name), *total, ("nulls", "<u4")])


def entry_dtype(header: Header) -> np.dtype:
    """The entry of one chunk: rows, bytes of the body, and the entries of its columns."""
    return _entry_dtype(header.dtypes, header.ncols)


@lru_cache(maxsize=64)
def _entry_dtype(dtypes: tuple[np.dtype, ...], ncols: int) -> np.dtype:
    if len(dtypes) == 1:
        stats = np.dtype((record_dtype(dtypes[0]), (ncols,)))
    else:
        stats = np.dtype([(str(j), record_dtype(dtype)) for j, dtype in enumerate(dtypes)])
    return np.dtype([("nrows", "<u4"), ("length", "<u4"), ("stats", stats)])


def column_entries(entries: np.ndarray, header: Header, column: int) -> np.ndarray:  # (chunks,)
    """The entries of one column."""
    stats = entries["stats"]
    return stats[:, column] if len(header.dtypes) == 1 else stats[str(column)]


def sums(entries: np.ndarray) -> list[int] | list[float]:
    """The sums in the entries of one column."""
    names = entries.dtype.names
    if names is not None and "low" in names:
        pairs = zip(entries["high"].tolist(), entries["low"].tolist(), strict=True)
        return [(high << 64) + low for high, low in pairs]
    return entries["sum"].tolist()


def chunk_entry(header: Header, table: Table, length: int) -> bytes:
    """The entry of a chunk with these rows and a body of `length` bytes."""
    entry = np.zeros((), entry_dtype(header))
    entry["nrows"], entry["length"] = len(table), length
    for j, (part, mask) in enumerate(zip(table.parts, table.masks, strict=True)):
        target = entry["stats"] if len(header.dtypes) == 1 else entry["stats"][str(j)].reshape(1)
        fill_stats(target, part, mask)
    return entry.tobytes()


def fill_stats(target: np.ndarray, part: np.ndarray, mask: np.ndarray | None) -> None:
    """The entries `target`, (columns,), of the values `part`, (rows, columns)."""
    if part.size == 0:
        return
    values = part.view(np.uint8) if part.dtype == bool else part
    if mask is not None and not mask.any():
        mask = None
    whole_steps = not any(stride % values.itemsize for stride in values.strides)
    if ext is not None and mask is None and values.flags.aligned and whole_steps:
        _fill_native(target, values)
    else:
        _fill_numpy(target, values, mask)


def _fill_native(target: np.ndarray, values: np.ndarray) -> None:
    """By the compiled kernel."""
    columns = values.shape[1]
    low, high = np.empty(columns, values.dtype), np.empty(columns, values.dtype)
    bottom, top, nulls = np.empty(columns, np.uint64), np.empty(columns, np.int64), np.empty(columns, np.uint32)
    assert ext is not None
    ext.column_stats(values, low, high, bottom, top, nulls, dispatch.isa())
    target["min"], target["max"], target["nulls"] = low, high, nulls
    if values.dtype.kind == "f":
        target["sum"] = bottom.view(np.float64)
    elif values.dtype.itemsize < 8:
        target["sum"] = bottom.view(np.int64)
    else:
        target["low"], target["high"] = bottom, top


def _fill_numpy(target: np.ndarray, values: np.ndarray, mask: np.ndarray | None) -> None:
    """In NumPy: with missing values, and where there is no compiled module."""
    valid = _valid(values, mask)
    if valid is None:
        low, high = values.min(axis=0), values.max(axis=0)
        nulls = np.zeros(values.shape[1], np.uint32)
    else:
        least, most = _limits(values.dtype)
        low = np.min(values, axis=0, where=valid, initial=most)
        high = np.max(values, axis=0, where=valid, initial=least)
        nulls = len(values) - np.count_nonzero(valid, axis=0)
        values = np.where(valid, values, values.dtype.type(0))
        low[nulls == len(values)] = high[nulls == len(values)] = 0
    # A zero has no sign here: which of 0.0 and -0.0 comes out as the smaller depends on the machine.
    target["min"], target["max"], target["nulls"] = low + low.dtype.type(0), high + high.dtype.type(0), nulls
    _fill_sums(target, values)


def _valid(values: np.ndarray, mask: np.ndarray | None) -> np.ndarray | None:
    """Where values count; None if all do."""
    nan = np.isnan(values) if values.dtype.kind == "f" else None
    if nan is not None and nan.any():
        return ~nan if mask is None else ~(nan | mask)
    return None if mask is None else ~mask


def _limits(dtype: np.dtype) -> tuple[float, float]:
    if dtype.kind == "f":
        return -np.inf, np.inf
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _fill_sums(target: np.ndarray, values: np.ndarray) -> None:
    if values.dtype.kind == "f":
        target["sum"] = fold(values)
    elif values.dtype.itemsize < 8:
        target["sum"] = values.sum(axis=0, dtype=np.int64)
    else:
        lows = (values & values.dtype.type(0xFFFFFFFF)).sum(axis=0, dtype=np.uint64).tolist()
        highs = (values >> values.dtype.type(32)).sum(axis=0, dtype=np.int64).tolist()
        totals = [(high << 32) + low for high, low in zip(highs, lows, strict=True)]
        target["low"] = [total & 0xFFFFFFFFFFFFFFFF for total in totals]
        target["high"] = [total >> 64 for total in totals]


def fold(values: np.ndarray) -> np.ndarray:  # (rows, columns) -> (columns,), float64
    """Sums of columns in the fixed order: the upper half is added to the lower one until one row is left.

    The number of rows is taken as the next power of two, with zeros behind. NumPy's own order is its own business.
    """
    rows = values.shape[0]
    half = 1 << max(rows - 1, 0).bit_length() >> 1
    with np.errstate(invalid="ignore", over="ignore"):
        total = values[: max(half, 1)].astype(np.float64)
        total[: rows - max(half, 1)] += values[max(half, 1) :]
        while half > 1:
            half //= 2
            total = total[:half] + total[half : 2 * half]
    total = total[0] + 0.0
    total[np.isnan(total)] = np.nan  # of one payload: that of inf - inf depends on the machine
    return total
