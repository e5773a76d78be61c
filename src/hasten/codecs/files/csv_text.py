"""How a CSV file is written, and its cells, a block of rows at a time."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from hasten._core.checks import refuse

from .csv_columns import looks_like

__all__ = ["DELIMITERS", "Cells", "Text", "look"]

DELIMITERS = "\t;,"  # the first of equally good ones is taken
SAMPLE_BYTES = 1 << 16
SAMPLE_ROWS = 100

Cells = list[Sequence[str]]  # column by column


@dataclass(frozen=True)
class Text:
    """How a file is written: `header` are its column titles, or None; `width` is the number of cells in a row."""

    path: Path
    delimiter: str
    newline: str
    header: tuple[str, ...] | None
    width: int

    def _open(self) -> TextIO:
        return open(self.path, encoding="utf-8-sig", errors="surrogateescape")

    def blocks(self, rows: int) -> Iterator[Cells]:
        """The cells of up to so many rows at a time; without header and blank lines.

        Raises:
            ValueError: A row has other numbers of cells than the first, or its quotes are broken.
        """
        skip, done, passed = int(self.header is not None), 0, 0  # done: rows, with the header; passed: lines
        with self._open() as file:
            while lines := list(itertools.islice(file, rows if done else rows + skip)):
                if any('"' in line for line in lines):
                    yield from self._quoted(itertools.chain(lines, file), rows, done, passed)
                    return
                passed += len(lines)
                if "\n" in lines:
                    lines = [line for line in lines if line != "\n"]
                if lines:
                    yield from _without(self._split(lines, done), 0 if done else skip)
                done += len(lines)

    def _split(self, lines: list[str], done: int) -> Cells:
        """The cells of lines without quotes, all cut at once."""
        marks = [line.count(self.delimiter) for line in lines]
        if set(marks) != {self.width - 1}:
            number = next(number for number, count in enumerate(marks) if count != self.width - 1)
            raise self._uneven(done + number, marks[number] + 1)
        cells = "".join(lines).removesuffix("\n").replace("\n", self.delimiter).split(self.delimiter)
        return [cells[k :: self.width] for k in range(self.width)]

    def _quoted(self, lines: Iterable[str], rows: int, done: int, passed: int) -> Iterator[Cells]:
        """The cells of lines from here on, where some have quotes."""
        reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
        skip = int(self.header is not None)
        try:
            while block := list(itertools.islice(reader, rows if done else rows + skip)):
                block = [row for row in block if row]
                for number, row in enumerate(block, done):
                    if len(row) != self.width:
                        raise self._uneven(number, len(row))
                if block:
                    yield from _without(list(zip(*block, strict=True)), 0 if done else skip)
                done += len(block)
        except csv.Error as error:
            where = f"{error} in line {passed + reader.line_num} of {self.path}"
            raise refuse("csv", "cells that can be told apart", where, "Check the quotes there.") from None

    def _uneven(self, number: int, count: int) -> ValueError:
        where = f"{count} in line {self.line(number)} of {self.path}"
        return refuse("csv", f"{self.width} cells, as in the first row", where, "Complete or remove that line.")

    def line(self, number: int) -> int:
        """The line of a row; rows are counted from 0 with the header and without blank lines, lines from 1."""
        return next(itertools.islice(self._lines(), number, None))

    def _lines(self) -> Iterator[int]:
        """The lines of all rows."""
        with self._open() as file:
            for passed, line in enumerate(file):
                if '"' in line:
                    reader = csv.reader(itertools.chain([line], file), delimiter=self.delimiter)
                    yield from (passed + reader.line_num for row in reader if row)
                elif line != "\n":
                    yield passed + 1


def _without(cells: Cells, skip: int) -> Iterator[Cells]:
    """The cells behind the header, if there are any."""
    cells = [column[skip:] for column in cells] if skip else cells
    if cells[0]:
        yield cells


def look(path: Path, delimiter: str | None, header: bool | None) -> Text:
    """Find out how a file is written from its beginning; arguments as of `csv.open_file`."""
    with open(path, "rb") as file:
        raw = file.read(SAMPLE_BYTES)
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\x00" in raw:
        kind = "UTF-16" if raw[:1] in (b"\xff", b"\xfe") else "binary data"
        raise refuse("csv", "text in UTF-8", f"{kind} in {path}", "Save it as CSV in UTF-8.")
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise refuse("csv", "a delimiter of one character", repr(delimiter), "Pass --delimiter ';', say.")
    sample = raw.decode("utf-8-sig", "surrogateescape")
    lines = list(io.StringIO(sample, newline=None))
    if len(raw) == SAMPLE_BYTES and len(lines) > 1:
        lines.pop()  # not all of it
    delimiter = delimiter or max(DELIMITERS, key=lambda mark: _fit(lines, mark))
    rows = _parse(lines, delimiter)
    if not rows:
        raise refuse("csv", "rows", f"none in {path}", "")
    titled = _has_header(rows) if header is None else header
    titles = tuple(rows[0]) if titled else None
    if titles is not None and any("\udc80" <= mark <= "\udcff" for title in titles for mark in title):
        raise refuse("csv", "text in UTF-8", f"other bytes in the titles of {path}", "Save it as CSV in UTF-8.")
    newline = next((mark for mark in ("\r\n", "\n", "\r") if mark in sample), "\n")
    return Text(path, delimiter, newline, titles, len(rows[0]))


def _parse(lines: list[str], delimiter: str) -> list[list[str]]:
    """The first rows, as far as they can be read."""
    rows: list[list[str]] = []
    try:
        for row in csv.reader(lines, delimiter=delimiter):
            if row:
                rows.append(row)
            if len(rows) == SAMPLE_ROWS:
                break
    except csv.Error:
        pass  # the line is named when the rows are read
    return rows


def _fit(lines: list[str], delimiter: str) -> float:
    """How many of the first rows have as many cells as the first one; 0 if that has one."""
    rows = _parse(lines, delimiter)
    width = len(rows[0]) if rows else 0
    return sum(len(row) == width for row in rows) / len(rows) if width > 1 else 0


def _has_header(rows: list[list[str]]) -> bool:
    """Is the first row one of titles? So it is if a title stands over a column of numbers, or all are titles."""
    first = [looks_like(cell) for cell in rows[0]]
    if len(rows) == 1:
        return set(first) <= {"text", ""} and "text" in first
    second = [looks_like(cell) for cell in rows[1]]
    return any(a == "text" != b for a, b in zip(first, second, strict=False)) or set(first) == {"text"}
