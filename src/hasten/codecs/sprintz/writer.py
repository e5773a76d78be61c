"""Writing a file bit by bit, so that a crash at any moment loses nothing that was acknowledged.

Chunks are only ever added, and none is changed; the index behind them says nothing that they do not. So the order of
writes is short:

    open    a new file: header, sync. An old one: nothing until a chunk is written; then its index is cut off, sync.
    append  chunks, one behind the other.
    flush   a short chunk with the rows that are still in memory; sync. Now they are acknowledged.
    close   flush; then index and trailer behind the chunks; sync.

What was acknowledged lies in one piece from the header on, and each chunk carries its number, its first row and two
checksums. Whatever a crash leaves behind it (nothing, half a chunk, a later chunk without an earlier one, half an
index, an old trailer) either fits, and then it was appended, or is seen not to fit and ends the file.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from hasten._core.checks import refuse, whole
from hasten._core.files import sync_folder

from .decode import in_threads
from .disk import Disk
from .encode import encode_chunk, finish_header, make_options
from .header import Header
from .recover import Kept, keep, write_index
from .table import Table, as_array, as_table, describe_dtype

__all__ = ["Writer"]

BATCH = 4  # chunks for each thread that are encoded before they are written


class Writer:
    """Writes a `tsz` file, block by block.

    Rows are acknowledged, which means that no crash and no power cut loses them, when `flush` or `close` returns after
    they were appended. Others may be lost, the last ones first. `flush` ends a chunk, so frequent flushes make a larger
    file.

    Args:
        path: Of the file.
        dtype: Of the rows; a structured dtype if columns have dtypes of their own.
        columns: How many; None: the file holds an array of shape (rows,).
        mode: "w": a new file, in place of one that is there. "a": go on with one that is there, as it was begun (what
            is given of the other arguments must agree with it), or a new one. A file whose writer was killed is mended.
        missing: Whether masked arrays may be appended.
        profile, predictor, entropy, cross, max_error, chunk_rows, names, units, rate, meta, threads: As of `compress`.

    Attributes:
        rows: Appended so far, with those that were in the file. rows_durable: Acknowledged so far.

    Raises:
        BlockingIOError: Another writer has the file open. CorruptError: "a" with a file that is damaged; use `repair`.
        TypeError, ValueError: Arguments that cannot be, or do not fit the file.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "ecg.tsz"
    >>> with Writer(path, "int16", 2, rate=360.0) as writer:
    ...     writer.append(np.zeros((100, 2), np.int16))
    >>> writer.rows
    100
    """

    def __init__(
        self, path: Any, dtype: Any = None, columns: int | None = None, *, mode: str = "w", missing: bool = False,
        profile: str = "auto", predictor: str = "auto", entropy: str = "auto", cross: str | bool = "auto",
        max_error: Any = None, chunk_rows: int | None = None, names: Any = None, units: Any = None,
        rate: float | None = None, meta: dict[str, Any] | None = None, threads: int = 1,
    ) -> None:  # fmt: skip
        if mode not in ("w", "a"):
            raise refuse("Writer", 'mode "w" or "a"', repr(mode), "")
        if mode == "w" and dtype is None:
            raise refuse("Writer", "a dtype for a new file", "none", "Pass dtype= and columns=.")
        self._threads = whole("Writer", "threads", threads, low=1)
        self._closed = True
        self._fault: BaseException | None = None
        asked = None
        if dtype is not None:
            options = make_options("Writer", profile, predictor, entropy, cross, max_error)
            asked = finish_header(
                "Writer", _described(dtype, columns), options=options, chunk_rows=chunk_rows, missing=missing,
                names=names, units=units, rate=rate, meta=meta,
            )  # fmt: skip
        path = Path(path)
        self._disk = Disk(path, create=asked is not None)
        try:
            if asked is not None and (mode == "w" or _unborn(self._disk.path, asked[1])):
                self._begin(*asked)
            else:
                self._go_on(asked, chunk_rows)
        except BaseException:
            self._disk.close()
            raise
        self._buffer: Table | None = None
        self._held = 0  # rows in it
        self._closed = False

    def _begin(self, header: Header, packed: bytes) -> None:
        """Write the header of a new file."""
        self.header = replace(header, meta=deepcopy(header.meta))  # others may share that one
        self._disk.truncate(0)
        self._disk.write(0, packed)
        self._disk.sync()
        sync_folder(self._disk.path.absolute().parent)
        self._kept = Kept(self.header.size, 0, [], clean=False)
        self._unsynced = self._tail = False
        self.rows_durable = 0

    def _go_on(self, asked: tuple[Header, bytes] | None, chunk_rows: int | None) -> None:
        """Take over the chunks of an old file."""
        self.header, self._kept = keep(self._disk.path)
        if asked is not None:
            _agree(self.header, asked[0], chunk_rows)
        if not self.header.checksum:
            raise refuse("Writer", "a file with checksums", "one without", "Write a new file: Writer(..., mode='w').")
        self._disk.sync()  # a writer that was killed may have written what it could not acknowledge
        self._unsynced, self._tail = False, True
        self.rows_durable = self._kept.rows

    @property
    def rows(self) -> int:
        """Appended so far."""
        return self._kept.rows + self._held

    def append(self, block: Any) -> None:
        """Add rows to the end of the file.

        Args:
            block: (rows,), (rows, columns) or a structured array, of the file's dtype, with any number of rows.

        Raises:
            TypeError, ValueError: The block does not fit the file; it then still is as it was. OSError: The disk is
                full, for example; the writer is then at its end, and what was acknowledged is safe.
        """
        self._check()
        table = as_table("append", as_array("append", block), self.header)
        try:
            self._append(table)
        except BaseException as error:
            self._break(error)
            raise

    def _append(self, table: Table) -> None:
        size, at = self.header.chunk_rows, 0
        if self._held:
            at = min(size - self._held, len(table))
            self._hold(table.rows(0, at))
            if self._held == size:
                self._write_held()
        step = BATCH * self._threads * size
        while len(table) - at >= size:
            stop = min(at + step, len(table) - (len(table) - at) % size)
            self._write([table.rows(first, first + size) for first in range(at, stop, size)])
            at = stop
        if at < len(table):
            self._hold(table.rows(at, len(table)))

    def _hold(self, table: Table) -> None:
        """Copy rows that do not fill a chunk."""
        if self._buffer is None:
            self._buffer = Table.empty(self.header, self.header.chunk_rows)
        self._buffer.put(self._held, table)
        self._held += len(table)

    def _write_held(self) -> None:
        assert self._buffer is not None
        held, self._held = self._buffer.rows(0, self._held), 0
        self._write([held])

    def _write(self, tables: list[Table]) -> None:
        """Encode chunks and write them behind the others."""
        kept, jobs, row = self._kept, [], self._kept.rows
        for table in tables:
            jobs.append((len(kept.entries) + len(jobs), row, table))
            row += len(table)
        done = in_threads(lambda job: encode_chunk(self.header, *job), jobs, self._threads)
        self._cut()
        self._unsynced, kept.clean = True, False
        for pieces, entry in done:
            chunk = b"".join(pieces)
            self._disk.write(kept.end, chunk)
            kept.end += len(chunk)
            kept.entries.append(entry)
        kept.rows = row

    def _cut(self) -> None:
        """Cut off an old index, or what a crash left, for good: before anything takes its place."""
        if self._tail:
            self._disk.truncate(self._kept.end)
            self._disk.sync()
            self._tail = False

    def flush(self) -> None:
        """Return when every row appended so far survives any crash; see the class.

        Raises:
            OSError: They could not be written.
        """
        self._check()
        try:
            if self._held:
                self._write_held()
            if self._unsynced:
                self._disk.sync()
                self._unsynced = False
        except BaseException as error:
            self._break(error)
            raise
        self.rows_durable = self._kept.rows

    def close(self) -> None:
        """`flush`, write the index and close the file. Closing twice does nothing.

        Raises:
            OSError: Rows or index could not be written.
        """
        if self._closed:
            return
        self.flush()
        try:
            if not self._kept.clean:
                self._cut()
                write_index(self._disk, self.header, self._kept)
        except BaseException as error:
            self._break(error)
            raise
        self._closed = True
        self._disk.close()

    def _break(self, error: BaseException) -> None:
        """Give up: the file stays as it is, and can be read and gone on with."""
        self._fault, self._closed = error, True
        self._disk.close()

    def _check(self) -> None:
        if self._closed:
            why = "a closed one" if self._fault is None else f"one that failed before ({self._fault})"
            raise refuse("Writer", "an open writer", why, 'Open the file again with mode="a".')

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _described(dtype: Any, columns: int | None) -> dict[str, Any]:
    """The fields of a header from what a user says of the rows."""
    if columns is not None:
        whole("Writer", "columns", columns)
    found = describe_dtype("Writer", np.dtype(dtype), 1 if columns is None else 2)
    return {"ncols": 1 if columns is None else columns, **found}


def _unborn(path: Path, packed: bytes) -> bool:
    """Is this an empty file, or one whose writer came no further than the header?"""
    if path.stat().st_size > len(packed):
        return False
    return all(byte in (0, wanted) for byte, wanted in zip(path.read_bytes(), packed, strict=False))


def _agree(header: Header, asked: Header, chunk_rows: int | None) -> None:
    """Refuse to go on with a file that is not as asked."""
    default = Header(asked.dtypes, asked.ncols, 0)
    for name in ("dtype", "layout", "ncols"):
        if getattr(header, name) != getattr(asked, name):
            got = f"{getattr(asked, name)}"
            raise refuse("Writer", f"{name} {getattr(header, name)}, as of the file", got, "Write another file.")
    for name in ("missing", "names", "units", "rate", "meta", "options"):
        value = getattr(asked, name)
        if value not in (getattr(default, name), getattr(header, name)):
            fix = 'Leave it away with mode="a".'
            raise refuse("Writer", f"{name} {getattr(header, name)!r}, as of the file", repr(value), fix)
    if chunk_rows not in (None, header.chunk_rows):
        raise refuse("Writer", f"chunk_rows {header.chunk_rows}, as of the file", repr(chunk_rows), "")
