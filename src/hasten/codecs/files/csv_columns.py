"""What the cells of a CSV column are, and how they are written, so that the same text can be written again.

A column is of the first kind that all its cells allow: integers, decimals (float64, as Python's `float` reads them),
ISO dates, true and false. An empty cell is a missing value. While cells pass, guesses are kept of how the column's text
follows from its values ("d": like `str(12)`; "r": like `repr(0.5)`; "s": the same without ".0"; ".3f", ".7e": so many
decimals; "03d": with zeros in front; "T" and " ": what separates date and time), and dropped where a cell differs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from hasten._core.checks import refuse

__all__ = ["BadCellError", "Column", "looks_like", "texts"]

DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?Z?)?|NaT")
UNITS = ("D", "m", "s", "ms", "us", "ns")
LENGTHS = {10: "D", 16: "m", 19: "s", 23: "ms", 26: "us", 29: "ns"}  # of a date's text without Z
TRUTHS = {"true": True, "false": False}
SPEC = re.compile(r"[drsT ]|\+d|0\d{1,2}d|\.\d{1,2}[feE]|[T ]Z|True|TRUE|true")
PLAIN_INTEGERS = re.compile(r"(?:-?[1-9][0-9]*+|0)(?:\n(?:-?[1-9][0-9]*+|0))*+")
FIXED = r"(?:-?(?:0|[1-9][0-9]*+)\.[0-9]{N})(?:\n(?:-?(?:0|[1-9][0-9]*+)\.[0-9]{N}))*+"
KINDS = "integers, decimals, ISO dates, or true and false"


class BadCellError(ValueError):
    """A cell that its column cannot have: its place among the cells, its text, and what the column has."""

    def __init__(self, place: int, cell: str, expected: str) -> None:
        super().__init__(place, cell, expected)
        self.place, self.cell, self.expected = place, cell, expected


def _short(value: float) -> str:
    """`repr` without ".0"."""
    text = repr(value)
    return text[:-2] if text.endswith(".0") else text


def formatter(spec: str) -> Callable[[Any], str]:
    """The function from a number to its text."""
    if spec in ("d", "r", "s"):
        return {"d": str, "r": repr, "s": _short}[spec]
    return f"%{spec}".__mod__


def looks_like(cell: str) -> str:
    """The kind of one cell: "i", "f", "M", "b", "" (empty) or "text".

    >>> [looks_like(cell) for cell in ("12", "1e5", "2016-07-01", "True", " ", "MLII", "1_000")]
    ['i', 'f', 'M', 'b', '', 'text', 'text']
    """
    column = Column("")
    try:
        column.see([cell])
    except BadCellError:
        return "text"
    return column.kind or ""


class Column:
    """A column that is being looked through.

    Attributes:
        name: Of the column.
        kind: "i", "f", "M", "b", or None while all cells are empty.
        low, high: The range of integers, or of years.
        missing: Whether a cell was empty.
        unit: Of dates.
        specs: How the text may follow from the values; several until they differ, none if nothing fits.
    """

    kind: str | None

    def __init__(self, name: str) -> None:
        self.name, self.kind, self.missing, self.unit = name, None, False, "D"
        self.low = self.high = 0
        self.specs: list[str] = []
        self._seen: dict[str, Callable[[Sequence[str]], None]] = {
            "i": self._see_integers, "f": self._see_floats, "M": self._see_dates, "b": self._see_truths,
        }  # fmt: skip

    def see(self, cells: Sequence[str]) -> None:
        """Look at more cells.

        Raises:
            BadCellError: One is of another kind.
        """
        if not cells or ("" not in cells and self._try(cells)):
            return
        present = [cell for cell in cells if cell.strip()]
        self.missing |= len(present) < len(cells)
        if present and not self._try(present):
            self._complain(cells)

    def _try(self, cells: Sequence[str]) -> bool:
        """Are the cells of a kind that the column may have? Then they count as seen."""
        if not _plain(cells):
            return False
        kinds = {None: "ifMb", "i": "if"}.get(self.kind, self.kind)
        assert kinds is not None
        for kind in kinds:
            try:
                self._seen[kind](cells)
                return True
            except (ValueError, OverflowError):
                continue
        return False

    def _complain(self, cells: Sequence[str]) -> None:
        """Find the cell that is at fault."""
        for place, cell in enumerate(cells):
            if cell.strip() and not self._try([cell]):
                names = {"M": "ISO dates", "b": "true and false", "i": "numbers", "f": "numbers", None: KINDS}
                raise BadCellError(place, cell, names[self.kind])
        raise AssertionError("every cell passes alone")

    def _begin(self, kind: str, specs: Iterable[str]) -> None:
        self.kind, self.specs = kind, list(specs)

    def _keep(self, cells: Sequence[str], values: Sequence[Any]) -> None:
        """Drop the guesses that do not give these cells."""
        wanted = list(cells)
        known = [(spec, _plainly(spec, cells)) for spec in self.specs]
        self.specs = [s for s, sure in known if (list(map(formatter(s), values)) == wanted if sure is None else sure)]

    def _see_integers(self, cells: Sequence[str]) -> None:
        values = list(map(int, cells))
        if self.kind is None:
            self.low = self.high = values[0]
            width = min(len(cells[0]), 99)
            self._begin("i", ["d"] + ["+d"] * (cells[0][0] in "+-") + [f"0{width}d"] * (width > 1))
        self.low, self.high = min(self.low, min(values)), max(self.high, max(values))
        self._keep(cells, values)

    def _see_floats(self, cells: Sequence[str]) -> None:
        values = list(map(float, cells))
        if self.kind != "f":
            text = next((cell for cell in cells if "n" not in cell.lower()), "0")  # neither nan nor inf
            decimals = min(len(text.lower().partition("e")[0].partition(".")[2]), 99)
            form = "E" if "E" in text else "e" if "e" in text else "f"
            guesses = ["r", "s", f".{decimals}{form}"]
            if self.kind == "i":  # what came before was written without a point
                guesses = ["s"] if "d" in self.specs and -(10**16) < self.low <= self.high < 10**16 else []
            self._begin("f", guesses)
        self._keep(cells, values)

    def _see_dates(self, cells: Sequence[str]) -> None:
        if not all(map(DATE.fullmatch, cells)):
            raise ValueError("not a date")
        shapes = {(len(cell) - cell.endswith("Z"), cell[10:11], cell.endswith("Z")) for cell in cells if cell != "NaT"}
        units = [_unit(length) for length, _, _ in shapes]
        unit = max(units, key=UNITS.index, default="D")
        np.array([cell.removesuffix("Z") for cell in cells], f"M8[{unit}]")  # is there such a day?
        years = [int(cell[:4]) for cell in cells if cell != "NaT"] or [2000]
        if self.kind is None:
            self.low, self.high = years[0], years[0]
        self.low, self.high = min(self.low, min(years)), max(self.high, max(years))
        if "ns" in (unit, self.unit) and not 1678 <= self.low <= self.high <= 2261:
            raise ValueError("64 bits do not hold the nanoseconds")
        length, mark, zone = shapes.pop() if len(shapes) == 1 else (0, "", False)
        spec = [(mark or "T") + "Z" * zone] if length in LENGTHS else []
        if self.kind is None:
            self._begin("M", spec)
            self.unit = unit
        elif unit != self.unit or spec != self.specs:
            self.unit, self.specs = max(unit, self.unit, key=UNITS.index), []

    def _see_truths(self, cells: Sequence[str]) -> None:
        if not {cell.lower() for cell in cells} <= set(TRUTHS):
            raise ValueError("neither true nor false")
        styles = {_style(cell) for cell in cells}
        if self.kind is None:
            self._begin("b", styles if len(styles) == 1 else ())
        elif styles != set(self.specs):
            self.specs = []

    @property
    def spec(self) -> str | None:
        """How the text follows from the values; None if that is not known."""
        return self.specs[0] if self.specs else None

    def dtype(self) -> np.dtype:
        """The dtype of the column: of integers the smallest that holds them.

        Raises:
            ValueError: Integers of more than 64 bits.
        """
        if self.kind == "i":
            return integers(self.low, self.high, self.name)
        return np.dtype({"M": f"M8[{self.unit}]", "b": "?"}.get(self.kind or "f", "f8"))

    def convert(self, cells: Sequence[str], dtype: np.dtype) -> tuple[np.ndarray, np.ndarray | None]:
        """The values of cells that were seen before, and where one is missing (None: nowhere).

        Raises:
            ValueError, OverflowError: They are other cells.
        """
        mask = None
        if self.missing:
            mask = np.fromiter((not cell.strip() for cell in cells), bool, len(cells))
            filler = {"M": "NaT", "b": "false"}.get(self.kind or "f", "0")
            cells = [cell if cell.strip() else filler for cell in cells]
        if self.kind == "M":
            return np.array([cell.removesuffix("Z") for cell in cells], dtype), mask
        if self.kind == "b":
            return np.fromiter((TRUTHS[cell.lower()] for cell in cells), bool, len(cells)), mask
        return np.fromiter(map(int if self.kind == "i" else float, cells), dtype, len(cells)), mask


def _plain(cells: Sequence[str]) -> bool:
    """Python reads "1_000" and digits of other scripts as numbers; nobody else does."""
    joined = "".join(cells)
    return joined.isascii() and "_" not in joined


def _plainly(spec: str, cells: Sequence[str]) -> bool | None:
    """Are these numbers written so, as far as the text alone shows? None: that needs a closer look, which is slow."""
    if spec == "d":
        return PLAIN_INTEGERS.fullmatch("\n".join(cells)) is not None
    if spec.startswith("0") and min(map(len, cells)) < int(spec[1:-1]):
        return False
    if spec.endswith("f") and spec != ".0f" and max(map(len, cells)) <= 16:  # a float keeps 15 digits
        return re.fullmatch(FIXED.replace("N", spec[1:-1]), "\n".join(cells)) is not None
    return None


def _unit(length: int) -> str:
    """The unit of a date whose text, without Z, has this length."""
    return next(unit for limit, unit in sorted(LENGTHS.items()) if length <= limit)


def _style(cell: str) -> str:
    return "TRUE" if cell.isupper() else "true" if cell.islower() else "True" if cell.istitle() else ""


def integers(low: int, high: int, name: str) -> np.dtype:
    """The smallest dtype for integers from `low` to `high`; signed, unless only uint64 holds them."""
    for dtype in map(np.dtype, ("i1", "i2", "i4", "i8", "u8")):
        limits = np.iinfo(dtype)
        if limits.min <= low and high <= limits.max:
            return dtype
    got = f"{low if low < -(1 << 63) else high}"
    got = got if len(got) <= 40 else f"one of {len(got)} digits"
    raise refuse("csv", f"integers of up to 64 bits in column {name!r}", got, "Leave the column out with --columns.")


def texts(column: np.ndarray, spec: Any = None) -> list[str]:
    """The cells of a column, each so that reading it gives the value back; missing ones are empty.

    Args:
        column: (rows,), of any dtype that a column can have.
        spec: How they should look (see above). A cell that would not give its value back looks as with None.

    >>> texts(np.array([1.5, 0.1 + 0.2]), ".2f")
    ['1.50', '0.30000000000000004']
    """
    data = np.asarray(np.ma.getdata(column))
    spec = spec if isinstance(spec, str) and SPEC.fullmatch(spec) else None
    if data.dtype.kind == "M":
        cells = _dates(data, spec)
    elif data.dtype.kind == "b":
        words = {"TRUE": ("FALSE", "TRUE"), "true": ("false", "true")}.get(spec or "", ("False", "True"))
        cells = [words[value] for value in data.tolist()]
    elif data.dtype.kind == "f":
        cells = _decimals(data, spec)
    else:
        number = formatter(spec if spec is not None and spec.endswith("d") else "d")
        cells = [number(value) for value in data.view("i8" if data.dtype.kind == "m" else data.dtype).tolist()]
    mask: Any = np.ma.getmask(column)
    if mask is not np.ma.nomask:
        cells = ["" if gone else cell for cell, gone in zip(cells, mask.tolist(), strict=True)]
    return cells


def _decimals(data: np.ndarray, spec: str | None) -> list[str]:
    if data.dtype.itemsize < 8:  # the shortest text that gives this float32
        return list(map(str, data))
    values = data.tolist()
    if spec is None or not (spec == "s" or spec.startswith(".")):
        return list(map(repr, values))
    cells = list(map(formatter(spec), values))
    if spec == "s":
        return cells
    return [cell if float(cell) == value else repr(value) for cell, value in zip(cells, values, strict=True)]


def _dates(data: np.ndarray, spec: str | None) -> list[str]:
    spec = spec if spec in ("T", " ", "TZ", " Z") else "T"
    unit = {"Y": "D", "M": "D", "W": "D", "h": "m"}.get(np.datetime_data(data.dtype)[0])
    cells = np.datetime_as_string(data if unit is None else data.astype(f"M8[{unit}]")).tolist()
    if spec[0] == " ":
        cells = [cell.replace("T", " ") for cell in cells]
    if spec[-1] == "Z":
        cells = [f"{cell}Z" for cell in cells]
    return [cell if cell[:3] != "NaT" and cell[:3] != "Na " else "NaT" for cell in cells]
