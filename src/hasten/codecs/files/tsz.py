"""Compressed files (`tsz`) as one of the formats: what the others say of a recording is kept in its metadata."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hasten.codecs.sprintz import CorruptError, Reader, Writer
from hasten.codecs.sprintz import open as open_tsz

from .recording import Opened, Recording, block_rows, choose

__all__ = ["open_file", "parts_of", "writer"]


def open_file(
    path: Path, *, columns: Sequence[int | str] | None = None, rows: slice | None = None, recover: bool = False,
    threads: int = 1,
) -> Opened:  # fmt: skip
    """Open a compressed file.

    Args:
        path: Of the file.
        columns: Which to read, names or numbers; None: all.
        rows: A slice, as of a list; None: all.
        recover: Whether to read the rows up to the last good chunk where the index is lost.
        threads: How many decode at once.

    Raises:
        CorruptError: No such file, or its index is lost.
    """
    reader = open_tsz(path)
    try:
        if reader.index_error is not None and not recover:
            error, kept = reader.index_error, f"{len(reader)} rows in good chunks are left"
            raise CorruptError(error.offset, f"{error.reason}; {kept}: use `hasten codec repair`, or --recover")
        chosen, like = parts_of(reader, columns)
    except BaseException:
        reader.close()
        raise
    wanted = range(len(reader))[rows if rows is not None else slice(None)]

    def get(first: int, stop: int) -> np.ndarray:
        part = wanted[first:stop]
        end = part.stop if part.stop >= 0 else None
        return reader.read(slice(part.start, end, part.step), chosen, threads=threads)

    opened = Compressed(like, len(wanted), get, reader.close)
    opened.step = max(block_rows(like) // reader.header.chunk_rows, threads) * reader.header.chunk_rows
    opened.problem = None if reader.index_error is None else str(reader.index_error)
    return opened


class Compressed(Opened):
    """A compressed file, best read in multiples of its chunks; `problem` says why its index could not be read."""

    step = 1
    problem: str | None = None

    def blocks(self, rows: int | None = None) -> Any:
        """The rows in order, block by block; None: some chunks at a time."""
        return super().blocks(self.step if rows is None else rows)


PER_COLUMN = (("gain", (int, float, type(None))), ("baseline", (int, float, type(None))))


def parts_of(reader: Reader, columns: Sequence[int | str] | None = None) -> tuple[list[int], Recording]:
    """The numbers of some columns, and what a compressed file says of them, without rows."""
    header = reader.header
    chosen = choose("tsz", header.names, header.ncols, columns)
    meta, found = dict(header.meta), {}
    for name, types in PER_COLUMN:
        values = meta.get(name)
        fits = isinstance(values, list) and len(values) == header.ncols and all(isinstance(v, types) for v in values)
        if fits and not any(isinstance(v, bool) or (v == 0 and name == "gain") for v in values):
            found[name] = tuple(values[j] for j in chosen)
            del meta[name]
    if columns is not None:
        meta = _narrowed(meta, chosen, header.ncols)
    names = None if header.names is None else tuple(header.names[j] for j in chosen)
    units = None if header.units is None else tuple(header.units[j] for j in chosen)
    empty = reader.read(slice(0, 0), chosen)
    return chosen, Recording(empty, names, units, header.rate, meta=meta, **found)


def _narrowed(meta: dict[str, Any], chosen: list[int], ncols: int) -> dict[str, Any]:
    """The metadata of some columns: lists of the CSV file get shorter, the description of a WFDB record is left out."""
    meta = {key: value for key, value in meta.items() if key != "wfdb"}
    said = meta.get("csv")
    if isinstance(said, dict):
        meta["csv"] = {
            key: [value[j] for j in chosen] if isinstance(value, list) and len(value) == ncols else value
            for key, value in said.items()
        }
    return meta


def writer(path: Path, like: Recording, **options: Any) -> Writer:
    """A writer of recordings like this one; `options` are those of `hasten.codecs.sprintz.Writer`."""
    fields = like.data.dtype.names
    meta = dict(like.meta)
    for name, _ in PER_COLUMN:
        values = getattr(like, name)
        if values is not None:
            meta[name] = list(values)
    return Writer(
        path, like.data.dtype, like.columns if like.data.ndim == 2 else None, missing=like.missing,
        names=None if fields else like.names, units=like.units, rate=like.rate, meta=meta, **options,
    )  # fmt: skip
