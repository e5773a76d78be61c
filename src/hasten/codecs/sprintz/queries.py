"""Questions about the values, answered from the index where that is enough.

A chunk that is asked about as a whole is not decoded: the index knows its minimum, maximum, sum and number of values.
Others are decoded one at a time and reduced. Masked values and NaN count as missing, everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hasten._core.checks import describe, refuse, refuse_type

from .decode import Decoder, Piece
from .dtypes import stored_dtype
from .select import Rows, choose_column, choose_columns, choose_rows, is_one
from .stats import column_entries, fill_stats, fold, record_dtype, sums

__all__ = ["Crossings", "Queries"]


@dataclass(frozen=True)
class Crossings:
    """Where a column crosses a threshold.

    Attributes:
        rising: (n,) int64, rows that are at or above it while the row before is below.
        falling: (m,) int64, rows that are below it while the row before is at or above.
    """

    rising: np.ndarray
    falling: np.ndarray

    def __len__(self) -> int:
        return len(self.rising) + len(self.falling)


class Queries(Decoder):
    """Reductions over rows, as NumPy's with `axis=0`.

    Each takes `rows`, a slice (None: all), and `columns`, numbers or names (None: all). The result is an array with one
    entry per column; a scalar for one column or a file of one dimension; a dict by name for records.
    """

    def min(self, axis: int = 0, *, rows: slice | None = None, columns: Any = None) -> Any:
        """The smallest value; masked where there is none."""
        return self._reduce("min", axis, rows, columns, lambda r, j: self._extreme(r, j, "min"))

    def max(self, axis: int = 0, *, rows: slice | None = None, columns: Any = None) -> Any:
        """The largest value; masked where there is none."""
        return self._reduce("max", axis, rows, columns, lambda r, j: self._extreme(r, j, "max"))

    def sum(self, axis: int = 0, *, rows: slice | None = None, columns: Any = None) -> Any:
        """The sum: of integers exact (int64 or uint64; Python integers where one does not fit), of floats float64."""
        return self._reduce("sum", axis, rows, columns, lambda r, j: self._total(r, j, "sum"))

    def mean(self, axis: int = 0, *, rows: slice | None = None, columns: Any = None) -> Any:
        """The mean, float64; NaN where there is no value."""
        return self._reduce("mean", axis, rows, columns, lambda r, j: _ratio(self._total(r, j, "mean"), r.count))

    def count(self, axis: int = 0, *, rows: slice | None = None, columns: Any = None) -> Any:
        """How many values are not missing."""
        return self._reduce("count", axis, rows, columns, lambda r, j: r.count)

    def argmax(self, axis: int = 0, *, rows: slice | None = None, columns: Any = None) -> Any:
        """The first row that holds the largest value, counted from the start of the file; masked where there is none.

        Besides what `max` needs, one chunk is decoded for each column.
        """
        return self._reduce("argmax", axis, rows, columns, self._first_largest)

    def crossings(self, threshold: Any, column: int | str = 0, *, rows: slice | None = None) -> Crossings:
        """Where a column rises to a threshold or falls below it.

        A missing value takes part in no crossing. Chunks that lie on one side of the threshold are not decoded.

        Args:
            threshold: A number; a datetime64 or timedelta64 for a column of those.
            column: Its number or name.
            rows: A slice without a step; None for all.
        """
        j = choose_column("crossings", column, self.header)
        wanted = choose_rows("crossings", rows, len(self))
        if wanted.step != 1 or wanted.backwards:
            raise refuse("crossings", "rows without a step", str(rows), "Pass rows=slice(first, last + 1).")
        limit = _as_threshold(threshold, self.header.column(j))
        entries = None if self.index.entries is None else column_entries(self.index.entries, self.header, j)
        found: list[np.ndarray] = []  # rows, with the lowest bit set where it rises
        before: bool | None = None  # is the last value at or above the threshold? None: it is missing
        for piece in self.pieces(wanted):
            side = None if entries is None else _one_side(entries[piece.number], limit)
            first = wanted.start + piece.place
            if side is not None:
                above, valid = np.array([side]), np.array([True])
            else:
                above, valid = _above(*self._columns(piece, 1, [j])[0], limit)
            turned = valid.copy()
            turned[0] &= before is not None and before != above[0]
            turned[1:] &= valid[:-1] & (above[1:] != above[:-1])
            at = np.flatnonzero(turned)
            found.append((first + at) * 2 + above[at])
            before = bool(above[-1]) if valid[-1] else None
        turns = np.concatenate(found) if found else np.zeros(0, np.int64)
        rising = (turns & 1).astype(bool)
        return Crossings(turns[rising] >> 1, turns[~rising] >> 1)

    def _reduce(
        self, call: str, axis: int, rows: slice | None, columns: Any, reduce: Callable[[_Records, int], Any]
    ) -> Any:
        """`reduce` of each column's records, in the form of the class."""
        if axis != 0:
            raise refuse(call, "axis=0, over rows", describe(axis), "Decode the rows for another axis: reader[:].")
        one = is_one(columns) or (self.header.layout == "flat" and columns is None)
        chosen = choose_columns(call, columns, self.header)
        found = [reduce(record, j) for record, j in zip(self._records(rows, chosen), chosen, strict=True)]
        if one:
            return found[0]
        if self.header.layout == "records":
            assert self.header.names is not None
            return {self.header.names[j]: value for j, value in zip(chosen, found, strict=True)}
        return _as_array(found, self.header.dtypes[0])

    def _records(self, rows: slice | None, chosen: Sequence[int]) -> list[_Records]:
        """What the index, or decoding, says of each chunk that some rows touch."""
        wanted = choose_rows("rows", rows, len(self))
        pieces = list(self.pieces(wanted))
        counts = np.array([piece.count for piece in pieces], np.int64)
        numbers = np.array([piece.number for piece in pieces], np.int64)
        known = np.zeros(len(pieces), bool)
        made = [np.zeros(len(pieces), record_dtype(self.header.column(j))) for j in chosen]
        if self.index.entries is not None and wanted.step == 1:
            known = counts == np.diff(self.index.rows)[numbers]
            for j, records in zip(chosen, made, strict=True):
                records[known] = column_entries(self.index.entries, self.header, j)[numbers[known]]
        for k in np.flatnonzero(~known):
            columns = self._columns(pieces[k], wanted.step, chosen)
            for records, (values, mask) in zip(made, columns, strict=True):
                fill_stats(records[k : k + 1], values[:, None], None if mask is None else mask[:, None])
        return [_Records(wanted, pieces, counts, records) for records in made]

    def _columns(self, piece: Piece, step: int, chosen: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """The values and masks of a piece, decoded."""
        values = [np.empty(piece.count, stored_dtype(self.header.column(j))) for j in chosen]
        masks = [np.zeros(piece.count, bool) for _ in chosen] if self.header.missing else None
        if chosen:
            self.decode(piece, step, chosen, values, masks)
        return list(zip(values, masks or [None] * len(chosen), strict=True))

    def _extreme(self, records: _Records, j: int, name: str) -> Any:
        """The smallest or largest value as a scalar of the column's dtype."""
        found = records.table[name][records.valid > 0]
        if not len(found):
            return np.ma.masked
        value = (found.min() if name == "min" else found.max()).astype(found.dtype.newbyteorder("="))
        dtype = self.header.column(j)
        return value.view(dtype) if dtype.kind in "Mm" else dtype.type(value)

    def _total(self, records: _Records, j: int, call: str) -> Any:
        """The sum: a Python integer or a float."""
        if self.header.column(j).kind in "Mm":
            what = "a column of numbers"
            raise refuse_type(call, what, f"dtype {self.header.column(j)}", "Name other columns with columns=.")
        parts = sums(records.table)
        if self.header.column(j).kind != "f":
            return sum(parts)
        return float(fold(np.array(parts)[:, None])[0]) if parts else 0.0

    def _first_largest(self, records: _Records, j: int) -> Any:
        largest = self._extreme(records, j, "max")
        if largest is np.ma.masked:
            return largest
        largest = np.asarray(largest).view(stored_dtype(self.header.column(j)))[()]
        k = int(np.flatnonzero((records.table["max"] == largest) & (records.valid > 0))[0])
        piece, step = records.pieces[k], records.rows.step
        values, mask = self._columns(piece, step, [j])[0]
        hit = values == largest
        place = int(np.flatnonzero(hit if mask is None else hit & ~mask)[0])
        return records.rows.start + (piece.place + place) * step


@dataclass(frozen=True)
class _Records:
    """What is known of one column: the pieces of chunks, their rows, and for each the entry of the index."""

    rows: Rows
    pieces: list[Piece]
    counts: np.ndarray
    table: np.ndarray

    @property
    def valid(self) -> np.ndarray:
        """Values of each piece that are not missing."""
        return self.counts - self.table["nulls"]

    @property
    def count(self) -> int:
        """Values that are not missing."""
        return int(self.valid.sum())


def _ratio(total: Any, count: int) -> float:
    return total / count if count else math.nan


def _as_array(found: list[Any], dtype: np.dtype) -> np.ndarray:
    """One value per column, as an array; masked if one is."""
    masked = [value is np.ma.masked for value in found]
    if not found:
        return np.zeros(0, dtype)
    if any(masked):
        present = next(
            (value for value, hidden in zip(found, masked, strict=True) if not hidden), np.zeros((), dtype)[()]
        )
        values = np.array([present if hidden else value for value, hidden in zip(found, masked, strict=True)])
        return np.ma.array(values, mask=masked)
    if not isinstance(found[0], int) or isinstance(found[0], bool):
        return np.array(found)
    kind = np.uint64 if dtype.kind == "u" else np.int64
    limits = np.iinfo(kind)
    fits = all(limits.min <= value <= limits.max for value in found)
    return np.array(found, kind if fits else object)


def _as_threshold(threshold: Any, dtype: np.dtype) -> Any:
    """The threshold as a number that compares exactly with the stored values."""
    if dtype.kind in "Mm":
        if not isinstance(threshold, np.datetime64 if dtype.kind == "M" else np.timedelta64):
            raise refuse_type("crossings", f"a threshold of dtype {dtype}", describe(threshold), "Pass one.")
        near = threshold.astype(dtype)
        return int(near.view(np.int64)) + bool(near < threshold)
    try:
        number = threshold if isinstance(threshold, int) else float(threshold)
    except (TypeError, ValueError):
        raise refuse_type("crossings", "a number for threshold", describe(threshold), "Pass one.") from None
    if math.isnan(number):
        raise refuse("crossings", "a threshold that is a number", "nan", "")
    if dtype.kind == "f" or math.isinf(number):
        return float(number)
    return math.ceil(number)


def _one_side(entry: Any, limit: Any) -> bool | None:
    """Whether all values of a chunk are at or above the threshold, or none is; None where that is not known."""
    if entry["nulls"]:
        return None
    low, high = entry["min"].item(), entry["max"].item()
    return True if low >= limit else False if high < limit else None


def _above(values: np.ndarray, mask: np.ndarray | None, limit: Any) -> tuple[np.ndarray, np.ndarray]:
    """Which values are at or above the threshold, and which are there."""
    valid = np.ones(len(values), bool) if mask is None else ~mask
    if values.dtype.kind == "f":
        return values.astype(np.float64) >= limit, valid & ~np.isnan(values)
    return values >= limit, valid
