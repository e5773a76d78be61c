"""What a file says of itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from . import chunk
from .header import MAX_CHUNK_BYTES
from .reader import Reader, open_file

__all__ = ["Info", "info"]


@dataclass(frozen=True)
class Info:
    """A `tsz` file in numbers.

    Attributes:
        shape, dtype: Of the array; the dtype as text, or pairs of name and dtype for records.
        names, units: Of the columns, or None. rate: Samples per second, or None. meta: Whatever the writer left.
        bytes: Size of the file. raw_bytes: Of the array. ratio: raw_bytes / bytes.
        chunks: How many. chunk_rows: Rows of each but those that were cut short.
        missing: Whether values may be missing. checksum: Whether chunks carry one.
        options: How it was encoded, `max_error` among it: None, a number, or one of these for each column.
        recovered: Whether the index was lost, so that the rows are those up to the last good chunk; `problem`: how.
        gaps: Pairs of a row and how many were lost before it.
        columns: With `details`, one dict per column: name, dtype, min, max, nulls, and how its chunks are encoded.
    """

    shape: tuple[int, ...]
    dtype: Any
    names: tuple[str, ...] | None
    units: tuple[str | None, ...] | None
    rate: float | None
    meta: dict[str, Any]
    bytes: int
    raw_bytes: int
    ratio: float
    chunks: int
    chunk_rows: int
    missing: bool
    checksum: bool
    options: dict[str, Any]
    recovered: bool
    problem: str | None
    gaps: tuple[tuple[int, int], ...]
    columns: tuple[dict[str, Any], ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Everything as what JSON can hold."""
        return asdict(self)


def info(buf_or_path: Any, *, details: bool = False, max_chunk_bytes: int = MAX_CHUNK_BYTES) -> Info:
    """What a file or compressed bytes say of themselves.

    Args:
        buf_or_path: Compressed bytes, or the path of a file.
        details: Also for each column its range and encodings; this reads the whole file.
        max_chunk_bytes: Refuse files with chunks that are larger after decoding.

    Raises:
        CorruptError: Not a `tsz` file; with `details`, also a chunk that is damaged.

    >>> from hasten.codecs.sprintz import compress
    >>> info(compress(np.zeros((5, 2), np.uint8))).shape
    (5, 2)
    """
    with open_file(buf_or_path, max_chunk_bytes=max_chunk_bytes) as reader:
        return describe(reader, details)


def describe(reader: Reader, details: bool = False) -> Info:
    """`info` of an open file."""
    header, raw = reader.header, len(reader) * reader.header.row_bytes
    dtype = str(header.dtypes[0])
    if header.layout == "records":
        dtype = tuple((name, str(header.column(j))) for j, name in enumerate(header.names or ()))
    return Info(
        shape=reader.shape, dtype=dtype, names=header.names, units=header.units, rate=header.rate, meta=header.meta,
        bytes=reader.size, raw_bytes=raw, ratio=raw / reader.size, chunks=len(reader.index.offsets),
        chunk_rows=header.chunk_rows, missing=header.missing, checksum=header.checksum, options=asdict(header.options),
        recovered=reader.recovered, problem=None if reader.index_error is None else str(reader.index_error),
        gaps=header.gaps, columns=_columns(reader) if details else None,
    )  # fmt: skip


def _columns(reader: Reader) -> tuple[dict[str, Any], ...]:
    """One dict per column."""
    header = reader.header
    lows, highs, counts = (_listed(reader, value) for value in (reader.min(), reader.max(), reader.count()))
    said: list[dict[str, Any]] = [{} for _ in range(header.ncols)]
    for number in range(len(reader.index.offsets)):
        for column, record in zip(said, chunk.describe(reader.body(number)[0], header.ncols), strict=True):
            for key, value in record.items():
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    column[key] = column.get(key, 0) + value
                else:
                    column.setdefault(key, Counter())[str(value)] += 1
    return tuple(
        {
            "name": None if header.names is None else header.names[j], "dtype": str(header.column(j)),
            "min": _plain(lows[j]), "max": _plain(highs[j]), "nulls": len(reader) - int(counts[j]),
            **{key: dict(value) if isinstance(value, Counter) else value for key, value in said[j].items()},
        }
        for j in range(header.ncols)
    )  # fmt: skip


def _listed(reader: Reader, found: Any) -> list[Any]:
    """A reduction as a list with one entry per column."""
    if isinstance(found, dict):
        return list(found.values())
    return [found] if reader.header.layout == "flat" else list(found)


def _plain(value: Any) -> Any:
    """A scalar as JSON has it; None where there is no value."""
    if value is np.ma.masked:
        return None
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return str(value)
    number = value.item()
    return number if not isinstance(number, float) or np.isfinite(number) else str(number)
