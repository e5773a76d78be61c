"""What a file of measurements holds, and a file that was opened but not yet read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

import numpy as np

from hasten._core.checks import near, refuse, refuse_type, whole

__all__ = ["Opened", "Recording", "block_rows", "choose", "distinct"]

BLOCK_BYTES = 1 << 23  # of a block of rows, where nobody asks for another size


@dataclass(frozen=True)
class Recording:
    """Measurements with what is known about them.

    Args:
        data: (rows, columns), (rows,), or a structured array (rows,) of columns with dtypes of their own. A masked
            array where values are missing.
        names: Of the columns, all different. A structured array has those of its fields.
        units: Of the columns (with a gain: of the physical values), texts or None.
        rate: Rows per second.
        gain: Counts per unit, for each column a number or None.
        baseline: The count that means zero units, for each column a number or None.
        meta: Whatever else the file says, as JSON can hold it; how its text looked, for example.

    >>> ecg = Recording(np.array([[1024], [1224]], np.int16), ("MLII",), ("mV",), 360.0, (200.0,), (1024,))
    >>> ecg.physical().tolist()
    [[0.0], [1.0]]
    """

    data: np.ndarray
    names: tuple[str, ...] | None = None
    units: tuple[str | None, ...] | None = None
    rate: float | None = None
    gain: tuple[float | None, ...] | None = None
    baseline: tuple[float | None, ...] | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.data, np.ndarray):
            raise refuse_type("Recording", "data as a NumPy array", self.data, "Pass numpy.asarray(data).")
        fields = self.data.dtype.names
        if self.data.ndim not in ((1, 2) if fields is None else (1,)):
            fix = "Reshape it: rows first, then columns."
            raise refuse("Recording", "data of shape (rows,) or (rows, columns)", self.data, fix)
        if fields is not None and self.names not in (None, fields):
            raise refuse("Recording", f"names {fields}, as the fields", repr(self.names), "Leave names= away.")
        if fields is not None:
            object.__setattr__(self, "names", fields)
        for name in ("names", "units", "gain", "baseline"):
            values = getattr(self, name)
            if values is None:
                continue
            if len(values) != self.columns:
                raise refuse("Recording", f"{name} for {self.columns} columns", repr(values), "Pass one for each.")
            object.__setattr__(self, name, tuple(values))
        if self.names is not None and len(set(self.names)) < len(self.names):
            raise refuse("Recording", "names that differ", repr(self.names), "Rename a column.")

    @property
    def columns(self) -> int:
        """How many columns."""
        if self.data.dtype.names is not None:
            return len(self.data.dtype.names)
        return self.data.shape[1] if self.data.ndim == 2 else 1

    @property
    def missing(self) -> bool:
        """May values be missing?"""
        return isinstance(self.data, np.ma.MaskedArray)

    def columns_of(self, block: np.ndarray | None = None) -> list[np.ndarray]:
        """The columns of a block of rows (None: of all rows), one array (rows,) each, masked if the block is."""
        block = self.data if block is None else block
        if block.dtype.names is not None:
            return [block[name] for name in block.dtype.names]
        return list(block.T) if block.ndim == 2 else [block]

    def physical(self) -> np.ndarray:
        """The values in their units: `(data - baseline) / gain`, float64 (rows, columns).

        Raises:
            ValueError: A column has no gain.
        """
        if self.gain is None or None in self.gain:
            raise refuse("physical", "a gain for each column", repr(self.gain), "Use `data`: it is not calibrated.")
        baseline = [value or 0 for value in self.baseline or [0] * self.columns]
        pairs: Any = zip(self.columns_of(), self.gain, baseline, strict=True)
        stack = np.ma.stack if self.missing else np.stack
        return stack([(column.astype(np.float64) - zero) / gain for column, gain, zero in pairs], axis=1)

    def like(self) -> Recording:
        """The same without rows."""
        return replace(self, data=self.data[:0])


class Opened:
    """A file that was looked at: what it holds is known, its rows are read when they are asked for.

    Args:
        like: A recording without rows: dtype, columns, names and the rest.
        rows: How many there are.
        get: `get(first, last + 1)` gives some rows.
        close: Called at the end.

    Attributes:
        like, rows: As above.
    """

    def __init__(
        self, like: Recording, rows: int, get: Callable[[int, int], np.ndarray], close: Callable[[], None] | None = None
    ) -> None:
        self.like, self.rows, self._get, self._close = like, rows, get, close

    @classmethod
    def of(cls, recording: Recording) -> Opened:
        """A recording in memory, or mapped into it."""
        return cls(recording.like(), len(recording.data), lambda first, stop: recording.data[first:stop])

    def blocks(self, rows: int | None = None) -> Iterator[np.ndarray]:
        """The rows in order, block by block.

        Args:
            rows: Of a block; None: about 8 MiB.
        """
        step = block_rows(self.like) if rows is None else whole("blocks", "rows", rows, low=1)
        for first in range(0, self.rows, step):
            yield self._get(first, min(first + step, self.rows))

    def read(self) -> Recording:
        """All rows; where the file allows it, they stay in it and are mapped into memory."""
        return replace(self.like, data=self._get(0, self.rows))

    def close(self) -> None:
        """Let go of the file."""
        if self._close is not None:
            self._close()

    def __enter__(self) -> Opened:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def block_rows(like: Recording) -> int:
    """Rows of a block of about 8 MiB."""
    width = like.data.dtype.itemsize * (like.columns if like.data.ndim == 2 else 1)
    return max(BLOCK_BYTES // max(width, 1), 1)


def distinct(names: list[str]) -> tuple[str, ...]:
    """The names, made different from each other, and none empty.

    >>> distinct(["ECG", "", "ECG"])
    ('ECG', 'column_2', 'ECG_2')
    """
    found: dict[str, None] = {}
    given = set(names)
    for number, name in enumerate(names, 1):
        name = name or f"column_{number}"
        taken, count = name, 1
        while taken in found or (count > 1 and taken in given):
            count += 1
            taken = f"{name}_{count}"
        found[taken] = None
    return tuple(found)


def choose(call: str, names: Sequence[str] | None, count: int, columns: Sequence[int | str] | None) -> list[int]:
    """Columns by name or number as numbers; digits are a number unless a column is called so.

    >>> choose("csv", ["time", "V1", "7"], 3, ["V1", "0", "7"])
    [1, 0, 2]
    """
    if columns is None:
        return list(range(count))
    chosen: list[int] = []
    names = list(names or ())
    for column in [columns] if isinstance(columns, (str, int)) else columns:
        if isinstance(column, str) and column in names:
            column = names.index(column)
        elif isinstance(column, str) and column.isdecimal():
            column = int(column)
        if isinstance(column, str):
            raise refuse(call, "the name of a column", repr(column), near(column, names))
        if isinstance(column, bool) or not isinstance(column, int):
            raise refuse_type(call, "columns as names or numbers", repr(column), "")
        if not 0 <= column < count:
            raise refuse(call, f"a column below {count}", f"{column}", "Columns are counted from 0.")
        chosen.append(column)
    if not chosen or len(set(chosen)) < len(chosen):
        raise refuse(call, "columns that differ", repr(columns), "Name each column once.")
    return chosen
