"""Reading: whole files and parts of them, from the index or, where it was lost, from the chunks themselves."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from hasten._core.checks import refuse, whole

from . import chunk
from .errors import CorruptError
from .format import CHUNK_HEAD
from .header import MAX_CHUNK_BYTES, Header
from .queries import Queries
from .scan import Index, read_chunk, read_header, read_index, scan
from .select import Rows, as_target, choose_columns, choose_rows, dtype_of, shape_of, target_columns
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


@dataclass(frozen=True)
class _Piece:
    """What is wanted of one chunk: its rows `first`, `first + step`, ..., which go to `place` and on in the output."""

    number: int
    first: int
    count: int
    place: int


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

    def __len__(self) -> int:
        return int(self.index.rows[-1])

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
        if isinstance(rows, (str, list)) and columns is None and self.header.layout == "records":
            rows, columns = slice(None), rows
        one_column = columns is not None and not isinstance(columns, slice) and np.ndim(columns) == 0
        chosen = choose_columns("Reader[...]", columns, self.header)
        one_row = not isinstance(rows, slice)
        if one_row:
            row = choose_row(rows, len(self))
            rows = slice(row, row + 1)
        found = self.read(rows, chosen)
        if one_column and self.header.layout == "matrix":
            found = found[:, 0]
        elif one_column and self.header.layout == "records":
            found = found[found.dtype.names[0]]
        return found[0] if one_row else found

    def read(
        self, rows: slice | None = None, columns: Any = None, *, out: Any = None, threads: int = 1,
        max_bytes: int | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Decode some rows of some columns.

        Args:
            rows: A slice, as of a list; None for all.
            columns: Numbers or names; None for all.
            out: A NumPy array, CPU tensor or writable buffer of the shape and dtype of the result, which it then is.
            threads: How many decode at once, a chunk each.
            max_bytes: Refuse a larger result; None for no limit.

        Returns:
            (rows,), (rows, columns) or a structured array; a masked one if the file may have missing values.

        Raises:
            CorruptError: A chunk that was needed is damaged. ValueError, TypeError: `out` does not fit.
        """
        chosen, wanted = choose_columns("read", columns, self.header), choose_rows("read", rows, len(self))
        whole("read", "threads", threads, low=1)
        shape, dtype = shape_of(self.header, wanted.count, chosen), dtype_of(self.header, chosen)
        size = wanted.count * sum(self.header.column(j).itemsize for j in chosen)
        if max_bytes is not None and size > max_bytes:
            raise refuse("read", f"at most {max_bytes} bytes of rows", f"{size}", "Pass a larger max_bytes=.")
        if out is None:
            target = np.empty(shape, dtype) if not self.header.missing else np.ma.empty(shape, dtype)
        else:
            target = as_target("read", out, shape, dtype, self.header.missing)
        columns_out, masks_out = target_columns(target, self.header.layout, len(chosen))
        if wanted.backwards:
            columns_out = [c[::-1] for c in columns_out]
            masks_out = None if masks_out is None else [m[::-1] for m in masks_out]
        self._run(wanted, chosen, columns_out, masks_out, threads)
        return target if out is None or not isinstance(out, np.ndarray) else out

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
            raise CorruptError(at, f"expected chunk {number}, found chunk {head.number}")
        return body, head.has_mask

    def _run(
        self, wanted: Rows, chosen: Sequence[int], columns: Sequence[np.ndarray], masks: Sequence[np.ndarray] | None,
        threads: int,
    ) -> None:  # fmt: skip
        """Decode the pieces of all chunks that `wanted` touches."""
        if not chosen or not wanted.count:
            return

        def work(piece: _Piece) -> None:
            at = slice(piece.place, piece.place + piece.count)
            self._decode(piece, wanted.step, chosen, [c[at] for c in columns], masks and [m[at] for m in masks])

        pieces = list(self._pieces(wanted))
        self.chunks_decoded += len(pieces)
        in_threads(work, pieces, threads)

    def _pieces(self, wanted: Rows) -> Iterator[_Piece]:
        starts = self.index.rows
        number = int(np.searchsorted(starts, wanted.start, "right")) - 1
        place = 0
        while place < wanted.count:
            row = wanted.start + place * wanted.step
            number += int(np.searchsorted(starts[number + 1 :], row, "right"))
            count = min(wanted.count - place, (int(starts[number + 1]) - row - 1) // wanted.step + 1)
            yield _Piece(number, row - int(starts[number]), count, place)
            place += count

    def _decode(
        self, piece: _Piece, step: int, chosen: Sequence[int], columns: list[np.ndarray], masks: list[np.ndarray] | None
    ) -> None:
        """Decode a piece of one chunk into arrays of `piece.count` rows."""
        body, has_mask = self.body(piece.number)
        nrows = int(self.index.rows[piece.number + 1] - self.index.rows[piece.number])
        stored = self.header.stored()
        whole_chunk = step == 1 and piece.count == nrows
        out: list[np.ndarray | None] = [None] * self.header.ncols
        mask_out: list[np.ndarray | None] = [None] * self.header.ncols
        for k, j in enumerate(chosen):
            if out[j] is None:
                out[j] = columns[k] if whole_chunk else np.empty(nrows, stored[j])
                if has_mask:
                    mask_out[j] = masks[k] if whole_chunk and masks else np.zeros(nrows, bool)
        at = int(self.index.offsets[piece.number]) + CHUNK_HEAD.size
        decode_body(body, at, nrows, stored, out, mask_out if has_mask else None)
        taken = slice(None) if whole_chunk else slice(piece.first, piece.first + (piece.count - 1) * step + 1, step)
        for k, j in enumerate(chosen):
            for mine, decoded in ((columns[k], out[j]), (masks[k] if masks else None, mask_out[j])):
                if mine is not None and decoded is not None and mine is not decoded:
                    mine[...] = decoded[taken]


def decode_body(
    body: Any, at: int, nrows: int, dtypes: Sequence[np.dtype], out: Sequence[np.ndarray | None],
    masks: Sequence[np.ndarray | None] | None,
) -> None:  # fmt: skip
    """`chunk.decode` of a body that begins at byte `at` of the file, for the offsets of errors."""
    try:
        chunk.decode(body, nrows, dtypes, out, masks=masks)
    except CorruptError as error:
        raise CorruptError(at + max(error.offset, 0), error.reason) from None


def choose_row(row: Any, total: int) -> int:
    """The number of one row, counted from the end if negative."""
    whole_number = isinstance(row, (int, np.integer)) and not isinstance(row, (bool, np.bool_))
    if not whole_number:
        raise refuse("Reader[...]", "a slice or a number for rows", row, "Pass reader[first:last, columns].")
    if not -total <= row < total:
        raise IndexError(f"Reader[...]: expected a row below {total}, got {row}.")
    return int(row) % total


def in_threads(work: Callable[[Any], Any], items: Sequence[Any], threads: int) -> list[Any]:
    """`work` of every item, in order, by up to `threads` threads."""
    if threads == 1 or len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))
