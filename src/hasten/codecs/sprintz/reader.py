"""Reading: whole files and parts of them, from the index or, where it was lost, from the chunks themselves."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np

from hasten._core.checks import refuse

from .errors import CorruptError
from .header import MAX_CHUNK_BYTES, Header
from .queries import Queries
from .scan import Index, read_chunk, read_header, read_index, scan
from .select import choose_columns, is_one, shape_of
from .source import Source, as_source

__all__ = ["Reader", "open_file"]


def open_file(path: Any, *, max_chunk_bytes: int = MAX_CHUNK_BYTES) -> Reader:
    """Open a `tsz` file, whole or cut, for reading any part of it.

    A file without an index (its writer still runs, or was killed) is read up to its last good chunk;
    `Reader.recovered` is then True.

    Args:
        path: Of the file; or compressed bytes.
        max_chunk_bytes: Refuse files with chunks that are larger than this after decoding.

    Raises:
        FileNotFoundError: No such file. CorruptError: Not a `tsz` file. VersionError: One of a later format.
    """
    source = as_source("open", path)
    try:
        return Reader(source, max_chunk_bytes)
    except BaseException:
        source.close()
        raise


class Reader(Queries):
    """A compressed file seen as an array; `hasten.codecs.sprintz.open` makes one.

    `reader[rows, columns]` decodes only the chunks and columns it needs. A reader sees the file as it was when it was
    opened, may be used by several threads, and is a context manager.

    Attributes:
        shape: (rows,) or (rows, columns).
        dtype: Of the array; structured if columns have dtypes of their own.
        names: Of the columns, or None.
        recovered: Whether the index was lost, and the rows are those up to the last good chunk.
        chunks_decoded: How many chunks were decoded so far.
    """

    def __init__(self, source: Source, limit: int = MAX_CHUNK_BYTES) -> None:
        self._source, self._limit = source, limit
        self.header: Header = read_header(source)
        self.index_error: CorruptError | None = None
        try:
            self.index = read_index(source, self.header, limit)
        except CorruptError as error:
            self.index_error = error
            self.index = Index.of(list(scan(source, self.header, limit)))
        self.chunks_decoded = 0

    @property
    def recovered(self) -> bool:
        """Was the index lost?"""
        return self.index_error is not None

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows,) or (rows, columns)."""
        return shape_of(self.header, len(self), range(self.header.ncols))

    @property
    def dtype(self) -> np.dtype:
        """Of the array."""
        return self.header.dtype

    @property
    def names(self) -> tuple[str, ...] | None:
        """Of the columns."""
        return self.header.names

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def __getitem__(self, key: Any) -> Any:
        rows, columns = key if isinstance(key, tuple) and len(key) == 2 else (key, None)
        if columns is None and (isinstance(rows, str) or (isinstance(rows, list) and all(map(_is_name, rows)))):
            rows, columns = slice(None), rows
        one_column = is_one(columns)
        chosen = choose_columns("Reader[...]", columns, self.header)
        one_row = not isinstance(rows, slice)
        if one_row:
            row = choose_row(rows, len(self))
            rows = slice(row, row + 1)
        found = self.read(rows, chosen)
        if one_column and self.header.layout == "matrix":
            found = found[:, 0]
        elif one_column and self.header.layout == "records":
            found = found[self.header.names[chosen[0]]]  # type: ignore[index]
        return found[0] if one_row else found

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._source.size

    def info(self, *, details: bool = False) -> Any:
        """What the file says of itself, see `hasten.codecs.sprintz.info`."""
        from .info import describe

        return describe(self, details)

    def chunks(self, columns: Any = None) -> Iterator[np.ndarray]:
        """The array chunk by chunk, in order, so that a large file needs little memory."""
        for start, stop in zip(self.index.rows[:-1].tolist(), self.index.rows[1:].tolist(), strict=True):
            yield self.read(slice(start, stop), columns)

    def to_arrow(self) -> Any:
        """All rows as a `pyarrow.Table` (needs `pip install 'hasten[arrow]'`)."""
        return importlib.import_module(".arrow", __package__).to_arrow(self)

    def body(self, number: int) -> tuple[Any, bool]:
        """The checked body of a chunk, and whether values are missing in it.

        Raises:
            CorruptError: It is damaged.
        """
        at, first = int(self.index.offsets[number]), int(self.index.rows[number])
        count = int(self.index.rows[number + 1]) - first
        head, body = read_chunk(self._source, self.header, at, self._limit, int(self.index.lengths[number]))
        if (head.number, head.first_row, head.nrows) != (number, first, count):
            raise CorruptError(at, f"the index lists another chunk {number} than stands here")
        return body, head.has_mask


def _is_name(value: Any) -> bool:
    return isinstance(value, str)


def choose_row(row: Any, total: int) -> int:
    """The number of one row, counted from the end if negative."""
    whole_number = isinstance(row, (int, np.integer)) and not isinstance(row, (bool, np.bool_))
    if not whole_number:
        raise refuse("Reader[...]", "a slice or a number for rows", row, "Pass reader[first:last, columns].")
    if not -total <= row < total:
        raise IndexError(f"Reader[...]: expected a row below {total}, got {row}.")
    return int(row) % total
