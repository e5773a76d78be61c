"""CSV: text with one row on a line. Numbers are kept exactly, and the text as far as it follows from them.

A file is read twice: once to see what its columns are, once for the values, a block at a time. What a compressed copy
does not bring back: quotes, spaces around numbers, blank lines, a byte order mark, a last line without its end, and how
the numbers of a column look where they do not all look alike ("1.50" and "0.1" in one column come back as "1.5" and
"0.1").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hasten._core.checks import refuse, whole

from .csv_columns import BadCellError, Column, integers, texts
from .csv_text import DELIMITERS, Cells, Text, look
from .recording import Opened, Recording, choose, distinct

__all__ = ["Sink", "open_file"]

DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+")
CELLS = 1 << 18  # that are held as text at a time


def open_file(
    path: Path, *, columns: Sequence[int | str] | None = None, delimiter: str | None = None, header: bool | None = None
) -> Opened:
    """Open a CSV file, and look it through once.

    Args:
        path: Of the file.
        columns: Which to read, names or numbers; None: all.
        delimiter: Between cells; None: a tab, semicolon or comma, whichever fits.
        header: Whether the first row holds titles; None: if it looks like that.

    Raises:
        ValueError: A cell or line that cannot be; the message names its line.
    """
    text = look(path, delimiter, header)
    names = distinct([title.strip() for title in text.header or [""] * text.width])
    chosen = choose("csv", names, text.width, columns)
    found = [Column(names[k]) for k in chosen]
    total = 0
    for cells in text.blocks(max(CELLS // text.width, 1)):
        for column, k in zip(found, chosen, strict=True):
            try:
                column.see(cells[k])
            except BadCellError as error:
                line = text.line(total + error.place + (text.header is not None))
                cell = error.cell if len(error.cell) <= 40 else f"{error.cell[:37]}..."
                where = f"{cell!r} in line {line} of {path}"
                fix = "Columns of text cannot be stored: choose others with --columns."
                fix = "Write decimal points." if DECIMAL_COMMA.fullmatch(error.cell.strip()) else fix
                raise refuse("csv", f"{error.expected} in column {column.name!r}", where, fix) from None
        total += len(cells[0])
    like = _like(text, names, chosen, found)
    return CsvFile(text, like, total, chosen, found)


class CsvFile(Opened):
    """A CSV file that was looked through once."""

    def __init__(self, text: Text, like: Recording, rows: int, chosen: list[int], columns: list[Column]) -> None:
        super().__init__(like, rows, lambda first, stop: like.data)
        self._text, self._chosen, self._columns = text, chosen, columns

    def blocks(self, rows: int | None = None) -> Iterator[np.ndarray]:
        """The rows in order, block by block.

        Args:
            rows: Of a block, at most; None: about 260,000 cells.
        """
        step = max(CELLS // self._text.width, 1) if rows is None else whole("blocks", "rows", rows, low=1)
        for cells in self._text.blocks(step):
            yield self._convert(cells)

    def _convert(self, cells: Cells) -> np.ndarray:
        dtype, fields = self.like.data.dtype, self.like.data.dtype.names
        count = len(cells[0])
        shape = (count,) if fields else (count, len(self._chosen))
        block: Any = np.ma.zeros(shape, dtype) if self.like.missing else np.empty(shape, dtype)
        if self.like.missing:
            block.mask = False
        data, mask = np.ma.getdata(block), np.ma.getmask(block)
        for place, (column, k) in enumerate(zip(self._columns, self._chosen, strict=True)):
            key: Any = fields[place] if fields else (slice(None), place)
            try:
                data[key], gone = column.convert(cells[k], dtype[fields[place]] if fields else dtype)
            except (ValueError, OverflowError):
                what = f"the file {self._text.path} as it was a moment ago"
                raise refuse("csv", what, "another", "Do not change it while it is read.") from None
            if gone is not None:
                mask[key] = gone
        return block

    def read(self) -> Recording:
        """All rows."""
        blocks = list(self.blocks())
        join = np.ma.concatenate if self.like.missing else np.concatenate
        return replace(self.like, data=join(blocks)) if blocks else self.like


def _like(text: Text, names: tuple[str, ...], chosen: list[int], columns: list[Column]) -> Recording:
    """What the file holds, without rows."""
    titles = None if text.header is None else [text.header[k] for k in chosen]
    mine = tuple(names[k] for k in chosen)
    said: dict[str, Any] = {"delimiter": text.delimiter, "newline": text.newline}
    said["formats"] = [column.spec for column in columns]
    if titles is None or titles != list(mine):
        said["header"] = titles
    empty: Any = _no_rows(columns)
    if any(column.missing for column in columns):
        empty = np.ma.masked_array(empty, np.zeros(empty.shape, np.ma.make_mask_descr(empty.dtype)))
    named = titles is not None or empty.dtype.names is not None
    return Recording(empty, mine if named else None, meta={"csv": said})


def _no_rows(columns: list[Column]) -> np.ndarray:
    """An array without rows: a matrix if all columns are of one kind, else a structured one."""
    kinds = {(column.kind, column.unit) for column in columns if column.kind is not None}
    for column in columns:
        if column.kind is None:  # nothing but empty cells
            column.kind, column.unit = min(kinds) if len(kinds) == 1 else ("f", "D")
    if len(kinds) > 1:
        return np.empty(0, [(column.name, column.dtype()) for column in columns])
    dtype = columns[0].dtype()
    return np.empty((0, len(columns)), integers(*_range(columns)) if dtype.kind in "iu" else dtype)


def _range(columns: list[Column]) -> tuple[int, int, str]:
    """The range of several columns of integers, and the one with the largest."""
    for column in columns:
        column.dtype()  # each must fit, before all do
    low, high = min(column.low for column in columns), max(column.high for column in columns)
    return low, high, next(column.name for column in columns if high == column.high)


class Sink:
    """Writes a CSV file; what was read from one is written as it was there (see above).

    Args:
        file: Open for writing bytes; it need not be able to seek.
        like: What the rows are.
        rows: Not needed here.
        delimiter: Between cells; None: as it was, or a comma.
    """

    def __init__(self, file: BinaryIO, like: Recording, rows: int = 0, *, delimiter: str | None = None) -> None:
        said = like.meta.get("csv")
        said = said if isinstance(said, dict) else {}
        old = said.get("delimiter")
        self._delimiter = delimiter or (old if isinstance(old, str) and old in DELIMITERS and old else ",")
        newline = said.get("newline")
        self._newline = newline if newline in ("\n", "\r\n", "\r") else "\n"
        formats = said.get("formats")
        fits = isinstance(formats, list) and len(formats) == like.columns
        self._formats: list[Any] = formats if fits else [None] * like.columns  # type: ignore[assignment]
        self._file, self.like = file, like
        titles = said.get("header", like.names)
        if titles is not None and not _are_titles(titles, like.columns):
            titles = like.names
        if titles is not None:
            cells = [_quoted(title, self._delimiter, alone=len(titles) == 1) for title in titles]
            file.write((self._delimiter.join(cells) + self._newline).encode())

    def append(self, block: np.ndarray) -> None:
        """Add rows."""
        step = max(CELLS // max(self.like.columns, 1), 1)
        for first in range(0, len(block) if self.like.columns else 0, step):
            self._append(block[first : first + step])

    def _append(self, block: np.ndarray) -> None:
        columns = [texts(c, s) for c, s in zip(self.like.columns_of(block), self._formats, strict=True)]
        if len(columns) == 1:
            columns = [[cell or '""' for cell in columns[0]]]  # an empty line would be no row
        lines = map(self._delimiter.join, zip(*columns, strict=True))
        self._file.write((self._newline.join(lines) + self._newline).encode())

    def close(self) -> None:
        """Nothing comes last."""


def _are_titles(titles: Any, columns: int) -> bool:
    return isinstance(titles, (list, tuple)) and len(titles) == columns and all(isinstance(t, str) for t in titles)


def _quoted(title: str, delimiter: str, alone: bool) -> str:
    """A title, in quotes where it needs them; an empty one that stands alone on its line does."""
    if any(mark in title for mark in f'"\r\n{delimiter}') or (alone and not title):
        return '"' + title.replace('"', '""') + '"'
    return title
